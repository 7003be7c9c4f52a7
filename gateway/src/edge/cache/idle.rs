//! Security.md: idle and absolute ends, “both enforced at every edge: never early, idle at most 90 s
//! late”, “`last_active_at` is written at most once per session and minute”: however a session is
//! used over three edges and the API.

use super::{tests::cached, *};

/// How long a use may take from an edge to the database: it is reported every 5 s, and once more
/// where that failed.
const ON_THE_WAY: i64 = 12;
const TOUCH: i64 = 60;
const SLACK: i64 = IDLE_SLACK_SECONDS as i64;
const SECOND: i64 = 1_000_000;

/// What session-worker knows, and its rules in seconds (`session/store.rs`, `caller.rs`).
struct Database {
    last_active: i64,
    idle: i64,
    end: i64,
    writes: Vec<i64>,
}

impl Database {
    fn lives(&self, now: i64) -> bool {
        now < self.end && self.last_active + self.idle + SLACK > now
    }

    /// A request to the API.
    fn asked(&mut self, now: i64) -> bool {
        let lives = self.lives(now);
        if lives && self.last_active + TOUCH <= now {
            self.write(now);
        }
        lives
    }

    /// A report of an edge.
    fn touched(&mut self, at: i64) -> i64 {
        if self.last_active + TOUCH <= at && self.last_active + self.idle + SLACK > at {
            self.write(at);
        }
        self.last_active
    }

    fn write(&mut self, at: i64) {
        self.last_active = at;
        self.writes.push(at);
    }
}

#[derive(Default)]
struct AtEdge {
    entry: Option<Arc<Cached>>,
    /// The use, and when the report of it arrives.
    pending: Option<(i64, i64, Arc<Cached>)>,
}

impl AtEdge {
    fn asked(&mut self, database: &Database, now: i64, arrives: i64) -> bool {
        // As `Cache::decide`, without revocations.
        let load = || {
            database.lives(now).then(|| {
                let mut session = (*cached(vec![]).session).clone();
                session.last_active_at = Timestamp::from_micros(database.last_active * SECOND);
                session.idle_seconds = u32::try_from(database.idle).expect("a length");
                session.expires_at = Timestamp::from_micros(database.end * SECOND);
                Arc::new(Cached::new(session, Revision::default()))
            })
        };
        let time = Timestamp::from_micros(now * SECOND);
        let known = self.entry.take().map(|entry| (entry.life(time, false), entry));
        let entry = match known {
            Some((Life::Alive, entry)) => entry,
            Some((Life::Over, _)) => return false,
            Some((Life::PerhapsIdle, _)) | None => match load() {
                Some(entry) if entry.life(time, true) == Life::Alive => entry,
                _ => return false,
            },
        };
        // As `Edge::allow`.
        if entry.used(time) {
            entry.reported(time);
            self.pending = Some((now, arrives, Arc::clone(&entry)));
        }
        self.entry = Some(entry);
        true
    }

    /// As `Edge::report`.
    fn report(&mut self, database: &mut Database, now: i64) {
        let Some((at, _, entry)) = self.pending.take_if(|(_, arrives, _)| *arrives <= now) else {
            return;
        };
        let last = database.touched(at);
        assert!(last + TOUCH > at || !database.lives(at), "it is settled");
        entry.reported(Timestamp::from_micros(last * SECOND));
    }
}

/// One session's life. Says how it ended: what broke, or by which end.
fn live(random: &mut fastrand::Rng, idle: i64, end: i64) -> Result<&'static str, String> {
    let mut database = Database { last_active: 0, idle, end, writes: Vec::new() };
    let mut edges = [AtEdge::default(), AtEdge::default(), AtEdge::default()];
    let (mut now, mut last_use) = (0, 0);
    loop {
        let near = [1, 5, 30, 50, 59, 60, 61, idle - 1, idle, idle + 80, idle + 91];
        let next = now
            + if random.bool() { near[random.usize(0..near.len())] } else { random.i64(1..idle) };
        while now < next {
            now += 1;
            for edge in &mut edges {
                edge.report(&mut database, now);
            }
        }
        let unused = now - last_use;
        let place = random.usize(0..4);
        let lives = match edges.get_mut(place) {
            Some(edge) => edge.asked(&database, now, now + random.i64(0..=ON_THE_WAY)),
            None => database.asked(now),
        };
        // A use long ago leaves memory (15 min); a restart may forget it at any time.
        if let Some(edge) = edges.get_mut(random.usize(0..30)) {
            edge.entry = None;
        }
        let due = unused < idle && now < end;
        let late = unused >= idle + 90 || now >= end;
        if (late && lives) || (due && !lives) {
            return Err(format!("at {now} s, unused for {unused} s, asked at {place}: {lives}"));
        }
        if let Some(pair) = database.writes.windows(2).find(|pair| pair[1] - pair[0] < TOUCH) {
            return Err(format!("written at {pair:?}"));
        }
        if !lives {
            return Ok(if now >= end { "absolute" } else { "idle" });
        }
        last_use = now;
    }
}

#[test]
fn sessions_end_when_they_are_due_at_every_edge() {
    let mut random = fastrand::Rng::with_seed(11);
    let mut ends = std::collections::BTreeMap::new();
    for idle in [60, 61, 90, 120, 600, 3_600] {
        for _ in 0..3_000 {
            let end = random.i64(idle..idle * 20);
            match live(&mut random, idle, end) {
                Ok(how) => *ends.entry(how).or_insert(0) += 1,
                Err(what) => panic!("idle {idle} s, at most {end} s: {what}"),
            }
        }
    }
    assert!(ends["idle"] > 1_000 && ends["absolute"] > 1_000, "{ends:?}");
}
