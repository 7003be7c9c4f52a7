//! Asking for emergency access, and for more of it.

use secrecy::SecretString;
use serde_json::json;
use shared::{
    database::{
        Transaction,
        audit::{self, Attempt},
        caller::{self, Known},
        failed,
        grants::{self, Ending},
        revocation::{self, Change},
    },
    id::GrantId,
    message::{
        Caller, Origin,
        grant::{
            EmergencyPolicy, ExtendGrant, Grant, GrantReceipt, RequestGrant, State as GrantState,
        },
        mfa::VerifyCode,
        revocation::Cause,
        session::Method,
    },
    refusal::{Code, Refusal},
    role::{Permission, Role},
    subject::Subject,
    trace,
};
use tracing::instrument;

use crate::{
    record::{self, Happened},
    rules::{
        access,
        digest::{Asked, digest},
        lifecycle::{self, Event},
        policy::{self, Ask, Extends, Requester, Terms},
    },
    state::State,
    store::{self, NewGrant},
};

/// What is asked for, be it new or an extension.
struct Wanted {
    caller: Caller,
    id: GrantId,
    reason: String,
    duration_seconds: Option<u32>,
    role: Option<Role>,
    ticket: Option<String>,
    code: Option<SecretString>,
    bypass: bool,
    extends: Option<GrantId>,
    subject: Subject,
}

/// Activates a grant under the policy in force, and answers once every edge knows; or has it wait
/// for approvals.
///
/// The same message again answers with the grant that it made, and without a receipt: it changed
/// nothing.
#[instrument(skip_all, name = "grant.request", fields(grant.id = %request.grant_id))]
pub(crate) async fn request(state: State, request: RequestGrant) -> Result<GrantReceipt, Refusal> {
    let wanted = Wanted {
        caller: request.caller,
        id: request.grant_id,
        reason: request.reason,
        duration_seconds: request.duration_seconds,
        role: request.role,
        ticket: request.ticket,
        code: request.code,
        bypass: request.bypass_approval,
        extends: None,
        subject: Subject::GrantRequest,
    };
    make(state, wanted).await
}

/// Asks for more time: a request like any other, whose grant replaces the old one in one step.
#[instrument(skip_all, name = "grant.extend", fields(grant.id = %request.grant_id))]
pub(crate) async fn extend(state: State, request: ExtendGrant) -> Result<GrantReceipt, Refusal> {
    let wanted = Wanted {
        caller: request.caller,
        id: request.new_grant_id,
        reason: request.reason,
        duration_seconds: Some(request.duration_seconds),
        role: None,
        ticket: None,
        code: request.code,
        bypass: false,
        extends: Some(request.grant_id),
        subject: Subject::GrantExtend,
    };
    make(state, wanted).await
}

/// A code is verified between two attempts, so that only one is used up that the grant depends on,
/// and no row is locked meanwhile.
async fn make(state: State, wanted: Wanted) -> Result<GrantReceipt, Refusal> {
    if let Some(made) = attempt(&state, &wanted, None).await? {
        return Ok(made);
    }
    let code = wanted.code.clone().ok_or_else(code_wanted)?;
    let verify = VerifyCode { caller: wanted.caller.clone(), code, grant_id: wanted.id };
    let verified = state.bus.request(&verify).await.map_err(|refusal| match refusal.code {
        // The session is as good as before: it is the request that is refused.
        Code::InvalidCredentials => Refusal { code: Code::FreshMfaRequired, ..refusal },
        _ => refusal,
    })?;
    attempt(&state, &wanted, Some(verified.method)).await?.ok_or_else(code_wanted)
}

fn code_wanted() -> Refusal {
    Refusal::new(
        Code::FreshMfaRequired,
        "The policy wants a code with this request: the six digits that your authenticator app shows \
         now, or a backup code.",
    )
}

/// Grants it, or has it wait. `None`: all is as it should be but for the code that came with it, which
/// has to be verified.
async fn attempt(
    state: &State,
    wanted: &Wanted,
    factor: Option<Method>,
) -> Result<Option<GrantReceipt>, Refusal> {
    let mut tx = store::begin(&state.pool).await?;
    let known = caller::lock(&mut tx, &wanted.caller, None).await?;
    if let Some(earlier) = store::find(&mut tx, known.tenant_id, wanted.id).await?
        && earlier.grant.user.id == known.user_id
    {
        store::commit(tx).await?;
        let grant = lifecycle::as_of(earlier.grant, earlier.now);
        return Ok(Some(GrantReceipt { grant, receipt: None }));
    }
    let judged = judge(&mut tx, &known, wanted).await;
    let judged = match judged {
        Ok(judged) if judged.terms.wants_code && factor.is_none() => {
            if wanted.code.is_some() {
                return Ok(None);
            }
            Err(code_wanted())
        }
        judged => judged,
    };
    let judged = match judged {
        Ok(judged) => judged,
        Err(refusal) => {
            let attempt = Attempt {
                by: &known,
                origin: &wanted.caller.origin,
                request: wanted.subject,
                target: wanted.extends.map(|grant| format!("grant:{grant}")),
            };
            return Err(audit::refuse(tx, attempt, refusal).await);
        }
    };
    grant(state, tx, &known, wanted, &judged, factor).await.map(Some)
}

/// What the policy says to it.
struct Judged {
    policy: EmergencyPolicy,
    terms: Terms,
    /// The grant that is to be replaced.
    replaces: Option<Grant>,
}

async fn judge(tx: &mut Transaction, known: &Known, wanted: &Wanted) -> Result<Judged, Refusal> {
    known.require(Permission::EmergencyRequest)?;
    let replaces = match wanted.extends {
        Some(id) => Some(to_extend(tx, known, id).await?),
        None => None,
    };
    let policy = store::policy::lock(tx, known.tenant_id).await?;
    let standing =
        store::standing(tx, known.user_id, wanted.extends, policy.cooldown_seconds).await?;
    let extends = match &replaces {
        Some(old) => {
            let before = store::replaced(tx, old.id).await?;
            Some(Extends { extensions: before.extensions, spent_seconds: before.spent_seconds })
        }
        None => None,
    };
    let ticket = replaces.as_ref().map_or(wanted.ticket.clone(), |old| old.ticket.clone());
    let ask = Ask {
        reason: &wanted.reason,
        ticket: ticket.as_deref(),
        duration_seconds: wanted.duration_seconds,
        role: wanted.role,
        bypass: wanted.bypass,
        extends,
    };
    let requester = Requester {
        assigned: known.role,
        held: standing.active.saturating_add(standing.pending),
        last_reason: standing.last_reason.as_deref(),
        has_factor: standing.has_factor,
        review_overdue: standing.review_overdue,
        cooling_seconds: standing.cooling_seconds,
        last_hour: standing.last_hour,
    };
    let terms = policy::judge(&policy, &ask, &requester)?;
    Ok(Judged { policy, terms, replaces })
}

/// One's own grant that is active, and that no request waits to replace.
async fn to_extend(tx: &mut Transaction, known: &Known, id: GrantId) -> Result<Grant, Refusal> {
    let found = store::find(tx, known.tenant_id, id).await?;
    let old = found.map(|snapshot| lifecycle::as_of(snapshot.grant, snapshot.now));
    let old = access::own(known, old)?;
    // What cannot be revoked any more cannot be replaced.
    lifecycle::transition(old.state, Event::Revoke)?;
    if let Some(waiting) = store::waiting_extension(tx, id).await? {
        let over = Ending {
            leaving: GrantState::Pending,
            entering: GrantState::Expired,
            by: None,
            why: None,
            reviewed: false,
        };
        if grants::end(tx, &[waiting], over).await.map_err(failed)?.is_empty() {
            let detail =
                "An extension of this grant waits for approval already; cancel that first.";
            return Err(Refusal::new(Code::Conflict, detail));
        }
    }
    Ok(old)
}

async fn grant(
    state: &State,
    mut tx: Transaction,
    known: &Known,
    wanted: &Wanted,
    judged: &Judged,
    factor: Option<Method>,
) -> Result<GrantReceipt, Refusal> {
    let terms = &judged.terms;
    let waits = terms.approvals_needed > 0;
    if let Some(old) = judged.replaces.as_ref().filter(|_| !waits) {
        replace(&mut tx, known, &wanted.caller.origin, old.id, wanted.id).await?;
    }
    let digest = digest(&Asked {
        grant_id: wanted.id,
        user_id: known.user_id,
        role: terms.role,
        reason: &wanted.reason,
        ticket: terms.ticket.as_deref(),
        duration_seconds: terms.duration_seconds,
        extends: wanted.extends,
    });
    let new = NewGrant {
        id: wanted.id,
        tenant: known.tenant_id,
        user: known.user_id,
        session: known.session_id,
        reason: &wanted.reason,
        terms,
        digest,
        policy: &judged.policy,
        factor,
        extends: wanted.extends,
    };
    if !store::insert(&mut tx, &new).await? {
        return Err(Refusal::new(Code::Conflict, "The id of this grant is taken; ask again."));
    }
    let read_at = state.reading();
    let snapshot = store::reread(&mut tx, known.tenant_id, wanted.id).await?;
    note(&mut tx, known, wanted, judged, &snapshot.grant).await?;
    if waits {
        store::commit(tx).await?;
        let grant = lifecycle::as_of(snapshot.grant, snapshot.now);
        return Ok(GrantReceipt { grant, receipt: None });
    }
    let change = Change {
        tenant: known.tenant_id,
        user: Some(known.user_id),
        sessions: Vec::new(),
        cause: if wanted.extends.is_some() { Cause::GrantExtended } else { Cause::GrantActivated },
        traceparent: trace::current_traceparent(),
    };
    let entry = revocation::commit(tx, change).await.map_err(failed)?;
    state.receipt(entry, snapshot, read_at).await
}

/// Ends a grant in the transaction in which another one takes its place.
pub(crate) async fn replace(
    tx: &mut Transaction,
    by: &Known,
    origin: &Origin,
    old: GrantId,
    new: GrantId,
) -> Result<(), Refusal> {
    let replaced = Ending {
        leaving: GrantState::Active,
        entering: GrantState::Revoked,
        by: Some(by.user_id),
        why: Some("Extended."),
        reviewed: false,
    };
    let ended = grants::end(tx, &[old], replaced).await.map_err(failed)?;
    let ended = ended.first().ok_or_else(lifecycle::ended)?;
    let happened = Happened {
        detail: json!({"extended_by": new}),
        ..Happened::by(by, origin, "grant.extended", old, ended.user)
    };
    record::write(tx, happened).await
}

async fn note(
    tx: &mut Transaction,
    known: &Known,
    wanted: &Wanted,
    judged: &Judged,
    grant: &Grant,
) -> Result<(), Refusal> {
    let policy = &judged.policy;
    let (action, told) = if grant.approvals_needed > 0 && grant.activated_at.is_none() {
        ("grant.requested", policy.approvers.clone())
    } else if grant.bypassed {
        // Everybody who was not asked.
        ("grant.bypassed", policy.approvers.iter().copied().chain([Role::Admin]).collect())
    } else {
        ("grant.activated", [Role::Admin].into())
    };
    let recipients =
        store::people(tx, known.tenant_id, told, known.user_id).await.map_err(failed)?;
    let happened = Happened {
        detail: json!({
            "reason": grant.reason,
            "role": grant.role,
            "duration_seconds": grant.duration_seconds,
            "ticket": grant.ticket,
            "expires_at": grant.expires_at,
            "pending_until": grant.pending_until,
            "approvals_needed": grant.approvals_needed,
            "extended_from": grant.extended_from,
            "bypassed": grant.bypassed,
            "factor": grant.factor,
        }),
        recipients,
        ..Happened::by(known, &wanted.caller.origin, action, grant.id, known.user_id)
    };
    record::write(tx, happened).await
}
