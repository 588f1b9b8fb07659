// Reads CLOCK_BOOTTIME. Only rooms that act (Guard, Postgres, Sidecar) may use it; Lease is given instants.

import Glibc

/// The machine's `CLOCK_BOOTTIME`, which also counts while the machine sleeps (clock_gettime(2)).
public enum BootClock {
    /// Now. If the clock cannot be read (a seccomp filter), the latest instant there is: every deadline has passed
    /// then, because without a clock no child may live (R1).
    public static func now() -> Instant {
        var time = timespec()
        guard clock_gettime(CLOCK_BOOTTIME, &time) == 0 else { return Instant(nanoseconds: .max) }
        return Instant(nanoseconds: Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec))
    }
}
