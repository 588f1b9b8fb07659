// How the guard starts the command, and what it tells of its life: its surroundings, its exit, orders to it.

import Clock
import Glibc
import TestSupport
import Testing

extension RealTrees {
    @Suite struct ChildTests {
        @Test func `is ready and answers pings`() async throws {
            let host = try Host(["true"])
            await host.hears("ready")
            host.order("ping 7")
            await host.hears("pong 7")
        }

        @Test func `tells the pid of the command and its exit status`() async throws {
            let host = try Host([builtProduct("TreeShapes"), "exit", "/dev/shm/\(getpid())-forks", "7"])
            host.order("start 1 100000")
            await host.hears("empty 1")
            #expect(host.story == ["started", "killing 1 childExited", "exited 1 \(7 << 8)", "empty 1"])
            unlink("/dev/shm/\(getpid())-forks")
        }

        @Test func `tells the signal that ended the command`() async throws {
            let host = try Host(["/bin/sh", "-c", "kill -6 $$"])
            host.order("start 1 100000")
            await host.hears("empty 1")
            #expect(host.story.contains { $0 == "exited 1 6" || $0 == "exited 1 134" })
        }

        @Test func `sends a signal to the command's own process`() async throws {
            let host = try Host([builtProduct("TreeShapes"), "exit-on-term"])
            await host.startShape()
            host.order("signal 1 15")
            await host.hears("exited 1 \(9 << 8)")
            await host.hears("empty 1")
        }

        @Test func `replaces and adds variables and keeps the others`() async throws {
            let host = try Host(["/bin/sh", "-c", "echo \"saw $KEPT $CHANGED $ADDED\""])
            host.order("start 1 100000 CHANGED=new ADDED=b=c")
            await host.hears("empty 1")
            #expect(host.line("saw") == "saw inherited new b=c")
        }

        @Test func `gives the command default signals, whatever was inherited`() async throws {
            let host = try Host(["/bin/cat", "/proc/self/status"])
            host.order("start 1 100000")
            await host.hears("empty 1")
            for name in ["SigBlk", "SigIgn", "SigCgt", "SigPnd", "ShdPnd"] {
                #expect(host.line(name)?.hasSuffix("\t0000000000000000") == true, "\(host.line(name) ?? "no \(name)")")
            }
        }

        @Test func `gives the command no open file but the standard three`() async throws {
            let host = try Host(["/bin/sh", "-c", "echo open /proc/$$/fd/*; exec sleep 1000"])
            host.order("start 1 100000")
            let open = await host.hears("open ").split(separator: " ").dropFirst().map {
                $0.split(separator: "/").last ?? ""
            }
            // The shell lists itself before it has opened anything but the directory.
            #expect(Set(open).isSubset(of: ["0", "1", "2", "3"]) && open.count <= 4, "\(open)")
            #expect(access("/proc/\(host.guardPid)/fd/9", F_OK) != 0, "the guard kept a file of its keeper's")
        }

        @Test func `runs the command in a session of its own, out of the guard's`() async throws {
            let host = try Host([builtProduct("TreeShapes"), "plain"])
            await host.startShape()
            #expect(getsid(host.commandPid) == host.commandPid)
            #expect(getsid(host.guardPid) == host.guardPid)
        }

        @Test(arguments: [("/nonexistent/command", ENOENT), ("/etc/passwd", EACCES), ("/etc", EACCES)])
        func `says why the command cannot be executed, then empty`(_ path: String, _ number: Int32) async throws {
            let host = try Host([path])
            host.order("start 1 100000")
            await host.hears("empty 1")
            #expect(host.story == ["notStarted 1 cannotExecute(errno: \(number))", "empty 1"])
            #expect(host.line("leftBehind") == nil)
            host.order("start 2 100000")
            await host.hears("empty 2")
        }

        @Test func `tells exits even where SIGCHLD was inherited as ignored`() async throws {
            let host = try Host(["/bin/sh", "-c", "exit 3"], prelude: "trap '' CHLD")
            await host.hears("ready")
            host.order("start 1 100000")
            await host.hears("empty 1")
            #expect(host.story == ["started", "killing 1 childExited", "exited 1 \(3 << 8)", "empty 1"])
        }

        @Test func `a closed standard stream does not let the command write into the channel`() async throws {
            let host = try Host(["/bin/sh", "-c", "echo junk >&2; exec sleep 1000"], prelude: "exec 2>&-")
            host.order("start 1 100000")
            await host.hears("started 1")
            host.order("ping 1")
            await host.hears("pong 1")
            await host.eventually("the shell to have written") {
                ProcessTable.text("/proc/\(host.commandPid)/comm") == "sleep\n"
            }
            host.order("ping 2")
            await host.hears("pong 2")
            #expect(host.story == ["started"])
            #expect(ProcessTable.isAlive(host.commandPid))
        }

        @Test func `does not start after the deadline`() async throws {
            let host = try Host(["/bin/echo", "ran"])
            host.order("start 1 -1")
            await host.hears("empty 1")
            #expect(host.story == ["notStarted 1 deadlinePassed", "empty 1"])
            #expect(host.line("ran") == nil)
        }

        @Test func `refuses a start over a living tree and leaves that alone`() async throws {
            let host = try Host([builtProduct("TreeShapes"), "plain"])
            await host.startShape()
            host.order("start 2 100000")
            await host.hears("notStarted 2 treeAlive")
            #expect(ProcessTable.isAlive(host.commandPid))
            host.order("kill 1")
            await host.hears("empty 1")
            host.order("start 1 100000")
            await host.hears("notStarted 1 stale")
            host.order("start 2 100000")
            await host.hears("started 2")
        }

        @Test func `ignores orders for another start`() async throws {
            let host = try Host([builtProduct("TreeShapes"), "exit-on-term"])
            await host.startShape()
            for order in ["kill 2", "kill 0", "extend 2 900000", "signal 2 15", "ping 1"] { host.order(order) }
            await host.hears("pong 1")
            #expect(host.story == ["started"])
            #expect(ProcessTable.isAlive(host.commandPid))
        }

        @Test func `shows ps neither the password nor the command`() async throws {
            let options = ["--database-url", "postgres://secret1", "--database-url=postgres://secret2"]
            let host = try Host(
                options: options, ["/bin/sh", "-c", "echo \"saw $2\"; sleep 1000", "sh", "--database-url", "kept"])
            await host.hears("ready")
            let shown = ProcessTable.text("/proc/\(host.guardPid)/cmdline")
            // `pkill -f` with words of the command must not find the guard.
            #expect(shown.split(separator: "\0") == ["sidecar-guard"])
            host.order("scrub")
            await host.hears("done")
            let kept = ProcessTable.text("/proc/\(host.pid)/cmdline")
            #expect(!kept.contains("secret") && kept.contains("--database-url\0***"))
            #expect(kept.contains("--database-url=***") && kept.contains("--database-url\0kept"))
            host.order("start 1 100000")
            await host.hears("saw kept")
        }
    }
}
