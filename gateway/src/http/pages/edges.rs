//! Edges: how far each of them enforces what was decided, and whether it decides at all.

use askama::Template;
use axum::response::Response;
use shared::message::edge::{EdgeStatus, ListEdges};

use super::{
    super::State,
    turned::Turned,
    view::{Shell, Viewer},
    wording,
};

/// An edge, as a row shows it.
struct Row {
    edge: EdgeStatus,
}

impl Row {
    /// Whether it answers reverse proxies.
    const fn decides(&self) -> bool {
        !self.edge.fenced && self.edge.lease_remaining_ms > 0
    }

    /// Whether it decides, in a word or two.
    const fn standing(&self) -> &'static str {
        wording::standing(&self.edge)
    }

    /// How many revisions it has yet to apply. What it applied may be read later than the head.
    const fn behind(&self) -> u64 {
        self.edge.head.saturating_sub(self.edge.applied)
    }

    /// How long it may go on if it is never heard of again.
    fn lease(&self) -> String {
        match self.edge.lease_remaining_ms {
            ms @ 0..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
            ms => wording::span(ms / 1_000),
        }
    }
}

#[derive(Template)]
#[template(path = "edges.html")]
struct EdgesPage<'a> {
    shell: &'a Shell,
    rows: Vec<Row>,
    /// How many decide.
    deciding: usize,
    /// The latest revision that any of them was measured by.
    head: u64,
}

pub(super) async fn show(state: &State, viewer: &Viewer) -> Result<Response, Turned> {
    let request = ListEdges { caller: viewer.caller.clone() };
    let edges = state.bus.request(&request).await?.edges;
    let rows: Vec<_> = edges.into_iter().map(|edge| Row { edge }).collect();
    viewer.show(&EdgesPage {
        shell: &viewer.shell,
        deciding: rows.iter().filter(|row| row.decides()).count(),
        head: rows.iter().map(|row| row.edge.head).max().unwrap_or_default(),
        rows,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(applied: u64, lease_remaining_ms: u64, fenced: bool) -> Row {
        let id = "eu-1".parse().expect("a name");
        let (region, head, cached_sessions) = ("eu".to_owned(), 7, 0);
        Row {
            edge: EdgeStatus {
                id,
                region,
                applied,
                head,
                lease_remaining_ms,
                fenced,
                cached_sessions,
            },
        }
    }

    #[test]
    fn an_edge_is_said_to_decide_only_while_it_does() {
        for (row, standing, decides) in [
            (row(7, 2_999, false), "Deciding", true),
            (row(7, 0, false), "Lease over", false),
            (row(7, 0, true), "Fenced", false),
            (row(7, 2_999, true), "Fenced", false),
        ] {
            assert_eq!((row.standing(), row.decides()), (standing, decides));
        }
    }

    #[test]
    fn how_far_it_is_and_how_long_it_may_go_on() {
        assert_eq!([row(7, 0, false).behind(), row(4, 0, false).behind()], [0, 3]);
        assert_eq!(row(9, 0, false).behind(), 0, "read later than the head");
        for (ms, said) in [(0, "0.0 s"), (2_999, "2.9 s"), (60_000, "1m"), (3_603_000, "1h")] {
            assert_eq!(row(7, ms, false).lease(), said);
        }
    }
}
