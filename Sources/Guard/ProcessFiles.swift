// Reads /proc: what a process's stat file says, which children its `children` files list, and which processes exist.
// Every buffer is made once, so that reading needs no memory at the time when a tree must be killed.

import CLinux
import Glibc

struct ProcessFiles: ~Copyable {
    private let directory: Int32
    /// Small on purpose: the newest pids come last. The shorter the time between listing a pid and looking at it, the
    /// likelier it still lives, in a tree whose processes do nothing but fork and exit.
    private let listing: UnsafeMutableRawBufferPointer
    private var listingLength = 0
    private var listingOffset = 0
    private let text: UnsafeMutableRawBufferPointer
    private let path: UnsafeMutableBufferPointer<CChar>

    init() {
        directory = ProcessFiles.isOwn() ? clinux_open("/proc", O_RDONLY | O_DIRECTORY) : -1
        listing = .allocate(byteCount: 512, alignment: 8)
        text = .allocate(byteCount: 1024, alignment: 8)
        path = .allocate(capacity: 64)
    }

    deinit {
        if directory >= 0 { close(directory) }
        listing.deallocate()
        text.deallocate()
        path.deallocate()
    }

    /// Whether processes can be seen at all: /proc is mounted and shows this process's own pid namespace.
    var isUsable: Bool { directory >= 0 }

    /// In the /proc of another PID namespace, every pid would name another process.
    static func isOwn() -> Bool {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: 16) { target in
            guard let base = target.baseAddress else { return false }
            let length = readlink("/proc/self", base, 15)
            guard length > 0 else { return false }
            base[length] = 0
            return atoi(base) == getpid()
        }
    }

    // MARK: All processes

    /// Begins again with the first process there is.
    mutating func rewind() {
        (listingLength, listingOffset) = (0, 0)
        if directory >= 0 { lseek(directory, 0, SEEK_SET) }
    }

    /// The next process, in ascending order; nil after the last. A process that exists all the while is not missed.
    mutating func next() -> pid_t? {
        guard directory >= 0 else { return nil }
        while true {
            if listingOffset + 19 >= listingLength {
                listingLength = clinux_getdents(directory, listing.baseAddress, UInt32(listing.count))
                listingOffset = 0
                guard listingLength > 0 else { return nil }
            }
            if let pid = Dirent.next(listing, &listingOffset, listingLength) { return pid }
        }
    }

    // MARK: One process

    /// What the process's stat file says now; nil if there is no such process, or it is hidden from us.
    func stat(of pid: pid_t) -> ProcessStat? {
        let file = open(pid, "/stat")
        guard file >= 0 else { return nil }
        defer { close(file) }
        let length = read(file, text.baseAddress, text.count)
        guard length > 0 else { return nil }
        return ProcessStat(parsing: UnsafeRawBufferPointer(rebasing: text[..<length]))
    }

    /// The directory of the process's threads, to be closed; -1 if there is no such process, or it is hidden from us.
    func threads(of pid: pid_t) -> Int32 { open(pid, "/task") }

    /// The `children` file of a thread, to be closed; -1 if there is none.
    func children(of pid: pid_t, thread: pid_t) -> Int32 {
        var end = write(pid, at: 0)
        end = write("/task/", at: end)
        end = write(thread, at: end)
        _ = write("/children", at: end)
        return clinux_open_at(directory, path.baseAddress)
    }

    private func open(_ pid: pid_t, _ file: StaticString) -> Int32 {
        _ = write(file, at: write(pid, at: 0))
        return clinux_open_at(directory, path.baseAddress)
    }

    private func write(_ words: StaticString, at start: Int) -> Int {
        var end = start
        for index in 0..<words.utf8CodeUnitCount {
            path[end] = CChar(bitPattern: words.utf8Start[index])
            end += 1
        }
        path[end] = 0
        return end
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

/// Entries of a directory as getdents64(2) gives them.
enum Dirent {
    /// The number that is the name of the entry at `offset`, nil where it is none; moves `offset` to the next entry.
    static func next(_ listing: UnsafeMutableRawBufferPointer, _ offset: inout Int, _ length: Int) -> pid_t? {
        // struct linux_dirent64: inode 8, offset 8, record length 2, type 1, name (getdents(2)).
        let record = Int(listing.loadUnaligned(fromByteOffset: offset + 16, as: UInt16.self))
        guard record > 19 else {
            offset = length
            return nil
        }
        defer { offset += record }
        var pid: pid_t = 0
        var position = offset + 19
        while position < length, listing[position] != 0 {
            let byte = listing[position]
            guard byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9"), pid < 100_000_000 else { return nil }
            pid = pid * 10 + pid_t(byte - UInt8(ascii: "0"))
            position += 1
        }
        return pid > 0 ? pid : nil
    }
}

/// The numbers in a `children` file (proc_pid_task(5)), one after the other, across as many reads as it takes. The
/// kernel finds its place by counting children. So no child is missed as long as none of them is reaped meanwhile. A
/// new child is appended, so more numbers may follow after the end.
struct PidList: ~Copyable {
    /// A read failed (for example with ENOMEM), so the list was not read to its end. Stays true until it is cleared.
    var hasFailed = false
    private let buffer: UnsafeMutableRawBufferPointer
    private var file: Int32 = -1
    private var length = 0
    private var offset = 0

    init() { buffer = .allocate(byteCount: 1024, alignment: 8) }
    deinit { buffer.deallocate() }

    /// Begins with the file's first number. The file stays the caller's to close.
    mutating func begin(_ file: Int32) {
        self.file = file
        (length, offset) = (0, 0)
        lseek(file, 0, SEEK_SET)
    }

    /// Whether the file lists that number now. Does not change how far `next` has come in that file.
    mutating func contains(_ pid: pid_t, in file: Int32) -> Bool {
        (length, offset) = (0, 0)
        var position: off_t = 0
        var number: pid_t = 0
        while file >= 0 {
            let count = pread(file, buffer.baseAddress, buffer.count, position)
            guard count > 0 else { return number == pid }
            for index in 0..<count {
                let byte = buffer[index]
                if byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9"), number < 100_000_000 {
                    number = number * 10 + pid_t(byte - UInt8(ascii: "0"))
                } else {
                    if number == pid { return true }
                    number = 0
                }
            }
            position += off_t(count)
        }
        return false
    }

    /// The next number, or nil at the end. More may follow later.
    mutating func next() -> pid_t? {
        var pid: pid_t = 0
        while true {
            while offset < length {
                let byte = buffer[offset]
                offset += 1
                if byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9"), pid < 100_000_000 {
                    pid = pid * 10 + pid_t(byte - UInt8(ascii: "0"))
                } else if pid > 0 {
                    return pid
                }
            }
            length = file >= 0 ? read(file, buffer.baseAddress, buffer.count) : 0
            offset = 0
            if length < 0 { hasFailed = true }
            guard length > 0 else {
                length = 0
                return nil
            }
        }
    }
}

/// The threads of a process, from its `task` directory.
struct ThreadList: ~Copyable {
    private let listing: UnsafeMutableRawBufferPointer
    private var directory: Int32 = -1
    private var length = 0
    private var offset = 0

    init() { listing = .allocate(byteCount: 512, alignment: 8) }

    deinit {
        if directory >= 0 { close(directory) }
        listing.deallocate()
    }

    /// Begins; the directory is closed at the end.
    mutating func begin(_ directory: Int32) {
        end()
        self.directory = directory
    }

    mutating func end() {
        if directory >= 0 { close(directory) }
        directory = -1
        (length, offset) = (0, 0)
    }

    /// The next thread's id.
    mutating func next() -> pid_t? {
        guard directory >= 0 else { return nil }
        while true {
            if offset + 19 >= length {
                length = clinux_getdents(directory, listing.baseAddress, UInt32(listing.count))
                offset = 0
                guard length > 0 else { return nil }
            }
            if let thread = Dirent.next(listing, &offset, length) { return thread }
        }
    }
}
