// A start that is held up between fork and exec for longer than the child may live (R1): in an exec that hangs, and before
// it, together with the guard.

import Clock
import Glibc
import TestSupport
import Testing

extension RealTrees {
    @Suite struct HeldStartTests {
        static let mayTrace: Bool = {
            var pid: pid_t = 0
            var arguments: [UnsafeMutablePointer<CChar>?] = [strdup(builtProduct("StartHolder")), nil]
            defer { free(arguments[0]) }
            var status: Int32 = -1
            guard posix_spawn(&pid, builtProduct("StartHolder"), nil, nil, &arguments, nil) == 0,
                waitpid(pid, &status, 0) == pid
            else { return false }
            return status == 0
        }()

        @Test(.enabled(if: mayTrace, "one process may not trace another here"))
        func `a child that comes to its exec after the deadline gives up`() async throws {
            let host = try Host(["/bin/echo", "ran"])
            await host.hears("ready")
            host.order("spawn \(builtProduct("StartHolder")) \(host.guardPid) 700")
            await host.hears("holder ready")
            host.order("start 1 400")
            await host.hears("holder held")
            // Nobody but the child itself could have done anything about it: its guard was still held.
            #expect(await host.hears("holder e") == "holder exited 127")
            await host.hears("empty 1")
            #expect(host.line("ran") == nil)
            #expect(host.story == ["notStarted 1 deadlinePassed", "empty 1"])
        }

        @Test func `an exec that hangs ends at the deadline`() async throws {
            let path = "/dev/shm/guard-test-\(getpid())-slow"
            defer { unlink(path) }
            let script = Array("#!/bin/sh\necho ran; exec sleep 1000\n".utf8)
            let writer = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0o755)
            _ = write(writer, script, script.count)
            close(writer)
            // A lease on the file (fcntl(2)): to open it, exec too, waits until its holder lets go.
            let (setLease, setSignal) = (Int32(1024), Int32(10))
            let file = open(path, O_RDONLY | O_CLOEXEC)
            try #require(fcntl(file, setSignal, SIGURG) == 0 && fcntl(file, setLease, F_WRLCK) == 0, "errno \(errno)")
            let host = try Host([path])
            let sent = BootClock.now()
            host.order("start 1 700")
            host.order("ping 1")
            await host.hears("pong 1")
            await host.hears("empty 1")
            #expect((host.time(of: "killing") ?? sent).since(sent) >= .milliseconds(700))
            #expect(host.story == ["killing 1 deadline", "exited 1 9", "empty 1"])
            #expect(host.line("ran") == nil)
            // Once it does not hang any more, the same guard starts it.
            close(file)
            host.order("start 2 100000")
            await host.hears("ran")
        }
    }
}
