// The process of one helper program: started, looked at, killed with its group, and reaped, all by one thread.
//
// Who may wait for whom in this process. A child belongs to the thread that started it, and only that thread waits for
// it (__WNOTHREAD, wait4(2)). The main thread has the guard, and every orphan that falls to the keeper because it is a
// subreaper: `Tree` in Guard reaps those. Each helper program has a thread of its own, which reaps it here. So the loop
// cannot take a helper program's end from the thread that waits for it, and a sweep after the guard's death neither
// kills a helper program nor waits for one. No pid is signalled by a thread while another could reap it.

import CLinux
import Glibc

/// A child of the thread that made this value, which must not end before the child is reaped: else the child falls to
/// the main thread and counts as part of the command's tree.
struct HelperProcess: ~Copyable {
    /// Also its group's. Nobody else's as long as it has not been reaped.
    private let pid: pid_t
    /// Its pidfd, for poll(2): readable when it has ended. -1 where there is none.
    let descriptor: Int32

    /// What is known of it.
    enum State: Equatable {
        case alive
        /// Not reaped, or not this thread's child (`.lost`).
        case ended(HelperResult.End)
    }

    /// Starts a program whose output goes to that descriptor, with no signal blocked, and none ignored that this
    /// program ignores (main.swift).
    /// - Throws: posix_spawnp(3)'s error number.
    init(_ program: HelperProgram, output: Int32) throws(SpawnError) {
        // Were it inherited as ignored, nobody would be told how the program ended.
        guard clinux_default_signal(SIGCHLD) == 0 else { throw SpawnError(number: errno) }
        // What this process was given by whoever started it is the command's, and has reached it through the guard.
        _ = clinux_close_on_exec_from(STDERR_FILENO + 1)
        let (pid, number) = Self.spawn(program, output: output)
        guard number == 0 else { throw SpawnError(number: number) }
        self.pid = pid
        descriptor = clinux_pidfd_open(pid)
    }

    deinit { if descriptor >= 0 { close(descriptor) } }

    /// A posix_spawnp(3) that failed.
    struct SpawnError: Error { let number: Int32 }

    private static func spawn(_ program: HelperProgram, output: Int32) -> (pid: pid_t, error: Int32) {
        guard let name = program.words.first else { return (0, ENOENT) }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO)
        if case .collected = program.errors { posix_spawn_file_actions_adddup2(&actions, output, STDERR_FILENO) }
        posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0)
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var none = sigset_t()
        sigemptyset(&none)
        posix_spawnattr_setsigmask(&attributes, &none)
        var ours = sigset_t()
        sigemptyset(&ours)
        for number in [SIGPIPE, SIGXFSZ] { sigaddset(&ours, number) }
        posix_spawnattr_setsigdefault(&attributes, &ours)
        posix_spawnattr_setflags(
            &attributes, Int16(POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))
        posix_spawnattr_setpgroup(&attributes, 0)
        var words: [UnsafeMutablePointer<CChar>?] = program.words.map { strdup($0) } + [nil]
        var variables: [UnsafeMutablePointer<CChar>?] = (program.environment ?? []).map { strdup($0) } + [nil]
        defer { for pointer in words + variables { free(pointer) } }
        var pid: pid_t = 0
        let error =
            program.environment == nil
            ? posix_spawnp(&pid, name, &actions, &attributes, &words, clinux_environment())
            : posix_spawnp(&pid, name, &actions, &attributes, &words, &variables)
        return (pid, error)
    }

    /// Whether it has ended, without reaping it: until then its number, and its group's, is nobody else's.
    func look() -> State {
        var information = siginfo_t()
        guard clinux_look_at_child(pid, &information) == 0 else { return .ended(.lost(errno: errno)) }
        guard information.si_signo == SIGCHLD else { return .alive }
        let status = clinux_child_status(&information)
        return .ended(clinux_child_exited(&information) != 0 ? .exited(code: status) : .killed(signal: status))
    }

    /// Kills it and what is in its group. What runs as another user may stay.
    func kill() {
        // A number that is not kept for this thread may be anybody's.
        if case .ended(.lost) = look() { return }
        Glibc.kill(-pid, SIGKILL)
        // It may have gone into another group.
        Glibc.kill(pid, SIGKILL)
    }

    /// Reaps it. To be called once; blocks until it has ended.
    func reap() {
        var status: Int32 = 0
        while clinux_await_child(pid, &status) < 0, errno == EINTR {}
    }
}
