//! Who is behind a request, as far as the gateway sees: a token and an address, never a user.

use std::net::{IpAddr, SocketAddr};

use axum::{
    extract::{ConnectInfo, FromRequestParts},
    http::{HeaderValue, header::USER_AGENT, request::Parts},
};
use shared::{
    message::{Caller, Origin},
    refusal::{Code, Refusal},
};

use super::{
    State,
    credential::{Carrier, credential},
    csrf::{Site, site},
    problem::Refused,
    proxies::Proxies,
};

/// A `User-Agent` is cut to so many bytes.
const USER_AGENT_LIMIT: usize = 512;

/// Somebody with a well-formed token, on whose behalf a worker can be asked.
pub(super) struct Signed(pub(super) Caller);

impl FromRequestParts<State> for Signed {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Refused> {
        let SignedBy(caller, _) = SignedBy::from_request_parts(parts, state).await?;
        Ok(Self(caller))
    }
}

/// The same, with how the token came.
pub(super) struct SignedBy(pub(super) Caller, pub(super) Carrier);

impl FromRequestParts<State> for SignedBy {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Refused> {
        let credential = credential(&parts.headers).ok_or_else(Refusal::unauthenticated)?;
        // A cookie alone proves that a browser sent the request, not that its user meant it.
        let on_its_own = credential.carrier == Carrier::Cookie && !parts.method.is_safe();
        if on_its_own && site(&parts.headers, &state.public_origins) != Site::Same {
            return Err(cross_site());
        }
        let origin = origin(parts, &state.proxies);
        let unattended = is_unattended(parts);
        let caller = Caller { token: credential.token.hash(), origin, unattended };
        Ok(Self(caller, credential.carrier))
    }
}

/// Somebody who need not be signed in, but whom no other site may send: otherwise it could sign a
/// visitor in as somebody else.
pub(super) struct Visitor(pub(super) Origin);

impl FromRequestParts<State> for Visitor {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Refused> {
        match site(&parts.headers, &state.public_origins) {
            Site::Same | Site::Unsaid => Ok(Self(origin(parts, &state.proxies))),
            Site::Cross => Err(cross_site()),
        }
    }
}

fn cross_site() -> Refused {
    Refused(Refusal::new(
        Code::Csrf,
        "This does not come from a page of this site: it needs `Sec-Fetch-Site: same-origin`, or an \
         `Origin` that is this site's. Programs send the token in `Authorization: Bearer`.",
    ))
}

/// The client's address: whoever connected, or whoever a trusted proxy says that it asks for.
pub(super) fn address(parts: &Parts, proxies: &Proxies) -> Option<IpAddr> {
    let ConnectInfo(peer) = parts.extensions.get::<ConnectInfo<SocketAddr>>()?;
    Some(proxies.client(peer.ip(), &parts.headers))
}

fn origin(parts: &Parts, proxies: &Proxies) -> Origin {
    Origin {
        ip: address(parts, proxies),
        user_agent: parts.headers.get(USER_AGENT).map(|value| user_agent(value.as_bytes())),
    }
}

/// Whether a page asks by itself for what is new on it, as its script says (htmx names what triggered
/// the request).
fn is_unattended(parts: &Parts) -> bool {
    let trigger = parts.headers.get("hx-trigger").map(HeaderValue::as_bytes);
    parts.method.is_safe() && matches!(trigger, Some(b"live" | b"elevation"))
}

fn user_agent(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text[..text.floor_char_boundary(USER_AGENT_LIMIT)].to_owned()
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    #[test]
    fn a_user_agent_is_cut_between_characters() {
        assert_eq!(user_agent(b"curl/8"), "curl/8");
        assert_eq!(user_agent("ü".repeat(300).as_bytes()), "ü".repeat(256));
        assert_eq!(user_agent(format!("x{}", "ü".repeat(300)).as_bytes()).len(), 511);
        assert_eq!(user_agent(b"a\xffb"), "a\u{fffd}b");
    }

    #[test]
    fn without_proxies_the_address_is_the_peers_whatever_headers_say() {
        let request = Request::get("/")
            .header("x-forwarded-for", "203.0.113.7")
            .header("forwarded", "for=203.0.113.7")
            .extension(ConnectInfo::<SocketAddr>(
                "[::ffff:192.0.2.1]:5".parse().expect("an address"),
            ))
            .body(())
            .expect("a request");
        let origin = origin(&request.into_parts().0, &Proxies::default());
        assert_eq!(origin.ip, Some("192.0.2.1".parse().expect("an address")));
        assert_eq!(origin.user_agent, None);
    }
}
