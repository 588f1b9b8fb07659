// Target `stat`: /proc/PID/stat. Nothing traps, a number too large is no number, and no name that a process gives itself
// can pass for the fields behind it.

import Glibc

@testable import Guard

func fuzzStat(_ input: UnsafeRawBufferPointer) {
    _ = ProcessStat(parsing: input)
    var bytes = Bytes(input)
    let name = bytes.bytes()
    let state = bytes.pick(["R", "S", "D", "Z", "X", "T"])
    let ids = (0..<4).map { _ in pid_t(truncatingIfNeeded: bytes.number()) }
    let threads = bytes.number()
    let start = bytes.number()
    let others = (0..<16).map { _ in String(bytes.number()) }
    let text =
        Array("\(ids[0]) (".utf8) + name
        + Array(
            (") \(state) \(ids[1]) \(ids[2]) \(ids[3]) " + others[..<13].joined(separator: " ")
                + " \(threads) 0 \(start) " + others[13...].joined(separator: " ") + "\n").utf8)
    let stat = text.withUnsafeBytes { ProcessStat(parsing: $0) }
    guard start > .min, threads > .min else { return }
    demand(stat != nil, "it is read: \(String(decoding: text, as: UTF8.self))")
    demand(
        [stat?.pid, stat?.parent, stat?.group, stat?.session] == ids && stat?.startTime == UInt64(bitPattern: start)
            && stat?.isDead == ((state == "Z" || state == "X") && threads <= 1),
        "\(String(decoding: text, as: UTF8.self)) is read as it is: \(String(describing: stat))")
}
