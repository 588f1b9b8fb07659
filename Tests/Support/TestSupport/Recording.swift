// Reads what the recorder (Tests/Support/Recorder) wrote: every process's signs of life, put together into trees. A tree
// is one start of a child: one epoch, one instance, one main process. Nothing is judged here; see IntervalChecker.

import Clock
import Foundation
import Synchronization

/// One recorded process.
public struct RecordedProcess: Sendable {
    /// main, plain, stubborn, setsid, daemon, stopped, hopping, storm or busy.
    public let shape: String
    /// Its pid in the pid namespace it ran in; for a forking member the first of them.
    public let pid: Int
    /// First sign of life.
    public let start: Instant
    /// Last sign of life. A stopped member gives none after its start.
    public let last: Instant
    /// Its orderly end, if it had one.
    public let stop: Instant?
    /// The signals that it caught, in order.
    public let signals: [Int]
    /// The trees that the kernel said were still alive when this process's tree was (see claim_lock in the recorder).
    public let intruders: [(at: Instant, who: String)]
    /// What it was told about itself: SIDECAR_LEASE, SIDECAR_NODE, PGAPPNAME.
    public let environment: [String: String]
}

/// One start of a child and everything that it started.
public struct RecordedTree: Sendable {
    /// Names a tree: no two starts of a child share all three.
    public struct ID: Hashable, Sendable, CustomStringConvertible {
        public let epoch: String
        public let instance: String
        public let main: Int
        public var description: String { "epoch \(epoch) instance \(instance.prefix(8)) main \(main)" }
        /// How the recorder writes it into its lock file.
        public var lockName: String { "\(epoch)-\(instance)-\(main)" }
    }

    public let id: ID
    /// Main process first, then by time of start.
    public let processes: [RecordedProcess]

    /// First sign of life of any process.
    public var start: Instant { processes.map(\.start).min() ?? Instant(nanoseconds: .max) }
    /// Last sign of life of any process.
    public var last: Instant { processes.map(\.last).max() ?? Instant(nanoseconds: .min) }
    /// The process that was started by the guard.
    public var main: RecordedProcess? { processes.first { $0.shape == "main" } }
    /// The node as the child was told it.
    public var node: String { main?.environment["SIDECAR_NODE"] ?? "?" }
}

/// All that the recorders of one folder wrote, up to now.
public struct Recording: Sendable {
    /// Every tree, by time of start.
    public let trees: [RecordedTree]
    /// Lines that are neither of the recorder's words nor a last line cut short: the recorder is broken.
    public let nonsense: [String]

    /// Reads every log of `directory`. A missing folder is an empty recording.
    public init(directory: String) { self = RecordingReader(directory: directory).read() }

    fileprivate init(_ logs: [RecorderLog]) {
        let processes = logs.compactMap { log in log.process.map { (log, $0) } }
        nonsense = processes.flatMap { log, _ in log.nonsense.map { "\(log.name): \($0)" } }
        trees = Dictionary(grouping: processes) { $1.tree }.map { id, members in
            RecordedTree(
                id: id,
                processes: members.map(\.1.process).sorted {
                    ($0.shape == "main" ? 0 : 1, $0.start) < ($1.shape == "main" ? 0 : 1, $1.start)
                })
        }.sorted { $0.start < $1.start }
    }

    /// The trees that `node` ran, in order.
    public func trees(of node: String) -> [RecordedTree] { trees.filter { $0.node == node } }

    /// The last sign of life of that tree; nil when it was never seen.
    public func lastAlive(of tree: RecordedTree.ID) -> Instant? { trees.first { $0.id == tree }?.last }

    /// Everything in one readable table, in milliseconds since the first sign of life: for failure messages.
    public var timeline: String {
        guard let zero = trees.first?.start else { return "(no process was ever recorded)" }
        func milliseconds(_ instant: Instant) -> String {
            let text = String(instant.since(zero).milliseconds)
            return String(repeating: " ", count: max(0, 7 - text.count)) + text
        }
        return trees.map { tree in
            let head = "\(milliseconds(tree.start)) .. \(milliseconds(tree.last)) ms  \(tree.id) node \(tree.node)"
            let rows = tree.processes.map { process in
                let end = process.stop == nil ? "" : " stop"
                let signals = process.signals.isEmpty ? "" : " signals \(process.signals)"
                let intruders = process.intruders.first.map { " INTRUDER \($0.who) at \(milliseconds($0.at)) ms" } ?? ""
                return "  \(milliseconds(process.start)) .. \(milliseconds(process.last)) ms  "
                    + "\(process.shape) \(process.pid)\(end)\(signals)\(intruders)"
            }
            return ([head] + rows).joined(separator: "\n")
        }.joined(separator: "\n")
    }
}

/// Reads what the recorders of one folder write, again and again: each time only what is new.
public final class RecordingReader: Sendable {
    private let directory: String
    private let logs = Mutex<[String: RecorderLog]>([:])

    /// A missing folder is an empty recording.
    public init(directory: String) { self.directory = directory }

    /// All that was written until now.
    public func read() -> Recording {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []
        return logs.withLock { logs in
            for name in names where name.hasSuffix(".log") {
                if logs[name] == nil, let log = RecorderLog(name: name) { logs[name] = log }
                logs[name]?.readOn(in: directory)
            }
            return Recording(logs.values.sorted { $0.name < $1.name })
        }
    }
}

/// One log file, as far as it has been read.
private struct RecorderLog {
    let name: String
    private let epoch: String
    private let instance: String
    private let shape: String
    private let pid: Int

    /// Where the first line begins that has not been read.
    private var offset = 0
    private var main: Int?
    private var start: Instant?
    private var last: Instant?
    private var stop: Instant?
    private var signals: [Int] = []
    private var intruders: [(at: Instant, who: String)] = []
    private var environment: [String: String] = [:]
    private(set) var nonsense: [String] = []

    /// Nil when the name is not one of the recorder's.
    init?(name: String) {
        // <epoch>-<instance, itself with dashes>-<shape>-<pid>.log
        let words = name.dropLast(".log".count).split(separator: "-").map(String.init)
        guard words.count >= 4, let pid = Int(words[words.count - 1]) else { return nil }
        self.name = name
        self.pid = pid
        epoch = words[0]
        instance = words[1..<(words.count - 2)].joined(separator: "-")
        shape = words[words.count - 2]
    }

    /// The process and its tree; nil when there is no sign of life in the log (yet).
    var process: (tree: RecordedTree.ID, process: RecordedProcess)? {
        guard let start, let last, let main else { return nil }
        return (
            RecordedTree.ID(epoch: epoch, instance: instance, main: main),
            RecordedProcess(
                shape: shape, pid: pid, start: start, last: last, stop: stop, signals: signals, intruders: intruders,
                environment: environment)
        )
    }

    /// Reads the lines that were added. One that SIGKILL cut short has no newline at its end and is no sign of anything.
    mutating func readOn(in directory: String) {
        guard let file = FileHandle(forReadingAtPath: directory + "/" + name) else { return }
        defer { try? file.close() }
        guard (try? file.seek(toOffset: UInt64(offset))) != nil, let added = try? file.readToEnd(),
            let end = added.lastIndex(of: UInt8(ascii: "\n"))
        else { return }
        offset += end + 1 - added.startIndex
        for line in added[..<end].split(separator: UInt8(ascii: "\n")) {
            take(String(decoding: line, as: UTF8.self))
        }
    }

    private mutating func take(_ line: String) {
        let words = line.split(separator: " ").map(String.init)
        let number = words.count > 1 ? Int64(words[1]) : nil
        let instant = number.map { Instant(nanoseconds: $0) }
        switch words.first {
        case "main" where number != nil: main = number.map { Int($0) }
        case "start" where instant != nil: start = start ?? instant
        case "alive" where instant != nil: break
        case "stop" where instant != nil: stop = instant
        case "signal" where number != nil && words.count == 3: signals.append(Int(number ?? 0))
        case "intruder" where words.count == 3: intruders.append((instant ?? Instant(nanoseconds: 0), words[2]))
        case "env":
            let pair = line.dropFirst("env ".count).split(separator: "=", maxSplits: 1).map(String.init)
            if pair.count == 2 { environment[pair[0]] = pair[1] }
        default: nonsense.append(line)
        }
        if let instant, ["start", "alive", "stop"].contains(words[0]) { last = max(last ?? instant, instant) }
    }
}
