//! Revocations that come at once share a commit and a broadcast, and nothing else.

use std::collections::{BTreeSet, HashMap};

use futures_util::future::join_all;
use reqwest::Method;
use shared::{
    id::{SessionId, UserId},
    role::Role,
    token::Token,
};
use tests::{Answer, Client, World, receipt};
use uuid::Uuid;

use crate::problem::assert_problem;

/// More sessions of a user, with their ids.
pub(super) async fn more_sessions(
    world: &World,
    email: &str,
    count: usize,
) -> anyhow::Result<Vec<(SessionId, Client)>> {
    let mut sessions = Vec::new();
    for _ in 0..count {
        let token = Token::generate();
        let id: Uuid = sqlx::query_scalar(
            "INSERT INTO sessions (id, tenant_id, user_id, token_hash, methods, idle_seconds, expires_at)
             SELECT gen_random_uuid(), tenant_id, id, $2, '{password}', 3600, now() + interval '1 hour'
             FROM users WHERE email = $1 RETURNING id",
        )
        .bind(email)
        .bind(&token.hash().0[..])
        .fetch_one(&world.pool)
        .await?;
        let mut client = world.anonymous();
        client.token = Some(token.expose().to_owned());
        sessions.push((SessionId(id), client));
    }
    Ok(sessions)
}

pub(super) async fn user_id(world: &World, email: &str) -> anyhow::Result<UserId> {
    let id = sqlx::query_scalar("SELECT id FROM users WHERE email = $1");
    Ok(UserId(id.bind(email).fetch_one(&world.pool).await?))
}

async fn delete(client: &Client, path: String) -> Answer {
    client.delete(&path).await.expect("an answer")
}

async fn head(world: &World) -> anyhow::Result<u64> {
    let head: i64 =
        sqlx::query_scalar("SELECT revision FROM revocation_head").fetch_one(&world.pool).await?;
    Ok(head.cast_unsigned())
}

/// Fails unless these are the answers to revocations that happened, each with its own revision,
/// and all of them together are everything that happened since `head`.
async fn assert_each_has_its_own(
    world: &World,
    answers: &[Answer],
    before: u64,
) -> anyhow::Result<()> {
    let mut revisions = BTreeSet::new();
    for answer in answers {
        let receipt = receipt(&answer.clone().expect(200).body)?;
        assert!(receipt.enforced, "{receipt:?}");
        assert_eq!((receipt.edges.total, receipt.edges.acknowledged), (3, 3));
        assert!(revisions.insert(receipt.revision), "{} is given twice", receipt.revision);
    }
    let all: BTreeSet<_> = (before + 1..=head(world).await?).collect();
    assert_eq!(revisions, all);
    let written: Vec<i64> = sqlx::query_scalar(
        "SELECT revision FROM revocations WHERE revision > $1 ORDER BY revision",
    )
    .bind(before.cast_signed())
    .fetch_all(&world.pool)
    .await?;
    assert_eq!(written.len(), answers.len());
    Ok(())
}

#[tokio::test]
async fn many_revocations_at_once_each_get_their_own_receipt() -> anyhow::Result<()> {
    let world = World::start().await?;
    let emails: Vec<_> = (0..60).map(|n| format!("user-{n}@acme.test")).collect();
    sqlx::query(
        "INSERT INTO users (id, tenant_id, email, name, role)
         SELECT gen_random_uuid(), t.id, email, email, 'member' FROM tenants t, unnest($1::text[]) email",
    )
    .bind(&emails)
    .execute(&world.pool)
    .await?;
    let admin = world.sign_in(Role::Admin).await?;
    let mut sessions = HashMap::new();
    for email in &emails {
        let [session] = &more_sessions(&world, email, 1).await?[..] else { unreachable!() };
        sessions.insert(user_id(&world, email).await?, session.clone());
    }
    for (_, client) in sessions.values() {
        client.get("/authorize").await?.expect(200);
    }
    let before = head(&world).await?;

    let answers = join_all(sessions.iter().map(|(user, (session, _))| {
        delete(&admin, format!("/v1/users/{user}/sessions/{session}"))
    }))
    .await;
    assert_each_has_its_own(&world, &answers, before).await?;
    for (_, client) in sessions.values() {
        let said = world.authorize(client).await?;
        assert!(said.iter().all(|(status, _)| *status == 401), "{said:?}");
    }
    // They shared commits: as many transactions would have as many times of writing.
    let record = admin.get("/v1/audit?action=session.revoked&limit=200").await?.expect(200).body;
    let entries = record["entries"].as_array().expect("entries");
    assert_eq!(entries.len(), emails.len());
    let seqs: Vec<_> = entries.iter().map(|entry| entry["seq"].as_u64().expect("one")).collect();
    let newest = seqs[0];
    let expected: Vec<_> = (0..60).map(|n| newest - n).collect();
    assert_eq!(seqs, expected, "the record has no gaps");
    let targets: BTreeSet<_> =
        entries.iter().map(|entry| entry["target"].as_str().expect("one")).collect();
    assert_eq!(targets.len(), emails.len());
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn in_one_batch_everybody_gets_the_answer_that_is_theirs() -> anyhow::Result<()> {
    let world = World::start().await?;
    world.create_tenant("other").await?;
    let (member, admin) = (world.sign_in(Role::Member).await?, world.sign_in(Role::Admin).await?);
    let own = more_sessions(&world, "member@acme.test", 20).await?;
    let of_manager = more_sessions(&world, "manager@acme.test", 1).await?;
    let manager = user_id(&world, "manager@acme.test").await?;
    let stranger = user_id(&world, "member@other.test").await?;
    let of_stranger = more_sessions(&world, "member@other.test", 1).await?;
    let nobody = world.anonymous();
    let before = head(&world).await?;

    let (own_ended, twice, forbidden, foreign, of_other, unknown) = tokio::join!(
        join_all(own.iter().map(|(id, _)| delete(&member, format!("/v1/sessions/{id}")))),
        join_all((0..6).map(|_| {
            delete(&admin, format!("/v1/users/{manager}/sessions/{}", of_manager[0].0))
        })),
        join_all((0..6).map(|_| {
            delete(&member, format!("/v1/users/{manager}/sessions/{}", of_manager[0].0))
        })),
        join_all((0..6).map(|_| {
            delete(&admin, format!("/v1/users/{stranger}/sessions/{}", of_stranger[0].0))
        })),
        join_all((0..6).map(|_| delete(&member, format!("/v1/sessions/{}", of_manager[0].0)))),
        join_all((0..6).map(|_| delete(&nobody, "/v1/sessions/x".to_owned()))),
    );
    let (done, gone): (Vec<_>, Vec<_>) = twice.into_iter().partition(|answer| answer.status == 200);
    assert_eq!((done.len(), gone.len()), (1, 5), "a session ends once");
    for answer in gone.iter().chain(&foreign).chain(&of_other) {
        assert_problem(answer, 404, "not-found");
    }
    for answer in &forbidden {
        assert_problem(answer, 403, "forbidden");
    }
    for answer in &unknown {
        assert_problem(answer, 401, "unauthenticated");
    }
    let ended: Vec<_> = own_ended.into_iter().chain(done).collect();
    assert_each_has_its_own(&world, &ended, before).await?;

    of_stranger[0].1.get("/authorize").await?.expect(200);
    let refused: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM audit WHERE action = 'access.refused' AND detail->>'request' = 'session.revoke'",
    )
    .fetch_one(&world.pool)
    .await?;
    assert_eq!(refused, 6);
    world.end().await;
    Ok(())
}

/// As if one had come after the other: the second one's session is gone.
#[tokio::test]
async fn of_two_sessions_that_end_each_other_one_stays() -> anyhow::Result<()> {
    let world = World::start().await?;
    for round in 0..10 {
        let two = more_sessions(&world, "member@acme.test", 2).await?;
        let end_others = |client: Client| async move {
            Answer::to(client.request(Method::POST, "/v1/sessions/revoke-others")).await
        };
        let (a, b) = tokio::join!(end_others(two[0].1.clone()), end_others(two[1].1.clone()));
        let (a, b) = (a?, b?);
        let mut said = [a.status.as_u16(), b.status.as_u16()];
        said.sort_unstable();
        assert_eq!(said, [200, 401], "round {round}: {a:?} {b:?}");
        let winner = usize::from(a.status != 200);
        two[winner].1.get("/authorize").await?.expect(200);
        two[1 - winner].1.get("/authorize").await?.expect(401);
        two[winner].1.post("/v1/logout", serde_json::json!({})).await?.expect(204);
    }
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn one_whose_user_is_locked_keeps_no_other() -> anyhow::Result<()> {
    let world = World::start().await?;
    let stuck = more_sessions(&world, "member@acme.test", 1).await?;
    let free = more_sessions(&world, "manager@acme.test", 150).await?;
    let mut lock = world.pool.begin().await?;
    sqlx::query("SET LOCAL idle_in_transaction_session_timeout = 0").execute(&mut *lock).await?;
    sqlx::query("SELECT FROM users WHERE email = 'member@acme.test' FOR UPDATE")
        .execute(&mut *lock)
        .await?;
    let end = |id: SessionId, client: Client| async move {
        delete(&client, format!("/v1/sessions/{id}")).await
    };
    let (kept, ended) = tokio::join!(
        end(stuck[0].0, stuck[0].1.clone()),
        join_all(free.iter().map(|(id, client)| end(*id, client.clone())))
    );
    assert_problem(&kept, 503, "unavailable");
    for answer in ended {
        assert!(receipt(&answer.expect(200).body)?.enforced);
    }
    lock.rollback().await?;
    let after = end(stuck[0].0, stuck[0].1.clone()).await.expect(200);
    assert!(receipt(&after.body)?.enforced);
    world.end().await;
    Ok(())
}
