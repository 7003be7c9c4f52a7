//! Where webhooks may go: nowhere that only this machine, or this network, can reach.
//!
//! What counts is the address that is connected to, so it is checked at each attempt, after the name
//! was resolved; the check at creation only tells sooner.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::{Host, Url};

/// Longest URL.
const LONGEST: usize = 2_000;

/// Nothing public is there (IANA special-purpose address registries; RFC 6890, 5735, 6598).
const NOT_PUBLIC_V4: [Ipv4Net; 15] = [
    v4([0, 0, 0, 0], 8),
    v4([10, 0, 0, 0], 8),
    v4([100, 64, 0, 0], 10),
    v4([127, 0, 0, 0], 8),
    v4([169, 254, 0, 0], 16),
    v4([172, 16, 0, 0], 12),
    v4([192, 0, 0, 0], 24),
    v4([192, 0, 2, 0], 24),
    v4([192, 88, 99, 0], 24),
    v4([192, 168, 0, 0], 16),
    v4([198, 18, 0, 0], 15),
    v4([198, 51, 100, 0], 24),
    v4([203, 0, 113, 0], 24),
    v4([224, 0, 0, 0], 4),
    v4([240, 0, 0, 0], 4),
];

/// All that is public has these first bits (RFC 4291 §2.4). Outside are loopback, mapped IPv4
/// addresses, NAT64, unique local, link-local and multicast ones.
const GLOBAL_V6: Ipv6Net = v6([0x2000, 0, 0], 3);

/// But for protocol assignments with Teredo, documentation, and 6to4, which leads to an IPv4 address.
const NOT_PUBLIC_V6: [Ipv6Net; 4] = [
    v6([0x2001, 0, 0], 23),
    v6([0x2001, 0x0db8, 0], 32),
    v6([0x2002, 0, 0], 16),
    v6([0x3fff, 0, 0], 20),
];

const fn v4([a, b, c, d]: [u8; 4], length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)
}

const fn v6([a, b, c]: [u16; 3], length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), length)
}

/// Why nothing is sent there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TargetError {
    #[error("the URL is not one, or is longer than 2000 bytes")]
    NoUrl,
    #[error("the URL must begin with https://")]
    NotHttps,
    #[error("the URL must hold no user name and no password")]
    UserInfo,
    #[error("the URL must hold no fragment")]
    Fragment,
    #[error("the address is not public, and the operator has not allowed it")]
    NotPublic,
}

/// Networks that the operator allows though they are not public.
#[derive(Debug, Clone, Default)]
pub(crate) struct Allowed(pub(crate) Vec<IpNet>);

impl Allowed {
    fn names(&self, address: IpAddr) -> bool {
        self.0.iter().any(|net| net.contains(&address))
    }

    /// Whether something may be sent to an address. What is not encrypted goes only where the
    /// operator has said so.
    pub(crate) fn admits(&self, address: IpAddr, encrypted: bool) -> bool {
        let address = address.to_canonical();
        self.names(address) || (encrypted && is_public(address))
    }
}

/// Whether an address can be reached from everywhere.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !NOT_PUBLIC_V4.iter().any(|net| net.contains(&address)),
        IpAddr::V6(address) => {
            GLOBAL_V6.contains(&address) && !NOT_PUBLIC_V6.iter().any(|net| net.contains(&address))
        }
    }
}

/// Somewhere to send to, as far as can be told without resolving its name.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) url: Url,
    /// An address, or a name for the resolver.
    pub(crate) host: Host,
    pub(crate) port: u16,
    pub(crate) encrypted: bool,
}

impl Target {
    /// Reads a URL as browsers do (WHATWG), which knows every odd spelling of an address.
    pub(crate) fn parse(text: &str, allowed: &Allowed) -> Result<Self, TargetError> {
        if text.len() > LONGEST {
            return Err(TargetError::NoUrl);
        }
        let url = Url::parse(text).map_err(|_| TargetError::NoUrl)?;
        let encrypted = match url.scheme() {
            "https" => true,
            "http" if !allowed.0.is_empty() => false,
            _ => return Err(TargetError::NotHttps),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(TargetError::UserInfo);
        }
        if url.fragment().is_some() {
            return Err(TargetError::Fragment);
        }
        let host = url.host().ok_or(TargetError::NoUrl)?.to_owned();
        let port = url.port_or_known_default().filter(|port| *port != 0);
        let port = port.ok_or(TargetError::NoUrl)?;
        let target = Self { url, host, port, encrypted };
        if target.address().is_some_and(|address| !allowed.admits(address, encrypted)) {
            return Err(TargetError::NotPublic);
        }
        Ok(target)
    }

    /// The address that the URL holds instead of a name, or that its name stands for everywhere.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        match self.host {
            Host::Ipv4(address) => Some(address.into()),
            Host::Ipv6(address) => Some(address.into()),
            // Whatever a resolver makes of it (RFC 6761 §6.3).
            Host::Domain(ref name) => is_localhost(name).then_some(Ipv4Addr::LOCALHOST.into()),
        }
    }

    /// What may be told of a URL that may hold a secret: scheme and host.
    pub(crate) fn origin(&self) -> String {
        self.url.origin().ascii_serialization()
    }
}

fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(url: &str) -> TargetError {
        Target::parse(url, &Allowed::default()).expect_err(url)
    }

    #[test]
    fn no_spelling_of_an_inner_address_passes() {
        for host in [
            "127.0.0.1",
            "127.1",
            "127.0.1",
            "0x7f.1",
            "0x7f000001",
            "0177.0.0.1",
            "017700000001",
            "2130706433",
            "127.0.0.1.",
            "localhost",
            "LocalHost.",
            "a.localhost",
            "%31%32%37.0.0.1",
            "①②⑦.⓪.⓪.①",
            "１２７.０.０.１",
            "0",
            "0.0.0.0",
            "10.0.0.1",
            "10.255.255.255",
            "0xa000001",
            "100.64.0.1",
            "100.127.255.254",
            "169.254.169.254",
            "0xA9FEA9FE",
            "2852039166",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.255.255.250",
            "240.0.0.1",
            "255.255.255.255",
            "[::]",
            "[::1]",
            "[0:0:0:0:0:0:0:1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[::ffff:10.0.0.1]",
            "[::127.0.0.1]",
            "[64:ff9b::127.0.0.1]",
            "[64:ff9b::8.8.8.8]",
            "[64:ff9b:1::1]",
            "[2002:7f00:1::]",
            "[2002:a00:1::1]",
            "[2001::1]",
            "[2001:0:53aa:64c::1]",
            "[2001:db8::1]",
            "[3fff::1]",
            "[100::1]",
            "[5f00::1]",
            "[fc00::1]",
            "[fd00:ec2::254]",
            "[fe80::1]",
            "[fec0::1]",
            "[ff02::1]",
        ] {
            assert_eq!(refused(&format!("https://{host}/hook")), TargetError::NotPublic, "{host}");
            assert_eq!(refused(&format!("https://{host}:8443")), TargetError::NotPublic, "{host}");
        }
    }

    #[test]
    fn mapped_addresses_count_as_what_they_map() {
        // As a resolver may give them.
        let allowed = Allowed::default();
        for (address, admitted) in [
            ("::ffff:127.0.0.1", false),
            ("::ffff:169.254.169.254", false),
            ("::ffff:8.8.8.8", true),
            ("8.8.8.8", true),
            ("2606:4700::1111", true),
            ("::8.8.8.8", false),
        ] {
            let address = address.parse().expect("an address");
            assert_eq!(allowed.admits(address, true), admitted, "{address}");
            assert!(!allowed.admits(address, false), "{address} without encryption");
        }
    }

    #[test]
    fn a_url_is_plain_https() {
        for (url, error) in [
            ("", TargetError::NoUrl),
            ("hook", TargetError::NoUrl),
            ("https://", TargetError::NoUrl),
            ("https:///", TargetError::NoUrl),
            ("https://example.com:0/", TargetError::NoUrl),
            ("https://exa mple.com/", TargetError::NoUrl),
            ("https://[fe80::1%25eth0]/", TargetError::NoUrl),
            ("https://300.1.1.1/", TargetError::NoUrl),
            ("http://example.com/", TargetError::NotHttps),
            ("HTTP://example.com/", TargetError::NotHttps),
            ("ftp://example.com/", TargetError::NotHttps),
            ("file:///etc/passwd", TargetError::NotHttps),
            ("gopher://example.com/", TargetError::NotHttps),
            ("https://ada@example.com/", TargetError::UserInfo),
            ("https://ada:secret@example.com/", TargetError::UserInfo),
            ("https://:secret@example.com/", TargetError::UserInfo),
            ("https://example.com@127.0.0.1/", TargetError::UserInfo),
            ("https://example.com/#part", TargetError::Fragment),
        ] {
            assert_eq!(refused(url), error, "{url}");
        }
        assert_eq!(refused(&format!("https://e.com/{}", "x".repeat(2_000))), TargetError::NoUrl);
        for url in
            ["https://example.com/hook?a=b", "https://8.8.8.8/", "https://[2606:4700::1111]/"]
        {
            assert!(Target::parse(url, &Allowed::default()).is_ok(), "{url}");
        }
    }

    #[test]
    fn the_operator_allows_networks_and_with_them_http() {
        let allowed = Allowed(vec!["10.1.0.0/16".parse().expect("a network")]);
        for (url, admitted) in [
            ("http://10.1.2.3:8080/", true),
            ("https://10.1.2.3/", true),
            ("http://[::ffff:10.1.2.3]/", true),
            ("http://10.2.0.1/", false),
            ("http://127.0.0.1/", false),
            ("http://8.8.8.8/", false),
            ("https://8.8.8.8/", true),
            // Not known before it is resolved.
            ("http://inner.example/", true),
        ] {
            assert_eq!(Target::parse(url, &allowed).is_ok(), admitted, "{url}");
        }
    }

    #[test]
    fn an_origin_tells_no_secret() {
        let url = "https://hooks.example.com/services/T0/B0/secret?token=secret";
        let target = Target::parse(url, &Allowed::default()).expect("a target");
        assert_eq!(target.origin(), "https://hooks.example.com");
    }
}
