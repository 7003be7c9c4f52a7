//! Approvals, bypass, extensions, codes and reviews from a terminal.

use anyhow::Context as _;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use shared::role::Role;
use tests::World;

use super::{Person, REASON, lines, next, terminal::Terminal};
use crate::emergency::set_policy;

fn id_of(grant: &Value) -> anyhow::Result<&str> {
    grant["grant"]["id"].as_str().context("an id")
}

#[tokio::test]
async fn a_request_waits_until_somebody_has_looked_and_said_yes() -> anyhow::Result<()> {
    let world = World::start().await?;
    set_policy(&world, json!({"approvals_needed": 1})).await?;
    let mia = Person::signed_in(&world, Role::Member).await?;
    let max = Person::signed_in(&world, Role::Manager).await?;
    max.run(&["approve", "--yes"]).await?.expect(1, &["Nobody's request is pending"]);
    let mut watching = max.command(&["--json", "watch"])?.spawn()?;
    let mut changes = lines(watching.stdout.take().context("stdout")?);
    let words = ["request", "-r", REASON, "--for", "20m", "--wait"];
    let waiting = tokio::spawn({
        let command = mia.command(&words)?.spawn()?;
        command.wait_with_output()
    });
    assert_eq!(next(&mut changes).await?["state"], "pending");
    let mut terminal = Terminal::open(&max, "approve")?;
    let shown = terminal.shows("[y/N]: ").await?;
    for words in ["0 of 1 approval", "Mia Member", REASON, "20 min", "Waits until"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    terminal.types("n\n").await?;
    let (code, shown) = terminal.ends().await?;
    assert!(code == Some(1) && shown.contains("Nothing was changed."), "{shown}");
    let mut terminal = Terminal::open(&max, "approve")?;
    terminal.shows("[y/N]: ").await?;
    terminal.types("y\n").await?;
    let (code, shown) = terminal.ends().await?;
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("Mia Member <member@acme.test> is admin until"), "{shown}");
    assert!(shown.contains("3 of 3 edges enforce this"), "{shown}");
    assert_eq!(next(&mut changes).await?["state"], "active");
    let waited = waiting.await??;
    let said = String::from_utf8(waited.stdout)?;
    assert!(waited.status.success() && said.contains("You are admin until"), "{said}");
    assert!(String::from_utf8(waited.stderr)?.contains("Waiting for approval"));
    let mut client = world.anonymous();
    client.token = Some(mia.token()?);
    assert_eq!(world.demand_admin(&client).await?, [200; 3]);
    // More of it takes the same.
    let more = ["extend", "-r", "The rollback takes its time", "--for", "30m"];
    mia.run(&more)
        .await?
        .expect(5, &["what you have stays as it is", "Somebody else (manager or admin)"]);
    max.run(&["approve", "-y", "-c", "Go on"]).await?.expect(0, &["Extends", "is admin until"]);
    mia.run(&["list"]).await?.expect(0, &["active", "The rollback takes its time"]);
    mia.run(&["revoke"]).await?.expect(0, &["your only active grant"]);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_request_is_denied_withdrawn_or_goes_by_itself() -> anyhow::Result<()> {
    let world = World::start().await?;
    set_policy(&world, json!({"approvals_needed": 2, "max_active_per_user": 3})).await?;
    let mia = Person::signed_in(&world, Role::Member).await?;
    let max = Person::signed_in(&world, Role::Manager).await?;
    let ada = Person::signed_in(&world, Role::Admin).await?;
    let asked = mia.run(&["request", "-r", REASON]).await?;
    let said = ["waits for approval: 0 of 2 approvals so far", "Somebody else (manager or admin)"];
    asked.expect(5, &said);
    mia.run(&["approve", "--yes"]).await?.expect(1, &["Nobody's request is pending"]);
    max.run(&["approve", "--yes"]).await?.expect(0, &["Approved: 1 of 2 approvals so far."]);
    max.run(&["approve", "--yes"]).await?.expect(1, &["already-decided"]);
    ada.run(&["deny", "-y", "-c", "Call me first"]).await?.expect(0, &["of Mia Member"]);
    let shown = mia.run(&["list", "--state", "denied", "--json"]).await?.json()?;
    let id = shown["grants"][0]["id"].as_str().context("an id")?;
    let said = ["denied by Ada Admin", "Call me first", "approved by Max Manager"];
    mia.run(&["show", id]).await?.expect(0, &said);
    ada.run(&["approve", id, "-y"]).await?.expect(1, &["this request is denied"]);
    mia.run(&["request", "-r", "Checkout is down, the second try"]).await?.expect(5, &[]);
    mia.run(&["cancel"]).await?.expect(0, &["Withdrawn: request"]);
    mia.run(&["cancel"]).await?.expect(1, &["You have no pending request."]);
    // Nobody decides about their own.
    ada.run(&["request", "-r", "Billing is down since midnight"]).await?.expect(5, &[]);
    let pending = ada.run(&["list", "--json"]).await?.json()?;
    let own = pending["grants"][0]["id"].as_str().context("an id")?;
    ada.run(&["approve", own, "-y"]).await?.expect(4, &["self-approval"]);
    ada.run(&["revoke"]).await?.expect(1, &["But you have a pending request", "breakglass cancel"]);
    // Without waiting for anybody, where that is allowed.
    let words = ["request", "-r", "Checkout is down, nobody answers", "--bypass-approval"];
    mia.run(&words).await?.expect(4, &[]);
    let bypass = json!({"bypass": {"allowed": true, "max_duration_seconds": 600}});
    set_policy(&world, bypass).await?;
    mia.run(&["policy"]).await?.expect(0, &["2, by", "--bypass-approval, for at most 10 min"]);
    mia.run(&words).await?.expect(0, &["You are admin until", "3 of 3 edges"]);
    max.run(&["list"]).await?.expect(0, &["pending", "active", "0 of 2 approvals"]);
    let granted = mia.run(&["list", "--state", "active", "--json"]).await?.json()?;
    let id = granted["grants"][0]["id"].as_str().context("an id")?;
    max.run(&["show", id]).await?.expect(0, &["bypassed"]);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_fresh_code_is_asked_for_where_the_policy_wants_one() -> anyhow::Result<()> {
    let world = World::start().await?;
    let user = world.stack.credentials().and_then(|c| c.of(Role::Member)).context("a user")?;
    let mia = Person::signed_in(&world, Role::Member).await?;
    let client = world.sign_in(Role::Member).await?;
    let (_, app, _) = client.enroll(&world, user.password.expose_secret()).await?;
    // The enrolment has ended what there was.
    let words = ["sign-in", "--server", &mia.server, "-t", "acme", "-e", &user.email];
    let code = app.code(&world, 0).await?;
    let words = [&words[..], &["--password-stdin", "--code", &code]].concat();
    let password = format!("{}\n", user.password.expose_secret());
    mia.run_with(&words[..words.len() - 2], &password).await?.expect(2, &["--code 123456"]);
    mia.run_with(&words, &password).await?.expect(0, &["Signed in"]);
    let words = ["request", "-r", REASON];
    mia.run(&words).await?.expect(4, &["fresh-mfa-required", "--code 123456"]);
    let mut terminal = Terminal::open(&mia, &format!("request -r '{REASON}'"))?;
    terminal.shows("shows now: ").await?;
    terminal.types("000000\n").await?;
    terminal.shows("fresh-mfa-required").await?;
    terminal.shows("shows now: ").await?;
    terminal.types(&format!("{}\n", app.code(&world, 0).await?)).await?;
    let (code, shown) = terminal.ends().await?;
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("You are admin"), "{shown}");
    mia.run(&["revoke"]).await?.expect(0, &[]);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_use_is_reviewed_by_somebody_else() -> anyhow::Result<()> {
    let world = World::start().await?;
    let mia = Person::signed_in(&world, Role::Member).await?;
    let max = Person::signed_in(&world, Role::Manager).await?;
    let granted = mia.run(&["--json", "request", "-r", REASON]).await?.json()?;
    let id = id_of(&granted)?;
    mia.run(&["revoke"]).await?.expect(0, &[]);
    let review = ["review", id, "--outcome", "justified", "--note", "The rollback was right"];
    mia.run(&review).await?.expect(4, &["forbidden"]);
    let said = ["Reviewed as justified.", "justified by Max Manager", "The rollback was right"];
    max.run(&review).await?.expect(0, &said);
    max.run(&review).await?.expect(1, &["already-decided"]);
    world.end().await;
    Ok(())
}
