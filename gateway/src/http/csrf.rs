//! Whether a page of another site is behind a request.

use axum::http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{HOST, ORIGIN},
};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Where the page is from that made a browser send a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Site {
    /// From the gateway itself.
    Same,
    /// From elsewhere, a neighbouring subdomain included.
    Cross,
    /// The request does not say: no browser of this decade, or no browser at all.
    Unsaid,
}

/// What the headers that pages cannot forge say about the page.
///
/// `Sec-Fetch-Site` is believed before `Origin`: the browser has compared the two origins itself,
/// which holds also behind a proxy that rewrites `Host`. `none` (typed in, a bookmark) proves
/// nothing about a request that changes something.
pub(super) fn site(headers: &HeaderMap, public_origins: &[String]) -> Site {
    match headers.get(SEC_FETCH_SITE).map(HeaderValue::as_bytes) {
        Some(b"same-origin") => return Site::Same,
        Some(b"none") | None => {}
        Some(_) => return Site::Cross,
    }
    let mut origins = headers.get_all(ORIGIN).iter();
    match (origins.next(), origins.next()) {
        (None, _) => Site::Unsaid,
        (Some(origin), None) => {
            let host = headers.get(HOST).and_then(|host| host.to_str().ok());
            match origin.to_str() {
                Ok(origin) if is_own(origin, host, public_origins) => Site::Same,
                _ => Site::Cross,
            }
        }
        (Some(_), Some(_)) => Site::Cross,
    }
}

/// Whether `origin` is one of the configured ones, or has the authority that the request went to.
///
/// TLS may end at a proxy, so a `Host` alone does not tell the scheme; where the same authority is
/// configured, its scheme counts.
fn is_own(origin: &str, host: Option<&str>, public_origins: &[String]) -> bool {
    let same = |own: &String| own.trim_end_matches('/').eq_ignore_ascii_case(origin);
    if public_origins.iter().any(same) {
        return true;
    }
    let Some((authority, port)) = authority(origin) else {
        return false;
    };
    let configured = public_origins.iter().filter_map(|own| self::authority(own));
    if configured.into_iter().any(|(own, _)| own.eq_ignore_ascii_case(authority)) {
        return false;
    }
    host.is_some_and(|host| host.strip_suffix(port).unwrap_or(host).eq_ignore_ascii_case(authority))
}

/// The authority of an origin, and its scheme's default port as it would stand in a `Host`.
fn authority(origin: &str) -> Option<(&str, &'static str)> {
    let (scheme, authority) = origin.split_once("://")?;
    match scheme {
        "https" => Some((authority.trim_end_matches('/'), ":443")),
        "http" => Some((authority.trim_end_matches('/'), ":80")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&'static str, &'static str)], public: &[&str]) -> Site {
        let pairs = pairs.iter().map(|(name, value)| {
            (HeaderName::from_static(name), value.parse().expect("a header value"))
        });
        let public: Vec<_> = public.iter().map(|origin| (*origin).to_owned()).collect();
        site(&pairs.collect(), &public)
    }

    #[test]
    fn csrf_the_browsers_word_counts_first() {
        let host = ("host", "bg.test");
        for (value, expected) in [
            ("same-origin", Site::Same),
            ("same-site", Site::Cross),
            ("cross-site", Site::Cross),
            ("none", Site::Unsaid),
            ("Same-Origin", Site::Cross),
            ("", Site::Cross),
        ] {
            assert_eq!(of(&[host, ("sec-fetch-site", value)], &[]), expected, "{value}");
        }
        let own = ("origin", "https://bg.test");
        assert_eq!(of(&[host, own, ("sec-fetch-site", "cross-site")], &[]), Site::Cross);
        assert_eq!(of(&[host, own, ("sec-fetch-site", "none")], &[]), Site::Same);
    }

    #[test]
    fn csrf_an_origin_counts_if_it_is_the_host() {
        for (origin, host, expected) in [
            ("https://bg.test", "bg.test", Site::Same),
            ("https://BG.test", "bg.test", Site::Same),
            ("https://bg.test", "bg.test:443", Site::Same),
            ("http://localhost:8080", "localhost:8080", Site::Same),
            ("http://localhost:8081", "localhost:8080", Site::Cross),
            ("https://evil.test", "bg.test", Site::Cross),
            ("https://bg.test.evil.test", "bg.test", Site::Cross),
            ("https://sub.bg.test", "bg.test", Site::Cross),
            ("https://bg.test:444", "bg.test:443", Site::Cross),
            ("ftp://bg.test", "bg.test", Site::Cross),
            ("bg.test", "bg.test", Site::Cross),
            ("null", "null", Site::Cross),
            ("", "", Site::Cross),
        ] {
            let found = of(&[("host", host), ("origin", origin)], &[]);
            assert_eq!(found, expected, "{origin} at {host}");
        }
        assert_eq!(of(&[("origin", "https://bg.test")], &[]), Site::Cross);
        assert_eq!(of(&[("host", "bg.test")], &[]), Site::Unsaid);
    }

    #[test]
    fn csrf_a_configured_origin_counts_with_its_scheme() {
        let public = ["https://bg.test/"];
        let inside = ("host", "10.0.0.7:8080");
        assert_eq!(of(&[inside, ("origin", "https://bg.test")], &public), Site::Same);
        assert_eq!(of(&[inside, ("origin", "http://bg.test")], &public), Site::Cross);
        assert_eq!(of(&[("host", "bg.test"), ("origin", "http://bg.test")], &public), Site::Cross);
        assert_eq!(of(&[inside, ("origin", "http://10.0.0.7:8080")], &public), Site::Same);
    }

    #[test]
    fn csrf_two_origins_are_not_ours() {
        let mut headers = HeaderMap::new();
        headers.append(HOST, "bg.test".parse().expect("a value"));
        headers.append(ORIGIN, "https://bg.test".parse().expect("a value"));
        headers.append(ORIGIN, "https://evil.test".parse().expect("a value"));
        assert_eq!(site(&headers, &[]), Site::Cross);
    }
}
