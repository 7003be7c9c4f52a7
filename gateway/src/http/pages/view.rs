//! What every page has: who looks at it, and the frame round it.

#![expect(
    clippy::unused_self,
    clippy::trivially_copy_pass_by_ref,
    reason = "templates call methods, and pass references"
)]

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderValue, Method, header::SET_COOKIE, request::Parts},
    response::Response,
};
use shared::{
    bus::Bus,
    clock::Timestamp,
    id::UserId,
    message::{
        Caller,
        account::{Account, Me},
        grant::{self, GetGrant, Grant},
    },
    refusal::Refusal,
    role::Permission,
};

use super::{
    super::{State, caller::Signed},
    notice::{self, Notice},
    receipt::ReceiptView,
    sign_in,
    turned::{self, Turned},
    wording,
};

/// Somebody who is signed in and looks at a page.
pub(super) struct Viewer {
    pub(super) caller: Caller,
    pub(super) shell: Shell,
    headers: HeaderMap,
}

/// The frame round a page.
pub(super) struct Shell {
    pub(super) account: Account,
    /// The grant that raises the viewer's role now.
    pub(super) elevation: Option<Grant>,
    /// What was done on the page before.
    pub(super) notice: Option<Shown>,
    /// The page's own address, from the root.
    pub(super) here: String,
    pub(super) now: Timestamp,
}

/// A notice with its receipt as it stands.
pub(super) struct Shown {
    pub(super) text: &'static str,
    pub(super) receipt: Option<ReceiptView>,
}

impl FromRequestParts<State> for Viewer {
    type Rejection = Turned;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Turned> {
        let here = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let signed = match Signed::from_request_parts(parts, state).await {
            Ok(signed) => look(state, signed, parts, &here).await,
            Err(refused) => Err(refused.into()),
        };
        signed.map_err(|turned| match turned {
            // What was to be looked at comes after the sign-in.
            Turned::Elsewhere(place) if place == sign_in::PAGE && parts.method == Method::GET => {
                Turned::Elsewhere(sign_in::then(&here))
            }
            turned => turned,
        })
    }
}

async fn look(
    state: &State,
    Signed(caller): Signed,
    parts: &Parts,
    here: &str,
) -> Result<Viewer, Turned> {
    let account = state.bus.request(&Me { caller: caller.clone() }).await?;
    let elevation = match account.elevation {
        Some(grant) => elevation(&state.bus, &caller, grant).await?,
        None => None,
    };
    let noticed = Notice::read(&parts.headers).filter(|_| parts.method == Method::GET);
    let notice = match noticed {
        Some(notice) => {
            let receipt = ReceiptView::of(&state.bus, &caller, notice).await;
            wording::done(notice.done).map(|(_, text)| Shown { text, receipt })
        }
        None => None,
    };
    let shell =
        Shell { account, elevation, notice, here: here.to_owned(), now: state.clock.wall() };
    Ok(Viewer { caller, shell, headers: parts.headers.clone() })
}

async fn elevation(
    bus: &Bus,
    caller: &Caller,
    grant_id: shared::id::GrantId,
) -> Result<Option<Grant>, Refusal> {
    let one = bus.request(&GetGrant { caller: caller.clone(), grant_id }).await?;
    // It may have ended between the two questions.
    Ok(Some(one.grant).filter(|grant| grant.state == grant::State::Active))
}

impl Viewer {
    /// Goes on to another page, which says what was done.
    pub(super) fn go(&self, place: &str, notice: Notice) -> Response {
        let mut response = turned::go_for(&self.headers, place);
        response.headers_mut().append(SET_COOKIE, notice.cookie());
        response
    }

    /// A page, after which its notice is forgotten.
    pub(super) fn show(&self, template: &impl askama::Template) -> Result<Response, Turned> {
        let mut response = super::page(template)?;
        if self.shell.notice.is_some() {
            response.headers_mut().append(SET_COOKIE, notice::clear());
        }
        Ok(response)
    }

    /// The page of a form: refused with its own status where something in it is wrong.
    pub(super) fn refuse(
        &self,
        template: &impl askama::Template,
        status: u16,
    ) -> Result<Response, Turned> {
        let mut response = super::page(template)?;
        if let Ok(status) = axum::http::StatusCode::from_u16(status) {
            *response.status_mut() = status;
        }
        Ok(response)
    }

    /// A header of the request.
    pub(super) fn header(&self, name: &str) -> Option<&HeaderValue> {
        self.headers.get(name)
    }
}

impl Shell {
    /// Whether the session can do nothing but set up a second factor.
    pub(super) fn is_enrolling(&self) -> bool {
        let mfa = &self.account.mfa;
        self.account.permissions.is_empty() && mfa.required && !mfa.enabled
    }

    /// Whether the viewer has a permission, by its name.
    pub(super) fn may(&self, permission: &str) -> bool {
        self.account.permissions.iter().any(|own| own.as_str() == permission)
    }

    /// Whether the viewer has a permission.
    pub(super) fn has(&self, permission: Permission) -> bool {
        self.account.permissions.contains(&permission)
    }

    /// Whether this is the viewer.
    pub(super) fn is_me(&self, user: &UserId) -> bool {
        self.account.user.id == *user
    }

    /// Whether a view is the one that is shown, or that the page belongs to.
    pub(super) fn is_at(&self, view: &str) -> bool {
        let (path, query) = self.here.split_once('?').unwrap_or((&self.here, ""));
        let mut parameters = query.split('&').filter_map(|pair| pair.strip_prefix("view="));
        let own = match path.split('/').nth(1).unwrap_or_default() {
            "security" | "settings" => super::SECURITY,
            "users" => super::USERS,
            "audit" => super::AUDIT,
            "emergency" => super::EMERGENCY,
            _ => parameters.next().unwrap_or(super::EMERGENCY),
        };
        own == view
    }

    /// Until when a second factor has to be set up.
    pub(super) fn mfa_deadline(&self) -> Option<Timestamp> {
        let mfa = &self.account.mfa;
        mfa.grace_ends_at.filter(|_| mfa.required && !mfa.enabled)
    }

    /// A time as people say it: “5 minutes ago”.
    pub(super) fn ago(&self, at: &Timestamp) -> String {
        wording::ago(*at, self.now)
    }

    /// A time in full.
    pub(super) fn stamp(&self, at: &Timestamp) -> String {
        wording::stamp(*at)
    }

    /// Seconds as people say them: “2h 15m”.
    pub(super) fn span(&self, seconds: &u64) -> String {
        wording::span(*seconds)
    }

    /// The first letters of a name.
    pub(super) fn initials(&self) -> String {
        wording::initials(&self.account.user.name)
    }
}
