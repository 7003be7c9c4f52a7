//! A TCP proxy that stands on one link and breaks it as asked.
//!
//! Bytes are carried in order and unchanged until a [`Condition`] says otherwise. What a condition
//! does to connections that stand, it does to new ones too.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use shared::subject::Subject;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UnixStream},
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep_until},
};

use super::nats_filter::NatsFilter;

/// Chunks of bytes that may be under way in one direction; past it, the sender has to wait.
const UNDER_WAY: usize = 4_096;
const CHUNK: usize = 16 * 1024;

/// Where the proxy leads.
#[derive(Debug, Clone)]
pub enum Upstream {
    /// NATS, whose messages are told apart so that single subjects can be lost.
    Nats(SocketAddr),
    /// Postgres, by its socket.
    Postgres(PathBuf),
}

/// A direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Way {
    /// From the service to the server.
    Up,
    /// From the server to the service.
    Down,
}

/// What becomes of the bytes that go one way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Flow {
    /// They arrive.
    #[default]
    Pass,
    /// They wait, and arrive when the flow changes.
    Hold,
    /// They are gone. A connection that lost some is closed when the flow changes: its framing is
    /// gone as well.
    Drop,
    /// They arrive later, in order, each chunk by a random time between the two.
    Delay(Duration, Duration),
}

/// One direction of a link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lane {
    /// What becomes of all bytes.
    pub flow: Flow,
    /// NATS messages of this subject are lost; all others arrive.
    pub lost: Option<Subject>,
}

/// The state of a link. The default carries everything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Condition {
    /// Connections are closed, and new ones refused.
    pub cut: bool,
    /// From the service to the server.
    pub up: Lane,
    /// From the server to the service.
    pub down: Lane,
}

impl Condition {
    /// Connections are closed, and new ones refused.
    #[must_use]
    pub fn cut() -> Self {
        Self { cut: true, ..Self::default() }
    }

    /// The same flow both ways.
    #[must_use]
    pub fn both(flow: Flow) -> Self {
        let lane = Lane { flow, lost: None };
        Self { cut: false, up: lane, down: lane }
    }

    /// A flow one way; the other way everything arrives.
    #[must_use]
    pub fn one_way(way: Way, flow: Flow) -> Self {
        let mut condition = Self::default();
        condition.lane_mut(way).flow = flow;
        condition
    }

    /// NATS messages of a subject are lost one way.
    #[must_use]
    pub fn losing(way: Way, subject: Subject) -> Self {
        let mut condition = Self::default();
        condition.lane_mut(way).lost = Some(subject);
        condition
    }

    const fn lane(&self, way: Way) -> Lane {
        match way {
            Way::Up => self.up,
            Way::Down => self.down,
        }
    }

    const fn lane_mut(&mut self, way: Way) -> &mut Lane {
        match way {
            Way::Up => &mut self.up,
            Way::Down => &mut self.down,
        }
    }
}

/// A proxy on a port of its own. Connections and port go when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    condition: watch::Sender<Condition>,
    lost: Arc<AtomicU64>,
    serving: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Proxy {
    /// Listens on a free port of this machine. Has to be called within a runtime.
    pub fn start(upstream: Upstream) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let address = listener.local_addr()?;
        let condition = watch::Sender::new(Condition::default());
        let lost = Arc::<AtomicU64>::default();
        let link = Link { upstream, condition: condition.subscribe(), lost: lost.clone() };
        let serving = tokio::spawn(serve(listener, link));
        Ok(Self { address, condition, lost, serving })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many messages of single subjects were lost.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }

    /// Changes the state of the link.
    pub fn set(&self, condition: Condition) {
        self.condition.send_replace(condition);
    }

    /// Carries everything again.
    pub fn heal(&self) {
        self.set(Condition::default());
    }
}

/// What every connection knows of its link.
#[derive(Clone)]
struct Link {
    upstream: Upstream,
    condition: watch::Receiver<Condition>,
    lost: Arc<AtomicU64>,
}

async fn serve(listener: TcpListener, link: Link) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((service, _)) = accepted {
                    connections.spawn(carry(service, link.clone()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One connection, until either side closes it or the link is cut.
async fn carry(service: TcpStream, link: Link) {
    let is_cut = link.condition.borrow().cut;
    if is_cut {
        return;
    }
    let Ok((from_server, to_server)) = connect(&link.upstream).await else { return };
    let _ = service.set_nodelay(true);
    let (from_service, to_service) = service.into_split();
    let mut cut = link.condition.clone();
    tokio::select! {
        _ = cut.wait_for(|condition| condition.cut) => {}
        () = pump(from_service, to_server, Way::Up, &link) => {}
        () = pump(from_server, to_service, Way::Down, &link) => {}
    }
}

type Reading = Box<dyn AsyncRead + Send + Unpin>;
type Writing = Box<dyn AsyncWrite + Send + Unpin>;

async fn connect(upstream: &Upstream) -> io::Result<(Reading, Writing)> {
    Ok(match upstream {
        Upstream::Nats(address) => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let (reading, writing) = stream.into_split();
            (Box::new(reading), Box::new(writing))
        }
        Upstream::Postgres(path) => {
            let (reading, writing) = UnixStream::connect(path).await?.into_split();
            (Box::new(reading), Box::new(writing))
        }
    })
}

/// Carries one direction until its end has arrived, or cannot be carried on.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    to: impl AsyncWrite + Unpin,
    way: Way,
    link: &Link,
) {
    let (under_way, arriving) = mpsc::channel(UNDER_WAY);
    let seen = link.condition.clone();
    let read = async move {
        let mut buffer = vec![0; CHUNK];
        let mut last_due = Instant::now();
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            let late = match seen.borrow().lane(way).flow {
                Flow::Delay(least, most) => {
                    least + most.saturating_sub(least).mul_f64(fastrand::f64())
                }
                Flow::Pass | Flow::Hold | Flow::Drop => Duration::ZERO,
            };
            last_due = last_due.max(Instant::now() + late);
            if under_way.send((last_due, buffer[..length].to_vec())).await.is_err() {
                break;
            }
        }
        // The end travels behind the bytes.
        drop(under_way);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = read => {}
        () = write(arriving, to, way, link) => {}
    }
}

async fn write(
    mut arriving: mpsc::Receiver<(Instant, Vec<u8>)>,
    mut to: impl AsyncWrite + Unpin,
    way: Way,
    link: &Link,
) {
    let mut filter = matches!(link.upstream, Upstream::Nats(_)).then(NatsFilter::default);
    let (mut condition, mut healed) = (link.condition.clone(), link.condition.clone());
    let mut lost_some = false;
    loop {
        let next = tokio::select! {
            next = arriving.recv() => next,
            _ = healed.wait_for(|now| now.lane(way).flow != Flow::Drop), if lost_some => return,
        };
        if let Some((due, _)) = &next {
            sleep_until(*due).await;
        }
        let carries = condition.wait_for(|now| now.lane(way).flow != Flow::Hold).await;
        let Ok(lane) = carries.map(|now| now.lane(way)) else { return };
        // The end of a connection is as lost as its bytes: nothing tells the other side.
        match next {
            _ if lane.flow == Flow::Drop => lost_some = true,
            None => return,
            Some(_) if lost_some => return,
            Some((_, mut bytes)) => {
                if let Some(filter) = &mut filter {
                    bytes = filter.pass(&bytes, lane.lost);
                    link.lost.fetch_add(filter.take_lost(), Relaxed);
                }
                if to.write_all(&bytes).await.is_err() {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A proxy before an echo, and a connection through it.
    async fn echo() -> (Proxy, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("it listens");
        tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                tokio::spawn(async move {
                    let (mut reading, mut writing) = stream.into_split();
                    tokio::io::copy(&mut reading, &mut writing).await
                });
            }
        });
        let proxy = Proxy::start(Upstream::Nats(address)).expect("a port");
        let client = TcpStream::connect(proxy.address()).await.expect("it listens");
        (proxy, client)
    }

    async fn answer(client: &mut TcpStream) -> io::Result<String> {
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            line.push(client.read_u8().await?);
        }
        Ok(String::from_utf8(line).expect("text"))
    }

    async fn is_silent(client: &mut TcpStream) -> bool {
        tokio::time::timeout(Duration::from_millis(100), client.read_u8()).await.is_err()
    }

    #[tokio::test]
    async fn what_is_held_arrives_later_and_what_is_dropped_ends_the_connection() {
        let (proxy, mut client) = echo().await;
        client.write_all(b"one\n").await.expect("it is open");
        assert_eq!(answer(&mut client).await.expect("carried"), "one\n");

        for way in [Way::Up, Way::Down] {
            proxy.set(Condition::one_way(way, Flow::Hold));
            client.write_all(b"two\n").await.expect("it is open");
            assert!(is_silent(&mut client).await, "{way:?}");
            proxy.heal();
            assert_eq!(answer(&mut client).await.expect("carried"), "two\n");
        }

        proxy.set(Condition::one_way(Way::Down, Flow::Drop));
        client.write_all(b"three\n").await.expect("it is open");
        assert!(is_silent(&mut client).await);
        proxy.heal();
        assert!(answer(&mut client).await.is_err(), "its framing is gone");
    }

    #[tokio::test]
    async fn a_cut_closes_what_stands_and_refuses_what_comes() {
        let (proxy, mut client) = echo().await;
        client.write_all(b"one\n").await.expect("it is open");
        assert_eq!(answer(&mut client).await.expect("carried"), "one\n");
        proxy.set(Condition::cut());
        assert!(answer(&mut client).await.is_err());
        let mut late = TcpStream::connect(proxy.address()).await.expect("the kernel takes it");
        assert!(answer(&mut late).await.is_err());
        proxy.heal();
        let mut again = TcpStream::connect(proxy.address()).await.expect("it listens");
        again.write_all(b"two\n").await.expect("it is open");
        assert_eq!(answer(&mut again).await.expect("carried"), "two\n");
    }

    #[tokio::test]
    async fn delayed_bytes_keep_their_order() {
        let (proxy, mut client) = echo().await;
        let (least, most) = (Duration::from_millis(1), Duration::from_millis(40));
        proxy.set(Condition::both(Flow::Delay(least, most)));
        for number in 0..20 {
            client.write_all(format!("{number}\n").as_bytes()).await.expect("it is open");
            tokio::task::yield_now().await;
        }
        for number in 0..20 {
            assert_eq!(answer(&mut client).await.expect("carried"), format!("{number}\n"));
        }
    }
}
