// Target `ready`: the readiness file, from which a probe says yes or no. What can be read means the same when written
// again; half a file is none; what a sidecar may write always fits.

import Clock
import Glibc

@testable import Outlets
@testable import Text

/// In memory where it can be, so that a run costs the disk nothing.
private let written = ReadyFile(
    path: (access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp") + "/sidecar-fuzz-\(getpid())")

func fuzzReady(_ input: UnsafeRawBufferPointer) {
    var bytes = Bytes(input)
    if bytes.bool() {
        guard let state = read(UnsafeRawBufferPointer(rebasing: input.dropFirst())) else { return }
        // What a probe computes with it.
        _ = Durations.text(BootClock.now().since(Instant(nanoseconds: state.deadline)))
        let short = [state.role, state.lease, state.node, state.instance, state.bootID, state.version]
        if short.allSatisfy({ $0.utf8.count < 200 }) { rewritten(state, cutAt: 0) }
    } else {
        let state = ReadyState(
            role: bytes.pick(["leader", "standby", "stopping"]), lease: bytes.name(63), node: bytes.name(255),
            instance: bytes.name(36), epoch: bytes.bool() ? bytes.number() : nil, healthy: bytes.bool(),
            deadline: bytes.number(), bootID: bytes.name(36), pid: Int32(truncatingIfNeeded: bytes.number()),
            version: bytes.name(20))
        rewritten(state, cutAt: Int(bytes.byte()) * 4)
    }
    unlink(written.path)
}

private func rewritten(_ state: ReadyState, cutAt cut: Int) {
    demand(written.write(state) == 0, "it is written: \(state)")
    demand(written.read() == .state(state), "\(state) is read as it was written")
    let file = open(written.path, O_RDONLY)
    defer { close(file) }
    var bytes = [UInt8](repeating: 0, count: 8192)
    let count = Glibc.read(file, &bytes, bytes.count)
    demand(count > 0 && count < bytes.count, "it fits: \(count) bytes")
    // The last byte is a newline, which may be missing.
    bytes[..<min(cut, count - 2)].withUnsafeBytes { demand(read($0) == nil, "\(cut) bytes of \(state) are no state") }
}

/// What is read need not be what a sidecar would write. As much of it as a reader takes.
private func read(_ bytes: UnsafeRawBufferPointer) -> ReadyState? { ReadyFile.parse(bytes.prefix(8192)) }

extension Bytes {
    /// A name of at most that many bytes, as the settings allow one.
    fileprivate mutating func name(_ limit: Int) -> String {
        var name = text()
        while name.utf8.count > limit { name.removeLast() }
        return name
    }
}
