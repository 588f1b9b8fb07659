// Reads what the recorder (Tests/Support/Recorder) wrote: every process's signs of life, put together into trees. A tree
// is one start of a child: one epoch, one instance, one main process. Nothing is judged here; see IntervalChecker.

import Clock
import Foundation

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
    public init(directory: String) {
        var byTree: [RecordedTree.ID: [RecordedProcess]] = [:]
        var nonsense: [String] = []
        let names = (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []
        for name in names.sorted() where name.hasSuffix(".log") {
            guard let data = FileManager.default.contents(atPath: directory + "/" + name),
                let log = RecorderLog(name: name, text: String(decoding: data, as: UTF8.self))
            else { continue }
            nonsense += log.nonsense.map { "\(name): \($0)" }
            byTree[log.tree, default: []].append(log.process)
        }
        trees = byTree.map { id, processes in
            RecordedTree(
                id: id,
                processes: processes.sorted {
                    ($0.shape == "main" ? 0 : 1, $0.start) < ($1.shape == "main" ? 0 : 1, $1.start)
                })
        }.sorted { $0.start < $1.start }
        self.nonsense = nonsense
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

/// One log file, read.
private struct RecorderLog {
    let tree: RecordedTree.ID
    let process: RecordedProcess
    let nonsense: [String]

    /// Nil when there is no sign of life in it (yet), or when the name is not one of the recorder's.
    init?(name: String, text: String) {
        // <epoch>-<instance, itself with dashes>-<shape>-<pid>.log
        let words = name.dropLast(".log".count).split(separator: "-").map(String.init)
        guard words.count >= 4, let pid = Int(words[words.count - 1]) else { return nil }

        var main: Int?
        var start: Instant?
        var last: Instant?
        var stop: Instant?
        var signals: [Int] = []
        var intruders: [(at: Instant, who: String)] = []
        var environment: [String: String] = [:]
        var nonsense: [String] = []
        // A line that SIGKILL cut short has no newline at its end and is no sign of anything.
        for line in text.split(separator: "\n", omittingEmptySubsequences: true).dropLast(text.hasSuffix("\n") ? 0 : 1)
        {
            let words = line.split(separator: " ").map(String.init)
            let number = words.count > 1 ? Int64(words[1]) : nil
            let instant = number.map { Instant(nanoseconds: $0) }
            switch words.first {
            case "main" where number != nil: main = number.map { Int($0) }
            case "start" where instant != nil: start = start ?? instant
            case "alive" where instant != nil: break
            case "stop" where instant != nil: stop = instant
            case "signal" where number != nil && words.count == 3: signals.append(Int(number ?? 0))
            case "intruder" where words.count == 3:
                intruders.append((instant ?? Instant(nanoseconds: 0), words[2]))
            case "env":
                let pair = line.dropFirst("env ".count).split(separator: "=", maxSplits: 1).map(String.init)
                if pair.count == 2 { environment[pair[0]] = pair[1] }
            default: nonsense.append(String(line))
            }
            if let instant, ["start", "alive", "stop"].contains(words[0]) { last = max(last ?? instant, instant) }
        }
        guard let start, let last, let main else { return nil }
        tree = RecordedTree.ID(
            epoch: words[0], instance: words[1..<(words.count - 2)].joined(separator: "-"), main: main)
        process = RecordedProcess(
            shape: words[words.count - 2], pid: pid, start: start, last: last, stop: stop, signals: signals,
            intruders: intruders, environment: environment)
        self.nonsense = nonsense
    }
}
