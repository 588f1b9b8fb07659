// Reads /proc: who there is, in ascending order of pid, and what each one's stat file says. Every buffer is made once, so
// that reading needs no memory at the time a tree must be killed.

import CLinux
import Glibc

struct ProcessFiles: ~Copyable {
    private let directory: Int32
    /// Small on purpose: the newest pids come last, and the shorter the time between listing one and looking at it, the
    /// likelier it still lives in a tree whose processes do nothing but fork and exit.
    private let listing: UnsafeMutableRawBufferPointer
    private let text: UnsafeMutableRawBufferPointer
    private let path: UnsafeMutableBufferPointer<CChar>

    init() {
        directory = ProcessFiles.isOwn() ? clinux_open("/proc", O_RDONLY | O_DIRECTORY) : -1
        listing = .allocate(byteCount: 512, alignment: 8)
        text = .allocate(byteCount: 1024, alignment: 8)
        path = .allocate(capacity: 32)
    }

    deinit {
        if directory >= 0 { close(directory) }
        listing.deallocate()
        text.deallocate()
        path.deallocate()
    }

    /// Whether processes can be seen at all: /proc is mounted and shows this process's own pid namespace.
    var isUsable: Bool { directory >= 0 }

    /// Of another pid namespace's /proc every pid would name somebody else.
    private static func isOwn() -> Bool {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: 16) { target in
            guard let base = target.baseAddress else { return false }
            let length = readlink("/proc/self", base, 15)
            guard length > 0 else { return false }
            base[length] = 0
            return atoi(base) == getpid()
        }
    }

    /// Calls `visit` with every process there is, in ascending order of pid. One that exists all the while is not missed.
    func visitAll(_ visit: (ProcessStat) -> Void) {
        guard directory >= 0, lseek(directory, 0, SEEK_SET) == 0 else { return }
        while true {
            let length = clinux_getdents(directory, listing.baseAddress, UInt32(listing.count))
            guard length > 0 else { return }
            var offset = 0
            while offset + 19 < length {
                // struct linux_dirent64: inode 8, offset 8, record length 2, type 1, name (getdents(2)).
                let record = Int(listing.loadUnaligned(fromByteOffset: offset + 16, as: UInt16.self))
                guard record > 19 else { return }
                if let pid = pid(atOffset: offset + 19), let stat = stat(of: pid) { visit(stat) }
                offset += record
            }
        }
    }

    /// What the process's stat file says now; nil if there is no such process.
    func stat(of pid: pid_t) -> ProcessStat? {
        var end = 0
        end = write(pid, at: end)
        for byte in "/stat".utf8 {
            path[end] = CChar(bitPattern: byte)
            end += 1
        }
        path[end] = 0
        let file = clinux_open_at(directory, path.baseAddress)
        guard file >= 0 else { return nil }
        defer { close(file) }
        let length = read(file, text.baseAddress, text.count)
        guard length > 0 else { return nil }
        return ProcessStat(parsing: UnsafeRawBufferPointer(rebasing: text[..<length]))
    }

    private func pid(atOffset start: Int) -> pid_t? {
        var pid: pid_t = 0
        var offset = start
        while offset < listing.count, listing[offset] != 0 {
            let byte = listing[offset]
            guard byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9"), pid < 100_000_000 else { return nil }
            pid = pid * 10 + pid_t(byte - UInt8(ascii: "0"))
            offset += 1
        }
        return pid > 0 ? pid : nil
    }

    /// Writes the number in decimal; says where it ends.
    private func write(_ pid: pid_t, at start: Int) -> Int {
        var divisor: pid_t = 1
        while pid / divisor >= 10 { divisor *= 10 }
        var end = start
        while divisor > 0 {
            path[end] = CChar(UInt8(ascii: "0") + UInt8(pid / divisor % 10))
            end += 1
            divisor /= 10
        }
        return end
    }
}
