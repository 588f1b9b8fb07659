// What /proc says about processes: who is alive, whose child, started with which environment. Tests find the guard and
// the members of a tree with it, from outside, without asking the program under test.

import Foundation

/// One living process.
public struct RunningProcess: Sendable, CustomStringConvertible {
    public let pid: pid_t
    public let parent: pid_t
    /// R, S, D, T, Z ... as in proc(5).
    public let state: Character
    /// Its name, cut at 15 bytes by the kernel.
    public let name: String

    public var description: String { "\(name) \(pid) (\(state), child of \(parent))" }

    /// Reads /proc/PID/stat; nil when there is no such process.
    public init?(_ pid: pid_t) {
        // The name stands in brackets and may hold brackets and spaces itself: the last one closes it.
        guard let text = try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8),
            let open = text.firstIndex(of: "("), let close = text.lastIndex(of: ")")
        else { return nil }
        let fields = text[text.index(after: close)...].split(separator: " ")
        guard fields.count > 2, let state = fields[0].first, let parent = pid_t(fields[1]) else { return nil }
        self.pid = pid
        self.parent = parent
        self.state = state
        name = String(text[text.index(after: open)..<close])
    }
}

/// Every process of this machine that we may see.
public enum ProcessTable {
    /// All of them, zombies included.
    public static func all() -> [RunningProcess] {
        ((try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? [])
            .compactMap { pid_t($0) }.compactMap { RunningProcess($0) }
    }

    /// The children of a process.
    public static func children(of parent: pid_t) -> [RunningProcess] { all().filter { $0.parent == parent } }

    /// The living processes, zombies left out, that were started with all of these variables. Looks up to three times
    /// before it says that there are none: one look can miss a process that hops from pid to pid.
    public static func processes(with variables: [String: String]) -> [RunningProcess] {
        for _ in 1...3 {
            let found = look(for: variables)
            if !found.isEmpty { return found }
        }
        return []
    }

    private static func look(for variables: [String: String]) -> [RunningProcess] {
        all().filter { process in
            guard process.state != "Z", process.state != "X" else { return false }
            let environment = environment(of: process.pid)
            return variables.allSatisfy { environment.contains("\($0.key)=\($0.value)") }
        }
    }

    /// The environment a process was started with, as KEY=VALUE.
    public static func environment(of pid: pid_t) -> Set<String> {
        guard let data = FileManager.default.contents(atPath: "/proc/\(pid)/environ") else { return [] }
        return Set(data.split(separator: 0).map { String(decoding: $0, as: UTF8.self) })
    }
}
