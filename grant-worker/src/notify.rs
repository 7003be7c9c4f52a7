//! Telling others what happened: events go from the outbox to a durable stream, from there to
//! deliveries, and these to webhooks, Slack and mailboxes.
//!
//! No action waits for any of it. It has database connections of its own, so that it takes none from
//! grants, and whatever is away, events wait where they are.

mod attempt;
mod backoff;
mod config;
mod content;
mod deliver;
mod endpoints;
mod fan_out;
mod http;
mod mail;
mod relay;
mod sign;
mod slack;
mod store;
mod target;
mod text;
mod wording;

use std::sync::Arc;

use secrecy::SecretString;
use shared::{
    bus::{Bus, Server},
    clock::Clock,
    database,
    message::notification as asked,
    runtime::config::ConfigError,
    sealing::Keys,
};
use sqlx::PgPool;
use tokio::{sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

pub use self::config::NotifyConfig;
use self::{http::Poster, mail::Mailer, target::Allowed};

/// Database connections for all of it.
const CONNECTIONS: u32 = 6;
/// Tests of endpoints at once.
const TESTS: usize = 16;
/// Secrets that are sealed anew at once.
const SEALED_AT_ONCE: i64 = 100;

/// What all parts need. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Notify {
    bus: Bus,
    pool: PgPool,
    clock: Arc<dyn Clock>,
    keys: Keys,
    allowed: Arc<Allowed>,
    poster: Poster,
    mailer: Option<Mailer>,
    public_url: Option<Arc<str>>,
    /// There is something to deliver, or room for it.
    wake: Arc<tokio::sync::Notify>,
    tests: Arc<Semaphore>,
}

impl Notify {
    pub(crate) fn new(
        config: &NotifyConfig,
        database_url: &SecretString,
        bus: Bus,
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<Self> {
        let allowed = Arc::new(Allowed(config.allow_private_targets.clone()));
        let mailer = match (&config.smtp_url, &config.mail_from) {
            (Some(url), Some(from)) => Some(Mailer::new(url, from)?),
            _ => None,
        };
        let public_url = config.public_url.as_deref().map(|url| url.trim_end_matches('/').into());
        Ok(Self {
            bus,
            pool: database::connect(database_url, CONNECTIONS)?,
            clock,
            keys: Keys::read(&config.webhook_keys)?,
            poster: Poster::new(allowed.clone())?,
            allowed,
            mailer,
            public_url,
            wake: Arc::default(),
            tests: Arc::new(Semaphore::new(TESTS)),
        })
    }

    /// Everything that runs until `stop`.
    pub(crate) fn spawn(&self, tasks: &mut JoinSet<anyhow::Result<()>>, stop: &CancellationToken) {
        tasks.spawn(relay::run(self.clone(), stop.clone()));
        tasks.spawn(fan_out::run(self.clone(), stop.clone()));
        tasks.spawn(deliver::run(self.clone(), stop.clone()));
        tasks.spawn(deliver::prune(self.clone(), stop.clone()));
        tasks.spawn(seal_anew(self.clone(), stop.clone()));
    }

    /// Answers what admins ask.
    pub(crate) async fn serve(&self, server: &Server) -> Result<(), ConfigError> {
        server.handle::<asked::ListEndpoints, _, _, _>(self, endpoints::list).await?;
        server.handle::<asked::GetEndpoint, _, _, _>(self, endpoints::get).await?;
        server.handle::<asked::CreateEndpoint, _, _, _>(self, endpoints::create).await?;
        server.handle::<asked::ChangeEndpoint, _, _, _>(self, endpoints::change).await?;
        server.handle::<asked::DeleteEndpoint, _, _, _>(self, endpoints::delete).await?;
        server.handle::<asked::RotateSecret, _, _, _>(self, endpoints::rotate_secret).await?;
        server.handle::<asked::TestEndpoint, _, _, _>(self, endpoints::test).await?;
        server.handle::<asked::ListDeliveries, _, _, _>(self, endpoints::deliveries).await?;
        server.handle::<asked::RetryDelivery, _, _, _>(self, endpoints::retry).await?;
        Ok(())
    }
}

/// Seals with the first key what others have sealed, once at the start, so that after a rotation old
/// keys can go.
async fn seal_anew(notify: Notify, stop: CancellationToken) -> anyhow::Result<()> {
    let sealing = async {
        let (mut after, mut sealed, mut unopened) = (uuid::Uuid::nil(), 0_u64, 0_u64);
        loop {
            let current = notify.keys.current();
            let old = store::sealed_otherwise(&notify.pool, current, SEALED_AT_ONCE, after).await?;
            let Some(last) = old.last() else { break };
            after = last.id.0;
            for old in &old {
                match notify.keys.open_any(old.id, &old.key_id, &old.secret) {
                    Ok(secret) => {
                        let anew = notify.keys.seal(old.id, &secret);
                        store::seal_anew(&notify.pool, old, &anew).await?;
                        sealed += 1;
                    }
                    Err(error) => {
                        error!(endpoint.id = %old.id, %error, "a webhook's secret cannot be opened");
                        unopened += 1;
                    }
                }
            }
        }
        if sealed + unopened > 0 {
            info!(sealed, unopened, "secrets of webhooks are sealed with the first key");
        }
        Ok::<_, sqlx::Error>(())
    };
    if let Some(Err(error)) = stop.run_until_cancelled(sealing).await {
        tracing::warn!(%error, "secrets of webhooks not sealed anew: at the next start");
    }
    // A task that ends, ends the service.
    stop.cancelled().await;
    Ok(())
}
