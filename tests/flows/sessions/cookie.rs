//! The cookie: how it comes, what it is good for, and what another site can do with it.

use reqwest::Method;
use secrecy::ExposeSecret as _;
use serde_json::json;
use shared::role::Role;
use tests::{Answer, Client, World};

use super::{ALIVE, DEAD};
use crate::problem::{assert_problem, assert_secure};

const NAME: &str = "__Host-breakglass";

/// Signs in as a browser does; the token of the cookie.
async fn sign_in(world: &World) -> anyhow::Result<(Answer, String)> {
    let user = world.stack.credentials().and_then(|c| c.of(Role::Member)).expect("a seeded user");
    let password = user.password.expose_secret();
    let login = json!({"tenant": "acme", "email": user.email, "password": password});
    let answer = world.anonymous().post("/v1/login", login).await?.expect(200);
    let token = answer.header("set-cookie").split(['=', ';']).nth(1).unwrap_or("").to_owned();
    Ok((answer, token))
}

/// A request with headers, by their names.
async fn send(
    client: &Client,
    method: Method,
    path: &str,
    headers: &[(&'static str, &str)],
) -> anyhow::Result<Answer> {
    let mut request = client.request(method, path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Answer::to(request).await
}

#[tokio::test]
async fn a_browser_signs_in_and_out_with_the_cookie_alone() -> anyhow::Result<()> {
    let world = World::start().await?;
    let (answer, token) = sign_in(&world).await?;
    assert_eq!(answer.body["status"], "authenticated");
    assert_eq!(answer.body["session"]["current"], true);
    assert!(answer.body.get("token").is_none(), "scripts never see the token");
    let expected = format!("{NAME}={token}; Path=/; Secure; HttpOnly; SameSite=Lax");
    let cookies: Vec<_> = answer.headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, [&expected]);
    assert_secure(&answer);

    let browser = world.anonymous();
    let cookie = format!("theme=dark; {NAME}={token}; x=1");
    let cookie = ("cookie", cookie.as_str());
    for edge in 1..=3 {
        let browser = browser.at(&world.edge(edge));
        let answer = send(&browser, Method::GET, "/authorize", &[cookie]).await?.expect(ALIVE);
        assert_eq!(answer.header("x-auth-email"), "member@acme.test");
        send(&browser, Method::GET, "/v1/me", &[cookie]).await?.expect(200);
    }
    // The same token works both ways.
    let mut program = browser.clone();
    program.token = Some(token.clone());
    assert_eq!(program.authorize().await?.0, ALIVE);

    let same = ("sec-fetch-site", "same-origin");
    let answer = send(&browser, Method::POST, "/v1/logout", &[cookie, same]).await?.expect(204);
    let cleared = format!("{NAME}=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0");
    assert_eq!(answer.header("set-cookie"), cleared);
    for edge in 1..=3 {
        let browser = browser.at(&world.edge(edge));
        send(&browser, Method::GET, "/authorize", &[cookie]).await?.expect(DEAD);
        assert_eq!(program.at(&world.edge(edge)).authorize().await?.0, DEAD);
    }
    assert_problem(
        &send(&browser, Method::GET, "/v1/me", &[cookie]).await?,
        401,
        "unauthenticated",
    );
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn of_two_cookies_or_of_header_and_cookie_none_is_guessed() -> anyhow::Result<()> {
    let world = World::start().await?;
    let ((_, a), (_, b)) = (sign_in(&world).await?, sign_in(&world).await?);
    let browser = world.anonymous();
    let two = format!("{NAME}={a}; {NAME}={b}");
    let (one, other) = (format!("{NAME}={a}"), format!("Bearer {b}"));
    let nonsense = "Bearer bgs_nonsense".to_owned();
    let quoted = format!("{NAME}=\"{a}\"");
    let lower = format!("__host-breakglass={a}");
    for (cookie, authorization, expected) in [
        (&two, None, DEAD),
        (&quoted, None, DEAD),
        (&lower, None, DEAD),
        (&one, None, ALIVE),
        (&one, Some(&other), ALIVE),
        (&one, Some(&nonsense), DEAD),
    ] {
        let mut headers = vec![("cookie", cookie.as_str())];
        headers.extend(authorization.map(|value| ("authorization", value.as_str())));
        for path in ["/authorize", "/v1/me"] {
            let answer = send(&browser, Method::GET, path, &headers).await?;
            assert_eq!(answer.status, expected, "{path} {headers:?}");
        }
    }
    world.end().await;
    Ok(())
}

/// `Origin`, `Sec-Fetch-Site`, and whether a page of this site may be behind such a request.
const SITES: [(Option<&str>, Option<&str>, bool); 20] = [
    (None, None, false),
    (None, Some("none"), false),
    (None, Some("same-origin"), true),
    (None, Some("same-site"), false),
    (None, Some("cross-site"), false),
    (Some("own"), None, true),
    (Some("own"), Some("none"), true),
    (Some("own"), Some("same-origin"), true),
    (Some("own"), Some("same-site"), false),
    (Some("own"), Some("cross-site"), false),
    (Some("null"), None, false),
    (Some("null"), Some("none"), false),
    // The browser has compared the origins itself: its word counts, whatever a proxy made of them.
    (Some("null"), Some("same-origin"), true),
    (Some("null"), Some("same-site"), false),
    (Some("null"), Some("cross-site"), false),
    (Some("https://evil.test"), None, false),
    (Some("https://evil.test"), Some("none"), false),
    (Some("https://evil.test"), Some("same-origin"), true),
    (Some("https://evil.test"), Some("same-site"), false),
    (Some("https://evil.test"), Some("cross-site"), false),
];

#[tokio::test]
async fn csrf_another_site_changes_nothing_with_the_cookie() -> anyhow::Result<()> {
    let world = World::start().await?;
    let (_, token) = sign_in(&world).await?;
    let browser = world.anonymous();
    let cookie = format!("{NAME}={token}");
    let bearer = format!("Bearer {token}");
    let unsafe_routes = [
        (Method::POST, "/v1/sessions/revoke-others", 200),
        (Method::DELETE, "/v1/sessions/00000000-0000-0000-0000-000000000000", 404),
        (Method::POST, "/v1/emergency/grants", 422),
    ];
    let own = world.edge(1);
    for (origin, site, allowed) in SITES {
        let mut headers = Vec::new();
        headers.extend(
            origin.map(|origin| ("origin", if origin == "own" { own.as_str() } else { origin })),
        );
        headers.extend(site.map(|site| ("sec-fetch-site", site)));
        let with = |more: &[(&'static str, &'static str)]| {
            let mut all: Vec<(&'static str, &str)> = headers.clone();
            for (name, which) in more {
                all.push((name, if *which == "cookie" { &cookie } else { &bearer }));
            }
            all
        };
        let by_cookie = with(&[("cookie", "cookie")]);
        let by_header = with(&[("authorization", "bearer")]);
        let by_both = with(&[("cookie", "cookie"), ("authorization", "bearer")]);
        for (method, path, status) in unsafe_routes.clone() {
            let place = format!("{method} {path} {origin:?} {site:?}");
            let answer = send(&browser, method.clone(), path, &by_cookie).await?;
            if allowed {
                assert_eq!(answer.status, status, "{place}");
            } else {
                assert_problem(&answer, 403, "csrf");
            }
            for headers in [&by_header, &by_both] {
                let answer = send(&browser, method.clone(), path, headers).await?;
                assert_eq!(answer.status, status, "{place} with the header");
            }
        }
        // What changes nothing may come from anywhere; so may a proxy's question.
        for headers in [&by_cookie, &by_header, &by_both] {
            send(&browser, Method::GET, "/v1/me", headers).await?.expect(200);
            send(&browser, Method::GET, "/authorize", headers).await?.expect(ALIVE);
            send(&browser, Method::POST, "/authorize", headers).await?.expect(ALIVE);
        }
    }
    // Signing out from elsewhere, too.
    let evil = [("cookie", cookie.as_str()), ("origin", "https://evil.test")];
    assert_problem(&send(&browser, Method::POST, "/v1/logout", &evil).await?, 403, "csrf");
    send(&browser, Method::GET, "/authorize", &evil).await?.expect(ALIVE);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn csrf_another_site_signs_nobody_in() -> anyhow::Result<()> {
    let world = World::start().await?;
    let user = world.stack.credentials().and_then(|c| c.of(Role::Member)).expect("a seeded user");
    let password = user.password.expose_secret();
    let login = json!({"tenant": "acme", "email": user.email, "password": password});
    for (headers, expected) in [
        (&[("origin", "https://evil.test")][..], 403),
        (&[("origin", "null")], 403),
        (&[("sec-fetch-site", "cross-site")], 403),
        (&[("sec-fetch-site", "same-site"), ("origin", "https://evil.test")], 403),
        (&[("sec-fetch-site", "same-origin")], 200),
        (&[], 200),
    ] {
        let mut request = world.anonymous().request(Method::POST, "/v1/login").json(&login);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = Answer::to(request).await?.expect(expected);
        assert_eq!(answer.header("set-cookie").is_empty(), expected == 403, "{headers:?}");
    }
    world.end().await;
    Ok(())
}
