// Feeds every outlet. The lease loop tells it once, and waits for nobody: the log, which never blocks, takes everything
// at once and in order; each other outlet has a thread and a mailbox, and what one of them does holds up neither the
// loop nor another.

import Clock
import Glibc

/// All outlets of one sidecar.
package struct FanOut: Sendable {
    private var log: any Outlet
    private let others: [OutletThread]

    /// `log` is called on the caller's thread: it must not block.
    package init(log: some Outlet, others: [OutletThread]) {
        self.log = log
        self.others = others
    }

    /// Shows how things are. Never blocks.
    package mutating func show(_ picture: Picture) {
        log.take(picture)
        for outlet in others { outlet.post(picture) }
    }

    /// Tells what happened. Never blocks.
    package mutating func tell(_ announcement: Announcement, at now: Instant) {
        log.take(announcement, at: now)
        for outlet in others { outlet.post(announcement, at: now) }
    }

    /// Closes all outlets but the log, and waits a moment for it to be done. What is told later reaches only the log.
    package func close(waitingMilliseconds: Int32) {
        for outlet in others { outlet.close() }
        for _ in 0..<max(1, waitingMilliseconds / 5) {
            if others.allSatisfy(\.isClosed) { return }
            poll(nil, 0, 5)
        }
    }
}
