// How the guard measures that it has too little processor time: how late its own timers fire, and how much processor
// and how many processes its control group has. It only measures. Lease decides what follows (R2).
//
// Cost: while a child runs the guard wakes about 27 times a second, which is some hundredths of a percent of one
// processor.

import Clock

/// The guard's own timer, whose lateness is the measure.
struct Beat {
    /// Not a divisor of 100 ms, the usual period of a CPU limit. Otherwise it would always look at the same part of
    /// the period.
    static let interval = Duration.milliseconds(37)

    private var due: Instant?
    private var latest = Duration.zero
    private var latestBefore = Duration.zero

    /// Milliseconds to wait at most; -1 for ever.
    func pause(at now: Instant) -> Int32 {
        guard let due else { return -1 }
        return due <= now ? 0 : Int32(clamping: due.since(now).milliseconds + 1)
    }

    /// To be called at every wake. It runs only while a child may have to be killed in time.
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

    /// The worst since the report before the last. So the next report replaces one that was lost.
    mutating func report() -> Duration {
        let worst = max(latest, latestBefore)
        latestBefore = latest
        latest = .zero
        return worst
    }
}
