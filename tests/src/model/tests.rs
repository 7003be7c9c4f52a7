//! Each broken rule leads to a broken promise, and the same worlds with the rule whole do not.

use super::{
    broken::{BROKEN, STUCK, find},
    mutation::Mutation,
    plan::look_through,
    readings::{Keeping, NAIVE, search},
    scope::{May, Scope},
};

#[test]
#[cfg_attr(debug_assertions, ignore = "slow without optimisation: tests/run runs it in release")]
fn every_broken_rule_is_found_out() {
    for (rule, scope) in BROKEN.iter().chain(STUCK) {
        let found = find(&Scope { broken: Some(*rule), ..scope.clone() });
        assert!(found.counterexample.is_some(), "{rule:?} was not found out");
    }
}

#[test]
#[cfg_attr(debug_assertions, ignore = "slow without optimisation: tests/run runs it in release")]
fn the_same_worlds_keep_the_promise_with_every_rule_whole() {
    for (rule, scope) in BROKEN.iter().chain(STUCK) {
        // Reading the clock first is the broken rule itself.
        let first = *rule == Mutation::ClockBeforeRows;
        let may = if first { &[May::ReadLate] } else { scope.may };
        let report = look_through(&Scope { may, ..scope.clone() });
        assert!(report.found.counterexample.is_none(), "{rule:?}: {report}");
    }
}

#[test]
fn nothing_ends_late_or_far_too_early_by_the_servers_clock() {
    assert_eq!(search(Keeping::Rules, 5), (7_776, None));
}

#[test]
fn naive_readings_of_the_servers_clock_are_found_out() {
    for naive in NAIVE {
        assert!(search(naive, 2).1.is_some(), "{naive:?} was not found out");
    }
}
