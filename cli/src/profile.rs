//! Who one is signed in as: one file for each profile, which nobody else can read.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use rustix::{fs::OFlags, process::geteuid};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, Serializer};

use crate::failure::Failure;

/// No profile is nearly as large, in bytes.
const LARGEST: u64 = 64 * 1024;

/// Where somebody signs in, as whom, and the token while they are signed in.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Profile {
    /// Gateways, to be tried in this order.
    pub(crate) servers: Vec<String>,
    /// The tenant's short name.
    #[serde(default)]
    pub(crate) tenant: String,
    /// The address.
    #[serde(default)]
    pub(crate) email: String,
    /// The token of the session.
    #[serde(default, serialize_with = "expose", skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<SecretString>,
}

#[expect(clippy::ref_option, reason = "the signature that serde calls")]
fn expose<S: Serializer>(token: &Option<SecretString>, serializer: S) -> Result<S::Ok, S::Error> {
    token.as_ref().map(ExposeSecret::expose_secret).serialize(serializer)
}

/// The folder of profiles.
#[derive(Debug)]
pub(crate) struct Profiles(PathBuf);

impl Profiles {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.json"))
    }

    /// The profile of a name, if there is one. Refuses one that others could read or have put there.
    pub(crate) fn load(&self, name: &str) -> Result<Option<Profile>, Failure> {
        let path = self.path(name);
        match self.read(&path) {
            Ok(text) => {
                let profile = serde_json::from_str(&text).map_err(|_| {
                    Failure::other(format!(
                        "{} is damaged. Remove it and sign in again.",
                        path.display()
                    ))
                })?;
                Ok(Some(profile))
            }
            Err(Unsafe::Io(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(refused) => Err(refused.about(&path)),
        }
    }

    fn read(&self, path: &Path) -> Result<String, Unsafe> {
        self.check_folder()?;
        // A link is not followed, and a pipe does not keep us waiting.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let mut options = fs::OpenOptions::new();
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, flags.bits().cast_signed());
        let file = options.read(true).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(Unsafe::NoFile);
        }
        if metadata.uid() != geteuid().as_raw() {
            return Err(Unsafe::Foreign);
        }
        if metadata.mode() & 0o077 != 0 {
            return Err(Unsafe::Readable(metadata.mode() & 0o777));
        }
        let mut text = String::new();
        file.take(LARGEST).read_to_string(&mut text)?;
        Ok(text)
    }

    /// Writes a profile: whole or not at all, and at no moment readable by others.
    pub(crate) fn save(&self, name: &str, profile: &Profile) -> Result<(), Failure> {
        let path = self.path(name);
        self.write(&path, profile).map_err(|refused| refused.about(&path))
    }

    fn write(&self, path: &Path, profile: &Profile) -> Result<(), Unsafe> {
        if let Some(parent) = self.0.parent() {
            fs::create_dir_all(parent)?;
        }
        match DirBuilder::new().mode(0o700).create(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error.into()),
            _ => self.check_folder()?,
        }
        // Made anew with mode 0600; the rename then replaces whatever is there, links too.
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(&self.0)?;
        serde_json::to_writer_pretty(&mut file, profile).map_err(io::Error::from)?;
        file.write_all(b"\n")?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        File::open(&self.0)?.sync_all()?;
        Ok(())
    }

    /// Who may write into the folder can put another's token there.
    fn check_folder(&self) -> Result<(), Unsafe> {
        let metadata = fs::metadata(&self.0)?;
        if metadata.uid() != geteuid().as_raw() || metadata.mode() & 0o022 != 0 {
            return Err(Unsafe::Folder(self.0.clone()));
        }
        Ok(())
    }
}

/// Whether something can be the name of a profile, and so part of a file's.
pub(crate) fn name(text: &str) -> Result<String, &'static str> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    if begins && text.chars().all(fits) && text.len() <= 64 {
        Ok(text.to_owned())
    } else {
        Err("at most 64 letters, digits, dashes, underscores and dots")
    }
}

/// Why a file is not to be trusted.
#[derive(Debug, thiserror::Error)]
enum Unsafe {
    #[error("it is not a plain file")]
    NoFile,
    #[error("it belongs to somebody else")]
    Foreign,
    #[error("others can read it (mode {0:04o})")]
    Readable(u32),
    #[error("its folder can be changed by others")]
    Folder(PathBuf),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Unsafe {
    fn about(self, path: &Path) -> Failure {
        let file = path.display();
        let cure = match &self {
            Self::Readable(_) => {
                // Whoever could read it may have: a new mode does not make the token secret again.
                format!(
                    "Its token may be known. Run `chmod 600 {file}`, then sign out and in again."
                )
            }
            Self::Folder(folder) => format!("Run `chmod 700 {}`.", folder.display()),
            Self::NoFile | Self::Foreign => "Remove it and sign in again.".to_owned(),
            Self::Io(error)
                if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) =>
            {
                return Failure::other(format!(
                    "{file} is a link, and is not followed. Remove it and sign in again."
                ));
            }
            Self::Io(error) => return Failure::other(format!("{file}: {error}")),
        };
        Failure::other(format!("{file} is not used: {self}.\n{cure}"))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn folder() -> (tempfile::TempDir, Profiles) {
        let home = tempfile::tempdir().expect("a folder");
        let profiles = Profiles::new(home.path().join("config/breakglass"));
        (home, profiles)
    }

    fn profile(token: &str) -> Profile {
        Profile {
            servers: vec!["https://a.example".to_owned()],
            token: Some(SecretString::from(token)),
            ..Profile::default()
        }
    }

    fn token(profiles: &Profiles) -> Result<Option<String>, String> {
        match profiles.load("default") {
            Ok(profile) => Ok(profile.and_then(|p| p.token).map(|t| t.expose_secret().to_owned())),
            Err(Failure::Other(what)) => Err(what),
            Err(other) => Err(format!("{other:?}")),
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("is there").mode() & 0o7777
    }

    #[test]
    fn only_its_user_can_read_it() {
        let (_home, profiles) = folder();
        assert_eq!(token(&profiles), Ok(None));
        profiles.save("default", &profile("bgs_1")).expect("saved");
        assert_eq!(token(&profiles), Ok(Some("bgs_1".to_owned())));
        assert_eq!((mode(&profiles.path("default")), mode(&profiles.0)), (0o600, 0o700));
        profiles.save("default", &profile("bgs_2")).expect("saved again");
        assert_eq!(token(&profiles), Ok(Some("bgs_2".to_owned())));
        assert_eq!(fs::read_dir(&profiles.0).expect("a folder").count(), 1);
    }

    #[test]
    fn what_others_can_read_is_not_used() {
        let (_home, profiles) = folder();
        profiles.save("default", &profile("bgs_1")).expect("saved");
        let path = profiles.path("default");
        for loose in [0o640, 0o604, 0o660] {
            fs::set_permissions(&path, fs::Permissions::from_mode(loose)).expect("chmod");
            let refused = token(&profiles).expect_err("refused");
            assert!(
                refused.contains("others can read it") && refused.contains("chmod 600"),
                "{refused}"
            );
        }
        profiles.save("default", &profile("bgs_2")).expect("signing in again heals it");
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn a_folder_that_others_can_change_is_not_used() {
        let (_home, profiles) = folder();
        profiles.save("default", &profile("bgs_1")).expect("saved");
        fs::set_permissions(&profiles.0, fs::Permissions::from_mode(0o770)).expect("chmod");
        assert!(token(&profiles).expect_err("refused").contains("chmod 700"));
        assert!(profiles.save("default", &profile("bgs_2")).is_err());
    }

    #[test]
    fn a_planted_link_is_neither_read_nor_written_through() {
        let (home, profiles) = folder();
        profiles.save("other", &profile("bgs_1")).expect("saved");
        let target = home.path().join("target");
        fs::write(&target, "untouched").expect("written");
        fs::set_permissions(&target, fs::Permissions::from_mode(0o600)).expect("chmod");
        symlink(&target, profiles.path("default")).expect("a link");
        assert!(token(&profiles).expect_err("refused").contains("is a link"));
        profiles.save("default", &profile("bgs_2")).expect("saved");
        assert_eq!(fs::read_to_string(&target).expect("is there"), "untouched");
        assert_eq!(token(&profiles), Ok(Some("bgs_2".to_owned())));
    }

    #[test]
    fn a_pipe_does_not_keep_anybody_waiting() {
        let (_home, profiles) = folder();
        profiles.save("other", &profile("bgs_1")).expect("saved");
        let made = std::process::Command::new("mkfifo").arg(profiles.path("default")).status();
        assert!(made.expect("mkfifo runs").success());
        assert!(token(&profiles).expect_err("refused").contains("not a plain file"));
    }

    #[test]
    fn a_name_leads_nowhere_else() {
        for bad in ["", ".", "..", "../x", "a/b", ".hidden", "a b", "ü"] {
            assert!(name(bad).is_err(), "{bad}");
        }
        assert_eq!(name("prod-eu.1"), Ok("prod-eu.1".to_owned()));
    }
}
