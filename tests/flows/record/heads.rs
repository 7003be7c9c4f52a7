//! Heads: signed in time, once, by whichever key is in force, and published.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use shared::{
    chain::{Problem, SignedHead, verify},
    role::Role,
};
use sqlx::Row as _;
use tests::{Options, World, eventually, program};

use super::{attempts, by_hand, export, head_of, key, last, options, people, verified, world};
use crate::problem::assert_problem;

/// A head as the database has it: of which tenant, entry, and when it was signed, in microseconds.
async fn heads(world: &World) -> anyhow::Result<Vec<(String, i64, i64)>> {
    let rows = sqlx::query(
        "SELECT tenant_id::text, seq, (extract(epoch FROM at) * 1000000)::bigint FROM audit
         WHERE action = 'audit.head-signed' ORDER BY 1, 2",
    );
    let rows = rows.fetch_all(&world.pool).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))).collect()
}

#[tokio::test]
async fn a_head_is_an_entry_an_event_an_answer_and_a_line_in_the_log() -> anyhow::Result<()> {
    let world = world().await?;
    let (reader, member) = people(&world).await?;
    attempts(&member, 3).await?;
    let head = head_of(&reader, last(&world, "acme").await?).await?;
    let answer = reader.get("/v1/audit/head").await?.expect(200).body;
    assert_eq!(answer["public_key"], json!(key(&world)?));
    let tenant = answer["tenant"].as_str().expect("a tenant").parse()?;
    assert!(key(&world)?.signed(tenant, &head));

    let entry =
        format!("/v1/audit?action=audit.head-signed&limit=1&before={}", "9999-01-01T00:00:00Z");
    let entry = reader.get(&entry).await?.expect(200).body["entries"][0].clone();
    assert_eq!(entry["actor"], "session-worker");
    assert_eq!(serde_json::from_value::<SignedHead>(entry["detail"].clone())?, head);
    assert_eq!(entry["seq"], head.seq + 1);
    let covered = format!("/v1/audit?limit=1&cursor={}", head.seq + 1);
    let covered = reader.get(&covered).await?.expect(200).body["entries"][0].clone();
    assert_eq!((&covered["seq"], &covered["hash"]), (&json!(head.seq), &json!(head.hash)));

    let event: Value = sqlx::query_scalar(
        "SELECT payload FROM outbox WHERE kind = 'audit.head-signed' AND tenant_id = $1::uuid
         ORDER BY created_at DESC LIMIT 1",
    )
    .bind(answer["tenant"].as_str())
    .fetch_one(&world.pool)
    .await?;
    assert_eq!(serde_json::from_value::<SignedHead>(event)?, head);

    let log = world.stack.data().join("log").join("session-worker.log");
    let signature = head.signature.to_string();
    eventually("it is in the log", || async {
        std::fs::read_to_string(&log).is_ok_and(|log| {
            log.lines().any(|line| line.contains("audit head signed") && line.contains(&signature))
        })
    })
    .await?;
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_record_in_which_nothing_happens_gets_no_more_heads() -> anyhow::Result<()> {
    let world = world().await?;
    world.create_tenant("quiet").await?;
    let quiet = world.sign_in_to("quiet", Role::Manager).await?;
    let (reader, member) = people(&world).await?;
    head_of(&quiet, last(&world, "quiet").await?).await?;
    let length = last(&world, "quiet").await?;
    // As long as another record gets three.
    for _ in 0..3 {
        attempts(&member, 1).await?;
        head_of(&reader, last(&world, "acme").await?).await?;
    }
    assert_eq!(last(&world, "quiet").await?, length);
    // What happens then is covered again.
    attempts(&world.sign_in_to("quiet", Role::Member).await?, 1).await?;
    head_of(&quiet, length + 2).await?;
    assert!(verified(&world, &quiet, &[]).await?.is_intact());
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn none_is_signed_before_its_time() -> anyhow::Result<()> {
    let world = World::start_with(Options { edges: Some(1), ..Options::default() }).await?;
    let reader = world.sign_in(Role::Manager).await?;
    assert_problem(&reader.get("/v1/audit/head").await?, 404, "not-found");
    let report = verified(&world, &reader, &[]).await?;
    assert_eq!(report.problems, [Problem::NothingSigned]);
    // A head is wanted an hour after the tenant was created: the next look finds that.
    by_hand(&world, &["UPDATE tenants SET created_at = created_at - interval '1 hour'"]).await?;
    head_of(&reader, 1).await?;
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn two_workers_sign_once() -> anyhow::Result<()> {
    let world = World::start_with(Options { workers: Some(2), ..options() }).await?;
    let tenants: Vec<_> = (0..12).map(|n| format!("tenant-{n}")).collect();
    let mut readers = Vec::new();
    for slug in &tenants {
        world.create_tenant(slug).await?;
        readers.push(world.sign_in_to(slug, Role::Manager).await?);
    }
    for _ in 0..4 {
        for (slug, reader) in tenants.iter().zip(&readers) {
            reader.send(reqwest::Method::PUT, "/v1/mfa-policy", Some(policy())).await?.expect(403);
            head_of(reader, last(&world, slug).await?).await?;
        }
    }
    let mut before: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    let heads = heads(&world).await?;
    assert!(heads.len() >= 4 * tenants.len(), "{}", heads.len());
    for (tenant, seq, at) in &heads {
        if let Some((last_seq, last_at)) = before.insert(tenant.clone(), (*seq, *at)) {
            assert!(*seq > last_seq + 1, "{tenant}: a head of a head at {seq}");
            assert!(at - last_at >= 900_000, "{tenant}: two at once at {seq}");
        }
    }
    let events: i64 =
        sqlx::query_scalar("SELECT count(*) FROM outbox WHERE kind = 'audit.head-signed'")
            .fetch_one(&world.pool)
            .await?;
    assert!(usize::try_from(events)? >= heads.len());
    for reader in &readers {
        assert!(verified(&world, reader, &[]).await?.is_intact());
    }
    world.end().await;
    Ok(())
}

fn policy() -> Value {
    json!({"require_2fa": false, "required_roles": [], "grace_period_days": 3})
}

/// What a command line prints, and whether it was content.
async fn run(name: &str, words: &[&str]) -> anyhow::Result<Result<String, String>> {
    let mut command = tokio::process::Command::new(program(name)?);
    let output = command.args(words).output().await?;
    let text = String::from_utf8([output.stdout, output.stderr].concat())?;
    Ok(if output.status.success() { Ok(text) } else { Err(text) })
}

#[tokio::test]
async fn the_command_line_verifies_a_file() -> anyhow::Result<()> {
    let world = world().await?;
    let (reader, member) = people(&world).await?;
    attempts(&member, 2).await?;
    let head = serde_json::to_string(&head_of(&reader, last(&world, "acme").await?).await?)?;
    let dir = tests::scratch::dir("record-")?;
    let file = dir.path().join("record.ndjson");
    let lines = export(&reader).await?;
    let key = key(&world)?.to_string();
    let verify = async |lines: &[String]| {
        tokio::fs::write(&file, lines.join("\n")).await?;
        let file = file.to_str().expect("text");
        run("breakglass", &["audit", "verify", file, "--public-key", &key, "--head", &head]).await
    };
    let words = verify(&lines).await?.expect("it is intact");
    assert!(
        words.contains("The record is intact.") && !words.contains("may be missing"),
        "{words}"
    );
    let words = verify(&lines[..3]).await?.expect_err("it was cut off");
    assert!(
        words.contains("the record ends with entry 3") && words.contains("may be missing"),
        "{words}"
    );
    let edited: Vec<_> = lines.iter().map(|line| line.replace("operator", "somebody")).collect();
    let words = verify(&edited).await?.expect_err("it was edited");
    assert!(words.contains("entry 1 is not what was written"), "{words}");
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn keys_rotate() -> anyhow::Result<()> {
    let world = world().await?;
    let (reader, member) = people(&world).await?;
    attempts(&member, 1).await?;
    let before = head_of(&reader, last(&world, "acme").await?).await?;
    let old = key(&world)?;

    let path = world.stack.data().join("keys").join("audit-key");
    tokio::fs::write(
        &path,
        run("session-worker", &["operator", "new-audit-key"]).await?.expect("a key"),
    )
    .await?;
    let new = run(
        "session-worker",
        &["operator", "audit-public-key", "--audit-key", path.to_str().expect("text")],
    )
    .await?;
    let new = new.expect("a key").parse()?;
    assert_eq!((key(&world)?, new == old), (new, false));
    world.stack.kill("session-worker").await;
    world.stack.wait_ready("session-worker").await?;
    attempts(&member, 1).await?;
    let after = head_of(&reader, last(&world, "acme").await?).await?;
    assert_eq!((before.key_id.clone(), after.key_id.clone()), (old.id(), new.id()));

    let lines = export(&reader).await?;
    let report = verify(&lines, &[old, new], &[before.clone(), after.clone()]);
    assert!(report.is_intact() && report.heads >= 2, "{report:?}");
    assert!(verify(&lines, &[new], &[after]).is_intact());
    let problems = verify(&lines, &[old], &[before]).problems;
    assert!(matches!(&problems[..], [Problem::UnknownKey { .. }]), "{problems:?}");
    world.end().await;
    Ok(())
}
