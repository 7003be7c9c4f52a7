//! Broken rules, and small worlds in which each shows.

use super::{
    fair::Liveness,
    moves::Model,
    mutation::Mutation,
    scope::{May, Scope, Whom},
    search::{Found, nearest},
};

const ONE: Scope = Scope::SMALLEST;
const JOINED: Scope = Scope { joined: true, ..ONE };
const TWO_USERS: &[Whom] = &[Whom::User(1), Whom::User(2)];

/// Each broken rule, and a small world in which that shows.
pub(super) const BROKEN: &[(Mutation, Scope)] = &[
    (Mutation::LeaseFromReply, ONE),
    (Mutation::NoFloor, Scope { time: 1, ..ONE }),
    (Mutation::NoFloor, Scope { time: 0, may: &[May::Beacon, May::Fetch, May::Prune], ..JOINED }),
    (Mutation::NoLease, JOINED),
    (Mutation::NoCheck, JOINED),
    (Mutation::CheckBeforeClock, JOINED),
    (Mutation::NoMark, JOINED),
    (Mutation::AckEarly, Scope { changes: TWO_USERS, time: 1, ..JOINED }),
    (Mutation::AckUnapplied, Scope { time: 1, ..JOINED }),
    (Mutation::LoadUnchecked, JOINED),
    (
        Mutation::CurrentByApplied,
        Scope { changes: &[Whom::User(1), Whom::User(1)], time: 1, ..JOINED },
    ),
    (Mutation::SnapshotAfterData, JOINED),
    (Mutation::BehindExtends, Scope { ttl: 2, time: 4, ..JOINED }),
    (
        Mutation::OneTimeline,
        Scope { changes: TWO_USERS, failovers: 1, time: 1, may: &[May::Beacon], ..JOINED },
    ),
    (
        Mutation::RenewAnyTimeline,
        Scope { changes: TWO_USERS, failovers: 1, ttl: 2, time: 1, lives: 1, ..JOINED },
    ),
    (Mutation::FenceAnyTimeline, Scope { failovers: 1, lives: 1, may: &[May::ReadLate], ..JOINED }),
    (Mutation::LeaveAndGoOn, Scope { may: &[May::Leave], time: 0, ..JOINED }),
    (Mutation::ForgetOnly, Scope { may: &[May::Forget], time: 0, ..JOINED }),
    (Mutation::HeadBeforeJoin, Scope { time: 0, ..ONE }),
    (Mutation::RowRevived, Scope { repeats: 1, time: 0, ..ONE }),
    (Mutation::RenewFenced, Scope { time: 3, ..JOINED }),
    (Mutation::RenewUncounted, JOINED),
    (Mutation::LongerThanRow, JOINED),
    (Mutation::EdgesBeforeCommit, Scope { time: 0, ..ONE }),
    (Mutation::AckAnyLife, Scope { edges: 2, time: 0, ..JOINED }),
    (Mutation::LeaveAnyLife, Scope { restarts: 1, time: 0, may: &[May::Leave], ..JOINED }),
    (Mutation::NoMargin, JOINED),
    (Mutation::FenceByReading, JOINED),
    (Mutation::FenceAnySeq, Scope { may: &[May::ReadLate], time: 3, ..JOINED }),
    (Mutation::FenceUnlocked, Scope { may: &[May::HoldRows], ..JOINED }),
    (Mutation::ClockBeforeRows, Scope { may: &[May::ReadLate, May::ReadClock], ..JOINED }),
    (Mutation::FenceIgnoresCached, Scope { allow_cached: 1, time: 3, ..JOINED }),
];

/// Broken rules after which a receipt does not come, and a world in which that shows.
pub(super) const STUCK: &[(Mutation, Scope)] = &[
    (Mutation::RenewDeaf, Scope { live: true, may: &[May::Beacon], ..JOINED }),
    (Mutation::NeverFence, Scope { live: true, ..JOINED }),
    (Mutation::AckOnce, Scope { live: true, ..JOINED }),
];

/// The shortest way to see that something is wrong in a scope, by which rule so ever.
pub(super) fn find(scope: &Scope) -> Found {
    let model = Model::new(scope.clone());
    let mut liveness = Liveness::all(scope);
    nearest(&model, 200_000, |system| {
        let violation = model.violation(system).map(|violation| violation.to_string());
        violation.or_else(|| liveness.iter_mut().find_map(|liveness| liveness.missing(system)))
    })
}
