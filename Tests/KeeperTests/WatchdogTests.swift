// The watchdog ends a process whose loop does not turn, and no other. Each case runs in a process of its own.

import Clock
import Glibc
import Testing

@testable import Keeper

@Suite("Watchdog") struct WatchdogTests {
    @Test("A loop that hangs for a TTL ends the process") func hanging() async {
        await #expect(processExitsWith: .exitCode(ExitCode.loopHung)) {
            let watchdog = Watchdog()
            try watchdog.start(ttl: .milliseconds(200)) { _exit(ExitCode.loopHung) }
            watchdog.beat()
            poll(nil, 0, 30_000)
            _exit(0)
        }
    }

    @Test("A loop that turns does not") func turning() async {
        await #expect(processExitsWith: .exitCode(7)) {
            let watchdog = Watchdog()
            try watchdog.start(ttl: .seconds(1)) { _exit(ExitCode.loopHung) }
            for _ in 0..<300 {
                watchdog.beat()
                poll(nil, 0, 10)
            }
            _exit(7)
        }
    }

    @Test("Nor does one that is killing a dead guard's tree, however long that takes") func killing() async {
        await #expect(processExitsWith: .exitCode(7)) {
            let watchdog = Watchdog()
            try watchdog.start(ttl: .milliseconds(200)) { _exit(ExitCode.loopHung) }
            watchdog.retire()
            poll(nil, 0, 1_500)
            _exit(7)
        }
    }
}
