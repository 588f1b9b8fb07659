// The keeper's hold on the real guard: its channel, its process, and the sweeps over what is below.

import Guard
import Orders

/// A guard process and its tree.
final class GuardHold: GuardPort {
    private let process: GuardProcess
    private var tree = Tree()

    init(_ process: GuardProcess) { self.process = process }

    /// For poll(2): readable when an answer waits or the guard is gone.
    var channel: Int32 { process.channel }

    func send(_ order: Order) -> Bool { process.send(order) }

    func receive() -> GuardProcess.Received { process.receive() }

    func kill() -> Bool { process.kill() }

    var hasEnded: Bool { process.hasEnded }

    func reap() -> Bool {
        var isReaped = false
        _ = tree.reap { pid, _ in if pid == process.pid { isReaped = true } }
        return isReaped
    }

    func sweepBelowGuard() -> Tree.Progress { tree.sweep(below: process.condemned) }

    func sweep(sparingGuard: Bool) -> (progress: Tree.Progress, guardReaped: Bool) {
        var isReaped = false
        let progress = tree.sweep(excluding: sparingGuard ? process.pid : nil) { pid, _ in
            if pid == process.pid { isReaped = true }
        }
        return (progress, isReaped)
    }

    var remains: [SeenProcess] { tree.remains }

    func removeCgroups() { process.removeCgroups() }

    func close() { process.close() }
}
