//! Somebody owns the database and changes what was written.

use shared::chain::{Problem, Report, SignedHead};
use tests::{Client, World};

use super::{attempts, by_hand, head_of, last, people, verified, world};

/// A record of some twenty entries, all of them but the last few covered by heads.
struct Scene {
    world: World,
    reader: Client,
    member: Client,
    /// A head that was seen while all was well.
    seen: SignedHead,
}

impl Scene {
    async fn set() -> anyhow::Result<Self> {
        let world = world().await?;
        let (reader, member) = people(&world).await?;
        attempts(&member, 8).await?;
        head_of(&reader, last(&world, "acme").await?).await?;
        attempts(&member, 8).await?;
        let seen = head_of(&reader, last(&world, "acme").await?).await?;
        let scene = Self { world, reader, member, seen };
        let report = scene.verified().await?;
        assert!(report.is_intact(), "{report:?}");
        assert!(report.covered >= 16 && report.ends_with_export, "{report:?}");
        Ok(scene)
    }

    async fn verified(&self) -> anyhow::Result<Report> {
        verified(&self.world, &self.reader, &[]).await
    }

    /// What is found after a change by hand; goes on for as long as the record does.
    async fn found(self, statements: Statements) -> anyhow::Result<Vec<Problem>> {
        by_hand(&self.world, statements).await?;
        let problems = self.verified().await?.problems;
        attempts(&self.member, 2).await?;
        head_of(&self.reader, last(&self.world, "acme").await?).await?;
        let later = self.verified().await?.problems;
        assert_eq!(later, problems, "it is found as well after the next head");
        self.world.end().await;
        Ok(problems)
    }

    /// What is found after a change by hand, and every hash after it set right.
    async fn found_rehashed(self, statements: Statements) -> anyhow::Result<Vec<Problem>> {
        by_hand(&self.world, &[statements, REHASH].concat()).await?;
        let problems = self.verified().await?.problems;
        self.world.end().await;
        Ok(problems)
    }
}

type Statements = &'static [&'static str];

// The first four entries are written at once, so there is no head between them.
const EDIT: Statements =
    &["UPDATE audit SET detail = detail || '{\"role\": \"nothing\"}' WHERE seq = 2"];
const DROP: Statements = &["DELETE FROM audit WHERE seq = 2"];
// Places are changed by way of others, which the key allows.
const DROP_AND_CLOSE: Statements = &[
    "DELETE FROM audit WHERE seq = 2",
    "UPDATE audit SET seq = 1 - seq WHERE seq > 2",
    "UPDATE audit SET seq = -seq WHERE seq < 0",
];
const INSERT: Statements = &[
    "UPDATE audit SET seq = -1 - seq WHERE seq >= 2",
    "UPDATE audit SET seq = -seq WHERE seq < 0",
    "INSERT INTO audit (tenant_id, seq, at, actor, action, target, ip, detail, trace_id, hash)
     SELECT tenant_id, 2, at, 'somebody', 'grant.activated', target, ip, '{}', trace_id, hash
     FROM audit WHERE seq = 3",
    "UPDATE tenants SET audit_seq = audit_seq + 1",
];
const REORDER: Statements = &[
    "UPDATE audit SET seq = seq - 5 WHERE seq IN (2, 3)",
    "UPDATE audit SET seq = -seq WHERE seq < 0",
];
/// Makes every hash anew, as the migration did.
const REHASH: Statements = &[
    "UPDATE audit SET hash = chained.hash
     FROM (SELECT tenant_id, seq, audit_chain(audit_beginning(tenant_id), audit_encoding(
                      seq, (extract(epoch FROM at) * 1000000)::bigint, actor, action, target, ip,
                      detail::text, trace_id)) OVER (PARTITION BY tenant_id ORDER BY seq) AS hash
           FROM audit) chained
     WHERE chained.tenant_id = audit.tenant_id AND chained.seq = audit.seq",
    "UPDATE tenants t SET audit_seq = a.seq, audit_hash = a.hash FROM audit a
     WHERE a.tenant_id = t.id AND NOT EXISTS (
         SELECT FROM audit b WHERE b.tenant_id = a.tenant_id AND b.seq > a.seq)",
];

/// Whether a head, wherever it came to lie, does not fit any more.
fn heads_disagree(problems: &[Problem]) -> bool {
    problems.iter().any(|problem| {
        matches!(
            problem,
            Problem::Rewritten { .. } | Problem::NoHead { .. } | Problem::NothingSigned
        )
    })
}

#[tokio::test]
async fn an_entry_that_was_edited_is_found() -> anyhow::Result<()> {
    assert_eq!(Scene::set().await?.found(EDIT).await?, [Problem::Changed { seq: 2 }]);
    Ok(())
}

#[tokio::test]
async fn an_entry_that_was_dropped_is_found() -> anyhow::Result<()> {
    assert_eq!(Scene::set().await?.found(DROP).await?, [Problem::Missing { from: 2, to: 2 }]);
    Ok(())
}

#[tokio::test]
async fn an_entry_that_was_inserted_is_found() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    by_hand(&scene.world, INSERT).await?;
    let problems = scene.verified().await?.problems;
    assert_eq!(problems[..2], [Problem::Changed { seq: 2 }, Problem::Changed { seq: 3 }]);
    scene.world.end().await;
    Ok(())
}

#[tokio::test]
async fn entries_that_were_reordered_are_found() -> anyhow::Result<()> {
    let problems = Scene::set().await?.found(REORDER).await?;
    let changed: Vec<_> = (2..=4).map(|seq| Problem::Changed { seq }).collect();
    assert_eq!(problems, changed);
    Ok(())
}

#[tokio::test]
async fn hashing_it_all_anew_does_not_help() -> anyhow::Result<()> {
    for statements in [EDIT, DROP_AND_CLOSE, INSERT, REORDER] {
        let problems = Scene::set().await?.found_rehashed(statements).await?;
        assert!(heads_disagree(&problems), "{statements:?}: {problems:?}");
    }
    Ok(())
}

#[tokio::test]
async fn entries_that_were_cut_off_are_found() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    by_hand(&scene.world, &["DELETE FROM audit WHERE seq > 12"]).await?;
    // Whoever exports goes on after what there was.
    let problems = scene.verified().await?.problems;
    assert!(matches!(problems[0], Problem::Missing { from: 13, .. }), "{problems:?}");
    scene.world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_head_that_was_kept_shows_that_all_after_it_was_cut_off() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let Scene { world, reader, seen, .. } = &scene;
    // Nothing signs meanwhile; everything in the database is as it was then.
    world.stack.stop_service("session-worker").await;
    let cut: Statements = &["DELETE FROM audit WHERE seq > 8", "DELETE FROM audit_heads"];
    by_hand(world, &[cut, REHASH].concat()).await?;
    world.stack.start_service("session-worker").await;
    world.stack.wait_ready("session-worker").await?;
    let report = verified(world, reader, std::slice::from_ref(seen)).await?;
    let told = |problem: &Problem| match problem {
        Problem::Truncated { signed, .. } => *signed == seen.seq,
        Problem::Rewritten { seq } => *seq == seen.seq,
        _ => false,
    };
    assert!(report.problems.iter().any(told), "{report:?}");
    scene.world.end().await;
    Ok(())
}

#[tokio::test]
async fn session_worker_says_that_the_record_is_not_what_it_signed() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let log = scene.world.stack.data().join("log").join("session-worker.log");
    let alarm = "the audit record is not what was signed";
    assert!(!std::fs::read_to_string(&log)?.contains(alarm));
    by_hand(&scene.world, &[EDIT, REHASH].concat()).await?;
    tests::eventually("there is an alarm", || async {
        attempts(&scene.member, 1).await.is_ok()
            && std::fs::read_to_string(&log).is_ok_and(|log| log.contains(alarm))
    })
    .await?;
    scene.world.end().await;
    Ok(())
}
