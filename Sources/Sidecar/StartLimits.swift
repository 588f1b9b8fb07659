// Resource limits that are too low to work with. Without a descriptor, the readiness file cannot be
// written, a new session cannot be opened, and the log may be lost. Without a stack, there is
// SIGSEGV. So `run` does not begin.

import Glibc
import Text

/// What `run` needs of its process's limits (setrlimit(2)).
enum StartLimits {
    /// Descriptors that must be free at the start. A leader has nine more than at the start, and
    /// needs a few more for a moment: for looking names up, reading certificates, running the
    /// command for credentials.
    static let descriptors = 24
    /// Every thread gets a stack of this size.
    static let stack: rlim_t = 256 * 1024

    /// What is too low; nil where nothing is.
    static func problem() -> Failure? {
        var limit = rlimit()
        if getrlimit(__rlimit_resource_t(RLIMIT_STACK.rawValue), &limit) == 0, limit.rlim_cur < stack {
            return Failure(
                code: Failure.operatingSystem,
                message:
                    "the stack limit is \(limit.rlim_cur / 1024) kB (ulimit -s), but \(stack / 1024) kB are needed: "
                    + "raise the limit, for example to 8192")
        }
        if getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 {
            let free = freeDescriptors(below: limit.rlim_cur)
            guard free < descriptors else { return nil }
            return Failure(
                code: Failure.operatingSystem,
                message:
                    "the limit of open files is \(limit.rlim_cur) (ulimit -n), which leaves \(free) free, but \(descriptors) are "
                    + "needed: raise the limit, for example to 1024")
        }
        return nil
    }

    /// The number of free descriptors, counted up to what is needed. Inherited descriptors use up the limit, too.
    private static func freeDescriptors(below limit: rlim_t) -> Int {
        var free = 0
        for descriptor in 0..<Int32(clamping: limit) where fcntl(descriptor, F_GETFD) < 0 {
            free += 1
            if free == descriptors { break }
        }
        return free
    }
}
