//! The rules of the edge, one by one.

use uuid::Uuid;

use super::*;
use crate::id::{TenantId, UserId};

const TTL: Duration = Duration::from_secs(3);

fn at(ms: u64) -> Monotonic {
    Monotonic(Duration::from_millis(ms))
}

fn rev(number: u64) -> Revision {
    Revision { timeline: 1, number }
}

fn user(n: u128) -> UserId {
    UserId(Uuid::from_u128(n))
}

const TENANT: TenantId = TenantId(Uuid::from_u128(9));

fn life(n: u128) -> Incarnation {
    Incarnation(Uuid::from_u128(n))
}

fn entry(number: u64, who: u128) -> Entry {
    Entry {
        revision: rev(number),
        tenant_id: TENANT,
        user_id: Some(user(who)),
        cause: "session-revoked".to_owned(),
        traceparent: None,
    }
}

fn broadcast(head: u64, entries: Vec<Entry>) -> Broadcast {
    Broadcast { head: rev(head), entries }
}

fn joined(n: u128, head: u64) -> Joined {
    Joined {
        incarnation: life(n),
        head: rev(head),
        ttl_ms: 3_000,
        allow_cached_ms: 0,
        server_time: Timestamp::from_micros(1_000_000_000),
    }
}

fn renewed(renewal: Renewal, head: u64) -> Renewed {
    Renewed {
        incarnation: life(1),
        renewal,
        head: rev(head),
        ttl_ms: 3_000,
        server_time: Timestamp::from_micros(1_001_000_000),
    }
}

fn snapshot(number: u64, who: u128) -> Snapshot {
    Snapshot { revision: rev(number), user: user(who), tenant: TENANT }
}

/// An edge that sent its join at 0 and got head 10 at 1 ms.
fn edge() -> Edge {
    let mut edge = Edge::new(Limits::default());
    assert_eq!(edge.poll(at(0)), [Action::Join]);
    let acks = edge.joined(at(1), at(0), &joined(1, 10));
    assert_eq!(acks, [Action::Ack { incarnation: life(1), applied: rev(10) }]);
    edge
}

fn is_current(edge: &Edge, ms: u64, snapshot: &Snapshot) -> bool {
    matches!(edge.verdict(at(ms), snapshot), Verdict::Current(_))
}

#[test]
fn e1_nothing_is_decided_before_the_join() {
    let edge = Edge::new(Limits::default());
    assert_eq!(edge.verdict(at(1), &snapshot(10, 1)), Verdict::Fenced);
}

#[test]
fn e1_the_lease_counts_from_sending() {
    let mut edge = Edge::new(Limits::default());
    edge.poll(at(0));
    edge.joined(at(900), at(0), &joined(1, 10));
    assert!(is_current(&edge, 2_999, &snapshot(10, 1)));
    assert_eq!(edge.verdict(at(3_000), &snapshot(10, 1)), Verdict::Fenced);
}

#[test]
fn e1_a_load_from_before_the_join_is_stale() {
    assert_eq!(edge().verdict(at(2), &snapshot(9, 1)), Verdict::Stale);
}

#[test]
fn e3_an_entry_makes_its_user_stale_and_nobody_else() {
    let mut edge = edge();
    let actions = edge.heard(at(5), &broadcast(11, vec![entry(11, 1)]));
    assert_eq!(actions, [Action::Ack { incarnation: life(1), applied: rev(11) }]);
    assert_eq!(edge.verdict(at(6), &snapshot(10, 1)), Verdict::Stale);
    assert!(is_current(&edge, 6, &snapshot(10, 2)));
    assert!(is_current(&edge, 6, &snapshot(11, 1)));
}

#[test]
fn e3_an_early_entry_counts_at_once_but_is_not_acked() {
    let mut edge = edge();
    let actions = edge.heard(at(5), &broadcast(12, vec![entry(12, 1)]));
    assert_eq!(actions, [Action::Ack { incarnation: life(1), applied: rev(10) }]);
    assert_eq!(edge.verdict(at(6), &snapshot(11, 1)), Verdict::Stale);
    let actions = edge.heard(at(7), &broadcast(12, vec![entry(11, 2)]));
    assert_eq!(actions, [Action::Ack { incarnation: life(1), applied: rev(12) }]);
}

#[test]
fn e3_an_entry_of_a_whole_tenant_makes_everybody_stale() {
    let mut edge = edge();
    edge.heard(at(5), &broadcast(11, vec![Entry { user_id: None, ..entry(11, 1) }]));
    assert_eq!(edge.verdict(at(6), &snapshot(10, 2)), Verdict::Stale);
}

#[test]
fn e3_every_beacon_is_acked() {
    let ack = Action::Ack { incarnation: life(1), applied: rev(10) };
    assert_eq!(edge().heard(at(5), &broadcast(10, vec![])), [ack]);
}

#[test]
fn e4_a_gap_is_fetched_once_after_five_milliseconds() {
    let mut edge = edge();
    edge.heard(at(5), &broadcast(12, vec![]));
    assert_eq!(edge.poll(at(9)), []);
    assert_eq!(edge.poll(at(10)), [Action::Fetch { after: rev(10) }]);
    assert_eq!(edge.poll(at(11)), []);
    let actions = edge.caught_up(at(12), rev(10), &broadcast(12, vec![entry(11, 1), entry(12, 2)]));
    assert_eq!(actions, [Action::Ack { incarnation: life(1), applied: rev(12) }]);
    assert!(!edge.is_behind());
}

#[test]
fn e4_a_pruned_gap_raises_the_floor() {
    let mut edge = edge();
    edge.heard(at(5), &broadcast(20, vec![]));
    edge.poll(at(10));
    edge.caught_up(at(12), rev(10), &broadcast(20, vec![entry(15, 1)]));
    assert_eq!(edge.applied(), rev(20));
    assert_eq!(edge.verdict(at(13), &snapshot(19, 7)), Verdict::Stale);
    assert!(is_current(&edge, 13, &snapshot(20, 7)));
}

#[test]
fn e4_a_distance_over_the_bound_is_jumped() {
    let mut edge = edge();
    edge.heard(at(5), &broadcast(20_011, vec![]));
    edge.poll(at(10));
    edge.caught_up(at(12), rev(10), &broadcast(20_011, vec![entry(11, 1)]));
    assert_eq!(edge.applied(), rev(20_011));
    assert_eq!(edge.verdict(at(13), &snapshot(20_010, 7)), Verdict::Stale);
}

#[test]
fn e4_a_failed_fetch_is_tried_again() {
    let mut edge = edge();
    edge.heard(at(5), &broadcast(12, vec![]));
    edge.poll(at(10));
    edge.fetch_failed(at(11));
    assert_eq!(edge.poll(at(111)), []);
    assert_eq!(edge.poll(at(116)), [Action::Fetch { after: rev(10) }]);
}

#[test]
fn e6_renews_at_a_third_of_the_lease_counted_from_sending() {
    let mut edge = edge();
    assert_eq!(edge.poll(at(999)), []);
    let renew = Action::Renew { incarnation: life(1), applied: rev(10) };
    assert_eq!(edge.poll(at(1_000)), [renew]);
    edge.renewed(at(1_900), at(1_000), rev(10), &renewed(Renewal::Extended, 10));
    assert!(is_current(&edge, 3_999, &snapshot(10, 1)));
    assert_eq!(edge.verdict(at(4_000), &snapshot(10, 1)), Verdict::Fenced);
}

#[test]
fn an_edge_that_may_allow_while_cut_off_does_so_for_what_is_current_and_cached() {
    let allow_cached = Duration::from_secs(2);
    let mut edge = Edge::new(Limits { allow_cached, ..Limits::default() });
    edge.poll(at(0));
    edge.joined(at(1), at(0), &Joined { allow_cached_ms: 9_000, ..joined(1, 10) });
    edge.heard(at(5), &broadcast(11, vec![entry(11, 1)]));
    assert!(is_current(&edge, 4_999, &snapshot(11, 1)));
    assert_eq!(edge.verdict(at(4_999), &snapshot(10, 1)), Verdict::Stale);
    assert_eq!(edge.server_time(at(3_000)), None, "it loads nothing any more");
    assert_eq!(edge.verdict(at(5_000), &snapshot(11, 1)), Verdict::Fenced);
}

#[test]
fn an_edge_allows_no_longer_while_cut_off_than_the_workers_know() {
    let allow_cached = Duration::from_mins(1);
    let mut edge = Edge::new(Limits { allow_cached, ..Limits::default() });
    edge.poll(at(0));
    edge.joined(at(1), at(0), &Joined { allow_cached_ms: 2_000, ..joined(1, 10) });
    assert!(is_current(&edge, 4_999, &snapshot(10, 1)));
    assert_eq!(edge.verdict(at(5_000), &snapshot(10, 1)), Verdict::Fenced);
}

#[test]
fn e6_behind_keeps_the_lease_and_fetches() {
    let mut edge = edge();
    edge.poll(at(1_000));
    let actions = edge.renewed(at(1_001), at(1_000), rev(10), &renewed(Renewal::Behind, 11));
    assert_eq!(actions, [Action::Fetch { after: rev(10) }]);
    assert!(is_current(&edge, 2_999, &snapshot(10, 1)));
    assert_eq!(edge.verdict(at(3_000), &snapshot(10, 1)), Verdict::Fenced);
}

#[test]
fn e6_fenced_stops_at_once_and_joins_again() {
    let mut edge = edge();
    edge.poll(at(1_000));
    let actions = edge.renewed(at(1_001), at(1_000), rev(10), &renewed(Renewal::Fenced, 10));
    assert_eq!(actions, [Action::Alarm(Alarm::Fenced), Action::Join]);
    assert_eq!(edge.verdict(at(1_002), &snapshot(10, 1)), Verdict::Fenced);
}

#[test]
fn e6_a_reply_for_another_life_is_ignored() {
    let mut edge = edge();
    let reply = Renewed { incarnation: life(2), ..renewed(Renewal::Fenced, 10) };
    assert_eq!(edge.renewed(at(5), at(4), rev(10), &reply), []);
    assert!(is_current(&edge, 6, &snapshot(10, 1)));
}

#[test]
fn e7_lost_commits_and_a_new_timeline_stop_the_edge() {
    let mut lost = edge();
    let actions = lost.renewed(at(5), at(4), rev(10), &renewed(Renewal::Extended, 9));
    assert_eq!(actions[0], Action::Alarm(Alarm::CommitsLost));
    assert_eq!(lost.verdict(at(6), &snapshot(10, 1)), Verdict::Fenced);
    assert_eq!(lost.joined(at(7), at(6), &joined(2, 9)), [Action::Alarm(Alarm::CommitsLost)]);
    assert_eq!(lost.verdict(at(8), &snapshot(10, 1)), Verdict::Fenced);

    let mut moved = edge();
    let next = Broadcast { head: Revision { timeline: 2, number: 3 }, entries: vec![] };
    assert_eq!(moved.heard(at(5), &next)[0], Action::Alarm(Alarm::TimelineChanged));
    assert_eq!(moved.verdict(at(6), &snapshot(10, 1)), Verdict::Fenced);
}

#[test]
fn e7_an_old_beacon_proves_nothing() {
    let mut edge = edge();
    let old = Broadcast { head: Revision { timeline: 0, number: 99 }, entries: vec![] };
    assert_eq!(edge.heard(at(5), &old), []);
    assert!(!edge.is_behind());
}

#[test]
fn e8_server_time_counts_from_sending() {
    let mut edge = Edge::new(Limits::default());
    edge.poll(at(0));
    edge.joined(at(500), at(0), &joined(1, 10));
    assert_eq!(edge.server_time(at(500)), Some(Timestamp::from_micros(1_000_500_000)));
}

#[test]
fn e8_a_slow_join_gives_no_reading() {
    let mut edge = Edge::new(Limits::default());
    edge.poll(at(0));
    edge.joined(at(1_001), at(0), &joined(1, 10));
    assert_eq!(edge.verdict(at(1_002), &snapshot(10, 1)), Verdict::Fenced);
    assert_eq!(edge.poll(at(1_002)), [Action::Renew { incarnation: life(1), applied: rev(10) }]);
    edge.renewed(at(1_003), at(1_002), rev(10), &renewed(Renewal::Extended, 10));
    assert!(is_current(&edge, 1_004, &snapshot(10, 1)));
}

#[test]
fn early_entries_are_bounded_without_a_lease() {
    let mut edge = Edge::new(Limits { gap: 3, ..Limits::default() });
    for number in 1..=10 {
        edge.heard(at(1), &broadcast(number, vec![entry(number, 1)]));
    }
    assert_eq!(edge.early.len(), 3);
}

#[test]
fn e9_leaving_stops_deciding() {
    let mut edge = edge();
    assert_eq!(edge.leave(), Some(life(1)));
    assert_eq!(edge.verdict(at(5), &snapshot(10, 1)), Verdict::Fenced);
    assert_eq!(edge.poll(at(6)), []);
    assert_eq!(edge.joined(at(7), at(6), &joined(2, 10)), []);
    assert_eq!(edge.verdict(at(8), &snapshot(10, 1)), Verdict::Fenced);
}

#[test]
fn marks_and_early_entries_survive_a_rejoin() {
    let mut edge = edge();
    edge.heard(at(5), &broadcast(13, vec![entry(13, 1)]));
    edge.renewed(at(1_001), at(1_000), rev(10), &renewed(Renewal::Fenced, 13));
    edge.joined(at(1_003), at(1_002), &joined(2, 12));
    assert_eq!(edge.applied(), rev(13));
    assert_eq!(edge.verdict(at(1_004), &snapshot(12, 1)), Verdict::Stale);
}

#[test]
fn entries_heard_before_the_join_is_answered_count() {
    let mut edge = Edge::new(Limits::default());
    edge.poll(at(0));
    edge.heard(at(1), &broadcast(11, vec![entry(11, 1)]));
    edge.joined(at(2), at(0), &joined(1, 10));
    assert_eq!(edge.applied(), rev(11));
    assert_eq!(edge.verdict(at(3), &snapshot(10, 1)), Verdict::Stale);
}

#[test]
fn a_forgotten_mark_raises_the_floor() {
    let mut edge = edge();
    edge.heard(at(5), &broadcast(11, vec![entry(11, 1)]));
    edge.poll(at(920_000));
    edge.renewed(at(920_001), at(920_000), rev(11), &renewed(Renewal::Extended, 11));
    assert_eq!(edge.verdict(at(920_002), &snapshot(10, 1)), Verdict::Stale);
    assert_eq!(edge.verdict(at(920_002), &snapshot(10, 2)), Verdict::Stale);
    assert!(is_current(&edge, 920_002, &snapshot(11, 1)));
}

#[test]
fn too_many_marks_are_forgotten_and_raise_the_floor() {
    let mut edge = Edge::new(Limits { marks: 2, ..Limits::default() });
    edge.poll(at(0));
    edge.joined(at(1), at(0), &joined(1, 10));
    edge.heard(at(2), &broadcast(13, vec![entry(11, 1), entry(12, 2), entry(13, 3)]));
    edge.poll(at(3));
    assert_eq!(edge.verdict(at(4), &snapshot(12, 9)), Verdict::Stale);
    assert!(is_current(&edge, 4, &snapshot(13, 1)));
}

#[test]
fn the_lease_length_is_what_the_reply_says() {
    let edge = edge();
    let end = u64::try_from(TTL.as_millis()).expect("a short lease");
    assert!(is_current(&edge, end - 1, &snapshot(10, 1)));
    assert!(!is_current(&edge, end, &snapshot(10, 1)));
}
