//! All of Breakglass on one machine, as one value.

mod config;
mod control;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use secrecy::{ExposeSecret, SecretString};
use shared::{database, subject::Identity};
use sqlx::{Connection, PgConnection};
use tokio::time::{sleep, timeout};

use crate::{
    credentials::{self, Credentials, Seeded},
    data::{self, Data, PidFile},
    environment,
    keys::{self, Key, KeyError, WorkerKeys},
    nats::{self, BusUser},
    ports,
    postgres::{self, Cluster},
    process::Launch,
    readiness,
    services::{self, Surroundings, WORKERS},
    supervise::{Prepare, Supervisor, Unit},
};

use config::is_subject_prefix;

pub use crate::supervise::Report;
pub use config::{Arrange, DatabaseSource, NatsSource, StackConfig, StackError};

/// How long a service may take to get ready.
const READY_DEADLINE: Duration = Duration::from_secs(30);

/// A child that dies this often before it is ready is given up.
const DEATHS_BEFORE_READY: u32 = 2;

/// A running stack, or one on its way up. Dropping it kills everything; [`Stack::shutdown`] is kinder.
pub struct Stack {
    supervisor: Supervisor,
    config: StackConfig,
    gateways: Vec<Service>,
    workers: Vec<Service>,
    nats_url: String,
    database_url: Option<SecretString>,
    credentials: Option<Credentials>,
    // After the supervisor: the sockets' directory goes when Postgres has.
    cluster: Option<Arc<Cluster>>,
    data: Data,
}

struct Service {
    name: String,
    identity: Identity,
    key: Key,
    address: SocketAddr,
    log: PathBuf,
    earlier_log: usize,
}

impl Service {
    /// One of the replicas of a service, counted from 1. They share its identity on the bus.
    fn new(data: &Data, identity: Identity, replica: u16, port: u16) -> Result<Self, KeyError> {
        let name = match replica {
            1 => identity.name().to_owned(),
            more => format!("{}-{more}", identity.name()),
        };
        let key = keys::load_or_create(&data.keys(), identity.name())?;
        let log = data.log(&name);
        let earlier_log = data::log_length(&log);
        Ok(Self { name, identity, key, address: services::address(port), log, earlier_log })
    }

    fn name(&self) -> &str {
        &self.name
    }
}

impl Stack {
    /// Starts everything and waits until it is ready.
    pub async fn start(config: StackConfig) -> Result<Self, StackError> {
        let mut stack = Self::prepare(config)?;
        match stack.bring_up().await {
            Ok(_) => Ok(stack),
            Err(error) => {
                stack.shutdown().await;
                Err(error)
            }
        }
    }

    /// Takes the data directory and the ports. Nothing runs yet, and nothing has to be stopped.
    pub fn prepare(config: StackConfig) -> Result<Self, StackError> {
        if !is_subject_prefix(&config.prefix) {
            return Err(StackError::Prefix(config.prefix));
        }
        for program in services::PROGRAMS {
            let path = config.bin_dir.join(program);
            if !environment::is_program(&path) {
                return Err(StackError::NotBuilt(path));
            }
        }
        let ports = match config.first_port {
            Some(first) => ports::consecutive(first, config.edges)?,
            None => (0..config.edges).map(|_| ports::free()).collect::<Result<_, _>>()?,
        };
        let database_user = match config.database {
            DatabaseSource::Private => postgres::unprivileged_user()?,
            DatabaseSource::Url(_) => None,
        };
        let data = Data::open(&config.data, database_user)?;
        if config.fresh {
            data.empty()?;
        }
        let gateway = |(number, port)| Service::new(&data, services::edge(number), 1, port);
        let gateways = (1..).zip(ports).map(gateway).collect::<Result<_, _>>()?;
        let mut workers = Vec::new();
        for replica in 1..=config.workers {
            for identity in WORKERS {
                workers.push(Service::new(&data, identity, replica, ports::free()?)?);
            }
        }
        let supervisor = Supervisor::new(PidFile::new(data.file("pids.json")), config.report);
        Ok(Self {
            supervisor,
            config,
            gateways,
            workers,
            nats_url: String::new(),
            database_url: None,
            credentials: None,
            cluster: None,
            data,
        })
    }

    /// Starts everything in order and waits until it is ready.
    pub async fn bring_up(&mut self) -> Result<Option<Seeded>, StackError> {
        let own_nats = matches!(self.config.nats, NatsSource::Private { .. });
        self.start_nats()?;
        if !own_nats {
            self.await_nats().await?;
        }
        // A private bus starts while the database is made.
        let url = self.start_postgres().await?;
        if own_nats {
            self.await_nats().await?;
        }
        let seeded = self.set_up_database(&url).await?;
        if let Some(Seeded::Created(credentials) | Seeded::Existing(credentials)) = &seeded {
            self.credentials = Some(credentials.clone());
        }
        let keys = keys::worker_keys(&self.data.keys())?;
        self.start_services(&url, &keys);
        self.database_url = Some(url);
        let names: Vec<_> = self.services().map(|service| service.name().to_owned()).collect();
        for name in names {
            self.wait_ready(&name).await?;
        }
        Ok(seeded)
    }

    fn start_nats(&mut self) -> Result<(), StackError> {
        let users = self.bus_users()?;
        match &self.config.nats {
            NatsSource::Url(url) => {
                let path = self.data.file("nats-authorization.conf");
                data::write_private(&path, nats::authorization_text(&users).as_bytes())
                    .map_err(|source| StackError::Write { path, source })?;
                self.nats_url.clone_from(url);
            }
            NatsSource::Private { program } => {
                self.report("starting nats");
                let log = self.data.log("nats");
                let server =
                    nats::Server::configure(self.data.root(), log, program.clone(), &users)?;
                self.nats_url = server.url();
                let launch = server.launch();
                self.keep("nats", launch, None);
            }
        }
        Ok(())
    }

    fn bus_users(&self) -> Result<Vec<BusUser>, StackError> {
        let prefix = &self.config.prefix;
        // Replicas are one user.
        let firsts = self.services().filter(|service| service.name == service.identity.name());
        let mut users: Vec<_> = firsts
            .map(|service| BusUser {
                name: service.name().to_owned(),
                nkey: service.key.public.clone(),
                permissions: service.identity.permissions(prefix),
            })
            .collect();
        for (name, permissions) in &self.config.more_bus_users {
            let nkey = keys::load_or_create(&self.data.keys(), name)?.public;
            users.push(BusUser { name: name.clone(), nkey, permissions: permissions.clone() });
        }
        Ok(users)
    }

    async fn await_nats(&self) -> Result<(), StackError> {
        let key = &self.workers[0].key;
        if let NatsSource::Url(url) = &self.config.nats {
            return Ok(nats::connect(url, key).await?);
        }
        tokio::select! {
            answering = nats::wait_until_answering(&self.nats_url, key) => Ok(answering?),
            () = self.deaths_of("nats") => Err(self.not_ready("nats")),
        }
    }

    async fn start_postgres(&mut self) -> Result<SecretString, StackError> {
        if let DatabaseSource::Url(url) = &self.config.database {
            return Ok(url.clone());
        }
        self.report("starting postgres");
        let cluster = Cluster::prepare(&self.data.postgres(), self.data.log("postgres")).await?;
        let cluster = Arc::new(cluster);
        let stale = cluster.clone();
        let launch = cluster.launch();
        self.keep("postgres", launch, Some(Box::new(move || stale.clear_stale())));
        self.cluster = Some(cluster.clone());
        cluster.wait_until_ready().await?;
        Ok(cluster.url("breakglass"))
    }

    async fn set_up_database(&self, url: &SecretString) -> Result<Option<Seeded>, StackError> {
        self.report("preparing the database");
        // A pool would try for long and not tell why it failed.
        let connection = PgConnection::connect(url.expose_secret()).await;
        let connection = connection.map_err(StackError::Connect)?;
        connection.close().await.map_err(StackError::Connect)?;
        let pool = database::connect(url, 2).map_err(StackError::Connect)?;
        database::migrate(&pool).await.map_err(StackError::Migrate)?;
        let seeded = if self.config.seed {
            Some(credentials::seed(&pool, &self.credentials_path()).await?)
        } else {
            None
        };
        pool.close().await;
        Ok(seeded)
    }

    fn start_services(&mut self, database_url: &SecretString, keys: &WorkerKeys) {
        self.report("starting the workers and the edges");
        let around = Surroundings {
            bin_dir: &self.config.bin_dir,
            nats_url: &self.nats_url,
            prefix: &self.config.prefix,
            otlp_endpoint: self.config.otlp_endpoint.as_deref(),
            log_format: self.config.log_format,
            database_url,
            keys,
            extra_flags: &self.config.extra_flags,
        };
        let mut launches = Vec::new();
        for service in &self.workers {
            let log = service.log.clone();
            let port = service.address.port();
            let launch = services::worker(&around, &service.identity, &service.key, port, log);
            launches.push((service.name.clone(), launch));
        }
        for (number, service) in (1..).zip(&self.gateways) {
            let log = service.log.clone();
            let port = service.address.port();
            let launch = services::gateway(&around, number, &service.key, port, log);
            launches.push((service.name.clone(), launch));
        }
        for (name, launch) in launches {
            self.keep(&name, launch, None);
        }
    }

    fn keep(&mut self, name: &str, mut launch: Launch, prepare: Option<Prepare>) {
        if let Some(arrange) = &self.config.arrange {
            arrange.apply(name, &mut launch);
        }
        self.supervisor.keep(Unit { name: name.to_owned(), launch, prepare });
    }

    /// Waits until a service answers 200 to `/readyz`, or a private server lets one in.
    pub async fn wait_ready(&self, name: &str) -> Result<(), StackError> {
        match (name, &self.cluster) {
            ("nats", _) => return self.await_nats().await,
            ("postgres", Some(cluster)) => return Ok(cluster.wait_until_ready().await?),
            _ => {}
        }
        let Some(service) = self.services().find(|service| service.name() == name) else {
            return Ok(());
        };
        let ready = async {
            tokio::select! {
                () = readiness::until_ready(service.address) => true,
                () = self.deaths_of(name) => false,
            }
        };
        match timeout(READY_DEADLINE, ready).await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(self.not_ready(name)),
        }
    }

    /// Returns when a child keeps dying.
    async fn deaths_of(&self, name: &str) {
        let before = self.supervisor.deaths(name);
        while self.supervisor.deaths(name) < before + DEATHS_BEFORE_READY {
            sleep(Duration::from_millis(25)).await;
        }
    }

    fn not_ready(&self, name: &str) -> StackError {
        let log = self.data.log(name);
        let service = self.services().find(|service| service.name() == name);
        let earlier = service.map_or(0, |service| service.earlier_log);
        let tail = data::last_lines(&log, earlier, 10);
        StackError::NotReady { name: name.to_owned(), log, tail }
    }

    /// Stops everything: edges, workers, the bus, the database. Each has a bounded time.
    pub async fn shutdown(self) {
        let names = |services: &[Service]| {
            services.iter().map(|service| service.name().to_owned()).collect::<Vec<_>>()
        };
        self.supervisor.stop_all(&names(&self.gateways)).await;
        self.supervisor.stop_all(&names(&self.workers)).await;
        self.supervisor.stop("nats").await;
        self.supervisor.stop("postgres").await;
    }

    /// The address of an edge, counted from 1, without a slash at the end.
    #[must_use]
    pub fn gateway_url(&self, number: usize) -> String {
        format!("http://{}", self.gateways[number - 1].address)
    }

    /// The addresses of all edges.
    #[must_use]
    pub fn gateway_urls(&self) -> Vec<String> {
        (1..=self.gateways.len()).map(|number| self.gateway_url(number)).collect()
    }

    /// The tenant's passwords, if they are known.
    #[must_use]
    pub fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    /// Where `credentials.json` is.
    #[must_use]
    pub fn credentials_path(&self) -> PathBuf {
        self.data.file("credentials.json")
    }

    /// The database's address, once the stack is up.
    #[must_use]
    pub fn database_url(&self) -> Option<&SecretString> {
        self.database_url.as_ref()
    }

    /// The private cluster, once it was started.
    #[must_use]
    pub fn cluster(&self) -> Option<&Cluster> {
        self.cluster.as_deref()
    }

    /// The address of NATS.
    #[must_use]
    pub fn nats_url(&self) -> &str {
        &self.nats_url
    }

    /// The seed file of a user of the bus: a service, or one of `more_bus_users`.
    #[must_use]
    pub fn nkey_path(&self, name: &str) -> PathBuf {
        self.data.keys().join(format!("{name}.nk"))
    }

    /// The data directory, as an absolute path.
    #[must_use]
    pub fn data(&self) -> &Path {
        self.data.root()
    }

    fn services(&self) -> impl Iterator<Item = &Service> {
        self.workers.iter().chain(&self.gateways)
    }

    fn report(&self, line: &str) {
        (self.config.report)(line);
    }
}
