//! Which passwords may be set: ASVS 5.0, 6.2. Verbatim, no rules of composition.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use shared::refusal::{Code, Refusal};

/// Fewest characters (6.2.1).
const SHORTEST: usize = 8;
/// Most characters (6.2.9).
pub(crate) const LONGEST: usize = 128;

/// The list that comes with the program: those of 8 characters and more of the 20,000 most common
/// passwords in breaches, collected by Royce Williams, as Django 5.2 ships them (BSD-3-Clause).
const COMMON: &str = include_str!("common.txt");

/// Passwords that are refused, as sorted halves of half their SHA-256. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Blocklist(Arc<[u64]>);

/// The operator's list cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the password blocklist {path}: it has to be text with one password a line")]
pub(crate) struct BlocklistError {
    path: PathBuf,
    source: io::Error,
}

impl Blocklist {
    /// The list that comes with the program, and the operator's own.
    pub(crate) fn new(own: Option<&Path>) -> Result<Self, BlocklistError> {
        let own = own.map(|path| {
            let read = fs::read(path);
            read.map_err(|source| BlocklistError { path: path.to_owned(), source })
        });
        let own = own.transpose()?.unwrap_or_default();
        // Breached passwords are bytes of whatever encoding.
        let lines = own.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        let common = COMMON.lines().map(str::as_bytes);
        let mut digests: Vec<_> = lines
            .chain(common)
            .filter(|line| !line.is_empty())
            .map(|line| match str::from_utf8(line) {
                Ok(text) => digest(text),
                Err(_) => digest_of(line),
            })
            .collect();
        digests.sort_unstable();
        digests.dedup();
        Ok(Self(digests.into()))
    }

    fn has(&self, password: &str) -> bool {
        self.0.binary_search(&digest(password)).is_ok()
    }

    /// Refuses what may not be set. `own` is what everybody knows of the user: address, name, tenant.
    pub(crate) fn check(&self, password: &SecretString, own: &[&str]) -> Result<(), Refusal> {
        let password = password.expose_secret();
        let length = password.chars().count();
        let weak = |detail: &str| Err(Refusal::new(Code::PasswordTooWeak, detail));
        if length < SHORTEST {
            return weak("A password has at least 8 characters; 15 or more are advised.");
        }
        if length > LONGEST {
            return weak("A password has at most 128 characters.");
        }
        if self.has(password) {
            return weak(
                "This password is on lists of common and stolen passwords. Choose another one.",
            );
        }
        let lower = password.to_lowercase();
        let is_own = |own: &&&str| {
            let own = own.to_lowercase();
            let local = own.split('@').next().unwrap_or_default();
            lower == own || lower == local
        };
        if own.iter().chain(&["breakglass"]).any(|own| is_own(&own)) {
            return weak("A password that is your name or address is easy to guess.");
        }
        Ok(())
    }
}

/// In whatever case: `PASSWORD1` is as common as `password1`.
fn digest(password: &str) -> u64 {
    digest_of(password.to_lowercase().as_bytes())
}

/// Half of this many bits would do for millions of passwords.
fn digest_of(bytes: &[u8]) -> u64 {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    let [first, ..] = digest.as_chunks::<8>().0 else { return 0 };
    u64::from_be_bytes(*first)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn refused(list: &Blocklist, password: &str) -> Option<Code> {
        let password = SecretString::from(password.to_owned());
        let own = ["ada.lovelace@acme.test", "Ada Lovelace", "acme-works"];
        list.check(&password, &own).err().map(|refusal| refusal.code)
    }

    #[test]
    fn eight_characters_at_least_128_at_most_and_any_of_unicode() {
        let list = Blocklist::new(None).expect("the list");
        for good in
            ["qv7 ztw!", "  two spaces  ", "пароль-из-слов", "😀😀😀😀🤖🤖🤖🤖", &"xy".repeat(64)]
        {
            assert_eq!(refused(&list, good), None, "{good}");
        }
        for bad in ["", "1234567", "seven77", "😀😀😀😀🤖🤖🤖", &"x".repeat(129)] {
            assert_eq!(refused(&list, bad), Some(Code::PasswordTooWeak), "{bad}");
        }
    }

    #[test]
    fn common_passwords_and_ones_own_name_are_refused() {
        let list = Blocklist::new(None).expect("the list");
        for bad in [
            "password",
            "PassWord1",
            "12345678",
            "qwertyuiop",
            "iloveyou",
            "breakglass",
            "ada.lovelace",
            "ADA.Lovelace@acme.test",
            "Ada Lovelace",
            "acme-works",
        ] {
            assert_eq!(refused(&list, bad), Some(Code::PasswordTooWeak), "{bad}");
        }
    }

    #[test]
    fn the_operators_list_is_added() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(b"Company-Winter\r\n\xff\xfe\nqv7 ztw!\n").expect("written");
        let list = Blocklist::new(Some(file.path())).expect("the lists");
        for bad in ["company-winter", "qv7 ztw!", "password1"] {
            assert_eq!(refused(&list, bad), Some(Code::PasswordTooWeak), "{bad}");
        }
        let missing = Blocklist::new(Some(Path::new("/nowhere/list"))).err().expect("refused");
        assert!(missing.to_string().contains("/nowhere/list"));
    }
}
