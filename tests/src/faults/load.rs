//! Who uses the system while it is being broken: decisions at every edge all the time, and
//! revocations at random.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use parking_lot::Mutex;
use reqwest::Method;
use serde_json::{Value, json};
use shared::{
    clock::{Clock as _, SystemClock},
    id::{SessionId, TenantId, UserId},
    message::revocation::Receipt,
    role::Role,
    token::Token,
};
use sqlx::PgPool;
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::ledger::{Granted, Ledger, Right, Span, now};
use crate::World;

/// How many users there are who are not revoked yet, and how many sessions each has.
const USERS: usize = 12;
const SESSIONS: usize = 3;
const TENANTS: usize = 3;
/// Questions that each edge is asked at the same time, and the pause after each.
const ASKING: usize = 4;
const PAUSE: Duration = Duration::from_millis(8);
/// Revocations under way at the same time, and the longest pause between two of one task.
const REVOKING: usize = 8;
const LONGEST_PAUSE: Duration = Duration::from_millis(1_200);
/// Those who ask all the time wait this long for an answer.
const SHORT: Duration = Duration::from_secs(3);
/// Those who ask because of a receipt wait until an edge that stood still goes on.
const LONG: Duration = Duration::from_secs(25);
/// Somewhat over how long a gateway waits for a receipt.
const RECEIPT: Duration = Duration::from_secs(15);
/// A grant that does not end by itself during a run, whatever the clocks do.
const LONG_GRANT: Duration = Duration::from_hours(2);

/// Everybody who uses the system.
pub struct Load {
    /// What they have seen.
    pub ledger: Ledger,
    edges: Vec<String>,
    http: reqwest::Client,
    pool: PgPool,
    tenants: Vec<Tenant>,
    users: Mutex<Vec<Arc<User>>>,
    late_questions: Arc<Semaphore>,
}

#[derive(Debug)]
struct Tenant {
    id: TenantId,
    /// Never revoked.
    admin: Right,
}

#[derive(Debug)]
struct User {
    tenant: usize,
    id: UserId,
    sessions: Mutex<Vec<Arc<Right>>>,
}

/// What came of a request that is answered with a receipt.
enum Answered {
    /// Done, with a receipt.
    Receipt(Receipt, Value),
    /// Done, or perhaps: there is no receipt to hold anything against.
    Perhaps,
}

impl Load {
    /// Prepares tenants and users in the world's database.
    pub async fn prepare(world: &World) -> anyhow::Result<Self> {
        let pool = world.pool.clone();
        let mut tenants = Vec::new();
        for number in 0..TENANTS {
            let id = TenantId::new(SystemClock.wall());
            let slug = format!("faults-{number}");
            sqlx::query("INSERT INTO tenants (id, slug, name) VALUES ($1, $2, $2)")
                .bind(id.0)
                .bind(&slug)
                .execute(&pool)
                .await?;
            sqlx::query("INSERT INTO emergency_policies (tenant_id) VALUES ($1)")
                .bind(id.0)
                .execute(&pool)
                .await?;
            sqlx::query("INSERT INTO mfa_policies (tenant_id) VALUES ($1)")
                .bind(id.0)
                .execute(&pool)
                .await?;
            let (_, mut sessions) = add_user(&pool, id, Role::Admin, 1).await?;
            tenants.push(Tenant { id, admin: sessions.remove(0) });
        }
        let load = Self {
            ledger: Ledger::default(),
            edges: world.stack.gateway_urls(),
            http: reqwest::Client::builder().build()?,
            pool,
            tenants,
            users: Mutex::default(),
            late_questions: Arc::new(Semaphore::new(2_000)),
        };
        for number in 0..USERS {
            load.stock(number % TENANTS).await?;
        }
        Ok(load)
    }

    /// Begins to ask and to revoke, at random by `seed`. Ends when what it returns is dropped.
    #[must_use]
    pub fn run(self: &Arc<Self>, seed: u64) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        let mut rng = fastrand::Rng::with_seed(seed);
        for edge in 0..self.edges.len() {
            for _ in 0..ASKING {
                let (load, rng) = (self.clone(), rng.fork());
                tasks.spawn(async move { load.keep_asking(edge, rng).await });
            }
        }
        for _ in 0..REVOKING {
            let (load, rng) = (self.clone(), rng.fork());
            tasks.spawn(async move { load.keep_revoking(rng).await });
        }
        tasks
    }

    async fn stock(&self, tenant: usize) -> anyhow::Result<()> {
        let (id, sessions) =
            add_user(&self.pool, self.tenants[tenant].id, Role::Member, SESSIONS).await?;
        let sessions: Vec<_> = sessions.into_iter().map(Arc::new).collect();
        for session in &sessions {
            self.ledger.add(session.clone());
        }
        self.users.lock().push(Arc::new(User { tenant, id, sessions: Mutex::new(sessions) }));
        Ok(())
    }

    async fn keep_asking(&self, edge: usize, mut rng: fastrand::Rng) {
        loop {
            // What is being ended is of more interest.
            let ended = rng.u8(..100) < 60;
            if let Some(right) = self.ledger.any(&mut rng, ended) {
                self.ask(&right, edge, SHORT).await;
            }
            sleep(PAUSE).await;
        }
    }

    /// Asks an edge whether it allows a right, and writes the answer down.
    pub async fn ask(&self, right: &Right, edge: usize, patience: Duration) -> Option<u16> {
        let demand = if right.grant.is_some() { "?role=admin" } else { "" };
        let url = format!("{}/authorize{demand}", self.edges[edge]);
        let request = self.http.get(url).bearer_auth(right.token.expose()).timeout(patience);
        let began = now();
        let status = match request.send().await {
            Ok(response) => {
                let status = response.status().as_u16();
                // Read, so that the connection serves the next question as well.
                let _ = response.bytes().await;
                Some(status)
            }
            Err(_) => None,
        };
        self.ledger.decision(right, edge + 1, Span { began, ended: now() }, status);
        status
    }

    /// Asks every edge at once, now that there is a receipt. An edge that stands still is to be
    /// asked as well: it answers when it goes on.
    fn ask_everywhere(self: &Arc<Self>, rights: &[Arc<Right>]) {
        for right in rights {
            for edge in 0..self.edges.len() {
                let Ok(place) = self.late_questions.clone().try_acquire_owned() else { return };
                let (load, right) = (self.clone(), right.clone());
                tokio::spawn(async move {
                    load.ask(&right, edge, LONG).await;
                    drop(place);
                });
            }
        }
    }

    async fn keep_revoking(self: &Arc<Self>, mut rng: fastrand::Rng) {
        loop {
            sleep(LONGEST_PAUSE.mul_f64(rng.f64())).await;
            let edge = rng.usize(..self.edges.len());
            if rng.u8(..100) < 20 {
                self.grant_and_revoke(&mut rng, edge).await;
            } else {
                self.revoke_sessions(&mut rng, edge).await;
            }
        }
    }

    async fn revoke_sessions(self: &Arc<Self>, rng: &mut fastrand::Rng, edge: usize) {
        let (kind, tenant) = (rng.u8(..5), rng.usize(..TENANTS));
        if self.users.lock().len() < USERS {
            // The database may be away; the next revocation tries again.
            let _ = self.stock(tenant).await;
        }
        let Some(user) = rng.choice(&*self.users.lock()).cloned() else { return };
        let admin = &self.tenants[user.tenant].admin.token;
        let (ending, by) = {
            let mut sessions = user.sessions.lock();
            let Some(first) = sessions.first().cloned() else { return };
            let one = rng.usize(..sessions.len());
            let ending = match kind {
                // By itself or by another one, by an admin, or by signing out.
                0..=2 => vec![sessions.swap_remove(one)],
                3 => sessions.split_off(1),
                _ => std::mem::take(&mut *sessions),
            };
            let by = sessions.first().map_or(first, Arc::clone);
            (ending, by)
        };
        if user.sessions.lock().is_empty() {
            self.users.lock().retain(|other| other.id != user.id);
        }
        let Some(one) = ending.first().cloned() else { return };
        self.ledger.attempt(&ending);
        let own = format!("/v1/sessions/{}", one.session);
        let others = format!("/v1/users/{}/sessions", user.id);
        let (method, path, token) = match kind {
            0 => (Method::DELETE, own, &by.token),
            1 => (Method::DELETE, format!("{others}/{}", one.session), admin),
            2 => (Method::POST, "/v1/logout".to_owned(), &one.token),
            3 => (Method::POST, "/v1/sessions/revoke-others".to_owned(), &by.token),
            _ => (Method::POST, format!("{others}/revoke-all"), admin),
        };
        let answered = self.change(edge, method, &path, token, None).await;
        self.conclude(&ending, answered);
    }

    /// One session of somebody new, ended by an admin.
    pub async fn revoke_one(self: &Arc<Self>, edge: usize) -> anyhow::Result<Option<Receipt>> {
        let tenant = edge % TENANTS;
        let (user, sessions) =
            add_user(&self.pool, self.tenants[tenant].id, Role::Member, 1).await?;
        let rights: Vec<_> = sessions.into_iter().map(Arc::new).collect();
        for right in &rights {
            self.ledger.add(right.clone());
            for edge in 0..self.edges.len() {
                self.ask(right, edge, SHORT).await;
            }
        }
        self.ledger.attempt(&rights);
        let path = format!("/v1/users/{user}/sessions/{}", rights[0].session);
        let admin = &self.tenants[tenant].admin.token;
        let answered = self.change(edge, Method::DELETE, &path, admin, None).await;
        Ok(self.conclude(&rights, answered))
    }

    async fn grant_and_revoke(self: &Arc<Self>, rng: &mut fastrand::Rng, edge: usize) {
        let wait = Duration::from_millis(rng.u64(200..2_000));
        let (by_admin, other_edge) = (rng.bool(), rng.usize(..self.edges.len()));
        let Some((right, tenant)) = self.grant(rng.usize(..TENANTS), edge, LONG_GRANT).await else {
            return;
        };
        sleep(wait).await;
        let ending = [right.clone()];
        self.ledger.attempt(&ending);
        let id = right.grant.as_ref().map_or("", |grant| &grant.id);
        let path = format!("/v1/emergency/grants/{id}/revoke");
        let by = if by_admin { &self.tenants[tenant].admin } else { &*right };
        let body = Some(json!({"comment": "It works again"}));
        let answered = self.change(other_edge, Method::POST, &path, &by.token, body).await;
        self.conclude(&ending, answered);
    }

    /// A grant that ends by time, so that its end is seen (E8).
    pub async fn grant_for(self: &Arc<Self>, edge: usize, lasts: Duration) -> bool {
        self.grant(edge % TENANTS, edge, lasts).await.is_some()
    }

    async fn grant(
        self: &Arc<Self>,
        tenant: usize,
        edge: usize,
        lasts: Duration,
    ) -> Option<(Arc<Right>, usize)> {
        let (_, sessions) =
            add_user(&self.pool, self.tenants[tenant].id, Role::Member, 1).await.ok()?;
        let session = &sessions[0];
        let body = json!({
            "reason": "Checkout is down since the release",
            "duration_seconds": lasts.as_secs(),
        });
        let asked_at = now();
        let path = "/v1/emergency/grants";
        let answered = self.change(edge, Method::POST, path, &session.token, Some(body)).await;
        let Answered::Receipt(receipt, body) = answered else { return None };
        let granted = Granted {
            id: body["grant"]["id"].as_str()?.to_owned(),
            asked_at,
            held_at: receipt.enforced.then(now),
            lasts: (lasts < LONG_GRANT).then_some(lasts),
        };
        let right = Arc::new(session.granted(granted));
        self.ledger.add(right.clone());
        Some((right, tenant))
    }

    /// Asks for something that is answered with a receipt, and writes that down.
    async fn change(
        &self,
        edge: usize,
        method: Method,
        path: &str,
        token: &Token,
        body: Option<Value>,
    ) -> Answered {
        self.ledger.counts.revocations.fetch_add(1, Relaxed);
        let url = format!("{}{path}", self.edges[edge]);
        let mut request = self.http.request(method, url).bearer_auth(token.expose());
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = timeout(RECEIPT, async {
            let response = request.send().await?;
            let status = response.status();
            anyhow::Ok((status, response.bytes().await?))
        });
        let Ok(Ok((status, bytes))) = answer.await else {
            self.ledger.counts.lost.fetch_add(1, Relaxed);
            return Answered::Perhaps;
        };
        // The time of the receipt: here it is in the hands of who revoked.
        let at = now();
        let body: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        let receipt = serde_json::from_value::<Receipt>(body["receipt"].clone());
        match (status.as_u16(), receipt) {
            (200 | 201, Ok(receipt)) => {
                self.ledger.receipt(&receipt, at);
                return Answered::Receipt(receipt, body);
            }
            // Done, but the answer has no body.
            (204, _) => self.ledger.counts.signed_out.fetch_add(1, Relaxed),
            // Another revocation was first; or the bus or the database is away.
            (401 | 404 | 409 | 503, _) => self.ledger.counts.refused.fetch_add(1, Relaxed),
            (status, _) => {
                self.ledger.violation(format!("{path} was answered {status}: {body}"));
                0
            }
        };
        Answered::Perhaps
    }

    fn conclude(self: &Arc<Self>, ended: &[Arc<Right>], answered: Answered) -> Option<Receipt> {
        let Answered::Receipt(receipt, _) = answered else { return None };
        for right in ended {
            self.ledger.revoked(right, receipt.revision);
        }
        if receipt.enforced {
            self.ask_everywhere(ended);
        }
        Some(receipt)
    }

    /// Looks up in the database what ended although nobody was told, so that later receipts, which
    /// speak of earlier revisions too, are held against that as well.
    pub async fn look_up_ends(&self) -> anyhow::Result<()> {
        for right in self.ledger.ended() {
            if right.has_ended() {
                continue;
            }
            let ended = match &right.grant {
                None => {
                    sqlx::query_scalar("SELECT revision FROM revocations WHERE $1 = ANY(sessions)")
                        .bind(right.session.0)
                }
                // Each user of a grant has no other.
                Some(_) => sqlx::query_scalar(
                    "SELECT revision FROM revocations WHERE user_id = $1 AND cause = 'grant-revoked'",
                )
                .bind(right.user.0),
            };
            let revision: Option<i64> = ended.fetch_optional(&self.pool).await?;
            if let Some(revision) = revision {
                self.ledger.revoked(&right, revision.cast_unsigned());
            }
        }
        Ok(())
    }

    /// Every edge is asked about every right that ended, and about some that did not.
    /// Says what is not as it should be.
    pub async fn ask_about_all(&self) -> Result<(), String> {
        for right in self.ledger.ended().iter().filter(|right| right.has_ended()) {
            for edge in 0..self.edges.len() {
                self.ask(right, edge, SHORT).await;
            }
        }
        for right in self.ledger.live().iter().take(6) {
            for edge in 0..self.edges.len() {
                let status = self.ask(right, edge, SHORT).await;
                let by_time = right.grant.as_ref().is_some_and(|grant| grant.lasts.is_some());
                if status != Some(200) && !right.is_attempted() && !by_time {
                    return Err(format!("edge {} says {status:?} about {right}", edge + 1));
                }
            }
        }
        Ok(())
    }

    /// How many edges there are.
    #[must_use]
    pub fn edges(&self) -> usize {
        self.edges.len()
    }
}

/// A new user with sessions, as a sign-in leaves them, without the time that hashing a password
/// takes.
async fn add_user(
    pool: &PgPool,
    tenant: TenantId,
    role: Role,
    sessions: usize,
) -> anyhow::Result<(UserId, Vec<Right>)> {
    let wall = SystemClock.wall();
    let user = UserId::new(wall);
    let mut tx = pool.begin().await?;
    sqlx::query("INSERT INTO users (id, tenant_id, email, name, role) VALUES ($1, $2, $3, $3, $4)")
        .bind(user.0)
        .bind(tenant.0)
        .bind(format!("{user}@faults.test"))
        .bind(role.as_str())
        .execute(&mut *tx)
        .await?;
    let mut rights = Vec::new();
    for _ in 0..sessions {
        let (session, token) = (SessionId::new(wall), Token::generate());
        sqlx::query(
            "INSERT INTO sessions (id, tenant_id, user_id, token_hash, methods, idle_seconds, expires_at)
             VALUES ($1, $2, $3, $4, '{password}', 86400, clock_timestamp() + interval '2 days')",
        )
        .bind(session.0)
        .bind(tenant.0)
        .bind(user.0)
        .bind(&token.hash().0[..])
        .execute(&mut *tx)
        .await?;
        rights.push(Right::new(user, tenant, session, token));
    }
    tx.commit().await?;
    Ok((user, rights))
}
