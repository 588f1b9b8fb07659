// One run of the keeper on the real system: it waits in poll(2), and nowhere else, and lets the loop turn; at the end
// it tidies up. It runs on one thread.

import Clock
import Glibc
import Guard
import Helpers
import Lease
import Outlets
import Settings
import Text

/// From start to exit code.
package struct KeeperRun: ~Copyable {
    /// How long the end waits for the outlets, such as the readiness files to be removed: a hanging disk must not hold
    /// it up.
    private static let farewellToOutlets: Int32 = 300
    /// How long the end waits for an idle guard to go home.
    private static let farewellToGuard: Int32 = 1000

    private var loop: KeeperLoop<SystemPorts>

    package init(
        settings: RunSettings, guardProcess: GuardProcess, commandIndex: Int, signals: KeeperSignals,
        watchdog: Watchdog, outlets: FanOut, helpers: HelperPrograms
    ) {
        loop = KeeperLoop(
            settings: settings.machine,
            ports: SystemPorts(settings: settings, signals: signals, watchdog: watchdog, outlets: outlets),
            guardLink: GuardLink(
                GuardHold(guardProcess), commandIndex: commandIndex, handicap: settings.handicap),
            database: DatabaseSession(settings: settings, helpers: helpers), listener: Listener(settings: settings))
    }

    /// Runs until there is a reason to end, and returns the exit code.
    package mutating func run() -> Int32 {
        loop.begin()
        while loop.ending == nil {
            wait()
            loop.turn()
        }
        loop.ports.outlets.close(waitingMilliseconds: Self.farewellToOutlets)
        dismissGuard(waitingMilliseconds: Self.farewellToGuard)
        return exitCode()
    }

    /// Sleeps until something may have happened.
    private func wait() {
        let now = BootClock.now()
        let until = min(loop.wake(at: now), now + loop.ports.settings.timing.longestLoopWait)
        let link = loop.guardLink
        var entries = [
            pollfd(fd: loop.ports.signals.descriptor, events: Int16(POLLIN), revents: 0),
            // -1 when there is nothing more to hear.
            pollfd(
                fd: link.isAlive ? link.port.channel : -1,
                events: Int16(link.isWaitingForRoom ? POLLIN | POLLOUT : POLLIN), revents: 0),
        ]
        entries += (loop.database.session.pollDescriptors + loop.listener.pollDescriptors).map {
            pollfd(fd: $0.fd, events: $0.events, revents: 0)
        }
        let left = until.since(now)
        // Rounded up: waking just before the time would make the loop spin.
        let milliseconds = left <= .zero ? 0 : Int32(clamping: left.milliseconds + 1)
        poll(&entries, nfds_t(entries.count), milliseconds)
    }

    /// Sends an idle guard home and waits a moment for it, so that nothing outlives the keeper.
    private mutating func dismissGuard(waitingMilliseconds: Int32) {
        if loop.guardLink.isDead { return }
        loop.guardLink.port.close()
        for _ in 0..<max(1, waitingMilliseconds / 5) {
            if !loop.guardLink.reap().isEmpty { return }
            poll(nil, 0, 5)
        }
    }

    private mutating func exitCode() -> Int32 {
        guard let ending = loop.ending else { return Failure.software }
        let code = ExitCode.of(ending)
        loop.ports.outlets.tell(.ending(ending, exitCode: code), at: BootClock.now())
        return code
    }
}

/// The exit codes of `run`, besides those of sysexits.h for usage and configuration.
package enum ExitCode {
    static let guardLost: Int32 = 80
    package static let loopHung: Int32 = 81
    static let graceExceeded: Int32 = 82
    static let loginsRefused: Int32 = 83

    static func of(_ exit: Exit) -> Int32 {
        switch exit {
        case .stopped(killed: false): 0
        case .stopped(killed: true): graceExceeded
        case .childEnded(.code(let code)): code
        case .childEnded(.signal(let number)): 128 + number
        case .cannotExecute(errno: ENOENT): 127
        case .cannotExecute: 126
        case .guardLost: guardLost
        case .loginsRefused: loginsRefused
        case .databaseUnusable: Failure.configuration
        }
    }
}
