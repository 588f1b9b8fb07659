// Takes passwords out of text that was not written here and may quote what somebody typed.

/// Removes what looks like a secret.
enum Redaction {
    /// The text with `user:password@` of URLs and the values of `password=`, `passwd=` and `sslpassword=` hidden.
    static func withoutSecrets(_ text: String) -> String {
        var result = ""
        for (index, word) in text.split(separator: " ", omittingEmptySubsequences: false).enumerated() {
            if index > 0 { result += " " }
            result += hideParameters(hideUserInfo(String(word)))
        }
        return result
    }

    private static func hideUserInfo(_ word: String) -> String {
        guard let scheme = word.firstRange(of: "://"), let at = word.lastIndex(of: "@"), at >= scheme.upperBound else {
            return word
        }
        return word[..<scheme.upperBound] + "***" + word[at...]
    }

    private static func hideParameters(_ word: String) -> String {
        var result = word
        for name in ["password=", "passwd=", "PGPASSWORD="] {
            guard let found = result.firstRange(of: name) else { continue }
            let end = result[found.upperBound...].firstIndex { $0 == "&" || $0 == "'" } ?? result.endIndex
            result.replaceSubrange(found.upperBound..<end, with: "***")
        }
        return result
    }
}
