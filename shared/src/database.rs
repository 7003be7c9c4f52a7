//! What the workers share of the database: who a caller is, the audit record, the numbering of
//! revisions, and how failures are told.
//!
//! A change, its audit record and its revision are one transaction. Locks are taken in one order:
//! users (by id), tenants (the audit record), the revocation head last.

pub mod audit;
pub mod caller;
pub mod grants;
pub mod outbox;
pub mod revocation;

use std::{net::SocketAddr, str::FromStr as _, time::Duration};

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::{
    Connection as _, PgPool, Postgres,
    migrate::MigrateError,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::{
    bus::Bus,
    refusal::{Code, Refusal},
    runtime::health,
};

/// A transaction.
pub type Transaction = sqlx::Transaction<'static, Postgres>;

/// How to reach the database.
#[derive(Debug, Clone, clap::Args)]
pub struct DatabaseConfig {
    /// The primary, as a `postgres://` address.
    #[arg(long, env = "BREAKGLASS_DATABASE_URL", hide_env_values = true)]
    pub database_url: SecretString,
    /// Most connections at once.
    #[arg(long, env = "BREAKGLASS_DATABASE_CONNECTIONS", default_value_t = 16)]
    pub database_connections: u32,
}

/// A pool of connections, none of them opened yet.
///
/// One paused worker cannot hold the head: statements and idling in a transaction have time-outs.
/// The COMMIT of a revision has none, see [`revocation::commit`].
pub fn connect(url: &SecretString, connections: u32) -> Result<PgPool, sqlx::Error> {
    let options =
        PgConnectOptions::from_str(url.expose_secret())?.application_name("breakglass").options([
            ("statement_timeout", "5s"),
            ("lock_timeout", "3s"),
            ("idle_in_transaction_session_timeout", "5s"),
            // Every query goes by an index, whatever its parameters; planning each anew costs more
            // than running it. A plan that was made while a table was small must not read all of it
            // later.
            ("plan_cache_mode", "force_generic_plan"),
            ("enable_seqscan", "off"),
            ("jit", "off"),
        ]);
    Ok(PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(Duration::from_secs(2))
        // Asking costs a round trip: only what has not been used for a while may be dead.
        .test_before_acquire(false)
        .before_acquire(|connection, known| {
            Box::pin(async move {
                if known.idle_for > TRUSTED {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .connect_lazy_with(options))
}

/// A connection that was used so recently is not asked whether it lives.
pub const TRUSTED: Duration = Duration::from_millis(500);

/// Brings the schema up to date.
pub async fn migrate(pool: &PgPool) -> Result<(), MigrateError> {
    sqlx::migrate!("./migrations").run(pool).await
}

/// Whether the database answers, within a second.
async fn is_ready(pool: &PgPool) -> bool {
    let ping = sqlx::query("SELECT 1").execute(pool);
    matches!(tokio::time::timeout(Duration::from_secs(1), ping).await, Ok(Ok(_)))
}

/// Serves `/healthz` and `/readyz` of a worker: ready while bus and database answer.
pub async fn serve_health(
    listen: SocketAddr,
    stop: CancellationToken,
    bus: Bus,
    pool: PgPool,
) -> anyhow::Result<()> {
    health::serve(listen, stop, move || {
        let (bus, pool) = (bus.clone(), pool.clone());
        async move { bus.is_connected() && is_ready(&pool).await }
    })
    .await
}

/// What is told when a statement failed. The failure itself goes to the log, here and only here.
#[expect(clippy::needless_pass_by_value, reason = "used as `.map_err(failed)`")]
#[must_use]
pub fn failed(error: sqlx::Error) -> Refusal {
    use sqlx::Error;
    let refusal = match &error {
        Error::Io(_)
        | Error::PoolTimedOut
        | Error::PoolClosed
        | Error::Tls(_)
        | Error::WorkerCrashed
        | Error::Protocol(_) => Refusal::unavailable(),
        // 08 connection, 25P03 idled too long, 40 rolled back, 53 out of resources, 55P03 lock
        // not had in time, 57 shutting down or cancelled.
        Error::Database(e)
            if e.code().is_some_and(|code| {
                ["08", "25P03", "40", "53", "55P03", "57"]
                    .iter()
                    .any(|class| code.starts_with(class))
            }) =>
        {
            Refusal::unavailable()
        }
        // 22021: a NUL, which JSON has and Postgres' text has not.
        Error::Database(e) if e.code().is_some_and(|code| code == "22021") => {
            Refusal::new(Code::BadRequest, "No text may hold a NUL character.")
        }
        _ => Refusal::new(Code::Internal, "Something went wrong on our side."),
    };
    error!(%error, code = %refusal.code, "database");
    refusal
}
