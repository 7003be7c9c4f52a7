//! A connection to the bus with somebody's key, which says anything to anybody.

use std::time::Duration;

use anyhow::Context as _;
use async_nats::{Client, ConnectOptions, Event, Message, ServerError};
use shared::lease::Revision;
use tests::World;
use tokio::{sync::mpsc, time::timeout};
use uuid::Uuid;

/// The server answers at once; a flow on a busy machine may not.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection with a key, and the server's complaints about it.
pub(super) struct Key {
    pub(super) client: Client,
    name: String,
    prefix: String,
    complaints: mpsc::UnboundedReceiver<String>,
    sentinels: u32,
}

impl Key {
    /// Connects with the key of a service, or of one of the world's `bus_users`.
    pub(super) async fn of(world: &World, name: &str) -> anyhow::Result<Self> {
        let seed = std::fs::read_to_string(world.stack.nkey_path(name))?;
        let (sender, complaints) = mpsc::unbounded_channel();
        let options = ConnectOptions::with_nkey(seed.trim().to_owned())
            .custom_inbox_prefix(format!("_INBOX.{name}"))
            .subscription_capacity(65_536)
            .event_callback(move |event| {
                let sender = sender.clone();
                async move {
                    if let Event::ServerError(ServerError::Other(text)) = event {
                        let _ = sender.send(text);
                    }
                }
            });
        let client = options.connect(world.stack.nats_url()).await?;
        let (name, prefix) = (name.to_owned(), world.prefix().to_owned());
        Ok(Self { client, name, prefix, complaints, sentinels: 0 })
    }

    /// The whole subject of a path such as `session.resolve`.
    pub(super) fn subject(&self, path: &str) -> String {
        format!("{}.v1.{path}", self.prefix)
    }

    /// Publishes, and comes back when the server has it.
    pub(super) async fn publish(&self, path: &str, body: impl Into<Vec<u8>>) -> anyhow::Result<()> {
        self.client.publish(self.subject(path), body.into().into()).await?;
        timeout(PATIENCE, self.client.flush()).await??;
        Ok(())
    }

    /// Asks; nothing, if there is no answer for a while.
    pub(super) async fn ask(&self, path: &str, body: Vec<u8>) -> Option<Message> {
        let request = async_nats::Request::new().payload(body.into()).timeout(Some(PATIENCE));
        self.client.send_request(self.subject(path), request).await.ok()
    }

    /// Whether the server lets this key publish to a whole subject.
    pub(super) async fn may_publish(&mut self, subject: &str) -> anyhow::Result<bool> {
        self.client.publish(subject.to_owned(), "?".into()).await?;
        self.let_pass("Publish", subject).await
    }

    /// Whether the server lets this key subscribe to a whole subject.
    pub(super) async fn may_subscribe(&mut self, subject: &str) -> anyhow::Result<bool> {
        let mut subscription = self.client.subscribe(subject.to_owned()).await?;
        let passed = self.let_pass("Subscription", subject).await?;
        subscription.unsubscribe().await?;
        Ok(passed)
    }

    /// The same, as a member of a service's queue group.
    pub(super) async fn may_join_queue(
        &mut self,
        subject: &str,
        queue: &str,
    ) -> anyhow::Result<bool> {
        let mut subscription =
            self.client.queue_subscribe(subject.to_owned(), queue.to_owned()).await?;
        let passed = self.let_pass("Subscription", subject).await?;
        subscription.unsubscribe().await?;
        Ok(passed)
    }

    /// The server complains in order: once it has complained about something that nobody may do,
    /// it has complained about all before it.
    async fn let_pass(&mut self, verb: &str, subject: &str) -> anyhow::Result<bool> {
        self.sentinels += 1;
        let sentinel = format!("nobody.may.{}", self.sentinels);
        self.client.publish(sentinel.clone(), "?".into()).await?;
        self.client.flush().await?;
        let mut passed = true;
        loop {
            let complaint =
                timeout(PATIENCE, self.complaints.recv()).await?.context("events end")?;
            let about = |verb: &str, subject: &str| {
                complaint.to_lowercase().contains("permissions violation")
                    && complaint.to_lowercase().contains(&verb.to_lowercase())
                    && complaint.contains(&format!("\"{subject}\""))
            };
            if about("Publish", &sentinel) {
                return Ok(passed);
            }
            anyhow::ensure!(
                about(verb, subject),
                "{}: unexpected complaint {complaint}",
                self.name
            );
            passed = false;
        }
    }
}

/// The head, as the database has it.
pub(super) async fn head(world: &World) -> anyhow::Result<Revision> {
    let (timeline, number): (i64, i64) =
        sqlx::query_as("SELECT current_timeline(), revision FROM revocation_head")
            .fetch_one(&world.pool)
            .await?;
    Ok(Revision { timeline: timeline.try_into()?, number: number.try_into()? })
}

/// The living incarnation of an edge.
pub(super) async fn incarnation(world: &World, edge: &str) -> anyhow::Result<Uuid> {
    let living = "SELECT incarnation FROM edges WHERE edge_id = $1 AND NOT fenced AND NOT has_left";
    Ok(sqlx::query_scalar(living).bind(edge).fetch_one(&world.pool).await?)
}
