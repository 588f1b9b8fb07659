// The guard's promise (R1, R12): the child lives only while its deadline lies ahead, and its whole tree dies, whatever
// shape it has.

import Clock
import Glibc
import TestSupport
import Testing

extension RealTrees {
    @Suite struct DeadlineTests {
        static let shapes = [
            "plain", "deep", "stubborn", "sessions", "groups", "daemon", "stopped", "vfork", "subreaper", "headless",
            "wide",
        ]
        static let storms = ["chains", "session-chains", "bomb", "session-bomb"]

        @Test(arguments: shapes) func `kills every tree when ordered`(_ shape: String) async throws {
            let host = try Host([builtProduct("TreeShapes"), shape])
            await host.startShape()
            #expect(!host.tree.isEmpty)
            host.order("kill 1")
            await host.hears("empty 1")
            #expect(host.tree.isEmpty, "called empty over living processes")
            #expect(host.story == ["started", "killing 1 ordered", "exited 1 9", "empty 1"])
        }

        @Test(arguments: storms) func `kills trees that never stop forking`(_ shape: String) async throws {
            let forks = "/dev/shm/guard-test-\(getpid())-\(shape)"
            defer { unlink(forks) }
            let host = try Host([builtProduct("TreeShapes"), shape, forks])
            await host.startShape()
            await host.eventually("a thousand forks") { Self.count(forks) > 1000 }
            host.order("kill 1")
            await host.hears("empty 1")
            #expect(host.tree.isEmpty, "called empty over living processes")
            #expect(Self.count(forks) < 200_000, "the storm ended by itself: nothing was shown")
        }

        private static func count(_ file: String) -> Int64 {
            var count: Int64 = 0
            let descriptor = open(file, O_RDONLY)
            defer { close(descriptor) }
            _ = withUnsafeMutableBytes(of: &count) { read(descriptor, $0.baseAddress, $0.count) }
            return count
        }

        @Test(arguments: ["plain", "stubborn", "daemon", "stopped"])
        func `kills at the deadline, and not before`(_ shape: String) async throws {
            let host = try Host([builtProduct("TreeShapes"), shape])
            let sent = BootClock.now()
            await host.startShape(milliseconds: 700)
            await host.hears("killing 1 deadline")
            #expect((host.time(of: "killing") ?? sent).since(sent) >= .milliseconds(700))
            await host.hears("empty 1")
            #expect(host.tree.isEmpty)
        }

        @Test func `lives on while it is extended`() async throws {
            let host = try Host([builtProduct("TreeShapes"), "plain"])
            let sent = BootClock.now()
            await host.startShape(milliseconds: 1500)
            host.order("extend 1 2500")
            await host.hears("extended 1")
            await host.hears("killing 1 deadline")
            #expect((host.time(of: "killing") ?? sent).since(sent) >= .milliseconds(2500))
            await host.hears("empty 1")
        }

        @Test func `an order may bring the deadline nearer`() async throws {
            let host = try Host([builtProduct("TreeShapes"), "plain"])
            await host.startShape(milliseconds: 900_000)
            host.order("extend 1 1")
            await host.hears("extended 1")
            await host.hears("killing 1 deadline")
            await host.hears("empty 1")
            #expect(host.tree.isEmpty)
        }

        @Test func `accepts no extension once it kills`() async throws {
            let host = try Host([builtProduct("TreeShapes"), "sessions"])
            await host.startShape()
            host.order("kill 1")
            host.order("extend 1 900000")
            host.order("signal 1 18")
            await host.hears("empty 1")
            host.order("ping 3")
            await host.hears("pong 3")
            #expect(host.story == ["started", "killing 1 ordered", "exited 1 9", "empty 1"])
        }

        @Test func `a deadline met while its orders waited unread is not extended by them`() async throws {
            let host = try Host([builtProduct("TreeShapes"), "plain"])
            await host.startShape(milliseconds: 500)
            kill(host.guardPid, SIGSTOP)
            host.order("extend 1 900000")
            await host.hears("done")
            let passed = BootClock.now() + .milliseconds(500)
            await host.eventually("the deadline to pass") { BootClock.now() > passed }
            kill(host.guardPid, SIGCONT)
            await host.hears("empty 1")
            #expect(host.story == ["started", "killing 1 deadline", "exited 1 9", "empty 1"])
        }

        @Test func `kills what the command leaves behind`() async throws {
            let host = try Host([builtProduct("TreeShapes"), "daemon-left"])
            host.order("start 1 100000")
            await host.hears("empty 1")
            #expect(host.tree.isEmpty, "called empty over a living daemon")
            // Its name is missing where it was gone before it could be read.
            let said = host.line("leftBehind")
            #expect(said == "leftBehind 1 1 TreeShapes" || said == "leftBehind 1 1 ", "\(said ?? "nothing")")
            #expect(host.story == ["started", "killing 1 childExited", "exited 1 \(42 << 8)", "empty 1"])
        }

        @Test func `says empty only when the last process has truly ended`() async throws {
            let host = try Host([builtProduct("TreeShapes"), "slow-left"])
            await host.startShape()
            let processes = host.tree
            #expect(processes.count == 2)
            host.order("signal 1 15")
            await host.hears("empty 1")
            #expect(processes.filter { ProcessTable.isAlive($0) } == [], "called empty over a dying process")
        }

        @Test func `starts again after every kind of end`() async throws {
            let host = try Host([builtProduct("TreeShapes"), "daemon"])
            for generation in 1...5 {
                host.order("start \(generation) 100000")
                await host.hears("started \(generation)")
                host.order("kill \(generation)")
                await host.hears("empty \(generation)")
                #expect(host.tree.isEmpty)
            }
        }
    }
}
