//! The first tenant and its users, whose passwords are made here and never lost.

use std::{
    fmt::Write,
    fs, io,
    path::{Path, PathBuf},
};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use session_worker::operator::{self, NewUser, OperatorError};
use shared::role::Role;
use sqlx::PgPool;

use crate::data;

const TENANT: &str = "acme";
const USERS: [(Role, &str, &str); 3] = [
    (Role::Admin, "admin@acme.test", "Ada Admin"),
    (Role::Manager, "manager@acme.test", "Max Manager"),
    (Role::Member, "member@acme.test", "Mia Member"),
];

/// The tenant cannot be made or its passwords not be kept.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The file cannot be read or written.
    #[error("cannot read or write {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file holds something else.
    #[error("{path} is not what was written there; move it away or use --fresh")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The database does not answer.
    #[error("cannot look for a tenant")]
    Database(#[from] sqlx::Error),
    /// The tenant cannot be made.
    #[error("cannot create the tenant {TENANT}")]
    Create(#[from] OperatorError),
}

/// What `credentials.json` holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Credentials {
    /// The tenant's slug.
    pub tenant: String,
    /// One user per role.
    pub users: Vec<Credential>,
}

/// How one user signs in.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Credential {
    /// The address.
    pub email: String,
    /// The assigned role.
    pub role: Role,
    /// The password.
    #[serde(serialize_with = "expose", deserialize_with = "hide")]
    pub password: SecretString,
}

/// What was found or done.
#[derive(Debug)]
pub enum Seeded {
    /// The tenant was created just now.
    Created(Credentials),
    /// There was a tenant, and a file with its passwords.
    Existing(Credentials),
    /// There was a tenant; its passwords are not known here.
    Unknown,
}

impl Credentials {
    /// The user of a role.
    #[must_use]
    pub fn of(&self, role: Role) -> Option<&Credential> {
        self.users.iter().find(|user| user.role == role)
    }

    /// A small table for people, passwords included.
    #[must_use]
    pub fn table(&self) -> String {
        let mut table = format!("  tenant: {}\n", self.tenant);
        for Credential { email, role, password } in &self.users {
            let _ =
                writeln!(table, "  {email:<20} {:<10} {}", role.as_str(), password.expose_secret());
        }
        table
    }

    fn generate() -> Self {
        let user = |(role, email, _): (Role, &str, &str)| Credential {
            email: email.to_owned(),
            role,
            password: generate_password(),
        };
        Self { tenant: TENANT.to_owned(), users: USERS.map(user).into() }
    }

    fn new_users(&self) -> Vec<NewUser> {
        let new = |user: &Credential| {
            let name = USERS.iter().find(|(role, ..)| *role == user.role);
            NewUser {
                email: user.email.clone(),
                name: name.map_or_else(|| user.email.clone(), |(.., name)| (*name).to_owned()),
                role: user.role,
                password: Some(user.password.clone()),
            }
        };
        self.users.iter().map(new).collect()
    }
}

/// Creates the tenant if the database has none.
///
/// The passwords are on disk, beside the file's place, before the tenant is committed, and are
/// moved to it after. So a file in place names passwords of a tenant that exists, and a crash
/// between the two is made good by the next start.
pub async fn seed(pool: &PgPool, path: &Path) -> Result<Seeded, CredentialsError> {
    let pending = path.with_extension("json.pending");
    let exists = operator::tenant_exists(pool).await?;
    let (known, awaited) = (read(path)?, read(&pending)?);
    if exists {
        if known.is_none() && awaited.is_some() {
            rename(&pending, path)?;
        }
        return Ok(known.or(awaited).map_or(Seeded::Unknown, Seeded::Existing));
    }
    // Passwords of an earlier database of this directory are good for another one too.
    let credentials = known.or(awaited).unwrap_or_else(Credentials::generate);
    let text = serde_json::to_vec_pretty(&credentials).expect("strings can be written as JSON");
    data::write_private(&pending, &text).map_err(|source| file(&pending, source))?;
    operator::create_tenant(pool, TENANT, "Acme", &credentials.new_users()).await?;
    rename(&pending, path)?;
    Ok(Seeded::Created(credentials))
}

fn read(path: &Path) -> Result<Option<Credentials>, CredentialsError> {
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text)
            .map(Some)
            .map_err(|source| CredentialsError::Invalid { path: path.to_owned(), source }),
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(file(path, source)),
    }
}

fn rename(from: &Path, to: &Path) -> Result<(), CredentialsError> {
    fs::rename(from, to).map_err(|source| file(to, source))
}

fn file(path: &Path, source: io::Error) -> CredentialsError {
    CredentialsError::File { path: path.to_owned(), source }
}

/// 24 of 32 letters and digits that nobody takes for one another: 120 random bits.
pub(crate) fn generate_password() -> SecretString {
    const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let bytes = shared::random::bytes::<24>();
    bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect::<String>().into()
}

fn expose<S: Serializer>(password: &SecretString, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(password.expose_secret())
}

fn hide<'de, D: Deserializer<'de>>(from: D) -> Result<SecretString, D::Error> {
    String::deserialize(from).map(SecretString::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_the_form_that_the_contract_names() {
        let credentials = Credentials::generate();
        let json = serde_json::to_value(&credentials).expect("it can be written");
        assert_eq!(json["tenant"], "acme");
        assert_eq!(json["users"][0]["email"], "admin@acme.test");
        assert_eq!(json["users"][2]["role"], "member");
        assert_eq!(json["users"][1]["password"].as_str().map(str::len), Some(24));
        let back: Credentials = serde_json::from_value(json).expect("it can be read");
        let password = |c: &Credentials| c.users[0].password.expose_secret().to_owned();
        assert_eq!(password(&back), password(&credentials));
    }

    #[test]
    fn debug_output_has_no_password() {
        let credentials = Credentials::generate();
        let password = credentials.users[0].password.expose_secret();
        assert!(!format!("{credentials:?}").contains(password));
    }
}
