//! `session-worker operator …`: the operator's command line.

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use secrecy::SecretString;
use shared::{database, role::Role};

use super::{NewUser, OperatorError};
use crate::keys::{self, Keys};

/// What the operator does beside the API, straight in the database. Goes into the audit record.
#[derive(Debug, Parser)]
#[command(name = "session-worker operator", version)]
struct Operator {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create a tenant with its first admin, who sets a password with the token that is printed.
    CreateTenant {
        /// What people type to sign in: a-z, 0-9 and -.
        #[arg(long)]
        tenant: String,
        /// Its name, for people.
        #[arg(long)]
        name: String,
        /// The first admin's address.
        #[arg(long)]
        admin_email: String,
        /// The first admin's name.
        #[arg(long)]
        admin_name: String,
        #[command(flatten)]
        database: Database,
    },
    /// Print a token with which a user sets a new password.
    ResetPassword {
        #[command(flatten)]
        user: User,
        #[command(flatten)]
        database: Database,
    },
    /// Forget a user's failed attempts, where somebody keeps them out by guessing wrong.
    Unlock {
        #[command(flatten)]
        user: User,
        #[command(flatten)]
        database: Database,
    },
    /// Take a user's second factor away and end all their sessions.
    ResetMfa {
        #[command(flatten)]
        user: User,
        #[command(flatten)]
        database: Database,
    },
    /// Print a line with a new key for the file of `--secret-keys`.
    NewKey,
    /// Print a new key for the file of `--audit-key`.
    ///
    /// To change the key, put the new one in the file's place and restart every session-worker. Keep the
    /// public key of the old one: what it has signed is verified by it.
    NewAuditKey,
    /// Print the public key that verifies what a key of `--audit-key` signs.
    AuditPublicKey {
        /// The key file of session-worker.
        #[arg(long, env = "BREAKGLASS_AUDIT_KEY")]
        audit_key: PathBuf,
    },
    /// Seal all shared secrets anew with the first key of the file. May be stopped and run again at any
    /// time; afterwards the other keys can go.
    ///
    /// Put the new key after the old ones and restart every session-worker; then put it first and
    /// restart them again; then run this.
    RotateKeys {
        /// The key file of session-worker.
        #[arg(long, env = "BREAKGLASS_SECRET_KEYS")]
        secret_keys: PathBuf,
        #[command(flatten)]
        database: Database,
    },
}

#[derive(Debug, clap::Args)]
struct User {
    /// The tenant's short name.
    #[arg(long)]
    tenant: String,
    /// The user's address.
    #[arg(long)]
    email: String,
}

#[derive(Debug, clap::Args)]
struct Database {
    /// The primary, as a `postgres://` address.
    #[arg(long, env = "BREAKGLASS_DATABASE_URL", hide_env_values = true)]
    database_url: SecretString,
}

/// Runs the command line whose words come after `operator`.
pub fn main(args: impl IntoIterator<Item = std::ffi::OsString>) -> ExitCode {
    let name = std::ffi::OsString::from("session-worker operator");
    let operator = Operator::parse_from(std::iter::once(name).chain(args));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(run(operator.command)),
        Err(error) => Err(anyhow::Error::new(error)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("session-worker operator: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::NewKey => println!("{}", Keys::new_line()),
        Command::NewAuditKey => println!("{}", keys::audit::new_line()),
        Command::AuditPublicKey { audit_key } => {
            println!("{}", keys::audit::read(&audit_key).map_err(OperatorError::from)?.public());
        }
        Command::CreateTenant { tenant, name, admin_email, admin_name, database } => {
            let pool = database::connect(&database.database_url, 1)?;
            let admin = NewUser {
                email: admin_email.clone(),
                name: admin_name,
                role: Role::Admin,
                password: None,
            };
            super::create_tenant(&pool, &tenant, &name, &[admin]).await?;
            println!("Tenant {tenant} is there, with the admin {admin_email}.");
            print_token(&pool, &tenant, &admin_email).await?;
        }
        Command::ResetPassword { user, database } => {
            let pool = database::connect(&database.database_url, 1)?;
            print_token(&pool, &user.tenant, &user.email).await?;
        }
        Command::Unlock { user, database } => {
            let pool = database::connect(&database.database_url, 1)?;
            let failures = super::unlock(&pool, &user.tenant, &user.email).await?;
            println!("{} failed attempts of {} are forgotten.", failures, user.email);
        }
        Command::ResetMfa { user, database } => {
            let pool = database::connect(&database.database_url, 1)?;
            let removed = super::reset_mfa(&pool, &user.tenant, &user.email).await?;
            let had =
                if removed { "has no second factor any more" } else { "had no second factor" };
            println!("{} {had}; all their sessions end on every edge within seconds.", user.email);
        }
        Command::RotateKeys { secret_keys, database } => {
            let keys = Keys::read(&secret_keys).map_err(OperatorError::from)?;
            let pool = database::connect(&database.database_url, 1)?;
            super::keys::rotate(&pool, &keys, |sealed| println!("{sealed} sealed anew")).await?;
            println!("Everything is sealed with the key {}; older keys can go.", keys.current());
        }
    }
    Ok(())
}

async fn print_token(pool: &sqlx::PgPool, tenant: &str, email: &str) -> anyhow::Result<()> {
    let (token, minutes) = super::reset_password(pool, tenant, email).await?;
    let time = if minutes < 120 {
        format!("{minutes} minutes")
    } else {
        format!("{} hours", minutes / 60)
    };
    println!(
        "With this token {email} sets a password, once, within {time}:\n\n    {}\n\n\
         POST /v1/password-reset {{\"token\": \"…\", \"new_password\": \"…\"}}",
        token.expose()
    );
    Ok(())
}
