//! Whoever is signed out is told so at once, and why; and that a page is open keeps nobody signed in.

use serde_json::{Value, json};
use shared::{
    clock::{Clock as _, SystemClock},
    role::Role,
};
use sqlx::PgPool;
use tests::{Client, Events, World, eventually};

use super::{REASON, SOON, kinds, user_id};

async fn session_id(client: &Client) -> anyhow::Result<String> {
    let me = client.get("/v1/me").await?.expect(200).body;
    Ok(me["session"]["id"].as_str().unwrap_or_default().to_owned())
}

/// The ways in which somebody else's doing ends a session of the member's.
const WAYS: [(&str, &str); 7] = [
    ("one is ended", "session-revoked"),
    ("the others are ended", "session-revoked"),
    ("all are ended", "session-revoked"),
    ("the password is changed", "password-changed"),
    ("a factor is set up", "factor-enabled"),
    ("the factor is reset", "factor-reset"),
    ("the user is disabled", "user-disabled"),
];

#[tokio::test]
async fn whoever_is_signed_out_is_told_why_at_every_edge() -> anyhow::Result<()> {
    let world = World::start().await?;
    for (number, (way, reason)) in WAYS.into_iter().enumerate() {
        let slug = format!("ways-{number}");
        world.create_tenant(&slug).await?;
        let admin = world.sign_in_to(&slug, Role::Admin).await?;
        let member = world.sign_in_to(&slug, Role::Member).await?;
        let other = world.sign_in_to(&slug, Role::Member).await?;
        let mut streams = Vec::new();
        for edge in world.at_all_edges(&member) {
            streams.push(edge.events().await?);
        }
        let session = session_id(&member).await?;
        let user = user_id(&member).await?;
        let user = format!("/v1/users/{}", user.as_str().unwrap_or_default());
        let password = "membermember";
        match way {
            "one is ended" => {
                other.delete(&format!("/v1/sessions/{session}")).await?.expect(200);
            }
            "the others are ended" => {
                other.post("/v1/sessions/revoke-others", json!({})).await?.expect(200);
            }
            "all are ended" => {
                admin.post(&format!("{user}/sessions/revoke-all"), json!({})).await?.expect(200);
            }
            "the password is changed" => {
                let change =
                    json!({"current_password": password, "new_password": "plum-harbour-9"});
                other.post("/v1/me/password", change).await?.expect(200);
            }
            "a factor is set up" => {
                other.enroll(&world, password).await?;
            }
            "the factor is reset" => {
                let own = json!({"password": "adminadmin"});
                admin.send("DELETE".parse()?, &format!("{user}/mfa"), Some(own)).await?.expect(200);
            }
            "the user is disabled" => {
                let change = json!({"disabled": true});
                admin.send("PATCH".parse()?, &user, Some(change)).await?.expect(200);
            }
            other => panic!("{other} is not played"),
        }
        let ended_at = SystemClock.monotonic();
        for stream in &mut streams {
            assert_eq!(stream.signed_out().await?, reason, "{way}");
        }
        let took = SystemClock.monotonic().since(ended_at);
        assert!(took < SOON, "{way}: {took:?}");
        // A browser that connects again learns that there is no session any more.
        member.get("/v1/events").await?.expect(401);
    }
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn the_other_pages_of_the_user_hear_that_a_session_has_ended_and_go_on() -> anyhow::Result<()>
{
    let world = World::start().await?;
    let member = world.sign_in(Role::Member).await?;
    let other = world.sign_in(Role::Member).await?;
    let (manager, admin) = (world.sign_in(Role::Manager).await?, world.sign_in(Role::Admin).await?);
    let mut pages: Vec<Events> = Vec::new();
    for client in [&other, &manager, &admin] {
        pages.push(client.at(&world.edge(2)).events().await?);
    }
    let mut own = member.at(&world.edge(3)).events().await?;
    member.post("/v1/logout", json!({})).await?.expect(204);
    assert_eq!(own.signed_out().await?, "signed-out");
    for page in &mut pages {
        let heard = page.until(|event| event.tells("session.ended")).await?;
        assert_eq!(kinds(&heard), ["session.ended"]);
        assert_eq!(heard.len(), 1, "no right has changed: {heard:?}");
        assert_eq!(heard[0].data["user"], user_id(&other).await?);
    }
    // Whom it does not concern hears nothing of it: the next thing is a grant.
    let colleague = world.sign_in(Role::Member).await?;
    let mut page = colleague.events().await?;
    manager.post("/v1/logout", json!({})).await?.expect(204);
    admin.request_grant(REASON, 600).await?;
    assert_eq!(kinds(&page.until(|event| event.name == "change").await?), ["grant.activated"]);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn who_has_to_set_up_a_factor_first_is_signed_out_and_another_role_is_not()
-> anyhow::Result<()> {
    let world = World::start().await?;
    let admin = world.sign_in(Role::Admin).await?;
    let (member, manager) =
        (world.sign_in(Role::Member).await?, world.sign_in(Role::Manager).await?);
    let mut members = member.at(&world.edge(2)).events().await?;
    let mut managers = manager.at(&world.edge(3)).events().await?;
    let put = async |roles: Value| {
        let policy = json!({"require_2fa": true, "required_roles": roles, "grace_period_days": 0});
        admin.send("PUT".parse()?, "/v1/mfa-policy", Some(policy)).await
    };
    put(json!(["member"])).await?.expect(200);
    assert_eq!(members.signed_out().await?, "mfa-due");
    assert_eq!(member.get("/v1/events").await?.expect(403).code(), "enrollment-required");
    let heard = managers.until(|event| event.tells("mfa-policy.changed")).await?;
    assert_eq!(heard[0].data, json!({"cause": "mfa-policy-changed"}));
    world.end().await;
    Ok(())
}

/// Makes the database believe that a session was last used so long ago.
async fn unused_for(pool: &PgPool, client: &Client, seconds: f64) -> anyhow::Result<()> {
    let id = session_id(client).await?;
    let set = "UPDATE sessions SET last_active_at = clock_timestamp() - make_interval(secs => $2)
               WHERE id = $1::uuid";
    assert_eq!(sqlx::query(set).bind(id).bind(seconds).execute(pool).await?.rows_affected(), 1);
    Ok(())
}

/// Of idle time and what it takes a use to arrive.
const IDLE: f64 = 3_600.0 + 75.0;

#[tokio::test]
async fn an_open_stream_is_no_use_of_its_session() -> anyhow::Result<()> {
    let world = World::start().await?;
    let idle = world.sign_in(Role::Member).await?;
    let used = world.sign_in(Role::Member).await?;
    let busy = world.sign_in(Role::Manager).await?;
    for client in [&idle, &used] {
        unused_for(&world.pool, client, IDLE - 5.0).await?;
    }
    let mut idle = idle.at(&world.edge(2)).events().await?;
    let mut goes_on = used.at(&world.edge(2)).events().await?;
    // It hears things, and is used elsewhere or not.
    let granted = busy.request_grant(REASON, 600).await?;
    for stream in [&mut idle, &mut goes_on] {
        stream.until(|event| event.tells("grant.activated")).await?;
    }
    used.get("/v1/me").await?.expect(200);
    assert_eq!(idle.signed_out().await?, "expired");

    let unused =
        "SELECT min(extract(epoch FROM clock_timestamp() - last_active_at))::float8 FROM sessions";
    let unused: f64 = sqlx::query_scalar(unused).fetch_one(&world.pool).await?;
    assert!(unused < 60.0, "the other one was used: {unused}");
    busy.revoke_grant(&granted["grant"], "It works again").await?.expect(200);
    let heard = goes_on.until(|event| event.tells("grant.revoked")).await?;
    assert_eq!(heard.len(), 1, "{heard:?}");
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_session_that_ends_by_the_clock_is_signed_out_then() -> anyhow::Result<()> {
    let world = World::start().await?;
    let member = world.sign_in(Role::Member).await?;
    let id = session_id(&member).await?;
    let set = "UPDATE sessions SET expires_at = clock_timestamp() + interval '4 s'
               WHERE id = $1::uuid RETURNING expires_at::text";
    let at: String = sqlx::query_scalar(set).bind(&id).fetch_one(&world.pool).await?;
    let mut events = member.at(&world.edge(2)).events().await?;
    assert_eq!(events.signed_out().await?, "expired");
    let late = "SELECT extract(epoch FROM clock_timestamp() - $1::timestamptz)::float8";
    let late: f64 = sqlx::query_scalar(late).bind(at).fetch_one(&world.pool).await?;
    // An edge may think that it is later than it is by the time that a reading took (E8).
    assert!((-1.0..SOON.as_secs_f64()).contains(&late), "{late} s");
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_session_that_lost_its_entry_is_signed_out_too() -> anyhow::Result<()> {
    let world = World::start().await?;
    let member = world.sign_in(Role::Member).await?;
    let mut events = member.at(&world.edge(2)).events().await?;
    let id = session_id(&member).await?;
    // Nobody tells of it, so it is found by looking, with what else is loaded anew.
    let end = "UPDATE sessions SET ended_at = clock_timestamp() WHERE id = $1::uuid";
    sqlx::query(end).bind(&id).execute(&world.pool).await?;
    let other = world.sign_in(Role::Member).await?;
    other.request_grant(REASON, 600).await?;
    assert_eq!(events.signed_out().await?, "ended");
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_gateway_that_stops_ends_its_streams_and_does_not_wait_for_them() -> anyhow::Result<()> {
    let world = World::start().await?;
    let member = world.sign_in(Role::Member).await?;
    let mut streams = Vec::new();
    for _ in 0..20 {
        streams.push(member.events().await?);
    }
    let asked_at = SystemClock.monotonic();
    world.stack.stop_service("gateway-1").await;
    let took = SystemClock.monotonic().since(asked_at);
    assert!(took < SOON, "{took:?}");
    for stream in &mut streams {
        assert_eq!(stream.next().await?, None, "in order");
    }
    world.stack.start_service("gateway-1").await;
    eventually("the page is connected again", || async { member.events().await.is_ok() }).await?;
    world.end().await;
    Ok(())
}
