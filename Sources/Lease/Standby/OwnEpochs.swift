// R9: which record may be this process's own although it leads nothing now. A claim whose answer was lost is ours, and so is
// an epoch that was led and never released. It may not be ours after a restored backup, after an edit of the table, or beside a
// copy of this process.

/// What this process remembers of the epochs it has had.
struct OwnEpochs: Hashable, Sendable {
    /// The last epoch that was led.
    private(set) var led: Epoch?
    /// The epoch over which a claim was sent whose answer never came.
    var claimedOver: Epoch?
    /// The last epoch in which a release was sent (R7).
    var released: Epoch?

    /// A claim's session broke before its answer came: it may have succeeded all the same.
    mutating func claimUnanswered(over epoch: Epoch) { claimedOver = epoch }

    mutating func leads(_ epoch: Epoch) {
        led = epoch
        claimedOver = nil
    }

    mutating func releaseSent(in epoch: Epoch) { released = epoch }

    /// Whether a record that names this process, in a session of its own, can be its own: it led that epoch, or the record is
    /// what the claim without an answer would have written. Never after a release of that epoch was sent.
    func include(_ record: Record) -> Bool {
        guard released != record.epoch else { return false }
        if led == record.epoch { return true }
        guard let claimedOver else { return false }
        return record.epoch > claimedOver && record.beat == 0
    }
}
