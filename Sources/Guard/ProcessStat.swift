// One process as /proc/PID/stat shows it (proc_pid_stat(5)): what is needed to tell whose descendant it is and to
// recognise it later. Parsing accepts any text and allocates nothing: it runs while a tree is killed.

import CLinux
import Glibc

struct ProcessStat: Equatable {
    var pid: pid_t
    var parent: pid_t
    var group: pid_t
    var session: pid_t
    /// In clock ticks since boot. Together with the pid it identifies one process forever.
    var startTime: UInt64
    /// R, S, D, T, Z, ... (proc_pid_stat(5)).
    var state: UInt8
    /// Its name as the kernel keeps it, at most 15 bytes; the rest are zero.
    var name: SIMD16<UInt8>
    /// Dead for good and only waiting to be reaped. A zombie with more than one thread is a process whose main thread
    /// has ended while others run on.
    var isDead: Bool

    /// What the text of a stat file says, or nil. The name in it may hold spaces and parentheses, so only the last
    /// `)` ends it.
    init?(parsing text: UnsafeRawBufferPointer) {
        guard let nameEnd = text.lastIndex(of: UInt8(ascii: ")")) else { return nil }
        var fields = Fields(rest: text[..<nameEnd])
        guard let pid = fields.next(), let bracket = text.firstIndex(of: UInt8(ascii: "(")) else { return nil }
        name = SIMD16()
        if bracket < nameEnd {
            for (index, byte) in text[(bracket + 1)..<nameEnd].prefix(15).enumerated() { name[index] = byte }
        }
        fields = Fields(rest: text[(nameEnd + 1)...])
        guard let state = fields.nextState(), let parent = fields.next(), let group = fields.next(),
            let session = fields.next(), fields.skip(13), let threads = fields.next(), fields.skip(1),
            let startTime = fields.next()
        else { return nil }
        self.pid = pid_t(truncatingIfNeeded: pid)
        self.parent = pid_t(truncatingIfNeeded: parent)
        self.group = pid_t(truncatingIfNeeded: group)
        self.session = pid_t(truncatingIfNeeded: session)
        self.startTime = UInt64(truncatingIfNeeded: startTime)
        self.state = state
        isDead = (state == UInt8(ascii: "Z") || state == UInt8(ascii: "X")) && threads <= 1
    }

    /// Space-separated fields, one after the other.
    private struct Fields {
        var rest: Slice<UnsafeRawBufferPointer>

        mutating func word() -> Slice<UnsafeRawBufferPointer>? {
            let space = UInt8(ascii: " ")
            guard let start = rest.firstIndex(where: { $0 != space && $0 != UInt8(ascii: "\n") }) else { return nil }
            let end = rest[start...].firstIndex(where: { $0 == space || $0 == UInt8(ascii: "\n") }) ?? rest.endIndex
            defer { rest = rest[end...] }
            return rest[start..<end]
        }

        mutating func nextState() -> UInt8? { word()?.first }

        mutating func skip(_ count: Int) -> Bool {
            for _ in 0..<count where word() == nil { return false }
            return true
        }

        mutating func next() -> Int64? {
            guard let word = word() else { return nil }
            let negative = word.first == UInt8(ascii: "-")
            var value: Int64 = 0
            for digit in negative ? word.dropFirst() : word {
                guard digit >= UInt8(ascii: "0"), digit <= UInt8(ascii: "9") else { return nil }
                let (tens, tooLarge) = value.multipliedReportingOverflow(by: 10)
                let (sum, over) = tens.addingReportingOverflow(Int64(digit - UInt8(ascii: "0")))
                guard !tooLarge, !over else { return nil }
                value = sum
            }
            return negative ? -value : value
        }
    }
}
