// Standard output and standard error of the short commands.

import Glibc

/// Plain output of the short commands. (`run` logs through LogSink, which never blocks.)
package enum Console {
    /// Exits with 74 (EX_IOERR) if the text cannot be written, because half an answer must not look like a whole one.
    package static func out(_ text: String) {
        guard !writeLine(text, to: STDOUT_FILENO) else { return }
        error("sidecar: cannot write the output: \(errorText(errno))")
        exit(74)
    }

    package static func error(_ text: String) { _ = writeLine(text, to: STDERR_FILENO) }

    /// One line on stderr, after the program's name.
    package static func complain(_ message: String) { error("sidecar: \(message)") }

    private static func writeLine(_ text: String, to file: Int32) -> Bool {
        write(text.hasSuffix("\n") ? text : text + "\n", to: file)
    }

    /// Writes all of it, as it is; false, with errno, when it cannot.
    package static func write(_ text: String, to file: Int32) -> Bool {
        var bytes = Array(text.utf8)[...]
        while !bytes.isEmpty {
            let count = bytes.withUnsafeBytes { Glibc.write(file, $0.baseAddress, $0.count) }
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { return false }
            bytes = bytes.dropFirst(count)
        }
        return true
    }
}
