//! The world that a flow plays in.

use std::{
    env,
    future::Future,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use local::{
    postgres::Postgres,
    stack::{Arrange, DatabaseSource, NatsSource, Stack, StackConfig},
};
use reqwest::{Method, StatusCode, header::HeaderMap};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use session_worker::operator::{self, NewUser};
use shared::{database, role::Role, subject::Permissions};
use sqlx::PgPool;
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::scratch;

/// Nothing that a flow waits for takes this long, unless something is broken.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often session-worker signs the audit record.
const HEAD_SECONDS: &str = "--audit-head-seconds";

/// The Postgres of this process. Its last database goes with the process.
static POSTGRES: OnceCell<(Postgres, TempDir)> = OnceCell::const_new();
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// What differs from three edges with nothing special.
#[derive(Default)]
pub struct Options {
    /// More flags, by the name of the service.
    pub flags: Vec<(&'static str, Vec<String>)>,
    /// Where traces go.
    pub otlp_endpoint: Option<String>,
    /// A Postgres of its own, which the flow may kill.
    pub own_postgres: bool,
    /// Who may use the bus besides the services, by name.
    pub bus_users: Vec<(String, Permissions)>,
    /// How many edges, if not three.
    pub edges: Option<u16>,
    /// How many replicas of each worker, if not one.
    pub workers: Option<u16>,
    /// Changes to how the processes are started.
    pub arrange: Option<Arrange>,
}

/// A running Breakglass.
pub struct World {
    /// Its processes.
    pub stack: Stack,
    /// Its database.
    pub pool: PgPool,
    http: reqwest::Client,
    prefix: String,
    _data: TempDir,
}

impl World {
    /// Three edges and the workers.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(Options::default()).await
    }

    /// The same, with something different.
    pub async fn start_with(options: Options) -> anyhow::Result<Self> {
        let data = scratch::dir("world-")?;
        let mut config = StackConfig::new(data.path().join("data"), programs()?);
        let prefix = format!("t{}", database_number());
        config.prefix.clone_from(&prefix);
        config.nats = NatsSource::Private { program: env_path("NATS_SERVER") };
        if !options.own_postgres {
            config.database = DatabaseSource::Url(new_database().await?);
        }
        config.otlp_endpoint = options.otlp_endpoint;
        config.more_bus_users = options.bus_users;
        config.edges = options.edges.unwrap_or(config.edges);
        config.workers = options.workers.unwrap_or(config.workers);
        config.arrange = options.arrange;
        config.extra_flags =
            options.flags.into_iter().map(|(service, flags)| (service.to_owned(), flags)).collect();
        // Entries that come by themselves would disturb who counts entries.
        let worker = config.extra_flags.entry("session-worker".to_owned()).or_default();
        if !worker.iter().any(|flag| flag == HEAD_SECONDS) {
            worker.extend([HEAD_SECONDS.to_owned(), "3600".to_owned()]);
        }
        let stack = Stack::start(config).await?;
        let url = stack.database_url().context("the stack has a database")?;
        // The services' own patience is short; a flow's is not.
        let pool = database::connect(url, 4)?;
        let options = pool.options().clone().acquire_timeout(PATIENCE);
        let pool = options.connect_lazy_with((*pool.connect_options()).clone());
        // Each request on a connection of its own: a test that kills a gateway should see that
        // gateway's state, not a pooled connection's.
        let http =
            reqwest::Client::builder().pool_max_idle_per_host(0).timeout(PATIENCE).build()?;
        Ok(Self { stack, pool, http, prefix, _data: data })
    }

    /// The address of an edge, counted from 1.
    #[must_use]
    pub fn edge(&self, number: usize) -> String {
        self.stack.gateway_url(number)
    }

    /// The first part of every subject.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The same client at every edge.
    #[must_use]
    pub fn at_all_edges(&self, client: &Client) -> Vec<Client> {
        self.stack.gateway_urls().iter().map(|url| client.at(url)).collect()
    }

    /// Somebody without a token, who talks to the first edge.
    #[must_use]
    pub fn anonymous(&self) -> Client {
        Client { http: self.http.clone(), base: self.edge(1), token: None }
    }

    /// The user of a role in the tenant `acme`, signed in.
    pub async fn sign_in(&self, role: Role) -> anyhow::Result<Client> {
        let user = self.stack.credentials().and_then(|c| c.of(role)).context("a seeded user")?;
        self.anonymous().sign_in("acme", &user.email, user.password.expose_secret()).await
    }

    /// Another tenant, with one user of each role whose password is the name of the role, twice.
    pub async fn create_tenant(&self, slug: &str) -> anyhow::Result<()> {
        let user = |role: Role| NewUser {
            email: format!("{role}@{slug}.test"),
            name: format!("{role} of {slug}"),
            role,
            password: Some(SecretString::from(format!("{role}{role}"))),
        };
        let users: Vec<_> = shared::role::ROLES.into_iter().map(user).collect();
        operator::create_tenant(&self.pool, slug, slug, &users).await?;
        Ok(())
    }

    /// The user of a role in a tenant of [`World::create_tenant`], signed in.
    pub async fn sign_in_to(&self, slug: &str, role: Role) -> anyhow::Result<Client> {
        self.anonymous()
            .sign_in(slug, &format!("{role}@{slug}.test"), &format!("{role}{role}"))
            .await
    }

    /// Stops all of it, and fails if something did not stop.
    pub async fn end(self) {
        self.pool.close().await;
        self.stack.shutdown().await;
    }
}

/// Somebody who talks to one edge, with or without a token.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    /// The session token.
    pub token: Option<String>,
}

/// What an edge answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as JSON; null if it is none.
    pub body: Value,
}

impl Answer {
    /// The machine-readable reason of a problem document.
    #[must_use]
    pub fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or("")
    }

    /// A header; empty if it is missing.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    /// Fails unless the status is as expected; shows the body then.
    #[track_caller]
    #[expect(
        clippy::must_use_candidate,
        clippy::return_self_not_must_use,
        reason = "it asserts; what it returns is for further assertions"
    )]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.body);
        self
    }
}

impl Client {
    /// The same one, talking to another edge.
    #[must_use]
    pub fn at(&self, base: &str) -> Self {
        Self { base: base.to_owned(), ..self.clone() }
    }

    /// The same one, over connections that are kept.
    pub fn kept_alive(&self) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().timeout(PATIENCE).build()?;
        Ok(Self { http, ..self.clone() })
    }

    /// Signs in, on the edge that is talked to.
    pub async fn sign_in(&self, tenant: &str, email: &str, password: &str) -> anyhow::Result<Self> {
        let body =
            json!({"tenant": tenant, "email": email, "password": password, "transport": "token"});
        let answer = self.post("/v1/login", body).await?;
        let token = answer.body["token"].as_str();
        let token = token.ok_or_else(|| anyhow!("{email} cannot sign in: {}", answer.body))?;
        Ok(Self { token: Some(token.to_owned()), ..self.clone() })
    }

    /// Sends a request.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> anyhow::Result<Answer> {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        answer(request).await
    }

    /// A request to be finished by the caller, with the token.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// GET.
    pub async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.send(Method::GET, path, None).await
    }

    /// POST.
    pub async fn post(&self, path: &str, body: Value) -> anyhow::Result<Answer> {
        self.send(Method::POST, path, Some(body)).await
    }

    /// DELETE.
    pub async fn delete(&self, path: &str) -> anyhow::Result<Answer> {
        self.send(Method::DELETE, path, None).await
    }

    /// Asks for emergency access with a good reason; returns the grant and its receipt.
    pub async fn request_grant(&self, reason: &str, seconds: u32) -> anyhow::Result<Value> {
        let body = json!({"reason": reason, "duration_seconds": seconds});
        let answer = self.post("/v1/emergency/grants", body).await?;
        anyhow::ensure!(answer.status == StatusCode::CREATED, "{}", answer.body);
        Ok(answer.body)
    }

    /// What the edge says to a reverse proxy: the status and the effective role.
    pub async fn authorize(&self) -> anyhow::Result<(u16, String)> {
        let answer = self.get("/authorize").await?;
        Ok((answer.status.as_u16(), answer.header("x-auth-role").to_owned()))
    }
}

/// Sends a prepared request.
pub(crate) async fn answer(request: reqwest::RequestBuilder) -> anyhow::Result<Answer> {
    let response = request.send().await?;
    let (status, headers) = (response.status(), response.headers().clone());
    if headers.get("content-type").is_some_and(|kind| kind == "text/event-stream") {
        // It has no end.
        return Ok(Answer { status, headers, body: Value::Null });
    }
    let body = serde_json::from_slice(&response.bytes().await?).unwrap_or(Value::Null);
    Ok(Answer { status, headers, body })
}

impl Answer {
    /// Sends a prepared request.
    pub async fn to(request: reqwest::RequestBuilder) -> anyhow::Result<Self> {
        answer(request).await
    }
}

/// Asks again and again until the answer is yes; fails after a while, with what was waited for.
pub async fn eventually<F, Fut>(what: &str, check: F) -> anyhow::Result<()>
where
    F: Fn() -> Fut,
    Fut: Future<Output = bool>,
{
    let asked = async {
        while !check().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asked)
        .await
        .map_err(|_| anyhow!("it never came true that {what}"))
}

/// An empty database, owned by the role that services use.
async fn new_database() -> anyhow::Result<SecretString> {
    let (postgres, _) = POSTGRES
        .get_or_try_init(|| async {
            let dir = scratch::dir("postgres-")?;
            let postgres = Postgres::start(dir.path()).await?;
            anyhow::Ok((postgres, dir))
        })
        .await?;
    let name = format!("t{}", database_number());
    let superuser = database::connect(&postgres.cluster().superuser_url(), 1)?;
    let create = format!("CREATE DATABASE {name} OWNER breakglass");
    sqlx::query(sqlx::AssertSqlSafe(create)).execute(&superuser).await?;
    superuser.close().await;
    Ok(postgres.cluster().url(&name))
}

fn database_number() -> u32 {
    DATABASES.fetch_add(1, Ordering::Relaxed)
}

/// The services' programs lie where this program was built; a test's own lies in `deps` there.
pub(crate) fn programs() -> anyhow::Result<PathBuf> {
    let own = env::current_exe()?;
    let dir = own.parent().context("a program lies in a folder")?;
    let deps = dir.file_name().is_some_and(|name| name == "deps");
    Ok(dir.parent().filter(|_| deps).unwrap_or(dir).to_owned())
}

/// A program of Breakglass, as it was built with this one.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    Ok(programs()?.join(name))
}

#[expect(clippy::disallowed_methods, reason = "tests/run passes the choice of the server on")]
fn env_path(name: &str) -> Option<PathBuf> {
    env::var(name).ok().map(PathBuf::from)
}
