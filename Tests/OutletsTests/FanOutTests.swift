// One outlet that hangs, or never comes to an end, is nobody else's trouble: not the caller's, not the log's, not another
// outlet's.

import Clock
import Foundation
import Synchronization
import TestSupport
import Testing

@testable import Lease
@testable import Outlets

@Suite("Feeding the outlets") struct FanOutTests {
    /// What an outlet has been given.
    private enum Given: Equatable, Sendable {
        case picture(Picture)
        case announcement(Announcement)
        case missed(Int)
        case closed
    }

    /// Where an outlet writes down what it is given, and is held at its first call.
    private final class Diary: Sendable {
        private let entries = Mutex<[Given]>([])
        private let isHeld: Atomic<Bool>
        /// Held, it turns instead of waiting.
        private let turns: Bool

        init(held: Bool = false, turns: Bool = false) {
            isHeld = Atomic(held)
            self.turns = turns
        }

        var all: [Given] { entries.withLock { $0 } }

        func release() { isHeld.store(false, ordering: .relaxed) }

        func write(_ given: Given) {
            entries.withLock { $0.append(given) }
            while isHeld.load(ordering: .relaxed) { if !turns { usleep(1000) } }
        }
    }

    private final class Flag: Sendable {
        private let value = Atomic(false)

        var isRaised: Bool { value.load(ordering: .relaxed) }

        func raise() { value.store(true, ordering: .relaxed) }
    }

    private struct Recorder: Outlet {
        let diary: Diary

        func take(_ picture: Picture) { diary.write(.picture(picture)) }
        func take(_ announcement: Announcement, at now: Instant) { diary.write(.announcement(announcement)) }
        func missed(_ count: Int) { diary.write(.missed(count)) }
        func close() { diary.write(.closed) }
    }

    private let now = BootClock.now()

    private func news(_ number: Int) -> Announcement { .ending(.stopped(killed: false), exitCode: Int32(number)) }

    private func picture(_ epoch: Int64) -> Picture {
        Picture(
            Snapshot(role: .leader(Epoch(epoch)), trouble: nil, unready: nil, validUntil: now, isGuarded: true), at: now
        )
    }

    private func isHolding(_ diary: Diary) async throws {
        try await eventually(awaiting: "it is held") { !diary.all.isEmpty }
    }

    /// Does what must not block, so that it fails and does not hang if it does.
    private func onItsOwnThread(_ what: String, _ action: @escaping @Sendable () -> Void) async throws {
        let flag = Flag()
        Thread.detachNewThread {
            action()
            flag.raise()
        }
        try await eventually(awaiting: what) { flag.isRaised }
    }

    @Test("What never returns, waiting or turning, delays neither the caller nor the log nor another outlet")
    func hanging() async throws {
        let count = 10_000
        let log = Diary()
        let well = Diary()
        let waiting = Diary(held: true)
        let turning = Diary(held: true, turns: true)
        defer { for diary in [waiting, turning] { diary.release() } }
        var outlets = FanOut(
            log: Recorder(diary: log),
            others: [
                try OutletThread("test-waits", Recorder(diary: waiting)),
                try OutletThread("test-turns", Recorder(diary: turning)),
                try OutletThread("test-well", capacity: count + 1, Recorder(diary: well)),
            ])
        outlets.tell(news(0), at: now)
        for diary in [waiting, turning] { try await isHolding(diary) }
        try await onItsOwnThread("the caller is through") { [outlets] in
            var outlets = outlets
            for number in 1...count {
                outlets.show(picture(Int64(number)))
                outlets.tell(news(number), at: now)
            }
        }
        let expected = (1...count).flatMap {
            [Given.picture(picture(Int64($0))), .announcement(news($0))]
        }
        #expect(log.all == [.announcement(news(0))] + expected, "everything, at once and in order")
        try await eventually(awaiting: "the well one has the last picture") {
            well.all.contains(.picture(picture(Int64(count))))
        }
        let told = well.all.filter { if case .picture = $0 { false } else { true } }
        #expect(told == (0...count).map { .announcement(news($0)) }, "it missed nothing")
        #expect(waiting.all.count == 1 && turning.all.count == 1, "they are held still")
    }

    @Test("What was held gets the newest announcements, how many it missed, and only the newest picture")
    func dropsTheOldest() async throws {
        let diary = Diary(held: true)
        var outlets = FanOut(
            log: Recorder(diary: Diary()),
            others: [try OutletThread("test-held", capacity: 10, Recorder(diary: diary))])
        outlets.tell(news(0), at: now)
        try await isHolding(diary)
        for number in 1...25 {
            outlets.tell(news(number), at: now)
            outlets.show(picture(Int64(number)))
        }
        diary.release()
        let expected = [.announcement(news(0)), .missed(15)] + (16...25).map { Given.announcement(news($0)) }
        try await eventually(awaiting: "the picture is there") { diary.all.last == .picture(picture(25)) }
        #expect(diary.all == expected + [.picture(picture(25))])
        // The count begins anew.
        outlets.tell(news(26), at: now)
        try await eventually(awaiting: "the next is there") { diary.all.last == .announcement(news(26)) }
    }

    @Test("The end waits for what ends and not for what hangs; then only the log is told")
    func close() async throws {
        let log = Diary()
        let well = Diary()
        let hanging = Diary(held: true)
        defer { hanging.release() }
        let thread = try OutletThread("test-hangs", Recorder(diary: hanging))
        let other = try OutletThread("test-well", Recorder(diary: well))
        var outlets = FanOut(log: Recorder(diary: log), others: [thread, other])
        outlets.tell(news(0), at: now)
        try await isHolding(hanging)
        outlets.tell(news(1), at: now)
        try await onItsOwnThread("it gives up on what hangs") { [outlets] in outlets.close(waitingMilliseconds: 50) }
        try await eventually(awaiting: "the well one is closed") { other.isClosed }
        #expect(well.all == [.announcement(news(0)), .announcement(news(1)), .closed])
        #expect(!thread.isClosed)
        outlets.tell(news(2), at: now)
        outlets.show(picture(2))
        #expect(log.all.suffix(2) == [.announcement(news(2)), .picture(picture(2))])
        hanging.release()
        try await eventually(awaiting: "the other is closed, too") { thread.isClosed }
        #expect(hanging.all == [.announcement(news(0)), .announcement(news(1)), .closed])
        #expect(well.all.last == .closed)
        // Long enough for all to be done, it returns as soon as they are.
        outlets.close(waitingMilliseconds: 1_000_000)
    }
}
