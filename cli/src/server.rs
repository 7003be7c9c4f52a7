//! Where a gateway is, and whether a token may travel there.

use std::{fmt, net::IpAddr, str::FromStr};

use ureq::http::Uri;

/// The address of a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    /// Scheme, host, port and path, without a slash at the end.
    base: String,
    encrypted: bool,
    loopback: bool,
}

/// Why something is no address of a gateway.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoServer {
    #[error("“{0}” is not an address like https://breakglass.example")]
    Malformed(String),
    #[error("an address of a server has no user, password, query or fragment")]
    TooMuch,
}

impl Server {
    /// Whether nobody on the way could read along: it is encrypted, or there is no way.
    pub(crate) fn is_private(&self) -> bool {
        self.encrypted || self.loopback
    }

    /// Whether it is this very machine, which no proxy needs to be asked for.
    pub(crate) fn is_loopback(&self) -> bool {
        self.loopback
    }

    /// Where a path is on it.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.base)
    }
}

impl FromStr for Server {
    type Err = NoServer;

    /// Without a scheme it is `https`.
    fn from_str(text: &str) -> Result<Self, NoServer> {
        let malformed = || NoServer::Malformed(crate::harmless::line(text));
        let text = text.trim();
        let (scheme, rest) = text.split_once("://").unwrap_or(("https", text));
        let encrypted = match scheme {
            "https" => true,
            "http" => false,
            _ => return Err(malformed()),
        };
        if rest.contains(['@', '?', '#']) {
            return Err(NoServer::TooMuch);
        }
        let base = format!("{scheme}://{}", rest.trim_end_matches('/'));
        let uri: Uri = base.parse().map_err(|_| malformed())?;
        let authority = uri.authority().ok_or_else(malformed)?;
        let host = authority.host();
        let port = authority.as_str().strip_prefix(host).and_then(|port| match port {
            "" => Some(()),
            port => port.strip_prefix(':')?.parse::<u16>().ok().map(drop),
        });
        if host.is_empty() || port.is_none() {
            return Err(malformed());
        }
        let address: Option<IpAddr> =
            host.trim_start_matches('[').trim_end_matches(']').parse().ok();
        let loopback = match address {
            Some(address) => address.is_loopback(),
            None => host.eq_ignore_ascii_case("localhost"),
        };
        Ok(Self { base, encrypted, loopback })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(text: &str) -> Server {
        text.parse().expect(text)
    }

    #[test]
    fn https_is_what_nobody_has_to_write() {
        assert_eq!(server("breakglass.example").url("/v1/me"), "https://breakglass.example/v1/me");
        assert_eq!(server(" http://127.0.0.1:8080/ ").to_string(), "http://127.0.0.1:8080");
        assert_eq!(server("https://a.example/bg/").url("/v1"), "https://a.example/bg/v1");
    }

    #[test]
    fn a_token_travels_encrypted_or_not_at_all() {
        for private in [
            "https://a.example",
            "a.example:8443",
            "http://localhost:8080",
            "http://127.8.9.1",
            "http://[::1]:8080",
            "http://LOCALHOST",
        ] {
            assert!(server(private).is_private(), "{private}");
        }
        for open in [
            "http://a.example",
            "http://10.0.0.1",
            "http://localhost.a.example",
            "http://[::2]",
            "http://127.0.0.1.nip.io",
        ] {
            assert!(!server(open).is_private(), "{open}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for bad in [
            "",
            "https://",
            "ftp://a.example",
            "http://a b",
            "https://a.example:port",
            "https://a:",
            "a:70000",
        ] {
            assert!(bad.parse::<Server>().is_err(), "{bad}");
        }
        for much in
            ["https://u:p@a.example", "http://localhost@evil.example", "https://a/?x", "a/#x"]
        {
            assert!(much.parse::<Server>().is_err(), "{much}");
        }
    }
}
