// One run of a helper program, on a thread of its own: starts it, collects what it prints, and ends it at its limits.
// It waits in poll(2) for three things at once: output, the program's end, and being cancelled.

import CLinux
import Clock
import Glibc

/// Asks a run to end. Safe to use from any thread, also when the run has ended.
package final class HelperCancellation: Sendable {
    /// An eventfd that is never lowered; -1 if there was no descriptor left.
    let flag = EventFlag.make()

    deinit { if flag >= 0 { close(flag) } }

    /// Kills the program; its result is `.cancelled`, unless it has just ended.
    package func cancel() { EventFlag.raise(flag) }
}

/// Runs one program to its end; all of it on the calling thread.
struct HelperRun: ~Copyable {
    /// How long the result waits for a killed program to be gone. One in uninterruptible sleep is not gone soon.
    private static let patience = Duration.seconds(1)
    /// How often a program is looked at where the kernel gives no pidfd.
    private static let look = Duration.milliseconds(5)

    private let program: HelperProgram
    private let cancellation: HelperCancellation
    private let process: HelperProcess
    /// The end of the pipe that the program's output comes out of.
    private let pipe: Int32
    private let deadline: Instant
    private var output: [UInt8] = []
    private var isOpen = true

    /// Starts the program.
    /// - Throws: why it could not be started.
    init(_ program: HelperProgram, _ cancellation: HelperCancellation) throws(HelperProcess.SpawnError) {
        deadline = BootClock.now() + program.timeLimit
        guard cancellation.flag >= 0 else { throw HelperProcess.SpawnError(number: EMFILE) }
        var ends: [Int32] = [-1, -1]
        guard clinux_pipe(&ends, 0) == 0 else { throw HelperProcess.SpawnError(number: errno) }
        defer { close(ends[1]) }
        do {
            process = try HelperProcess(program, output: ends[1])
        } catch {
            close(ends[0])
            throw error
        }
        self.program = program
        self.cancellation = cancellation
        pipe = ends[0]
        _ = clinux_set_nonblocking(pipe)
    }

    deinit { close(pipe) }

    /// Runs it until it has ended or is killed. At the return nothing of its group lives, unless it could not be
    /// killed.
    mutating func result() -> HelperResult {
        let end = waitForEnd()
        // Before it is reaped: its group's number is nobody else's yet.
        process.kill()
        let limit = BootClock.now() + Self.patience
        while process.look() == .alive, BootClock.now() < limit {
            wait(for: process.descriptor, until: limit, heedCancellation: false)
        }
        return HelperResult(end, output: output)
    }

    /// Reaps it, however long it takes to be gone.
    func reap() { process.reap() }

    private mutating func waitForEnd() -> HelperResult.End {
        while true {
            if hasBeenCancelled { return .cancelled }
            if isOpen {
                read()
                if output.count > program.outputLimit {
                    output.removeLast(output.count - program.outputLimit)
                    return .printedTooMuch(limit: program.outputLimit)
                }
            }
            if !isOpen {
                switch process.look() {
                case .alive: break
                case .ended(let end): return end
                }
            }
            guard BootClock.now() < deadline else { return .tookTooLong(limit: program.timeLimit) }
            wait(for: isOpen ? pipe : process.descriptor, until: deadline)
        }
    }

    private var hasBeenCancelled: Bool {
        var entry = pollfd(fd: cancellation.flag, events: Int16(POLLIN), revents: 0)
        return poll(&entry, 1, 0) > 0
    }

    /// Takes what is in the pipe, a little more than it may hold at most.
    private mutating func read() {
        var buffer = [UInt8](repeating: 0, count: 4096)
        while output.count <= program.outputLimit {
            let count = Glibc.read(pipe, &buffer, buffer.count)
            if count > 0 {
                output += buffer.prefix(count)
            } else if count == 0 || errno != EAGAIN && errno != EINTR {
                isOpen = false
                return
            } else {
                return
            }
        }
    }

    /// Waits for that descriptor or until then, or for the cancellation as well, which is told for ever.
    private func wait(for descriptor: Int32, until limit: Instant, heedCancellation: Bool = true) {
        let now = BootClock.now()
        let left = (descriptor >= 0 ? limit : min(limit, now + Self.look)).since(now)
        var entries = [
            pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0),
            pollfd(fd: heedCancellation ? cancellation.flag : -1, events: Int16(POLLIN), revents: 0),
        ]
        poll(&entries, 2, left <= .zero ? 0 : Int32(clamping: left.milliseconds + 1))
    }
}
