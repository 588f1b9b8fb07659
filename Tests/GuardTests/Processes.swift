// The machine's processes as the tests see them, independently of the code under test, and where the built executables are.

import Glibc

enum Processes {
    static func all(in folder: String = "/proc") -> [pid_t] {
        guard let directory = opendir(folder) else { return [] }
        defer { closedir(directory) }
        var pids: [pid_t] = []
        while let entry = readdir(directory) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) {
                String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            if let pid = pid_t(name) { pids.append(pid) }
        }
        return pids
    }

    static func text(_ path: String) -> String { String(decoding: bytes(path) ?? [], as: UTF8.self) }

    static func bytes(_ path: String) -> [UInt8]? {
        let file = open(path, O_RDONLY)
        guard file >= 0 else { return nil }
        defer { close(file) }
        var text: [UInt8] = []
        var part = [UInt8](repeating: 0, count: 65536)
        while true {
            let count = read(file, &part, part.count)
            guard count > 0 else { return text }
            text += part[..<count]
        }
    }

    static func name(_ pid: pid_t) -> Substring { text("/proc/\(pid)/comm").prefix { $0 != "\n" } }

    static func environment(of pid: pid_t) -> [Substring] {
        let own = text("/proc/\(pid)/environ").split(separator: "\0")
        if !own.isEmpty { return own }
        // The main thread may have ended while others run on.
        return all(in: "/proc/\(pid)/task").flatMap { text("/proc/\(pid)/task/\($0)/environ").split(separator: "\0") }
    }

    /// Not even a zombie's main thread counts as life, unless others run on.
    static func isAlive(_ pid: pid_t) -> Bool {
        let state = text("/proc/\(pid)/status")
        guard let line = state.split(separator: "\n").first(where: { $0.hasPrefix("State:") }) else { return false }
        return !line.contains("Z") && !line.contains("X")
    }

    static func isZombie(_ pid: pid_t) -> Bool { status(pid, "State") == "Z" }

    /// The value of one line of /proc/PID/status, without what follows its first word.
    static func status(_ pid: pid_t, _ name: String) -> Substring? {
        let line = text("/proc/\(pid)/status").split(separator: "\n").first { $0.hasPrefix(name + ":") }
        return line?.dropFirst(name.count + 1).split(whereSeparator: \.isWhitespace).first
    }

    /// It waits for something, and has no child left, not even a dead one: all that it had to say about them is said.
    static func isSettled(_ pid: pid_t) -> Bool {
        let isChildless = !all().contains { status($0, "PPid") == Substring(String(pid)) }
        return isChildless && status(pid, "State") == "S"
    }
}

enum Products {
    /// A built executable of this package: next to the test bundle.
    static func path(_ name: String) -> String {
        let places = CommandLine.arguments + [own()]
        for place in places where place.contains("/") {
            let directory = place.split(separator: "/", omittingEmptySubsequences: false).dropLast().joined(
                separator: "/")
            if access(directory + "/" + name, X_OK) == 0 { return directory + "/" + name }
        }
        return name
    }

    private static func own() -> String {
        var path = [UInt8](repeating: 0, count: 4096)
        let count = path.withUnsafeMutableBytes { $0.baseAddress.map { readlink("/proc/self/exe", $0, 4095) } ?? 0 }
        return String(decoding: path.prefix(max(count, 0)), as: UTF8.self)
    }
}
