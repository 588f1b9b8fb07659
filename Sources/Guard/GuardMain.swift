// The guard process: sets itself up so that nothing but SIGKILL can end it, then waits in one poll(2) for the
// deadline, the keeper, exits and exec outcomes, and carries out what GuardMachine decides. Guarantee (R1): at every
// wake the clock is read first, so that no message that came too late can still lengthen a life.

import CLinux
import Clock
import Glibc
import Orders

/// Runs the guard on its end of the channel and never returns. Every signal is blocked already. The guard waits until
/// the other end of `gate` is closed. Before that, the keeper opens the guard's files in /proc.
func guardMain(channel: Int32, gate: Int32) -> Never {
    // Its own session: a signal to the keeper's group must not take both.
    guard setsid() >= 0 else { giveUp("setsid") }
    _ = clinux_set_name("sidecar-guard")
    let arguments = Arguments.take(title: "sidecar-guard")
    scrubEnvironment()
    var byte: UInt8 = 0
    while read(gate, &byte, 1) < 0, errno == EINTR {}
    // The child runs as the same user and must not get at what this process knows (ptrace(2), pidfd_getfd(2)).
    _ = clinux_set_dumpable(0)
    closeAllBut(channel)
    let priority = clinux_get_priority()
    comeFirst(from: priority)
    guard clinux_set_child_subreaper() == 0 else { giveUp("prctl(PR_SET_CHILD_SUBREAPER)") }
    guard var loop = GuardLoop(channel: channel, arguments: arguments, priority: priority) else {
        giveUp("signalfd or timerfd_create")
    }
    loop.run()
    _exit(0)
}

/// A guard that cannot do its duty exits. The keeper sees that.
private func giveUp(_ call: StaticString) -> Never {
    let reason = strerror(errno)
    for text in ["sidecar-guard: cannot guard: \(call): ", reason.map { String(cString: $0) } ?? "", "\n"] {
        _ = text.withCString { write(STDERR_FILENO, $0, strlen($0)) }
    }
    _exit(71)
}

/// R1: a guard that gets the processor later than its tree kills late. So it raises its own priority at its start, as
/// far as it may: with CAP_SYS_NICE, or within RLIMIT_NICE. Without either, only the child's lower priority helps.
private func comeFirst(from priority: Int32) {
    for nice in -20..<min(priority, 20) where clinux_set_priority(nice) == 0 { break }
    // In the machine's root group the kernel schedules each session as a whole (sched(7), autogroup). Against other
    // sessions, only this file sets its priority.
    let file = clinux_open("/proc/self/autogroup", O_WRONLY)
    guard file >= 0 else { return }
    _ = write(file, "-20", 3)
    close(file)
}

/// A guard that outlives its keeper must not keep the keeper's files open.
private func closeAllBut(_ channel: Int32) {
    let first = STDERR_FILENO + 1
    if channel > first, clinux_close_range(UInt32(first), UInt32(channel - 1)) != 0 {
        // Before Linux 5.9, or where a seccomp filter forbids it.
        for file in first..<channel { close(file) }
    }
    if clinux_close_from(channel + 1) != 0 {
        for file in (channel + 1)..<4096 { close(file) }
    }
}

private struct GuardLoop: ~Copyable {
    private let channel: Int32
    private let childSignal: Int32
    private let timer: Int32
    private let arguments: Arguments
    /// The nice value that the sidecar was started with.
    private let priority: Int32
    private let resources = Resources()
    private var beat = Beat()
    private var channelIsOpen = true
    private var buffer = [UInt8](repeating: 0, count: Wire.limit)
    private var machine = GuardMachine()
    private var outbox = Outbox()
    private var tree = Tree()
    private var start: ChildStart?
    private var cgroup: Cgroup?
    private var hunt: Hunt?

    /// A kill under way.
    private struct Hunt {
        var sweeps = 0
        /// A sweep is not complete yet.
        var isSweeping = false
        /// The command had ended by itself: what is killed now is what it left behind.
        let isForLeftovers: Bool
        /// How many of these were killed, and the first few that were seen.
        var leftBehind: UInt32 = 0
        var firstSeen: [SeenProcess] = []
        /// When to name those that do not die.
        var naming: Naming.Schedule

        /// How long to wait for exits before the next sweep, in milliseconds: none at first, then growing to 20.
        var pause: Int32 { isSweeping ? 0 : Int32(min(max(sweeps - 8, 0), 20)) }
    }

    init?(channel: Int32, arguments: Arguments, priority: Int32) {
        self.channel = channel
        self.arguments = arguments
        self.priority = priority
        var set = sigset_t()
        sigemptyset(&set)
        sigaddset(&set, SIGCHLD)
        childSignal = clinux_signalfd(&set)
        timer = clinux_boottime_timer()
        guard childSignal >= 0, timer >= 0 else { return nil }
    }

    /// Returns when the keeper and the tree are gone.
    mutating func run() {
        say(.ready)
        while machine.state != .left {
            wait()
            let now = BootClock.now()
            perform(machine.tick(now: now))
            beat.tick(now: now, isNeeded: machine.hasChild)
            learnOutcome()
            readChannel()
            while clinux_signalfd_read(childSignal) > 0 {}
            if hunt == nil { reap() }
            if hunt != nil { sweep() }
            flush()
        }
    }

    private func wait() {
        let channelEvents = outbox.isEmpty ? POLLIN : POLLIN | POLLOUT
        withUnsafeTemporaryAllocation(of: pollfd.self, capacity: 4) { set in
            set[0] = pollfd(fd: channelIsOpen ? channel : -1, events: Int16(channelEvents), revents: 0)
            set[1] = pollfd(fd: childSignal, events: Int16(POLLIN), revents: 0)
            // Without a deadline, a timer that has fired would make every wait return at once.
            set[2] = pollfd(fd: machine.deadline != nil ? timer : -1, events: Int16(POLLIN), revents: 0)
            set[3] = pollfd(fd: start?.outcome ?? -1, events: Int16(POLLIN), revents: 0)
            // If poll(2) itself fails, the loop must go on, but without using the whole processor.
            let pauses = [untilDeadline, beat.pause(at: BootClock.now())].filter { $0 >= 0 }
            if poll(set.baseAddress, 4, hunt?.pause ?? pauses.min() ?? -1) < 0, errno != EINTR { usleep(5000) }
        }
    }

    /// In milliseconds, rounded up; -1 without a deadline. The timer fires first. This is a second line of defence if
    /// the timer fails.
    private var untilDeadline: Int32 {
        guard let deadline = machine.deadline else { return -1 }
        return Int32(clamping: max(deadline.since(BootClock.now()).milliseconds, 0) + 1)
    }

    private mutating func readChannel() {
        // Bounded: a flood of orders must not keep the guard from its tree.
        for _ in 0..<64 where channelIsOpen {
            let packet = Channel.receive(from: channel, into: &buffer)
            let now = BootClock.now()
            switch packet {
            case .nothing: return
            case .bytes(let count):
                guard let order = Wire.decodeOrder(buffer.prefix(count)) else {
                    perform(machine.nonsense())
                    continue
                }
                perform(machine.order(order, now: now))
            case .closed:
                channelIsOpen = false
                perform(machine.keeperGone())
            case .tooLong: perform(machine.nonsense())
            }
        }
    }

    private mutating func perform(_ actions: [GuardMachine.Action]) {
        for action in actions {
            switch action {
            case .say(let answer):
                switch answer {
                case .pong, .extended: say(.strained(resources.strain(lateness: beat.report())))
                default: break
                }
                say(answer)
            case .fork(let id, let deadline, let index, let environment):
                fork(id, deadline, index, environment)
            case .wake(let instant): if !setTimer(instant) { perform(machine.timerFailed()) }
            case .signal(let pid, let number): Glibc.kill(pid, number)
            case .kill: beginHunt()
            case .leave: break  // The loop sees it in the machine's state.
            }
        }
    }

    /// Without the timer a child could outlive its deadline (R1).
    private func setTimer(_ instant: Instant) -> Bool {
        clinux_boottime_timer_set(timer, max(instant.nanoseconds, 1)) == 0
    }

    private mutating func fork(_ id: StartID, _ deadline: Instant, _ index: Int, _ environment: [String]) {
        guard tree.isUsable else { return perform(machine.forkFailed(.cannotFork(errno: ENOTDIR))) }
        guard setTimer(deadline) else { return perform(machine.forkFailed(.cannotFork(errno: errno))) }
        cgroup = Cgroup(name: Cgroup.name(guard: getpid(), id))
        start = ChildStart(
            arguments: arguments, deadline: deadline, commandIndex: index, environment: environment, cgroup: cgroup,
            place: ChildStart.Place(
                nice: priority + machine.handicap.nice, oomScoreIncrease: machine.handicap.oomScore))
        guard let start else {
            let number = errno
            removeCgroup()
            return perform(machine.forkFailed(.cannotFork(errno: number)))
        }
        perform(machine.forked(pid: start.pid))
    }

    /// Whether the child's exec has succeeded or failed, if that is known by now.
    private mutating func learnOutcome() {
        switch start?.poll() {
        case nil, .unknown: return
        case .executed:
            forgetStart()
            perform(machine.executed())
        case .failed(let reason):
            forgetStart()
            perform(machine.executionFailed(reason))
        }
    }

    private mutating func forgetStart() {
        if let start { close(start.outcome) }
        start = nil
    }

    private mutating func reap() {
        let command = machine.commandPid
        var ended: Int32?
        tree.reap { pid, status in
            if pid == command { ended = status }
        }
        guard let command, let ended else { return }
        // Its exec may have failed since the last look. Then the failure is reported, not an exit.
        learnOutcome()
        perform(machine.reaped(pid: command, status: ended))
    }

    private mutating func beginHunt() {
        guard hunt == nil else { return }
        // What becomes of its exec no longer matters, and the pipe may stay open for long (an exec can hang).
        forgetStart()
        hunt = Hunt(isForLeftovers: machine.isAfterExit, naming: Naming.Schedule(from: BootClock.now()))
        // The first kills need no look at /proc, which takes long on a machine with many processes. The command is
        // not reaped, so both its pid and the process group of that number are still its own.
        if let command = machine.commandPid {
            Glibc.kill(-command, SIGKILL)
            Glibc.kill(command, SIGKILL)
        }
        cgroup?.killAll()
    }

    private mutating func sweep() {
        let command = machine.commandPid
        var ended: Int32?
        var killed: UInt32 = 0
        let progress = tree.sweep { pid, status in
            if pid == command {
                ended = status
            } else if clinux_signaled(status) != 0, clinux_term_signal(status) == SIGKILL {
                killed += 1
            }
        }
        if let command, let ended { perform(machine.reaped(pid: command, status: ended)) }
        hunt?.isSweeping = progress == .unfinished
        guard progress != .unfinished else { return }
        hunt?.sweeps += 1
        if hunt?.isForLeftovers == true {
            hunt?.leftBehind += killed
            if hunt?.firstSeen.isEmpty == true { hunt?.firstSeen = tree.survivors }
        }
        guard progress == .empty else { return nameSurvivors() }
        let leftBehind = (hunt?.leftBehind ?? 0, hunt?.firstSeen ?? [])
        hunt = nil
        // Otherwise the timer would fire for a start that is over, and make every wait return at once.
        _ = clinux_boottime_timer_set(timer, 0)
        removeCgroup()
        perform(machine.treeEmpty(leftBehind: leftBehind))
    }

    /// Reports what has survived SIGKILL for a while: it is in state D, or belongs to another user.
    private mutating func nameSurvivors() {
        guard hunt?.naming.isDue(at: BootClock.now()) == true, !tree.remains.isEmpty else { return }
        perform(machine.survivors(tree.remains))
    }

    private mutating func removeCgroup() {
        cgroup?.remove()
        cgroup = nil
    }

    private mutating func say(_ answer: Answer) {
        outbox.put(answer)
        flush()
    }

    private mutating func flush() {
        guard channelIsOpen else { return outbox.clear() }
        outbox.flush { Channel.send($0, to: channel) }
    }
}
