//! What can go wrong, made to go wrong and mended again.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use local::process::Signal;
use shared::subject::Subject;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    ledger::Ledger,
    load::Load,
    proxy::{Condition, Flow, Way},
    rig::{Rig, Server},
};
use crate::eventually;

/// The link of a service to a server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    /// The service.
    pub service: String,
    /// The server.
    pub server: Server,
}

/// One fault. Processes are named as in [`local::stack::Stack`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL; it is started again at once.
    Kill(String),
    /// SIGKILL; it is started again when the fault ends.
    Down(String),
    /// Stopped in order, and started when the fault ends.
    Restart(String),
    /// Postgres' immediate shutdown; it is started again at once.
    Immediate,
    /// SIGSTOP, and SIGCONT when the fault ends.
    Pause(String),
    /// A link is cut both ways.
    Cut(Link),
    /// What goes one way is gone.
    OneWay(Link, Way),
    /// What goes one way, or both, waits.
    Stall(Link, Option<Way>),
    /// Everything arrives later, by a random time between the two.
    Delay(Link, Duration, Duration),
    /// An edge hears no broadcast; requests and answers pass, so it renews.
    Deaf(String),
    /// Messages of one subject from an edge are lost.
    Mute(String, Subject),
    /// A process' wall clock is off by so many seconds.
    Clock(String, i64),
    /// An edge is stopped in order, and joins in the middle of very many revocations.
    JoinInStorm(String),
}

/// What a fault is done to: no two at the same time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Victim {
    /// A process.
    Process(String),
    /// A link.
    Link(Link),
    /// A clock.
    Clock(String),
}

impl Fault {
    /// The name of its kind.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Kill(_) => "kill -9",
            Self::Down(_) => "kill -9, later restarted",
            Self::Restart(_) => "restart in order",
            Self::Immediate => "immediate shutdown",
            Self::Pause(_) => "SIGSTOP, SIGCONT",
            Self::Cut(_) => "cut",
            Self::OneWay(..) => "one-way cut",
            Self::Stall(..) => "stall",
            Self::Delay(..) => "delay",
            Self::Deaf(_) => "hears no broadcasts",
            Self::Mute(..) => "messages lost",
            Self::Clock(..) => "wall clock off",
            Self::JoinInStorm(_) => "join in a storm",
        }
    }

    /// What it is done to.
    #[must_use]
    pub fn victim(&self) -> Victim {
        match self {
            Self::Kill(name) | Self::Down(name) | Self::Restart(name) | Self::Pause(name) => {
                Victim::Process(name.clone())
            }
            Self::JoinInStorm(edge) => Victim::Process(edge.clone()),
            Self::Immediate => Victim::Process("postgres".to_owned()),
            Self::Cut(link)
            | Self::OneWay(link, _)
            | Self::Stall(link, _)
            | Self::Delay(link, ..) => Victim::Link(link.clone()),
            Self::Deaf(edge) | Self::Mute(edge, _) => {
                Victim::Link(Link { service: edge.clone(), server: Server::Nats })
            }
            Self::Clock(name, _) => Victim::Clock(name.clone()),
        }
    }

    /// The state of its link, if it is one of a link.
    fn condition(&self) -> Option<Condition> {
        Some(match self {
            Self::Cut(_) => Condition::cut(),
            Self::OneWay(_, way) => Condition::one_way(*way, Flow::Drop),
            Self::Stall(_, Some(way)) => Condition::one_way(*way, Flow::Hold),
            Self::Stall(_, None) => Condition::both(Flow::Hold),
            Self::Delay(_, least, most) => Condition::both(Flow::Delay(*least, *most)),
            Self::Deaf(_) => Condition::losing(Way::Down, Subject::RevocationBroadcast),
            Self::Mute(_, subject) => Condition::losing(Way::Up, *subject),
            _ => return None,
        })
    }

    /// Makes it so for a while, and mends it.
    pub async fn inflict(
        &self,
        rig: &Rig,
        load: &Arc<Load>,
        lasts: Duration,
    ) -> anyhow::Result<()> {
        let stack = &rig.world.stack;
        let lives = Lives { ledger: &load.ledger, edge: self.edge() };
        match self {
            Self::Kill(name) => {
                running(rig, name).await?;
                stack.kill(name).await;
                running(rig, name).await?;
            }
            Self::Down(name) => {
                rig.world.kill_for_good(name).await;
                sleep(lasts).await;
                lives.note();
                stack.start_service(name).await;
            }
            Self::Restart(name) => {
                stack.stop_service(name).await;
                sleep(lasts).await;
                lives.note();
                stack.start_service(name).await;
            }
            Self::Immediate => {
                running(rig, "postgres").await?;
                stack.signal("postgres", Signal::QUIT);
            }
            Self::Pause(name) => {
                running(rig, name).await?;
                let paused = rig.world.pause(name)?;
                sleep(lasts).await;
                drop(paused);
            }
            Self::Clock(name, seconds) => {
                if name == "postgres" {
                    load.ledger.step();
                }
                rig.set_clock(name, *seconds)?;
                sleep(lasts).await;
                rig.set_clock(name, 0)?;
            }
            Self::JoinInStorm(name) => {
                // In order, or all receipts would wait until it is fenced.
                stack.stop_service(name).await;
                lives.note();
                storm(rig, load, name, lasts).await;
            }
            _ => {
                let (Victim::Link(link), Some(condition)) = (self.victim(), self.condition())
                else {
                    unreachable!("all other faults are of links");
                };
                rig.link(&link.service, link.server, |proxy| proxy.set(condition));
                sleep(lasts).await;
                rig.link(&link.service, link.server, super::proxy::Proxy::heal);
            }
        }
        lives.note();
        Ok(())
    }

    /// The number of the edge whose process it ends or starts.
    fn edge(&self) -> Option<usize> {
        match self {
            Self::Kill(name) | Self::Down(name) | Self::Restart(name) | Self::JoinInStorm(name) => {
                name.strip_prefix("gateway-")?.parse().ok()
            }
            _ => None,
        }
    }
}

/// Notes that an edge's process may have been started anew.
struct Lives<'a> {
    ledger: &'a Ledger,
    edge: Option<usize>,
}

impl Lives<'_> {
    fn note(&self) {
        if let Some(edge) = self.edge {
            self.ledger.new_life(edge);
        }
    }
}

/// Waits until there is a process to do something to.
async fn running(rig: &Rig, name: &str) -> anyhow::Result<()> {
    eventually(&format!("{name} runs"), || async { rig.world.stack.pid(name).is_some() }).await
}

/// Revocations without a pause by several admins, and an edge that is started among them. Takes at
/// most twice as long as `longest`.
async fn storm(rig: &Rig, load: &Arc<Load>, edge: &str, longest: Duration) {
    const ADMINS: usize = 12;
    const RECEIPTS: u64 = 40;
    let mut admins = JoinSet::new();
    for number in 0..ADMINS {
        let load = load.clone();
        admins.spawn(async move {
            loop {
                // Some fail while everything else is broken as well: that is not looked at here.
                if !matches!(load.revoke_one(number % load.edges()).await, Ok(Some(_))) {
                    sleep(Duration::from_millis(20)).await;
                }
            }
        });
    }
    let some = || async {
        let until = load.ledger.counts.enforced.load(Relaxed) + RECEIPTS;
        while load.ledger.counts.enforced.load(Relaxed) < until {
            sleep(Duration::from_millis(5)).await;
        }
    };
    // Fewer than that, if the system is too slow or too broken.
    let _ = timeout(longest, some()).await;
    rig.world.stack.start_service(edge).await;
    let _ = timeout(longest, some()).await;
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} and {}", self.service, self.server)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let to = |way: &Way, Link { service, server }: &Link| match way {
            Way::Up => format!("from {service} to {server}"),
            Way::Down => format!("from {server} to {service}"),
        };
        match self {
            Self::Kill(name) => write!(f, "kill -9 {name}"),
            Self::Down(name) => write!(f, "kill -9 {name}, and start it again later"),
            Self::Restart(name) => write!(f, "stop {name} in order, and start it again"),
            Self::Immediate => write!(f, "immediate shutdown of postgres"),
            Self::Pause(name) => write!(f, "SIGSTOP to {name}"),
            Self::Cut(link) => write!(f, "cut between {link}"),
            Self::OneWay(link, way) => write!(f, "nothing arrives {}", to(way, link)),
            Self::Stall(link, None) => write!(f, "stall between {link}"),
            Self::Stall(link, Some(way)) => write!(f, "stall {}", to(way, link)),
            Self::Delay(link, least, most) => {
                write!(f, "{least:?} to {most:?} of delay between {link}")
            }
            Self::Deaf(edge) => write!(f, "{edge} hears no broadcast, but renews"),
            Self::Mute(edge, subject) => write!(f, "every {} of {edge} is lost", subject.path()),
            Self::Clock(name, seconds) => write!(f, "wall clock of {name} {seconds:+} s off"),
            Self::JoinInStorm(edge) => {
                write!(f, "stop {edge}, which joins again in a storm of revocations")
            }
        }
    }
}
