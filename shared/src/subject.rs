//! Every NATS subject, spelled once, and which service may use which.
//!
//! A subject is `<prefix>.v1.<domain>.<verb>`; those that an edge sends about itself end in its id,
//! so that the server's permissions keep one edge from speaking for another.

pub mod events;

use crate::id::EdgeId;

/// What a message is about. The text after `<prefix>.v1.`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subject {
    /// Request: an edge asks for an incarnation and a lease. Addressed by edge.
    EdgeJoin,
    /// Request: an edge asks to extend its lease. Addressed by edge.
    EdgeRenew,
    /// Request: an edge has stopped deciding for good. Addressed by edge.
    EdgeLeave,
    /// Publish: an edge has applied every revision up to a number. Addressed by edge.
    EdgeAck,
    /// Publish: entries of consecutive revisions, or a beacon with the head alone.
    RevocationBroadcast,
    /// Request: the entries after a revision.
    RevocationSince,
    /// Request: broadcast a committed revision and answer with its receipt.
    RevocationEnforce,
    /// Request: the receipt of an earlier revision, as it is now.
    RevocationReceipt,
    /// Request: how all edges stand.
    EdgeList,
    /// Request: sign in with a password.
    SessionSignIn,
    /// Request: end one's own session.
    SessionSignOut,
    /// Request: what a token stands for.
    SessionResolve,
    /// Request: live sessions of a user.
    SessionList,
    /// Request: end one session.
    SessionRevoke,
    /// Request: end all sessions of a user, or all but the caller's.
    SessionRevokeAll,
    /// Publish: when sessions were last used.
    SessionTouch,
    /// Request: who the caller is.
    AccountMe,
    /// Request: go on with a sign-in by a code.
    SessionSignInMfa,
    /// Request: change one's own password.
    AccountChangePassword,
    /// Request: set a password with a one-time token.
    AccountSetPassword,
    /// Request: somebody says that they forgot their password.
    AccountForgotPassword,
    /// Request: users of the tenant.
    UserList,
    /// Request: one user.
    UserGet,
    /// Request: create a user.
    UserCreate,
    /// Request: change name or role of a user, disable or enable them.
    UserChange,
    /// Request: a one-time token with which a user sets a password.
    UserResetPassword,
    /// Request: begin to set up an authenticator app.
    MfaEnroll,
    /// Request: finish that with its first code.
    MfaConfirm,
    /// Request: do without a second factor again.
    MfaDisable,
    /// Request: new backup codes for old.
    MfaRenewBackupCodes,
    /// Request: take somebody's second factor away.
    MfaReset,
    /// Request: the policy for second factors.
    MfaPolicyGet,
    /// Request: change that policy.
    MfaPolicySet,
    /// Request: whom that policy concerns.
    MfaPolicyReach,
    /// Request: the time for setting up a second factor is over.
    MfaDeadline,
    /// Request: whether a code counts.
    MfaVerify,
    /// Request: entries of the audit record.
    AuditList,
    /// Request: the whole audit record, page by page.
    AuditExport,
    /// Request: the last signed head of the audit record.
    AuditHead,
    /// Request: ask for emergency access.
    GrantRequest,
    /// Request: grants that the caller may see.
    GrantList,
    /// Request: one grant.
    GrantGet,
    /// Request: end a grant early.
    GrantRevoke,
    /// Request: make the expiry of a grant official.
    GrantExpireAll,
    /// Request: ask for more time.
    GrantExtend,
    /// Request: approve or deny a request.
    GrantDecide,
    /// Request: withdraw a request.
    GrantCancel,
    /// Request: review the use of a grant.
    GrantReview,
    /// Request: the policy for emergency access.
    GrantPolicyGet,
    /// Request: change that policy.
    GrantPolicySet,
    /// Request: a grant ends soon.
    GrantWarn,
    /// Request: the review of a grant is overdue.
    GrantRemind,
    /// Request: the whole story of a grant.
    GrantEvidence,
    /// Request: write down what was done under grants.
    GrantRecordActions,
    /// Request: where a tenant has its events sent.
    NotificationList,
    /// Request: one endpoint of these.
    NotificationGet,
    /// Request: have events sent somewhere.
    NotificationCreate,
    /// Request: change an endpoint.
    NotificationChange,
    /// Request: send nothing there any more.
    NotificationDelete,
    /// Request: send a test there, and tell what came of it.
    NotificationTest,
    /// Request: what was sent there, and what has come of it.
    NotificationDeliveries,
    /// Request: send something once more.
    NotificationRetry,
    /// Request: sign with another secret.
    NotificationRotateSecret,
    /// Request: a one-time token for somebody who forgot their password.
    AccountIssueReset,
}

use Subject::{
    AccountChangePassword, AccountForgotPassword, AccountMe, AccountSetPassword, AuditExport,
    AuditHead, AuditList, EdgeAck, EdgeJoin, EdgeLeave, EdgeList, EdgeRenew, GrantCancel,
    GrantDecide, GrantEvidence, GrantExpireAll, GrantExtend, GrantGet, GrantList, GrantPolicyGet,
    GrantPolicySet, GrantRecordActions, GrantRemind, GrantRequest, GrantReview, GrantRevoke,
    GrantWarn, MfaConfirm, MfaDeadline, MfaDisable, MfaEnroll, MfaPolicyGet, MfaPolicyReach,
    MfaPolicySet, MfaRenewBackupCodes, MfaReset, MfaVerify, RevocationBroadcast, RevocationEnforce,
    RevocationReceipt, RevocationSince, SessionList, SessionResolve, SessionRevoke,
    SessionRevokeAll, SessionSignIn, SessionSignInMfa, SessionSignOut, SessionTouch, UserChange,
    UserCreate, UserGet, UserList, UserResetPassword,
};

use Subject::{
    AccountIssueReset, NotificationChange, NotificationCreate, NotificationDelete,
    NotificationDeliveries, NotificationGet, NotificationList, NotificationRetry,
    NotificationRotateSecret, NotificationTest,
};

impl Subject {
    /// The part after `<prefix>.v1.`, without an address.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            EdgeJoin => "edge.join",
            EdgeRenew => "edge.renew",
            EdgeLeave => "edge.leave",
            EdgeAck => "edge.ack",
            RevocationBroadcast => "revocation.broadcast",
            RevocationSince => "revocation.since",
            RevocationEnforce => "revocation.enforce",
            RevocationReceipt => "revocation.receipt",
            EdgeList => "edge.list",
            SessionSignIn => "session.sign-in",
            SessionSignOut => "session.sign-out",
            SessionResolve => "session.resolve",
            SessionList => "session.list",
            SessionRevoke => "session.revoke",
            SessionRevokeAll => "session.revoke-all",
            SessionTouch => "session.touch",
            AccountMe => "account.me",
            SessionSignInMfa => "session.sign-in-mfa",
            AccountChangePassword => "account.change-password",
            AccountSetPassword => "account.set-password",
            AccountForgotPassword => "account.forgot-password",
            UserList => "user.list",
            UserGet => "user.get",
            UserCreate => "user.create",
            UserChange => "user.change",
            UserResetPassword => "user.reset-password",
            MfaEnroll => "mfa.enroll",
            MfaConfirm => "mfa.confirm",
            MfaDisable => "mfa.disable",
            MfaRenewBackupCodes => "mfa.renew-backup-codes",
            MfaReset => "mfa.reset",
            MfaPolicyGet => "mfa.policy-get",
            MfaPolicySet => "mfa.policy-set",
            MfaPolicyReach => "mfa.policy-reach",
            MfaDeadline => "mfa.deadline",
            MfaVerify => "mfa.verify",
            AuditList => "audit.list",
            AuditExport => "audit.export",
            AuditHead => "audit.head",
            GrantRequest => "grant.request",
            GrantList => "grant.list",
            GrantGet => "grant.get",
            GrantRevoke => "grant.revoke",
            GrantExpireAll => "grant.expire-all",
            GrantExtend => "grant.extend",
            GrantDecide => "grant.decide",
            GrantCancel => "grant.cancel",
            GrantReview => "grant.review",
            GrantPolicyGet => "grant.policy-get",
            GrantPolicySet => "grant.policy-set",
            GrantWarn => "grant.warn",
            GrantRemind => "grant.remind",
            GrantEvidence => "grant.evidence",
            GrantRecordActions => "grant.record-actions",
            NotificationList => "notification.list",
            NotificationGet => "notification.get",
            NotificationCreate => "notification.create",
            NotificationChange => "notification.change",
            NotificationDelete => "notification.delete",
            NotificationTest => "notification.test",
            NotificationDeliveries => "notification.deliveries",
            NotificationRetry => "notification.retry",
            NotificationRotateSecret => "notification.rotate-secret",
            AccountIssueReset => "account.issue-reset",
        }
    }

    /// Whether the subject ends in the id of the edge that sends.
    #[must_use]
    pub const fn by_edge(self) -> bool {
        matches!(self, EdgeJoin | EdgeRenew | EdgeLeave | EdgeAck)
    }

    /// The subject to publish to.
    #[must_use]
    pub fn publish(self, prefix: &str, edge: Option<&EdgeId>) -> String {
        match edge {
            Some(edge) if self.by_edge() => format!("{prefix}.v1.{}.{edge}", self.path()),
            _ => format!("{prefix}.v1.{}", self.path()),
        }
    }

    /// The subject to subscribe to: addressed ones with a wildcard for the edge.
    #[must_use]
    pub fn subscribe(self, prefix: &str) -> String {
        let wildcard = if self.by_edge() { ".*" } else { "" };
        format!("{prefix}.v1.{}{wildcard}", self.path())
    }
}

/// A kind of service with a NATS identity of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// A gateway, named by its edge id.
    Gateway(EdgeId),
    /// Accounts, sessions, and the broadcast of revocations.
    SessionWorker,
    /// Emergency grants.
    GrantWorker,
    /// Timers.
    ExpiryWorker,
}

/// What an identity may do on the bus. Everything else is refused by the NATS server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permissions {
    /// Subjects it may publish to.
    pub publish: Vec<String>,
    /// Subjects it may subscribe to.
    pub subscribe: Vec<String>,
    /// Whether it may answer what it was asked.
    pub allow_responses: bool,
}

/// What a gateway asks and tells.
const FROM_GATEWAY: &[Subject] = &[
    EdgeJoin,
    EdgeRenew,
    EdgeLeave,
    EdgeAck,
    RevocationSince,
    RevocationReceipt,
    EdgeList,
    SessionSignIn,
    SessionSignOut,
    SessionResolve,
    SessionList,
    SessionRevoke,
    SessionRevokeAll,
    SessionTouch,
    AccountMe,
    SessionSignInMfa,
    AccountChangePassword,
    AccountSetPassword,
    AccountForgotPassword,
    UserList,
    UserGet,
    UserCreate,
    UserChange,
    UserResetPassword,
    MfaEnroll,
    MfaConfirm,
    MfaDisable,
    MfaRenewBackupCodes,
    MfaReset,
    MfaPolicyGet,
    MfaPolicySet,
    MfaPolicyReach,
    AuditList,
    AuditExport,
    AuditHead,
    GrantRequest,
    GrantList,
    GrantGet,
    GrantRevoke,
    GrantExtend,
    GrantDecide,
    GrantCancel,
    GrantReview,
    GrantPolicyGet,
    GrantPolicySet,
    GrantEvidence,
    GrantRecordActions,
    NotificationList,
    NotificationGet,
    NotificationCreate,
    NotificationChange,
    NotificationDelete,
    NotificationTest,
    NotificationDeliveries,
    NotificationRetry,
    NotificationRotateSecret,
];

/// What session-worker is asked and told.
const TO_SESSION_WORKER: &[Subject] = &[
    EdgeJoin,
    EdgeRenew,
    EdgeLeave,
    EdgeAck,
    RevocationSince,
    RevocationEnforce,
    RevocationReceipt,
    EdgeList,
    SessionSignIn,
    SessionSignOut,
    SessionResolve,
    SessionList,
    SessionRevoke,
    SessionRevokeAll,
    SessionTouch,
    AccountMe,
    SessionSignInMfa,
    AccountChangePassword,
    AccountSetPassword,
    AccountForgotPassword,
    UserList,
    UserGet,
    UserCreate,
    UserChange,
    UserResetPassword,
    MfaEnroll,
    MfaConfirm,
    MfaDisable,
    MfaRenewBackupCodes,
    MfaReset,
    MfaPolicyGet,
    MfaPolicySet,
    MfaPolicyReach,
    MfaDeadline,
    MfaVerify,
    AuditList,
    AuditExport,
    AuditHead,
    AccountIssueReset,
];

/// What grant-worker is asked.
const TO_GRANT_WORKER: &[Subject] = &[
    GrantRequest,
    GrantExtend,
    GrantDecide,
    GrantCancel,
    GrantReview,
    GrantList,
    GrantGet,
    GrantRevoke,
    GrantPolicyGet,
    GrantPolicySet,
    GrantEvidence,
    GrantRecordActions,
    GrantExpireAll,
    GrantWarn,
    GrantRemind,
    NotificationList,
    NotificationGet,
    NotificationCreate,
    NotificationChange,
    NotificationDelete,
    NotificationTest,
    NotificationDeliveries,
    NotificationRetry,
    NotificationRotateSecret,
];

impl Identity {
    /// The name, unique in a deployment: the edge id, or the name of the worker.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Gateway(edge) => edge.as_str(),
            Self::SessionWorker => "session-worker",
            Self::GrantWorker => "grant-worker",
            Self::ExpiryWorker => "expiry-worker",
        }
    }

    /// The prefix of this identity's private inboxes.
    #[must_use]
    pub fn inbox_prefix(&self) -> String {
        format!("_INBOX.{}", self.name())
    }

    /// The permissions that `deploy` writes into the server's configuration.
    #[must_use]
    pub fn permissions(&self, prefix: &str) -> Permissions {
        let (publish, subscribe): (&[Subject], &[Subject]) = match self {
            Self::Gateway(_) => (FROM_GATEWAY, &[RevocationBroadcast]),
            Self::SessionWorker => (&[RevocationBroadcast], TO_SESSION_WORKER),
            Self::GrantWorker => {
                (&[RevocationEnforce, MfaVerify, AccountIssueReset], TO_GRANT_WORKER)
            }
            Self::ExpiryWorker => (&[GrantExpireAll, GrantWarn, GrantRemind, MfaDeadline], &[]),
        };
        let edge = match self {
            Self::Gateway(edge) => Some(edge),
            _ => None,
        };
        let mut publish: Vec<_> = publish.iter().map(|s| s.publish(prefix, edge)).collect();
        if *self == Self::GrantWorker {
            publish.extend(events::permissions(prefix));
        }
        let mut subscribe: Vec<_> = subscribe.iter().map(|s| s.subscribe(prefix)).collect();
        if edge.is_some() {
            subscribe.push(events::all(prefix));
        }
        subscribe.push(format!("{}.>", self.inbox_prefix()));
        Permissions {
            publish,
            subscribe,
            allow_responses: matches!(self, Self::SessionWorker | Self::GrantWorker),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway() -> Identity {
        Identity::Gateway("gateway-1".parse().expect("a valid edge id"))
    }

    #[test]
    fn only_session_worker_may_publish_revocations() {
        let subject = RevocationBroadcast.publish("p", None);
        for identity in [gateway(), Identity::GrantWorker, Identity::ExpiryWorker] {
            assert!(!identity.permissions("p").publish.contains(&subject), "{identity:?}");
        }
        assert!(Identity::SessionWorker.permissions("p").publish.contains(&subject));
    }

    #[test]
    fn an_edge_speaks_for_itself_alone() {
        let permissions = gateway().permissions("p");
        assert!(permissions.publish.contains(&"p.v1.edge.ack.gateway-1".to_owned()));
        assert!(permissions.publish.iter().all(|s| !s.contains('*') && !s.contains('>')));
    }

    #[test]
    fn only_grant_worker_may_publish_events_and_use_their_stream() {
        let of_events = |subject: &String| subject.contains(".event.") || subject.starts_with('$');
        for identity in [gateway(), Identity::SessionWorker, Identity::ExpiryWorker] {
            assert!(!identity.permissions("p").publish.iter().any(of_events), "{identity:?}");
        }
        let publish = Identity::GrantWorker.permissions("p").publish;
        let api: Vec<_> = publish.iter().filter(|subject| subject.starts_with('$')).collect();
        assert_eq!(
            api,
            [
                "$JS.API.STREAM.INFO.p-events",
                "$JS.API.STREAM.CREATE.p-events",
                "$JS.API.CONSUMER.CREATE.p-events.notifications",
                "$JS.API.CONSUMER.INFO.p-events.notifications",
                "$JS.API.CONSUMER.MSG.NEXT.p-events.notifications",
                "$JS.ACK.p-events.notifications.>",
            ]
        );
    }

    #[test]
    fn gateways_alone_hear_events_as_they_are_published() {
        let events = "p.v1.event.>".to_owned();
        assert!(gateway().permissions("p").subscribe.contains(&events));
        for identity in [Identity::SessionWorker, Identity::GrantWorker, Identity::ExpiryWorker] {
            assert!(!identity.permissions("p").subscribe.contains(&events), "{identity:?}");
        }
    }

    #[test]
    fn inboxes_are_private() {
        assert!(gateway().permissions("p").subscribe.contains(&"_INBOX.gateway-1.>".to_owned()));
    }
}
