// Takes passwords out of text that was not written here and may quote what somebody typed.

/// Removes what looks like a secret. Everything is compared scalar by scalar: as Characters, an '@' or '=' with an accent
/// behind it would not be one.
enum Redaction {
    private typealias Scalars = Substring.UnicodeScalarView

    /// The text with `user:password@` of URLs and the values of `password=`, `passwd=`, `sslpassword=` and `PGPASSWORD=`
    /// hidden.
    static func withoutSecrets(_ text: String) -> String {
        let words = hideParameters(text).unicodeScalars.split(separator: " ", omittingEmptySubsequences: false)
        return words.map(hideUserInfo).joined(separator: " ")
    }

    private static func hideUserInfo(_ word: Scalars) -> String {
        guard let scheme = word.firstRange(of: "://".unicodeScalars), let at = word.lastIndex(of: "@"),
            at >= scheme.upperBound
        else { return String(word) }
        return String(word[..<scheme.upperBound]) + "***" + String(word[at...])
    }

    private static func hideParameters(_ text: String) -> String {
        var result = ""
        var rest = Scalars(text[...].unicodeScalars)
        while let value = startOfValue(rest) {
            result += String(rest[..<value]) + "***"
            rest = rest[endOfValue(rest[value...])...]
        }
        return result + String(rest)
    }

    /// Where the value of the first parameter begins that is a secret; blanks around the '=' are libpq's grammar.
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

    /// Where it ends: at its closing quote, or before what ends it in a URL, a list of keywords or a quoting message.
    private static func endOfValue(_ value: Scalars) -> Scalars.Index {
        guard value.first == "'" else {
            return value.firstIndex { $0 == "&" || $0 == "'" || $0.properties.isWhitespace } ?? value.endIndex
        }
        var escaped = false
        for index in value.indices.dropFirst() {
            if value[index] == "'", !escaped { return index }
            escaped = value[index] == "\\" && !escaped
        }
        return value.endIndex
    }
}
