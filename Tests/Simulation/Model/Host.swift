// A machine: its clock, its power, its network. Clocks of two hosts have nothing in common but that both go forward.

import Clock

final class Host {
    let index: Int
    /// How much faster than the world's its clock goes, in parts per million.
    let partsPerMillion: Int64
    /// What the clock showed when the world began.
    private var offset: Int64
    /// Frozen together with everything on it; its CLOCK_BOOTTIME goes on.
    var isSuspended = false
    /// All suspensions together: what CLOCK_MONOTONIC does not count.
    var suspendedFor: Time = 0
    var suspendedAt: Time = 0
    /// Nothing gets through to the server, or from it.
    var isCutTo = false
    var isCutFrom = false
    /// Something takes its processors: more and more since then, as it does when a tree grows.
    var starvedSince: Time?
    /// Added to the delay of every message, at most.
    var slowness: Time = 0
    /// Added to the delay of every reply.
    var replySlowness: Time = 0
    /// A PID namespace: when the keeper dies, the kernel kills everything.
    let isContainer: Bool

    init(index: Int, partsPerMillion: Int64, offset: Int64, isContainer: Bool) {
        self.index = index
        self.partsPerMillion = partsPerMillion
        self.offset = offset
        self.isContainer = isContainer
    }

    /// A copy of that machine, as it is: with the same clock.
    init(copying other: Host, index: Int) {
        self.index = index
        partsPerMillion = other.partsPerMillion
        offset = other.offset
        suspendedFor = other.suspendedFor
        isContainer = other.isContainer
    }

    /// How late whatever wants to run gets to run, at most. It grows by 4 % of the time, up to a second.
    func starvation(at time: Time) -> Time {
        guard let starvedSince else { return 0 }
        return min((time - starvedSince) / 25, 1000 * millisecond)
    }

    /// CLOCK_BOOTTIME.
    func clock(at time: Time) -> Instant {
        Instant(nanoseconds: offset + time + time * partsPerMillion / 1_000_000)
    }

    /// When this host's clock will show `instant`.
    func time(of instant: Instant) -> Time {
        let ticks = min(instant.nanoseconds - offset, 4_000_000_000_000)
        return ticks * 1_000_000 / (1_000_000 + partsPerMillion) + 2
    }

    /// Starts anew, with a clock that begins near nothing.
    func reboot(at time: Time) { offset = 1_000_000_000 - time - time * partsPerMillion / 1_000_000 }
}
