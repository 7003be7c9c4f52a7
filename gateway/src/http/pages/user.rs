//! One user: their page, and what an admin can do about them.

use askama::Template;
use axum::{Router, extract, response::Response, routing::get};
use secrecy::SecretString;
use serde::Deserialize;
use shared::{
    id::{SessionId, UserId},
    message::{
        mfa::Reset,
        revocation::Receipt,
        session::{List, Revoke, RevokeAll, Session},
        user::{ChangeUser, ChangedUser, GetUser, ResetPassword, UserDetails},
    },
    refusal::{Code, Refusal},
    role::{Permission, ROLES, Role},
    token::PasswordToken,
};
use uuid::Uuid;

use super::{
    super::{
        State,
        guess::Guess,
        parameters::{Id, Ids},
    },
    emergency,
    form::{Form, Typed},
    notice::Notice,
    receipt,
    turned::Turned,
    users::LinkPage,
    view::{Shell, Viewer},
    wording,
};

pub(super) fn routes() -> Router<State> {
    Router::new()
        .route("/users/{id}", get(show))
        .route("/users/{id}/change", get(show_change).post(change))
        .route("/users/{id}/disable", get(show_disable).post(disable))
        .route("/users/{id}/enable", get(show_enable).post(enable))
        .route("/users/{id}/reset-password", get(show_reset_password).post(reset_password))
        .route("/users/{id}/reset-mfa", get(show_reset_mfa).post(reset_mfa))
        .route("/users/{id}/sessions/revoke-all", get(show_revoke_all).post(revoke_all))
        .route("/users/{id}/sessions/{session}/revoke", get(show_revoke).post(revoke))
}

async fn get_user(state: &State, viewer: &Viewer, id: Uuid) -> Result<UserDetails, Refusal> {
    let request = GetUser { caller: viewer.caller.clone(), user_id: UserId(id) };
    Ok(state.bus.request(&request).await?.user)
}

async fn get_sessions(state: &State, viewer: &Viewer, id: Uuid) -> Result<Vec<Session>, Refusal> {
    let request = List { caller: viewer.caller.clone(), user_id: Some(UserId(id)) };
    Ok(state.bus.request(&request).await?.sessions)
}

/// The page of a user.
fn page_of(id: Uuid) -> String {
    format!("/users/{id}")
}

#[derive(Template)]
#[template(path = "user.html")]
struct UserPage<'a> {
    shell: &'a Shell,
    user: &'a UserDetails,
    /// Whether this is the viewer, who has pages of their own for most of it.
    is_me: bool,
    /// Where they are signed in, if the viewer may see that.
    sessions: Option<Vec<Session>>,
}

async fn show(
    extract::State(state): extract::State<State>,
    viewer: Viewer,
    Id(id): Id,
) -> Result<Response, Turned> {
    let user = get_user(&state, &viewer, id).await?;
    let shell = &viewer.shell;
    let is_me = shell.is_me(&user.id);
    let sessions = if !is_me && shell.has(Permission::SessionRevokeAny) {
        Some(get_sessions(&state, &viewer, id).await?)
    } else {
        None
    };
    viewer.show(&UserPage { shell, user: &user, is_me, sessions })
}

/// What is to be done about a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    Change,
    Disable,
    Enable,
    ResetPassword,
    ResetMfa,
    RevokeAll,
}

impl Task {
    /// The heading of its form.
    fn title(self) -> &'static str {
        wording::user_task(self.name())
    }

    /// As in the route.
    const fn name(self) -> &'static str {
        match self {
            Self::Change => "change",
            Self::Disable => "disable",
            Self::Enable => "enable",
            Self::ResetPassword => "reset-password",
            Self::ResetMfa => "reset-mfa",
            Self::RevokeAll => "sessions/revoke-all",
        }
    }
}

/// A form about a user that is shown before something is done.
#[derive(Template)]
#[template(path = "user-task.html")]
struct TaskPage<'a> {
    shell: &'a Shell,
    user: &'a UserDetails,
    task: Task,
    form: Typed,
    roles: [Role; 3],
    /// Whether the viewer has a second factor, of which a code is needed.
    wants_code: bool,
}

async fn show_task(
    state: &State,
    viewer: &Viewer,
    id: Uuid,
    task: Task,
    form: Option<Typed>,
    status: u16,
) -> Result<Response, Turned> {
    let user = get_user(state, viewer, id).await?;
    let form = form.unwrap_or_else(|| {
        Typed::default().with("name", &user.name).with("role", user.role.as_str())
    });
    let page = TaskPage {
        shell: &viewer.shell,
        user: &user,
        task,
        form,
        roles: ROLES,
        wants_code: viewer.shell.account.mfa.enabled,
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
            show_task(&state, &viewer, id, $task, None, 200).await
        }
    )*};
}

tasks! {
    show_change: Task::Change;
    show_disable: Task::Disable;
    show_enable: Task::Enable;
    show_reset_password: Task::ResetPassword;
    show_reset_mfa: Task::ResetMfa;
    show_revoke_all: Task::RevokeAll;
}

/// That something was done, with its receipt where there is one.
fn notice(done: &'static str, receipt: Option<&Receipt>) -> Notice {
    receipt.map_or(Notice::of(done), |receipt| Notice::with(done, receipt))
}

/// What the form for a change holds.
#[derive(Deserialize)]
struct Changes {
    name: String,
    role: Role,
}

async fn change(
    extract::State(state): extract::State<State>,
    viewer: Viewer,
    Id(id): Id,
    Form(Changes { name, role }): Form<Changes>,
) -> Result<Response, Turned> {
    let request = ChangeUser {
        caller: viewer.caller.clone(),
        user_id: UserId(id),
        name: Some(name.clone()),
        role: Some(role),
        disabled: None,
    };
    match receipt::soon(state.bus.request(&request)).await {
        Ok(ChangedUser { user, receipt }) => {
            let was = &viewer.shell.account.user;
            // Who has given their own rights up may not see this page any more.
            let gave_up = was.id == user.id && was.role != user.role;
            let place = if gave_up { emergency::PAGE.to_owned() } else { page_of(id) };
            Ok(viewer.go(&place, notice("user-changed", receipt.as_ref())))
        }
        Err(refusal) => {
            let status = refusal.code.status();
            let form = Typed::default()
                .with("name", name)
                .with("role", role.as_str())
                .refused(refusal, &[(Code::BadRequest, "name")]);
            show_task(&state, &viewer, id, Task::Change, Some(form), status).await
        }
    }
}

async fn disable(
    extract::State(state): extract::State<State>,
    viewer: Viewer,
    Id(id): Id,
) -> Result<Response, Turned> {
    set_disabled(&state, &viewer, id, true).await
}

async fn enable(
    extract::State(state): extract::State<State>,
    viewer: Viewer,
    Id(id): Id,
) -> Result<Response, Turned> {
    set_disabled(&state, &viewer, id, false).await
}

async fn set_disabled(
    state: &State,
    viewer: &Viewer,
    id: Uuid,
    disabled: bool,
) -> Result<Response, Turned> {
    let (task, done) =
        if disabled { (Task::Disable, "user-disabled") } else { (Task::Enable, "user-enabled") };
    let request = ChangeUser {
        caller: viewer.caller.clone(),
        user_id: UserId(id),
        name: None,
        role: None,
        disabled: Some(disabled),
    };
    match receipt::soon(state.bus.request(&request)).await {
        Ok(changed) => Ok(viewer.go(&page_of(id), notice(done, changed.receipt.as_ref()))),
        Err(refusal) => {
            let status = refusal.code.status();
            let form = Typed::default().refused(refusal, &[]);
            show_task(state, viewer, id, task, Some(form), status).await
        }
    }
}

async fn reset_password(
    extract::State(state): extract::State<State>,
    viewer: Viewer,
    Id(id): Id,
) -> Result<Response, Turned> {
    let user = get_user(&state, &viewer, id).await?;
    let token = PasswordToken::generate();
    let request =
        ResetPassword { caller: viewer.caller.clone(), user_id: UserId(id), token: token.hash() };
    match state.bus.request(&request).await {
        Ok(issued) => {
            let until = Some(issued.expires_at);
            viewer.show(&LinkPage::new(&state, &viewer, &user, &token, until))
        }
        Err(refusal) => {
            let status = refusal.code.status();
            let form = Typed::default().refused(refusal, &[]);
            show_task(&state, &viewer, id, Task::ResetPassword, Some(form), status).await
        }
    }
}

/// With what an admin proves that it is them.
#[derive(Deserialize)]
struct Proof {
    password: SecretString,
    code: Option<SecretString>,
}

async fn reset_mfa(
    extract::State(state): extract::State<State>,
    viewer: Viewer,
    guess: Guess,
    Id(id): Id,
    Form(Proof { password, code }): Form<Proof>,
) -> Result<Response, Turned> {
    let request = Reset {
        caller: viewer.caller.clone(),
        user_id: UserId(id),
        password,
        code: emergency::code(code.as_ref()),
    };
    match receipt::soon(guess.judge(state.bus.request(&request))).await {
        Ok(reset) => Ok(viewer.go(&page_of(id), Notice::with("mfa-reset", &reset.receipt))),
        Err(refusal) => {
            let status = refusal.code.status();
            // Which of the two was wrong, the refusal says itself.
            let fields: &[_] = if viewer.shell.account.mfa.enabled {
                &[(Code::FreshMfaRequired, "code")]
            } else {
                &[(Code::InvalidCredentials, "password")]
            };
            let form = Typed::default().refused(refusal, fields);
            show_task(&state, &viewer, id, Task::ResetMfa, Some(form), status).await
        }
    }
}

async fn revoke_all(
    extract::State(state): extract::State<State>,
    viewer: Viewer,
    Id(id): Id,
) -> Result<Response, Turned> {
    let request = RevokeAll { caller: viewer.caller.clone(), user_id: Some(UserId(id)) };
    match receipt::soon(state.bus.request(&request)).await {
        Ok(ended) => {
            let notice = Notice::with("user-sessions-revoked", &ended.receipt);
            Ok(viewer.go(&page_of(id), notice))
        }
        Err(refusal) => {
            let status = refusal.code.status();
            let form = Typed::default().refused(refusal, &[]);
            show_task(&state, &viewer, id, Task::RevokeAll, Some(form), status).await
        }
    }
}

/// The form before one session ends.
#[derive(Template)]
#[template(path = "user-session.html")]
struct SessionPage<'a> {
    shell: &'a Shell,
    user: &'a UserDetails,
    session: &'a Session,
    form: Typed,
}

async fn show_session(
    state: &State,
    viewer: &Viewer,
    (id, session): (Uuid, Uuid),
    form: Typed,
    status: u16,
) -> Result<Response, Turned> {
    let user = get_user(state, viewer, id).await?;
    let sessions = get_sessions(state, viewer, id).await?;
    let found = sessions.iter().find(|one| one.id == SessionId(session));
    let session = found.ok_or_else(Refusal::not_found)?;
    viewer.refuse(&SessionPage { shell: &viewer.shell, user: &user, session, form }, status)
}

async fn show_revoke(
    extract::State(state): extract::State<State>,
    viewer: Viewer,
    Ids(id, session): Ids,
) -> Result<Response, Turned> {
    show_session(&state, &viewer, (id, session), Typed::default(), 200).await
}

async fn revoke(
    extract::State(state): extract::State<State>,
    viewer: Viewer,
    Ids(id, session): Ids,
) -> Result<Response, Turned> {
    let request = Revoke {
        caller: viewer.caller.clone(),
        user_id: Some(UserId(id)),
        session_id: SessionId(session),
    };
    match receipt::soon(state.bus.request(&request)).await {
        Ok(ended) => Ok(viewer.go(&page_of(id), Notice::with("session-revoked", &ended.receipt))),
        Err(refusal) => {
            let status = refusal.code.status();
            let form = Typed::default().refused(refusal, &[]);
            show_session(&state, &viewer, (id, session), form, status).await
        }
    }
}
