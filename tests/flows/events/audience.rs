//! Nobody hears of what they could not look up.

use reqwest::Method;
use serde_json::json;
use shared::role::Role;
use tests::{Client, Event, Events, World};

use super::{REASON, about, kinds, user_id};
use crate::emergency::set_policy;

/// Changes something of which everybody in the tenant hears.
async fn bell(admin: &Client) -> anyhow::Result<()> {
    let policy = json!({"require_2fa": false, "required_roles": [], "grace_period_days": 3});
    admin.send(Method::PUT, "/v1/mfa-policy", Some(policy)).await?.expect(200);
    Ok(())
}

/// What came about grants and users until the [`bell`].
async fn until_the_bell(events: &mut Events) -> anyhow::Result<Vec<Event>> {
    let mut came = events.until(|event| event.tells("mfa-policy.changed")).await?;
    came.retain(|event| {
        let kind = event.data["kind"].as_str().unwrap_or_default();
        kind.starts_with("grant.") || kind.starts_with("user.")
    });
    Ok(came)
}

#[tokio::test]
async fn requests_of_others_are_for_who_may_see_them() -> anyhow::Result<()> {
    let world = World::start().await?;
    let member = world.sign_in(Role::Member).await?;
    let manager = world.sign_in(Role::Manager).await?;
    let admin = set_policy(&world, json!({"approvals_needed": 1})).await?;
    let mut members = member.at(&world.edge(2)).events().await?;
    let mut managers = manager.at(&world.edge(3)).events().await?;
    let mut admins = admin.events().await?;

    let asked = admin.request_grant(REASON, 600).await?;
    assert_eq!(asked["grant"]["state"], "pending");
    let own = member.request_grant(REASON, 600).await?;
    bell(&admin).await?;

    let heard = until_the_bell(&mut members).await?;
    assert_eq!(kinds(&heard), ["grant.requested"]);
    assert_eq!(heard[0].data["user"], user_id(&member).await?);
    assert_eq!(heard[0].data["grant"], own["grant"]["id"]);
    for events in [&mut managers, &mut admins] {
        let heard = until_the_bell(events).await?;
        assert_eq!(kinds(&heard), ["grant.requested", "grant.requested"]);
        assert!(!format!("{heard:?}").contains("Checkout"), "{heard:?}");
    }

    // What is decided about, and who is active, is for everybody.
    manager.post(&about(&asked["grant"], "approve"), json!({})).await?.expect(200);
    let heard = members.until(|event| event.tells("grant.activated")).await?;
    assert_eq!(kinds(&heard), ["grant.activated"]);
    world.end().await;
    Ok(())
}

/// Waits until one has heard of one's own grant that it changed, and that one's rights did. The edge and
/// the relay tell of it each by itself: in whichever order, and perhaps twice.
async fn own(events: &mut Events, kind: &str, cause: &str) -> anyhow::Result<()> {
    let (mut changed, mut raised) = (false, false);
    while !(changed && raised) {
        let heard = events.until(|event| event.tells(kind) || event.name == "rights").await?;
        changed |= heard.iter().any(|event| event.tells(kind));
        raised |= heard.iter().any(|event| event.data["cause"] == cause);
    }
    Ok(())
}

#[tokio::test]
async fn elevation_adds_what_one_hears_and_takes_it_back() -> anyhow::Result<()> {
    let world = World::start().await?;
    let member = world.sign_in(Role::Member).await?;
    let admin = world.sign_in(Role::Admin).await?;
    let manager = user_id(&world.sign_in(Role::Manager).await?).await?;
    let manager = format!("/v1/users/{}", manager.as_str().unwrap_or_default());
    let mut events = member.at(&world.edge(2)).events().await?;
    let mut admins = admin.at(&world.edge(2)).events().await?;
    let mut rename = async |name: &str| -> anyhow::Result<()> {
        let change = json!({"name": name});
        admin.send(Method::PATCH, &manager, Some(change)).await?.expect(200);
        admins.until(|event| event.tells("user.changed")).await.map(drop)
    };

    rename("Before").await?;
    let granted = member.request_grant(REASON, 600).await?;
    own(&mut events, "grant.activated", "grant-activated").await?;

    rename("Meanwhile").await?;
    let heard = events.until(|event| event.name == "change").await?;
    assert_eq!(kinds(&heard), ["user.changed"]);

    member.revoke_grant(&granted["grant"], "It works again").await?.expect(200);
    own(&mut events, "grant.revoked", "grant-revoked").await?;
    rename("After").await?;
    bell(&admin).await?;
    assert_eq!(kinds(&until_the_bell(&mut events).await?), [""; 0]);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn elevation_that_ends_by_the_clock_is_told_without_any_worker() -> anyhow::Result<()> {
    let world = World::start().await?;
    let member = world.sign_in(Role::Member).await?;
    world.stack.stop_service("expiry-worker").await;
    member.request_grant(REASON, 5).await?;
    let mut events = member.at(&world.edge(2)).events().await?;
    let heard = events.until(|event| event.name == "rights").await?;
    assert_eq!(heard.last().map(|last| last.data.clone()), Some(json!({"cause": "grant-expired"})));
    assert_eq!(member.at(&world.edge(2)).authorize().await?.1, "member");
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn another_tenant_hears_nothing() -> anyhow::Result<()> {
    let world = World::start().await?;
    world.create_tenant("other").await?;
    let stranger = world.sign_in_to("other", Role::Admin).await?;
    let mut events = stranger.at(&world.edge(2)).events().await?;
    let mut own = world.sign_in(Role::Admin).await?.at(&world.edge(2)).events().await?;

    // Events, and revisions of one user and of all of a tenant.
    let admin = set_policy(&world, json!({"cooldown_seconds": 1})).await?;
    let member = world.sign_in(Role::Member).await?;
    let granted = member.request_grant(REASON, 600).await?;
    member.revoke_grant(&granted["grant"], "It works again").await?.expect(200);
    bell(&admin).await?;
    until_the_bell(&mut own).await?;

    stranger.request_grant(REASON, 600).await?;
    let heard = events.until(|event| event.tells("grant.activated")).await?;
    assert_eq!(kinds(&heard), ["grant.activated"]);
    assert_eq!(heard.last().map(|e| e.data["user"].clone()), Some(user_id(&stranger).await?));
    // Revisions of a whole tenant are nobody else's as well.
    assert!(heard.iter().all(|event| event.data["cause"] != "mfa-policy-changed"), "{heard:?}");
    world.end().await;
    Ok(())
}
