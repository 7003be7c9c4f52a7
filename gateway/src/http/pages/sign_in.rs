//! Signing in and out, and setting a password by a link.

use askama::Template;
use axum::{
    Router,
    extract::{self, Query},
    http::{HeaderMap, HeaderValue, StatusCode, header::SET_COOKIE},
    response::Response,
    routing::get,
};
use secrecy::SecretString;
use serde::Deserialize;
use shared::{
    message::{
        session::{SignIn, SignInMfa, SignOut, SignedIn},
        user::{ForgotPassword, SetPassword},
    },
    refusal::{Code, Refusal},
    token::{Challenge, PasswordToken, Token},
};

use super::{
    super::{
        State,
        caller::{Signed, Visitor},
        credential::{clear_cookie, set_cookie},
        guess::Guess,
    },
    form::{Form, Typed},
    notice::{self, Notice},
    page,
    turned::{Turned, go_for},
    wording,
};

pub(super) const PAGE: &str = "/login";
/// Where a second factor is set up.
pub(super) const ENROLL: &str = "/security/mfa/set-up";
/// Where one comes to after signing in.
const HOME: &str = "/dashboard?view=rbac-emergency-access";

pub(super) fn routes() -> Router<State> {
    Router::new()
        .route(PAGE, get(show).post(sign_in))
        .route("/login/code", get(show).post(code))
        .route("/logout", get(show).post(sign_out))
        .route("/password-forgotten", get(show_forgotten).post(forgotten))
        .route("/password-reset", get(show_reset).post(reset))
}

/// The sign-in, after which another page comes.
pub(super) fn then(here: &str) -> String {
    let next = form_value(here);
    format!("{PAGE}?next={next}")
}

/// Text as it stands in a query.
fn form_value(text: &str) -> String {
    serde_html_form::to_string([("", text)]).unwrap_or_default().trim_start_matches('=').to_owned()
}

/// A page of ours: nobody is sent elsewhere by a link to the sign-in.
fn own(next: Option<String>) -> String {
    let is_own = |next: &String| {
        let bytes = next.as_bytes();
        bytes.first() == Some(&b'/')
            && !matches!(bytes.get(1), Some(b'/' | b'\\'))
            && bytes.iter().all(|byte| (0x21..0x7f).contains(byte) && *byte != b'\\')
    };
    next.filter(is_own).unwrap_or_else(|| HOME.to_owned())
}

/// What the sign-in was called with.
#[derive(Debug, Default, Deserialize)]
struct Asked {
    next: Option<String>,
    why: Option<String>,
}

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage {
    notice: Option<&'static str>,
    form: Typed,
    next: String,
}

async fn show(
    query: Result<Query<Asked>, extract::rejection::QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Turned> {
    let asked = query.map(|Query(asked)| asked).unwrap_or_default();
    let noticed = Notice::read(&headers).and_then(|notice| wording::done(notice.done));
    let template = LoginPage {
        notice: noticed
            .map(|(_, text)| text)
            .or_else(|| asked.why.as_deref().and_then(wording::ended)),
        form: Typed::default(),
        next: own(asked.next),
    };
    let mut response = page(&template)?;
    if noticed.is_some() {
        response.headers_mut().append(SET_COOKIE, notice::clear());
    }
    Ok(response)
}

#[derive(Deserialize)]
struct Login {
    tenant: String,
    email: String,
    password: SecretString,
    next: Option<String>,
}

async fn sign_in(
    extract::State(state): extract::State<State>,
    Visitor(origin): Visitor,
    guess: Guess,
    headers: HeaderMap,
    Form(login): Form<Login>,
) -> Result<Response, Turned> {
    let Login { tenant, email, password, next } = login;
    let next = own(next);
    let (token, challenge) = (Token::generate(), Challenge::generate());
    let request = SignIn {
        tenant: tenant.clone(),
        email: email.clone(),
        password,
        token: token.hash(),
        challenge: Some(challenge.hash()),
        origin,
    };
    match guess.judge(state.bus.request(&request)).await {
        Ok(SignedIn::MfaRequired) => {
            code_page(Typed::default(), challenge.expose(), next, StatusCode::OK)
        }
        Ok(SignedIn::Authenticated { .. }) => Ok(welcome(&headers, &token, &next)),
        Ok(SignedIn::EnrollmentRequired { .. }) => Ok(welcome(&headers, &token, ENROLL)),
        Err(refusal) => {
            let status = refusal.code.status();
            let form = Typed::default().with("tenant", tenant).with("email", email);
            let form = form.refused(refusal, &[]);
            let template = LoginPage { notice: None, form, next };
            Ok(with_status(page(&template)?, status))
        }
    }
}

fn welcome(headers: &HeaderMap, token: &Token, next: &str) -> Response {
    let mut response = go_for(headers, next);
    response.headers_mut().append(SET_COOKIE, set_cookie(token));
    response
}

fn with_status(mut response: Response, status: u16) -> Response {
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}

#[derive(Template)]
#[template(path = "login-code.html")]
struct CodePage<'a> {
    form: Typed,
    challenge: &'a str,
    next: String,
}

fn code_page(
    form: Typed,
    challenge: &str,
    next: String,
    status: StatusCode,
) -> Result<Response, Turned> {
    let template = CodePage { form, challenge, next };
    Ok(with_status(page(&template)?, status.as_u16()))
}

#[derive(Deserialize)]
struct Shown {
    challenge: String,
    code: SecretString,
    next: Option<String>,
}

async fn code(
    extract::State(state): extract::State<State>,
    Visitor(origin): Visitor,
    guess: Guess,
    headers: HeaderMap,
    Form(Shown { challenge, code, next }): Form<Shown>,
) -> Result<Response, Turned> {
    let next = own(next);
    let Ok(known) = challenge.parse::<Challenge>() else {
        return Ok(go_for(&headers, PAGE));
    };
    let token = Token::generate();
    let request = SignInMfa { challenge: known.hash(), code, token: token.hash(), origin };
    match guess.judge(state.bus.request(&request)).await {
        Ok(SignedIn::EnrollmentRequired { .. }) => Ok(welcome(&headers, &token, ENROLL)),
        Ok(_) => Ok(welcome(&headers, &token, &next)),
        Err(refusal) => {
            let status =
                StatusCode::from_u16(refusal.code.status()).unwrap_or(StatusCode::BAD_REQUEST);
            let form = Typed::default().refused(refusal, &[(Code::InvalidCredentials, "code")]);
            code_page(form, &challenge, next, status)
        }
    }
}

async fn sign_out(
    extract::State(state): extract::State<State>,
    Signed(caller): Signed,
    headers: HeaderMap,
) -> Result<Response, Turned> {
    state.bus.request(&SignOut { caller }).await?;
    Ok(leave(&headers, Notice::of("signed-out")))
}

/// To the sign-in, without a session.
pub(super) fn leave(headers: &HeaderMap, notice: Notice) -> Response {
    let mut response = go_for(headers, PAGE);
    response.headers_mut().append(SET_COOKIE, clear_cookie());
    response.headers_mut().append(SET_COOKIE, notice.cookie());
    // Nothing of the session is left in this browser.
    response.headers_mut().insert("clear-site-data", HeaderValue::from_static("\"cache\""));
    response
}

#[derive(Template)]
#[template(path = "password-forgotten.html")]
struct ForgottenPage {
    form: Typed,
}

async fn show_forgotten() -> Result<Response, Turned> {
    page(&ForgottenPage { form: Typed::default() })
}

#[derive(Deserialize)]
struct Forgotten {
    tenant: String,
    email: String,
}

async fn forgotten(
    extract::State(state): extract::State<State>,
    Visitor(origin): Visitor,
    headers: HeaderMap,
    Form(Forgotten { tenant, email }): Form<Forgotten>,
) -> Result<Response, Turned> {
    let request = ForgotPassword { tenant: tenant.clone(), email: email.clone(), origin };
    match state.bus.request(&request).await {
        Ok(_) => Ok(noticed(&headers, Notice::of("password-forgotten"))),
        Err(refusal) => {
            let status = refusal.code.status();
            let form = Typed::default().with("tenant", tenant).with("email", email);
            let form = form.refused(refusal, &[]);
            Ok(with_status(page(&ForgottenPage { form })?, status))
        }
    }
}

/// To the sign-in, with a notice.
fn noticed(headers: &HeaderMap, notice: Notice) -> Response {
    let mut response = go_for(headers, PAGE);
    response.headers_mut().append(SET_COOKIE, notice.cookie());
    response
}

#[derive(Template)]
#[template(path = "password-reset.html")]
struct ResetPage {
    form: Typed,
}

/// The token is in the part of the link that browsers send to nobody; the script takes it from
/// there, and who has none types it.
async fn show_reset() -> Result<Response, Turned> {
    page(&ResetPage { form: Typed::default() })
}

#[derive(Deserialize)]
struct Reset {
    token: SecretString,
    new_password: SecretString,
}

async fn reset(
    extract::State(state): extract::State<State>,
    Visitor(origin): Visitor,
    guess: Guess,
    headers: HeaderMap,
    Form(Reset { token, new_password }): Form<Reset>,
) -> Result<Response, Turned> {
    let typed = secrecy::ExposeSecret::expose_secret(&token).trim();
    let set = match typed.parse::<PasswordToken>() {
        Ok(token) => {
            let request = SetPassword { token: token.hash(), new_password, origin };
            guess.judge(state.bus.request(&request)).await
        }
        Err(_) => Err(Refusal::new(Code::InvalidCredentials, wording::NO_LINK)),
    };
    match set {
        Ok(_) => Ok(noticed(&headers, Notice::of("password-set"))),
        Err(refusal) => {
            let status = refusal.code.status();
            let fields =
                [(Code::PasswordTooWeak, "new_password"), (Code::InvalidCredentials, "token")];
            let form = Typed::default().with("token", typed).refused(refusal, &fields);
            Ok(with_status(page(&ResetPage { form })?, status))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_in_leads_nowhere_else() {
        let own = |next: &str| own(Some(next.to_owned()));
        assert_eq!(own("/dashboard?view=edges"), "/dashboard?view=edges");
        for bad in [
            "//evil.test",
            "https://evil.test",
            "/\\evil.test",
            "",
            "x",
            "/a b",
            "/\t/e",
            "/\r\nx: y",
            "/a\\b",
        ] {
            assert_eq!(own(bad), HOME, "{bad}");
        }
    }

    #[test]
    fn where_one_was_going_is_kept() {
        assert_eq!(then("/dashboard?view=edges"), "/login?next=%2Fdashboard%3Fview%3Dedges");
    }
}
