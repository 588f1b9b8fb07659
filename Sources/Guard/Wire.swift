// How orders and answers travel: one message per packet, a fixed header and little-endian fields. Any bytes decode
// either to exactly one message or to nil. Nothing traps, and no trailing byte is accepted, since nonsense on the
// channel is a reason to kill.

import Clock
import Orders

/// The binary form of `Order` and `Answer`.
///
/// Header: `S C G`, version, kind. Then the kind's fields: integers little-endian, strings as a 32-bit length and
/// UTF-8 bytes.
public enum Wire {
    /// The longest packet, in bytes; well under what a Unix socket takes at once.
    public static let limit = 64 * 1024

    static let version: UInt8 = 2

    private enum Kind: UInt8 {
        case ping = 1
        case start, extend, signal, kill, handicap
        case ready = 65
        case pong, started, notStarted, extended, exited, killing, empty, leftBehind, surviving, strained
    }

    private enum Refusal: UInt8 {
        case cannotExecute = 1
        case cannotFork, deadlinePassed, treeAlive, stale
    }

    /// The order's packet; nil if it does not fit, or if an environment string is not a `NAME=value` or holds a NUL.
    public static func encode(_ order: Order) -> [UInt8]? {
        var writer: Writer
        switch order {
        case .ping(let token):
            writer = Writer(kind: Kind.ping.rawValue)
            writer.put(token)
        case .start(let id, let deadline, let commandIndex, let environment):
            writer = Writer(kind: Kind.start.rawValue)
            guard let index = UInt32(exactly: commandIndex), environment.allSatisfy(isAssignment) else { return nil }
            writer.put(id.rawValue)
            writer.put(deadline.nanoseconds)
            writer.put(index)
            writer.put(UInt32(truncatingIfNeeded: environment.count))
            for assignment in environment { writer.put(assignment) }
        case .extend(let id, let deadline, let token):
            writer = Writer(kind: Kind.extend.rawValue)
            writer.put(id.rawValue)
            writer.put(deadline.nanoseconds)
            writer.put(token)
        case .signal(let id, let number):
            writer = Writer(kind: Kind.signal.rawValue)
            guard isSignal(number) else { return nil }
            writer.put(id.rawValue)
            writer.put(number)
        case .kill(let id):
            writer = Writer(kind: Kind.kill.rawValue)
            writer.put(id.rawValue)
        case .handicap(let handicap):
            writer = Writer(kind: Kind.handicap.rawValue)
            writer.put(handicap.nice)
            writer.put(handicap.oomScore)
        }
        return writer.bytes.count <= limit ? writer.bytes : nil
    }

    /// The answer's packet.
    public static func encode(_ answer: Answer) -> [UInt8] {
        var writer: Writer
        switch answer {
        case .ready:
            writer = Writer(kind: Kind.ready.rawValue)
        case .strained(let strain):
            writer = Writer(kind: Kind.strained.rawValue)
            writer.put(strain.lateness.nanoseconds)
            writer.put(strain.tasks)
            writer.put(strain.memory)
            writer.put(strain.processors)
        case .pong(let token):
            writer = Writer(kind: Kind.pong.rawValue)
            writer.put(token)
        case .started(let id, let pid):
            writer = Writer(kind: Kind.started.rawValue)
            writer.put(id.rawValue)
            writer.put(pid)
        case .notStarted(let id, let reason):
            writer = Writer(kind: Kind.notStarted.rawValue)
            writer.put(id.rawValue)
            let (refusal, number): (Refusal, Int32) =
                switch reason {
                case .cannotExecute(errno: let number): (.cannotExecute, number)
                case .cannotFork(errno: let number): (.cannotFork, number)
                case .deadlinePassed: (.deadlinePassed, 0)
                case .treeAlive: (.treeAlive, 0)
                case .stale: (.stale, 0)
                }
            writer.put(refusal.rawValue)
            writer.put(number)
        case .extended(let id, let deadline, let token):
            writer = Writer(kind: Kind.extended.rawValue)
            writer.put(id.rawValue)
            writer.put(deadline.nanoseconds)
            writer.put(token)
        case .exited(let id, let exit):
            writer = Writer(kind: Kind.exited.rawValue)
            writer.put(id.rawValue)
            writer.put(exit.waitStatus)
        case .killing(let id, let cause):
            writer = Writer(kind: Kind.killing.rawValue)
            writer.put(id.rawValue)
            writer.put(cause.rawValue)
        case .empty(let id):
            writer = Writer(kind: Kind.empty.rawValue)
            writer.put(id.rawValue)
        case .leftBehind(let id, let count, let processes):
            writer = Writer(kind: Kind.leftBehind.rawValue)
            writer.put(id.rawValue)
            writer.put(count)
            writer.put(processes)
        case .surviving(let id, let processes):
            writer = Writer(kind: Kind.surviving.rawValue)
            writer.put(id.rawValue)
            writer.put(processes)
        }
        return writer.bytes
    }

    /// The order in these bytes, or nil.
    public static func decodeOrder(_ bytes: some RandomAccessCollection<UInt8>) -> Order? {
        var reader = Reader(bytes)
        guard let kind = reader.header().flatMap(Kind.init(rawValue:)) else { return nil }
        let order: Order?
        switch kind {
        case .ping: order = reader.integer().map { .ping(token: $0) }
        case .start: order = start(&reader)
        case .extend:
            guard let id = reader.startID(), let deadline = reader.instant(),
                let token: UInt64 = reader.integer()
            else { return nil }
            order = .extend(id, deadline: deadline, token: token)
        case .signal:
            guard let id = reader.startID(), let number: Int32 = reader.integer(), isSignal(number) else {
                return nil
            }
            order = .signal(id, number: number)
        case .kill: order = reader.startID().map { .kill($0) }
        case .handicap:
            guard let nice: Int32 = reader.integer(), let oomScore: Int32 = reader.integer() else { return nil }
            order = .handicap(Handicap(nice: nice, oomScore: oomScore))
        default: order = nil
        }
        return reader.isAtEnd ? order : nil
    }

    private static func start(_ reader: inout Reader) -> Order? {
        guard let id = reader.startID(), let deadline = reader.instant(),
            let index: UInt32 = reader.integer(),
            let count: UInt32 = reader.integer()
        else { return nil }
        var environment: [String] = []
        // No memory is reserved by `count`, which may be wrong until the strings have been read.
        for _ in 0..<count {
            guard let assignment = reader.string(), isAssignment(assignment) else { return nil }
            environment.append(assignment)
        }
        return .start(id, deadline: deadline, commandIndex: Int(index), environment: environment)
    }

    /// The answer in these bytes, or nil.
    public static func decodeAnswer(_ bytes: some RandomAccessCollection<UInt8>) -> Answer? {
        var reader = Reader(bytes)
        guard let kind = reader.header().flatMap(Kind.init(rawValue:)) else { return nil }
        let answer: Answer?
        switch kind {
        case .ready: answer = .ready
        case .pong: answer = reader.integer().map { .pong(token: $0) }
        case .strained:
            guard let lateness = reader.duration(), let tasks: Int32 = reader.integer(),
                let memory: Int64 = reader.integer(), let processors: Int32 = reader.integer()
            else { return nil }
            answer = .strained(Strain(lateness: lateness, tasks: tasks, memory: memory, processors: processors))
        case .started:
            guard let id = reader.startID(), let pid: Int32 = reader.integer() else { return nil }
            answer = .started(id, pid: pid)
        case .exited:
            guard let id = reader.startID(), let exit = reader.exit() else { return nil }
            answer = .exited(id, exit)
        case .notStarted:
            guard let id = reader.startID(), let refusal = reader.byte().flatMap(Refusal.init(rawValue:)),
                let number: Int32 = reader.integer()
            else { return nil }
            answer = .notStarted(id, reason(refusal, number))
        case .extended:
            guard let id = reader.startID(), let deadline = reader.instant(),
                let token: UInt64 = reader.integer()
            else { return nil }
            answer = .extended(id, deadline: deadline, token: token)
        case .killing:
            guard let id = reader.startID(), let cause = reader.byte().flatMap(KillCause.init(rawValue:))
            else {
                return nil
            }
            answer = .killing(id, cause)
        case .empty: answer = reader.startID().map { .empty($0) }
        case .leftBehind:
            guard let id = reader.startID(), let count: UInt32 = reader.integer(),
                let processes = reader.processes()
            else { return nil }
            answer = .leftBehind(id, count: count, processes)
        case .surviving:
            guard let id = reader.startID(), let processes = reader.processes() else { return nil }
            answer = .surviving(id, processes)
        default: answer = nil
        }
        return reader.isAtEnd ? answer : nil
    }

    private static func reason(_ refusal: Refusal, _ number: Int32) -> NotStarted {
        switch refusal {
        case .cannotExecute: .cannotExecute(errno: number)
        case .cannotFork: .cannotFork(errno: number)
        case .deadlinePassed: .deadlinePassed
        case .treeAlive: .treeAlive
        case .stale: .stale
        }
    }

    private static func isAssignment(_ text: String) -> Bool {
        let bytes = text.utf8
        return bytes.first != UInt8(ascii: "=") && bytes.contains(UInt8(ascii: "=")) && !bytes.contains(0)
    }

    private static func isSignal(_ number: Int32) -> Bool { (1...64).contains(number) }
}
