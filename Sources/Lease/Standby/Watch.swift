// R3: what a standby has seen of the record, and when that is enough to claim. It trusts only its own clock and its
// own readings: the same (epoch, beat), through the same session, for the record's TTL.

import Clock

/// One record as seen through one session, since its first reply. Any change of the record starts a new watch.
struct Watch: Hashable, Sendable {
    /// Why a claim is allowed.
    enum Basis: Hashable, Sendable {
        /// R3 (a): the holder itself released it, in this run of this server.
        case released
        /// R3 (b): the record did not change for the TTL.
        case expired
    }

    let session: SessionID
    let record: Record
    /// The server that showed it.
    let server: ServerID
    /// When the first reply that showed it arrived.
    let firstSeen: Instant
    /// The age of the beat at that time by the server's clock; only a label.
    let ageWhenFirstSeen: Duration
    /// Something other than a sidecar changed the record: every write of ours is a new beat.
    let edited: Bool
    /// A later epoch has been seen: the server lost a claim, and its leader may still be there.
    let isOldCopy: Bool

    /// The watch after one more reply, which arrived at `now`: the same watch if nothing changed.
    static func after(
        _ previous: Watch?, seeing record: Record, from server: ServerID, through session: SessionID, age: Duration,
        isOldCopy: Bool = false, at now: Instant
    ) -> Watch {
        if let previous, previous.session == session, previous.record == record, previous.server == server {
            return previous
        }
        var edited = false
        if let previous, previous.record.epoch == record.epoch, previous.record.beat == record.beat {
            edited = previous.edited || previous.record != record
        }
        return Watch(
            session: session, record: record, server: server, firstSeen: now, ageWhenFirstSeen: age, edited: edited,
            isOldCopy: isOldCopy)
    }

    /// How long the record must be seen unchanged: for its own TTL. Two kinds of record must be watched for the
    /// longest TTL seen. A record that another run of the server wrote, or whose epoch is below one that was seen,
    /// may be an old copy from before a claim with a longer TTL. A record that was edited by hand may have a shorter
    /// TTL than its leader's child was promised.
    func patience(largestTTL: Duration) -> Duration {
        record.server == server && !edited && !isOldCopy ? record.ttl : max(record.ttl, largestTTL)
    }

    /// R3 (a): whether `released` can be believed: this run of the server wrote it, and has lost no claim since.
    var isReleased: Bool { record.released && record.server == server && !isOldCopy }

    /// When `basis` becomes `expired` if nothing changes.
    func expiry(largestTTL: Duration) -> Instant { firstSeen + patience(largestTTL: largestTTL) }

    /// Why a claim would be allowed now, or nil.
    func basis(at now: Instant, largestTTL: Duration) -> Basis? {
        if record.suspended { return nil }
        if now >= expiry(largestTTL: largestTTL) { return .expired }
        return isReleased ? .released : nil
    }
}
