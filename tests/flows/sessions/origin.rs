//! The client's address: whose word counts for it, where it is, and how often it may be wrong.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use reqwest::Method;
use serde_json::{Value, json};
use shared::role::Role;
use tests::{Answer, Client, Options, World};

use crate::problem::assert_problem;

const CHROME: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36";

/// Headers of a request.
type Headers<'a> = [(&'a str, &'a str)];

/// Made-up names for the same place, as a client may send them.
const SMUGGLED: [(&str, &str); 4] = [
    ("x-forwarded-for", "198.51.100.7"),
    ("forwarded", "for=198.51.100.7"),
    ("x-real-ip", "198.51.100.7"),
    ("true-client-ip", "198.51.100.7"),
];

fn flags(of: &'static str, flags: &[&str]) -> (&'static str, Vec<String>) {
    (of, flags.iter().map(|&flag| flag.to_owned()).collect())
}

/// Signs in with headers; the session as it is then listed, and the client.
async fn signed_in(at: &Client, headers: &Headers<'_>) -> anyhow::Result<(Client, Value)> {
    let answer = login(at, "membermember", headers).await?.expect(200);
    let mut client = at.clone();
    client.token = answer.body["token"].as_str().map(ToOwned::to_owned);
    let listed = client.get("/v1/sessions").await?.expect(200).body["sessions"][0].take();
    let me = client.get("/v1/me").await?.expect(200).body["session"].take();
    for shown in [&answer.body["session"], &me] {
        for part in ["ip", "location", "device"] {
            assert_eq!(shown[part], listed[part]);
        }
    }
    Ok((client, listed))
}

async fn login(at: &Client, password: &str, headers: &Headers<'_>) -> anyhow::Result<Answer> {
    login_as(at, "member", password, headers).await
}

/// A wrong guess at an account of its own, so that no account's limit comes before the address'.
async fn guess(at: &Client, headers: &Headers<'_>) -> anyhow::Result<Answer> {
    static GUESSES: AtomicU32 = AtomicU32::new(0);
    let who = format!("nobody-{}", GUESSES.fetch_add(1, Relaxed));
    login_as(at, &who, "a wrong one", headers).await
}

async fn login_as(
    at: &Client,
    who: &str,
    password: &str,
    headers: &Headers<'_>,
) -> anyhow::Result<Answer> {
    let mut request = at.request(Method::POST, "/v1/login").header("user-agent", CHROME);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let login = json!({
        "tenant": "places", "email": format!("{who}@places.test"), "password": password, "transport": "token",
    });
    Answer::to(request.json(&login)).await
}

#[tokio::test]
async fn addresses_and_places_are_as_trusted_proxies_say_and_nobody_else() -> anyhow::Result<()> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../session-worker/tests/locations.mmdb");
    let world = World::start_with(Options {
        flags: vec![
            flags("session-worker", &["--location-database", file]),
            flags("gateway-1", &["--trusted-proxy", "127.0.0.0/8,10.0.0.0/8"]),
            flags(
                "gateway-2",
                &["--trusted-proxy", "127.0.0.1", "--forwarded-header", "forwarded"],
            ),
        ],
        ..Options::default()
    })
    .await?;
    world.create_tenant("places").await?;
    let [behind_x, behind_standard, open] =
        [1, 2, 3].map(|edge| world.anonymous().at(&world.edge(edge)));

    let zurich =
        json!({"city": "Zürich", "country": "Switzerland", "label": "Zürich, Switzerland"});
    let japan = json!({"city": null, "country": "Japan", "label": "Japan"});
    let sao_paulo = json!({"city": "São Paulo", "country": "Brazil", "label": "São Paulo, Brazil"});
    let x = "x-forwarded-for";
    let table: &[(&Client, &Headers, &str, &Value)] = &[
        (&behind_x, &[(x, "203.0.113.7")], "203.0.113.7", &zurich),
        (&behind_x, &[(x, "6.6.6.6, 198.51.100.7, 10.0.0.9")], "198.51.100.7", &japan),
        (&behind_x, &[(x, "6.6.6.6"), (x, "[2001:db8::7]:443")], "2001:db8::7", &sao_paulo),
        (&behind_x, &[(x, "203.0.113.7, unknown")], "127.0.0.1", &Value::Null),
        (&behind_x, &SMUGGLED[1..], "127.0.0.1", &Value::Null),
        (&behind_x, &[(x, "192.0.2.1")], "192.0.2.1", &Value::Null),
        (&behind_standard, &[("forwarded", "for=\"[2001:db8::7]:1\"")], "2001:db8::7", &sao_paulo),
        (&behind_standard, &SMUGGLED[..1], "127.0.0.1", &Value::Null),
        (&open, &SMUGGLED, "127.0.0.1", &Value::Null),
        (&open, &[], "127.0.0.1", &Value::Null),
    ];
    for (client, headers, ip, location) in table {
        let (client, session) = signed_in(client, headers).await?;
        assert_eq!((&session["ip"], &session["location"]), (&json!(ip), *location), "{headers:?}");
        assert_eq!(session["device"]["label"], "Chrome on Windows");
        let recorded: Option<String> = sqlx::query_scalar(
            "SELECT ip FROM audit WHERE action = 'session.opened' AND target = 'session:' || $1",
        )
        .bind(session["id"].as_str())
        .fetch_one(&world.pool)
        .await?;
        assert_eq!(recorded.as_deref(), Some(*ip));
        client.post("/v1/logout", json!({})).await?.expect(204);
    }
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn failures_are_limited_for_each_address_and_gateway() -> anyhow::Result<()> {
    let limit = "--address-failures-per-minute";
    let world = World::start_with(Options {
        flags: vec![
            flags("gateway-1", &[limit, "20", "--trusted-proxy", "127.0.0.1"]),
            flags("gateway-2", &[limit, "20"]),
            flags("gateway-3", &[limit, "0"]),
        ],
        ..Options::default()
    })
    .await?;
    world.create_tenant("places").await?;
    let [behind, open, unlimited] = [1, 2, 3].map(|edge| world.anonymous().at(&world.edge(edge)));

    // Right ones do not count, however many.
    for _ in 0..21 {
        login(&open, "membermember", &[]).await?.expect(200);
    }
    // Guesses at once, each from another place if one believes it, all from one.
    let guesses = (0..60).map(|number| {
        let open = &open;
        async move {
            let place = format!("198.51.100.{number}");
            let forwarded = format!("for={place}");
            let headers = [("x-forwarded-for", place.as_str()), ("forwarded", &forwarded)];
            guess(open, &headers).await
        }
    });
    let mut statuses = BTreeMap::new();
    for answer in futures_util::future::join_all(guesses).await {
        *statuses.entry(answer?.status.as_u16()).or_insert(0) += 1;
    }
    // So many at once may be too many for a busy machine, which frees their places for others.
    let busy = statuses.remove(&503).unwrap_or(0);
    assert_eq!(statuses.into_iter().collect::<Vec<_>>(), [(401, 20), (429, 40 - busy)]);
    let late = login(&open, "membermember", &[("x-forwarded-for", "198.51.100.99")]).await?;
    assert_problem(&late, 429, "too-many-attempts");
    let seconds: u32 = late.header("retry-after").parse()?;
    assert!((1..=60).contains(&seconds), "{seconds}");
    // Who is signed in is not concerned, nor is what needs no secret.
    let member = world.sign_in(Role::Member).await?;
    member.at(&world.edge(2)).get("/v1/me").await?.expect(200);
    assert_eq!(member.at(&world.edge(2)).authorize().await?.0, 200);

    // Behind a trusted proxy each client has a limit of its own.
    for from in ["203.0.113.1", "203.0.113.2"] {
        for _ in 0..20 {
            guess(&behind, &[("x-forwarded-for", from)]).await?.expect(401);
        }
        guess(&behind, &[("x-forwarded-for", from)]).await?.expect(429);
    }
    login(&behind, "membermember", &[("x-forwarded-for", "203.0.113.3")]).await?.expect(200);
    for _ in 0..30 {
        guess(&unlimited, &[]).await?.expect(401);
    }
    // What was refused here was asked of nobody.
    let asked = "SELECT count(*) FROM sign_in_failures";
    let asked: i64 = sqlx::query_scalar(asked).fetch_one(&world.pool).await?;
    let wrong = 20 + 2 * 20 + 30;
    assert!((wrong..=wrong + busy).contains(&asked), "{asked}, {busy} were too many");
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_location_database_that_cannot_be_used_is_a_mistake_at_the_start() -> anyhow::Result<()> {
    let program = std::env::current_exe()?;
    let folder = program.parent().and_then(std::path::Path::parent).expect("a folder");
    for (path, said) in [
        ("/nowhere.mmdb", "cannot read /nowhere.mmdb"),
        (concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"), "download it anew"),
    ] {
        let run = tokio::process::Command::new(folder.join("session-worker"))
            .args([
                "--location-database",
                path,
                "--secret-keys",
                "/nowhere",
                "--audit-key",
                "/nowhere",
            ])
            .env("BREAKGLASS_DATABASE_URL", "postgres://nobody@127.0.0.1:1/nothing")
            .kill_on_drop(true)
            .output();
        let ended = tokio::time::timeout(std::time::Duration::from_secs(20), run).await??;
        let log = String::from_utf8_lossy(&[ended.stdout, ended.stderr].concat()).into_owned();
        assert!(!ended.status.success() && log.contains(said), "{log}");
    }
    Ok(())
}
