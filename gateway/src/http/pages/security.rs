//! Security: the policy for second factors, one's own, one's sessions and one's password.

#![expect(
    clippy::unused_self,
    clippy::trivially_copy_pass_by_ref,
    reason = "templates call methods, and pass references"
)]

use std::collections::BTreeSet;

use askama::Template;
use axum::{
    Router, extract,
    http::{HeaderValue, header::SET_COOKIE},
    response::Response,
    routing::{get, post},
};
use secrecy::SecretString;
use serde::Deserialize;
use shared::{
    id::SessionId,
    message::{
        mfa::{
            Confirm, Disable, Enroll, Enrollment, GetPolicy, GetPolicyReach, MfaPolicy,
            PolicyReach, RenewBackupCodes, SetPolicy,
        },
        session::{DeviceKind, List, Revoke, RevokeAll, Session},
        user::ChangePassword,
    },
    refusal::{Code, Refusal},
    role::{Permission, ROLES, Role},
    token::Token,
};

use super::{
    super::{State, credential::set_cookie, guess::Guess, parameters::Id},
    emergency::code,
    form::{Form, Typed},
    notice::Notice,
    receipt,
    turned::Turned,
    view::{Shell, Viewer},
    wording,
};

/// The page.
const PAGE: &str = "/dashboard?view=rbac-security";

pub(super) fn routes() -> Router<State> {
    Router::new()
        .route("/settings/security", get(show_settings))
        .route("/security/mfa-policy", post(set_policy))
        .route("/security/mfa/set-up", get(show_set_up).post(set_up))
        .route("/security/mfa/confirm", get(show_set_up).post(confirm))
        .route("/security/mfa/disable", get(show_disable).post(disable))
        .route("/security/mfa/backup-codes", get(show_renew).post(renew))
        .route("/security/password", get(show_password).post(change_password))
        .route("/security/sessions/revoke-others", get(show_revoke_others).post(revoke_others))
        .route("/security/sessions/{id}/revoke", get(show_revoke).post(revoke))
}

#[derive(Template)]
#[template(path = "security.html")]
struct SecurityPage<'a> {
    shell: &'a Shell,
    sessions: Vec<Session>,
    others: usize,
    policy: MfaPolicy,
    /// For those who may change the policy.
    reach: Option<PolicyReach>,
    form: Typed,
    roles: [Role; 3],
}

impl SecurityPage<'_> {
    /// A sign for what a session runs on.
    fn sign(&self, kind: &DeviceKind) -> &'static str {
        match kind {
            DeviceKind::Desktop => "M3 5h18v11H3zM8 20h8M12 16v4",
            DeviceKind::Mobile => "M7 2h10v20H7zM11 18h2",
            DeviceKind::Tablet => "M5 3h14v18H5zM11 18h2",
            DeviceKind::Bot => "m4 6 5 6-5 6M12 18h8",
            DeviceKind::Unknown => {
                "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18M9.5 9a2.5 2.5 0 1 1 2.5 3v2M12 17v.5"
            }
        }
    }

    /// How many the policy concerns, and how many of them have no factor yet.
    fn concerned(&self) -> (u32, u32) {
        let reach = self.reach.iter().flat_map(|reach| &reach.roles);
        let required = reach.filter(|role| role.required);
        required.fold((0, 0), |(users, without), role| (users + role.users, without + role.without))
    }
}

async fn show_settings(
    extract::State(state): extract::State<State>,
    viewer: Viewer,
) -> Result<Response, Turned> {
    show(&state, &viewer).await
}

pub(super) async fn show(state: &State, viewer: &Viewer) -> Result<Response, Turned> {
    if viewer.shell.is_enrolling() {
        return Err(Refusal::enrollment_required().into());
    }
    let page = security_page(state, viewer, None, Typed::default()).await?;
    viewer.show(&page)
}

async fn security_page<'a>(
    state: &State,
    viewer: &'a Viewer,
    typed: Option<MfaPolicy>,
    form: Typed,
) -> Result<SecurityPage<'a>, Turned> {
    let caller = &viewer.caller;
    let (list, get) =
        (List { caller: caller.clone(), user_id: None }, GetPolicy { caller: caller.clone() });
    let reach = async {
        if !viewer.shell.has(Permission::TenantManage) {
            return Ok(None);
        }
        state.bus.request(&GetPolicyReach { caller: caller.clone() }).await.map(Some)
    };
    let (sessions, policy, reach) =
        tokio::try_join!(state.bus.request(&list), state.bus.request(&get), reach)?;
    Ok(SecurityPage {
        shell: &viewer.shell,
        others: sessions.sessions.iter().filter(|session| !session.current).count(),
        sessions: sessions.sessions,
        policy: typed.unwrap_or(policy),
        reach,
        form,
        roles: ROLES,
    })
}

/// The policy as its form has it.
#[derive(Deserialize)]
struct NewPolicy {
    require_2fa: Option<String>,
    #[serde(default)]
    required_roles: BTreeSet<Role>,
    grace_period_days: String,
}

async fn set_policy(
    extract::State(state): extract::State<State>,
    viewer: Viewer,
    Form(new): Form<NewPolicy>,
) -> Result<Response, Turned> {
    let days = new.grace_period_days.trim().parse::<u32>();
    let policy = MfaPolicy {
        require_2fa: new.require_2fa.is_some(),
        required_roles: new.required_roles,
        grace_period_days: days.clone().unwrap_or(u32::MAX),
    };
    let request = SetPolicy { caller: viewer.caller.clone(), policy: policy.clone() };
    let refusal = match days {
        Ok(0..=90) => match receipt::soon(state.bus.request(&request)).await {
            Ok(set) => return Ok(viewer.go(PAGE, Notice::with("mfa-policy-saved", &set.receipt))),
            Err(refusal) => refusal,
        },
        _ => Refusal::new(Code::BadRequest, wording::GRACE_PERIOD),
    };
    let status = refusal.code.status();
    let form = Typed::default()
        .with("grace_period_days", &new.grace_period_days)
        .refused(refusal, &[(Code::BadRequest, "grace_period_days")]);
    viewer.refuse(&security_page(&state, &viewer, Some(policy), form).await?, status)
}

/// What one has to prove before something is done about one's account.
#[derive(Template)]
#[template(path = "security-task.html")]
struct TaskPage<'a> {
    shell: &'a Shell,
    task: Task,
    form: Typed,
    /// The session that is to be ended.
    session: Option<Session>,
    others: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    SetUp,
    Disable,
    Renew,
    Password,
    Revoke,
    RevokeOthers,
}

impl Task {
    const fn name(self) -> &'static str {
        match self {
            Self::SetUp => "set-up",
            Self::Disable => "disable",
            Self::Renew => "backup-codes",
            Self::Password => "password",
            Self::Revoke => "revoke",
            Self::RevokeOthers => "revoke-others",
        }
    }
}

const PROOF: &[(Code, &str)] = &[
    (Code::InvalidCredentials, "password"),
    (Code::FreshMfaRequired, "code"),
    (Code::PasswordTooWeak, "new_password"),
];

fn show_task(
    viewer: &Viewer,
    task: Task,
    refusal: Option<Refusal>,
    form: Typed,
) -> Result<Response, Turned> {
    let status = refusal.as_ref().map_or(200, |refusal| refusal.code.status());
    let form = match refusal {
        Some(refusal) => form.refused(refusal, PROOF),
        None => form,
    };
    let page = TaskPage { shell: &viewer.shell, task, form, session: None, others: 0 };
    viewer.refuse(&page, status)
}

async fn show_set_up(viewer: Viewer) -> Result<Response, Turned> {
    show_task(&viewer, Task::SetUp, None, Typed::default())
}

async fn show_disable(viewer: Viewer) -> Result<Response, Turned> {
    show_task(&viewer, Task::Disable, None, Typed::default())
}

async fn show_renew(viewer: Viewer) -> Result<Response, Turned> {
    show_task(&viewer, Task::Renew, None, Typed::default())
}

async fn show_password(viewer: Viewer) -> Result<Response, Turned> {
    show_task(&viewer, Task::Password, None, Typed::default())
}

/// What the forms hold by which one proves who one is.
#[derive(Deserialize)]
struct Proof {
    password: SecretString,
    code: Option<SecretString>,
}

/// The second step of setting up: what the app has to know.
#[derive(Template)]
#[template(path = "security-enroll.html")]
struct EnrollPage<'a> {
    shell: &'a Shell,
    /// Shown once; absent where a first code was wrong and is asked for again.
    enrollment: Option<&'a Enrollment>,
    form: Typed,
}

async fn set_up(
    extract::State(state): extract::State<State>,
    viewer: Viewer,
    guess: Guess,
    Form(proof): Form<Proof>,
) -> Result<Response, Turned> {
    let request = Enroll {
        caller: viewer.caller.clone(),
        password: proof.password,
        code: code(proof.code.as_ref()),
    };
    match guess.judge(state.bus.request(&request)).await {
        Ok(enrollment) => viewer.show(&EnrollPage {
            shell: &viewer.shell,
            enrollment: Some(&enrollment),
            form: Typed::default(),
        }),
        Err(refusal) => show_task(&viewer, Task::SetUp, Some(refusal), Typed::default()),
    }
}

#[derive(Deserialize)]
struct FirstCode {
    code: SecretString,
}

/// Backup codes, shown once.
#[derive(Template)]
#[template(path = "security-codes.html")]
struct CodesPage<'a> {
    shell: &'a Shell,
    codes: &'a [String],
    /// Whether they come with a new factor.
    enrolled: bool,
}

impl CodesPage<'_> {
    /// The codes as a file.
    fn file(&self) -> String {
        format!("data:text/plain;charset=utf-8,{}%0A", self.codes.join("%0A"))
    }
}

/// Shown in place of the whole task, wherever the form asked to be shown.
fn show_codes(viewer: &Viewer, codes: &[String], enrolled: bool) -> Result<Response, Turned> {
    let mut response = viewer.show(&CodesPage { shell: &viewer.shell, codes, enrolled })?;
    let headers = response.headers_mut();
    headers.insert("hx-retarget", HeaderValue::from_static("#task"));
    headers.insert("hx-reselect", HeaderValue::from_static("#task"));
    Ok(response)
}

async fn confirm(
    extract::State(state): extract::State<State>,
    viewer: Viewer,
    guess: Guess,
    Form(first): Form<FirstCode>,
) -> Result<Response, Turned> {
    let token = Token::generate();
    let typed = code(Some(&first.code)).unwrap_or_default();
    let request = Confirm { caller: viewer.caller.clone(), code: typed, token: token.hash() };
    match guess.judge(receipt::soon(state.bus.request(&request))).await {
        Ok(confirmed) => {
            let mut response = show_codes(&viewer, &confirmed.backup_codes, true)?;
            response.headers_mut().append(SET_COOKIE, set_cookie(&token));
            Ok(response)
        }
        Err(refusal) if refusal.code == Code::NotFound => {
            let detail = wording::FIRST_CODE_LATE;
            let refusal = Refusal::new(Code::Conflict, detail);
            show_task(&viewer, Task::SetUp, Some(refusal), Typed::default())
        }
        Err(refusal) => {
            let status = refusal.code.status();
            let form = Typed::default().refused(refusal, &[(Code::InvalidCredentials, "code")]);
            viewer.refuse(&EnrollPage { shell: &viewer.shell, enrollment: None, form }, status)
        }
    }
}

async fn disable(
    extract::State(state): extract::State<State>,
    viewer: Viewer,
    guess: Guess,
    Form(proof): Form<Proof>,
) -> Result<Response, Turned> {
    let request = Disable {
        caller: viewer.caller.clone(),
        password: proof.password,
        code: code(proof.code.as_ref()).unwrap_or_default(),
    };
    match guess.judge(state.bus.request(&request)).await {
        Ok(_) => Ok(viewer.go(PAGE, Notice::of("mfa-disabled"))),
        Err(refusal) => show_task(&viewer, Task::Disable, Some(refusal), Typed::default()),
    }
}

async fn renew(
    extract::State(state): extract::State<State>,
    viewer: Viewer,
    guess: Guess,
    Form(proof): Form<Proof>,
) -> Result<Response, Turned> {
    let request = RenewBackupCodes {
        caller: viewer.caller.clone(),
        password: proof.password,
        code: code(proof.code.as_ref()).unwrap_or_default(),
    };
    match guess.judge(state.bus.request(&request)).await {
        Ok(codes) => show_codes(&viewer, &codes.backup_codes, false),
        Err(refusal) => show_task(&viewer, Task::Renew, Some(refusal), Typed::default()),
    }
}

/// The form for another password.
#[derive(Deserialize)]
struct Change {
    password: SecretString,
    new_password: SecretString,
    code: Option<SecretString>,
}

async fn change_password(
    extract::State(state): extract::State<State>,
    viewer: Viewer,
    guess: Guess,
    Form(change): Form<Change>,
) -> Result<Response, Turned> {
    let request = ChangePassword {
        caller: viewer.caller.clone(),
        current_password: change.password,
        new_password: change.new_password,
        code: code(change.code.as_ref()),
    };
    match guess.judge(receipt::soon(state.bus.request(&request))).await {
        Ok(set) => Ok(viewer.go(PAGE, Notice::with("password-changed", &set.receipt))),
        Err(refusal) => show_task(&viewer, Task::Password, Some(refusal), Typed::default()),
    }
}

async fn sessions(state: &State, viewer: &Viewer) -> Result<Vec<Session>, Refusal> {
    let request = List { caller: viewer.caller.clone(), user_id: None };
    Ok(state.bus.request(&request).await?.sessions)
}

async fn show_revoke(
    extract::State(state): extract::State<State>,
    viewer: Viewer,
    Id(id): Id,
) -> Result<Response, Turned> {
    let sessions = sessions(&state, &viewer).await?;
    let session = sessions.into_iter().find(|session| session.id == SessionId(id));
    let page = TaskPage {
        shell: &viewer.shell,
        task: Task::Revoke,
        form: Typed::default(),
        session: Some(session.ok_or_else(Refusal::not_found)?),
        others: 0,
    };
    viewer.show(&page)
}

async fn revoke(
    extract::State(state): extract::State<State>,
    viewer: Viewer,
    Id(id): Id,
) -> Result<Response, Turned> {
    let request =
        Revoke { caller: viewer.caller.clone(), user_id: None, session_id: SessionId(id) };
    let ended = receipt::soon(state.bus.request(&request)).await?;
    Ok(viewer.go(PAGE, Notice::with("session-revoked", &ended.receipt)))
}

async fn show_revoke_others(
    extract::State(state): extract::State<State>,
    viewer: Viewer,
) -> Result<Response, Turned> {
    let others = sessions(&state, &viewer).await?.iter().filter(|s| !s.current).count();
    let page = TaskPage {
        shell: &viewer.shell,
        task: Task::RevokeOthers,
        form: Typed::default(),
        session: None,
        others,
    };
    viewer.show(&page)
}

async fn revoke_others(
    extract::State(state): extract::State<State>,
    viewer: Viewer,
) -> Result<Response, Turned> {
    let request = RevokeAll { caller: viewer.caller.clone(), user_id: None };
    let ended = receipt::soon(state.bus.request(&request)).await?;
    Ok(viewer.go(PAGE, Notice::with("sessions-revoked", &ended.receipt)))
}
