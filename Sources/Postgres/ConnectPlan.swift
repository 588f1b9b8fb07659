// The addresses of a connection and what became of each. A setting with several hosts is taken apart here. Each
// address gets an attempt and a deadline of its own, so that a host that does not answer does not use up the time of
// the hosts behind it.

import Clock

/// One address to try.
struct Candidate: Sendable, Equatable {
    /// The name (kept for TLS verification and .pgpass) or the socket directory; nil when only an address was given.
    let host: String?
    /// The numeric address; nil for sockets.
    let address: String?
    let port: UInt16

    /// Host and port, and the address where it is not the host itself.
    var description: String {
        let entry = ConnectionSettings.Entry(host: host, address: address, port: port)
        guard let address, let host, host != address else { return entry.description }
        return "\(entry.description) (\(address))"
    }

    /// libpq's parameters for this candidate alone.
    func parameters(_ settings: ConnectionSettings, applicationName: String, limits: Limits) -> [String: String] {
        func seconds(_ duration: Duration) -> String { "\(max(1, duration.components.seconds))" }
        var parameters = [
            "keepalives_idle": seconds(limits.keepaliveIdle),
            "keepalives_interval": seconds(limits.keepaliveInterval),
            "keepalives_count": "\(limits.keepaliveCount)",
            "tcp_user_timeout": "\(limits.userTimeout.milliseconds)",
        ].merging(settings.values) { $1 }
        parameters["application_name"] = applicationName
        parameters["host"] = host
        parameters["hostaddr"] = address
        parameters["port"] = "\(port)"
        // This program shuffles the hosts itself, and never waits.
        parameters["load_balance_hosts"] = nil
        parameters["connect_timeout"] = nil
        return parameters
    }
}

/// What is left to try, and what has failed.
struct ConnectPlan {
    /// Host entries whose addresses are not known yet.
    private var entries: ArraySlice<ConnectionSettings.Entry>
    /// Addresses of the entries before those.
    private var candidates: ArraySlice<Candidate> = []
    /// Every candidate that failed, with its reason.
    private(set) var failures: [CandidateFailure] = []
    /// When the whole connect must be over.
    let deadline: Instant

    /// What to do next.
    enum Step {
        case connect(Candidate)
        case lookUp(ConnectionSettings.Entry, name: String)
        case giveUp
    }

    init(_ settings: ConnectionSettings, deadline: Instant) {
        entries = settings.entries[...]
        self.deadline = deadline
    }

    /// Takes the next step off the plan.
    mutating func next(now: Instant, limit: Duration) -> Step {
        guard now < deadline else {
            for left in candidates.map(\.description) + entries.map(\.description) {
                let reason = "not tried within \(limit)"
                failures.append(CandidateFailure(candidate: left, step: .timeout, reason: reason))
            }
            return .giveUp
        }
        if let candidate = candidates.popFirst() { return .connect(candidate) }
        guard let entry = entries.popFirst() else { return .giveUp }
        if entry.address != nil || entry.isSocket {
            return .connect(Candidate(host: entry.host, address: entry.address, port: entry.port))
        }
        guard let name = entry.host else { return .giveUp }
        if let address = numericAddress(name) {
            return .connect(Candidate(host: name, address: address, port: entry.port))
        }
        return .lookUp(entry, name: name)
    }

    /// Takes the answer to a look-up.
    mutating func resolved(_ entry: ConnectionSettings.Entry, _ answer: Resolver.Answer) {
        switch answer {
        case .success(let addresses):
            candidates = addresses.map { Candidate(host: entry.host, address: $0, port: entry.port) }[...]
        case .failure(let error):
            failed(entry.description, .resolve, "cannot look up the host name: \(error.reason)")
        }
    }

    /// Notes that a candidate failed.
    mutating func failed(
        _ candidate: String, _ step: CandidateFailure.Step, _ reason: String, sqlState: String? = nil
    ) {
        failures.append(CandidateFailure(candidate: candidate, step: step, reason: reason, sqlState: sqlState))
    }
}
