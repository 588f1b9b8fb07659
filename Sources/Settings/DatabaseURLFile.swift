// The file of `--database-url-file`. It is read before each connect, so that a password can be rotated while the
// sidecar runs. The file may be a link that is swapped (a Secret's mount in Kubernetes), may be missing for a moment,
// or may lie on a mount that hangs.

import CLinux
import Glibc
import Text

/// A file that holds the database URL and nothing else.
package struct DatabaseURLFile: Equatable, Sendable {
    /// The largest file that is read. No connection string is longer.
    static let sizeLimit = 64 * 1024

    let path: String
    /// `--database-url-file` or its variable, for messages.
    let origin: String

    /// What it holds, without white space at both ends. Blocks for as long as the file system does.
    /// - Throws: `Failure` 78 with what to do. Nothing from the file is in it.
    func read() throws -> String {
        // Without waiting for the writer of a pipe.
        let file = clinux_open(path, O_RDONLY | O_NONBLOCK)
        guard file >= 0 else { throw problem("cannot be read: \(errorText(errno))") }
        defer { close(file) }
        var status = stat()
        guard fstat(file, &status) == 0 else { throw problem("cannot be read: \(errorText(errno))") }
        guard status.st_mode & S_IFMT == S_IFREG else { throw problem("is not a regular file") }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = Glibc.read(file, &buffer, buffer.count)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw problem("cannot be read: \(errorText(errno))") }
            if count == 0 { break }
            bytes += buffer.prefix(count)
            guard bytes.count <= Self.sizeLimit else { throw problem("has more than \(Self.sizeLimit) bytes") }
        }
        // Repaired text would hold a wrong password.
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw problem("is not UTF-8: write special characters as %XX")
        }
        let url = text.trimming()
        guard !url.isEmpty else { throw problem("is empty: write the database URL into it") }
        return url
    }

    /// What is wrong with the file.
    func problem(_ what: String) -> Failure { .configuration("the file \(shown) in \(origin) \(what)") }

    /// The path for messages, unless it looks like a URL in the wrong place.
    private var shown: String {
        Redaction.mayHoldSecret(path)
            ? "(its name is not repeated, as it may hold a password)" : oneLine(path, longest: 200)
    }
}
