// Everything that can go wrong with a session, as values that people can act on: what failed, on which host and port,
// why. No value ever holds a password: libpq's texts are taken apart before they get here.

import Text

/// What the server said about a statement or a session (PostgreSQL, "Error and Notice Message Fields").
public struct ServerError: Error, Sendable, Equatable, CustomStringConvertible {
    /// ERROR, FATAL or PANIC, never translated.
    public let severity: String
    /// Five characters (PostgreSQL, Appendix A); empty when the error is libpq's own.
    public let sqlState: String
    /// The primary message, in the server's language.
    public let message: String
    public let detail: String?
    public let hint: String?

    /// An error made by hand, for those who test code that handles one.
    public init(
        severity: String = "ERROR", sqlState: String, message: String, detail: String? = nil, hint: String? = nil
    ) {
        self.severity = severity
        self.sqlState = sqlState
        self.message = message
        self.detail = detail
        self.hint = hint
    }

    /// Whether the server closes the session with it.
    var endsSession: Bool { severity == "FATAL" || severity == "PANIC" }

    /// One line: message, SQLSTATE, detail, hint. Each is cut for itself, so that a long one does not hide the others.
    public var description: String {
        let state = oneLine(sqlState, longest: 20)
        return oneLine(message) + (state.isEmpty ? "" : " (SQLSTATE \(state))")
            + (detail.map { "; detail: \(oneLine($0))" } ?? "") + (hint.map { "; hint: \(oneLine($0))" } ?? "")
    }
}

/// Why one candidate address did not become a session.
public struct CandidateFailure: Sendable, Equatable, CustomStringConvertible {
    /// At which step it failed.
    public enum Step: Sendable, Equatable {
        /// The name could not be looked up.
        case resolve
        /// No connection, no TLS, or a server that cannot be used (read-only, starting up, no such database).
        case connect
        /// The server answered and refused user or password (SQLSTATE class 28), or asked for one that was not given.
        case authentication
        /// No answer within the limit.
        case timeout
    }

    /// Host and port, and the address tried where that is something else.
    public let candidate: String
    public let step: Step
    /// One line, without secrets.
    public let reason: String
    /// The server's error code where it gave one.
    public let sqlState: String?

    /// A failure made by hand, for those who test code that handles one.
    public init(candidate: String, step: Step, reason: String, sqlState: String? = nil) {
        self.candidate = candidate
        self.step = step
        self.reason = reason
        self.sqlState = sqlState
    }

    public var description: String { "\(candidate): \(reason)" }
}

/// Why a session is over. Terminal: a new session is needed.
public enum SessionFailure: Error, Sendable, Equatable, CustomStringConvertible {
    /// No candidate became a session; every one with its reason.
    case connect(to: String, [CandidateFailure])
    /// A query had no answer within its limit. The server may still run it.
    case queryTimeout(peer: String, limit: Duration)
    /// The server closed the session and said why (57P01 after pg_terminate_backend, 57P05 after idle_session_timeout).
    case serverClosed(peer: String, ServerError)
    /// The connection broke.
    case broken(peer: String, reason: String)

    /// Whether credentials are the reason: every candidate that answered refused them.
    public var isAuthentication: Bool {
        guard case .connect(_, let failures) = self else { return false }
        let answers = failures.filter { $0.step == .authentication || $0.sqlState != nil }
        return !answers.isEmpty && answers.allSatisfy { $0.step == .authentication }
    }

    /// Whether some candidate refused the login, whatever the others did.
    public var isRefusedSomewhere: Bool {
        guard case .connect(_, let failures) = self else { return false }
        return failures.contains { $0.step == .authentication }
    }

    /// Whether nothing failed but look-ups of host names.
    public var isResolution: Bool {
        guard case .connect(_, let failures) = self else { return false }
        return !failures.isEmpty && failures.allSatisfy { $0.step == .resolve }
    }

    /// One line: what, on which host and port, why.
    public var description: String {
        switch self {
        case .connect(let target, let failures):
            let reasons = failures.map(\.description).joined(separator: "; ")
            return "cannot connect to \(target): \(reasons.isEmpty ? "no host to try" : reasons)"
        case .queryTimeout(let peer, let limit):
            return "no answer from PostgreSQL at \(peer) within \(limit)"
        case .serverClosed(let peer, let error):
            return "PostgreSQL at \(peer) closed the session: \(error)"
        case .broken(let peer, let reason):
            return "lost the connection to PostgreSQL at \(peer): \(reason)"
        }
    }
}
