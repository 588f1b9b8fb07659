// Takes libpq's text for a failed connection apart. While connecting, libpq gives no error code. Its text has several
// lines of prose, each with the address in front, followed by hints for beginners. In verbose mode it also contains
// an SQLSTATE.

import Text

/// The reason in libpq's text, as one line, and the server's error code in it.
struct ConnectMessage: Equatable {
    let reason: String
    let sqlState: String?

    /// `secret` is the password that the server was given. Some servers that are not PostgreSQL repeat it.
    init(_ text: String, hiding secret: String? = nil) {
        let shown = { (text: Substring) in oneLine(secret.map { hiding($0, in: String(text)) } ?? String(text)) }
        var state: String?
        var reasons: [String] = []
        for line in text.split(separator: "\n") {
            // Indented lines are hints ("Is the server running on that host ...?"); LOCATION is the server's source
            // line.
            if line.hasPrefix("\t") || line.hasPrefix("LOCATION:") { continue }
            var reason = line
            if line.hasPrefix("connection to server"), let end = line.firstRange(of: " failed: ") {
                reason = line[end.upperBound...]
            }
            if let code = Self.sqlState(reason) {
                state = code.state
                reason = reason[code.end...]
                reasons.append("\(shown(reason)) (SQLSTATE \(code.state))")
            } else {
                reasons.append(shown(reason))
            }
        }
        // With sslmode=prefer libpq tries twice and may report the same thing twice.
        var seen: Set<String> = []
        let distinct = reasons.filter { !$0.isEmpty && seen.insert($0).inserted }
        self.reason = distinct.isEmpty ? "connection failed" : oneLine(distinct.joined(separator: ", "), longest: 2000)
        sqlState = state
    }

    /// Finds "FATAL:  28P01: " (the severity may be translated, the two blanks and the code never) and where it ends.
    private static func sqlState(_ line: Substring) -> (state: String, end: Substring.Index)? {
        guard let severity = line.firstRange(of: ":  ") else { return nil }
        let code = line[severity.upperBound...].prefix(5)
        guard code.count == 5, code.allSatisfy({ $0.isASCII && ($0.isNumber || $0.isUppercase) }),
            line[code.endIndex...].hasPrefix(": ")
        else { return nil }
        return (String(code), line.index(code.endIndex, offsetBy: 2))
    }

    /// Whether credentials are the reason: the server says so (class 28), or PgBouncer (08P01, "SASL authentication
    /// failed"), or libpq, if it has no password to give.
    var isAuthentication: Bool {
        sqlState?.hasPrefix("28") == true || sqlState == "08P01" && reason.contains("authentication failed")
            || reason.contains("no password supplied")
    }
}
