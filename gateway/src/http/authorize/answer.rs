//! The headers that `/authorize` answers with.

use std::{borrow::Cow, fmt::Write as _};

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue},
    response::Response,
};
use shared::message::session::Method;
use uuid::Uuid;

use crate::edge::Decision;

const USER: HeaderName = HeaderName::from_static("x-auth-user");
const EMAIL: HeaderName = HeaderName::from_static("x-auth-email");
const TENANT: HeaderName = HeaderName::from_static("x-auth-tenant");
const ROLE: HeaderName = HeaderName::from_static("x-auth-role");
const SESSION: HeaderName = HeaderName::from_static("x-auth-session");
const METHODS: HeaderName = HeaderName::from_static("x-auth-methods");
const GRANT: HeaderName = HeaderName::from_static("x-auth-emergency-grant");
const EXPIRES: HeaderName = HeaderName::from_static("x-auth-emergency-expires");

const EMPTY: HeaderValue = HeaderValue::from_static("");

/// Room for these and for the headers that every answer has, so that the map grows once.
const HEADERS: usize = 20;

/// 200, and who it is.
pub(super) fn allowed(decision: &Decision) -> Response {
    let session = &decision.session;
    let (grant, expires) = decision.elevation.as_ref().map_or((EMPTY, EMPTY), |elevation| {
        (uuid(elevation.grant_id.0), text(&elevation.expires_at.to_string()))
    });
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.reserve(HEADERS);
    headers.insert(USER, uuid(session.user_id.0));
    headers.insert(EMAIL, text(&session.email));
    headers.insert(TENANT, text(&session.tenant));
    headers.insert(ROLE, HeaderValue::from_static(decision.role.as_str()));
    headers.insert(SESSION, uuid(session.session_id.0));
    headers.insert(METHODS, methods(&session.methods));
    headers.insert(GRANT, grant);
    headers.insert(EXPIRES, expires);
    response
}

/// A refusal, and nobody. A proxy that copies the headers wherever it goes copies these.
pub(super) fn refused(mut response: Response) -> Response {
    for name in [USER, EMAIL, TENANT, ROLE, SESSION, METHODS, GRANT, EXPIRES] {
        response.headers_mut().insert(name, EMPTY);
    }
    response
}

fn uuid(id: Uuid) -> HeaderValue {
    text(id.hyphenated().encode_lower(&mut Uuid::encode_buffer()))
}

fn methods(methods: &[Method]) -> HeaderValue {
    match methods {
        [Method::Password] => HeaderValue::from_static("password"),
        [Method::Password, Method::Totp] => HeaderValue::from_static("password,totp"),
        [Method::Password, Method::BackupCode] => HeaderValue::from_static("password,backup-code"),
        other => text(&other.iter().map(|method| method.as_str()).collect::<Vec<_>>().join(",")),
    }
}

fn text(text: &str) -> HeaderValue {
    HeaderValue::from_str(&encoded(text)).expect("visible ASCII is a header value")
}

/// Upstreams disagree about bytes past ASCII in headers, so they never see any: what is not visible
/// ASCII is percent-encoded as UTF-8, `%` as well, so that no two texts become one.
fn encoded(text: &str) -> Cow<'_, str> {
    let verbatim = |byte: u8| byte.is_ascii_graphic() && byte != b'%';
    if text.bytes().all(verbatim) {
        return Cow::Borrowed(text);
    }
    let mut encoded = String::with_capacity(text.len() * 3);
    for byte in text.bytes() {
        if verbatim(byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("a String takes whatever is written");
        }
    }
    Cow::Owned(encoded)
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use shared::{
        clock::Timestamp,
        id::{GrantId, SessionId, TenantId, UserId},
        message::session::{Elevation, ResolvedSession},
        role::Role,
    };

    use super::*;

    /// A decision for alice@acme.test.
    pub(in super::super) fn decision(assigned: Role, elevated: Option<Role>) -> Decision {
        let noon = Timestamp::from_micros(1_795_316_400_000_000);
        let session = ResolvedSession {
            session_id: SessionId(Uuid::from_u128(1)),
            user_id: UserId(Uuid::from_u128(2)),
            tenant_id: TenantId(Uuid::from_u128(3)),
            tenant: "acme".to_owned(),
            email: "alice@acme.test".to_owned(),
            role: assigned,
            methods: vec![Method::Password],
            enrollment_only: false,
            enrollment_only_from: None,
            last_active_at: noon,
            idle_seconds: 3_600,
            expires_at: noon,
            grants: Vec::new(),
        };
        let elevation = elevated.map(|role| Elevation {
            grant_id: GrantId(Uuid::from_u128(4)),
            role,
            expires_at: noon,
        });
        let role = elevated.map_or(assigned, |role| role.max(assigned));
        Decision { session: Arc::new(session), role, elevation, enrollment_only: false, at: noon }
    }

    fn headers(response: &Response) -> Vec<(&str, &str)> {
        let mut headers: Vec<_> = response
            .headers()
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().expect("text")))
            .collect();
        headers.sort_unstable();
        headers
    }

    #[test]
    fn an_answer_says_who_and_as_what() {
        let plain = allowed(&decision(Role::Member, None));
        assert_eq!(plain.status(), 200);
        assert_eq!(
            headers(&plain),
            [
                ("x-auth-email", "alice@acme.test"),
                ("x-auth-emergency-expires", ""),
                ("x-auth-emergency-grant", ""),
                ("x-auth-methods", "password"),
                ("x-auth-role", "member"),
                ("x-auth-session", "00000000-0000-0000-0000-000000000001"),
                ("x-auth-tenant", "acme"),
                ("x-auth-user", "00000000-0000-0000-0000-000000000002"),
            ]
        );
        let raised = allowed(&decision(Role::Member, Some(Role::Admin)));
        assert_eq!(raised.headers()[ROLE], "admin");
        assert_eq!(raised.headers()[GRANT], "00000000-0000-0000-0000-000000000004");
        assert_eq!(raised.headers()[EXPIRES], "2026-11-22T03:00:00Z");
    }

    #[test]
    fn a_refusal_names_nobody_in_all_headers() {
        let refusal = refused(Response::new(Body::empty()));
        assert_eq!(refusal.headers().len(), 8);
        assert!(refusal.headers().values().all(HeaderValue::is_empty));
        let allowed = allowed(&decision(Role::Member, None));
        assert!(allowed.headers().keys().all(|name| refusal.headers().contains_key(name)));
    }

    #[test]
    fn nobody_writes_headers_with_their_address() {
        for (address, expected) in [
            ("a+b@acme.test", "a+b@acme.test"),
            ("zoë@acme.test", "zo%C3%AB@acme.test"),
            ("zo%C3%AB@acme.test", "zo%25C3%25AB@acme.test"),
            ("a\r\nX-Auth-Role: admin", "a%0D%0AX-Auth-Role:%20admin"),
            ("", ""),
        ] {
            assert_eq!(text(address), expected);
        }
    }

    #[test]
    fn methods_are_separated_by_commas() {
        use Method::{BackupCode, Password, Totp};
        assert_eq!(methods(&[Password, Totp]), "password,totp");
        assert_eq!(methods(&[Password, BackupCode]), "password,backup-code");
        assert_eq!(methods(&[Totp, Password]), "totp,password");
        assert_eq!(methods(&[]), "");
    }
}
