// R9: which record may be this process's own although it leads nothing now: the record of a claim whose answer was
// lost, and the record of an epoch that this process led and never released. After a restored backup, after an edit
// of the table, or beside a copy of this process, such a record need not be its own.

/// What this process remembers of the epochs it has had.
struct OwnEpochs: Hashable, Sendable {
    /// The last epoch that was led.
    private(set) var led: Epoch?
    /// The epoch over which a claim was sent whose answer never came.
    var claimedOver: Epoch?
    /// The last epoch in which a release was sent (R7).
    var released: Epoch?

    /// The session broke before the claim's answer came. The claim may have succeeded.
    mutating func claimUnanswered(over epoch: Epoch) { claimedOver = epoch }

    mutating func leads(_ epoch: Epoch) {
        led = epoch
        claimedOver = nil
    }

    mutating func releaseSent(in epoch: Epoch) { released = epoch }

    /// Whether a record that names this process and one of its sessions can be its own: the process led that epoch,
    /// or the record is what the claim without an answer would have written. Never after a release of that epoch was
    /// sent.
    func include(_ record: Record) -> Bool {
        guard released != record.epoch else { return false }
        if led == record.epoch { return true }
        guard let claimedOver else { return false }
        return record.epoch > claimedOver && record.beat == 0
    }
}
