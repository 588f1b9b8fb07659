// What the keeper does while the credentials are being read: it never waits for a reading, starts one at a time, and goes on with
// what was read last.

import Clock
import Foundation
import Postgres
import Synchronization
import TestSupport
import Testing
import Text

@testable import Keeper
@testable import Settings

@Suite("Credentials that change") struct CredentialFeedTests {
    /// Readings that a test lets return.
    private final class Held: Sendable {
        let started = Atomic(0)
        let gate = DispatchSemaphore(value: 0)
        let answer: SourceReading.Answer

        init(_ url: String) throws { answer = .success(try ConnectionSettings(url)) }

        func start() throws -> SourceReading {
            started.add(1, ordering: .relaxed)
            return try SourceReading { [self] in
                gate.wait()
                return answer
            }
        }

        var count: Int { started.load(ordering: .relaxed) }
    }

    private func source(_ renewal: DatabaseSource.Renewal) throws -> DatabaseSource {
        DatabaseSource(
            settings: try ConnectionSettings("postgresql://old:hunter2@h/d"), origin: "THE_SETTING", renewal: renewal)
    }

    private let file = DatabaseSource.Renewal.file(DatabaseURLFile(path: "/f", origin: "THE_SETTING"))

    @Test("A file that hangs is left alone, never read twice at once, and used when it comes back") func hangingFile()
        throws
    {
        let held = try Held("postgresql://new:hunter2@h/d")
        var feed = CredentialFeed(try source(file)) { try held.start() }
        for _ in 0..<5 {
            let waits = feed.prepare()
            let silence = feed.takeNews()
            #expect(waits && silence.isEmpty)
            feed.overdue(after: .seconds(2))
            let news = feed.takeNews()
            #expect(news == [.problem("THE_SETTING is not read within 2s: connecting with what was read last")])
            #expect(feed.settings.user == "old")
        }
        #expect(held.count == 1)
        held.gate.signal()
        try eventually("it comes back") { feed.takeNews() == [.changed(origin: "THE_SETTING")] }
        #expect(feed.settings.user == "new")
        #expect(!feed.isReading)
        let waits = feed.prepare()
        #expect(waits && held.count == 2)
        held.gate.signal()
    }

    @Test("A command is run after a refused login only, one at a time, with longer and longer pauses") func command()
        throws
    {
        let held = try Held("postgresql://old:hunter2@h/d")
        var feed = CredentialFeed(try source(.command)) { try held.start() }
        var now = Instant(nanoseconds: 1_000_000_000_000)
        let waits = feed.prepare()
        #expect(!waits && held.count == 0)
        var runs = 0
        func refuse(after pause: Duration, runs expected: Int) throws {
            now = now + pause
            feed.loginRefused(at: now)
            #expect(held.count == expected, "after \(pause)")
            guard expected > runs else { return }
            runs = expected
            // While it runs a connect waits for it, and no refusal starts another.
            let waits = feed.prepare()
            #expect(waits)
            feed.loginRefused(at: now + .seconds(1000))
            #expect(held.count == expected)
            held.gate.signal()
            try eventually("it ends") {
                _ = feed.takeNews()
                return !feed.isReading
            }
        }
        try refuse(after: .zero, runs: 1)
        for (index, seconds) in [2, 4, 8, 16, 32, 60, 60].enumerated() {
            try refuse(after: .seconds(seconds) - .nanoseconds(1), runs: index + 1)
            try refuse(after: .nanoseconds(1), runs: index + 2)
        }
        feed.loggedIn()
        try refuse(after: .zero, runs: 9)
    }

    @Test("What a variable or an option says is never read again") func fixed() throws {
        let held = try Held("postgresql://new:hunter2@h/d")
        var feed = CredentialFeed(try source(.none)) { try held.start() }
        feed.loginRefused(at: BootClock.now())
        let waits = feed.prepare()
        #expect(!waits && held.count == 0 && feed.descriptor == nil)
    }
}
