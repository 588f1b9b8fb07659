// Every single death that concerns the guard, one row of the design's table a test or more: keeper killed, keeper stopped,
// guard killed, guard stopped, nonsense on the channel. In each the tree must die, and nothing else must.

import Clock
import Glibc
import TestSupport
import Testing

@testable import Guard

extension RealTrees {
    @Suite struct WhoIsGoneTests {
        @Test(arguments: ["plain", "stubborn", "daemon", "sessions", "subreaper", "session-chains"])
        func `keeper killed: the guard kills the tree and exits`(_ shape: String) async throws {
            let forks = "/dev/shm/guard-test-\(getpid())-who"
            defer { unlink(forks) }
            let host = try Host([builtProduct("TreeShapes"), shape, forks])
            await host.startShape()
            host.signal(SIGKILL)
            // The guard first: its end says more than a look at the tree, whose processes may be gone before one can look.
            await host.guardDies()
            await host.treeDies()
        }

        @Test func `keeper's whole group killed: the guard is not in it`() async throws {
            let host = try Host([builtProduct("TreeShapes"), "daemon"])
            await host.startShape()
            host.signalGroup(SIGKILL)
            await host.treeDies()
            await host.guardDies()
        }

        @Test func `keeper killed before it ordered anything: the guard exits`() async throws {
            let host = try Host(["true"])
            await host.hears("ready")
            host.signal(SIGKILL)
            await host.guardDies()
        }

        @Test func `keeper stopped: the deadline kills, and is told afterwards`() async throws {
            let host = try Host([builtProduct("TreeShapes"), "daemon"])
            await host.startShape(milliseconds: 600)
            host.signal(SIGSTOP)
            await host.treeDies()
            host.signal(SIGCONT)
            await host.hears("empty 1")
            #expect(host.story == ["started", "killing 1 deadline", "exited 1 9", "empty 1"])
        }

        @Test func `keeper that does not read: what happened to the child is not lost`() async throws {
            let host = try Host([builtProduct("TreeShapes"), "daemon"])
            await host.startShape(milliseconds: 3000)
            host.order("deaf")
            host.order("flood")
            await host.treeDies()
            host.order("hear")
            await host.hears("empty 1")
            #expect(host.story == ["started", "killing 1 deadline", "exited 1 9", "empty 1"])
            host.order("ping 99")
            await host.hears("pong 99")
        }

        @Test func `guard killed: the kernel kills the command, the keeper the rest`() async throws {
            let host = try Host([builtProduct("TreeShapes"), "stubborn"])
            await host.startShape()
            #expect(host.tree.count == 3)
            kill(host.guardPid, SIGKILL)
            await host.eventually("the command to be dead") { !ProcessTable.isAlive(host.commandPid) }
            await host.hears("closed")
            #expect(host.tree.count == 2, "these are the keeper's to kill")
            host.order("sweep")
            await host.hears("swept")
            #expect(host.tree.isEmpty)
        }

        @Test(arguments: ["daemon", "subreaper", "wide", "session-chains", "session-bomb"])
        func `guard killed: whatever the tree, the keeper's sweep ends it`(_ shape: String) async throws {
            let forks = "/dev/shm/guard-test-\(getpid())-who"
            defer { unlink(forks) }
            let host = try Host([builtProduct("TreeShapes"), shape, forks])
            await host.startShape()
            kill(host.guardPid, SIGKILL)
            await host.hears("closed")
            host.order("sweep")
            // How many rounds it takes to outrun a bomb is chance: on two noisy cores 18 s were seen.
            await host.hears("swept", within: .seconds(120))
            #expect(host.tree.isEmpty)
        }

        @Test(arguments: ["deep", "daemon", "sessions", "groups", "subreaper"])
        func `guard killed, no children files: the keeper's sweep ends it`(_ shape: String) async throws {
            let host = try Host([builtProduct("TreeShapes"), shape])
            await host.startShape()
            kill(host.guardPid, SIGKILL)
            await host.hears("closed")
            host.order("sweep-by-scan")
            await host.hears("swept")
            #expect(host.tree.isEmpty)
        }

        @Test func `guard killed with orders unread: what it had said is still heard`() async throws {
            let host = try Host([builtProduct("TreeShapes"), "daemon"])
            await host.startShape()
            host.order("deaf")
            host.order("kill 1")
            await host.treeDies()
            host.order("ping 1")
            host.order("settle")
            await host.hears("settled")
            await host.eventually("the guard to have said all") { ProcessTable.isSettled(host.guardPid) }
            kill(host.guardPid, SIGSTOP)
            host.order("ping 2")
            host.order("settle")
            await host.eventually("the order to be sent") {
                host.line("settled") != nil && host.lines.filter { $0.text == "settled" }.count == 2
            }
            kill(host.guardPid, SIGKILL)
            await host.guardDies()
            host.order("hear")
            await host.hears("closed")
            #expect(host.story == ["started", "killing 1 ordered", "exited 1 9", "empty 1", "closed"])
        }

        @Test func `guard stopped: the keeper kills it and clears up`() async throws {
            let host = try Host([builtProduct("TreeShapes"), "daemon"])
            await host.startShape()
            kill(host.guardPid, SIGSTOP)
            host.order("ping 5")
            await host.hears("done")
            #expect(host.line("pong 5") == nil)
            host.order("kill-guard")
            host.order("sweep")
            await host.hears("swept")
            #expect(host.tree.isEmpty)
        }

        @Test(arguments: [SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGPIPE, SIGALRM, SIGSEGV])
        func `a stray signal does not make the guard drop its tree`(_ number: Int32) async throws {
            let host = try Host([builtProduct("TreeShapes"), "plain"])
            await host.startShape()
            kill(host.guardPid, number)
            host.order("ping 5")
            await host.hears("pong 5")
            #expect(ProcessTable.isAlive(host.commandPid))
        }

        /// A byte, an order that does not exist, and a ping of another version.
        static let nonsense = [
            "00", "53 43 47 \(Wire.version) ff", "53 43 47 \(Wire.version + 1) 01 00 00 00 00 00 00 00 00",
        ]

        @Test(arguments: nonsense)
        func `nonsense on the channel: the guard kills the tree and exits`(_ bytes: String) async throws {
            let host = try Host([builtProduct("TreeShapes"), "daemon"])
            await host.startShape()
            host.order("raw " + bytes)
            await host.hears("closed")
            #expect(host.story == ["started", "killing 1 nonsense", "exited 1 9", "empty 1", "closed"])
            #expect(host.tree.isEmpty)
            await host.guardDies()
        }

        @Test func `channel closed by a living keeper: the guard kills the tree and exits`() async throws {
            let host = try Host([builtProduct("TreeShapes"), "daemon"])
            await host.startShape()
            host.order("shut")
            await host.treeDies()
            await host.guardDies()
        }

        @Test func `the keeper's sweep can spare its guard`() async throws {
            let host = try Host([builtProduct("TreeShapes"), "plain"])
            await host.startShape()
            host.order("spawn sleep 1000")
            let hook = await host.hears("spawned ").split(separator: " ").last.flatMap { pid_t($0) } ?? -1
            host.order("sweep-others")
            await host.hears("swept")
            #expect(!ProcessTable.isAlive(hook))
            host.order("ping 5")
            await host.hears("pong 5")
            #expect(host.tree.count == 2)
        }
    }
}
