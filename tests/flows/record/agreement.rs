//! The database hashes as the verifier does, whatever is in an entry.

use serde_json::json;
use shared::{
    chain::{Content, Hash, Problem},
    role::Role,
};
use sqlx::{PgConnection, Row as _};
use tests::World;
use uuid::Uuid;

use super::{export, verified, world};

/// Texts that somebody could get into an entry.
const TEXTS: [&str; 12] = [
    "",
    "-",
    ",",
    ":,",
    "3:abc,",
    "user:0192f0c1-2b3c-7d4e-8f50-000000000002",
    "\u{1}\u{8}\t\n\r\u{1f}\u{7f}",
    "\"\\/",
    "Schlüssel 🔑 \u{202e}\u{feff}\u{2028}",
    "e\u{301} is not \u{e9}",
    "\u{10ffff}\u{ffff}",
    "'; DROP TABLE audit; --",
];

/// Particulars as somebody could write them; the database has its own spelling for them.
const DETAILS: [&str; 12] = [
    "{}",
    "null",
    "[]",
    "\"\"",
    "{\"n\": 1e400, \"m\": 1E-400}",
    "{\"n\": 1.0, \"m\": 1.10, \"z\": -0, \"y\": -0.0}",
    "{\"n\": 123456789012345678901234567890, \"m\": 9007199254740993, \"k\": -9223372036854775809}",
    "{\"b\": 1, \"a\": 2, \"b\": 3, \"aa\": {\"x\": [null, true, {}]}}",
    "{\"text\": \"\\u00fc \\ud83d\\udd11 \\u0001 \\\\u0000 \\/ \\\"\"}",
    "{\"\": \"\", \"ü\": \"🔑\"}",
    "   {  \"a\"  :  [ 1 , 2 ]  }   ",
    "0.00000000000000000000000000000000000000000000000000000000000001",
];

#[tokio::test]
async fn every_odd_entry_has_the_same_hash_in_an_export() -> anyhow::Result<()> {
    let world = world().await?;
    let reader = world.sign_in(Role::Manager).await?;
    let maybe = |text: &'static str| [None, Some(text)];
    for (text, detail) in TEXTS.into_iter().zip(DETAILS) {
        for (target, ip) in maybe(text).into_iter().zip(maybe(text).into_iter().rev()) {
            sqlx::query(
                "SELECT append_audit(ARRAY[id], ARRAY[$1], ARRAY[$1], ARRAY[$2], ARRAY[$3], ARRAY[$4::jsonb], ARRAY[$2])
                 FROM tenants WHERE slug = 'acme'",
            )
            .bind(text)
            .bind(target)
            .bind(ip)
            .bind(detail)
            .execute(&world.pool)
            .await?;
        }
    }
    let report = verified(&world, &reader, &[]).await?;
    let signed = |problem: &Problem| *problem == Problem::NothingSigned;
    assert!(report.problems.iter().all(signed), "{report:?}");
    let lines = export(&reader).await?;
    assert!(
        report.entries >= 24
            && lines.iter().any(|line| line.contains("123456789012345678901234567890"))
    );
    // The list shows them as well, numbers that no machine can count among them.
    reader.get("/v1/audit?limit=200").await?.expect(200);
    world.end().await;
    Ok(())
}

/// What the database makes of an entry, in a session with its own ideas of times, numbers and texts.
async fn hashed(
    connection: &mut PgConnection,
    tenant: Uuid,
    texts: [Option<&str>; 5],
    micros: i64,
    detail: &str,
) -> anyhow::Result<(String, Hash, Hash)> {
    let row = sqlx::query(
        "SELECT $8::jsonb::text, audit_beginning($1),
                audit_link(NULL, audit_beginning($1), audit_encoding(
                    7, (extract(epoch FROM timestamptz 'epoch'
                        + $7 / 1000000 * interval '1 second' + $7 % 1000000 * interval '1 microsecond') * 1000000)::bigint,
                    $2, $3, $4, $5, $8::jsonb::text, $6))",
    )
    .bind(tenant)
    .bind(texts[0])
    .bind(texts[1])
    .bind(texts[2])
    .bind(texts[3])
    .bind(texts[4])
    .bind(micros)
    .bind(detail)
    .fetch_one(connection)
    .await?;
    let hash = |at| -> anyhow::Result<Hash> {
        let bytes: Vec<u8> = row.try_get(at)?;
        Ok(Hash(bytes.try_into().map_err(|_| anyhow::anyhow!("no hash"))?))
    };
    Ok((row.try_get(0)?, hash(1)?, hash(2)?))
}

#[tokio::test]
async fn no_setting_of_the_database_changes_a_hash() -> anyhow::Result<()> {
    let world = World::start_with(tests::Options { edges: Some(1), ..Default::default() }).await?;
    let mut random = fastrand::Rng::with_seed(7);
    for setting in [
        "SET TIME ZONE 'UTC'",
        "SET TIME ZONE 'Asia/Kolkata'",
        "SET DateStyle = 'SQL, DMY'",
        "SET IntervalStyle = 'sql_standard'",
        "SET extra_float_digits = -15",
        "SET lc_numeric = 'C'",
        "SET bytea_output = 'escape'",
        "SET standard_conforming_strings = off",
    ] {
        let mut connection = world.pool.acquire().await?.detach();
        sqlx::query(setting).execute(&mut connection).await?;
        for _ in 0..200 {
            let tenant = Uuid::from_u128(random.u128(..));
            // From the year 1 to 9999, and to the microsecond.
            let micros = random.i64(-62_135_596_800_000_000..253_402_300_800_000_000);
            let mut text = |may_be_none: bool| {
                let mut text = random.choice(TEXTS).unwrap_or_default().to_owned();
                text.extend((0..random.usize(..4)).map(|_| random.char('\u{1}'..)));
                (!may_be_none || random.bool()).then_some(text)
            };
            let texts = [text(false), text(false), text(true), text(true), text(true)];
            let texts = texts.each_ref().map(Option::as_deref);
            let detail = json!({texts[0].unwrap_or_default(): texts, "n": random.f64(), "m": random.i64(..)});
            let (detail, beginning, hash) =
                hashed(&mut connection, tenant, texts, micros, &detail.to_string()).await?;
            let content = Content {
                seq: 7,
                at_micros: micros,
                actor: texts[0].unwrap_or_default(),
                action: texts[1].unwrap_or_default(),
                target: texts[2],
                ip: texts[3],
                detail: &detail,
                trace_id: texts[4],
            };
            assert_eq!(beginning, Hash::beginning(tenant));
            assert_eq!(hash, content.hash(beginning), "{setting}: {content:?}");
        }
    }
    world.end().await;
    Ok(())
}
