// The arithmetic below every deadline: nanoseconds of a duration and the time between two instants, at the ends of their scales.

import Clock
import Testing

@Suite struct DurationTests {
    private static let cases: [(Duration, Int64)] = [
        (.zero, 0), (.nanoseconds(1), 1), (.nanoseconds(-1), -1), (.milliseconds(-1500), -1_500_000_000),
        (.seconds(9), 9_000_000_000), (.seconds(-9), -9_000_000_000), (.seconds(10), 10_000_000_000),
        (exact(-3600, -1_000_000_000), -3_600_000_000_001),
        // 2^63 attoseconds, on either side of it.
        (exact(9, 223_372_036_854_775_807), 9_223_372_036), (exact(9, 223_372_036_854_775_808), 9_223_372_036),
        (exact(-9, -223_372_036_854_775_809), -9_223_372_036),
        // Below a nanosecond: towards zero.
        (exact(0, 999_999_999), 0), (exact(0, -999_999_999), 0),
        // Cut: some 146 years of whole seconds.
        (.seconds(Int64.max), 4_611_686_018_000_000_000), (.seconds(-Int64.max), -4_611_686_018_000_000_000),
    ]

    private static func exact(_ seconds: Int64, _ attoseconds: Int64) -> Duration {
        Duration(secondsComponent: seconds, attosecondsComponent: attoseconds)
    }

    @Test(arguments: cases)
    func nanosecondsOfADuration(_ duration: Duration, _ nanoseconds: Int64) {
        #expect(duration.nanoseconds == nanoseconds)
    }

    @Test func theTimeBetweenTwoInstants() {
        let early = Instant(nanoseconds: 5)
        let late = Instant(nanoseconds: 12_000_000_000)
        #expect(late.since(early) == .nanoseconds(11_999_999_995))
        #expect(early.since(late) == .nanoseconds(-11_999_999_995))
        let first = Instant(nanoseconds: .min)
        let last = Instant(nanoseconds: .max)
        #expect(last.since(first) == .nanoseconds(Int64.max) + .nanoseconds(Int64.max) + .nanoseconds(1))
    }

    @Test func anInstantStopsAtTheEndsOfTheScale() {
        #expect(Instant(nanoseconds: .max) + .seconds(1) == Instant(nanoseconds: .max))
        #expect(Instant(nanoseconds: .min) - .seconds(1) == Instant(nanoseconds: .min))
        #expect(Instant(nanoseconds: 7) - .nanoseconds(8) == Instant(nanoseconds: -1))
    }
}
