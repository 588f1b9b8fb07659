// The readiness file: what a probe may believe about a sidecar, and until when. It is there while the sidecar is ready;
// a second file beside it (`.live`) is there while its loop turns. Both are written whole (rename), readable by all,
// and carry a deadline in CLOCK_BOOTTIME, so that the file of a stopped, hung or killed sidecar is worth nothing. A
// reader believes only whom it trusts (`Reading`), and only where the clock of the deadline is its own.

import CLinux
import Clock
import FoundationEssentials
import Glibc
import Text

/// What the file holds, as JSON.
package struct ReadyState: Codable, Equatable {
    /// `leader`, `standby` or `stopping`.
    package var role: String
    package var lease: String
    package var node: String
    package var instance: String
    package var epoch: Int64?
    package var healthy: Bool
    /// CLOCK_BOOTTIME in nanoseconds: for a leader until when its child may live, for a standby until when its contact
    /// with the database counts, in the `.live` file until when the loop counts as turning.
    package var deadline: Int64
    /// Which boot the deadline is measured in (/proc/sys/kernel/random/boot_id).
    package var bootID: String
    /// Which time namespace (time_namespaces(7)) shifts that clock: the number of /proc/self/ns/time. Nil where there
    /// are none, and in what an older sidecar has written.
    package var timeNamespace: UInt64?
    package var pid: Int32
    package var version: String
    /// Why it is not ready, for people; in the `.live` file, as there is no other then.
    package var trouble: String?

    package init(
        role: String, lease: String, node: String, instance: String, epoch: Int64?, healthy: Bool, deadline: Int64,
        bootID: String, timeNamespace: UInt64? = nil, pid: Int32, version: String, trouble: String? = nil
    ) {
        self.role = role
        self.lease = lease
        self.node = node
        self.instance = instance
        self.epoch = epoch
        self.healthy = healthy
        self.deadline = deadline
        self.bootID = bootID
        self.timeNamespace = timeNamespace
        self.pid = pid
        self.version = version
        self.trouble = trouble
    }

    package enum CodingKeys: String, CodingKey {
        case role, lease, node, instance, epoch, healthy, deadline, pid, version, trouble
        case bootID = "boot_id"
        case timeNamespace = "time_namespace"
    }
}

/// Where the file is.
package struct ReadyFile: Equatable {
    static let standard = "/run/sidecar/ready"

    package let path: String
    /// In a folder that anybody could have made first: then the folder must be our own.
    var isInSharedPlace = false

    /// The file that shows the loop turning.
    package var live: ReadyFile { ReadyFile(path: path + ".live", isInSharedPlace: isInSharedPlace) }

    /// Where a sidecar writes: as told, else /run/sidecar, else the temporary folder.
    package static func forWriting(_ given: String?) -> ReadyFile {
        if let given { return ReadyFile(path: given) }
        let folder = access("/run/sidecar", F_OK) == 0 ? "/run/sidecar" : "/run"
        return access(folder, W_OK) == 0 ? ReadyFile(path: standard) : temporary
    }

    /// Where a probe looks: as told, else the first place that has one.
    package static func forReading(_ given: String?) -> ReadyFile {
        if let given { return ReadyFile(path: given) }
        let standardExists = access(standard, F_OK) == 0 || access(standard + ".live", F_OK) == 0
        return standardExists ? ReadyFile(path: standard) : temporary
    }

    private static var temporary: ReadyFile {
        let folder = getenv("TMPDIR").map { String(cString: $0) }.flatMap { $0.isEmpty ? nil : $0 } ?? "/tmp"
        return ReadyFile(path: "\(folder)/sidecar-\(getuid())/ready", isInSharedPlace: true)
    }

    /// What is there that no sidecar has written, and would be replaced and removed; nil when nothing is. In a folder
    /// of somebody else's nothing is written anyway.
    package var problem: String? {
        guard folderIsTrusted else { return nil }
        var status = stat()
        guard lstat(path, &status) == 0 else {
            return path.utf8.last == UInt8(ascii: "/") ? Self.refusal(path, "is a folder") : nil
        }
        switch status.st_mode & S_IFMT {
        case S_IFREG: break
        case S_IFDIR: return Self.refusal(path, "is a folder")
        default: return Self.refusal(path, "is not a regular file")
        }
        // Another version's file will do.
        return status.st_size == 0 || head.contains("\"boot_id\"".utf8)
            ? nil : Self.refusal(path, "is a file with something else in it")
    }

    private var head: [UInt8] {
        let file = clinux_open(path, O_RDONLY | O_NONBLOCK)
        guard file >= 0 else { return [] }
        defer { close(file) }
        var bytes = [UInt8](repeating: 0, count: 8192)
        let count = Glibc.read(file, &bytes, bytes.count)
        return Array(bytes.prefix(max(0, count)))
    }

    private static func refusal(_ path: String, _ what: String) -> String {
        "the readiness file would replace \(path), which \(what): give --ready-file a path of its own"
    }

    /// Writes it whole or not at all.
    /// - Returns: 0, or the errno of the step that failed.
    func write(_ state: ReadyState) -> Int32 {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        guard let data = try? encoder.encode(state) else { return EINVAL }
        let bytes = Array(data) + [10]
        guard folderForWriting() else { return EPERM }
        let temporary = "\(path).\(getpid())"
        let file = clinux_create(temporary, O_WRONLY | O_TRUNC | O_NOFOLLOW, 0o644)
        guard file >= 0 else { return errno }
        // Not as the umask would have it: probes may run as somebody else.
        fchmod(file, 0o644)
        let written = Glibc.write(file, bytes, bytes.count)
        let problem = written == bytes.count ? 0 : (written < 0 ? errno : ENOSPC)
        close(file)
        guard problem == 0, rename(temporary, path) == 0 else {
            let number = problem == 0 ? errno : problem
            unlink(temporary)
            return number
        }
        return 0
    }

    /// Makes the folder where it is missing; whether files may be written there.
    func folderForWriting() -> Bool {
        _ = mkdir(Self.folder(of: path), 0o755)
        return folderIsTrusted
    }

    func remove() { unlink(path) }

    /// Whether nobody else can have put files beside ours.
    private var folderIsTrusted: Bool {
        guard isInSharedPlace, let slash = path.lastIndex(of: "/") else { return true }
        var status = stat()
        return lstat(String(path[..<slash]), &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
            && status.st_uid == getuid() && status.st_mode & 0o022 == 0
    }

    /// What a reader found.
    package enum Reading: Equatable {
        case state(ReadyState)
        case absent
        /// It belongs to that user, who may have put it there for any sidecar's.
        case untrusted(owner: uid_t)
    }

    /// What it says. Believed are the reader's own user, root, and the owner of the folder, who can replace every file
    /// in it anyway. In a folder that everybody may write to, such as /tmp, that leaves the reader's own files and
    /// root's.
    package func read() -> Reading {
        guard folderIsTrusted else { return .absent }
        // Not through a link, which leads to another sidecar's file as well. Not waiting for the writer of a pipe.
        let file = clinux_open(path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW)
        guard file >= 0 else { return .absent }
        defer { close(file) }
        var status = stat()
        guard fstat(file, &status) == 0 else { return .absent }
        guard trusts(status.st_uid) else { return .untrusted(owner: status.st_uid) }
        var bytes = [UInt8](repeating: 0, count: 8192)
        let count = Glibc.read(file, &bytes, bytes.count)
        return Self.parse(bytes.prefix(max(0, count))).map { .state($0) } ?? .absent
    }

    /// What such a file's bytes say; nil when they are not whole.
    static func parse(_ bytes: some Sequence<UInt8>) -> ReadyState? {
        try? JSONDecoder().decode(ReadyState.self, from: Data(bytes))
    }

    /// Whether a file of that user beside ours is to be believed.
    func trusts(_ owner: uid_t) -> Bool {
        if owner == geteuid() || owner == 0 { return true }
        var folder = stat()
        return stat(Self.folder(of: path), &folder) == 0 && folder.st_uid == owner
    }

    /// The folder that holds a path.
    static func folder(of path: String) -> String {
        guard let slash = path.lastIndex(of: "/") else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }

    /// The time namespace of this process; nil where the kernel has none.
    package static func timeNamespace() -> UInt64? {
        var status = stat()
        return stat("/proc/self/ns/time", &status) == 0 ? UInt64(status.st_ino) : nil
    }

    /// The boot that CLOCK_BOOTTIME counts from.
    package static func bootID() -> String {
        let file = clinux_open("/proc/sys/kernel/random/boot_id", O_RDONLY)
        guard file >= 0 else { return "" }
        defer { close(file) }
        var bytes = [UInt8](repeating: 0, count: 64)
        let count = Glibc.read(file, &bytes, bytes.count)
        return String(decoding: bytes.prefix(max(0, count)), as: UTF8.self).trimming()
    }
}
