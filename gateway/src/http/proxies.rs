//! Whose address a request came from, where proxies stand in front.
//!
//! Each proxy appends the address that it was asked from, so a header is as good as the last one who
//! wrote to it. It is read from the right, as far as those who wrote are trusted. Everything further
//! left may be made up by the client.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use axum::http::{HeaderMap, HeaderName, header::FORWARDED};
use ipnet::IpNet;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The header in which the trusted proxies name who asked them. The other one is never read: a proxy
/// that does not write it passes on what clients send.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// A network of trusted proxies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxyNetwork(IpNet);

impl FromStr for ProxyNetwork {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let one = text.parse::<IpAddr>().map(IpNet::from);
        let network = one.or_else(|_| text.parse()).map_err(
            |_| "neither an address nor a network: write 192.0.2.1, 192.0.2.0/24 or 2001:db8::/32",
        )?;
        let network = canonical(network);
        if network.prefix_len() == 0 {
            return Err("this would trust everybody, and so let anybody choose their address");
        }
        Ok(Self(network))
    }
}

/// A network of IPv4 addresses as one, however it is written: peers are compared so.
fn canonical(network: IpNet) -> IpNet {
    let mapped = || {
        let prefix = network.prefix_len().checked_sub(96)?;
        match network.network().to_canonical() {
            IpAddr::V4(v4) if network.network().is_ipv6() => IpNet::new(v4.into(), prefix).ok(),
            _ => None,
        }
    };
    mapped().unwrap_or(network)
}

/// How an entry of the header is read.
type Read = fn(&[u8]) -> Option<IpAddr>;

/// The proxies that are believed when they say who asked them.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    trusted: Vec<ProxyNetwork>,
    header: ForwardedHeader,
}

impl Proxies {
    /// Proxies in these networks, which all write this header.
    #[must_use]
    pub fn new(trusted: Vec<ProxyNetwork>, header: ForwardedHeader) -> Self {
        Self { trusted, header }
    }

    /// The address of the client that a request came from, which `peer` carried here: the last one
    /// that is no trusted proxy's. What is not an address ends the search at the proxy that wrote it.
    #[must_use]
    pub(super) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut last = peer.to_canonical();
        let (name, address): (_, Read) = match self.header {
            ForwardedHeader::XForwardedFor => (X_FORWARDED_FOR, node),
            ForwardedHeader::Forwarded => (FORWARDED, forwarded_for),
        };
        // Several lines are one list, in their order (RFC 9110 §5.3).
        let lines = headers.get_all(name).into_iter().rev();
        let mut entries = lines.flat_map(|line| from_the_right(line.as_bytes(), b','));
        while self.trusts(last) {
            match entries.next().and_then(address) {
                Some(earlier) => last = earlier,
                None => break,
            }
        }
        last
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.0.contains(&address))
    }
}

/// The parts between delimiters that are not within quotes, the last one first. Quotes are counted
/// from the right as well: an odd one of the client's changes nothing that a proxy wrote after it.
fn from_the_right(text: &[u8], delimiter: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let mut quoted = false;
        let at = text.iter().rposition(|&byte| {
            quoted ^= byte == b'"';
            byte == delimiter && !quoted
        });
        rest = at.map(|at| &text[..at]);
        Some(at.map_or(text, |at| &text[at + 1..]))
    })
}

/// The `for` of one element of `Forwarded` (RFC 7239 §4).
fn forwarded_for(element: &[u8]) -> Option<IpAddr> {
    // In no address. An escaped quote is one that was counted and should not have been.
    if element.contains(&b'\\') {
        return None;
    }
    let mut values = from_the_right(element, b';').filter_map(|pair| {
        let at = pair.iter().position(|&byte| byte == b'=')?;
        pair[..at].trim_ascii().eq_ignore_ascii_case(b"for").then(|| pair[at + 1..].trim_ascii())
    });
    let value = values.next()?;
    if values.next().is_some() {
        return None;
    }
    node(value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value))
}

/// An address, with or without a port. `unknown` and made-up names (RFC 7239 §6.3) are none.
fn node(text: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(text).ok()?.trim_ascii();
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    let in_brackets = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok();
    let address = text.parse().ok().or_else(with_port).or_else(|| in_brackets().map(IpAddr::V6))?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const PEER: &str = "10.0.0.1";

    fn proxies(trusted: &[&str], header: ForwardedHeader) -> Proxies {
        let trusted = trusted.iter().map(|text| text.parse().expect("a network"));
        Proxies::new(trusted.collect(), header)
    }

    fn client(proxies: &Proxies, peer: &str, lines: &[(&str, &[u8])]) -> String {
        let mut headers = HeaderMap::new();
        for (name, line) in lines {
            let name = HeaderName::try_from(*name).expect("a name");
            headers.append(name, HeaderValue::from_bytes(line).expect("a header's value"));
        }
        proxies.client(peer.parse().expect("an address"), &headers).to_string()
    }

    #[test]
    fn x_forwarded_for_is_read_from_the_right_as_far_as_it_is_trusted() {
        let proxies = proxies(&["10.0.0.0/8", "2001:db8:1::/48"], ForwardedHeader::XForwardedFor);
        let table: &[(&[&str], &str)] = &[
            (&[], PEER),
            (&["203.0.113.7"], "203.0.113.7"),
            (&["6.6.6.6, 203.0.113.7"], "203.0.113.7"),
            (&["203.0.113.7, 10.0.0.9"], "203.0.113.7"),
            (&["203.0.113.7,10.0.0.9,2001:db8:1::9\t, 10.1.1.1"], "203.0.113.7"),
            (&["6.6.6.6", "203.0.113.7", "10.0.0.9"], "203.0.113.7"),
            (&["6.6.6.6, 203.0.113.7", "10.0.0.9, 10.0.0.8"], "203.0.113.7"),
            // All of them proxies: the one furthest away.
            (&["10.0.0.7, 10.0.0.8"], "10.0.0.7"),
            // Ports, brackets and mapped addresses.
            (&["203.0.113.7:443"], "203.0.113.7"),
            (&["2001:db8::7"], "2001:db8::7"),
            (&["[2001:db8::7]"], "2001:db8::7"),
            (&["[2001:db8::7]:443"], "2001:db8::7"),
            (&["::ffff:203.0.113.7"], "203.0.113.7"),
            (&["203.0.113.7, ::ffff:10.0.0.9"], "203.0.113.7"),
            // What is no address ends the search at who wrote it.
            (&["6.6.6.6, unknown"], PEER),
            (&["6.6.6.6, unknown, 10.0.0.9"], "10.0.0.9"),
            (&["6.6.6.6, "], PEER),
            (&["6.6.6.6,, 10.0.0.9"], "10.0.0.9"),
            (&["6.6.6.6, 010.0.0.9"], PEER),
            (&["6.6.6.6, 203.0.113.7:99999"], PEER),
            (&["6.6.6.6, fe80::1%eth0"], PEER),
            (&["6.6.6.6, \"203.0.113.7\""], PEER),
            (&["6.6.6.6 203.0.113.7"], PEER),
            (&["\", 203.0.113.7"], "203.0.113.7"),
        ];
        for (lines, expected) in table {
            let headers: Vec<_> =
                lines.iter().map(|line| ("x-forwarded-for", line.as_bytes())).collect();
            assert_eq!(client(&proxies, PEER, &headers), *expected, "{lines:?}");
            assert_eq!(client(&proxies, "::ffff:10.0.0.1", &headers), *expected, "{lines:?}");
        }
        // The client's bytes need not be text.
        let mixed: &[(&str, &[u8])] = &[("x-forwarded-for", b"\xff\xfe, 203.0.113.7, 10.0.0.2")];
        assert_eq!(client(&proxies, PEER, mixed), "203.0.113.7");
    }

    #[test]
    fn forwarded_is_read_from_the_right_as_far_as_it_is_trusted() {
        let proxies = proxies(&["10.0.0.0/8"], ForwardedHeader::Forwarded);
        let table: &[(&[&str], &str)] = &[
            (&[], PEER),
            (&["for=203.0.113.7"], "203.0.113.7"),
            (&["For=203.0.113.7;proto=https;by=10.0.0.1"], "203.0.113.7"),
            (&["proto=https; for=\"203.0.113.7:443\";"], "203.0.113.7"),
            (&["for=\"[2001:db8::7]:443\""], "2001:db8::7"),
            (&["for=\"[2001:db8::7]\""], "2001:db8::7"),
            (&["for=6.6.6.6, for=203.0.113.7, for=10.0.0.9"], "203.0.113.7"),
            (&["for=6.6.6.6", "for=203.0.113.7;host=\"a,b;for=c\"", "for=10.0.0.9"], "203.0.113.7"),
            (&["for=\"::ffff:203.0.113.7\""], "203.0.113.7"),
            // No address.
            (&["for=6.6.6.6, for=unknown"], PEER),
            (&["for=6.6.6.6, for=_hidden, for=10.0.0.9"], "10.0.0.9"),
            (&["for=6.6.6.6, proto=https"], PEER),
            (&["for=6.6.6.6, for=203.0.113.7;for=203.0.113.8"], PEER),
            (&["for=6.6.6.6, for=\"203.0.113.7"], PEER),
            (&["for=6.6.6.6, 203.0.113.7"], PEER),
            (&["for=6.6.6.6, "], PEER),
            // Quotes that the client left open, and quotes in what the proxy repeats of the client's.
            (&["for=\"6.6.6.6, for=203.0.113.7"], "203.0.113.7"),
            (&["for=\"x, for=\"203.0.113.7:1\""], "203.0.113.7"),
            (&[r#"for=203.0.113.7;host="x\",for=6.6.6.6;a=\"y""#], PEER),
            (&[r#"for=203.0.113.7;host="x\";for=6.6.6.6;a=\"y""#], PEER),
        ];
        for (lines, expected) in table {
            let headers: Vec<_> = lines.iter().map(|line| ("forwarded", line.as_bytes())).collect();
            assert_eq!(client(&proxies, PEER, &headers), *expected, "{lines:?}");
        }
    }

    #[test]
    fn a_header_that_the_proxies_do_not_write_is_not_read() {
        let x: &(&str, &[u8]) = &("x-forwarded-for", b"6.6.6.6");
        let standard: &(&str, &[u8]) = &("forwarded", b"for=6.6.6.6");
        let of = |header, line: &(&str, &[u8])| {
            client(&proxies(&["10.0.0.0/8"], header), PEER, std::slice::from_ref(line))
        };
        assert_eq!(of(ForwardedHeader::XForwardedFor, standard), PEER);
        assert_eq!(of(ForwardedHeader::Forwarded, x), PEER);
    }

    /// Security.md: anybody else's header changes nothing.
    #[test]
    fn without_a_trusted_peer_no_header_has_an_effect() {
        const PIECES: &[&str] = &[
            "203.0.113.7",
            "10.0.0.9",
            "2001:db8::7",
            "[2001:db8::7]:1",
            ",",
            ", ",
            ";",
            "for=",
            "by=",
            "\"",
            "\\",
            " ",
            "unknown",
            "_x",
            ":1",
        ];
        let mut random = fastrand::Rng::with_seed(7);
        for trusted in [&[][..], &["10.0.0.0/8"], &["192.0.2.2", "2001:db8::/32"]] {
            for header in [ForwardedHeader::XForwardedFor, ForwardedHeader::Forwarded] {
                let proxies = proxies(trusted, header);
                for _ in 0..2_000 {
                    let mut lines = Vec::new();
                    for _ in 0..random.usize(1..4) {
                        let name = ["x-forwarded-for", "forwarded"][random.usize(0..2)];
                        let length = random.usize(0..9);
                        let pieces = (0..length).map(|_| PIECES[random.usize(0..PIECES.len())]);
                        lines.push((name, pieces.collect::<String>()));
                    }
                    let lines: Vec<_> =
                        lines.iter().map(|(name, line)| (*name, line.as_bytes())).collect();
                    assert_eq!(client(&proxies, "192.0.2.1", &lines), "192.0.2.1", "{lines:?}");
                }
            }
        }
    }

    #[test]
    fn networks_are_spelled_as_people_do() {
        let trusts = |network: &str, address: &str| {
            proxies(&[network], ForwardedHeader::default())
                .trusts(address.parse().expect("an address"))
        };
        assert!(trusts("192.0.2.1", "192.0.2.1") && !trusts("192.0.2.1", "192.0.2.2"));
        assert!(trusts(" 192.0.2.0/24", "192.0.2.255") && !trusts("192.0.2.0/24", "192.0.3.0"));
        assert!(
            trusts("2001:db8::/32", "2001:db8:ffff::1") && trusts("2001:db8::1", "2001:db8::1")
        );
        assert!(
            trusts("::ffff:192.0.2.0/120", "192.0.2.9") && trusts("::ffff:192.0.2.9", "192.0.2.9")
        );
        for bad in
            ["", "localhost", "192.0.2.0/33", "192.0.2", "0.0.0.0/0", "::/0", "::ffff:0:0/96"]
        {
            assert!(bad.parse::<ProxyNetwork>().is_err(), "{bad}");
        }
    }
}
