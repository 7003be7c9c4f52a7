//! Rules that can be broken, to see that the check finds out.

/// A broken rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Mutation {
    /// E1, E6: the lease counts from the reply.
    LeaseFromReply,
    /// E1: joining and jumping do not raise the floor.
    NoFloor,
    /// E2: the lease is not checked.
    NoLease,
    /// E2: whether the entry is current is not checked.
    NoCheck,
    /// E2: whether the entry is current is checked before the clock is read.
    CheckBeforeClock,
    /// E3: applying does not raise the mark.
    NoMark,
    /// E3: what arrived early is acked.
    AckEarly,
    /// E3: what is to be applied is acked, and never applied.
    AckUnapplied,
    /// E5: those who waited for a load use it without asking the rules.
    LoadUnchecked,
    /// E5: what was loaded is compared with `applied` alone, and arriving entries clear the cache.
    CurrentByApplied,
    /// E5: the snapshot's revision is read after the data.
    SnapshotAfterData,
    /// E6: "behind" extends the lease too.
    BehindExtends,
    /// E7: numbers are compared without their timeline.
    OneTimeline,
    /// E7: the renewal of another timeline is taken.
    RenewAnyTimeline,
    /// E7: a fence of another timeline counts in this one.
    FenceAnyTimeline,
    /// E9: the edge says that it left, and goes on.
    LeaveAndGoOn,
    /// Marks are forgotten and the floor stays.
    ForgetOnly,
    /// W1: the head is read before the row is committed.
    HeadBeforeJoin,
    /// W1: an edge's row is used again.
    RowRevived,
    /// W2: a fenced row is extended.
    RenewFenced,
    /// W2: an extension does not count in `lease_seq`.
    RenewUncounted,
    /// W2: the reply grants more than the row has.
    LongerThanRow,
    /// W2: who has not applied what it must is extended all the same. Receipts do not come.
    RenewDeaf,
    /// W3: the edges are read before the commit.
    EdgesBeforeCommit,
    /// W3: an ack of any life counts for the edge.
    AckAnyLife,
    /// W3: "left" of any life counts for the edge.
    LeaveAnyLife,
    /// W4: no margin.
    NoMargin,
    /// W4: reading that the lease was not renewed is taken for a fence.
    FenceByReading,
    /// W4: fences whatever `lease_seq` the row has.
    FenceAnySeq,
    /// W4: the condition is checked before the row's lock is held.
    FenceUnlocked,
    /// W4: the wait counts from a clock that was read before the row.
    ClockBeforeRows,
    /// W4: what the edge allows while it is cut off is not waited for.
    FenceIgnoresCached,
    /// W4: nothing is fenced. Receipts do not come.
    NeverFence,
    /// E3, W3: beacons are not acked and rows not read again. Receipts do not come.
    AckOnce,
}
