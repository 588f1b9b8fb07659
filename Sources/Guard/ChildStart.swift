// From the decision to start to the command's exec: the fork, what the new process does to itself before it becomes the
// command, and how it tells the guard if it does not. Guarantees: the command never runs without a parent-death signal,
// and never begins after its deadline (R1); the guard never waits for any of it.

import CLinux
import Clock
import Glibc
import Orders

/// A child between fork and a known outcome of its exec.
struct ChildStart {
    let pid: pid_t
    /// The read end of a pipe that the exec closes. If there is no exec, the reason comes through it.
    let outcome: Int32

    enum Outcome: Equatable {
        case unknown
        case executed
        case failed(NotStarted)
    }

    /// Where the command stands when processor or memory is short: behind keeper and guard.
    struct Place {
        /// Its nice value. Always set, because the guard's own priority is raised and the child must not inherit
        /// that.
        var nice: Int32
        var oomScoreIncrease: Int32
    }

    /// Forks; nil with errno if that failed.
    init?(
        arguments: Arguments, deadline: Instant, commandIndex: Int, environment: [String], cgroup: Cgroup?, place: Place
    ) {
        guard commandIndex > 0, commandIndex < arguments.count else {
            errno = EINVAL
            return nil
        }
        let variables = Environment.merged(additions: environment)
        defer { Environment.free(variables) }
        var ends: [Int32] = [-1, -1]
        guard clinux_pipe(&ends, O_NONBLOCK) == 0 else { return nil }
        let guardian = getpid()
        let pid = clinux_fork()
        if pid == 0 {
            let failure = becomeCommand(
                arguments.vector + commandIndex, variables, guardian: guardian, deadline: deadline, cgroup: cgroup,
                place: place)
            // Four bytes go into a pipe at once or not at all.
            withUnsafeBytes(of: failure) { _ = write(ends[1], $0.baseAddress, $0.count) }
            _exit(127)
        }
        let number = errno
        close(ends[1])
        guard pid > 0 else {
            close(ends[0])
            errno = number
            return nil
        }
        self.pid = pid
        outcome = ends[0]
    }

    /// The outcome so far. Not to be asked again once it is not `.unknown`.
    func poll() -> Outcome {
        var failure: Int32 = 0
        let count = withUnsafeMutableBytes(of: &failure) { read(outcome, $0.baseAddress, $0.count) }
        switch count {
        case 0: return .executed
        case MemoryLayout<Int32>.size:
            return .failed(failure == ChildStart.deadlinePassed ? .deadlinePassed : .cannotExecute(errno: failure))
        default: return errno == EAGAIN || errno == EINTR ? .unknown : .executed
        }
    }

    /// Stands for "the deadline had passed" in place of an errno. Every errno is positive.
    fileprivate static let deadlinePassed: Int32 = -1
}

/// Runs in the new process. Returns only if there was no exec, with the reason.
private func becomeCommand(
    _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>,
    _ environment: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>, guardian: pid_t, deadline: Instant,
    cgroup: Cgroup?, place: ChildStart.Place
) -> Int32 {
    // The parent-death signal comes first. Then check that the guard was still alive when it was set.
    guard clinux_set_parent_death_signal(SIGKILL) == 0 else { return errno }
    guard getppid() == guardian else { return ESRCH }
    // A session of its own, so that no group signal of the tree reaches the guard.
    guard setsid() >= 0 else { return errno }
    if let cgroup { _ = write(cgroup.processesFile, "0", 1) }
    take(place)
    for number in 1...highestSignal where number != SIGKILL && number != SIGSTOP && !staysIgnored(number) {
        _ = clinux_default_signal(number)
    }
    // Everything that the guard opened is close-on-exec already. This is for what a library may have opened
    // meanwhile.
    _ = clinux_close_on_exec_from(STDERR_FILENO + 1)
    var none = sigset_t()
    sigemptyset(&none)
    guard sigprocmask(SIG_SETMASK, &none, nil) == 0 else { return errno }
    // As late as possible, because this process may have been held up for any length of time (R1).
    guard BootClock.now() < deadline else { return ChildStart.deadlinePassed }
    _ = clinux_execvpe(arguments[0], arguments, environment)
    return errno
}

/// Whether this process was started with the signal ignored in the way that nohup(1) and a shell's `&` do, and mean
/// for the command. The guard itself changes no disposition of these.
private func staysIgnored(_ number: Int32) -> Bool {
    (number == SIGHUP || number == SIGINT || number == SIGQUIT) && clinux_ignores_signal(number) != 0
}

/// Best effort: a child with the wrong priority is better than no child.
private func take(_ place: ChildStart.Place) {
    _ = clinux_set_priority(min(place.nice, 19))
    guard place.oomScoreIncrease > 0 else { return }
    // This process is not dumpable, like the guard, so its files in /proc belong to root. It is dumpable for this
    // moment only.
    _ = clinux_set_dumpable(1)
    let file = clinux_open("/proc/self/oom_score_adj", O_RDWR)
    _ = clinux_set_dumpable(0)
    guard file >= 0 else { return }
    defer { close(file) }
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: 16) { text in
        guard let base = text.baseAddress else { return }
        let length = read(file, base, 15)
        guard length > 0 else { return }
        base[length] = 0
        let digits = clinux_print_number(base, 16, min(atoi(base) + place.oomScoreIncrease, 1000))
        _ = pwrite(file, base, Int(digits), 0)
    }
}

/// The kernel's highest signal (signal(7)); glibc's own macro is a call.
private let highestSignal: Int32 = 64

/// An environment in the form that exec wants.
private enum Environment {
    typealias Vector = UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>

    /// The inherited environment without the withheld variables. An addition replaces an inherited variable of the
    /// same name.
    static func merged(additions: [String]) -> Vector {
        var kept: [UnsafeMutablePointer<CChar>?] = additions.map { strdup($0) }
        if let inherited = clinux_environment() {
            var index = 0
            while let variable = inherited[index] {
                let isWithheld = withheldVariables.contains { haveSameName($0, variable) }
                if !isWithheld, !additions.contains(where: { haveSameName($0, variable) }) {
                    kept.append(strdup(variable))
                }
                index += 1
            }
        }
        let vector = Vector.allocate(capacity: kept.count + 1)
        vector.initialize(from: kept + [nil], count: kept.count + 1)
        return vector
    }

    static func free(_ vector: Vector) {
        var index = 0
        while let variable = vector[index] {
            Glibc.free(variable)
            index += 1
        }
        vector.deallocate()
    }

    private static func haveSameName(_ assignment: String, _ variable: UnsafePointer<CChar>) -> Bool {
        let name = assignment.utf8.prefix(while: { $0 != UInt8(ascii: "=") })
        return strncmp(assignment, variable, name.count + 1) == 0
    }
}
