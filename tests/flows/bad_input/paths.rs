//! Paths, ids, queries and methods.

use std::collections::BTreeSet;

use anyhow::Context as _;
use reqwest::Method;
use tests::Answer;

use super::Scene;
use crate::problem::assert_problem;

#[tokio::test]
async fn what_is_no_id_names_nothing() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let (id, hex) = (scene.session.clone(), scene.session.replace('-', ""));
    let ids = [
        "x",
        "1",
        "-1",
        "null",
        "undefined",
        "*",
        "%25",
        "%00",
        "%0d%0aX-A:%20b",
        "..%2f..",
        "me",
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        "%F0%9F%94%A5",
        "%ff",
        "'%20OR%20''='",
        "0",
        &id[..35],
        &hex[..31],
    ];
    let mut all: Vec<_> = ids.map(ToOwned::to_owned).into();
    all.extend([format!("{id}0"), format!("{id}%20"), format!("{id}%00"), "a".repeat(6_000)]);
    for id in all {
        for call in [
            "DELETE /v1/sessions/{id}",
            "GET /v1/users/{id}/sessions",
            "POST /v1/users/{id}/sessions/revoke-all",
            "DELETE /v1/users/{user}/sessions/{id}",
            "DELETE /v1/users/{id}/sessions/{session}",
            "GET /v1/emergency/grants/{id}",
            "POST /v1/emergency/grants/{id}/revoke",
        ] {
            let call = call.replace("{id}", &id);
            scene.refused(&call, scene.request(&call), 404, "not-found").await?;
        }
    }
    scene.end().await
}

#[tokio::test]
async fn an_id_in_another_spelling_is_the_same_or_none() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let upper = format!("GET /v1/emergency/grants/{}", scene.grant.to_uppercase());
    let answer = Answer::to(scene.request(&upper)).await?.expect(200);
    assert_eq!(answer.body["grant"]["id"], scene.grant.as_str());
    let simple = scene.grant.replace('-', "");
    let braced = format!("%7B{}%7D", scene.grant);
    for id in [simple, braced, format!("urn:uuid:{}", scene.grant)] {
        let answer = Answer::to(scene.request(&format!("GET /v1/emergency/grants/{id}"))).await?;
        match answer.status.as_u16() {
            200 => assert_eq!(answer.body["grant"]["id"], scene.grant.as_str()),
            _ => assert_problem(&answer, 404, "not-found"),
        }
    }
    scene.end().await
}

#[tokio::test]
async fn a_query_is_understood_or_refused() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let both = [
        "x=1",
        "limit=0",
        "limit=201",
        "limit=-1",
        "limit=abc",
        "limit=",
        "limit=1.5",
        "limit=1e2",
        "limit=%00",
        "limit=4294967297",
        "limit=99999999999999999999",
        "limit=1&limit=1",
        "Limit=1",
        "limit[]=1",
        "cursor=x",
        "cursor=1&cursor=1",
        "offset=1",
        "limit=10&x",
        "=1",
        "cursor=",
        "cursor=-1",
    ];
    let grants = [
        "state=over",
        "state=ACTIVE",
        "state=",
        "state=active&state=active",
        "state=active,revoked",
        "user=x",
        "user=",
        "user=me",
        "user=%00",
        "tenant=acme",
        "cursor=17",
    ];
    let audit = [
        "after=yesterday",
        "after=2026-11-22",
        "after=",
        "after=0",
        "before=2026-11-22T03:00:00",
        "actor=a&actor=b",
        "after=2026-13-01T00:00:00Z",
        "cursor=9223372036854775808",
        "cursor=18446744073709551615",
        "cursor=18446744073709551616",
        "cursor=1.5",
    ];
    let queries = |path: &'static str, more: &[&'static str]| {
        let all = [&both[..], more].concat();
        all.into_iter().map(move |query| format!("GET {path}?{query}"))
    };
    let cursor = format!("GET /v1/audit?cursor={}", scene.grant);
    let calls = queries("/v1/emergency/grants", &grants)
        .chain(queries("/v1/audit", &audit))
        .chain([cursor]);
    for call in calls {
        scene.refused(&call, scene.request(&call), 400, "bad-request").await?;
    }
    // A cursor of another list, an actor that nobody is: nothing of others, and no fault.
    for (call, list) in [
        ("/v1/emergency/grants?cursor={session}", "grants"),
        ("/v1/emergency/grants?cursor={user}", "grants"),
        ("/v1/emergency/grants?cursor=00000000-0000-0000-0000-000000000000", "grants"),
        ("/v1/emergency/grants?user={session}&state=pending", "grants"),
        ("/v1/emergency/grants?limit=200", "grants"),
        ("/v1/audit?limit=200&cursor=0", "entries"),
        ("/v1/audit?limit=1&actor=%25", "entries"),
        ("/v1/audit?actor=&action=", "entries"),
        ("/v1/audit?action=%27%20OR%20%27%27=%27", "entries"),
        ("/v1/audit?after=0000-01-01T00:00:00Z&before=9999-12-31T23:59:59.999999999Z", "entries"),
    ] {
        let answer = Answer::to(scene.request(&format!("GET {call}"))).await?;
        assert_eq!(answer.status, 200, "{call}: {}", answer.body);
        assert!(answer.body[list].is_array(), "{call}: {}", answer.body);
    }
    scene.end().await
}

#[tokio::test]
async fn no_query_is_a_fault_of_ours() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    for query in [
        "after=9999-12-31T23:59:59-23:59",
        "before=9999-12-31T23:59:59.999999999-00:01",
        "after=0000-01-01T00:00:00%2B23:59",
    ] {
        let call = format!("GET /v1/audit?{query}");
        scene.refused(&call, scene.request(&call), 400, "bad-request").await?;
    }
    let mut wrong = Vec::new();
    for query in
        ["actor=%00", "action=a%00b", "target=%00", "actor=%ff", "before=0000-01-01T00:00:00Z"]
    {
        let answer = Answer::to(scene.request(&format!("GET /v1/audit?{query}"))).await?;
        if answer.status.is_server_error() {
            wrong.push(format!("{query}: {} {}", answer.status, answer.body));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    scene.end().await
}

#[tokio::test]
async fn routes_without_parameters_refuse_them() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let mut wrong = Vec::new();
    for call in [
        "GET /v1/me?x=1",
        "GET /v1/events?after=1",
        "GET /v1/sessions?limit=1",
        "GET /v1/sessions?user={user}",
        "GET /v1/users/{user}/sessions?limit=1",
        "GET /v1/emergency/grants/{grant}?x",
        "DELETE /v1/sessions/00000000-0000-0000-0000-000000000000?dry-run=true",
        "POST /v1/emergency/grants?dry-run=true",
    ] {
        let answer = Answer::to(scene.request(call)).await?;
        if answer.status != 400 {
            wrong.push(format!("{call}: {}", answer.status));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    scene.end().await
}

#[tokio::test]
async fn unknown_routes_are_not_found_and_no_trick_leads_to_a_known_one() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    for path in [
        "/v1",
        "/v1/",
        "/v2/me",
        "/v1/me/",
        "//v1/me",
        "/v1//me",
        "/V1/me",
        "/v1/ME",
        "/v1/%6de",
        "/v1%2fme",
        "/v1/me%00",
        "/v1/me%20",
        "/v1/me;x=1",
        "/v1/me.json",
        "/authorize/",
        "/authorize/x",
        "//authorize",
        "/Authorize",
        "/%61uthorize",
        "/authorize%2f",
        "/authorize%3frole=admin",
        "/authorize;role=admin",
        "/v1/sessions//",
        "/v1/emergency/grants/",
        "/v1/emergency/grants/{grant}/revoke/",
        "/.env",
        "/healthz/",
        "/openapi.json/",
        "/v1/users/{user}/x",
        "/v1/users/{user}/sessions/{session}/x",
    ] {
        for method in ["GET", "POST", "DELETE", "BREW"] {
            let call = format!("{method} {path}");
            scene.refused(&call, scene.request(&call), 404, "not-found").await?;
        }
    }
    scene.end().await
}

#[tokio::test]
async fn a_wrong_method_is_told_the_right_ones() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let document = scene.world.anonymous().get("/openapi.json").await?.expect(200).body;
    for (path, item) in document["paths"].as_object().context("paths")? {
        let operations = item.as_object().context("operations")?;
        let mut known: BTreeSet<_> =
            operations.keys().map(|method| method.to_uppercase()).collect();
        if known.contains("GET") {
            known.insert("HEAD".to_owned());
        }
        if path == "/authorize" {
            continue;
        }
        let filled = path.replace("{id}", &scene.user).replace("{sid}", &scene.session);
        for method in
            ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW", "get"]
        {
            if known.contains(method) {
                continue;
            }
            let place = format!("{method} {filled}");
            let request = scene.admin.request(Method::from_bytes(method.as_bytes())?, &filled);
            let answer = if method == "HEAD" {
                Answer::to(request).await?.expect(405)
            } else {
                scene.refused(&place, request, 405, "method-not-allowed").await?
            };
            let allowed: BTreeSet<_> =
                answer.header("allow").split(',').map(|method| method.trim().to_owned()).collect();
            assert_eq!(allowed, known, "{place}");
        }
    }
    scene.end().await
}
