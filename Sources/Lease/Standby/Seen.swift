// What a sidecar remembers of the leaderships it has seen, beyond the record that it watches now: how long a leader that it
// once saw may still believe in its lease (R3). Each is remembered for its own TTL after the last sight, and not longer: a
// visitor with a long TTL must not slow down every later take-over.
//
// Only time in touch counts. Who is out of touch cannot see whether that leader goes on renewing, so a new session starts
// the time of every leadership anew.

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
            // A table that somebody rewrites without end: what is dropped lends its TTL to what stays.
            guard leaderships.count > 32 else { return }
            let oldest = leaderships.removeFirst()
            leaderships[0].ttl = max(leaderships[0].ttl, oldest.ttl)
        }
    }

    /// What is looked through now may show an older state than what was looked through before: the time of each leadership
    /// begins anew.
    mutating func restart(at now: Instant) {
        for index in leaderships.indices { leaderships[index].lastSeen = now }
    }

    /// Drops the leaderships that have not been seen for their own TTL. Only a look through the session may do that.
    private mutating func forget(at now: Instant) {
        guard leaderships.contains(where: { now.since($0.lastSeen) >= $0.ttl }) else { return }
        leaderships.removeAll { now.since($0.lastSeen) >= $0.ttl }
    }

    /// The longest TTL among them, or `own`.
    func longestTTL(own: Duration) -> Duration { leaderships.reduce(own) { max($0, $1.ttl) } }

    /// Whether a later epoch than that record's was seen: then the record is an old copy (R3).
    func hasLaterEpoch(than record: Record) -> Bool { leaderships.contains { $0.epoch > record.epoch } }
}
