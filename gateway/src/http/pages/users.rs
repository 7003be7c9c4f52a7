//! Users: who may sign in as what, and inviting somebody.

use std::net::IpAddr;

use askama::Template;
use axum::{
    Router, extract,
    extract::Query,
    http::{Uri, uri::Authority},
    response::Response,
    routing::get,
};
use serde::Deserialize;
use shared::{
    clock::Timestamp,
    id::UserId,
    message::user::{CreateUser, ListUsers, UserDetails},
    refusal::Code,
    role::{ROLES, Role},
    token::PasswordToken,
};

use super::{
    super::State,
    form::{Form, Typed},
    turned::Turned,
    view::{Shell, Viewer},
};

/// The page.
pub(super) const PAGE: &str = "/dashboard?view=users";
/// Users of a page.
const ROWS: u32 = 50;

pub(super) fn routes() -> Router<State> {
    Router::new().route("/users/new", get(show_invite).post(invite))
}

/// Where in the list.
#[derive(Debug, Default, Deserialize)]
struct Place {
    cursor: Option<UserId>,
}

#[derive(Template)]
#[template(path = "users.html")]
struct UsersPage<'a> {
    shell: &'a Shell,
    users: Vec<UserDetails>,
    /// Whether this is a further page.
    is_further: bool,
    more: Option<String>,
}

pub(super) async fn show(state: &State, viewer: &Viewer, uri: &Uri) -> Result<Response, Turned> {
    let place: Place = Query::try_from_uri(uri).map(|Query(place)| place).unwrap_or_default();
    let request = ListUsers { caller: viewer.caller.clone(), limit: ROWS, cursor: place.cursor };
    let found = state.bus.request(&request).await?;
    viewer.show(&UsersPage {
        shell: &viewer.shell,
        users: found.users,
        is_further: place.cursor.is_some(),
        more: found.next_cursor.map(|cursor| format!("{PAGE}&cursor={cursor}")),
    })
}

#[derive(Template)]
#[template(path = "users-invite.html")]
struct InvitePage<'a> {
    shell: &'a Shell,
    form: Typed,
    roles: [Role; 3],
}

impl<'a> InvitePage<'a> {
    const fn new(viewer: &'a Viewer, form: Typed) -> Self {
        Self { shell: &viewer.shell, form, roles: ROLES }
    }
}

async fn show_invite(
    extract::State(state): extract::State<State>,
    viewer: Viewer,
) -> Result<Response, Turned> {
    // Who may not invite is told so before filling a form in.
    let request = ListUsers { caller: viewer.caller.clone(), limit: 1, cursor: None };
    state.bus.request(&request).await?;
    viewer.show(&InvitePage::new(&viewer, Typed::default().with("role", Role::Member.as_str())))
}

/// What the form for an invitation holds.
#[derive(Deserialize)]
struct Invited {
    email: String,
    name: String,
    role: Role,
}

async fn invite(
    extract::State(state): extract::State<State>,
    viewer: Viewer,
    Form(Invited { email, name, role }): Form<Invited>,
) -> Result<Response, Turned> {
    let token = PasswordToken::generate();
    let request = CreateUser {
        caller: viewer.caller.clone(),
        user_id: UserId::new(state.clock.wall()),
        email: email.clone(),
        name: name.clone(),
        role,
        token: token.hash(),
    };
    match state.bus.request(&request).await {
        Ok(one) => viewer.show(&LinkPage::new(&state, &viewer, &one.user, &token, None)),
        Err(refusal) => {
            let status = refusal.code.status();
            let form = Typed::default()
                .with("email", email)
                .with("name", name)
                .with("role", role.as_str())
                .refused(refusal, &[(Code::Conflict, "email")]);
            viewer.refuse(&InvitePage::new(&viewer, form), status)
        }
    }
}

/// The link with which somebody sets a password. It is shown this once: nothing but the hash of its
/// token is kept.
#[derive(Template)]
#[template(path = "users-link.html")]
pub(super) struct LinkPage<'a> {
    shell: &'a Shell,
    user: &'a UserDetails,
    link: String,
    /// Until when it counts; none: as long as first links do.
    expires_at: Option<Timestamp>,
}

impl<'a> LinkPage<'a> {
    pub(super) fn new(
        state: &State,
        viewer: &'a Viewer,
        user: &'a UserDetails,
        token: &PasswordToken,
        expires_at: Option<Timestamp>,
    ) -> Self {
        let host = viewer.header("host").and_then(|host| host.to_str().ok());
        let origin = origin(&state.public_origins, host);
        let link = format!("{origin}/password-reset#{}", token.expose());
        Self { shell: &viewer.shell, user, link, expires_at }
    }
}

/// Where browsers reach this gateway: of what is configured the one that this browser has used, else
/// the first; where nothing is, what this browser has used.
fn origin(public_origins: &[String], host: Option<&str>) -> String {
    let is_used = |origin: &&String| {
        let authority = origin.trim_end_matches('/').split_once("://").map(|(_, rest)| rest);
        host.is_some() && authority == host
    };
    if let Some(origin) = public_origins.iter().find(is_used).or(public_origins.first()) {
        return origin.trim_end_matches('/').to_owned();
    }
    let Some(authority) = host.and_then(|host| host.parse::<Authority>().ok()) else {
        return String::new();
    };
    // The session's cookie came, and browsers send it over TLS alone, but on their own machine.
    let name = authority.host();
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let is_local = name == "localhost"
        || name.ends_with(".localhost")
        || address.is_ok_and(|address| address.is_loopback());
    format!("{}://{authority}", if is_local { "http" } else { "https" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_to_where_browsers_reach_this() {
        let of = |public: &[&str], host: Option<&str>| {
            let public: Vec<_> = public.iter().map(|origin| (*origin).to_owned()).collect();
            origin(&public, host)
        };
        let public = ["https://a.test/", "https://b.test:8443"];
        assert_eq!(of(&public, Some("10.0.0.7:8080")), "https://a.test");
        assert_eq!(of(&public, Some("b.test:8443")), "https://b.test:8443");
        assert_eq!(of(&public, None), "https://a.test");
        for (host, expected) in [
            ("bg.test", "https://bg.test"),
            ("bg.test:8443", "https://bg.test:8443"),
            ("localhost:8080", "http://localhost:8080"),
            ("a.localhost", "http://a.localhost"),
            ("127.0.0.1:9080", "http://127.0.0.1:9080"),
            ("[::1]:9080", "http://[::1]:9080"),
            ("localhost.evil.test", "https://localhost.evil.test"),
            ("a b", ""),
        ] {
            assert_eq!(of(&[], Some(host)), expected);
        }
        assert_eq!(of(&[], None), "");
    }
}
