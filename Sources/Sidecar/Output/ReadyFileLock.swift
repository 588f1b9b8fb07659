// Keeps two sidecars from writing one readiness file, each over the other's state. The lock is flock(2) on a file beside it, which
// the kernel drops when its holder ends, however it ends: neither guard, command nor helper inherits the descriptor.

import CLinux
import Glibc
import Postgres

/// The right to write one readiness file.
///
/// Its descriptor is closed once, by whoever releases it; after that nothing is locked and nobody asks.
final class ReadyFileLock: Sendable {
    /// -1 where no lock could be had because the folder cannot be written: then the readiness file cannot be either, which is
    /// said when it is tried.
    private let file: Int32
    private let path: String

    private static let mark = "sidecar"

    /// Takes the lock.
    /// - Throws: `Failure` 78 when another sidecar holds it, or when what is at its place is no such lock.
    init(_ ready: ReadyFile, node: String) throws {
        path = ready.path + ".lock"
        file = try ready.folderForWriting() ? Self.take(path, ready) : -1
        guard file >= 0 else { return }
        // Not as the umask would have it: a sidecar of another user must see that it is locked.
        fchmod(file, 0o644)
        let holder = Array("\(Self.mark) pid \(getpid()), node \(node)\n".utf8)
        // For people only; a lock that another user left behind is not ours to write.
        if ftruncate(file, 0) == 0 { _ = pwrite(file, holder, holder.count, 0) }
    }

    /// Removes the file and drops the lock.
    func release() {
        guard file >= 0 else { return }
        unlink(path)
        close(file)
    }

    private static func take(_ path: String, _ ready: ReadyFile) throws -> Int32 {
        // A holder that ends removes the file: a lock on what is not at its place any more is none.
        for _ in 0..<100 {
            let flags = O_NOFOLLOW | O_NONBLOCK
            var file = clinux_create(path, O_RDWR | flags, 0o644)
            // Another user's; in a sticky folder the kernel refuses even to open it for creation (protected_regular).
            if file < 0, errno == EACCES { file = clinux_open(path, O_RDONLY | flags) }
            if file < 0, errno == ELOOP || errno == EISDIR || errno == ENXIO {
                throw refusal(path, "is not a regular file")
            }
            guard file >= 0 else { return -1 }
            var opened = stat()
            guard fstat(file, &opened) == 0, opened.st_mode & S_IFMT == S_IFREG else {
                close(file)
                throw refusal(path, "is not a regular file")
            }
            let said = content(of: file)
            guard said.isEmpty || said.hasPrefix(mark + " ") else {
                close(file)
                throw refusal(path, "is a file with something else in it")
            }
            guard flock(file, LOCK_EX | LOCK_NB) == 0 else {
                let number = errno
                close(file)
                // A file system without locks: as before there were any.
                guard number == EWOULDBLOCK else { return -1 }
                let holder = oneLine(String(said.dropFirst(mark.count + 1)), longest: 300)
                throw Failure.configuration(
                    "the readiness file \(ready.path) is another sidecar's (\(holder.isEmpty ? "it has just started" : holder)): "
                        + "give each a --ready-file of its own")
            }
            var there = stat()
            if lstat(path, &there) == 0, there.st_ino == opened.st_ino, there.st_dev == opened.st_dev { return file }
            close(file)
        }
        return -1
    }

    private static func content(of file: Int32) -> String {
        var bytes = [UInt8](repeating: 0, count: 512)
        let count = pread(file, &bytes, bytes.count, 0)
        return String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
    }

    private static func refusal(_ path: String, _ what: String) -> Failure {
        .configuration("the readiness file's lock \(path) \(what): give --ready-file a path of its own")
    }
}
