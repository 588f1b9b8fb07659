// Looks host names up without blocking the caller: getaddrinfo(3) has no time limit and cannot be interrupted, so it
// runs on a thread of its own and reports through an eventfd. A caller that asks for the same name meanwhile joins
// the look-up. A look-up that never returns must not block its name forever: if it has taken long, the next call
// starts another one beside it, a few times.

import CLinux
import Clock
import Glibc
import Synchronization

/// Why a name has no address.
struct ResolveError: Error, Sendable, Equatable {
    let reason: String
}

/// The process's name look-ups.
final class Resolver: Sendable {
    typealias Answer = Result<[String], ResolveError>
    typealias Function = @Sendable (String) -> Answer

    /// How many look-ups of one name, and of all names, may be under way. Each look-up that never returns costs a
    /// thread forever.
    static let mostOfOneName = 4
    static let most = 16
    /// How long the first look-up of a name may take before a second is started. Each further one waits six times as
    /// long, so that not all of them get stuck in the same outage. By default the second starts after 5 s, the third
    /// after 30 s, the last after 3 minutes.
    static let patience = Duration.seconds(5)

    /// The one that all sessions share, so that these limits hold for the process.
    static let shared = Resolver(resolve: systemLookUp)

    private let resolve: Function
    private let clock: @Sendable () -> Instant
    private let outstanding = Mutex<[String: Name]>([:])

    /// A name that is being looked up.
    private struct Name: Sendable {
        var waiters: [Waiter] = []
        /// How many threads look it up; never 0.
        var threads = 0
        /// When another thread is started beside those that run.
        var nextAt: Instant
        /// How long the next thread gets before a further one is started.
        var patience: Duration
    }

    /// Weak, so that an abandoned look-up keeps no descriptor open.
    private struct Waiter: Sendable {
        weak let lookUp: LookUp?
    }

    /// `clock` is for tests.
    init(clock: @escaping @Sendable () -> Instant = BootClock.now, resolve: @escaping Function) {
        self.resolve = resolve
        self.clock = clock
    }

    /// Starts to look a name up, or joins the look-ups of that name already under way.
    func lookUp(_ host: String) -> LookUp {
        let lookUp = LookUp()
        let now = clock()
        let startsThread = outstanding.withLock { outstanding in
            let others = outstanding.values.reduce(0) { $0 + $1.threads }
            var name = outstanding[host] ?? Name(nextAt: now, patience: Self.patience)
            name.waiters = name.waiters.filter { $0.lookUp != nil } + [Waiter(lookUp: lookUp)]
            let isStuck = now >= name.nextAt && name.threads < Self.mostOfOneName && others < Self.most
            let starts = name.threads == 0 || isStuck
            if starts {
                name.threads += 1
                name.nextAt = now + name.patience
                name.patience = name.patience * 6
            }
            outstanding[host] = name
            return starts
        }
        if startsThread, !startThread({ [self] in finish(host, resolve(host)) }) {
            finish(host, .failure(ResolveError(reason: "cannot start a thread to look it up")))
        }
        return lookUp
    }

    /// One thread has an answer. It is passed to every caller that waits for this name.
    private func finish(_ host: String, _ answer: Answer) {
        let waiters = outstanding.withLock { outstanding in
            guard var name = outstanding[host] else { return [Waiter]() }
            let waiters = name.waiters
            name.waiters = []
            name.threads -= 1
            // The name is not stuck (any more), so the next look-up starts at once.
            name.nextAt = clock()
            name.patience = Self.patience
            outstanding[host] = name.threads > 0 ? name : nil
            return waiters
        }
        for waiter in waiters { waiter.lookUp?.deliver(answer) }
    }
}

/// One caller's share of a look-up.
///
/// Safe between the two threads: the answer is behind a mutex, and the descriptor is written to only through a strong
/// reference, so it cannot have been closed (or reused for something else) by then.
final class LookUp: Sendable {
    /// Readable once the answer is there; -1 when the process has no descriptor to spare.
    let descriptor: Int32
    private let result = Mutex<Resolver.Answer?>(nil)

    init() { descriptor = clinux_eventfd() }
    deinit { if descriptor >= 0 { close(descriptor) } }

    /// The answer, once there is one.
    var answer: Resolver.Answer? { result.withLock { $0 } }

    fileprivate func deliver(_ answer: Resolver.Answer) {
        result.withLock { $0 = answer }
        var one: UInt64 = 1
        write(descriptor, &one, MemoryLayout<UInt64>.size)
    }
}

/// Runs `body` on a detached thread; false if the system has none left (pthread_create(3)).
private func startThread(_ body: @escaping @Sendable () -> Void) -> Bool {
    final class Work: Sendable {
        let body: @Sendable () -> Void
        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }
    var attributes = pthread_attr_t()
    pthread_attr_init(&attributes)
    defer { pthread_attr_destroy(&attributes) }
    pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
    // The thread owns the retained work. It takes it over below, or the work is released if there is no thread.
    let work = Unmanaged.passRetained(Work(body))
    var thread = pthread_t()
    let result = pthread_create(
        &thread, &attributes,
        { context in
            // All signals are blocked: they are meant for the threads that wait for them, not for whichever thread
            // the kernel picks.
            var all = sigset_t()
            sigfillset(&all)
            pthread_sigmask(SIG_SETMASK, &all, nil)
            if let context { Unmanaged<Work>.fromOpaque(context).takeRetainedValue().body() }
            return nil
        }, work.toOpaque())
    if result != 0 { work.release() }
    return result == 0
}

/// getaddrinfo(3), as numeric addresses in its order of preference.
private func systemLookUp(_ host: String) -> Resolver.Answer { numericAddresses(host, flags: 0) }

/// The address itself if the host is one ("10.0.0.1", "::1", "fe80::1%eth0"), without a look-up.
func numericAddress(_ host: String) -> String? {
    guard case .success(let addresses) = numericAddresses(host, flags: AI_NUMERICHOST) else { return nil }
    return addresses.first
}

private func numericAddresses(_ host: String, flags: Int32) -> Resolver.Answer {
    var hints = addrinfo()
    hints.ai_family = AF_UNSPEC
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    hints.ai_flags = flags
    var list: UnsafeMutablePointer<addrinfo>?
    let error = getaddrinfo(host, nil, &hints, &list)
    guard error == 0 else {
        let system = error == EAI_SYSTEM ? ": " + String(cString: strerror(errno)) : ""
        return .failure(ResolveError(reason: String(cString: gai_strerror(error)) + system))
    }
    defer { freeaddrinfo(list) }
    var addresses: [String] = []
    var next = list
    while let entry = next?.pointee {
        var name = [CChar](repeating: 0, count: Int(NI_MAXHOST))
        if getnameinfo(entry.ai_addr, entry.ai_addrlen, &name, socklen_t(name.count), nil, 0, NI_NUMERICHOST) == 0 {
            let text = String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            if !addresses.contains(text) { addresses.append(text) }
        }
        next = entry.ai_next
    }
    return addresses.isEmpty ? .failure(ResolveError(reason: "it has no address")) : .success(addresses)
}
