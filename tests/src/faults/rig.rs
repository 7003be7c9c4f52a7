//! A world with a proxy on each link and a wall clock of its own for each process.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use local::{process::Launch, stack::Arrange};
use parking_lot::Mutex;
use sqlx::postgres::PgConnectOptions;
use tempfile::TempDir;

use super::{
    proxy::{Proxy, Upstream},
    wall_clock::{self, Threads, WallClock},
};
use crate::{Options, World, scratch};

/// What services connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Server {
    /// The bus.
    Nats,
    /// The database.
    Postgres,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nats => "nats",
            Self::Postgres => "postgres",
        })
    }
}

/// A world whose links and clocks can be broken.
pub struct Rig {
    /// The world. Its own connections to the database go by no proxy.
    pub world: World,
    parts: Arc<Mutex<Parts>>,
    _clocks: TempDir,
}

#[derive(Default)]
struct Parts {
    links: BTreeMap<(String, Server), Proxy>,
    clocks: BTreeMap<String, WallClock>,
    error: Option<anyhow::Error>,
}

impl Rig {
    /// Starts a world with everything that can be broken whole.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let clocks = scratch::dir("clocks-")?;
        let parts = Arc::<Mutex<Parts>>::default();
        let arrange = {
            let (parts, dir) = (parts.clone(), clocks.path().to_owned());
            Arrange::new(move |name, launch| {
                let mut parts = parts.lock();
                if let Err(error) = parts.take(name, launch, &dir) {
                    parts.error.get_or_insert(error);
                }
            })
        };
        let world = World::start_with(Options { arrange: Some(arrange), ..options }).await;
        let error = parts.lock().error.take();
        match error {
            Some(error) => Err(error),
            None => Ok(Self { world: world?, parts, _clocks: clocks }),
        }
    }

    /// Does something with the link of a service to a server.
    pub fn link<T>(&self, service: &str, server: Server, act: impl FnOnce(&Proxy) -> T) -> T {
        let parts = self.parts.lock();
        act(parts.links.get(&(service.to_owned(), server)).expect("a link of the rig"))
    }

    /// Sets a process' wall clock this far before or behind the machine's, while it runs.
    pub fn set_clock(&self, process: &str, seconds: i64) -> anyhow::Result<()> {
        let parts = self.parts.lock();
        let clock = parts.clocks.get(process).with_context(|| format!("{process} has a clock"))?;
        Ok(clock.set(seconds)?)
    }

    /// Stops all of it, with everything whole.
    pub async fn end(self) {
        for link in self.parts.lock().links.values() {
            link.heal();
        }
        self.world.end().await;
        wall_clock::sweep();
    }
}

impl Parts {
    /// Puts itself between a process and what it connects to, and between it and its clock.
    fn take(&mut self, name: &str, launch: &mut Launch, dir: &Path) -> anyhow::Result<()> {
        if let Some(at) = launch.args.iter().position(|arg| arg == "--nats-url") {
            let url = launch.args.get_mut(at + 1).context("an address of NATS")?;
            let address = url.to_str().and_then(|url| url.strip_prefix("nats://")).map(str::parse);
            let proxy = Proxy::start(Upstream::Nats(address.context("an address of NATS")??))?;
            *url = format!("nats://{}", proxy.address()).into();
            self.links.insert((name.to_owned(), Server::Nats), proxy);
        }
        if let Some((_, url)) = launch.env.iter_mut().find(|(key, _)| *key == DATABASE_URL) {
            let text = url.to_str().context("the database's address is text")?.to_owned();
            let options: PgConnectOptions = text.parse()?;
            let sockets = options.get_socket().context("the database has a socket")?;
            let proxy = Proxy::start(Upstream::Postgres(sockets.join(SOCKET)))?;
            let (who, what) = text.split_once("@localhost/").context("an address")?;
            let (database, _) = what.split_once('?').context("an address")?;
            *url = format!("{who}@{}/{database}?sslmode=disable", proxy.address()).into();
            self.links.insert((name.to_owned(), Server::Postgres), proxy);
        }
        // Who runs Postgres may be unable to read what is elsewhere.
        let (dir, threads) = match name {
            "nats" => return Ok(()),
            "postgres" => (launch.dir.clone(), Threads::One),
            _ => (dir.to_owned(), Threads::Many),
        };
        let file: PathBuf = dir.join(format!("{name}.clock"));
        self.clocks.insert(name.to_owned(), WallClock::fool(launch, file, threads)?);
        Ok(())
    }
}

const DATABASE_URL: &str = "BREAKGLASS_DATABASE_URL";

/// The file name of the socket of a Postgres at its usual port.
const SOCKET: &str = ".s.PGSQL.5432";
