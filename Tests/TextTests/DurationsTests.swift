// Durations as people write them.

import Clock
import Testing
import Text

@Suite("Durations") struct DurationsTests {
    @Test(
        "Durations read as people write them",
        arguments: [
            ("10s", 10_000), ("1500ms", 1500), ("5m", 300_000), ("1h", 3_600_000), ("0s", 0), ("2.5s", 2500),
            ("0.5m", 30_000),
        ])
    func durations(text: String, milliseconds: Int64) throws {
        let duration = try #require(Durations.parse(text))
        #expect(duration.milliseconds == milliseconds)
        #expect(Durations.parse(Durations.text(duration)) == duration)
    }

    @Test(
        "What is no duration is none",
        arguments: ["", "s", "10", "10 s", "-1s", "+1s", "1e3s", "infs", "nans", "0x1s", "1.2.3s", "10d"])
    func noDurations(text: String) { #expect(Durations.parse(text) == nil) }
}
