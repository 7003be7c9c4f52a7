//! What a page says about what was done on the page before. It travels in a cookie of one use, so
//! that no link can make a page claim something.

use axum::http::{HeaderMap, HeaderValue, header::COOKIE};
use shared::message::revocation::Receipt;

use super::wording;

const NAME: &str = "__Host-breakglass-notice";
/// A browser that goes nowhere forgets it after so many seconds.
const SECONDS: u32 = 60;

/// Something that was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Notice {
    /// What, as [`wording::done`] knows it.
    pub(super) done: &'static str,
    /// The revision of its receipt.
    pub(super) revision: Option<u64>,
    /// How long it took until every edge enforced it, if that is known.
    pub(super) took_ms: Option<u64>,
}

impl Notice {
    pub(super) const fn of(done: &'static str) -> Self {
        Self { done, revision: None, took_ms: None }
    }

    pub(super) fn with(done: &'static str, receipt: &Receipt) -> Self {
        let took_ms = receipt.enforced.then_some(receipt.took_ms);
        Self { done, revision: Some(receipt.revision), took_ms }
    }

    /// `Set-Cookie` for the next page.
    pub(super) fn cookie(self) -> HeaderValue {
        let number = |number: Option<u64>| number.map(|n| n.to_string()).unwrap_or_default();
        let value = format!("{}~{}~{}", self.done, number(self.revision), number(self.took_ms));
        set(&value, SECONDS)
    }

    /// What the page before left.
    pub(super) fn read(headers: &HeaderMap) -> Option<Self> {
        let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs = cookies.flat_map(|value| value.split(';'));
        let value = pairs.find_map(|pair| pair.trim().strip_prefix(NAME)?.strip_prefix('='))?;
        let mut parts = value.split('~');
        let done = wording::done(parts.next()?)?.0;
        let mut number = || parts.next().and_then(|part| part.parse().ok());
        Some(Self { done, revision: number(), took_ms: number() })
    }
}

/// `Set-Cookie` once it was shown.
pub(super) fn clear() -> HeaderValue {
    set("", 0)
}

fn set(value: &str, seconds: u32) -> HeaderValue {
    let cookie =
        format!("{NAME}={value}; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age={seconds}");
    HeaderValue::try_from(cookie).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(cookie: &str) -> Option<Notice> {
        let value = format!("a=b; {NAME}={cookie}").parse().expect("a header value");
        Notice::read(&[(COOKIE, value)].into_iter().collect())
    }

    #[test]
    fn a_notice_survives_its_cookie() {
        let notice = Notice { done: "grant-revoked", revision: Some(17), took_ms: Some(4) };
        let cookie = notice.cookie();
        let value = cookie.to_str().expect("text").split(';').next().expect("a value");
        let value = value.strip_prefix(NAME).and_then(|rest| rest.strip_prefix('='));
        assert_eq!(value.and_then(read), Some(notice));
        assert_eq!(read("grant-revoked~~"), Some(Notice::of("grant-revoked")));
    }

    #[test]
    fn what_was_never_said_is_no_notice() {
        for cookie in ["", "x~1~2", "You won~~", "<b>~~"] {
            assert_eq!(read(cookie), None, "{cookie}");
        }
    }
}
