// Keeps two sidecars from writing one readiness file, each over the other's state. The lock is flock(2) on a file
// beside it, which the kernel drops when its holder ends, however it ends: neither guard, command nor helper inherits
// the descriptor.

import CLinux
import Glibc
import Synchronization
import Text

/// The right to write one readiness file.
package final class ReadyFileLock: Sendable {
    /// -1 where no lock could be had because the folder cannot be written: then the readiness file cannot be either,
    /// which is said when it is tried.
    private let file: Mutex<Int32>
    private let ready: ReadyFile
    private let node: String

    private static let mark = "sidecar"

    private var path: String { ready.path + ".lock" }

    /// Takes the lock.
    /// - Throws: `Failure` 78 when another sidecar holds it, or when what is at its place is no such lock.
    package init(_ ready: ReadyFile, node: String) throws {
        self.ready = ready
        self.node = node
        file = Mutex(-1)
        let taken = try ready.folderForWriting() ? Self.take(ready, node: node) : -1
        file.withLock { $0 = taken }
    }

    /// Before each writing. What cleans temporary folders may have removed the lock's file, and then another sidecar
    /// can take the lock of a new one: such a file is made again, and one that is in use is shown to be.
    /// - Throws: `Failure` 78 when the readiness file is another sidecar's by now.
    func keep() throws {
        try file.withLock { file in
            guard file >= 0 else { return }
            if Self.isAtItsPlace(file, path) {
                futimens(file, nil)
                return
            }
            let again = try Self.take(ready, node: node)
            guard again >= 0 else { return }
            close(file)
            file = again
        }
    }

    /// Removes the file, if it is still this one, and drops the lock.
    func release() {
        file.withLock { file in
            guard file >= 0 else { return }
            if Self.isAtItsPlace(file, path) { unlink(path) }
            close(file)
            file = -1
        }
    }

    private static func isAtItsPlace(_ file: Int32, _ path: String) -> Bool {
        var opened = stat()
        var there = stat()
        return fstat(file, &opened) == 0 && lstat(path, &there) == 0 && there.st_ino == opened.st_ino
            && there.st_dev == opened.st_dev
    }

    private static func take(_ ready: ReadyFile, node: String) throws -> Int32 {
        let file = try lock(ready.path + ".lock", ready)
        guard file >= 0 else { return -1 }
        // Not as the umask would have it: a sidecar of another user must see that it is locked.
        fchmod(file, 0o644)
        let holder = Array("\(mark) pid \(getpid()), node \(node)\n".utf8)
        // For people only; a lock that another user left behind is not ours to write.
        if ftruncate(file, 0) == 0 { _ = pwrite(file, holder, holder.count, 0) }
        return file
    }

    private static func lock(_ path: String, _ ready: ReadyFile) throws -> Int32 {
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
                    "another sidecar uses the readiness file \(ready.path) (\(holder.isEmpty ? "it has just started" : holder)): "
                        + "give each sidecar its own --ready-file")
            }
            if isAtItsPlace(file, path) { return file }
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
