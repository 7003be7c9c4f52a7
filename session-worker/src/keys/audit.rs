//! The key that signs the heads of the audit record.

use std::{fs, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use shared::{chain::SigningKey, random};

/// There is no usable key.
#[derive(Debug, thiserror::Error)]
pub enum AuditKeyError {
    /// The file cannot be read.
    #[error("cannot read the key file {path}; `session-worker operator new-audit-key` makes one")]
    Read {
        /// Which file.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The file holds something else.
    #[error("the key file of the audit record wants one line, 32 bytes in base64")]
    Invalid,
}

/// Reads the file: one line with 32 bytes in base64, besides comments.
pub fn read(path: &Path) -> Result<SigningKey, AuditKeyError> {
    let text = fs::read_to_string(path)
        .map_err(|source| AuditKeyError::Read { path: path.display().to_string(), source })?;
    parse(&text).ok_or(AuditKeyError::Invalid)
}

fn parse(text: &str) -> Option<SigningKey> {
    let mut lines =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let (line, None) = (lines.next()?, lines.next()) else { return None };
    let seed: [u8; 32] = BASE64.decode(line).ok()?.try_into().ok()?;
    Some(SigningKey::from_seed(&seed))
}

/// A line for the file, with a new key.
#[must_use]
pub fn new_line() -> String {
    BASE64.encode(random::bytes::<32>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_key() {
        let (line, other) = (new_line(), new_line());
        let key = parse(&format!("# of 2026\n\n  {line}\n")).expect("a key").public();
        assert_eq!(parse(&line).map(|key| key.public()), Some(key));
        assert_ne!(parse(&other).map(|key| key.public()), Some(key));
        let both = format!("{line}\n{other}");
        for wrong in ["", "# nothing", "c2hvcnQ=", &both, &line[1..]] {
            assert!(parse(wrong).is_none(), "{wrong}");
        }
    }
}
