//! One grant: its page, and what can be done with it.

use askama::Template;
use axum::{Router, extract, response::Response, routing::get};
use secrecy::SecretString;
use serde::Deserialize;
use shared::{
    id::GrantId,
    message::grant::{
        CancelGrant, DecideGrant, Decision, EmergencyPolicy, Evidence, ExtendGrant,
        GetEmergencyPolicy, GetEvidence, GetGrant, Grant, Outcome, ReviewGrant, ReviewState,
        RevokeGrant, State as GrantState,
    },
    refusal::{Code, Refusal},
    role::Permission,
};

use super::{
    super::{State, guess::Guess, parameters::Id},
    emergency::{self, FIELDS, PAGE, durations, given},
    form::{Form, Typed},
    notice::Notice,
    receipt,
    turned::Turned,
    view::{Shell, Viewer},
    wording,
};

/// How many characters of a reason a list shows.
const IN_LIST: usize = 280;

pub(super) fn routes() -> Router<State> {
    Router::new()
        .route("/emergency/grants/{id}", get(show))
        .route("/emergency/grants/{id}/revoke", get(show_revoke).post(revoke))
        .route("/emergency/grants/{id}/approve", get(show_approve).post(approve))
        .route("/emergency/grants/{id}/deny", get(show_deny).post(deny))
        .route("/emergency/grants/{id}/cancel", get(show_cancel).post(cancel))
        .route("/emergency/grants/{id}/extend", get(show_extend).post(extend))
        .route("/emergency/grants/{id}/review", get(show_review).post(review))
}

/// A grant, and what the viewer may do with it. The workers decide again about each.
pub(super) struct Row<'a> {
    pub(super) grant: &'a Grant,
    shell: &'a Shell,
    policy: &'a EmergencyPolicy,
}

impl<'a> Row<'a> {
    pub(super) const fn new(
        grant: &'a Grant,
        shell: &'a Shell,
        policy: &'a EmergencyPolicy,
    ) -> Self {
        Self { grant, shell, policy }
    }

    /// Whether it is the viewer's own.
    pub(super) fn is_mine(&self) -> bool {
        self.shell.is_me(&self.grant.user.id)
    }

    /// Whether the viewer may decide about others' requests and uses.
    fn is_approver(&self) -> bool {
        let role = &self.shell.account.user.role;
        self.shell.has(Permission::EmergencyApprove) && self.policy.approvers.contains(role)
    }

    pub(super) fn may_revoke(&self) -> bool {
        self.grant.state == GrantState::Active
            && (self.is_mine() || self.shell.has(Permission::EmergencyRevoke))
    }

    pub(super) fn may_extend(&self) -> bool {
        self.grant.state == GrantState::Active
            && self.is_mine()
            && self.policy.extensions_allowed > 0
    }

    pub(super) fn may_decide(&self) -> bool {
        self.grant.state == GrantState::Pending && !self.is_mine() && self.is_approver()
    }

    pub(super) fn may_approve(&self) -> bool {
        let has_approved = self.grant.approvals.iter().any(|approval| {
            self.shell.is_me(&approval.user.id) && approval.decision == Decision::Approve
        });
        self.may_decide() && !has_approved
    }

    pub(super) fn may_cancel(&self) -> bool {
        self.grant.state == GrantState::Pending && self.is_mine()
    }

    pub(super) fn may_review(&self) -> bool {
        let review = self.grant.review.as_ref();
        let is_due =
            review.is_some_and(|r| matches!(r.state, ReviewState::Due | ReviewState::Overdue));
        is_due && !self.is_mine() && self.is_approver()
    }

    /// The reason, as much of it as a list shows; the grant's page has all of it.
    pub(super) fn reason(&self) -> String {
        let reason = &self.grant.reason;
        match reason.char_indices().nth(IN_LIST) {
            Some((end, _)) => format!("{}…", &reason[..end]),
            None => reason.clone(),
        }
    }

    /// The state in words.
    pub(super) fn state(&self) -> &'static str {
        wording::state(self.grant.state)
    }

    /// The state of its review in words.
    pub(super) fn review(&self) -> &'static str {
        self.grant.review.as_ref().map_or("", |review| wording::review(review.state))
    }

    /// How many have approved it.
    pub(super) fn approved(&self) -> usize {
        let approvals = self.grant.approvals.iter();
        approvals.filter(|approval| approval.decision == Decision::Approve).count()
    }

    /// How long it is wanted for, in words.
    pub(super) fn length(&self) -> String {
        wording::span(u64::from(self.grant.duration_seconds))
    }
}

async fn get_grant(state: &State, viewer: &Viewer, id: uuid::Uuid) -> Result<Grant, Refusal> {
    let request = GetGrant { caller: viewer.caller.clone(), grant_id: GrantId(id) };
    Ok(state.bus.request(&request).await?.grant)
}

async fn get_policy(state: &State, viewer: &Viewer) -> Result<EmergencyPolicy, Refusal> {
    state.bus.request(&GetEmergencyPolicy { caller: viewer.caller.clone() }).await
}

#[derive(Template)]
#[template(path = "grant.html")]
struct GrantPage<'a> {
    shell: &'a Shell,
    row: Row<'a>,
    grant: &'a Grant,
    evidence: Option<&'a Evidence>,
}

async fn show(
    extract::State(state): extract::State<State>,
    viewer: Viewer,
    Id(id): Id,
) -> Result<Response, Turned> {
    let grant = get_grant(&state, &viewer, id).await?;
    let shell = &viewer.shell;
    let evidence = if shell.is_me(&grant.user.id) || shell.may("audit.read") {
        let request = GetEvidence { caller: viewer.caller.clone(), grant_id: GrantId(id) };
        Some(state.bus.request(&request).await?)
    } else {
        None
    };
    let policy = get_policy(&state, &viewer).await?;
    let row = Row::new(&grant, shell, &policy);
    viewer.show(&GrantPage { shell, row, grant: &grant, evidence: evidence.as_ref() })
}

/// A form about a grant that is shown before something is done with it.
#[derive(Template)]
#[template(path = "grant-task.html")]
struct TaskPage<'a> {
    shell: &'a Shell,
    row: Row<'a>,
    grant: &'a Grant,
    task: Task,
    form: Typed,
    durations: Vec<(u32, String, bool)>,
    wants_code: bool,
}

/// What is to be done with a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    Revoke,
    Approve,
    Deny,
    Cancel,
    Extend,
    Review,
}

impl Task {
    /// The heading of its form.
    fn title(self) -> &'static str {
        wording::grant_task(self.name())
    }

    /// As in the route.
    const fn name(self) -> &'static str {
        match self {
            Self::Revoke => "revoke",
            Self::Approve => "approve",
            Self::Deny => "deny",
            Self::Cancel => "cancel",
            Self::Extend => "extend",
            Self::Review => "review",
        }
    }
}

async fn show_task(
    state: &State,
    viewer: &Viewer,
    id: uuid::Uuid,
    task: Task,
    form: Typed,
    status: u16,
) -> Result<Response, Turned> {
    let grant = get_grant(state, viewer, id).await?;
    let policy = get_policy(state, viewer).await?;
    let page = TaskPage {
        shell: &viewer.shell,
        row: Row::new(&grant, &viewer.shell, &policy),
        grant: &grant,
        task,
        durations: durations(
            policy.max_duration_seconds,
            policy.default_duration_seconds,
            form.value("duration_seconds"),
        ),
        wants_code: policy.require_fresh_mfa && viewer.shell.account.mfa.enabled,
        form,
    };
    viewer.refuse(&page, status)
}

macro_rules! tasks {
    ($($handler:ident: $task:expr;)*) => {$(
        async fn $handler(
            extract::State(state): extract::State<State>,
            viewer: Viewer,
            Id(id): Id,
        ) -> Result<Response, Turned> {
            show_task(&state, &viewer, id, $task, Typed::default(), 200).await
        }
    )*};
}

tasks! {
    show_revoke: Task::Revoke;
    show_approve: Task::Approve;
    show_deny: Task::Deny;
    show_cancel: Task::Cancel;
    show_extend: Task::Extend;
    show_review: Task::Review;
}

/// What the forms for a revocation and for a decision hold.
#[derive(Default, Deserialize)]
struct Said {
    #[serde(default)]
    comment: String,
    request_digest: Option<String>,
}

async fn revoke(
    extract::State(state): extract::State<State>,
    viewer: Viewer,
    Id(id): Id,
    Form(said): Form<Said>,
) -> Result<Response, Turned> {
    let request = RevokeGrant {
        caller: viewer.caller.clone(),
        grant_id: GrantId(id),
        comment: given(&said.comment),
    };
    match receipt::soon(state.bus.request(&request)).await {
        Ok(ended) => {
            let notice = ended.receipt.map_or(Notice::of("grant-revoked"), |receipt| {
                Notice::with("grant-revoked", &receipt)
            });
            Ok(viewer.go(PAGE, notice))
        }
        Err(refusal) => {
            let status = refusal.code.status();
            let form = Typed::default().with("comment", said.comment).refused(refusal, &[]);
            show_task(&state, &viewer, id, Task::Revoke, form, status).await
        }
    }
}

async fn approve(
    extract::State(state): extract::State<State>,
    viewer: Viewer,
    Id(id): Id,
    Form(said): Form<Said>,
) -> Result<Response, Turned> {
    decide(&state, &viewer, id, said, Task::Approve).await
}

async fn deny(
    extract::State(state): extract::State<State>,
    viewer: Viewer,
    Id(id): Id,
    Form(said): Form<Said>,
) -> Result<Response, Turned> {
    decide(&state, &viewer, id, said, Task::Deny).await
}

async fn decide(
    state: &State,
    viewer: &Viewer,
    id: uuid::Uuid,
    said: Said,
    task: Task,
) -> Result<Response, Turned> {
    let is_approval = task == Task::Approve;
    let request = DecideGrant {
        caller: viewer.caller.clone(),
        grant_id: GrantId(id),
        decision: if is_approval { Decision::Approve } else { Decision::Deny },
        comment: given(&said.comment),
        // Approvers decide about exactly what the form showed them.
        request_digest: said.request_digest,
    };
    match receipt::soon(state.bus.request(&request)).await {
        Ok(decided) => {
            let notice = match (is_approval, &decided.receipt) {
                (false, _) => Notice::of("grant-denied"),
                (true, None) => Notice::of("grant-approved"),
                (true, Some(receipt)) => Notice::with("grant-approved-active", receipt),
            };
            Ok(viewer.go(PAGE, notice))
        }
        Err(refusal) => {
            let status = refusal.code.status();
            let form = Typed::default().with("comment", said.comment).refused(refusal, &[]);
            show_task(state, viewer, id, task, form, status).await
        }
    }
}

async fn cancel(
    extract::State(state): extract::State<State>,
    viewer: Viewer,
    Id(id): Id,
) -> Result<Response, Turned> {
    let request = CancelGrant { caller: viewer.caller.clone(), grant_id: GrantId(id) };
    match state.bus.request(&request).await {
        Ok(_) => Ok(viewer.go(PAGE, Notice::of("grant-cancelled"))),
        Err(refusal) => {
            let status = refusal.code.status();
            let form = Typed::default().refused(refusal, &[]);
            show_task(&state, &viewer, id, Task::Cancel, form, status).await
        }
    }
}

/// What the form for more time holds.
#[derive(Deserialize)]
struct More {
    reason: String,
    duration_seconds: String,
    code: Option<SecretString>,
}

async fn extend(
    extract::State(state): extract::State<State>,
    viewer: Viewer,
    guess: Guess,
    Id(id): Id,
    Form(more): Form<More>,
) -> Result<Response, Turned> {
    let typed = Typed::default()
        .with("reason", &more.reason)
        .with("duration_seconds", &more.duration_seconds);
    let code = emergency::code(more.code.as_ref());
    let shown = code.is_some();
    let request = ExtendGrant {
        caller: viewer.caller.clone(),
        grant_id: GrantId(id),
        new_grant_id: GrantId::new(state.clock.wall()),
        reason: more.reason,
        duration_seconds: more.duration_seconds.parse().unwrap_or_default(),
        code,
    };
    match receipt::soon(guess.judge_code(shown, state.bus.request(&request))).await {
        Ok(made) => {
            let notice = made.receipt.map_or(Notice::of("grant-requested"), |receipt| {
                Notice::with("grant-extended", &receipt)
            });
            Ok(viewer.go(PAGE, notice))
        }
        Err(refusal) => {
            let status = refusal.code.status();
            let typed = typed.refused(refusal, FIELDS);
            show_task(&state, &viewer, id, Task::Extend, typed, status).await
        }
    }
}

/// What the form for a review holds.
#[derive(Deserialize)]
struct Found {
    note: String,
    outcome: Outcome,
}

async fn review(
    extract::State(state): extract::State<State>,
    viewer: Viewer,
    Id(id): Id,
    Form(Found { note, outcome }): Form<Found>,
) -> Result<Response, Turned> {
    let request = ReviewGrant {
        caller: viewer.caller.clone(),
        grant_id: GrantId(id),
        note: note.clone(),
        outcome,
    };
    match state.bus.request(&request).await {
        Ok(_) => Ok(viewer.go(PAGE, Notice::of("grant-reviewed"))),
        Err(refusal) => {
            let status = refusal.code.status();
            let form = Typed::default()
                .with("note", note)
                .with("outcome", outcome.as_str())
                .refused(refusal, &[(Code::ReasonRequired, "note"), (Code::ReasonTooWeak, "note")]);
            show_task(&state, &viewer, id, Task::Review, form, status).await
        }
    }
}
