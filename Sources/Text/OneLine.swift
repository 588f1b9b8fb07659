// Makes a text from elsewhere fit for a terminal or a log. The server, libpq and the tables may send any characters,
// at any length.

/// The text as one line: white space is one blank, control characters are left out, and what is too long ends in dots.
///
/// - Parameter longest: the most bytes it has.
package func oneLine(_ text: String, longest: Int = 1000) -> String {
    var line = ""
    var isBehindBlank = false
    for scalar in text.unicodeScalars {
        if scalar.properties.isWhitespace {
            isBehindBlank = !line.isEmpty
            continue
        }
        if scalar.properties.generalCategory == .control { continue }
        if isBehindBlank { line += " " }
        isBehindBlank = false
        line.unicodeScalars.append(scalar)
        guard line.utf8.count > longest else { continue }
        // Stops here, however long the rest is.
        while line.utf8.count > longest - 3 { line.unicodeScalars.removeLast() }
        return line + "..."
    }
    return line
}

/// The text with *** in place of the secret. A secret of fewer than four bytes stays, because it could be part of any
/// word.
package func hiding(_ secret: String, in text: String) -> String {
    guard secret.utf8.count >= 4 else { return text }
    // Scalar by scalar. As Characters, a secret with a combining accent behind it would not be found.
    var scalars = Array(text.unicodeScalars)
    scalars.replace(Array(secret.unicodeScalars), with: Array("***".unicodeScalars))
    var result = String.UnicodeScalarView()
    result.append(contentsOf: scalars)
    return String(result)
}

extension Unicode.Scalar {
    /// Whether it is a control character or ends a line for some reader. No text that is shown, and no database URL,
    /// may hold one.
    package var breaksLine: Bool { properties.generalCategory == .control || Character(self).isNewline }
}
