// For command-line tools, which have nothing else to do while they wait: the same session, driven by a poll(2) loop.
// Every wait still ends at the session's own deadlines. Never for the keeper's loop.

import Clock
import Glibc

extension Session {
    /// Waits until the session is established.
    /// - Throws: why it is not, after `Limits.connect` at the latest.
    public func connectAndWait() throws(SessionFailure) {
        while !isIdle {
            for case .lost(let failure) in wait() { throw failure }
            precondition(!isOver, "connectAndWait() on a session that is already over")
        }
    }

    /// Runs a query and waits for its result. Notifications that arrive meanwhile are dropped.
    /// - Throws: `ServerError` when the query failed and the session is usable, `SessionFailure` when it is lost.
    public func query(_ query: Query, limit: Duration) throws -> QueryResult {
        send(query, now: BootClock.now(), limit: limit)
        while true {
            for event in wait() {
                switch event {
                case .result(let result): return result
                case .queryFailed(let error): throw error
                case .lost(let failure): throw failure
                case .connected, .notification: continue
                }
            }
        }
    }

    /// Waits until something may have happened, at most until the session's deadline or `limit`, and advances.
    public func wait(limit: Duration? = nil) -> [SessionEvent] {
        let now = BootClock.now()
        let until = [deadline, limit.map { now + $0 }].compactMap { $0 }.min()
        // Rounded up: waking just before the deadline would make the loop spin.
        let milliseconds = until.map { Int32(min(max(.zero, $0.since(now)).milliseconds + 1, 60_000)) }
        var descriptors = pollDescriptors.map { pollfd(fd: $0.fd, events: $0.events, revents: 0) }
        poll(&descriptors, nfds_t(descriptors.count), milliseconds ?? 60_000)
        return advance(now: BootClock.now())
    }
}
