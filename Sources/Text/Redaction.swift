// Removes passwords from texts that may quote what a person typed, such as a parser's message.

/// Removes what looks like a secret. Everything is compared scalar by scalar. As Characters, an '@' or '=' with a
/// combining accent behind it would not be found.
package enum Redaction {
    private typealias Scalars = Substring.UnicodeScalarView

    /// The text with `user:password@` of URLs and the values of `password=`, `passwd=`, `sslpassword=` and
    /// `PGPASSWORD=` hidden. It hides too much rather than too little, because a password may hold any character:
    /// everything from the first "://" to the last '@', and from the first such value to the end.
    package static func withoutSecrets(_ text: String) -> String {
        let scalars = Scalars(text[...].unicodeScalars)
        let parameter = startOfValue(scalars)
        let (value, hidden) = (parameter ?? scalars.endIndex, parameter == nil ? "" : "***")
        guard let scheme = scalars.firstRange(of: "://".unicodeScalars)?.upperBound, scheme <= value,
            let at = scalars.lastIndex(of: "@"), at >= scheme
        else { return String(scalars[..<value]) + hidden }
        return String(scalars[..<scheme]) + "***" + (at < value ? String(scalars[at..<value]) + hidden : "")
    }

    /// Whether the text must not be repeated at all: it looks like a URL, a parameter or `user:password@host`, or it
    /// holds a control character.
    package static func mayHoldSecret(_ text: String) -> Bool {
        text.unicodeScalars.contains { $0 == "@" || $0 == "=" || $0.breaksLine }
            || text.unicodeScalars.firstRange(of: "://".unicodeScalars) != nil
    }

    /// A parser's message on one line. Arguments that it quotes, and that may hold a secret, become their number.
    package static func message(_ message: String, about arguments: [String]) -> String {
        var quoted: [(text: String, number: Int)] = []
        for (index, argument) in arguments.enumerated() where mayHoldSecret(argument) {
            quoted.append((argument, index + 1))
            guard argument.utf8.first == UInt8(ascii: "-"), let equals = argument.unicodeScalars.firstIndex(of: "=")
            else { continue }
            // Of `--option=value`, also the value alone.
            let value = String(argument.unicodeScalars[equals...].dropFirst())
            if mayHoldSecret(value) { quoted.append((value, index + 1)) }
        }
        var scalars = Array(message.unicodeScalars)
        // The longest first, because one may be part of another.
        for (text, number) in quoted.sorted(by: { $0.text.utf8.count > $1.text.utf8.count }) {
            // Without its quotes, a short text could be part of any word.
            for form in ["'\(text)'", text] where form.utf8.count > 3 {
                scalars.replace(Array(form.unicodeScalars), with: Array("number \(number)".unicodeScalars))
            }
        }
        var result = String.UnicodeScalarView()
        result.append(contentsOf: scalars)
        return withoutSecrets(oneLine(String(result)))
    }

    /// Where the value of the first secret parameter begins. libpq's grammar allows blanks around the '='.
    private static func startOfValue(_ text: Scalars) -> Scalars.Index? {
        let lowered = { (scalar: Unicode.Scalar) in
            ("A"..."Z").contains(scalar) ? Unicode.Scalar(UInt8(scalar.value) | 32) : scalar
        }
        for start in text.indices {
            let rest = text[start...]
            for name in ["password", "passwd"] where rest.lazy.map(lowered).starts(with: name.unicodeScalars) {
                let after = rest.dropFirst(name.count).drop { $0.properties.isWhitespace }
                guard after.first == "=" else { continue }
                return after.dropFirst().drop { $0.properties.isWhitespace }.startIndex
            }
        }
        return nil
    }
}
