// What people write and programs print often has blanks or a line's end around it.

extension String {
    /// Without white space at both ends.
    package func trimming() -> String {
        var view = self[...]
        while let first = view.first, first.isWhitespace { view.removeFirst() }
        while let last = view.last, last.isWhitespace { view.removeLast() }
        return String(view)
    }
}
