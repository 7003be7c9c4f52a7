//! Where an address is, from a file that the operator brings: for people, no decision rests on it.

use std::{
    io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use maxminddb::{MaxMindDbError, Reader, geoip2};
use shared::message::session::Location;
use tracing::{info, warn};

/// The file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LocationError {
    #[error("cannot read {path}, the file of --location-database")]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "{path} is not a whole file in MaxMind's format (.mmdb, unpacked): download it anew, or leave \
         --location-database out"
    )]
    Format { path: PathBuf, source: MaxMindDbError },
    #[error(
        "{path} is of the type {kind:?} and names no places: --location-database wants a City or \
         Country file"
    )]
    Kind { path: PathBuf, kind: String },
}

/// What is known of addresses; nothing where there is no file.
#[derive(Default)]
pub(crate) struct Locations(Option<Reader<Vec<u8>>>);

impl Locations {
    /// Reads the file, whole: it may be replaced while this runs.
    pub(crate) fn load(path: Option<&Path>) -> Result<Self, LocationError> {
        let Some(path) = path else { return Ok(Self::default()) };
        let owned = || path.to_owned();
        let bytes =
            std::fs::read(path).map_err(|source| LocationError::Read { path: owned(), source })?;
        // The part that says what the rest is comes last, so what was cut short is found here.
        let reader = Reader::from_source(bytes)
            .map_err(|source| LocationError::Format { path: owned(), source })?;
        let kind = &reader.metadata().database_type;
        if !["City", "Country", "Enterprise", "Location"].iter().any(|word| kind.contains(word)) {
            return Err(LocationError::Kind { path: owned(), kind: kind.clone() });
        }
        info!(path = %path.display(), kind, "places of addresses are known");
        Ok(Self(Some(reader)))
    }

    /// Where an address is, if that is known.
    pub(crate) fn of(&self, address: IpAddr) -> Option<Location> {
        let address = address.to_canonical();
        let reader = self.0.as_ref().filter(|_| !is_private(address))?;
        let found = reader.lookup(address).and_then(|found| found.decode::<geoip2::City>());
        let place = found.unwrap_or_else(|error| {
            warn!(%error, "the location database has an entry that cannot be read");
            None
        })?;
        let name = |names: geoip2::Names| {
            names.english.filter(|name| !name.is_empty()).map(ToOwned::to_owned)
        };
        let (city, country) = (name(place.city.names), name(place.country.names));
        let label = match (&city, &country) {
            (Some(city), Some(country)) => format!("{city}, {country}"),
            (Some(one), None) | (None, Some(one)) => one.clone(),
            (None, None) => return None,
        };
        Some(Location { city, country, label })
    }
}

/// A canonical address that means another place in every network.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_unspecified()
        }
        IpAddr::V6(v6) => {
            v6.is_unique_local()
                || v6.is_loopback()
                || v6.is_unicast_link_local()
                || v6.is_unspecified()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/locations.mmdb")
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn says_what_the_file_knows_and_no_more() {
        let locations = Locations::load(Some(&file())).expect("the file of the tests");
        let label = |text| locations.of(address(text)).map(|place| place.label);
        assert_eq!(label("203.0.113.7").as_deref(), Some("Zürich, Switzerland"));
        assert_eq!(label("::ffff:203.0.113.7").as_deref(), Some("Zürich, Switzerland"));
        assert_eq!(label("2001:db8::7").as_deref(), Some("São Paulo, Brazil"));
        assert_eq!(label("198.51.100.7").as_deref(), Some("Japan"));
        assert_eq!(label("198.51.100.200"), None, "no name that people know");
        assert_eq!(label("192.0.2.1"), None);
        assert_eq!(label("10.0.0.1"), None);
        let japan = locations.of(address("198.51.100.7")).expect("a place");
        assert_eq!((japan.city, japan.country.as_deref()), (None, Some("Japan")));
        let none = Locations::load(None).expect("no file is no mistake");
        assert_eq!(none.of(address("203.0.113.7")), None);
    }

    #[test]
    fn a_private_address_is_nowhere() {
        for text in [
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "127.0.0.1",
            "169.254.1.1",
            "::1",
            "fe80::1",
            "fd00::1",
            "::ffff:10.1.2.3",
            "0.0.0.0",
            "::",
        ] {
            assert!(is_private(address(text).to_canonical()), "{text}");
        }
        for text in ["203.0.113.7", "172.32.0.1", "2001:db8::1", "8.8.8.8"] {
            assert!(!is_private(address(text)), "{text}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_used_says_what_to_do() {
        let said = |path: &Path| Locations::load(Some(path)).err().expect("a mistake").to_string();
        assert!(said(Path::new("/nowhere.mmdb")).contains("cannot read /nowhere.mmdb"));
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("x.mmdb");
        let whole = std::fs::read(file()).expect("the file of the tests");
        for length in [0, 1, whole.len() / 2, whole.len() - 1] {
            std::fs::write(&path, &whole[..length]).expect("writes");
            assert!(said(&path).contains("download it anew"), "{length} bytes");
        }
        let at = whole.windows(9).position(|bytes| bytes == b"Test-City").expect("its type");
        let mut asn = whole.clone();
        asn[at..at + 9].copy_from_slice(b"Test--ASN");
        std::fs::write(&path, asn).expect("writes");
        assert!(said(&path).contains("wants a City or Country file"));
    }
}
