// The fields that Wire.swift's packets are made of: how each is put into bytes and taken out of them again. Reading
// never goes past the end and never traps; what is missing reads as nil.

import Clock
import Orders

struct Writer {
    private(set) var bytes: [UInt8]

    init(kind: UInt8) {
        bytes = Reader.magic + [Wire.version, kind]
        bytes.reserveCapacity(64)
    }

    mutating func put(_ number: some FixedWidthInteger) {
        withUnsafeBytes(of: number.littleEndian) { bytes.append(contentsOf: $0) }
    }

    mutating func put(_ text: String) {
        put(UInt32(truncatingIfNeeded: text.utf8.count))
        bytes.append(contentsOf: text.utf8)
    }

    mutating func put(_ processes: [SeenProcess]) {
        put(UInt8(truncatingIfNeeded: processes.count))
        for process in processes.prefix(255) {
            put(process.pid)
            put(process.state)
            put(process.name)
        }
    }
}

struct Reader {
    static let magic = [UInt8(ascii: "S"), UInt8(ascii: "C"), UInt8(ascii: "G")]

    private var rest: ArraySlice<UInt8>

    init(_ bytes: some Sequence<UInt8>) { rest = ArraySlice(bytes) }

    var isAtEnd: Bool { rest.isEmpty }

    /// The kind, if the header is ours.
    mutating func header() -> UInt8? {
        guard rest.starts(with: Reader.magic) else { return nil }
        rest.removeFirst(Reader.magic.count)
        guard byte() == Wire.version else { return nil }
        return byte()
    }

    mutating func byte() -> UInt8? { rest.popFirst() }

    mutating func integer<Number: FixedWidthInteger>() -> Number? {
        let size = MemoryLayout<Number>.size
        guard rest.count >= size else { return nil }
        var number: Number = 0
        withUnsafeMutableBytes(of: &number) { $0.copyBytes(from: rest.prefix(size)) }
        rest.removeFirst(size)
        return Number(littleEndian: number)
    }

    mutating func startID() -> StartID? { integer().map { StartID($0) } }

    /// How a command ended: a status of wait(2) that says nothing beyond that.
    mutating func exit() -> ChildExit? {
        guard let status: Int32 = integer() else { return nil }
        let exit = ChildExit(waitStatus: status)
        return exit.waitStatus == status ? exit : nil
    }

    mutating func instant() -> Instant? { integer().map { Instant(nanoseconds: $0) } }

    /// How long something took: not negative, and not so long that it would be cut off when sent again.
    mutating func duration() -> Duration? {
        guard let nanoseconds: Int64 = integer(), nanoseconds >= 0 else { return nil }
        let duration = Duration.nanoseconds(nanoseconds)
        return duration.nanoseconds == nanoseconds ? duration : nil
    }

    mutating func string() -> String? {
        guard let count: UInt32 = integer(), count <= rest.count else { return nil }
        let text = String(validating: rest.prefix(Int(count)), as: UTF8.self)
        rest.removeFirst(Int(count))
        return text
    }

    mutating func processes() -> [SeenProcess]? {
        guard let count = byte() else { return nil }
        var processes: [SeenProcess] = []
        for _ in 0..<count {
            guard let pid: Int32 = integer(), let state = byte(), let name = string() else { return nil }
            processes.append(SeenProcess(pid: pid, state: state, name: name))
        }
        return processes
    }
}
