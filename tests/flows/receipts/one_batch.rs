//! What the database makes of one batch of requests to end sessions.

use shared::{
    id::{SessionId, UserId},
    role::Role,
    token::Token,
};
use tests::{Client, World};
use uuid::Uuid;

use super::shared_commit::{more_sessions, user_id};

/// Who asks, whose sessions (nobody's: their own), which one (none: all), and whether to sign out.
type Asked<'a> = (&'a Client, Option<UserId>, Option<SessionId>, bool);

/// What becomes of each, and how many sessions it ended.
async fn end(world: &World, asked: &[Asked<'_>]) -> anyhow::Result<Vec<(String, i32)>> {
    let tokens = asked.iter().map(|(client, ..)| {
        let token: Token = client.token.as_deref().unwrap_or_default().parse().expect("a token");
        token.hash().0.to_vec()
    });
    let rows: Vec<(String, i32, Option<i64>)> = sqlx::query_as(
        "SELECT outcome, ended, revision
         FROM (SELECT array_fill(NULL::text, ARRAY[cardinality($1)]) AS nothing,
                      array_fill('test'::text, ARRAY[cardinality($1)]) AS something) same,
             end_sessions($1, $2, $3, $4, nothing, nothing, nothing, something, something, something,
                          '{admin}', '{admin}', 75, 60)",
    )
    .bind(tokens.collect::<Vec<_>>())
    .bind(asked.iter().map(|(_, user, ..)| user.map(|id| id.0)).collect::<Vec<Option<Uuid>>>())
    .bind(asked.iter().map(|(.., id, _)| id.map(|id| id.0)).collect::<Vec<Option<Uuid>>>())
    .bind(asked.iter().map(|(.., signs_out)| *signs_out).collect::<Vec<_>>())
    .fetch_all(&world.pool)
    .await?;
    let numbers: Vec<_> = rows.iter().filter_map(|(.., revision)| *revision).collect();
    let head: i64 =
        sqlx::query_scalar("SELECT revision FROM revocation_head").fetch_one(&world.pool).await?;
    let count = i64::try_from(numbers.len())?;
    assert_eq!(numbers, (head - count + 1..=head).collect::<Vec<_>>(), "in the order of requests");
    Ok(rows.into_iter().map(|(outcome, ended, _)| (outcome, ended)).collect())
}

#[tokio::test]
async fn whoever_is_signed_out_earlier_in_a_batch_decides_after_it() -> anyhow::Result<()> {
    let world = World::start().await?;
    let members = more_sessions(&world, "member@acme.test", 3).await?;
    let managers = more_sessions(&world, "manager@acme.test", 2).await?;
    let admin = world.sign_in(Role::Admin).await?;
    let member = user_id(&world, "member@acme.test").await?;
    let manager = user_id(&world, "manager@acme.test").await?;
    let mut nobody = world.anonymous();
    nobody.token = Some(Token::generate().expose().to_owned());

    let asked: [Asked<'_>; 7] = [
        (&nobody, None, None, true),
        (&members[0].1, Some(manager), None, false),
        (&managers[0].1, None, Some(managers[1].0), false),
        (&admin, Some(member), None, false),
        // The member's sessions are gone by then.
        (&members[0].1, None, None, true),
        (&members[1].1, None, Some(members[2].0), false),
        // And the manager's other one is, too.
        (&admin, Some(manager), Some(managers[1].0), false),
    ];
    let said = end(&world, &asked).await?;
    let outcomes: Vec<_> = said.iter().map(|(outcome, ended)| (outcome.as_str(), *ended)).collect();
    let expected = [
        ("unauthenticated", 0),
        ("forbidden", 0),
        ("ended", 1),
        ("ended", 3),
        ("later", 0),
        ("later", 0),
        ("later", 0),
    ];
    assert_eq!(outcomes, expected);
    let after = end(&world, &asked[4..]).await?;
    let after: Vec<_> = after.iter().map(|(outcome, _)| outcome.as_str()).collect();
    assert_eq!(after, ["unauthenticated", "unauthenticated", "not-found"]);

    let recorded: Vec<(String, Option<String>)> = sqlx::query_as(
        "SELECT action, target FROM audit WHERE action IN ('test', 'access.refused') ORDER BY seq",
    )
    .fetch_all(&world.pool)
    .await?;
    let expected = [
        ("access.refused", format!("user:{manager}")),
        ("test", format!("session:{}", managers[1].0)),
        ("test", format!("user:{member}")),
    ];
    assert_eq!(recorded, expected.map(|(action, target)| (action.to_owned(), Some(target))));
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn all_others_are_done_though_there_are_none_and_a_grant_confers_what_is_anybodys()
-> anyhow::Result<()> {
    let world = World::start().await?;
    let [(_, first), (second_id, second)] =
        &more_sessions(&world, "member@acme.test", 2).await?[..]
    else {
        unreachable!()
    };
    let manager = user_id(&world, "manager@acme.test").await?;
    assert_eq!(end(&world, &[(first, None, None, false)]).await?, [("ended".to_owned(), 1)]);
    assert_eq!(end(&world, &[(first, None, None, false)]).await?, [("ended".to_owned(), 0)]);
    let gone = [(first, None, Some(*second_id), false), (second, None, None, true)];
    let said = end(&world, &gone).await?;
    assert_eq!(said, ["not-found", "unauthenticated"].map(|code| (code.to_owned(), 0)));

    let others = [(first, Some(manager), None, false)];
    assert_eq!(end(&world, &others).await?, [("forbidden".to_owned(), 0)]);
    first.request_grant("Checkout is down since the release", 600).await?;
    assert_eq!(end(&world, &others).await?, [("ended".to_owned(), 0)]);
    world.end().await;
    Ok(())
}
