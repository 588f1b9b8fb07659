// A name server that does not answer: nobody waits for it, and asking again and again costs nothing more.

import Clock
import Foundation
import Synchronization
import TestSupport
import Testing

@testable import Postgres

/// A resolver whose answer the test holds back.
private final class HeldResolver: Sendable {
    let calls = Mutex<[String]>([])
    let gate = DispatchSemaphore(value: 0)
    let answer: Resolver.Answer

    init(_ answer: Resolver.Answer) { self.answer = answer }

    var count: Int { calls.withLock { $0.count } }

    func resolver() -> Resolver {
        Resolver { [self] name in
            calls.withLock { $0.append(name) }
            gate.wait()
            return answer
        }
    }
}

@Suite struct ResolverTests {
    private let impatient = Limits(attempt: .milliseconds(100), connect: .milliseconds(250))

    @Test func aLookUpThatHangsIsLeftBehindAndNeverStartedTwice() throws {
        let held = HeldResolver(.success(["127.0.0.1"]))
        let resolver = held.resolver()
        for _ in 0..<5 {
            let session = try open("postgresql://u@slow.example/d", limits: impatient, resolver: resolver)
            let lost = try failure(session)
            #expect(lost.isResolution)
            #expect(lost.description.contains("slow.example:5432: the look-up of the host name has no answer yet"))
        }
        try eventually("the look-up runs") { held.count > 0 }
        #expect(held.count == 1)
        // Another name does not wait for it.
        let other = try open("postgresql://u@other.example/d", limits: impatient, resolver: resolver)
        try eventually("the other look-up runs") { held.count == 2 }
        other.close()
        held.gate.signal()
        held.gate.signal()
    }

    @Test func aLookUpThatNeverReturnsDoesNotBlockTheNameForEver() throws {
        let now = Mutex(Instant(nanoseconds: 1_000_000_000_000))
        let calls = Atomic(0)
        let stuck = DispatchSemaphore(value: 0)
        let heals = Atomic(false)
        let clock = { @Sendable in now.withLock { $0 } }
        let resolver = Resolver(clock: clock) { _ in
            calls.add(1, ordering: .relaxed)
            if !heals.load(ordering: .relaxed) { stuck.wait() }
            return .success(["127.0.0.1"])
        }
        func ask(after pause: Duration, calls expected: Int) throws -> LookUp {
            now.withLock { $0 = $0 + pause }
            let lookUp = resolver.lookUp("stuck.example")
            try eventually("\(expected) look-ups run") { calls.load(ordering: .relaxed) >= expected }
            #expect(calls.load(ordering: .relaxed) == expected)
            return lookUp
        }
        var abandoned = [try ask(after: .zero, calls: 1), try ask(after: .milliseconds(4_999), calls: 1)]
        abandoned.append(try ask(after: .milliseconds(1), calls: 2))
        abandoned.append(try ask(after: .milliseconds(29_999), calls: 2))
        // Once names can be looked up again, the next asked gets its answer although two are stuck.
        heals.store(true, ordering: .relaxed)
        let healed = try ask(after: .milliseconds(1), calls: 3)
        try eventually("an answer although two never return") { healed.answer != nil }
        #expect(abandoned.allSatisfy { $0.answer != nil }, "one answer is everybody's")
        #expect(try healed.answer?.get() == ["127.0.0.1"])
        let next = try ask(after: .zero, calls: 4)
        try eventually("the next is looked up at once") { next.answer != nil }
        for _ in 0..<2 { stuck.signal() }
    }

    @Test func lookUpsThatNeverReturnAreBoundedInNumber() throws {
        let now = Mutex(Instant(nanoseconds: 1_000_000_000_000))
        let held = HeldResolver(.success(["127.0.0.1"]))
        let clock = { @Sendable in now.withLock { $0 } }
        let resolver = Resolver(clock: clock) { name in
            held.calls.withLock { $0.append(name) }
            held.gate.wait()
            return held.answer
        }
        var expected = 0
        for (index, name) in ["a", "b", "c", "d", "e"].enumerated() {
            for _ in 0..<8 {
                _ = resolver.lookUp(name)
                now.withLock { $0 = $0 + .seconds(100_000) }
            }
            expected = index < 4 ? expected + Resolver.mostOfOneName : expected + 1
            try eventually("\(expected) look-ups run") { held.count >= expected }
            // A name's first is always started.
            #expect(held.count == expected)
        }
        for _ in 0..<expected { held.gate.signal() }
    }

    @Test func aLaterAttemptGetsTheOutstandingAnswer() throws {
        let server = try Shared.server.get()
        let held = HeldResolver(.success(["127.0.0.1"]))
        let resolver = held.resolver()
        let url = "postgresql://postgres@slow.example:\(server.port)/postgres"
        _ = try failure(open(url, limits: impatient, resolver: resolver))
        let session = try open(url, resolver: resolver)
        held.gate.signal()
        try session.connectAndWait()
        #expect(session.peer == "slow.example:\(server.port) (127.0.0.1)")
        #expect(held.count == 1)
        // Once answered, a name is looked up afresh: addresses change in a fail-over.
        held.gate.signal()
        #expect(try connected(url, resolver: resolver).isIdle)
        #expect(held.count == 2)
    }

    @Test func aHangingNameDoesNotKeepFromTheNextHost() throws {
        let server = try Shared.server.get()
        let held = HeldResolver(.failure(ResolveError(reason: "too late")))
        let limits = Limits(attempt: .seconds(1), connect: .seconds(60))
        let session = try connected(
            "postgresql://postgres@slow.example:\(server.port),127.0.0.1:\(server.port)/postgres", limits: limits,
            resolver: held.resolver())
        #expect(session.peer == "127.0.0.1:\(server.port)")
        held.gate.signal()
    }

    @Test func aGivenAddressIsNotLookedUp() throws {
        let server = try Shared.server.get()
        let session = try connected(
            "host=db.example hostaddr=127.0.0.1 port=\(server.port) user=postgres dbname=postgres",
            resolver: Resolver { name in
                Issue.record("\(name) was looked up")
                return .success([])
            })
        #expect(session.peer == "db.example:\(server.port) (127.0.0.1)")
    }

    @Test func abandonedLookUpsKeepNoDescriptors() throws {
        let held = HeldResolver(.success(["127.0.0.1"]))
        let resolver = held.resolver()
        weak var abandoned: LookUp?
        do {
            let lookUp = resolver.lookUp("slow.example")
            abandoned = lookUp
            #expect(fcntl(lookUp.descriptor, F_GETFD) >= 0)
        }
        #expect(abandoned == nil)
        let second = resolver.lookUp("slow.example")
        held.gate.signal()
        try eventually("the joined look-up is answered") { second.answer != nil }
    }
}
