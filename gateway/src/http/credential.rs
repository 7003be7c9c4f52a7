//! The session token that comes with a request, and the cookie that carries it.

use axum::http::{
    HeaderMap, HeaderValue,
    header::{AUTHORIZATION, COOKIE},
};
use shared::token::Token;

/// The name of the cookie. The prefix binds it to this host, to HTTPS and to `Path=/` (RFC 6265bis
/// §4.1.3.2), so no neighbouring site can plant one.
pub(super) const NAME: &str = "__Host-breakglass";

/// How a token came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Carrier {
    /// In `Authorization: Bearer`: somebody put it there for this request.
    Bearer,
    /// In the cookie: a browser may have added it by itself.
    Cookie,
}

/// A well-formed token and how it came.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Credential {
    pub(super) token: Token,
    pub(super) carrier: Carrier,
}

/// The token of a request, if there is exactly one and it is well-formed.
///
/// `Authorization: Bearer` goes before the cookie, also where what it holds is no token. Other
/// schemes of `Authorization` are not for Breakglass (`/authorize` sees what was meant for the
/// upstream) and hide no cookie.
pub(super) fn credential(headers: &HeaderMap) -> Option<Credential> {
    let mut bearers = headers.get_all(AUTHORIZATION).iter().filter_map(bearer);
    if let Some(text) = bearers.next() {
        return parse(Carrier::Bearer, text, bearers.next());
    }
    let mut cookies = headers.get_all(COOKIE).iter().flat_map(cookies);
    parse(Carrier::Cookie, cookies.next()?, cookies.next())
}

/// Of two, nobody knows which one was meant: then it is none.
fn parse(carrier: Carrier, text: &[u8], second: Option<&[u8]>) -> Option<Credential> {
    if second.is_some() {
        return None;
    }
    let token = std::str::from_utf8(text).ok()?.parse().ok()?;
    Some(Credential { token, carrier })
}

fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let (scheme, rest) = value.as_bytes().split_at_checked("bearer".len())?;
    let separated = rest.first().is_none_or(|byte| *byte == b' ');
    (scheme.eq_ignore_ascii_case(b"bearer") && separated).then(|| rest.trim_ascii())
}

/// Values of our cookie. Works on bytes: another site's cookie need not be text.
fn cookies(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value
        .as_bytes()
        .split(|byte| *byte == b';')
        .filter_map(|pair| pair.trim_ascii().strip_prefix(NAME.as_bytes())?.strip_prefix(b"="))
}

/// `Set-Cookie` that hands out a token.
pub(super) fn set_cookie(token: &Token) -> HeaderValue {
    cookie(token.expose(), "")
}

/// `Set-Cookie` that takes the token back.
pub(super) fn clear_cookie() -> HeaderValue {
    cookie("", "; Max-Age=0")
}

fn cookie(value: &str, more: &str) -> HeaderValue {
    let text = format!("{NAME}={value}; Path=/; Secure; HttpOnly; SameSite=Lax{more}");
    let mut header = HeaderValue::try_from(text).expect("a token is base64url");
    header.set_sensitive(true);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, String)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().expect("a header value"));
        }
        headers
    }

    fn carrier(pairs: &[(&'static str, String)]) -> Option<Carrier> {
        credential(&headers(pairs)).map(|credential| credential.carrier)
    }

    #[test]
    fn a_token_comes_by_header_or_by_cookie() {
        let token = Token::generate();
        let text = token.expose();
        for scheme in ["Bearer", "bearer", "BEARER", "Bearer  "] {
            let found = credential(&headers(&[("authorization", format!("{scheme} {text}"))]));
            assert_eq!(found, Some(Credential { token: token.clone(), carrier: Carrier::Bearer }));
        }
        for cookie in [format!("{NAME}={text}"), format!("a=b;{NAME}={text} ; c=d")] {
            let found = credential(&headers(&[("cookie", "x=ü".to_owned()), ("cookie", cookie)]));
            assert_eq!(found, Some(Credential { token: token.clone(), carrier: Carrier::Cookie }));
        }
    }

    #[test]
    fn the_header_goes_before_the_cookie() {
        let (a, b) = (Token::generate(), Token::generate());
        let cookie = ("cookie", format!("{NAME}={}", b.expose()));
        let both = [("authorization", format!("Bearer {}", a.expose())), cookie.clone()];
        let found = credential(&headers(&both)).expect("a credential");
        assert_eq!((found.token, found.carrier), (a, Carrier::Bearer));
        assert_eq!(
            carrier(&[("authorization", "Bearer nonsense".to_owned()), cookie.clone()]),
            None
        );
        assert_eq!(carrier(&[("authorization", "Bearer".to_owned()), cookie.clone()]), None);
        let basic = ("authorization", "Basic YTpi".to_owned());
        assert_eq!(carrier(&[basic, cookie]), Some(Carrier::Cookie));
    }

    #[test]
    fn what_is_no_token_is_no_credential() {
        let text = Token::generate().expose().to_owned();
        assert_eq!(carrier(&[]), None);
        assert_eq!(carrier(&[("authorization", text.clone())]), None);
        assert_eq!(carrier(&[("authorization", format!("Bearer{text}"))]), None);
        assert_eq!(carrier(&[("authorization", format!("Bearer {text}x"))]), None);
        assert_eq!(carrier(&[("cookie", format!("x{NAME}={text}"))]), None);
        assert_eq!(carrier(&[("cookie", format!("__host-breakglass={text}"))]), None);
        assert_eq!(carrier(&[("cookie", format!("{NAME}=\"{text}\""))]), None);
    }

    #[test]
    fn two_tokens_are_none() {
        let [a, b] = [Token::generate(), Token::generate()].map(|t| t.expose().to_owned());
        assert_eq!(carrier(&[("cookie", format!("{NAME}={a}; {NAME}={b}"))]), None);
        let twice =
            [("authorization", format!("Bearer {a}")), ("authorization", format!("Bearer {b}"))];
        assert_eq!(carrier(&twice), None);
    }

    #[test]
    fn the_cookie_is_bound_to_this_host_and_out_of_reach_of_scripts() {
        let token = Token::generate();
        assert_eq!(
            set_cookie(&token),
            format!("__Host-breakglass={}; Path=/; Secure; HttpOnly; SameSite=Lax", token.expose())
        );
        assert_eq!(
            clear_cookie(),
            "__Host-breakglass=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0"
        );
        assert!(set_cookie(&token).is_sensitive());
    }
}
