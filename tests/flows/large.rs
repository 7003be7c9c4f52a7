//! A great deal at once: long texts, many sessions, many revisions.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt as _, TryStreamExt as _, future::try_join_all, stream};
use serde_json::{Value, json};
use shared::{
    clock::{Clock as _, SystemClock},
    id::SessionId,
    role::Role,
    subject::Subject,
    token::Token,
};
use tests::{Client, Options, World, assert_whole, eventually, observer, receipt};
use tokio::time::timeout;
use uuid::Uuid;

/// How many items a page has if nobody says.
const PAGE: usize = 50;

/// As long a text as there may be, of characters of four bytes each; another one for each number.
fn longest_text(first: char, number: u32) -> String {
    let letters = (0..2_000).map(|at| char::from_u32(u32::from(first) + (number + at) % 26));
    letters.map(|letter| letter.expect("a letter")).collect()
}

/// All items of a list, newest first, page by page.
async fn all_pages<K: Ord>(
    client: &Client,
    path: &str,
    list: &str,
    limit: Option<usize>,
    key: impl Fn(&Value) -> K,
) -> anyhow::Result<Vec<Value>> {
    let mut items: Vec<Value> = Vec::new();
    let mut query: Vec<String> = limit.iter().map(|limit| format!("limit={limit}")).collect();
    loop {
        let call = format!("{path}?{}", query.join("&"));
        let body = client.get(&call).await?.expect(200).body;
        let page = body[list].as_array().expect("a list");
        assert!((1..=limit.unwrap_or(PAGE)).contains(&page.len()), "{call}: {}", page.len());
        items.extend(page.iter().cloned());
        // Every page is older than the one before, so there is an end.
        assert!(items.is_sorted_by(|a, b| key(a) > key(b)), "{call}");
        let Some(cursor) = body["next_cursor"].as_str() else { return Ok(items) };
        query.retain(|parameter| !parameter.starts_with("cursor="));
        query.push(format!("cursor={cursor}"));
    }
}

#[tokio::test]
async fn the_longest_texts_are_listed_page_by_page() -> anyhow::Result<()> {
    let world = World::start().await?;
    let (member, manager) =
        (world.sign_in(Role::Member).await?, world.sign_in(Role::Manager).await?);
    let mut written = BTreeMap::new();
    for number in 0..40 {
        let (reason, comment) = (longest_text('𝐀', number), longest_text('𝐚', number));
        let granted = member.request_grant(&reason, 60).await?;
        member.revoke_grant(&granted["grant"], &comment).await?.expect(200);
        let id = granted["grant"]["id"].as_str().expect("an id").to_owned();
        written.insert(id, (reason, comment));
    }

    let seqs = "SELECT seq FROM audit ORDER BY seq DESC";
    let seqs: Vec<i64> = sqlx::query_scalar(seqs).fetch_all(&world.pool).await?;
    let seq = |entry: &Value| entry["seq"].as_i64().expect("a number");
    let id = |grant: &Value| grant["id"].as_str().expect("an id").to_owned();
    for limit in [None, Some(7), Some(200)] {
        let entries = all_pages(&manager, "/v1/audit", "entries", limit, seq).await?;
        assert_eq!(entries.iter().map(seq).collect::<Vec<_>>(), seqs, "{limit:?}");
        for entry in entries {
            let said = match entry["action"].as_str() {
                Some("grant.activated") => &entry["detail"]["reason"],
                Some("grant.revoked") => &entry["detail"]["comment"],
                _ => continue,
            };
            let target = entry["target"].as_str().and_then(|target| target.strip_prefix("grant:"));
            let (reason, comment) = &written[target.expect("a grant")];
            assert!([reason, comment].iter().any(|text| said == text.as_str()), "{entry}");
        }

        let grants = all_pages(&manager, "/v1/emergency/grants", "grants", limit, id).await?;
        let listed = grants.iter().map(id).rev();
        assert!(listed.eq(written.keys().cloned()), "{limit:?}: {}", grants.len());
        for grant in grants {
            let (reason, comment) = &written[&id(&grant)];
            assert_eq!(grant["reason"], reason.as_str());
            assert_eq!(grant["end_reason"], comment.as_str());
        }
    }
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn three_hundred_sessions_are_listed_and_end_at_once() -> anyhow::Result<()> {
    let world = World::start().await?;
    let keep = world.sign_in(Role::Member).await?;
    let tokens: Vec<_> = std::iter::repeat_with(Token::generate).take(300).collect();
    let ids: Vec<_> = tokens.iter().map(|_| SessionId::new(SystemClock.wall()).0).collect();
    let hashes: Vec<_> = tokens.iter().map(|token| token.hash().0.to_vec()).collect();
    let copied = sqlx::query(
        "INSERT INTO sessions (id, tenant_id, user_id, token_hash, methods, user_agent, ip,
                               created_at, last_active_at, idle_seconds, expires_at)
         SELECT new.id, tenant_id, user_id, new.token_hash, methods, repeat('x', 512), ip,
                created_at, last_active_at - n * interval '1 second', idle_seconds, expires_at
         FROM sessions,
              unnest($1::uuid[], $2::bytea[]) WITH ORDINALITY AS new (id, token_hash, n)",
    )
    .bind(&ids)
    .bind(&hashes)
    .execute(&world.pool)
    .await?;
    assert_eq!(copied.rows_affected(), 300);

    // As many as fit: the one that asks, then those that were used last.
    let body = keep.get("/v1/sessions").await?.expect(200).body;
    let sessions = body["sessions"].as_array().expect("a list");
    assert!((200..=301).contains(&sessions.len()), "{}", sessions.len());
    assert_eq!(sessions[0]["current"], true);
    let listed = sessions[1..].iter().map(|session| session["id"].as_str().unwrap_or(""));
    assert!(listed.eq(ids.iter().map(Uuid::to_string).take(sessions.len() - 1)), "{body}");

    let clients: Vec<_> = tokens
        .iter()
        .map(|token| {
            let mut client = keep.clone();
            client.token = Some(token.expose().to_owned());
            client
        })
        .collect();
    let said = async |clients: &[Client]| -> anyhow::Result<BTreeSet<u16>> {
        let asked = stream::iter(clients.iter().map(|client| world.authorize(client)));
        let said: Vec<_> = asked.buffer_unordered(16).try_collect().await?;
        Ok(said.into_iter().flatten().map(|(status, _)| status).collect())
    };
    assert_eq!(said(&clients).await?, BTreeSet::from([200]));

    let answer = keep.post("/v1/sessions/revoke-others", json!({})).await?.expect(200).body;
    assert_eq!(answer["revoked"], 300);
    assert_whole(&receipt(&answer)?, 3, 0);
    assert_eq!(said(&clients).await?, BTreeSet::from([401]));
    assert_eq!(said(&[keep]).await?, BTreeSet::from([200]));
    world.end().await;
    Ok(())
}

/// Every life that an edge ever had.
async fn lives(world: &World) -> anyhow::Result<Vec<Uuid>> {
    let lives = "SELECT incarnation FROM edges ORDER BY incarnation";
    Ok(sqlx::query_scalar(lives).fetch_all(&world.pool).await?)
}

/// Commits 3,000 revisions that nobody broadcasts, as if workers had crashed after their commits.
/// One in the middle is about a session of somebody, the others about nobody who is here.
async fn commit_unheard(world: &World, session: Uuid) -> anyhow::Result<i64> {
    let mut tx = world.pool.begin().await?;
    let ended =
        "UPDATE sessions SET ended_at = clock_timestamp(), ended_by = user_id WHERE id = $1";
    assert_eq!(sqlx::query(ended).bind(session).execute(&mut *tx).await?.rows_affected(), 1);
    let head = "UPDATE revocation_head SET revision = revision + 3000 RETURNING revision";
    let head: i64 = sqlx::query_scalar(head).fetch_one(&mut *tx).await?;
    let committed = sqlx::query(
        "INSERT INTO revocations (revision, tenant_id, user_id, sessions, cause, traceparent)
         SELECT n, s.tenant_id,
                CASE n WHEN $1 - 1500 THEN s.user_id ELSE gen_random_uuid() END,
                ARRAY[CASE n WHEN $1 - 1500 THEN s.id ELSE gen_random_uuid() END],
                'sessions-revoked',
                '00-' || md5(n::text) || '-' || left(md5(n::text), 16) || '-01'
         FROM sessions s, generate_series($1 - 2999, $1) AS n WHERE s.id = $2",
    )
    .bind(head)
    .bind(session)
    .execute(&mut *tx)
    .await?;
    assert_eq!(committed.rows_affected(), 3_000);
    tx.commit().await?;
    Ok(head)
}

#[tokio::test]
async fn edges_fetch_three_thousand_revisions_that_nobody_broadcast() -> anyhow::Result<()> {
    let options = Options { bus_users: vec![observer()], ..Options::default() };
    let world = World::start_with(options).await?;
    let mut fetches = world.observe(Subject::RevocationSince).await?;
    let (keep, lost) = (world.sign_in(Role::Member).await?, world.sign_in(Role::Member).await?);
    let me = lost.get("/v1/me").await?.expect(200).body;
    let session = me["session"]["id"].as_str().expect("an id").parse()?;
    for client in [&keep, &lost] {
        assert_eq!(world.authorize(client).await?, vec![(200, "member".to_owned()); 3]);
    }
    let before = lives(&world).await?;

    let head = commit_unheard(&world, session).await?;
    let applied = "SELECT count(*) FROM edges WHERE applied >= $1 AND NOT fenced AND NOT has_left";
    let applied = || sqlx::query_scalar::<_, i64>(applied).bind(head).fetch_one(&world.pool);
    eventually("all edges have caught up", || async { applied().await.is_ok_and(|n| n == 3) })
        .await?;
    assert_eq!(world.authorize(&lost).await?, vec![(401, String::new()); 3]);
    assert_eq!(world.authorize(&keep).await?, vec![(200, "member".to_owned()); 3]);
    let mut asked = BTreeSet::new();
    let asking = async {
        while let (true, Some(fetch)) = (asked.len() < 3, fetches.next().await) {
            let inbox = fetch.reply.map(|reply| reply.to_string()).unwrap_or_default();
            asked.insert(inbox.split('.').nth(1).map(str::to_owned));
        }
    };
    let all_asked = timeout(std::time::Duration::from_secs(10), asking).await.is_ok();
    assert!(all_asked, "only these edges fetched: {asked:?}");

    // Enforced with the rest, and no edge had to begin anew.
    let others = try_join_all((0..3).map(|_| world.sign_in(Role::Member))).await?;
    let answer = keep.post("/v1/sessions/revoke-others", json!({})).await?.expect(200).body;
    assert_eq!(answer["revoked"], 3);
    let receipt = receipt(&answer)?;
    assert_whole(&receipt, 3, 0);
    assert_eq!(receipt.revision, u64::try_from(head)? + 1);
    for other in &others {
        assert_eq!(world.authorize(other).await?, vec![(401, String::new()); 3]);
    }
    assert_eq!(lives(&world).await?, before);
    assert_eq!(world.live_edges().await?, 3);
    world.end().await;
    Ok(())
}

/// Tables of a row, or of as many as there are processes, endpoints for notifications, and people who are
/// setting up a second factor at the moment.
const SMALL: [&str; 4] = ["edges", "notification_endpoints", "revocation_head", "totp_enrollments"];

const WORKERS: [&str; 3] = ["grant-worker", "session-worker", "expiry-worker"];

/// How often each table was read as a whole.
async fn whole_reads(world: &World) -> anyhow::Result<BTreeMap<String, i64>> {
    let reads = "SELECT relname::text, coalesce(seq_scan, 0) FROM pg_stat_user_tables";
    let reads: Vec<(String, i64)> = sqlx::query_as(reads).fetch_all(&world.pool).await?;
    Ok(reads.into_iter().collect())
}

/// What is quick while a table is small, and takes seconds under a lock once it is not: statements for
/// which there is no index. One that reads a whole index is not seen here.
#[tokio::test]
async fn no_statement_reads_a_whole_table() -> anyhow::Result<()> {
    let each_second = vec!["--audit-head-seconds".to_owned(), "1".to_owned()];
    let flags = vec![("session-worker", each_second)];
    let world = World::start_with(Options { flags, ..Options::default() }).await?;
    let [member, manager, admin] = [
        world.sign_in(Role::Member).await?,
        world.sign_in(Role::Manager).await?,
        world.sign_in(Role::Admin).await?,
    ];
    let before = whole_reads(&world).await?;
    // Workers clean up when they start.
    for worker in WORKERS {
        world.stack.stop_service(worker).await;
        world.stack.start_service(worker).await;
    }
    world.all_ready().await?;
    let granted = member.request_grant("Checkout is down since the release", 600).await?;
    let id = granted["grant"]["id"].as_str().expect("an id");
    let of_it = |what: &str| format!("/v1/emergency/grants/{id}{what}");
    let longer =
        json!({"reason": "The release of today cannot be taken back", "duration_seconds": 900});
    member.post(&of_it("/extend"), longer).await?.expect(201);
    let brief = member.request_grant("The warehouse is down since the release", 5).await?;
    let brief = brief["grant"]["id"].as_str().expect("an id").to_owned();
    eventually("the brief one has ended", || async {
        let state = "SELECT state FROM emergency_grants WHERE id = $1::uuid";
        let state: Result<String, _> =
            sqlx::query_scalar(state).bind(&brief).fetch_one(&world.pool).await;
        state.is_ok_and(|state| state == "expired")
    })
    .await?;
    let review = json!({"outcome": "justified", "note": "It was needed"});
    let path = format!("/v1/emergency/grants/{brief}/review");
    manager.post(&path, review).await?.expect(200);
    let reads = [
        of_it(""),
        of_it("/evidence"),
        "/v1/emergency/grants".to_owned(),
        "/v1/emergency/grants?state=active".to_owned(),
        "/v1/emergency/grants?state=expired&limit=5".to_owned(),
        "/v1/emergency/policy".to_owned(),
        "/v1/audit".to_owned(),
        "/v1/audit?action=grant.expired".to_owned(),
        "/v1/audit/head".to_owned(),
        "/v1/users".to_owned(),
        "/v1/sessions".to_owned(),
        "/v1/me".to_owned(),
        "/v1/mfa-policy".to_owned(),
        "/v1/edges".to_owned(),
        "/v1/notifications/endpoints".to_owned(),
    ];
    for path in reads {
        admin.get(&path).await?.expect(200);
    }
    member.post("/v1/sessions/revoke-others", json!({})).await?.expect(200);
    let forgotten = json!({"tenant": "acme", "email": "member@acme.test"});
    world.anonymous().post("/v1/password-reset/request", forgotten).await?.expect(202);
    // Backends tell what they have read when they end, at the latest.
    for worker in WORKERS {
        world.stack.stop_service(worker).await;
    }
    let others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()";
    eventually("all backends but the flow's own have ended", || async {
        let others: Result<i64, _> = sqlx::query_scalar(others).fetch_one(&world.pool).await;
        others.is_ok_and(|others| others <= world.pool.size().into())
    })
    .await?;
    let after = whole_reads(&world).await?;
    let more = after.into_iter().filter(|(table, reads)| before.get(table) < Some(reads));
    let more: Vec<_> = more.filter(|(table, _)| !SMALL.contains(&table.as_str())).collect();
    assert_eq!(more, [], "tables that were read as a whole");
    world.end().await;
    Ok(())
}
