//! Which faults, when, and for how long: first every kind once, then at random by a seed.

use std::{collections::BTreeSet, time::Duration};

use shared::subject::Subject;

use super::{
    fault::{Fault, Link},
    proxy::Way,
    rig::Server,
};

/// A fault within a wave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timed {
    /// How long after the wave's beginning.
    pub after: Duration,
    /// What.
    pub fault: Fault,
    /// For how long.
    pub lasts: Duration,
}

/// Faults at the same time. After each wave everything has to get well again.
pub type Wave = Vec<Timed>;

/// How far wall clocks are off.
const OFF: i64 = 600;

/// The names of what can be broken.
#[derive(Debug, Clone)]
pub struct Targets {
    edges: Vec<String>,
    workers: Vec<String>,
}

impl Targets {
    /// So many edges, and so many of each worker.
    #[must_use]
    pub fn new(edges: u16, workers: u16) -> Self {
        let workers = (1..=workers).flat_map(|number| {
            ["session-worker", "grant-worker", "expiry-worker"].map(|name| match number {
                1 => name.to_owned(),
                more => format!("{name}-{more}"),
            })
        });
        let edges = (1..=edges).map(|number| format!("gateway-{number}")).collect();
        Self { edges, workers: workers.collect() }
    }

    fn links(&self) -> Vec<Link> {
        let to_nats = self.edges.iter().chain(&self.workers).map(|name| (name, Server::Nats));
        let to_postgres = self.workers.iter().map(|name| (name, Server::Postgres));
        let links = to_nats.chain(to_postgres);
        links.map(|(name, server)| Link { service: name.clone(), server }).collect()
    }

    /// Every kind of fault, and each kind of process for the kinds that differ by it.
    #[must_use]
    pub fn every_kind(&self) -> Vec<Wave> {
        let edge = |number: usize| self.edges[number % self.edges.len()].clone();
        let kinds = 3;
        let worker = |number: usize| self.workers[number * kinds % self.workers.len()].clone();
        let named = str::to_owned;
        let nats = |service: String| Link { service, server: Server::Nats };
        let postgres = |service: String| Link { service, server: Server::Postgres };
        let ms = Duration::from_millis;
        let at = |after, fault, lasts| Timed { after: ms(after), fault, lasts: ms(lasts) };
        vec![
            vec![
                at(0, Fault::Clock(edge(1), OFF), 5_000),
                at(0, Fault::Clock(worker(0), -OFF), 5_000),
                at(0, Fault::Clock(named("postgres"), -OFF), 7_000),
                at(300, Fault::Deaf(edge(0)), 4_500),
                at(600, Fault::Mute(edge(1), Subject::EdgeAck), 4_000),
                at(900, Fault::Delay(nats(edge(2)), ms(20), ms(200)), 3_500),
            ],
            vec![
                at(0, Fault::Kill(edge(0)), 0),
                at(300, Fault::Kill(worker(0)), 0),
                at(300, Fault::Kill(named("grant-worker")), 0),
                at(600, Fault::Pause(edge(1)), 5_000),
                at(900, Fault::Restart(edge(2)), 500),
                at(2_500, Fault::Restart(worker(1)), 500),
            ],
            vec![
                at(0, Fault::Stall(nats(edge(2)), None), 10_000),
                at(0, Fault::OneWay(nats(edge(0)), Way::Down), 4_000),
                at(200, Fault::Stall(postgres(worker(0)), Some(Way::Down)), 10_000),
                at(4_500, Fault::OneWay(nats(edge(1)), Way::Up), 4_000),
            ],
            vec![
                at(0, Fault::Immediate, 0),
                at(2_000, Fault::Kill(named("nats")), 0),
                at(3_500, Fault::Kill(named("postgres")), 0),
            ],
            vec![
                at(0, Fault::Pause(worker(0)), 4_500),
                at(0, Fault::Cut(nats(edge(0))), 4_000),
                at(300, Fault::OneWay(nats(worker(1)), Way::Down), 2_000),
                at(2_800, Fault::OneWay(postgres(worker(1)), Way::Up), 2_000),
            ],
            vec![
                at(0, Fault::Pause(named("postgres")), 1_500),
                at(2_000, Fault::Pause(named("nats")), 1_500),
                at(4_000, Fault::Restart(named("nats")), 300),
                at(4_800, Fault::Restart(named("postgres")), 300),
            ],
            vec![
                at(0, Fault::JoinInStorm(edge(1)), 2_500),
                at(0, Fault::Down(edge(0)), 2_000),
                at(200, Fault::Clock(named("postgres"), OFF), 2_000),
                at(2_600, Fault::Cut(postgres(worker(0))), 1_500),
            ],
        ]
    }

    /// One to four faults at random.
    pub fn random(&self, rng: &mut fastrand::Rng) -> Wave {
        let count = rng.usize(1..=4);
        let mut taken = BTreeSet::new();
        let mut wave = Vec::new();
        while wave.len() < count {
            let (fault, lasts) = self.any(rng);
            let after = Duration::from_millis(rng.u64(..2_500));
            // Two of the same would mend one another.
            if taken.insert(fault.victim()) {
                wave.push(Timed { after, fault, lasts });
            }
        }
        wave
    }

    fn any(&self, rng: &mut fastrand::Rng) -> (Fault, Duration) {
        let mut one = |names: &[String]| names[rng.usize(..names.len())].clone();
        let edge = one(&self.edges);
        let worker = one(&self.workers);
        let server = one(&["nats".to_owned(), "postgres".to_owned()]);
        let process = one(&[edge.clone(), edge.clone(), worker.clone(), server]);
        let clock = one(&[edge.clone(), worker, "postgres".to_owned()]);
        let links = self.links();
        let link = links[rng.usize(..links.len())].clone();
        let way = if rng.bool() { Way::Up } else { Way::Down };
        let seconds = |rng: &mut fastrand::Rng, least: f64, most: f64| {
            Duration::from_secs_f64(least + (most - least) * rng.f64())
        };
        let lasts = seconds(rng, 0.5, 8.0);
        match rng.u8(..26) {
            0..3 => (Fault::Kill(process), Duration::ZERO),
            3..5 => (Fault::Down(process), lasts / 2),
            5..7 => (Fault::Restart(process), lasts / 4),
            7 => (Fault::Immediate, Duration::ZERO),
            8..12 => (Fault::Pause(process), lasts),
            12 => (Fault::Cut(link), lasts),
            13..16 => (Fault::OneWay(link, way), lasts),
            16 => (Fault::Stall(link, None), Duration::from_secs(10)),
            17..19 => (Fault::Stall(link, Some(way)), Duration::from_secs(10)),
            19..21 => {
                let least = seconds(rng, 0.001, 0.1);
                let most = least + seconds(rng, 0.01, 1.0);
                (Fault::Delay(link, least, most), lasts)
            }
            21 => (Fault::Deaf(edge), lasts),
            22 => {
                let subjects = [
                    Subject::EdgeAck,
                    Subject::EdgeRenew,
                    Subject::RevocationSince,
                    Subject::EdgeLeave,
                ];
                (Fault::Mute(edge, subjects[rng.usize(..subjects.len())]), lasts)
            }
            23..25 => (Fault::Clock(clock, if rng.bool() { OFF } else { -OFF }), lasts),
            _ => (Fault::JoinInStorm(edge), lasts / 2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waves(seed: u64) -> Vec<Wave> {
        let mut rng = fastrand::Rng::with_seed(seed);
        let targets = Targets::new(3, 2);
        (0..200).map(|_| targets.random(&mut rng)).collect()
    }

    fn kinds<'a>(waves: impl IntoIterator<Item = &'a Wave>) -> BTreeSet<&'static str> {
        waves.into_iter().flatten().map(|timed| timed.fault.kind()).collect()
    }

    #[test]
    fn a_seed_names_its_faults() {
        assert_eq!(waves(1), waves(1));
        assert_ne!(waves(1), waves(2));
    }

    #[test]
    fn every_kind_comes_first_and_all_come_at_random() {
        let every = Targets::new(3, 2).every_kind();
        assert_eq!(kinds(&every), kinds(&waves(1)));
        for few in [Targets::new(1, 1), Targets::new(7, 3)] {
            assert_eq!(kinds(&few.every_kind()), kinds(&every));
        }
    }
}
