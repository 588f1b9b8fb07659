// `sidecar check` warns in advance where a CPU limit leaves too little to kill a tree in time.

import Clock
import Guard
import Lease
import Testing

@testable import Sidecar

@Suite struct ProcessorAdviceTests {
    static func warning(_ thousandths: Int64, ttl: Duration, _ throttling: (Int64, Int64)? = nil) throws -> String? {
        let limit = try #require(Resources.Limit(quota: thousandths * 100, period: 100_000))
        return ProcessorAdvice(
            limit: limit, throttling: throttling.map { Resources.Throttling(periods: $0.0, throttled: $0.1) },
            timing: try Timing(ttl: ttl)
        ).warning
    }

    @Test func `a limit that leaves the margin enough is no reason to warn`() throws {
        #expect(try Self.warning(500, ttl: .seconds(10)) == nil)
        #expect(try Self.warning(500, ttl: .seconds(10), (1000, 20)) == nil)
        // A container that has only just begun says nothing yet.
        #expect(try Self.warning(500, ttl: .seconds(10), (5, 5)) == nil)
    }

    @Test func `a small limit with a short TTL warns, and says what to do`() throws {
        let warning = try #require(try Self.warning(100, ttl: .seconds(3)))
        #expect(warning.contains("CPU limit 100m"))
        #expect(warning.contains("raise the CPU limit or --ttl"))
    }

    @Test func `a container that waits in every third period warns`() throws {
        let warning = try #require(try Self.warning(500, ttl: .seconds(10), (300, 100)))
        #expect(warning.contains("33 %"))
    }
}
