//! Grants: several at once, ended by others, over the end of a session, and how long they are.

use std::time::Duration;

use serde_json::{Value, json};
use shared::{
    clock::{Clock as _, SystemClock},
    id::GrantId,
    message::{Caller, Origin, grant::RequestGrant},
    refusal::Code,
    role::Role,
    token::Token,
};
use tests::{Client, World, assert_whole, eventually, receipt};

const REVOKED: &str = "This is over, as far as we can see";

/// What each edge says: the effective role and the grant that it is due to.
async fn shown(world: &World, client: &Client) -> anyhow::Result<Vec<(String, String)>> {
    let mut shown = Vec::new();
    for edge in world.at_all_edges(client) {
        let answer = edge.get("/authorize").await?.expect(200);
        let headers = ["x-auth-role", "x-auth-emergency-grant"];
        let [role, grant] = headers.map(|name| answer.header(name).to_owned());
        shown.push((role, grant));
    }
    Ok(shown)
}

fn everywhere(role: &str, grant: &Value) -> Vec<(String, String)> {
    let id = grant["id"].as_str().unwrap_or("").to_owned();
    vec![(role.to_owned(), id); 3]
}

#[tokio::test]
async fn overlapping_grants_take_nothing_from_each_other() -> anyhow::Result<()> {
    let world = World::start().await?;
    let member = world.sign_in(Role::Member).await?;
    assert_eq!(shown(&world, &member).await?, everywhere("member", &Value::Null));

    let short = member.request_grant("Checkout is down since the release", 600).await?;
    assert_eq!(shown(&world, &member).await?, everywhere("admin", &short["grant"]));
    // From now on the tenant's policy gives less, for longer.
    let lowered =
        sqlx::query("UPDATE emergency_policies SET role = 'manager'").execute(&world.pool).await?;
    assert_eq!(lowered.rows_affected(), 1);
    let low = member.request_grant("Customers have to be told about it", 3_600).await?;
    assert_eq!(low["grant"]["role"], "manager");
    assert_eq!(shown(&world, &member).await?, everywhere("admin", &short["grant"]));
    sqlx::query("UPDATE emergency_policies SET role = 'admin'").execute(&world.pool).await?;
    let long = member.request_grant("The database has to be repaired too", 1_200).await?;
    assert_eq!(shown(&world, &member).await?, everywhere("admin", &long["grant"]));

    let active = member.get("/v1/emergency/grants?state=active").await?.expect(200).body;
    assert_eq!(active["grants"].as_array().map(Vec::len), Some(3));
    let fourth = json!({"reason": "One more thing has broken over there"});
    let refused = member.post("/v1/emergency/grants", fourth).await?.expect(409);
    assert_eq!(refused.code(), "too-many-active");

    let ended = member.revoke_grant(&long["grant"], REVOKED).await?.expect(200).body;
    assert_whole(&receipt(&ended)?, 3, 0);
    assert_eq!(shown(&world, &member).await?, everywhere("admin", &short["grant"]));
    let ended = member.revoke_grant(&short["grant"], REVOKED).await?.expect(200).body;
    assert_whole(&receipt(&ended)?, 3, 0);
    assert_eq!(shown(&world, &member).await?, everywhere("manager", &low["grant"]));
    assert_eq!(world.demand_admin(&member).await?, [403; 3]);
    let ended = member.revoke_grant(&low["grant"], REVOKED).await?.expect(200).body;
    assert_whole(&receipt(&ended)?, 3, 0);
    assert_eq!(shown(&world, &member).await?, everywhere("member", &Value::Null));
    let active = member.get("/v1/emergency/grants?state=active").await?.expect(200).body;
    assert_eq!(active["grants"], json!([]));

    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_manager_ends_a_members_grant() -> anyhow::Result<()> {
    let world = World::start().await?;
    let member = world.sign_in(Role::Member).await?;
    let manager = world.sign_in(Role::Manager).await?;
    let granted = member.request_grant("Checkout is down since the release", 600).await?;
    assert_eq!(world.demand_admin(&member).await?, [200; 3]);

    let ended = manager.revoke_grant(&granted["grant"], REVOKED).await?.expect(200).body;
    assert_whole(&receipt(&ended)?, 3, 0);
    assert_eq!(world.demand_admin(&member).await?, [403; 3]);
    assert_eq!(world.authorize(&member).await?, vec![(200, "member".to_owned()); 3]);
    assert_eq!(ended["grant"]["state"], "revoked");
    assert_eq!(ended["grant"]["remaining_seconds"], Value::Null);
    assert_eq!(ended["grant"]["user"]["email"], "member@acme.test");
    assert_eq!(ended["grant"]["ended_by"]["email"], "manager@acme.test");
    assert_eq!(ended["grant"]["end_reason"], REVOKED);
    // Nothing of it is the manager's.
    assert_eq!(world.authorize(&manager).await?, vec![(200, "manager".to_owned()); 3]);

    let again = member.revoke_grant(&granted["grant"], REVOKED).await?.expect(409);
    assert_eq!(again.code(), "grant-ended");
    let audit = manager.get("/v1/audit?action=grant.revoked").await?.expect(200).body;
    assert_eq!(audit["entries"].as_array().map(Vec::len), Some(1));
    assert_eq!(audit["entries"][0]["actor"], ended["grant"]["ended_by"]["id"]);

    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_grant_outlives_signing_out() -> anyhow::Result<()> {
    let world = World::start().await?;
    let first = world.sign_in(Role::Member).await?;
    let granted = first.request_grant("Checkout is down since the release", 600).await?;
    assert_eq!(shown(&world, &first).await?, everywhere("admin", &granted["grant"]));

    first.post("/v1/logout", json!({})).await?.expect(204);
    assert_eq!(world.authorize(&first).await?, vec![(401, String::new()); 3]);
    let second = world.sign_in(Role::Member).await?;
    assert_eq!(shown(&world, &second).await?, everywhere("admin", &granted["grant"]));
    assert_eq!(world.authorize(&first).await?, vec![(401, String::new()); 3]);

    let ended = second.revoke_grant(&granted["grant"], REVOKED).await?.expect(200).body;
    assert_whole(&receipt(&ended)?, 3, 0);
    assert_eq!(shown(&world, &second).await?, everywhere("member", &Value::Null));

    world.end().await;
    Ok(())
}

async fn remaining(client: &Client, grant: &Value) -> anyhow::Result<u64> {
    let id = grant["id"].as_str().unwrap_or_default();
    let answer = client.get(&format!("/v1/emergency/grants/{id}")).await?.expect(200);
    Ok(answer.body["grant"]["remaining_seconds"].as_u64().unwrap_or(0))
}

#[tokio::test]
async fn an_hour_unless_asked_for_and_four_at_most() -> anyhow::Result<()> {
    let world = World::start().await?;
    let member = world.sign_in(Role::Member).await?;
    let ask = async |reason: &str, seconds: Option<u32>| {
        let mut body = json!({"reason": reason});
        if let Some(seconds) = seconds {
            body["duration_seconds"] = seconds.into();
        }
        member.post("/v1/emergency/grants", body).await
    };
    let (limit, hour) = (14_400, 3_600);

    let usual = ask("Checkout is down since the release", None).await?.expect(201).body;
    let before = remaining(&member, &usual["grant"]).await?;
    assert!((hour - 30..=hour).contains(&before), "{before}");
    let longest = ask("The database has to be repaired too", Some(limit)).await?.expect(201).body;
    let left = remaining(&member, &longest["grant"]).await?;
    assert!((u64::from(limit) - 30..=u64::from(limit)).contains(&left), "{left}");
    let refused = ask("It will take all night, if not longer", Some(limit + 1)).await?.expect(422);
    assert_eq!(refused.code(), "duration-too-long");
    let active = member.get("/v1/emergency/grants?state=active").await?.expect(200).body;
    assert_eq!(
        active["grants"].as_array().map(Vec::len),
        Some(2),
        "what is refused changes nothing"
    );

    // It is not the end that moves.
    eventually("the time remaining shrinks", || async {
        remaining(&member, &usual["grant"]).await.is_ok_and(|now| now < before)
    })
    .await?;
    let id = usual["grant"]["id"].as_str().unwrap_or_default();
    let now = member.get(&format!("/v1/emergency/grants/{id}")).await?.expect(200).body;
    assert_eq!(now["grant"]["expires_at"], usual["grant"]["expires_at"]);

    world.end().await;
    Ok(())
}

#[tokio::test]
async fn the_same_request_twice_makes_one_grant() -> anyhow::Result<()> {
    let world = World::start().await?;
    let member = world.sign_in(Role::Member).await?;
    let bus = world.bus_of("gateway-1").await?;
    let token: Token = member.token.as_deref().unwrap_or_default().parse()?;
    let request = RequestGrant {
        caller: Caller { token: token.hash(), origin: Origin::default(), unattended: false },
        grant_id: GrantId::new(SystemClock.wall()),
        reason: "Checkout is down since the release".to_owned(),
        duration_seconds: Some(600),
        role: None,
        ticket: None,
        code: None,
        bypass_approval: false,
    };

    // At the same time, and once more when all is over: as a bus that repeats messages may do it.
    let ask = || bus.request_within(&request, Duration::from_secs(10));
    let at_once = futures_util::future::join_all((0..4).map(|_| ask())).await;
    let answers = at_once.into_iter().collect::<Result<Vec<_>, _>>()?;
    assert_eq!(answers.iter().filter(|answer| answer.receipt.is_some()).count(), 1);
    let late = ask().await?;
    assert_eq!(late.receipt, None);
    for answer in answers.iter().chain([&late]) {
        assert_eq!(answer.grant.id, request.grant_id);
        assert_eq!(answer.grant.expires_at, late.grant.expires_at);
    }
    let grants: i64 =
        sqlx::query_scalar("SELECT count(*) FROM emergency_grants").fetch_one(&world.pool).await?;
    let records = "SELECT count(*) FROM audit WHERE action = 'grant.activated'";
    let records: i64 = sqlx::query_scalar(records).fetch_one(&world.pool).await?;
    assert_eq!((grants, records), (1, 1));
    assert_eq!(world.demand_admin(&member).await?, [200; 3]);

    // Ended, it stays ended, however often the message comes.
    let ended =
        member.revoke_grant(&json!({"id": request.grant_id}), REVOKED).await?.expect(200).body;
    assert_whole(&receipt(&ended)?, 3, 0);
    assert!(ask().await?.grant.ended_at.is_some());
    assert_eq!(world.demand_admin(&member).await?, [403; 3]);

    // The id is the grant's, and nobody else's.
    let manager = world.sign_in(Role::Manager).await?;
    let token: Token = manager.token.as_deref().unwrap_or_default().parse()?;
    let stolen = RequestGrant {
        caller: Caller { token: token.hash(), ..request.caller.clone() },
        ..request.clone()
    };
    let refused = bus.request(&stolen).await.expect_err("another user's grant");
    assert_eq!(refused.code, Code::Conflict);

    world.end().await;
    Ok(())
}
