//! The export: whole, of one tenant, for those who may, for as long as they may.

use std::collections::BTreeSet;

use futures_util::future::try_join_all;
use reqwest::Method;
use serde_json::{Value, json};
use shared::role::Role;
use tests::World;

use super::{attempts, export, field, head_of, key, last, people, verified, world};
use crate::problem::assert_problem;

/// Appends entries in one call, each with so many bytes of detail.
async fn append(world: &World, slug: &str, entries: i32, bytes: i32) -> anyhow::Result<()> {
    sqlx::query(
        "SELECT append_audit(array_agg(t.id), array_agg('somebody'::text), array_agg('thing.done'::text),
             array_agg('thing:' || n), array_agg(NULL::text),
             array_agg(jsonb_build_object('n', n, 'text', repeat('x', $3))), array_agg(NULL::text))
         FROM tenants t, generate_series(1, $2) n WHERE slug = $1",
    )
    .bind(slug)
    .bind(entries)
    .bind(bytes)
    .execute(&world.pool)
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_long_record_is_exported_whole() -> anyhow::Result<()> {
    let world = world().await?;
    let reader = world.sign_in(Role::Manager).await?;
    for _ in 0..4 {
        append(&world, "acme", 2_000, 150).await?;
    }
    head_of(&reader, 8_000).await?;
    let lines = export(&reader).await?;
    assert!(lines.len() > 8_000);
    let report = shared::chain::verify(&lines, &[key(&world)?], &[]);
    assert!(report.is_intact() && report.ends_with_export, "{report:?}");
    assert_eq!((report.entries, report.last), (lines.len() as u64, lines.len() as u64));
    assert!(report.covered > 8_000, "{report:?}");
    // Whoever exports is on record, and it is the last entry of the export.
    let me = reader.get("/v1/me").await?.expect(200).body;
    let end: Value = serde_json::from_str(lines.last().expect("a line"))?;
    assert_eq!(end["actor"], me["user"]["id"]);
    assert_eq!(end["tenant"], me["tenant"]["id"]);
    assert_eq!(end["ip"], "127.0.0.1");
    // Entries are told alike by both routes.
    let listed = reader.get("/v1/audit?action=audit.exported").await?.expect(200).body;
    let mut listed = listed["entries"][0].clone();
    listed["tenant"] = end["tenant"].clone();
    assert_eq!(listed, end);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn the_records_of_two_tenants_do_not_mix() -> anyhow::Result<()> {
    let world = world().await?;
    let (reader, member) = people(&world).await?;
    world.create_tenant("other").await?;
    let other_member = world.sign_in_to("other", Role::Member).await?;
    let other_reader = world.sign_in_to("other", Role::Admin).await?;
    for _ in 0..4 {
        tokio::try_join!(attempts(&member, 3), attempts(&other_member, 3))?;
    }
    for (reader, slug) in [(&reader, "acme"), (&other_reader, "other")] {
        head_of(reader, last(&world, slug).await?).await?;
        let lines = export(reader).await?;
        let report = shared::chain::verify(&lines, &[key(&world)?], &[]);
        assert!(report.is_intact(), "{report:?}");
        let me = reader.get("/v1/me").await?.expect(200).body;
        let id = field(&me["tenant"], "id")?.to_owned();
        assert_eq!(report.tenant.map(|tenant| tenant.to_string()), Some(id));
    }
    // One tenant's entry among another's, at its own place.
    let seq = 6;
    let taken = sqlx::query(
        "UPDATE audit a SET (at, actor, action, target, ip, detail, trace_id, hash) =
             (b.at, b.actor, b.action, b.target, b.ip, b.detail, b.trace_id, b.hash)
         FROM audit b, tenants t, tenants u
         WHERE a.tenant_id = t.id AND t.slug = 'acme' AND b.tenant_id = u.id AND u.slug = 'other'
           AND a.seq = $1 AND b.seq = $1",
    )
    .bind(seq)
    .execute(&world.pool)
    .await?;
    assert_eq!(taken.rows_affected(), 1);
    assert!(!verified(&world, &reader, &[]).await?.is_intact());
    assert!(verified(&world, &other_reader, &[]).await?.is_intact());
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn what_is_written_at_once_is_one_chain() -> anyhow::Result<()> {
    let world = world().await?;
    let (reader, member) = people(&world).await?;
    world.create_tenant("other").await?;
    let signing_in = (0..4).map(|_| world.sign_in(Role::Member));
    let refused = (0..4).map(|_| attempts(&member, 12));
    // Both records in one transaction, in either order.
    let both = (0..12).map(|n| {
        let (first, second) = if n % 2 == 0 { ("acme", "other") } else { ("other", "acme") };
        let pool = &world.pool;
        async move {
            sqlx::query(
                "SELECT append_audit(array_agg(t.id ORDER BY n), array_agg('somebody'::text),
                     array_agg('thing.done'::text), array_agg(NULL::text), array_agg(NULL::text),
                     array_agg('{}'::jsonb), array_agg(NULL::text))
                 FROM unnest(ARRAY[$1, $2, $1, $1, $2]) WITH ORDINALITY AS o (slug, n) JOIN tenants t USING (slug)",
            )
            .bind(first)
            .bind(second)
            .execute(pool)
            .await?;
            anyhow::Ok(())
        }
    });
    tokio::try_join!(try_join_all(signing_in), try_join_all(refused), try_join_all(both))?;
    head_of(&reader, last(&world, "acme").await?).await?;
    let report = verified(&world, &reader, &[]).await?;
    assert!(report.is_intact(), "{report:?}");
    assert!(report.covered >= 4 + 48 + 30, "{report:?}");
    let other = world.sign_in_to("other", Role::Manager).await?;
    head_of(&other, last(&world, "other").await?).await?;
    assert!(verified(&world, &other, &[]).await?.is_intact());
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn who_may_not_read_the_record_exports_nothing() -> anyhow::Result<()> {
    let world = world().await?;
    let (reader, member) = people(&world).await?;
    for path in ["/v1/audit/export", "/v1/audit/head"] {
        assert_problem(&member.get(path).await?, 403, "forbidden");
        assert_problem(&world.anonymous().get(path).await?, 401, "unauthenticated");
        let unknown = format!("{path}?from=1");
        assert_problem(&reader.get(&unknown).await?, 400, "bad-request");
    }
    let refused = reader.get("/v1/audit?action=access.refused").await?.expect(200).body;
    let requests: BTreeSet<_> = refused["entries"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|entry| entry["detail"]["request"].as_str())
        .collect();
    assert_eq!(requests, BTreeSet::from(["audit.export", "audit.head"]));
    let exported = reader.get("/v1/audit?action=audit.exported").await?.expect(200).body;
    assert_eq!(exported["entries"], json!([]));
    world.end().await;
    Ok(())
}

/// A record that is longer than what sockets keep: its end is not read before its beginning is taken.
async fn fill(world: &World) -> anyhow::Result<usize> {
    for _ in 0..8 {
        append(world, "acme", 1_000, 2_000).await?;
    }
    Ok(8_000)
}

#[tokio::test]
async fn what_is_written_meanwhile_is_left_to_the_next_export() -> anyhow::Result<()> {
    let world = world().await?;
    let (reader, member) = people(&world).await?;
    let filled = fill(&world).await?;
    head_of(&reader, filled as u64).await?;
    let mut response = reader.request(Method::GET, "/v1/audit/export").send().await?;
    let mut text = response.chunk().await?.expect("a beginning").to_vec();
    let end = last(&world, "acme").await?;
    attempts(&member, 3).await?;
    head_of(&reader, last(&world, "acme").await?).await?;
    while let Some(chunk) = response.chunk().await? {
        text.extend(chunk);
    }
    let lines: Vec<_> = std::str::from_utf8(&text)?.lines().collect();
    let report = shared::chain::verify(&lines, &[key(&world)?], &[]);
    assert!(report.is_intact() && report.ends_with_export && report.last <= end, "{report:?}");
    assert!(lines.len() > filled);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_session_that_ends_meanwhile_ends_the_export() -> anyhow::Result<()> {
    let world = world().await?;
    let reader = world.sign_in(Role::Manager).await?;
    let entries = fill(&world).await?;
    let id = field(&reader.get("/v1/me").await?.expect(200).body["session"], "id")?.to_owned();
    let mut response = reader.request(Method::GET, "/v1/audit/export").send().await?;
    assert_eq!(response.status(), 200);
    assert!(response.chunk().await?.is_some());
    let again = world.sign_in(Role::Manager).await?;
    again.delete(&format!("/v1/sessions/{id}")).await?.expect(200);
    let mut lines = 0;
    let end = loop {
        match response.chunk().await {
            Ok(Some(chunk)) => lines += chunk.split(|byte| *byte == b'\n').count() - 1,
            end => break end,
        }
    };
    assert!(end.is_err(), "{lines} lines pass for the whole record");
    assert!(lines < entries, "{lines}");
    world.end().await;
    Ok(())
}
