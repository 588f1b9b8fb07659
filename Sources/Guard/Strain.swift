// How the guard measures that it is starved: how late its own timers fire, and what of processor and processes its control
// group has. It only measures; what follows from that is decided in Lease (R2).
//
// Cost: while a child runs the guard wakes about 27 times a second, which is some hundredths of a percent of one processor.

import Clock

/// The guard's own timer, whose lateness is the measure.
struct Beat {
    /// No divisor of 100 ms, the usual period of a CPU limit: else it would always look at the same part of it.
    static let interval = Duration.milliseconds(37)

    private var due: Instant?
    private var latest = Duration.zero
    private var latestBefore = Duration.zero

    /// Milliseconds to wait at most; -1 for ever.
    func pause(at now: Instant) -> Int32 {
        guard let due else { return -1 }
        return due <= now ? 0 : Int32(clamping: due.since(now).milliseconds + 1)
    }

    /// To be told at every wake. It beats only while a child may have to be killed in time.
    mutating func tick(now: Instant, isNeeded: Bool) {
        guard isNeeded else {
            due = nil
            return
        }
        if let due {
            guard now >= due else { return }
            latest = max(latest, now.since(due))
        }
        due = now + Beat.interval
    }

    /// The worst since the report before the last: one that is lost on its way is made good by the next.
    mutating func report() -> Duration {
        let worst = max(latest, latestBefore)
        latestBefore = latest
        latest = .zero
        return worst
    }
}
