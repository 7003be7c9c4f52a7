//! m of n approve, over exactly what they saw; one denies; and the ways to cheat.

use serde_json::{Value, json};
use shared::role::Role;
use tests::{World, assert_whole, receipt};

use super::{REASON, act, ask, colleague, id_of, set_policy, show};

#[tokio::test]
async fn two_of_three_approve_and_the_clock_starts_then() -> anyhow::Result<()> {
    let world = World::start().await?;
    let admin = set_policy(&world, json!({"approvals_needed": 2})).await?;
    let member = world.sign_in(Role::Member).await?;
    let manager = world.sign_in(Role::Manager).await?;
    let asked = ask(&member, json!({"reason": REASON, "duration_seconds": 600})).await?.expect(201);
    assert_eq!(asked.body["receipt"], Value::Null);
    let grant = &asked.body["grant"];
    assert_eq!((&grant["state"], &grant["approvals_needed"]), (&json!("pending"), &json!(2)));
    assert_eq!((&grant["activated_at"], &grant["expires_at"]), (&Value::Null, &Value::Null));
    assert_eq!(world.demand_admin(&member).await?, [403; 3]);

    let body = json!({"comment": "Seen it", "request_digest": grant["request_digest"]});
    let first = act(&manager, grant, "approve", body.clone()).await?.expect(200).body;
    assert_eq!((&first["grant"]["state"], &first["receipt"]), (&json!("pending"), &Value::Null));
    assert_eq!(first["grant"]["approvals"].as_array().map(Vec::len), Some(1));
    assert_eq!(first["grant"]["approvals"][0]["comment"], "Seen it");
    let again = act(&manager, grant, "approve", body.clone()).await?.expect(409);
    assert_eq!(again.code(), "already-decided");
    assert_eq!(world.demand_admin(&member).await?, [403; 3], "one is not two");

    let second = act(&admin, grant, "approve", json!({})).await?.expect(200).body;
    assert_whole(&receipt(&second)?, 3, 0);
    assert_eq!(second["grant"]["state"], "active");
    assert_eq!(world.demand_admin(&member).await?, [200; 3]);
    let left = second["grant"]["remaining_seconds"].as_u64().unwrap_or(0);
    assert!((595..=600).contains(&left), "the clock starts at activation: {left}");
    let late = act(&admin, grant, "deny", json!({})).await?.expect(409);
    assert_eq!(late.code(), "already-decided");

    // Nobody's own approval is in it, and the record names each.
    let record = admin.get("/v1/audit?action=grant.approved").await?.expect(200).body;
    let actors: Vec<_> = record["entries"]
        .as_array()
        .map_or(vec![], |entries| entries.iter().map(|entry| entry["actor"].clone()).collect());
    assert_eq!(actors, [id_of(&admin).await?, id_of(&manager).await?]);

    world.end().await;
    Ok(())
}

#[tokio::test]
async fn one_denial_ends_a_request_for_good() -> anyhow::Result<()> {
    let world = World::start().await?;
    let admin = set_policy(&world, json!({"approvals_needed": 1})).await?;
    let member = world.sign_in(Role::Member).await?;
    let asked = ask(&member, json!({"reason": REASON})).await?.expect(201);
    let grant = &asked.body["grant"];
    let denied = act(&admin, grant, "deny", json!({"comment": "Not now"})).await?.expect(200).body;
    assert_eq!((&denied["grant"]["state"], &denied["receipt"]), (&json!("denied"), &Value::Null));
    assert_eq!(denied["grant"]["end_reason"], "Not now");
    assert_eq!(denied["grant"]["ended_by"]["email"], "admin@acme.test");
    let manager = world.sign_in(Role::Manager).await?;
    for (client, verb, code) in [
        (&manager, "approve", "already-decided"),
        (&manager, "deny", "already-decided"),
        (&manager, "revoke", "grant-ended"),
        (&member, "cancel", "grant-ended"),
    ] {
        let refused = act(client, grant, verb, json!({})).await?.expect(409);
        assert_eq!(refused.code(), code, "{verb}");
    }
    assert_eq!(world.demand_admin(&member).await?, [403; 3]);
    let timers: i64 = sqlx::query_scalar("SELECT count(*) FROM timers WHERE subject_id = $1::uuid")
        .bind(grant["id"].as_str())
        .fetch_one(&world.pool)
        .await?;
    assert_eq!(timers, 0, "nothing is left behind");

    world.end().await;
    Ok(())
}

#[tokio::test]
async fn the_requester_withdraws_and_nobody_else_does() -> anyhow::Result<()> {
    let world = World::start().await?;
    let admin = set_policy(&world, json!({"approvals_needed": 1})).await?;
    let member = world.sign_in(Role::Member).await?;
    let other = colleague(&world, "olive", Role::Member).await?;
    let asked = ask(&member, json!({"reason": REASON})).await?.expect(201);
    let grant = &asked.body["grant"];
    act(&other, grant, "cancel", json!({})).await?.expect(404);
    act(&admin, grant, "cancel", json!({})).await?.expect(403);
    let refused = act(&member, grant, "revoke", json!({})).await?.expect(409);
    assert_eq!(refused.code(), "conflict");
    let cancelled = act(&member, grant, "cancel", json!({})).await?.expect(200).body;
    assert_eq!(cancelled["grant"]["state"], "cancelled");
    let late = act(&admin, grant, "approve", json!({})).await?.expect(409);
    assert_eq!(late.code(), "grant-ended");
    assert_eq!(world.demand_admin(&member).await?, [403; 3]);
    // Who has nothing pending may ask again.
    let again = json!({"reason": "It is down once more, other cause"});
    let active = ask(&member, again).await?.expect(201).body["grant"].clone();
    act(&admin, &active, "approve", json!({})).await?.expect(200);
    let refused = act(&member, &active, "cancel", json!({})).await?.expect(409);
    assert_eq!(refused.code(), "conflict");

    world.end().await;
    Ok(())
}

#[tokio::test]
async fn nobody_approves_their_own_nor_by_elevation_nor_from_elsewhere() -> anyhow::Result<()> {
    let world = World::start().await?;
    world.create_tenant("other").await?;
    // A member who holds admin rights by a grant that needed nobody.
    let elevated = colleague(&world, "eve", Role::Member).await?;
    elevated.request_grant("Everything is on fire over here", 600).await?;
    let admin = set_policy(&world, json!({"approvals_needed": 1})).await?;
    assert_eq!(elevated.authorize().await?.1, "admin");

    let member = world.sign_in(Role::Member).await?;
    let asked = ask(&member, json!({"reason": REASON})).await?.expect(201);
    let grant = &asked.body["grant"];
    for verb in ["approve", "deny"] {
        let refused = act(&member, grant, verb, json!({})).await?.expect(403);
        assert_eq!(refused.code(), "forbidden");
        let refused = act(&elevated, grant, verb, json!({})).await?.expect(403);
        assert_eq!(refused.code(), "forbidden", "nobody approves by elevation");
        for role in [Role::Admin, Role::Manager] {
            let stranger = world.sign_in_to("other", role).await?;
            act(&stranger, grant, verb, json!({})).await?.expect(404);
        }
    }
    let own = ask(&admin, json!({"reason": REASON})).await?.expect(201);
    for verb in ["approve", "deny"] {
        let refused = act(&admin, &own.body["grant"], verb, json!({})).await?.expect(403);
        assert_eq!(refused.code(), "self-approval");
    }
    assert_eq!(show(&admin, grant).await?["approvals"], json!([]));
    assert_eq!(world.demand_admin(&member).await?, [403; 3]);

    world.end().await;
    Ok(())
}

#[tokio::test]
async fn what_counts_is_who_may_approve_at_the_moment_of_counting() -> anyhow::Result<()> {
    let world = World::start().await?;
    let admin = set_policy(&world, json!({"approvals_needed": 2})).await?;
    let member = world.sign_in(Role::Member).await?;
    let fired = colleague(&world, "fred", Role::Manager).await?;
    let lowered = colleague(&world, "lou", Role::Manager).await?;
    let manager = world.sign_in(Role::Manager).await?;
    let asked = ask(&member, json!({"reason": REASON})).await?.expect(201);
    let grant = &asked.body["grant"];
    let (fired_id, lowered_id) = (id_of(&fired).await?, id_of(&lowered).await?);
    act(&fired, grant, "approve", json!({})).await?.expect(200);
    let patch = async |id: &Value, body: Value| {
        let path = format!("/v1/users/{}", id.as_str().unwrap_or_default());
        admin.send(reqwest::Method::PATCH, &path, Some(body)).await
    };
    patch(&fired_id, json!({"disabled": true})).await?.expect(200);
    let waits = act(&lowered, grant, "approve", json!({})).await?.expect(200).body;
    assert_eq!(waits["grant"]["state"], "pending", "who is disabled does not count");
    patch(&lowered_id, json!({"role": "member"})).await?.expect(200);
    let waits = act(&manager, grant, "approve", json!({})).await?.expect(200).body;
    assert_eq!(waits["grant"]["state"], "pending", "who is lowered does not count");
    // The policy may want more, or others, by now.
    set_policy(&world, json!({"approvals_needed": 3, "approvers": ["admin"]})).await?;
    let refused = act(&manager, grant, "deny", json!({})).await?.expect(403);
    assert_eq!(refused.code(), "forbidden");
    let waits = act(&admin, grant, "approve", json!({})).await?.expect(200).body;
    assert_eq!(
        (&waits["grant"]["state"], &waits["grant"]["approvals_needed"]),
        (&json!("pending"), &json!(3))
    );
    // And less by now is no less for who asked before.
    set_policy(&world, json!({"approvals_needed": 0, "approvers": ["manager", "admin"]})).await?;
    patch(&lowered_id, json!({"role": "manager"})).await?.expect(200);
    let refused = act(&admin, grant, "approve", json!({})).await?.expect(409);
    assert_eq!(refused.code(), "already-decided");
    assert_eq!(show(&admin, grant).await?["state"], "pending");

    world.end().await;
    Ok(())
}

#[tokio::test]
async fn an_approval_is_of_the_request_that_was_seen() -> anyhow::Result<()> {
    let world = World::start().await?;
    let admin = set_policy(&world, json!({"approvals_needed": 1})).await?;
    let member = world.sign_in(Role::Member).await?;
    let asked = ask(&member, json!({"reason": REASON})).await?.expect(201);
    let grant = &asked.body["grant"];
    for digest in ["", "00", &"0".repeat(64)] {
        let body = json!({"request_digest": digest});
        let refused = act(&admin, grant, "approve", body).await?.expect(409);
        assert_eq!(refused.code(), "request-changed");
    }
    // A policy that grants something else by now activates nothing of before.
    set_policy(&world, json!({"role": "manager"})).await?;
    let body = json!({"request_digest": grant["request_digest"]});
    let refused = act(&admin, grant, "approve", body.clone()).await?.expect(409);
    assert_eq!(refused.code(), "conflict");
    assert_eq!(show(&admin, grant).await?["approvals"], json!([]));
    set_policy(&world, json!({"role": "admin"})).await?;
    act(&admin, grant, "approve", body).await?.expect(200);
    assert_eq!(world.demand_admin(&member).await?, [200; 3]);

    world.end().await;
    Ok(())
}

#[tokio::test]
async fn approvals_in_parallel_activate_once() -> anyhow::Result<()> {
    let world = World::start().await?;
    let admin = set_policy(&world, json!({"approvals_needed": 2})).await?;
    let member = world.sign_in(Role::Member).await?;
    let mut approvers = vec![admin.clone(), world.sign_in(Role::Manager).await?];
    for name in ["ann", "bea"] {
        approvers.push(colleague(&world, name, Role::Manager).await?);
    }
    let asked = ask(&member, json!({"reason": REASON, "duration_seconds": 600})).await?.expect(201);
    let grant = &asked.body["grant"];
    let at_once = approvers.iter().flat_map(|client| {
        (0..2).map(move |_| async move { act(client, grant, "approve", json!({})).await })
    });
    let answers = futures_util::future::try_join_all(at_once).await?;
    let activated: Vec<_> =
        answers.iter().filter(|answer| answer.body["receipt"].is_object()).collect();
    assert_eq!(activated.len(), 1, "one of them, once");
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 2);
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        assert_eq!(answer.code(), "already-decided");
    }
    let records: i64 =
        sqlx::query_scalar("SELECT count(*) FROM audit WHERE action = 'grant.activated'")
            .fetch_one(&world.pool)
            .await?;
    assert_eq!(records, 1);
    assert_eq!(world.demand_admin(&member).await?, [200; 3]);

    world.end().await;
    Ok(())
}
