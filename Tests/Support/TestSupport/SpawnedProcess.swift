// A process of a test: started in a session of its own, as a container's first process is, with nothing inherited but
// what is said, its output in a file, its end collected without blocking.

import Foundation
import Synchronization

/// Held while a descriptor exists that is not yet close-on-exec, and while a process is started, so that none inherits it.
let descriptorsAreSafe = Mutex(())

/// Makes a process or a thread, again for half a minute while the machine has no room for one more: another test may just be
/// killing a tree that forks as fast as it can. Returns the error number of the last try.
func patiently(_ make: () -> Int32) -> Int32 {
    let start = ContinuousClock.now
    while true {
        let error = make()
        guard error == EAGAIN, ContinuousClock.now - start < .seconds(30) else { return error }
        usleep(20_000)
    }
}

/// Calls `spawn` (a posix_spawn), which inherits no descriptor of ours, with patience.
func spawnPatiently(_ spawn: () -> Int32) -> Int32 { patiently { descriptorsAreSafe.withLock { _ in spawn() } } }

/// A process that a test started and must end.
public final class SpawnedProcess: Sendable {
    /// How a process ended.
    public enum Exit: Sendable, Equatable, CustomStringConvertible {
        case code(Int)
        case signal(Int)
        public var description: String {
            switch self {
            case .code(let code): "exit code \(code)"
            case .signal(let number): "killed by signal \(number)"
            }
        }
    }

    /// A process that could not be started.
    public struct Failure: Error, CustomStringConvertible { public let description: String }

    /// Its pid, which is its process group's too.
    public let pid: pid_t
    /// Where its standard output and error go.
    public let outputPath: String
    private let ending = Mutex<Exit?>(nil)

    /// Starts `command` (a path, then arguments) with exactly that environment. Standard input is empty; standard error
    /// goes to `errors`, a file, or where standard output goes.
    public init(_ command: [String], environment: [String: String], output: String, errors: String? = nil) throws {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_addopen(&actions, 1, output, O_WRONLY | O_CREAT | O_APPEND, 0o644)
        if let errors {
            posix_spawn_file_actions_addopen(&actions, 2, errors, O_WRONLY | O_CREAT | O_APPEND, 0o644)
        } else {
            posix_spawn_file_actions_adddup2(&actions, 1, 2)
        }

        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var none = sigset_t()
        sigemptyset(&none)
        var all = sigset_t()
        sigfillset(&all)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setsigdefault(&attributes, &all)
        // POSIX_SPAWN_SETSID: not in Swift's Glibc, but in glibc since 2.26.
        let newSession: Int32 = 0x80
        posix_spawnattr_setflags(&attributes, Int16(newSession | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))

        var pid: pid_t = 0
        let arguments = command.map { strdup($0) } + [nil]
        let variables = environment.map { strdup("\($0.key)=\($0.value)") } + [nil]
        defer { for pointer in arguments + variables { free(pointer) } }
        let error = spawnPatiently {
            posix_spawnp(&pid, command[0], &actions, &attributes, arguments, variables)
        }
        guard error == 0 else {
            throw Failure(description: "cannot start \(command[0]): \(String(cString: strerror(error)))")
        }
        self.pid = pid
        outputPath = output
        LastWill.add(pid)
    }

    deinit {
        guard exit == nil else { return }
        kill(pid, SIGKILL)
        waitpid(pid, nil, 0)
        LastWill.drop(pid)
    }

    /// How it ended; nil while it runs.
    public var exit: Exit? {
        ending.withLock { ending in
            if ending == nil {
                var status: Int32 = 0
                if waitpid(pid, &status, WNOHANG) == pid {
                    let signal = Int(status & 0x7f)
                    LastWill.drop(pid)
                    ending = signal == 0 ? .code(Int(status >> 8) & 0xff) : .signal(signal)
                }
            }
            return ending
        }
    }

    /// Sends a signal, unless it has ended (its pid may be somebody else's by then).
    public func signal(_ number: Int32) {
        if exit == nil { kill(pid, number) }
    }

    /// Waits for its end.
    public func waitForExit(timeout: Duration = .seconds(30)) throws -> Exit {
        try eventually("\(pid) ends", timeout: timeout) { exit != nil }
        return exit ?? .code(-1)
    }

    /// What it wrote so far.
    public var output: String {
        String(decoding: FileManager.default.contents(atPath: outputPath) ?? Data(), as: UTF8.self)
    }
}

/// A built program of this package.
public func builtProduct(_ name: String) -> String { builtProducts + "/" + name }

/// The folder of the built products: where this test bundle lies.
public let builtProducts: String = {
    let path = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? ""
    return String(path[..<(path.lastIndex(of: "/") ?? path.startIndex)])
}()
