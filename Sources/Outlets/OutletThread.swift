// An outlet with a thread of its own and a mailbox in front of it. Whoever posts never waits: of pictures only the
// newest lies there, and of announcements so many, the oldest being dropped and counted.

import Clock
import Glibc
import Helpers
import Synchronization

/// An outlet that may hang.
package final class OutletThread: Sendable {
    private struct Letter {
        let announcement: Announcement
        let at: Instant
    }

    private struct Mailbox {
        /// A ring once it is full: the oldest is at `first` then.
        var letters: [Letter] = []
        var first = 0
        var missed = 0
        var picture: Picture?
        var isClosing = false
        var isClosed = false

        mutating func add(_ letter: Letter, capacity: Int) {
            guard letters.count == capacity else { return letters.append(letter) }
            letters[first] = letter
            first = (first + 1) % capacity
            missed += 1
        }

        /// Takes out all there is.
        mutating func empty() -> Mailbox {
            defer { (letters, first, missed, picture) = ([], 0, 0, nil) }
            return self
        }
    }

    private let mailbox = Mutex(Mailbox())
    private let wakeUp: Int32
    private let capacity: Int

    /// Starts the outlet's thread. `capacity`: how many announcements may wait.
    /// - Throws: `Failure` 71 where the system gives no thread.
    package init(_ name: String, capacity: Int = 256, _ outlet: some Outlet) throws {
        self.capacity = max(1, capacity)
        wakeUp = EventFlag.make()
        try Threads.start(name) { [self] in deliver(to: outlet) }
    }

    /// Whether the outlet has been closed.
    var isClosed: Bool { mailbox.withLock { $0.isClosed } }

    func post(_ picture: Picture) { post { $0.picture = picture } }

    func post(_ announcement: Announcement, at now: Instant) {
        post { $0.add(Letter(announcement: announcement, at: now), capacity: capacity) }
    }

    /// Lets the outlet close when it has taken what waits. A picture that waits is of no use any more.
    func close() { post { $0.isClosing = true } }

    private func post(_ change: (inout Mailbox) -> Void) {
        mailbox.withLock { mailbox in
            // What comes after the end is not taken.
            if !mailbox.isClosing { change(&mailbox) }
        }
        EventFlag.raise(wakeUp)
    }

    private func deliver(to outlet: some Outlet) {
        var outlet = outlet
        while true {
            EventFlag.wait(wakeUp)
            let mail = mailbox.withLock { $0.empty() }
            // They are older than all that was kept.
            if mail.missed > 0 { outlet.missed(mail.missed) }
            for letter in mail.letters[mail.first...] + mail.letters[..<mail.first] {
                outlet.take(letter.announcement, at: letter.at)
            }
            if mail.isClosing {
                outlet.close()
                return mailbox.withLock { $0.isClosed = true }
            }
            if let picture = mail.picture { outlet.take(picture) }
        }
    }
}
