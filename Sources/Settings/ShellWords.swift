// Splits a command line into words as a POSIX shell would, without running a shell. Airflow's `..._CMD` settings are
// commands that Airflow itself splits like this (Python's shlex.split), and an image need not have a shell.

/// Splits command lines.
enum ShellWords {
    /// The words, or nil when a quote is left open or a backslash ends the line.
    static func split(_ line: String) -> [String]? {
        var words: [String] = []
        var word = String.UnicodeScalarView()
        var inWord = false
        var quote: Unicode.Scalar?
        var escaped = false
        // Split scalar by scalar. As Characters, a quote with a combining accent behind it would not be found.
        for character in line.unicodeScalars {
            if escaped {
                // Between double quotes, a backslash escapes only these two.
                if quote == "\"" && character != "\"" && character != "\\" { word.append("\\") }
                word.append(character)
                escaped = false
            } else if character == "\\" && quote != "'" {
                escaped = true
                inWord = true
            } else if let open = quote {
                if character == open { quote = nil } else { word.append(character) }
            } else if character == "'" || character == "\"" {
                quote = character
                inWord = true
            } else if character == " " || character == "\t" || character == "\n" || character == "\r" {
                if inWord { words.append(String(word)) }
                word = String.UnicodeScalarView()
                inWord = false
            } else {
                word.append(character)
                inWord = true
            }
        }
        guard quote == nil, !escaped else { return nil }
        if inWord { words.append(String(word)) }
        return words
    }
}
