//! Which cached entries an edge may still use: the marks of what was revoked, and the floor.

use std::{
    collections::HashMap,
    hash::{Hash, Hasher},
    time::Duration,
};

use crate::{
    clock::Monotonic,
    id::{TenantId, UserId},
    lease::Revision,
    message::revocation::Entry,
};

/// What a cache entry is checked by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snapshot {
    /// The head in the database snapshot that the entry was read from.
    pub revision: Revision,
    /// Whose rights it holds.
    pub user: UserId,
    /// In which tenant.
    pub tenant: TenantId,
}

/// The highest revision about each user and tenant that has arrived, early ones included, and the
/// floor below which nothing counts. Neither ever goes down.
#[derive(Debug, Clone)]
pub(super) struct Marks {
    /// A mark is forgotten after this long, and every cache entry older than it with it.
    age: Duration,
    /// At most so many marks.
    most: usize,
    floor: Revision,
    users: HashMap<UserId, Mark>,
    tenants: HashMap<TenantId, Mark>,
    forget_at: Monotonic,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Mark {
    revision: Revision,
    raised_at: Monotonic,
}

/// The same for equal marks, in whatever order they arrived.
impl Hash for Marks {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut users: Vec<_> = self.users.iter().collect();
        users.sort_unstable();
        let mut tenants: Vec<_> = self.tenants.iter().collect();
        tenants.sort_unstable();
        (self.floor, users, tenants, self.forget_at).hash(state);
    }
}

impl Marks {
    pub(super) fn new(age: Duration, most: usize) -> Self {
        Self {
            age,
            most,
            floor: Revision::default(),
            users: HashMap::new(),
            tenants: HashMap::new(),
            forget_at: Monotonic(Duration::ZERO),
        }
    }

    /// The one predicate that decides at insertion and at every use.
    pub(super) fn is_current(&self, snapshot: &Snapshot) -> bool {
        let seen = |mark: Option<&Mark>| mark.is_none_or(|mark| snapshot.revision >= mark.revision);
        seen(self.users.get(&snapshot.user))
            && seen(self.tenants.get(&snapshot.tenant))
            && snapshot.revision >= self.floor
    }

    pub(super) const fn floor(&self) -> Revision {
        self.floor
    }

    /// The highest mark of this user and this tenant.
    pub(super) fn seen(&self, user: UserId, tenant: TenantId) -> Revision {
        let revision = |mark: Option<&Mark>| mark.map_or(Revision::default(), |mark| mark.revision);
        revision(self.users.get(&user)).max(revision(self.tenants.get(&tenant)))
    }

    /// What was loaded about this user, or this tenant, before the entry counts no more.
    pub(super) fn raise(&mut self, now: Monotonic, entry: &Entry) {
        let mark = Mark { revision: entry.revision, raised_at: now };
        let raise = |old: &mut Mark| {
            if old.revision < mark.revision {
                *old = mark;
            }
        };
        match entry.user_id {
            Some(user) => self.users.entry(user).and_modify(raise).or_insert(mark),
            None => self.tenants.entry(entry.tenant_id).and_modify(raise).or_insert(mark),
        };
    }

    /// Nothing that was loaded before `revision` counts any more.
    pub(super) fn raise_floor(&mut self, revision: Revision) {
        self.floor = self.floor.max(revision);
    }

    /// Forgets marks that are old or too many. The floor rises first, so that what a mark kept
    /// out stays out.
    pub(super) fn forget(&mut self, now: Monotonic) {
        let too_many = self.users.len() + self.tenants.len() > self.most;
        if now < self.forget_at && !too_many {
            return;
        }
        self.forget_at = now.plus(self.age / 100);
        // Too many is rare: then all of them go.
        let goes = |mark: &&Mark| too_many || now.since(mark.raised_at) > self.age;
        let marks = self.users.values().chain(self.tenants.values());
        let Some(forgotten) = marks.filter(goes).map(|mark| mark.revision).max() else { return };
        self.raise_floor(forgotten);
        let floor = self.floor;
        self.users.retain(|_, mark| mark.revision > floor);
        self.tenants.retain(|_, mark| mark.revision > floor);
    }
}
