//! The server's clock as an edge knows it (E8), in every sequence of a few readings.
//!
//! Each reading takes some time to the server and some time back; meanwhile the server's clock may
//! step back, or blip forward for one reading.

use std::time::Duration;

use shared::{
    clock::{Monotonic, Timestamp},
    lease::server_clock::ServerClock,
};

/// What becomes of readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keeping {
    /// The rules.
    Rules,
    /// The latest reading counts, however low.
    Latest,
    /// A reading counts from its reply.
    FromReply,
    /// The highest reading counts, however high.
    Highest,
}

/// What does not do.
pub(super) const NAIVE: [Keeping; 3] = [Keeping::Latest, Keeping::FromReply, Keeping::Highest];

/// One reading.
#[derive(Debug, Clone, Copy)]
struct Asked {
    /// Seconds to the server.
    there: u64,
    /// Seconds back.
    back: u64,
    /// Seconds by which the server's clock steps back before this one.
    steps_back: i64,
    /// Seconds by which this one reading alone is too high.
    blips: i64,
}

const EVERY: [Asked; 6] = [
    Asked { there: 0, back: 0, steps_back: 0, blips: 0 },
    Asked { there: 0, back: 1, steps_back: 0, blips: 0 },
    Asked { there: 1, back: 0, steps_back: 0, blips: 0 },
    Asked { there: 0, back: 0, steps_back: 5, blips: 0 },
    Asked { there: 0, back: 1, steps_back: 5, blips: 0 },
    Asked { there: 0, back: 0, steps_back: 0, blips: 600 },
];

/// Looks at every sequence of `length` readings. Returns how many there are, and one after which
/// something ends late, or far too early.
pub(super) fn search(keeping: Keeping, length: u32) -> (usize, Option<String>) {
    let count = EVERY.len().pow(length);
    let wrong = (0..count).find_map(|number| {
        let mut rest = number;
        let sequence: Vec<_> = (0..length)
            .map(|_| {
                let asked = EVERY[rest % EVERY.len()];
                rest /= EVERY.len();
                asked
            })
            .collect();
        run(keeping, &sequence).map(|wrong| format!("{wrong} after {sequence:?}"))
    });
    (count, wrong)
}

/// What is wrong after these readings, if anything. They are over within 10 minutes.
fn run(keeping: Keeping, sequence: &[Asked]) -> Option<&'static str> {
    let mut clock = ServerClock::default();
    let mut naive: Option<i64> = None;
    let mut now = 100;
    let mut wrong_by = 0;
    let mut blipped = false;
    for asked in sequence {
        let asked_at = now;
        wrong_by -= asked.steps_back;
        let read = seconds(asked_at + asked.there) + wrong_by + asked.blips;
        now = asked_at + asked.there + asked.back;
        let offset = read - seconds(asked_at);
        match keeping {
            Keeping::Rules => _ = clock.read(at(asked_at), server(read)),
            Keeping::Latest => naive = Some(offset),
            Keeping::FromReply => {
                naive = Some(naive.unwrap_or(i64::MIN).max(read - seconds(now)));
            }
            Keeping::Highest => naive = Some(naive.unwrap_or(i64::MIN).max(offset)),
        }
        // The first reading is all there is to go by, right or wrong.
        let first = sequence[0];
        let began_at = -first.steps_back;
        let shown = match naive {
            Some(offset) => server(seconds(now) + offset),
            None => clock.at(at(now))?,
        };
        if shown < server(seconds(now) + began_at) {
            return Some("what should have ended goes on");
        }
        // A blip that is read twice in a row, or first of all, is taken for the truth.
        if (first.blips > 0) || (blipped && asked.blips > 0) {
            return None;
        }
        blipped = asked.blips > 0;
        // A reading runs ahead by the way there.
        if shown > server(seconds(now) + began_at + 1) {
            return Some("what should go on has ended");
        }
        now += 20;
    }
    None
}

/// When the server's clock is right, it shows the time of the edge's steady clock.
fn seconds(steady: u64) -> i64 {
    i64::try_from(steady).expect("time is short")
}

fn at(seconds: u64) -> Monotonic {
    Monotonic(Duration::from_secs(seconds))
}

fn server(seconds: i64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}
