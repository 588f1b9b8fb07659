// The protocol with one rule broken, each in one place of the simulation: the twin of a rule shows what the rule is for, and
// that the simulation would see its loss. None of this can be reached from the shipped binary.

/// What is broken. `caught` is what the simulation has to say about it.
enum Twin: String, CaseIterable {
    // R1
    case noGuardTimer, monotonicTimer, extendAfterKill, noCheckBeforeExec
    // R2
    case marginZero, marginZeroByDriftAlone, marginZeroAlone, deadlineFromReply, deadlineFromSending
    case latenessIgnored, latenessOnlyReported
    // R3
    case watchAcrossSessions, releasedByOtherServer, ownTTL, watchFromSending, longestTTLForgotten,
        shortenedTTLBelieved, forgottenOutOfTouch, commitsNotPinned, releasedBelowSeen
    // R4
    case noLock, noLockUnderHands, noCompareAndSet, noLockNoCompareAndSet, epochsRepeat, terminateOnReleased,
        failedClaimKeepsLock
    case terminateUnchecked, lockNeverWaived
    // R5
    case renewReleased, sessionClosedOnLoss, renewForSilentGuard, renewerByName, latePongCounts
    // R6
    case resumeUncompared, formerBackendSpared
    // R7
    case releaseBeforeEmpty, releaseUncompared, releaseUncomparedWithoutLock
    // R8
    case lateFence, unfencedUntold
    // R9
    case ownRecordOfOtherServer, anyRecordAfterClaimInDoubt, ownRecordAfterRelease, ownRecordAfterReleaseUnaided
    // R10
    case createdReleased, createdWithShortTTL
    // R11
    case suspendedClaimed
    // R12
    case silentGuardSpared, guardsDeathAwaited, guardAskedOnce, patienceBeyondMargin, relativeDeadlines,
        emptyForOlderStart, emptyWithoutDaemons, guardHeardLast, exitTakenForKill
    // Session
    case idleTimeoutBelowPoll, idleTimeoutBelowTTL

    var rule: String {
        switch self {
        case .noGuardTimer, .monotonicTimer, .extendAfterKill, .noCheckBeforeExec: "R1"
        case .marginZero, .marginZeroByDriftAlone, .marginZeroAlone, .deadlineFromReply, .deadlineFromSending,
            .latenessIgnored, .latenessOnlyReported:
            "R2"
        case .watchAcrossSessions, .releasedByOtherServer, .ownTTL, .watchFromSending, .longestTTLForgotten,
            .shortenedTTLBelieved, .forgottenOutOfTouch, .releasedBelowSeen:
            "R3"
        case .noLock, .noLockUnderHands, .noCompareAndSet, .noLockNoCompareAndSet, .epochsRepeat, .terminateOnReleased,
            .failedClaimKeepsLock, .terminateUnchecked, .lockNeverWaived:
            "R4"
        case .renewReleased, .sessionClosedOnLoss, .renewForSilentGuard, .renewerByName, .latePongCounts: "R5"
        case .resumeUncompared, .formerBackendSpared: "R6"
        case .releaseBeforeEmpty, .releaseUncompared, .releaseUncomparedWithoutLock: "R7"
        case .lateFence, .unfencedUntold: "R8"
        case .ownRecordOfOtherServer, .anyRecordAfterClaimInDoubt, .ownRecordAfterRelease,
            .ownRecordAfterReleaseUnaided:
            "R9"
        case .createdReleased, .createdWithShortTTL: "R10"
        case .suspendedClaimed: "R11"
        case .silentGuardSpared, .guardsDeathAwaited, .guardAskedOnce, .patienceBeyondMargin, .relativeDeadlines,
            .emptyForOlderStart, .emptyWithoutDaemons, .guardHeardLast, .exitTakenForKill:
            "R12"
        case .idleTimeoutBelowPoll, .idleTimeoutBelowTTL, .commitsNotPinned: "session"
        }
    }

    var summary: String {
        switch self {
        case .noGuardTimer: "the guard has no timer, only the keeper's orders"
        case .monotonicTimer: "the guard's timer stands still while the machine sleeps"
        case .extendAfterKill: "an extension stops a kill that has begun"
        case .noCheckBeforeExec: "no look at the clock just before exec"
        case .marginZero: "margin 0"
        case .marginZeroByDriftAlone: "margin 0, killing takes no time at all, clocks differ by up to 4 %"
        case .marginZeroAlone: "margin 0, killing takes no time at all, clocks agree"
        case .deadlineFromReply: "the deadline counts from the reply"
        case .deadlineFromSending: "a renewal takes effect before its success came back"
        case .latenessIgnored: "a pong counts however late, and a late guard is not allowed for"
        case .latenessOnlyReported: "the guard's own measure is not asked for, only the time that its answers take"
        case .latePongCounts: "a pong counts however late, but what the guard measures is allowed for"
        case .watchAcrossSessions: "an observation is carried into the next session"
        case .releasedByOtherServer: "`released` is believed although another postmaster wrote it"
        case .ownTTL: "the reader's own TTL instead of the record's"
        case .watchFromSending: "the observation counts from the sending of the poll"
        case .longestTTLForgotten: "the record's TTL although another postmaster wrote it"
        case .shortenedTTLBelieved: "a TTL that hands have shortened is believed"
        case .forgottenOutOfTouch: "a TTL is forgotten although nobody was in touch who could have seen it"
        case .commitsNotPinned: "a reload lowers `synchronous_commit` of living sessions"
        case .releasedBelowSeen: "`released` is believed at an epoch below one that was seen"
        case .noLock: "no advisory lock, and no hands in the table"
        case .noLockUnderHands: "no advisory lock, hands in the table"
        case .noCompareAndSet: "no compare-and-set"
        case .noLockNoCompareAndSet: "neither lock nor compare-and-set"
        case .epochsRepeat: "epoch + 1, or 1 for a new record"
        case .terminateOnReleased: "the lock's holder is terminated on the strength of `released`"
        case .failedClaimKeepsLock: "a claim that failed keeps its lock"
        case .terminateUnchecked: "a late termination does not look at the record again"
        case .lockNeverWaived: "a lock that cannot be had is waited for without end"
        case .renewerByName: "renewals compare the holder's name, not its session"
        case .renewReleased: "a released record is renewed"
        case .sessionClosedOnLoss: "the session is closed while the tree is dying"
        case .renewForSilentGuard: "renewals on behalf of a guard that does not answer"
        case .resumeUncompared: "a resume does not compare epoch and holder"
        case .formerBackendSpared: "a resume does not terminate its own former backend"
        case .releaseBeforeEmpty: "released before the tree is empty"
        case .releaseUncompared: "a release compares nothing"
        case .releaseUncomparedWithoutLock: "a release compares nothing, and there is no lock"
        case .lateFence: "the fence is a statement of its own that does not look at the record"
        case .unfencedUntold: "sessions that the fence must leave alone are told to nobody"
        case .ownRecordOfOtherServer: "an own record is taken up whoever wrote it"
        case .anyRecordAfterClaimInDoubt: "after a claim without an answer any record that names us is ours"
        case .ownRecordAfterRelease: "an own record is taken up after its release was sent"
        case .ownRecordAfterReleaseUnaided: "the same, releases compare nothing, no lock, former backends live on"
        case .createdReleased: "a missing record is made as released"
        case .createdWithShortTTL: "a missing record is made with the shortest TTL there is"
        case .suspendedClaimed: "a suspended record is claimed"
        case .silentGuardSpared: "a guard that does not answer is not killed"
        case .guardsDeathAwaited: "the tree of a guard that was killed is left alone until the guard has died"
        case .guardAskedOnce: "a guard that answered once after a loss is not asked again"
        case .patienceBeyondMargin: "100 ms of patience with a silent guard, however short the TTL"
        case .relativeDeadlines: "deadlines in the pipe count from their arrival"
        case .emptyForOlderStart: "an \"empty\" of an older start is taken for the current one"
        case .emptyWithoutDaemons: "\"empty\" is said when the command is dead, whatever it left behind"
        case .guardHeardLast: "the database's news is taken before the guard's"
        case .exitTakenForKill: "`killing` because the command ended by itself is taken for an ordered kill"
        case .idleTimeoutBelowPoll: "`idle_session_timeout` below the poll interval"
        case .idleTimeoutBelowTTL: "`idle_session_timeout` of half the shortest TTL, below every record's"
        }
    }

    /// One for each rule, for the documentation.
    var isTelling: Bool {
        switch self {
        case .monotonicTimer, .deadlineFromReply, .watchAcrossSessions, .terminateOnReleased, .sessionClosedOnLoss,
            .resumeUncompared, .releaseBeforeEmpty, .lateFence, .ownRecordOfOtherServer, .createdReleased,
            .suspendedClaimed, .silentGuardSpared, .guardsDeathAwaited:
            true
        default: false
        }
    }

    /// The faults that it takes to show this one: in general worlds they come together too seldom.
    var showsUnder: Profile.Family? {
        switch self {
        case .releasedByOtherServer, .longestTTLForgotten, .forgottenOutOfTouch: .failover
        case .noLockUnderHands, .shortenedTTLBelieved: .hands
        case .extendAfterKill: .guards
        case .watchFromSending, .deadlineFromReply: .network
        case .latenessIgnored: .starvation
        default: nil
        }
    }

    /// A twin that breaks several rules must be caught where this one, which breaks fewer, does no harm.
    var baseline: Twin? { self == .ownRecordAfterReleaseUnaided ? .releaseUncomparedWithoutLock : nil }

    /// The lock's own twins.
    var hasNoLock: Bool {
        switch self {
        case .noLock, .noLockUnderHands, .noLockNoCompareAndSet, .releaseUncomparedWithoutLock,
            .ownRecordAfterReleaseUnaided:
            true
        default: false
        }
    }

    /// A release that hits whatever is there.
    var releasesAnything: Bool {
        switch self {
        case .releaseUncompared, .releaseUncomparedWithoutLock, .ownRecordAfterReleaseUnaided: true
        default: false
        }
    }

    /// Why the loss of this one alone does no harm, and the simulation must find none; nil where it must find some.
    var standIn: String? {
        switch self {
        case .marginZeroAlone: "killing and clocks are what the margin pays for"
        case .latenessOnlyReported: "a guard that is late answers late, too"
        case .latePongCounts: "the guard's own timers say how late it is"
        case .noLock: "one of two claimers fails the compare-and-set"
        case .formerBackendSpared: "a leader whose lock stays busy renews without it"
        case .releasedBelowSeen: "no acknowledged claim is lost while its server's run goes on"
        case .releaseUncompared: "nobody else can claim while the session that releases holds the lock"
        case .ownRecordAfterRelease: "a release compares the beat, and a resume ends the session that sent it"
        default: nil
        }
    }
}
