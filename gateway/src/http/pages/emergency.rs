//! Emergency Access: who has it, who waits for it, who had it; asking for it; and its policy.

#![expect(
    clippy::unused_self,
    clippy::trivially_copy_pass_by_ref,
    reason = "templates call methods, and pass references"
)]

use std::collections::BTreeSet;

use askama::Template;
use axum::{Router, extract, extract::Query, http::Uri, response::Response, routing::get};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use shared::{
    id::{GrantId, UserId},
    message::{
        MOST_ITEMS,
        grant::{
            AppliesTo, Bypass, EmergencyPolicy, GetEmergencyPolicy, Grant, ListGrants,
            RequestGrant, SHORTEST_SECONDS, STATES, SetEmergencyPolicy, State as GrantState,
        },
    },
    refusal::{Code, Refusal},
    role::{Permission, ROLES, Role},
};

use super::{
    super::{State, guess::Guess},
    form::{Form, Typed},
    grant::Row,
    notice::Notice,
    receipt,
    turned::Turned,
    view::{Shell, Viewer},
    wording,
};

/// The page.
pub(super) const PAGE: &str = "/dashboard?view=rbac-emergency-access";
/// Most rows of the history on a page.
const ROWS: u32 = 50;

pub(super) fn routes() -> Router<State> {
    Router::new()
        .route("/emergency/request", get(show_request).post(request))
        .route("/emergency/policy", get(show_policy).post(set_policy))
}

/// Which grants of the past.
#[derive(Debug, Default, Deserialize)]
struct Filter {
    #[serde(default)]
    state: String,
    #[serde(default)]
    mine: Option<String>,
    user: Option<UserId>,
    cursor: Option<GrantId>,
}

#[derive(Template)]
#[template(path = "emergency.html")]
#[expect(clippy::struct_excessive_bools, reason = "a template asks for each of them")]
struct EmergencyPage<'a> {
    shell: &'a Shell,
    may_request: bool,
    active: Vec<Row<'a>>,
    pending: Vec<Row<'a>>,
    more_active: bool,
    more_pending: bool,
    to_review: Vec<Row<'a>>,
    past: Vec<Row<'a>>,
    states: Vec<(&'static str, &'static str, bool)>,
    mine: bool,
    filtered: bool,
    more: Option<String>,
}

pub(super) async fn show(state: &State, viewer: &Viewer, uri: &Uri) -> Result<Response, Turned> {
    let filter: Filter = Query::try_from_uri(uri).map(|Query(filter)| filter).unwrap_or_default();
    let of_state = STATES.into_iter().find(|state| state.as_str() == filter.state);
    let me = viewer.shell.account.user.id;
    let user_id = if filter.mine.is_some() { Some(me) } else { filter.user };
    let list = |state, user_id, cursor, limit| ListGrants {
        caller: viewer.caller.clone(),
        state,
        user_id,
        limit,
        cursor,
    };
    let (active, pending, past, ended) = (
        list(Some(GrantState::Active), None, None, MOST_ITEMS),
        list(Some(GrantState::Pending), None, None, MOST_ITEMS),
        list(of_state, user_id, filter.cursor, ROWS),
        list(None, None, None, MOST_ITEMS),
    );
    let policy = GetEmergencyPolicy { caller: viewer.caller.clone() };
    let bus = &state.bus;
    let (policy, active, pending, past, ended) = tokio::try_join!(
        bus.request(&policy),
        bus.request(&active),
        bus.request(&pending),
        bus.request(&past),
        bus.request(&ended),
    )?;
    let shell = &viewer.shell;
    let is_past = |grant: &Grant| !matches!(grant.state, GrantState::Active | GrantState::Pending);
    let state_name = of_state.map_or("", GrantState::as_str);
    let template = EmergencyPage {
        shell,
        may_request: shell.has(Permission::EmergencyRequest)
            && policy.requesters.contains(&shell.account.user.role),
        active: active.grants.iter().map(|grant| Row::new(grant, shell, &policy)).collect(),
        pending: pending.grants.iter().map(|grant| Row::new(grant, shell, &policy)).collect(),
        more_active: active.next_cursor.is_some(),
        more_pending: pending.next_cursor.is_some(),
        to_review: ended
            .grants
            .iter()
            .map(|grant| Row::new(grant, shell, &policy))
            .filter(Row::may_review)
            .collect(),
        past: past
            .grants
            .iter()
            .filter(|grant| is_past(grant))
            .map(|grant| Row::new(grant, shell, &policy))
            .collect(),
        states: STATES
            .into_iter()
            .filter(|state| !matches!(state, GrantState::Active | GrantState::Pending))
            .map(|state| (state.as_str(), wording::state(state), state.as_str() == state_name))
            .collect(),
        mine: filter.mine.is_some(),
        filtered: of_state.is_some() || user_id.is_some() || filter.cursor.is_some(),
        more: past.next_cursor.map(|cursor| {
            let mine = if filter.mine.is_some() { "&mine=on" } else { "" };
            let user = filter.user.map(|user| format!("&user={user}")).unwrap_or_default();
            format!("{PAGE}&state={state_name}{mine}{user}&cursor={cursor}#history")
        }),
    };
    viewer.show(&template)
}

/// Lengths that are offered, in seconds.
const OFFERED: [u32; 9] = [900, 1_800, 3_600, 7_200, 14_400, 28_800, 43_200, 86_400, 259_200];

/// What the dialog offers for a length, the policy's bounds included: seconds, in words, whether it
/// is chosen.
pub(super) fn durations(most: u32, also: u32, chosen: &str) -> Vec<(u32, String, bool)> {
    let offered = OFFERED.into_iter().filter(|seconds| *seconds < most);
    let all: BTreeSet<_> = offered.chain([most, also.min(most)]).collect();
    let chosen = chosen.parse().unwrap_or(also.min(most));
    let shown = all
        .into_iter()
        .map(|seconds| (seconds, wording::span(u64::from(seconds)), seconds == chosen));
    shown.collect()
}

#[derive(Template)]
#[template(path = "emergency-request.html")]
struct RequestPage<'a> {
    shell: &'a Shell,
    policy: &'a EmergencyPolicy,
    form: Typed,
    durations: Vec<(u32, String, bool)>,
    wants_code: bool,
    approvers: String,
}

impl<'a> RequestPage<'a> {
    fn new(viewer: &'a Viewer, policy: &'a EmergencyPolicy, form: Typed) -> Self {
        Self {
            shell: &viewer.shell,
            durations: durations(
                policy.max_duration_seconds,
                policy.default_duration_seconds,
                form.value("duration_seconds"),
            ),
            wants_code: policy.require_fresh_mfa && viewer.shell.account.mfa.enabled,
            approvers: roles(&policy.approvers, " or "),
            policy,
            form,
        }
    }
}

impl RequestPage<'_> {
    /// How long one may go without approval, in words.
    fn bypass(&self) -> String {
        wording::span(u64::from(self.policy.bypass.max_duration_seconds))
    }
}

/// Roles in words.
fn roles(roles: &BTreeSet<Role>, between: &str) -> String {
    roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(between)
}

async fn policy_for(state: &State, viewer: &Viewer) -> Result<EmergencyPolicy, Refusal> {
    state.bus.request(&GetEmergencyPolicy { caller: viewer.caller.clone() }).await
}

async fn show_request(
    extract::State(state): extract::State<State>,
    viewer: Viewer,
) -> Result<Response, Turned> {
    let policy = policy_for(&state, &viewer).await?;
    viewer.show(&RequestPage::new(&viewer, &policy, Typed::default()))
}

/// What the form for a request holds. Fields that were left empty are sent empty.
#[derive(Deserialize)]
struct Asked {
    reason: String,
    duration_seconds: Option<String>,
    #[serde(default)]
    ticket: String,
    code: Option<SecretString>,
    bypass_approval: Option<String>,
}

/// Which field a refusal of a request is about.
pub(super) const FIELDS: &[(Code, &str)] = &[
    (Code::ReasonRequired, "reason"),
    (Code::ReasonTooWeak, "reason"),
    (Code::DurationTooLong, "duration_seconds"),
    (Code::TicketInvalid, "ticket"),
    (Code::FreshMfaRequired, "code"),
];

/// A field that was left empty is none.
pub(super) fn given(text: &str) -> Option<String> {
    Some(text.trim()).filter(|text| !text.is_empty()).map(ToOwned::to_owned)
}

/// A code as it was typed, spaces left out; none if none was.
pub(super) fn code(typed: Option<&SecretString>) -> Option<SecretString> {
    let code: String = typed?.expose_secret().split_whitespace().collect();
    (!code.is_empty()).then(|| code.into())
}

async fn request(
    extract::State(state): extract::State<State>,
    viewer: Viewer,
    guess: Guess,
    Form(asked): Form<Asked>,
) -> Result<Response, Turned> {
    let duration = asked.duration_seconds.unwrap_or_default();
    let typed = Typed::default()
        .with("reason", &asked.reason)
        .with("ticket", &asked.ticket)
        .with("duration_seconds", &duration)
        .with("bypass_approval", asked.bypass_approval.as_deref().unwrap_or_default());
    let code = code(asked.code.as_ref());
    let shown = code.is_some();
    let request = RequestGrant {
        caller: viewer.caller.clone(),
        grant_id: GrantId::new(state.clock.wall()),
        reason: asked.reason,
        duration_seconds: duration.parse().ok().filter(|seconds| *seconds >= SHORTEST_SECONDS),
        role: None,
        ticket: given(&asked.ticket),
        code,
        bypass_approval: asked.bypass_approval.is_some(),
    };
    match receipt::soon(guess.judge_code(shown, state.bus.request(&request))).await {
        Ok(made) => Ok(viewer.go(
            PAGE,
            match made.receipt {
                Some(receipt) => Notice::with("grant-activated", &receipt),
                None => Notice::of("grant-requested"),
            },
        )),
        Err(refusal) => {
            let status = refusal.code.status();
            let policy = policy_for(&state, &viewer).await?;
            let page = RequestPage::new(&viewer, &policy, typed.refused(refusal, FIELDS));
            viewer.refuse(&page, status)
        }
    }
}

#[derive(Template)]
#[template(path = "emergency-policy.html")]
struct PolicyPage<'a> {
    shell: &'a Shell,
    policy: EmergencyPolicy,
    form: Typed,
    roles: [Role; 3],
    may_save: bool,
}

impl<'a> PolicyPage<'a> {
    fn new(viewer: &'a Viewer, policy: EmergencyPolicy, form: Typed) -> Self {
        let may_save = viewer.shell.has(Permission::TenantManage);
        Self { shell: &viewer.shell, policy, form, roles: ROLES, may_save }
    }

    fn minutes(&self, seconds: &u32) -> String {
        shown_minutes(*seconds)
    }
}

async fn show_policy(
    extract::State(state): extract::State<State>,
    viewer: Viewer,
) -> Result<Response, Turned> {
    let policy = policy_for(&state, &viewer).await?;
    viewer.show(&PolicyPage::new(&viewer, policy, Typed::default()))
}

/// The policy as its form has it. Times are in minutes, but for those that people think of in hours.
#[derive(Deserialize)]
struct NewPolicy {
    role: Role,
    applies_to: AppliesTo,
    #[serde(default)]
    requesters: BTreeSet<Role>,
    #[serde(default)]
    approvers: BTreeSet<Role>,
    max_duration_minutes: String,
    default_duration_minutes: String,
    approvals_needed: String,
    require_fresh_mfa: Option<String>,
    min_reason_length: String,
    #[serde(default)]
    ticket_pattern: String,
    max_active_per_user: String,
    cooldown_minutes: String,
    pending_timeout_minutes: String,
    review_within_hours: String,
    extensions_allowed: String,
    bypass_allowed: Option<String>,
    bypass_max_minutes: String,
}

impl NewPolicy {
    /// The policy, or which fields are not what they should be. Seconds that the form cannot show
    /// stay as they are in `old`.
    fn read(self, old: &EmergencyPolicy) -> Result<EmergencyPolicy, Typed> {
        let mut typed = Typed::default();
        let mut number = |name: &'static str, text: &str| {
            text.trim().parse::<u32>().unwrap_or_else(|_| {
                let was = std::mem::take(&mut typed);
                typed = was.problem(name, wording::WHOLE_NUMBER);
                0
            })
        };
        let mut minutes = |name: &'static str, text: &str, old: u32| {
            if text.trim() == shown_minutes(old) {
                return old;
            }
            number(name, text).saturating_mul(60)
        };
        let max_duration_seconds =
            minutes("max_duration_minutes", &self.max_duration_minutes, old.max_duration_seconds);
        let default_duration_seconds = minutes(
            "default_duration_minutes",
            &self.default_duration_minutes,
            old.default_duration_seconds,
        );
        let cooldown_seconds =
            minutes("cooldown_minutes", &self.cooldown_minutes, old.cooldown_seconds);
        let pending_timeout_seconds = minutes(
            "pending_timeout_minutes",
            &self.pending_timeout_minutes,
            old.pending_timeout_seconds,
        );
        let bypass_seconds = minutes(
            "bypass_max_minutes",
            &self.bypass_max_minutes,
            old.bypass.max_duration_seconds,
        );
        let policy = EmergencyPolicy {
            role: self.role,
            applies_to: self.applies_to,
            requesters: self.requesters,
            max_duration_seconds,
            default_duration_seconds,
            approvals_needed: number("approvals_needed", &self.approvals_needed),
            approvers: self.approvers,
            require_fresh_mfa: self.require_fresh_mfa.is_some(),
            min_reason_length: number("min_reason_length", &self.min_reason_length),
            ticket_pattern: given(&self.ticket_pattern),
            max_active_per_user: number("max_active_per_user", &self.max_active_per_user),
            cooldown_seconds,
            pending_timeout_seconds,
            review_within_hours: number("review_within_hours", &self.review_within_hours),
            extensions_allowed: number("extensions_allowed", &self.extensions_allowed),
            bypass: Bypass {
                allowed: self.bypass_allowed.is_some(),
                max_duration_seconds: bypass_seconds,
            },
        };
        if typed.is_refused() { Err(typed) } else { Ok(policy) }
    }
}

/// Seconds as the form shows them: whole minutes, or with a fraction that says that they are none.
fn shown_minutes(seconds: u32) -> String {
    if seconds.is_multiple_of(60) {
        (seconds / 60).to_string()
    } else {
        format!("{:.2}", f64::from(seconds) / 60.0)
    }
}

async fn set_policy(
    extract::State(state): extract::State<State>,
    viewer: Viewer,
    Form(new): Form<NewPolicy>,
) -> Result<Response, Turned> {
    let old = policy_for(&state, &viewer).await?;
    let policy = match new.read(&old) {
        Ok(policy) => policy,
        Err(typed) => return viewer.refuse(&PolicyPage::new(&viewer, old, typed), 422),
    };
    let request = SetEmergencyPolicy { caller: viewer.caller.clone(), policy: policy.clone() };
    match state.bus.request(&request).await {
        Ok(_) => Ok(viewer.go(PAGE, Notice::of("emergency-policy-saved"))),
        Err(refusal) => {
            let status = refusal.code.status();
            let typed = Typed::default().refused(refusal, &[]);
            viewer.refuse(&PolicyPage::new(&viewer, policy, typed), status)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dialog_offers_what_the_policy_allows() {
        let offered = |most, also, chosen: &str| {
            let durations = durations(most, also, chosen);
            let chosen = durations.iter().find(|(_, _, chosen)| *chosen).map(|(s, _, _)| *s);
            (durations.iter().map(|(seconds, _, _)| *seconds).collect::<Vec<_>>(), chosen)
        };
        assert_eq!(
            offered(14_400, 3_600, ""),
            (vec![900, 1_800, 3_600, 7_200, 14_400], Some(3_600))
        );
        assert_eq!(offered(14_400, 3_600, "900").1, Some(900));
        assert_eq!(offered(20, 60, ""), (vec![20], Some(20)));
        assert_eq!(
            offered(5_400, 2_700, "x"),
            (vec![900, 1_800, 2_700, 3_600, 5_400], Some(2_700))
        );
    }

    #[test]
    fn minutes_are_shown_as_they_are() {
        assert_eq!(shown_minutes(3_600), "60");
        assert_eq!(shown_minutes(90), "1.50");
    }
}
