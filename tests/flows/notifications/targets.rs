//! Nothing is sent to where only this machine, or this network, can reach.

use serde_json::json;
use shared::role::Role;
use tests::{Options, World, eventually};

use super::{ENDPOINTS, create, deliveries, emit, path, receiver::Silent};

#[tokio::test]
async fn inner_addresses_are_refused_at_creation_and_when_something_is_sent() -> anyhow::Result<()>
{
    let world = World::start_with(Options { edges: Some(1), ..Options::default() }).await?;
    let admin = world.sign_in(Role::Admin).await?;
    let silent = Silent::start().await?;
    let port = silent.url.trim_end_matches('/').rsplit(':').next().expect("a port").to_owned();
    for url in [
        silent.url.clone(),
        format!("https://127.0.0.1:{port}/"),
        format!("https://localhost:{port}/"),
        format!("https://LOCALHOST.:{port}/"),
        format!("https://2130706433:{port}/"),
        format!("https://0x7f.1:{port}/"),
        format!("https://[::1]:{port}/"),
        format!("https://[::ffff:127.0.0.1]:{port}/"),
        "https://169.254.169.254/latest/meta-data/".to_owned(),
        "https://10.0.0.1/".to_owned(),
        "https://u:p@8.8.8.8/".to_owned(),
        "ftp://8.8.8.8/".to_owned(),
    ] {
        for kind in ["webhook", "slack"] {
            let refused = admin.post(ENDPOINTS, json!({"kind": kind, "url": url})).await?;
            assert_eq!((refused.status.as_u16(), refused.code()), (400, "bad-request"), "{url}");
        }
    }
    let (endpoint, _) =
        create(&admin, json!({"kind": "webhook", "url": "https://8.8.8.8/", "events": ["user.*"]}))
            .await?;
    let patch = json!({"url": format!("https://localhost:{port}/")});
    admin.send(reqwest::Method::PATCH, &path(&endpoint), Some(patch)).await?.expect(400);

    // A name that resolves to something else by now, and an address that was allowed once.
    for url in [format!("https://localhost:{port}/"), format!("http://127.0.0.1:{port}/")] {
        sqlx::query("UPDATE notification_endpoints SET url = $1")
            .bind(&url)
            .execute(&world.pool)
            .await?;
        let test =
            admin.post(&format!("{}/test", path(&endpoint)), json!({})).await?.expect(200).body;
        assert_eq!(test["delivered"], false, "{test}");
        emit(&world, "acme", "user.changed", json!({})).await?;
    }
    eventually("both attempts failed", || async {
        deliveries(&admin, &endpoint)
            .await
            .is_ok_and(|all| all.len() == 2 && all.iter().all(|one| one["last_error"].is_string()))
    })
    .await?;
    let errors: Vec<_> =
        deliveries(&admin, &endpoint).await?.iter().map(|one| one["last_error"].clone()).collect();
    let text = json!(errors).to_string();
    assert!(text.contains("not public") || text.contains("must begin with https"), "{text}");
    assert_eq!(silent.connections(), 0, "nobody even connected");
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_redirect_to_an_inner_address_is_not_followed() -> anyhow::Result<()> {
    let world = super::world_with(&[]).await?;
    let admin = world.sign_in(Role::Admin).await?;
    let silent = Silent::start().await?;
    let to = silent.url.clone();
    let redirect =
        axum::Router::new().fallback(async move || axum::response::Redirect::temporary(&to));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/", listener.local_addr()?);
    let server = tokio::spawn(async move { axum::serve(listener, redirect).await });
    let (endpoint, _) = create(&admin, json!({"kind": "webhook", "url": url})).await?;
    let test = admin.post(&format!("{}/test", path(&endpoint)), json!({})).await?.expect(200).body;
    assert_eq!((&test["delivered"], &test["status"]), (&json!(false), &json!(307)));
    assert_eq!(silent.connections(), 0);
    server.abort();
    world.end().await;
    Ok(())
}
