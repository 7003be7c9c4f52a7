//! Which grant is meant: by its id, by the end of its id, or because there is only one.

use std::fmt::Write as _;

use serde_json::Value;

use crate::{
    api::Api,
    failure::Failure,
    grant::short,
    message::{Grant, Grants},
};

/// The length of an id in full.
const FULL: usize = 36;
/// Fewer characters would soon fit several.
const LEAST: usize = 4;
/// How many grants of the newest are looked through.
pub(crate) const NEWEST: usize = 1000;
/// So many come in one answer.
const PAGE: usize = 200;

/// An id, or the end of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Id(String);

impl std::str::FromStr for Id {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.to_ascii_lowercase();
        let fits = text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
        if fits && (LEAST..=FULL).contains(&text.len()) {
            Ok(Self(text))
        } else {
            Err(format!("an id, or at least the last {LEAST} characters of one"))
        }
    }
}

impl Id {
    /// The whole id, if it is one.
    pub(crate) fn full(&self) -> Option<&str> {
        (self.0.len() == FULL).then_some(self.0.as_str())
    }

    /// Whether it means this one.
    pub(crate) fn means(&self, id: &str) -> bool {
        id.ends_with(&self.0)
    }
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a command can do something with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    Any,
    Pending,
    Active,
}

impl Wanted {
    fn state(self) -> Option<&'static str> {
        match self {
            Self::Any => None,
            Self::Pending => Some("pending"),
            Self::Active => Some("active"),
        }
    }
}

/// The id in full. Where the end of one fits several, those that the command is for come first.
pub(crate) fn full_id(api: &mut Api, id: &Id, wanted: Wanted) -> Result<String, Failure> {
    if let Some(full) = id.full() {
        return Ok(full.to_owned());
    }
    let mut found = Vec::new();
    if wanted != Wanted::Any {
        found = ending_in(id, list(api, wanted.state(), "", NEWEST)?.grants()?);
    }
    if found.is_empty() {
        found = ending_in(id, list(api, None, "", NEWEST)?.grants()?);
    }
    match found.as_slice() {
        [one] => Ok(one.id.raw().to_owned()),
        [] => Err(Failure::other(format!(
            "There is no grant that you can see whose id ends in {id}.\nSee: breakglass list --all"
        ))),
        several => Err(Failure::other(format!(
            "Several ids end in {id}. Give more of it:\n{}",
            several.iter().map(|grant| format!("  {}", grant.id)).collect::<Vec<_>>().join("\n")
        ))),
    }
}

fn ending_in(id: &Id, grants: Vec<Grant>) -> Vec<Grant> {
    grants.into_iter().filter(|grant| id.means(grant.id.raw())).collect()
}

/// The only one there is; otherwise says which there are.
pub(crate) fn only(
    mut grants: Vec<Grant>,
    none: &str,
    several: &str,
    command: &str,
) -> Result<Grant, Failure> {
    match grants.len() {
        1 => Ok(grants.remove(0)),
        0 => Err(Failure::other(none)),
        n => {
            let mut lines = vec![format!("There are {n} {several}. Say which:")];
            lines.extend(grants.iter().map(|grant| {
                format!(
                    "  breakglass {command} {}   {}: {}",
                    short(&grant.id),
                    grant.user,
                    grant.reason
                )
            }));
            Err(Failure::other(lines.join("\n")))
        }
    }
}

/// Grants as the server lists them.
#[derive(Debug)]
pub(crate) struct Listed {
    /// As they came.
    pub(crate) grants: Vec<Value>,
    /// Whether there are more.
    pub(crate) more: bool,
}

impl Listed {
    pub(crate) fn grants(&self) -> Result<Vec<Grant>, Failure> {
        let body = serde_json::json!({ "grants": self.grants });
        Ok(crate::api::Answer { body }.read::<Grants>()?.grants)
    }
}

/// At most so many grants, newest first; of one state, or of all; of one user, or of all.
pub(crate) fn list(
    api: &mut Api,
    state: Option<&str>,
    user: &str,
    limit: usize,
) -> Result<Listed, Failure> {
    let mut listed = Listed { grants: Vec::new(), more: false };
    let mut cursor: Option<String> = None;
    loop {
        let page = PAGE.min(limit - listed.grants.len());
        let mut path = format!("/v1/emergency/grants?limit={page}");
        for (name, value) in [("state", state), ("user", Some(user)), ("cursor", cursor.as_deref())]
        {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                let _ = write!(path, "&{name}={value}");
            }
        }
        let mut body = api.get(&path)?.body;
        if let Some(Value::Array(grants)) = body.get_mut("grants").map(Value::take) {
            listed.grants.extend(grants);
        }
        // Only what can stand in an address as it is.
        let next = body["next_cursor"].as_str().filter(|next| {
            next.bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~'))
        });
        listed.more = next.is_some();
        match next {
            Some(next) if listed.grants.len() < limit && cursor.as_deref() != Some(next) => {
                cursor = Some(next.to_owned());
            }
            _ => return Ok(listed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_meant_by_its_end() {
        let id: Id = "3C3686E6".parse().expect("an end");
        assert!(id.means("01a20386-a8c9-79c6-91ae-41c83c3686e6") && id.full().is_none());
        assert!(!id.means("3c3686e6-a8c9-79c6-91ae-41c83c3686e7"));
        for bad in ["", "6e6", "xyz1", "../x", "01a20386-a8c9-79c6-91ae-41c83c3686e6a", "a/b?c"] {
            assert!(bad.parse::<Id>().is_err(), "{bad}");
        }
        let full = "01a20386-a8c9-79c6-91ae-41c83c3686e6";
        assert_eq!(full.parse::<Id>().expect("an id").full(), Some(full));
    }
}
