//! Signing in and out, one's sessions and others', and what the edges make of them.

mod authorize;
mod cookie;
mod flood;
mod idle;
mod new_device;
mod origin;
mod record;
mod room;

use reqwest::{Method, header::HeaderMap};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use shared::role::Role;
use tests::{Answer, Client, World, assert_whole, receipt};

use crate::problem::assert_problem;

const ALIVE: u16 = 200;
const DEAD: u16 = 401;

/// What all three edges say about a client, by status.
async fn said(world: &World, client: &Client) -> anyhow::Result<Vec<u16>> {
    Ok(world.authorize(client).await?.into_iter().map(|(status, _)| status).collect())
}

async fn session_id(client: &Client) -> anyhow::Result<String> {
    let me = client.get("/v1/me").await?.expect(200).body;
    Ok(me["session"]["id"].as_str().expect("an id").to_owned())
}

/// Headers that may be compared.
fn stable(mut headers: HeaderMap) -> HeaderMap {
    headers.remove("date");
    headers
}

#[tokio::test]
async fn wrong_credentials_of_every_kind_get_one_answer() -> anyhow::Result<()> {
    let world = World::start().await?;
    world.create_tenant("other").await?;
    sqlx::query("UPDATE users SET disabled_at = now() WHERE email = 'manager@other.test'")
        .execute(&world.pool)
        .await?;
    sqlx::query("UPDATE users SET password_hash = NULL WHERE email = 'admin@other.test'")
        .execute(&world.pool)
        .await?;
    let attempts = [
        ("a wrong password", "other", "member@other.test", "membermembe"),
        ("no password", "other", "member@other.test", ""),
        ("another's password", "other", "member@other.test", "managermanager"),
        ("the password in another case", "other", "member@other.test", "MemberMember"),
        ("the password and a space", "other", "member@other.test", "membermember "),
        ("a wrong user", "other", "nobody@other.test", "membermember"),
        ("no user", "other", "", "membermember"),
        ("a user of another tenant", "acme", "member@other.test", "membermember"),
        ("a wrong tenant", "nowhere", "member@other.test", "membermember"),
        ("no tenant", "", "member@other.test", "membermember"),
        ("a pattern", "other", "%@other.test", "membermember"),
        ("a statement", "other", "' OR 1 = 1 --", "membermember"),
        ("a user without a password", "other", "admin@other.test", ""),
        ("the right password of a disabled user", "other", "manager@other.test", "managermanager"),
    ];
    let mut first: Option<(Value, HeaderMap)> = None;
    for (what, tenant, email, password) in attempts {
        let login =
            json!({"tenant": tenant, "email": email, "password": password, "transport": "token"});
        let answer = world.anonymous().post("/v1/login", login).await?;
        assert_problem(&answer, 401, "invalid-credentials");
        let mut body = answer.body;
        body.as_object_mut().expect("an object").remove("trace_id");
        let answer = (body, stable(answer.headers));
        let first = first.get_or_insert_with(|| answer.clone());
        assert_eq!(&answer, first, "{what}");
    }
    let opened: i64 =
        sqlx::query_scalar("SELECT count(*) FROM sessions").fetch_one(&world.pool).await?;
    assert_eq!(opened, 0);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn an_address_is_one_in_every_spelling() -> anyhow::Result<()> {
    let world = World::start().await?;
    world.create_tenant("spelt").await?;
    let anonymous = world.anonymous();
    for email in
        ["member@spelt.test", "MEMBER@Spelt.TEST", "  member@spelt.test\t", "\nMember@spelt.test "]
    {
        let client = anonymous.sign_in("spelt", email, "membermember").await?;
        let me = client.get("/v1/me").await?.expect(200).body;
        assert_eq!(me["user"]["email"], "member@spelt.test");
        assert_eq!(me["tenant"]["slug"], "spelt");
    }
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn every_sign_in_gets_a_new_token_that_is_nowhere_stored() -> anyhow::Result<()> {
    let world = World::start().await?;
    let (a, b) = (world.sign_in(Role::Member).await?, world.sign_in(Role::Member).await?);
    let (a_token, b_token) = (a.token.clone().expect("one"), b.token.clone().expect("one"));
    assert_ne!(a_token, b_token);
    assert!(a_token.starts_with("bgs_") && a_token.len() == 47, "a token has 256 bits");
    let stored: Vec<String> = sqlx::query_scalar(
        "SELECT to_jsonb(s)::text FROM sessions s UNION ALL SELECT to_jsonb(a)::text FROM audit a",
    )
    .fetch_all(&world.pool)
    .await?;
    assert!(stored.iter().all(|row| !row.contains(&a_token[4..])));
    // Near a token there is nothing.
    let flip = |at: usize| {
        let mut bytes = a_token.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        String::from_utf8(bytes).expect("ASCII")
    };
    let near = [
        flip(4),
        flip(20),
        flip(46),
        a_token[..46].to_owned(),
        format!("{a_token}A"),
        format!("{a_token}="),
        a_token.to_uppercase(),
        a_token.to_lowercase(),
        a_token[4..].to_owned(),
        a_token.replace("bgs_", "bgt_"),
        format!("{a_token} {b_token}"),
        format!("{a_token},"),
    ];
    for token in near {
        let mut client = a.clone();
        client.token = Some(token.clone());
        assert_eq!(client.authorize().await?.0, DEAD, "{token}");
        assert_problem(&client.get("/v1/me").await?, 401, "unauthenticated");
    }
    assert_eq!(said(&world, &a).await?, [ALIVE; 3]);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn ones_sessions_are_listed_with_what_they_run_on() -> anyhow::Result<()> {
    let world = World::start().await?;
    world.create_tenant("lists").await?;
    let anonymous = world.anonymous();
    let sign_in = async |agent: &str| -> anyhow::Result<(Client, Value)> {
        let login = json!({
            "tenant": "lists", "email": "member@lists.test", "password": "membermember", "transport": "token",
        });
        let request = anonymous
            .request(Method::POST, "/v1/login")
            .header("user-agent", agent)
            .header("x-forwarded-for", "203.0.113.7")
            .header("forwarded", "for=203.0.113.7")
            .header("x-real-ip", "203.0.113.7")
            .header("true-client-ip", "203.0.113.7")
            .json(&login);
        let body = Answer::to(request).await?.expect(200).body;
        let mut client = anonymous.clone();
        client.token = body["token"].as_str().map(ToOwned::to_owned);
        Ok((client, body["session"].clone()))
    };
    let (curl, session) = sign_in("curl/8.5.0").await?;
    assert_eq!(session["device"]["label"], "curl");
    assert_eq!(session["device"]["type"], "bot");
    let (wget, _) = sign_in("Wget/1.24.5").await?;
    let (blank, _) = sign_in("").await?;
    // A stranger's and a colleague's sessions are not listed.
    world.sign_in_to("lists", Role::Admin).await?;
    world.sign_in(Role::Member).await?;
    sqlx::query(
        "UPDATE sessions SET last_active_at = now() - interval '10 min' WHERE user_agent = 'curl/8.5.0'",
    )
    .execute(&world.pool)
    .await?;
    for (client, expected) in [
        (&curl, ["curl", "Unknown device", "Wget"]),
        (&wget, ["Wget", "Unknown device", "curl"]),
        (&blank, ["Unknown device", "Wget", "curl"]),
    ] {
        // A use moves the last activity at most once a minute: put it back.
        let answer = client.get("/v1/sessions").await?.expect(200).body;
        let sessions = answer["sessions"].as_array().expect("a list");
        let labels: Vec<_> = sessions.iter().map(|s| s["device"]["label"].clone()).collect();
        sqlx::query(
            "UPDATE sessions SET last_active_at = now() - interval '10 min' WHERE user_agent = 'curl/8.5.0'",
        )
        .execute(&world.pool)
        .await?;
        assert_eq!(labels, expected);
        for (place, session) in sessions.iter().enumerate() {
            assert_eq!(session["current"], place == 0, "{session}");
            assert_eq!(session["ip"], "127.0.0.1", "{session}");
            assert_eq!(session["location"], Value::Null);
            assert_eq!(session["methods"], json!(["password"]));
            let time = |name: &str| session[name].as_str().expect(name).to_owned();
            assert!(time("created_at") <= time("idle_expires_at"));
            assert!(time("idle_expires_at") <= time("expires_at"));
        }
    }
    let recorded: i64 =
        sqlx::query_scalar("SELECT count(*) FROM audit WHERE ip IS NOT NULL AND ip <> '127.0.0.1'")
            .fetch_one(&world.pool)
            .await?;
    assert_eq!(recorded, 0, "somebody's header became an address");
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn one_session_ends_on_all_edges_before_the_call_returns() -> anyhow::Result<()> {
    let world = World::start().await?;
    let (keep, other) = (world.sign_in(Role::Member).await?, world.sign_in(Role::Member).await?);
    let ended = session_id(&other).await?;
    for client in [&keep, &other] {
        assert_eq!(said(&world, client).await?, [ALIVE; 3]);
    }
    let path = format!("/v1/sessions/{ended}");
    let answer = keep.at(&world.edge(2)).delete(&path).await?.expect(200);
    assert_eq!(said(&world, &other).await?, [DEAD; 3]);
    assert_eq!(said(&world, &keep).await?, [ALIVE; 3]);
    let receipt = receipt(&answer.body)?;
    assert_whole(&receipt, 3, 0);
    assert_eq!(receipt.revision, 1);
    assert_problem(&other.get("/v1/me").await?, 401, "unauthenticated");
    assert_problem(&keep.delete(&path).await?, 404, "not-found");

    // The session that asks may end itself.
    let own = session_id(&keep).await?;
    keep.delete(&format!("/v1/sessions/{own}")).await?.expect(200);
    assert_eq!(said(&world, &keep).await?, [DEAD; 3]);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn others_and_all_end_on_all_edges_before_the_call_returns() -> anyhow::Result<()> {
    let world = World::start().await?;
    let admin = world.sign_in(Role::Admin).await?;
    let mut sessions = Vec::new();
    for _ in 0..4 {
        sessions.push(world.sign_in(Role::Member).await?);
        assert_eq!(said(&world, sessions.last().expect("one")).await?, [ALIVE; 3]);
    }
    let keep = sessions.pop().expect("four");
    let answer =
        keep.at(&world.edge(3)).post("/v1/sessions/revoke-others", json!({})).await?.expect(200);
    assert_eq!(answer.body["revoked"], 3);
    let first = receipt(&answer.body)?;
    assert_whole(&first, 3, 0);
    for lost in &sessions {
        assert_eq!(said(&world, lost).await?, [DEAD; 3]);
    }
    assert_eq!(said(&world, &keep).await?, [ALIVE; 3]);

    // There are none left to end, which is no mistake.
    let answer = keep.post("/v1/sessions/revoke-others", json!({})).await?.expect(200);
    assert_eq!(answer.body["revoked"], 0);
    assert!(receipt(&answer.body)?.revision >= first.revision);

    let user = keep.get("/v1/me").await?.expect(200).body["user"]["id"].clone();
    let path = format!("/v1/users/{}/sessions/revoke-all", user.as_str().expect("an id"));
    let again = world.sign_in(Role::Member).await?;
    assert_eq!(said(&world, &again).await?, [ALIVE; 3]);
    let answer = admin.at(&world.edge(2)).post(&path, json!({})).await?.expect(200);
    assert_eq!(answer.body["revoked"], 2);
    assert_whole(&receipt(&answer.body)?, 3, 0);
    for lost in [&keep, &again] {
        assert_eq!(said(&world, lost).await?, [DEAD; 3]);
    }
    assert_eq!(said(&world, &admin).await?, [ALIVE; 3]);
    // Signing in goes on to work, and the new session with it.
    let anew = world.sign_in(Role::Member).await?;
    assert_eq!(said(&world, &anew).await?, [ALIVE; 3]);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_revocation_meets_every_sign_in_that_came_before_it() -> anyhow::Result<()> {
    let world = World::start().await?;
    let member = world.stack.credentials().and_then(|c| c.of(Role::Member)).expect("a member");
    let (email, password) = (member.email.clone(), member.password.expose_secret().to_owned());
    let keep = world.sign_in(Role::Member).await?;
    for round in 0..5 {
        let anonymous = world.anonymous();
        let sign_ins = (1..=3).map(|edge| anonymous.at(&world.edge(edge)));
        let sign_ins = sign_ins.map(async |client| client.sign_in("acme", &email, &password).await);
        let revoke = keep.post("/v1/sessions/revoke-others", json!({}));
        let (signed_in, revoked) = tokio::join!(futures_util::future::join_all(sign_ins), revoke);
        let revoked = revoked?.expect(200).body["revoked"].as_u64().expect("a number");
        // Each of them lives on all edges or on none, and those that do not were counted.
        let mut dead = 0;
        for client in signed_in {
            let said = said(&world, &client?).await?;
            assert!(said == [ALIVE; 3] || said == [DEAD; 3], "round {round}: {said:?}");
            dead += u64::from(said == [DEAD; 3]);
        }
        let answer = keep.post("/v1/sessions/revoke-others", json!({})).await?.expect(200);
        assert_eq!(
            answer.body["revoked"],
            3 - dead,
            "round {round}: {revoked} were said to have ended"
        );
        assert_eq!(revoked, dead, "round {round}");
    }
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn two_sessions_that_end_each_other_leave_one_at_most() -> anyhow::Result<()> {
    let world = World::start().await?;
    for _ in 0..5 {
        let (a, b) = (world.sign_in(Role::Member).await?, world.sign_in(Role::Member).await?);
        let b_elsewhere = b.at(&world.edge(2));
        let (by_a, by_b) = tokio::join!(
            a.post("/v1/sessions/revoke-others", json!({})),
            b_elsewhere.post("/v1/sessions/revoke-others", json!({})),
        );
        let statuses = [by_a?.status.as_u16(), by_b?.status.as_u16()];
        assert!([[200, 401], [401, 200]].contains(&statuses), "{statuses:?}");
        let alive = [said(&world, &a).await?, said(&world, &b).await?];
        let expected = statuses.map(|status| vec![status; 3]);
        assert_eq!(alive, expected);
        let survivor = if statuses[0] == 200 { a } else { b };
        survivor.post("/v1/logout", json!({})).await?.expect(204);
    }
    world.end().await;
    Ok(())
}
