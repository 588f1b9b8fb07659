// How a text from elsewhere gets onto a terminal or into a log: the server, libpq and the tables may say anything, at any
// length.

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
        // Ends here, however long the rest is.
        while line.utf8.count > longest - 3 { line.unicodeScalars.removeLast() }
        return line + "..."
    }
    return line
}

/// The text with *** where it holds the secret; one of less than four bytes is a part of anything, and stays.
package func hiding(_ secret: String, in text: String) -> String {
    guard secret.utf8.count >= 4 else { return text }
    // Scalar by scalar: as Characters, an accent behind it would make it something else.
    var scalars = Array(text.unicodeScalars)
    scalars.replace(Array(secret.unicodeScalars), with: Array("***".unicodeScalars))
    var result = String.UnicodeScalarView()
    result.append(contentsOf: scalars)
    return String(result)
}

extension Unicode.Scalar {
    /// A control character, or what ends a line somewhere: not for what is shown or connected to.
    package var breaksLine: Bool { properties.generalCategory == .control || Character(self).isNewline }
}
