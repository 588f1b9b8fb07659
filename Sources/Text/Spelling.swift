// How alike two names are, for suggestions after a typing error.

/// Compares names letter by letter.
package enum Spelling {
    /// The candidate that is one or two letters away from `word`, or begins with it; nil if none is.
    package static func nearest(_ word: String, among candidates: [String]) -> String? {
        guard word.count <= 100 else { return nil }
        let limit = max(1, min(2, word.count / 2))
        let near = candidates.map { ($0, slips(Array(word.unicodeScalars), Array($0.unicodeScalars))) }
            .filter { $0.1 <= limit }.min { $0.1 < $1.1 }?.0
        return near ?? candidates.first { word.count > 1 && $0.hasPrefix(word) }
    }

    /// How many letters must be changed, removed, added or swapped with a neighbour to get from one name to the
    /// other.
    package static func slips(_ one: [Unicode.Scalar], _ other: [Unicode.Scalar]) -> Int {
        var rows = [Array(0...other.count)]
        for (row, letter) in one.enumerated() {
            var next = [row + 1]
            for (column, candidate) in other.enumerated() {
                var best = min(
                    rows[row][column] + (letter == candidate ? 0 : 1), rows[row][column + 1] + 1, next[column] + 1)
                if row > 0, column > 0, letter == other[column - 1], one[row - 1] == candidate {
                    best = min(best, rows[row - 1][column - 1] + 1)
                }
                next.append(best)
            }
            rows.append(next)
        }
        return rows[one.count][other.count]
    }
}
