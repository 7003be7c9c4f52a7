//! Grants, as the contract has them.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::{
    Person,
    stub::{Answer, Request, Stub, ok, problem},
};

const ID: &str = "01a20386-a8c9-79c6-91ae-41c83c3686e6";
const MIA: &str = "01a20386-7caf-7413-92e8-22dc8f7b8abe";

fn grant(id: &str, state: &str) -> Value {
    let began = (state == "active").then_some("2026-11-22T13:51:26Z");
    json!({
        "id": id, "state": state,
        "user": {"id": "01a20386-7caf-7413-92e8-000000000000", "email": "eve@acme.test", "name": "Eve"},
        "role": "admin", "reason": "Checkout is down", "ticket": "INC-42",
        "requested_at": "2026-11-22T13:50:00Z", "activated_at": began,
        "expires_at": began.map(|_| "2026-11-22T14:51:26Z"),
        "remaining_seconds": began.map(|_| 3600), "approvals": [], "approvals_needed": 1,
        "ended_at": null, "ended_by": null, "end_reason": null, "extended_from": null,
        "request_digest": "d1g357", "review": null,
    })
}

fn receipt(acknowledged: u32) -> Value {
    let waiting = if acknowledged == 3 { json!([]) } else { json!(["gateway-3"]) };
    json!({
        "revision": 7, "enforced": acknowledged == 3, "took_ms": 4,
        "edges": {"total": 3, "acknowledged": acknowledged, "fenced": 0, "waiting": waiting},
    })
}

fn me() -> Answer {
    ok(&json!({
        "user": {"id": MIA, "email": "mia@acme.test", "name": "Mia", "role": "manager"},
        "tenant": {"id": "t", "slug": "acme", "name": "Acme"},
        "session": {"id": ID, "device": {"label": "x"}, "created_at": "2026-11-22T13:51:26Z",
            "last_active_at": "2026-11-22T13:51:26Z", "expires_at": "2026-11-23T01:51:26Z"},
        "permissions": [], "elevation": null, "mfa": {},
    }))
}

/// A server with one request that is pending, and what it answers to changes.
fn stub(change: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Stub {
    Stub::start(move |request| match (request.method.as_str(), request.path.split('?').next()) {
        ("GET", Some("/v1/me")) => me(),
        ("GET", Some("/v1/emergency/grants")) => {
            let listed = if request.path.contains("state=active") {
                json!([])
            } else {
                json!([grant(ID, "pending")])
            };
            ok(&json!({"grants": listed, "next_cursor": null}))
        }
        ("GET", Some(path)) if path.ends_with(ID) => ok(&json!({"grant": grant(ID, "pending")})),
        ("GET", Some("/v1/emergency/policy")) => problem(403, "forbidden"),
        _ => change(request),
    })
}

fn last(stub: &Stub) -> Request {
    stub.asked().pop().expect("something was asked")
}

#[test]
fn an_approval_is_about_exactly_what_was_shown() {
    let stub = stub(|_| ok(&json!({"grant": grant(ID, "active"), "receipt": receipt(3)})));
    let person = Person::signed_in(&[stub.url()]);
    for id in [&["3c3686e6"][..], &[ID], &[]] {
        let words = [&["approve"], id, &["--yes", "--comment", "Go ahead"]].concat();
        let shown =
            ["Grant 3c3686e6: pending", "Eve <eve@acme.test>", "Checkout is down", "INC-42"];
        let ended = person.run(&words).expect(0, &shown);
        assert!(ended.out.starts_with("Approved: Eve <eve@acme.test> is admin until"), "{ended:?}");
        assert!(ended.out.contains("3 of 3 edges enforce this · 4 ms"), "{ended:?}");
        let asked = last(&stub);
        assert_eq!(asked.line(), format!("POST /v1/emergency/grants/{ID}/approve"));
        assert_eq!(asked.body, json!({"request_digest": "d1g357", "comment": "Go ahead"}));
    }
    // Where nobody can be asked, nobody has said yes.
    let before = stub.asked().len();
    person.run(&["approve", "86e6"]).expect(2, &["--yes"]);
    assert!(stub.asked()[before..].iter().all(|asked| asked.method == "GET"));
}

#[test]
fn an_approval_of_something_else_is_refused_with_advice() {
    let stub = stub(|_| problem(409, "request-changed"));
    let person = Person::signed_in(&[stub.url()]);
    person.run(&["approve", "--yes"]).expect(1, &["request-changed", "Look at it again"]);
    person.run(&["deny", "--yes"]).expect(1, &["request-changed"]);
    assert_eq!(last(&stub).body, json!({"request_digest": "d1g357"}));
}

#[test]
fn an_approval_that_is_not_enough_says_how_many_there_are() {
    let stub = stub(|_| {
        let mut pending = grant(ID, "pending");
        let ada = json!({"id": "a", "email": "ada@acme.test", "name": "Ada"});
        let decided = json!({"user": ada, "decision": "approve", "comment": null, "at": "2026-11-22T13:51:26Z"});
        pending["approvals"] = json!([decided]);
        pending["approvals_needed"] = json!(2);
        ok(&json!({"grant": pending, "receipt": null}))
    });
    let person = Person::signed_in(&[stub.url()]);
    person.run(&["approve", "--yes"]).expect(0, &["Approved: 1 of 2 approvals so far."]);
}

#[test]
fn a_request_that_waits_is_not_in_effect() {
    let stub = stub(|_| ok(&json!({"grant": grant(ID, "pending"), "receipt": null})));
    let person = Person::signed_in(&[stub.url()]);
    let words =
        ["request", "-r", "Checkout is down", "-f", "1h30m", "-t", "INC-42", "--bypass-approval"];
    let said = ["waits for approval", "breakglass approve 3c3686e6", "breakglass cancel 3c3686e6"];
    person.run(&words).expect(5, &said);
    let asked = stub.asked().into_iter().find(|asked| asked.method == "POST").expect("asked");
    assert_eq!(
        asked.body,
        json!({
            "reason": "Checkout is down", "duration_seconds": 5400, "ticket": "INC-42",
            "bypass_approval": true,
        })
    );
    let ended = person.run(&["--json", "request", "-r", "Checkout is down"]).expect(5, &[]);
    assert_eq!(ended.json()["grant"]["state"], "pending");
    assert!(ended.err.is_empty(), "{ended:?}");
    // Without a terminal nobody can be asked for the reason.
    person.run(&["request"]).expect(2, &["--reason is missing"]);
}

/// A server where the request is decided when it is looked at for the third time.
fn deciding(decided: Value) -> Stub {
    let looked = AtomicUsize::new(0);
    Stub::start(move |request| match request.method.as_str() {
        "POST" => ok(&json!({"grant": grant(ID, "pending"), "receipt": null})),
        _ if request.path.ends_with("policy") => problem(404, "not-found"),
        // It may be away for a moment.
        _ => match looked.fetch_add(1, Ordering::Relaxed) {
            0 => Vec::new(),
            1 => ok(&json!({"grant": grant(ID, "pending")})),
            _ => ok(&json!({"grant": decided})),
        },
    })
}

#[test]
fn waiting_ends_with_the_approval() {
    let stub = deciding(grant(ID, "active"));
    let words = ["--json", "request", "-r", "Checkout is down", "--wait"];
    let ended = Person::signed_in(&[stub.url()]).run(&words).expect(0, &["Waiting for approval"]);
    assert_eq!(ended.json()["grant"]["state"], "active");
}

#[test]
fn waiting_ends_with_the_denial() {
    let mut denial = grant(ID, "denied");
    denial["approvals"] = json!([{
        "user": {"id": "a", "email": "ada@acme.test", "name": "Ada"}, "decision": "deny",
        "comment": "Call me first", "at": "2026-11-22T13:51:26Z",
    }]);
    let stub = deciding(denial);
    let words = ["request", "-r", "Checkout is down", "--wait"];
    let said = "Denied by Ada <ada@acme.test>: Call me first";
    Person::signed_in(&[stub.url()]).run(&words).expect(1, &[said]);
}

#[test]
fn waiting_ends_where_somebody_does_not_want_to_wait_longer() {
    let stub = deciding(grant(ID, "pending"));
    let words = ["request", "-r", "Checkout is down", "--wait=3s"];
    Person::signed_in(&[stub.url()]).run(&words).expect(5, &["waits for approval"]);
}

#[test]
fn a_receipt_is_asked_for_until_every_edge_enforces() {
    let asked = AtomicUsize::new(0);
    let stub = Stub::start(move |request| match request.path.as_str() {
        "/v1/receipts/7" if asked.fetch_add(1, Ordering::Relaxed) == 0 => {
            problem(503, "unavailable")
        }
        "/v1/receipts/7" => ok(&json!({"receipt": receipt(3)})),
        _ => ok(&json!({"grant": grant(ID, "revoked"), "receipt": receipt(2)})),
    });
    let person = Person::signed_in(&[stub.url()]);
    let ended = person.run(&["revoke", ID, "--comment", "Done"]);
    let ended = ended.expect(0, &["2 of 3 edges enforce this, not yet gateway-3"]);
    assert!(ended.out.contains("3 of 3 edges enforce this"), "{ended:?}");
    assert_eq!(stub.asked()[0].body, json!({"comment": "Done"}));
    let ended = person.run(&["--json", "revoke", ID]).expect(0, &[]);
    assert_eq!(ended.json()["receipt"], receipt(3));
    // Asked for by itself it is told as it is.
    let waits = Stub::start(|_| ok(&json!({"receipt": receipt(1)})));
    let person = Person::signed_in(&[waits.url()]);
    person.run(&["receipt", "7"]).expect(5, &["1 of 3 edges enforces this, not yet gateway-3"]);
}

#[test]
fn a_code_goes_with_the_request_that_needs_it() {
    let stub = stub(|request| match request.body["code"].as_str() {
        Some("123456") => ok(&json!({"grant": grant(ID, "active"), "receipt": receipt(3)})),
        _ => problem(403, "fresh-mfa-required"),
    });
    let person = Person::signed_in(&[stub.url()]);
    let request = ["request", "-r", "Checkout is down"];
    person.run(&request).expect(4, &["fresh-mfa-required", "--code 123456"]);
    person.run(&[&request[..], &["--code", "123456"]].concat()).expect(0, &["You are admin"]);
    let extend = ["extend", ID, "-r", "Not done yet", "-f", "10m", "--code", "123456"];
    person.run(&extend).expect(0, &["You are admin"]);
    let asked = last(&stub);
    assert_eq!(asked.line(), format!("POST /v1/emergency/grants/{ID}/extend"));
    assert_eq!(
        asked.body,
        json!({"reason": "Not done yet", "duration_seconds": 600, "code": "123456"})
    );
}

#[test]
fn an_id_that_fits_several_is_refused_and_more_of_it_is_not() {
    let other = "01a20386-a8c9-79c6-91ae-000000aa86e6";
    let stub = Stub::start(move |request| match request.path.as_str() {
        path if path.starts_with("/v1/emergency/grants?") && path.contains("state=active") => {
            ok(&json!({"grants": [grant(other, "active")], "next_cursor": null}))
        }
        path if path.starts_with("/v1/emergency/grants?") && !path.contains("cursor") => {
            ok(&json!({"grants": [grant(ID, "expired")], "next_cursor": ID}))
        }
        path if path.starts_with("/v1/emergency/grants?") => {
            ok(&json!({"grants": [grant(other, "active")], "next_cursor": null}))
        }
        path => {
            let id = path.split('/').nth(4).unwrap_or_default();
            ok(&json!({"grant": grant(id, "active"), "receipt": receipt(3)}))
        }
    });
    let person = Person::signed_in(&[stub.url()]);
    person.run(&["show", "86e6"]).expect(1, &["Several ids end in 86e6", ID, other]);
    person.run(&["show", "3686E6"]).expect(0, &["Grant 3c3686e6"]);
    // Only one of them can be revoked.
    person.run(&["revoke", "86e6"]).expect(0, &["Revoked 00aa86e6"]);
    person.run(&["show", "ffff"]).expect(1, &["no grant that you can see"]);
    for bad in ["6e6", "../../me", "86e6/approve", "86e6?x"] {
        person.run(&["show", bad]).expect(2, &["at least the last 4 characters"]);
    }
}

fn evidence() -> Value {
    let action = |minute: &str, count: u32, allowed: bool, method: &str, path: &str| {
        let host = if method.is_empty() { "" } else { "shop.test" };
        json!({"minute": minute, "count": count, "allowed": allowed, "method": method, "host": host, "path": path})
    };
    let eve = "01a20386-7caf-7413-92e8-000000000000";
    json!({
        "grant": grant(ID, "expired"), "policy": null, "session_id": ID, "extended_by": null,
        "record": [
            {"seq": 7, "at": "2026-11-22T13:51:26Z", "actor": eve, "action": "grant.activated",
             "target": "grant:01a20386", "ip": null, "detail": {}},
            {"seq": 9, "at": "2026-11-22T13:52:26Z", "actor": "expiry-worker", "action": "grant.expired",
             "target": null, "ip": null, "detail": {}},
        ],
        "record_total": 7,
        "actions": [
            action("2026-11-22T13:51:00Z", 3, true, "GET", "/orders\u{1b}[2J"),
            action("2026-11-22T13:52:00Z", 1, false, "PUT", "/tenant"),
            action("2026-11-22T13:52:00Z", 900, true, "", ""),
        ],
        "actions_total": 3, "generated_at": "2026-11-22T13:53:00Z",
    })
}

#[test]
fn a_review_and_the_evidence() {
    let stub = stub(|request| match request.path.as_str() {
        path if path.ends_with("/review") => ok(&json!({"grant": grant(ID, "expired")})),
        path if path.ends_with("/evidence") => ok(&evidence()),
        path if path.ends_with("/cancel") => ok(&json!({"grant": grant(ID, "cancelled")})),
        _ => problem(404, "not-found"),
    });
    let person = Person::signed_in(&[stub.url()]);
    let words = ["review", "86e6", "--outcome", "misuse", "--note", "Was not needed"];
    person.run(&words).expect(0, &["Reviewed as misuse"]);
    assert_eq!(last(&stub).body, json!({"outcome": "misuse", "note": "Was not needed"}));
    person.run(&["review", "86e6", "--outcome", "misuse"]).expect(2, &["--note is missing"]);
    assert_eq!(person.run(&["--json", "evidence", "86e6"]).expect(0, &[]).json(), evidence());
    let ended = person.run(&["evidence", "86e6"]).expect(0, &["Eve <eve@acme.test>", "INC-42"]);
    for row in [
        "Sun 22 Nov 13:51  eve@acme.test  grant.activated  grant:01a20386",
        "Sun 22 Nov 13:52  expiry-worker  grant.expired",
        "and 5 more",
        "Sun 22 Nov 13:51  3      allowed  GET     shop.test/orders\\u{1b}[2J",
        "Sun 22 Nov 13:52  1      refused  PUT     shop.test/tenant",
        "Sun 22 Nov 13:52  900    allowed          too many different ones to tell",
    ] {
        assert!(ended.out.contains(row), "{row}:\n{}", ended.out);
    }
    person.run(&["cancel"]).expect(0, &["Withdrawn: request 3c3686e6"]);
    assert_eq!(last(&stub).line(), format!("POST /v1/emergency/grants/{ID}/cancel"));
}
