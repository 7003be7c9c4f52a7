//! The whole story of a grant as one document, with what was done under it.

use reqwest::Method;
use serde_json::{Value, json};
use shared::role::Role;
use tests::{Answer, Client, World, eventually};

use super::{REASON, act, ask, colleague, set_policy};

/// Asks an edge as a reverse proxy does.
async fn proxied(client: &Client, method: &str, uri: &str, query: &str) -> anyhow::Result<u16> {
    let request = client
        .request(Method::GET, &format!("/authorize{query}"))
        .header("x-forwarded-method", method)
        .header("x-forwarded-host", "shop.test")
        .header("x-forwarded-uri", uri);
    Ok(Answer::to(request).await?.status.as_u16())
}

async fn evidence(client: &Client, grant: &Value) -> anyhow::Result<Value> {
    let id = grant["id"].as_str().unwrap_or_default();
    let path = format!("/v1/emergency/grants/{id}/evidence");
    Ok(client.get(&path).await?.expect(200).body)
}

/// What was done, however often a minute began meanwhile.
fn tally(evidence: &Value) -> Vec<(String, String, bool, u64)> {
    let mut tally = std::collections::BTreeMap::new();
    for row in evidence["actions"].as_array().into_iter().flatten() {
        let text = |field: &str| row[field].as_str().unwrap_or_default().to_owned();
        let allowed = row["allowed"].as_bool().unwrap_or_default();
        assert_eq!(row["host"], "shop.test");
        *tally.entry((text("method"), text("path"), allowed)).or_insert(0) +=
            row["count"].as_u64().unwrap_or_default();
    }
    tally
        .into_iter()
        .map(|((method, path, allowed), count)| (method, path, allowed, count))
        .collect()
}

#[tokio::test]
async fn what_is_done_under_a_grant_shows_in_its_evidence_and_nothing_else_does()
-> anyhow::Result<()> {
    let world = World::start().await?;
    let admin = set_policy(&world, json!({"approvals_needed": 1})).await?;
    let member = world.sign_in(Role::Member).await?;
    proxied(&member, "GET", "/before", "").await?;
    let asked = ask(&member, json!({"reason": REASON, "ticket": "INC-1"})).await?.expect(201).body;
    let grant = &asked["grant"];
    act(&admin, grant, "approve", json!({"comment": "Go"})).await?.expect(200);
    let edges = world.at_all_edges(&member);
    for edge in &edges {
        assert_eq!(proxied(edge, "GET", "/orders?token=secret", "").await?, 200);
    }
    assert_eq!(proxied(&edges[1], "DELETE", "/orders/7", "?role=admin").await?, 200);
    assert_eq!(proxied(&edges[2], "PUT", "/tenant", "?permission=tenant.manage").await?, 403);
    // Under nobody's grant.
    let other = colleague(&world, "olive", Role::Member).await?;
    proxied(&other, "GET", "/others", "").await?;
    // Inside Breakglass it is on record.
    member.get("/v1/audit").await?.expect(200);
    let sid = other.get("/v1/me").await?.expect(200).body["session"]["id"].clone();
    let uid = other.get("/v1/me").await?.expect(200).body["user"]["id"].clone();
    let path = format!(
        "/v1/users/{}/sessions/{}",
        uid.as_str().unwrap_or_default(),
        sid.as_str().unwrap_or_default(),
    );
    member.delete(&path).await?.expect(200);
    act(&member, grant, "revoke", json!({"comment": "Done"})).await?.expect(200);
    proxied(&member, "GET", "/after", "").await?;
    let review = json!({"note": "As it should be", "outcome": "justified"});
    act(&admin, grant, "review", review).await?.expect(200);

    let expected = [
        ("DELETE".to_owned(), "/orders/7".to_owned(), true, 1),
        ("GET".to_owned(), "/orders".to_owned(), true, 3),
        ("PUT".to_owned(), "/tenant".to_owned(), false, 1),
    ];
    eventually("all edges have told what was done", || async {
        evidence(&admin, grant).await.is_ok_and(|evidence| tally(&evidence) == expected)
    })
    .await?;
    let whole = evidence(&admin, grant).await?;
    assert!(!whole.to_string().contains("secret"), "queries are nobody's business");
    assert_eq!(whole["actions_total"], whole["actions"].as_array().map_or(0, Vec::len));
    assert_eq!(whole["grant"]["ticket"], "INC-1");
    assert_eq!(whole["grant"]["approvals"][0]["comment"], "Go");
    assert_eq!(whole["grant"]["review"]["state"], "justified");
    assert_eq!(whole["policy"]["approvals_needed"], 1);
    assert_eq!(whole["session_id"], member.get("/v1/me").await?.body["session"]["id"]);
    let record = whole["record"].as_array().cloned().unwrap_or_default();
    let actions: Vec<_> = record.iter().filter_map(|entry| entry["action"].as_str()).collect();
    assert_eq!(
        actions,
        [
            "grant.requested",
            "grant.approved",
            "grant.activated",
            "session.revoked",
            "grant.revoked",
            "grant.reviewed",
        ]
    );
    assert!(record.iter().all(|entry| entry["hash"].as_str().is_some_and(|hash| hash.len() == 64)));
    // One's own story may be read, also when all is over.
    assert_eq!(evidence(&member, grant).await?["grant"]["id"], grant["id"]);

    world.end().await;
    Ok(())
}

#[tokio::test]
async fn the_stories_of_an_extension_lead_to_each_other() -> anyhow::Result<()> {
    let world = World::start().await?;
    let member = world.sign_in(Role::Member).await?;
    let granted = member.request_grant(REASON, 600).await?;
    let first = &granted["grant"];
    let more = json!({"reason": "Not done yet, takes some time", "duration_seconds": 600});
    let extended = act(&member, first, "extend", more).await?.expect(201).body;
    let second = &extended["grant"];
    let (old, new) = (evidence(&member, first).await?, evidence(&member, second).await?);
    assert_eq!(old["extended_by"], second["id"]);
    assert_eq!(new["grant"]["extended_from"], first["id"]);
    let last = old["record"].as_array().and_then(|record| record.last()).cloned();
    assert_eq!(last.map(|entry| entry["action"].clone()), Some(json!("grant.extended")));

    world.end().await;
    Ok(())
}

#[tokio::test]
async fn so_many_different_actions_are_told_apart_and_the_rest_is_counted() -> anyhow::Result<()> {
    let world = World::start().await?;
    let member = world.sign_in(Role::Member).await?;
    let granted = member.request_grant(REASON, 600).await?;
    let client = member.kept_alive()?;
    for n in 0..450 {
        proxied(&client, "GET", &format!("/scan/{n}"), "").await?;
    }
    let counted = || async {
        sqlx::query_as::<_, (i64, i64, i64)>(
            "SELECT coalesce(sum(count), 0)::bigint, count(*) FILTER (WHERE path <> ''),
                    coalesce(sum(count) FILTER (WHERE path = ''), 0)::bigint
             FROM grant_actions WHERE grant_id = $1::uuid",
        )
        .bind(granted["grant"]["id"].as_str())
        .fetch_one(&world.pool)
        .await
    };
    eventually("all are counted", || async { counted().await.is_ok_and(|(all, ..)| all == 450) })
        .await?;
    let (_, apart, rest) = counted().await?;
    // 200 a minute, and a minute may have begun meanwhile.
    assert!([200, 400].contains(&apart) || (apart < 400 && rest + apart == 450), "{apart} {rest}");
    assert!(rest > 0, "{apart} {rest}");

    world.end().await;
    Ok(())
}
