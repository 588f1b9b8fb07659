// System calls that fail the guard, or lie to it: nothing may live on because of it (R1).

import Clock
import Glibc
import TestSupport
import Testing

extension RealTrees {
    @Suite struct FailingCallTests {
        private static func timerless(_ error: Int32) -> String {
            "exec \(builtProduct("StartHolder")) timerless \(error) \"$@\""
        }

        @Test func `a timer that cannot be set: nothing is started`() async throws {
            let host = try Host([builtProduct("TreeShapes"), "daemon"], prelude: Self.timerless(EINVAL))
            host.order("start 1 100000")
            await host.hears("empty 1")
            #expect(host.story == ["notStarted 1 cannotFork(errno: 22)", "empty 1"])
            #expect(host.tree.isEmpty)
        }

        @Test func `a timer that never goes off: the child dies at its deadline all the same`() async throws {
            let host = try Host([builtProduct("TreeShapes"), "daemon"], prelude: Self.timerless(0))
            let sent = BootClock.now()
            await host.startShape(milliseconds: 1500)
            // Nobody talks to the guard: what wakes it is its own.
            host.signal(SIGSTOP)
            await host.treeDies()
            host.signal(SIGCONT)
            await host.hears("empty 1")
            #expect((host.time(of: "killing") ?? sent).since(sent) >= .milliseconds(1500))
            #expect(host.story == ["started", "killing 1 deadline", "exited 1 9", "empty 1"])
        }
    }
}
