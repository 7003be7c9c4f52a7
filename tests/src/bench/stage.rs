//! The servers that are measured: one NATS, one Postgres, one session-worker, all real and private.

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use local::{
    nats::Nats,
    postgres::Postgres,
    process::{Launch, Orphaned, Process, Signal},
};
use secrecy::ExposeSecret as _;
use shared::{
    bus::{Bus, BusConfig},
    database,
    id::SessionId,
    subject::{Identity, Permissions, Subject},
    token::TokenHash,
};
use sqlx::PgPool;
use tempfile::TempDir;
use tests::scratch;
use uuid::Uuid;

use super::usage;

const PREFIX: &str = "bench";
const USER: &str = "edges";
/// Users are spread over so many tenants: each has an audit record, which is written in order.
const TENANTS: u64 = 16;
/// Sessions to be revoked have ids from here on, those that ask for it below.
const VICTIMS: u64 = 1 << 40;
/// Users made in one statement, which takes well below the time-out.
const AT_ONCE: usize = 5_000;

/// The servers, and what was put into the database.
pub(super) struct Stage {
    pub(super) pool: PgPool,
    worker: Process,
    nats: Nats,
    postgres: Postgres,
    dir: TempDir,
    users: AtomicU64,
}

/// A session to be revoked by its user, with another session.
#[derive(Debug, Clone, Copy)]
pub(super) struct Victim {
    pub(super) caller: TokenHash,
    pub(super) session: SessionId,
}

/// Processor time by kind of process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    pub(super) worker: Duration,
    pub(super) nats: Duration,
    pub(super) postgres: Duration,
    pub(super) edges: Duration,
}

impl Stage {
    pub(super) async fn set() -> anyhow::Result<Self> {
        let program = worker()?;
        let dir = scratch::dir("bench-")?;
        let worker_name = Identity::SessionWorker.name().to_owned();
        let users = [
            (worker_name.clone(), Identity::SessionWorker.permissions(PREFIX)),
            (USER.to_owned(), everything_of_edges()),
        ];
        let nats = Nats::start(dir.path(), None, &users).await?;
        let postgres = Postgres::start(dir.path()).await?;
        let url = postgres.cluster().url("breakglass");
        let pool = database::connect(&url, 4)?;
        database::migrate(&pool).await?;
        let key = key_file(dir.path(), &worker_name);
        let worker = Process::start(&Launch {
            program,
            args: vec![
                "--nats-url".into(),
                nats.url().into(),
                "--nats-nkey-file".into(),
                key.into(),
                "--subject-prefix".into(),
                PREFIX.into(),
                "--exit-with-parent".into(),
            ]
            .into_iter()
            .chain(local::keys::worker_keys(dir.path())?.flags())
            .collect(),
            env: vec![("BREAKGLASS_DATABASE_URL", url.expose_secret().into())],
            log: dir.path().join("session-worker.log"),
            dir: "/".into(),
            user: None,
            leash: true,
            orphaned: Orphaned::Kill,
            stop: Signal::TERM,
            grace: Duration::from_secs(15),
        })?;
        let tenants = "INSERT INTO tenants (id, slug, name)
                       SELECT lpad(to_hex(n), 32, '0')::uuid, 'bench-' || n, 'Bench ' || n
                       FROM generate_series(0, $1) n";
        sqlx::query(tenants).bind(signed(TENANTS) - 1).execute(&pool).await?;
        let policies = "INSERT INTO mfa_policies (tenant_id) SELECT id FROM tenants";
        sqlx::query(policies).execute(&pool).await?;
        Ok(Self { pool, worker, nats, postgres, dir, users: AtomicU64::new(1) })
    }

    pub(super) async fn strike(self) {
        self.pool.close().await;
        self.worker.terminate().await;
        self.nats.process().terminate().await;
        self.postgres.process().terminate().await;
    }

    /// A connection to the bus of its own.
    pub(super) async fn bus(&self) -> anyhow::Result<Bus> {
        let config = BusConfig {
            nats_url: self.nats.url().to_owned(),
            nats_nkey_file: Some(key_file(self.dir.path(), USER)),
            subject_prefix: PREFIX.to_owned(),
        };
        let bus = Bus::connect(&config, Identity::Gateway(USER.parse()?)).await?;
        tests::eventually("the bus is there", || async { bus.is_connected() }).await?;
        Ok(bus)
    }

    /// The same without any of our code.
    pub(super) async fn raw_bus(&self) -> anyhow::Result<async_nats::Client> {
        let seed = fs::read_to_string(key_file(self.dir.path(), USER))?;
        let options = async_nats::ConnectOptions::with_nkey(seed.trim().to_owned());
        let options = options.custom_inbox_prefix(format!("_INBOX.{USER}"));
        Ok(options.connect(self.nats.url()).await?)
    }

    /// Makes users with two sessions each: one that asks, and one that it revokes.
    pub(super) async fn victims(&self, count: usize) -> anyhow::Result<Vec<Victim>> {
        let first = self.users.fetch_add(count as u64, Ordering::Relaxed);
        let all: Vec<_> = (first..).take(count).collect();
        for some in all.chunks(AT_ONCE) {
            self.make_users(some).await?;
        }
        sqlx::raw_sql("ANALYZE users, sessions").execute(&self.pool).await?;
        let victim = |n: u64| Victim {
            caller: token_hash(n),
            session: SessionId(Uuid::from_u128(u128::from(n + VICTIMS))),
        };
        Ok(all.into_iter().map(victim).collect())
    }

    async fn make_users(&self, numbers: &[u64]) -> anyhow::Result<()> {
        let numbers: Vec<_> = numbers.iter().copied().map(signed).collect();
        let users = "INSERT INTO users (id, tenant_id, email, name, role)
                     SELECT lpad(to_hex(n), 32, '0')::uuid, lpad(to_hex(n % $2), 32, '0')::uuid,
                            n || '@bench.test', 'User ' || n, 'member'
                     FROM unnest($1::bigint[]) n";
        let sessions = "INSERT INTO sessions (id, tenant_id, user_id, token_hash, methods,
                            idle_seconds, expires_at)
                        SELECT lpad(to_hex(id), 32, '0')::uuid, lpad(to_hex(n % $2), 32, '0')::uuid,
                               lpad(to_hex(n), 32, '0')::uuid, decode(lpad(to_hex(id), 64, '0'), 'hex'),
                               '{password}', 3600, clock_timestamp() + interval '12 hours'
                        FROM unnest($1::bigint[]) n, LATERAL (VALUES (n), (n + $3)) ids (id)";
        let users = sqlx::query(users).bind(&numbers).bind(signed(TENANTS));
        users.execute(&self.pool).await?;
        let sessions = sqlx::query(sessions).bind(&numbers).bind(signed(TENANTS));
        sessions.bind(signed(VICTIMS)).execute(&self.pool).await?;
        Ok(())
    }

    /// How many lives of edges may be deciding, as the database has it.
    pub(super) async fn live_edges(&self) -> anyhow::Result<usize> {
        let count = "SELECT count(*) FROM edges WHERE NOT fenced AND NOT has_left";
        let live: i64 = sqlx::query_scalar(count).fetch_one(&self.pool).await?;
        Ok(usize::try_from(live)?)
    }

    pub(super) fn usage(&self) -> Usage {
        Usage {
            worker: usage::of(self.worker.pid()),
            nats: usage::of(self.nats.process().pid()),
            postgres: usage::of_family(self.postgres.process().pid()),
            edges: usage::of(std::process::id()),
        }
    }
}

impl Usage {
    /// What was used since `before`.
    pub(super) fn since(self, before: Self) -> Self {
        Self {
            worker: self.worker.saturating_sub(before.worker),
            nats: self.nats.saturating_sub(before.nats),
            postgres: self.postgres.saturating_sub(before.postgres),
            edges: self.edges.saturating_sub(before.edges),
        }
    }
}

/// What is measured lies where this program was built.
fn worker() -> anyhow::Result<PathBuf> {
    let worker = env::current_exe()?.with_file_name(Identity::SessionWorker.name());
    anyhow::ensure!(
        worker.exists(),
        "{} is missing: run `cargo build --release` first",
        worker.display()
    );
    Ok(worker)
}

/// One key for all edges and askers: the server's permissions are not what is measured.
fn everything_of_edges() -> Permissions {
    Permissions {
        publish: vec![format!("{PREFIX}.>"), format!("_INBOX.{USER}.>")],
        subscribe: vec![
            Subject::RevocationBroadcast.subscribe(PREFIX),
            format!("{PREFIX}.echo"),
            format!("_INBOX.{USER}.>"),
        ],
        allow_responses: true,
    }
}

fn key_file(dir: &Path, user: &str) -> PathBuf {
    dir.join("keys").join(format!("{user}.nk"))
}

fn token_hash(n: u64) -> TokenHash {
    let mut hash = [0; 32];
    hash[24..].copy_from_slice(&n.to_be_bytes());
    TokenHash(hash)
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
