// What a sidecar remembers of the leaderships that it has seen, beyond the record that it watches now: how long such
// a leader may still believe in its lease (R3). Each leadership is remembered for its own TTL after it was last seen,
// and not longer. A single leader with a long TTL must not slow down every later take-over.
//
// Only time with a session counts. Without a session a sidecar cannot see whether that leader still renews. So with a
// new session the time of every leadership starts again.

import Clock

/// The leaderships seen lately.
struct Seen: Hashable, Sendable {
    private struct Leadership: Hashable, Sendable {
        let epoch: Epoch
        var ttl: Duration
        var lastSeen: Instant
    }

    private var leaderships: [Leadership] = []

    /// Notes a record that arrived at `now`.
    mutating func note(_ record: Record, at now: Instant) {
        forget(at: now)
        if let index = leaderships.firstIndex(where: { $0.epoch == record.epoch }) {
            leaderships[index].ttl = max(leaderships[index].ttl, record.ttl)
            leaderships[index].lastSeen = now
        } else {
            leaderships.append(Leadership(epoch: record.epoch, ttl: record.ttl, lastSeen: now))
            // Bounded, even if somebody rewrites the table without end. A leadership that is dropped passes its TTL
            // on to one that stays.
            guard leaderships.count > 32 else { return }
            let oldest = leaderships.removeFirst()
            leaderships[0].ttl = max(leaderships[0].ttl, oldest.ttl)
        }
    }

    /// The present session or server may show an older state than the one before. So the time of each leadership
    /// starts again.
    mutating func restart(at now: Instant) {
        for index in leaderships.indices { leaderships[index].lastSeen = now }
    }

    /// Drops the leaderships that have not been seen for their own TTL. Only a reading through the session may do
    /// that.
    private mutating func forget(at now: Instant) {
        guard leaderships.contains(where: { now.since($0.lastSeen) >= $0.ttl }) else { return }
        leaderships.removeAll { now.since($0.lastSeen) >= $0.ttl }
    }

    /// The longest TTL among them, or `own`.
    func longestTTL(own: Duration) -> Duration { leaderships.reduce(own) { max($0, $1.ttl) } }

    /// Whether a later epoch than that record's was seen: then the record is an old copy (R3).
    func hasLaterEpoch(than record: Record) -> Bool { leaderships.contains { $0.epoch > record.epoch } }
}
