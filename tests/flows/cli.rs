//! The command line, with a whole Breakglass.

mod emergency;
mod terminal;

use std::{path::PathBuf, process::Stdio};

use anyhow::Context as _;
use secrecy::ExposeSecret as _;
use serde_json::Value;
use shared::role::Role;
use tempfile::TempDir;
use tests::{Paused, World, program, scratch};
use tokio::{io::AsyncWriteExt as _, process::Command};

const REASON: &str = "Checkout is down, need to roll back the release";

/// Somebody at a terminal of their own.
struct Person {
    home: TempDir,
    server: String,
}

/// How a command ended.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Person {
    fn new(server: &str) -> anyhow::Result<Self> {
        Ok(Self { home: scratch::dir("home-")?, server: server.to_owned() })
    }

    /// The user of a role in `acme`, signed in at the first edge.
    async fn signed_in(world: &World, role: Role) -> anyhow::Result<Self> {
        let person = Self::new(&world.edge(1))?;
        person.sign_in(world, role).await?.expect(0, &["Signed in as"]);
        Ok(person)
    }

    async fn sign_in(&self, world: &World, role: Role) -> anyhow::Result<Ended> {
        let user = world.stack.credentials().and_then(|c| c.of(role)).context("a seeded user")?;
        let words = ["sign-in", "--server", &self.server, "-t", "acme", "-e", &user.email];
        let words = [&words[..], &["--password-stdin"]].concat();
        self.run_with(&words, &format!("{}\n", user.password.expose_secret())).await
    }

    fn profile(&self) -> PathBuf {
        self.home.path().join(".config/breakglass/default.json")
    }

    fn token(&self) -> anyhow::Result<String> {
        let profile: Value = serde_json::from_slice(&std::fs::read(self.profile())?)?;
        Ok(profile["token"].as_str().context("a token")?.to_owned())
    }

    fn command(&self, words: &[&str]) -> anyhow::Result<Command> {
        let mut command = Command::new(program("breakglass")?);
        command.args(words).env_clear().env("HOME", self.home.path()).env("TZ", "UTC");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true);
        Ok(command)
    }

    async fn run(&self, words: &[&str]) -> anyhow::Result<Ended> {
        self.run_with(words, "").await
    }

    async fn run_with(&self, words: &[&str], stdin: &str) -> anyhow::Result<Ended> {
        let mut child = self.command(words)?.spawn()?;
        // It may have ended without reading.
        let _ = child.stdin.take().context("stdin")?.write_all(stdin.as_bytes()).await;
        let output = child.wait_with_output().await?;
        let (out, err) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
        Ok(Ended { code: output.status.code(), out, err })
    }
}

impl Ended {
    /// Fails unless it ended so, and everything that it said has these words.
    #[track_caller]
    fn expect(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        for words in words {
            assert!(self.out.contains(words) || self.err.contains(words), "{words}: {self:?}");
        }
        self
    }

    fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_str(&self.out).with_context(|| format!("{self:?}"))
    }
}

#[tokio::test]
async fn the_main_job_from_a_terminal() -> anyhow::Result<()> {
    let world = World::start().await?;
    let mia = Person::signed_in(&world, Role::Member).await?;
    let mut client = world.anonymous();
    client.token = Some(mia.token()?);
    mia.run(&["whoami"]).await?.expect(0, &["member@acme.test", "Elevation   none"]);
    let asked = mia.run(&["request", "-r", REASON, "--for", "30m", "-t", "INC-42"]).await?;
    asked.expect(0, &["You are admin until", "3 of 3 edges enforce this", "breakglass revoke"]);
    assert_eq!(world.demand_admin(&client).await?, [200; 3]);
    mia.run(&["whoami"]).await?.expect(0, &["admin until", "min", "left", REASON, "audit.read"]);
    // Others see it too, and can act on it by the end of its id.
    let max = Person::signed_in(&world, Role::Manager).await?;
    let listed = max.run(&["list"]).await?.expect(0, &["active", "member@acme.test", REASON]);
    let row = listed.out.lines().nth(1).context("a grant")?;
    let id = row.split_whitespace().next().context("an id")?;
    max.run(&["show", id]).await?.expect(0, &["active", "Mia Member", "INC-42", REASON]);
    max.run(&["revoke", id, "-c", "Enough"]).await?.expect(0, &["Mia Member", "3 of 3 edges"]);
    assert_eq!(world.demand_admin(&client).await?, [403; 3]);
    max.run(&["show", id]).await?.expect(0, &["revoked", "by Max Manager", "Enough"]);
    max.run(&["revoke", id]).await?.expect(1, &["grant-ended"]);
    // One's own needs no id.
    mia.run(&["revoke"]).await?.expect(1, &["You have no active grant."]);
    mia.run(&["request", "-r", "Checkout is down, again after the rollback"]).await?.expect(0, &[]);
    mia.run(&["revoke"]).await?.expect(0, &["your only active grant", "3 of 3 edges"]);
    assert_eq!(world.demand_admin(&client).await?, [403; 3]);
    mia.run(&["list"]).await?.expect(0, &["Nothing is active or pending"]);
    mia.run(&["list", "--all", "--user", "me"]).await?.expect(0, &["revoked", REASON]);
    max.run(&["edges"]).await?.expect(0, &["gateway-1  local-a", "enforces all"]);
    // Signed out is signed out everywhere.
    mia.run(&["sign-out"]).await?.expect(0, &["Signed out"]);
    for (status, _) in world.authorize(&client).await? {
        assert_eq!(status, 401);
    }
    mia.run(&["whoami"]).await?.expect(3, &["You are not signed in", "breakglass sign-in"]);
    assert!(!std::fs::read_to_string(mia.profile())?.contains("bgs_"));
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn what_is_printed_for_programs_is_the_servers_answer_and_nothing_else() -> anyhow::Result<()>
{
    let world = World::start().await?;
    let mia = Person::signed_in(&world, Role::Member).await?;
    let mut client = world.anonymous();
    client.token = Some(mia.token()?);
    let json = async |words: &[&str]| -> anyhow::Result<Value> {
        let ended = mia.run(&[&["--json"], words].concat()).await?.expect(0, &[]);
        assert_eq!(ended.err, "", "{words:?}");
        ended.json()
    };
    let requested = json(&["request", "-r", REASON]).await?;
    assert_eq!(requested["grant"]["state"], "active");
    assert_eq!(requested["receipt"]["enforced"], true);
    let id = requested["grant"]["id"].as_str().context("an id")?;
    for (words, path) in [
        (&["whoami"][..], "/v1/me"),
        (&["list", "--state", "active"], "/v1/emergency/grants?state=active"),
        (&["show", id], &format!("/v1/emergency/grants/{id}")),
        (&["sessions"], "/v1/sessions"),
        (&["edges"], "/v1/edges"),
    ] {
        let (printed, answered) = (json(words).await?, client.get(path).await?.expect(200).body);
        assert_eq!(shape(&printed), shape(&answered), "{words:?}");
    }
    let revision = requested["receipt"]["revision"].as_u64().context("a number")?.to_string();
    assert_eq!(json(&["receipt", &revision]).await?["receipt"]["enforced"], true);
    assert_eq!(json(&["revoke", id]).await?["grant"]["state"], "revoked");
    assert_eq!(json(&["sessions", "revoke", "--others"]).await?["revoked"], 0);
    let refused = mia.run(&["--json", "revoke", id]).await?.expect(1, &[]);
    assert_eq!(refused.json()?["code"], "grant-ended");
    // Changes are told one by one.
    json(&["request", "-r", "Checkout is down, again after the rollback"]).await?;
    let mut watching = mia.command(&["--json", "watch"])?.spawn()?;
    let mut lines = lines(watching.stdout.take().context("stdout")?);
    assert_eq!(next(&mut lines).await?["state"], "active");
    json(&["revoke"]).await?;
    assert_eq!(next(&mut lines).await?["state"], "revoked");
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn that_anothers_grant_is_over_is_told_also_to_who_may_not_see_how() -> anyhow::Result<()> {
    let world = World::start().await?;
    let mia = Person::signed_in(&world, Role::Member).await?;
    let ada = Person::signed_in(&world, Role::Admin).await?;
    ada.run(&["request", "-r", REASON]).await?.expect(0, &[]);
    let mut watching = mia.command(&["watch"])?.spawn()?;
    let mut lines = lines(watching.stdout.take().context("stdout")?);
    let began = next_line(&mut lines).await?;
    assert!(began.contains("  active   admin@acme.test  admin  "), "{began}");
    ada.run(&["revoke"]).await?.expect(0, &[]);
    let over = next_line(&mut lines).await?;
    assert!(over.contains("  over     admin@acme.test"), "{over}");
    world.end().await;
    Ok(())
}

type Lines = tokio::io::Lines<tokio::io::BufReader<tokio::process::ChildStdout>>;

fn lines(out: tokio::process::ChildStdout) -> Lines {
    tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(out))
}

async fn next(lines: &mut Lines) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(&next_line(lines).await?)?)
}

async fn next_line(lines: &mut Lines) -> anyhow::Result<String> {
    let line =
        tokio::time::timeout(std::time::Duration::from_secs(20), lines.next_line()).await??;
    line.context("a line")
}

/// The names of all members, since times go on.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            members.iter().map(|(name, value)| (name.clone(), shape(value))).collect()
        }
        Value::Array(items) => items.iter().map(shape).collect(),
        _ => Value::Null,
    }
}

#[tokio::test]
async fn how_a_command_ended_is_told_by_its_exit_code() -> anyhow::Result<()> {
    let world = World::start().await?;
    let stranger = Person::new(&world.edge(1))?;
    stranger.run(&["list"]).await?.expect(3, &["You are not signed in"]);
    stranger.run(&["list", "--no-such-option"]).await?.expect(2, &[]);
    let words = ["sign-in", "--server", &stranger.server, "-t", "acme", "-e", "member@acme.test"];
    let words = [&words[..], &["--password-stdin"]].concat();
    stranger.run_with(&words, "a-wrong-guess\n").await?.expect(3, &["invalid-credentials"]);
    assert!(!stranger.profile().exists());
    let mia = Person::signed_in(&world, Role::Member).await?;
    mia.run(&["request", "-r", "x"]).await?.expect(1, &["reason-too-weak", "trace "]);
    mia.run(&["request", "-r", REASON, "--for", "30d"]).await?.expect(2, &["like 90s, 30m"]);
    mia.run(&["request", "-r", REASON, "--for", "24h"]).await?.expect(1, &["duration-too-long"]);
    mia.run(&["edges"]).await?.expect(4, &["forbidden", "audit.read"]);
    mia.run(&["show", "01a20386-a8c9-79c6-91ae-41c83c3686e6"]).await?.expect(1, &["not-found"]);
    // A session that somebody ended.
    let client = world.sign_in(Role::Member).await?;
    client
        .post("/v1/sessions/revoke-others", Value::Object(serde_json::Map::default()))
        .await?
        .expect(200);
    mia.run(&["whoami"]).await?.expect(3, &["unauthenticated", "breakglass sign-in"]);
    mia.run(&["sign-out"]).await?.expect(0, &["The session had ended before"]);
    // A server that is gone.
    let mia = Person::signed_in(&world, Role::Member).await?;
    world.kill_for_good("gateway-1").await;
    mia.run(&["whoami"]).await?.expect(6, &["does not accept connections"]);
    mia.run(&["sign-out"]).await?.expect(6, &[]);
    assert!(mia.token().is_ok());
    mia.run(&["sign-out", "--forget"]).await?.expect(0, &["goes on until it ends by itself"]);
    assert!(mia.token().is_err());
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn an_edge_that_is_cut_off_is_told_of_and_another_one_is_asked() -> anyhow::Result<()> {
    let world = World::start().await?;
    let user = world.stack.credentials().and_then(|c| c.of(Role::Member)).context("a user")?;
    let both = format!("{},{}", world.edge(3), world.edge(1));
    let mia = Person::new(&both)?;
    mia.sign_in(&world, Role::Member).await?.expect(0, &[&user.email]);
    mia.run(&["request", "-r", REASON]).await?.expect(0, &["3 of 3 edges"]);
    let paused: Paused = world.pause("gateway-2")?;
    let words = ["1 is cut off and decides nothing", "2 of 3 edges enforce this"];
    mia.run(&["revoke"]).await?.expect(0, &words);
    drop(paused);
    world.kill_for_good("gateway-3").await;
    mia.run(&["whoami"]).await?.expect(0, &[&user.email]);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn what_others_wrote_does_nothing_to_the_terminal() -> anyhow::Result<()> {
    let world = World::start().await?;
    let mia = Person::signed_in(&world, Role::Member).await?;
    // As somebody who has the database could write it; the API takes no control characters.
    sqlx::query("UPDATE users SET name = $1 WHERE email = 'member@acme.test'")
        .bind("Mia \u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m")
        .execute(&world.pool)
        .await?;
    let reason = "Pay \u{202e}001 EUR\u{202c} and \u{2066}restart\u{2069}\u{200b}\nsecond line";
    mia.run(&["request", "-r", reason]).await?.expect(0, &[]);
    let listed = mia.run(&["list", "--json"]).await?.json()?;
    let id = listed["grants"][0]["id"].as_str().context("an id")?;
    // Verbatim for programs.
    assert_eq!(listed["grants"][0]["reason"], reason);
    let max = Person::signed_in(&world, Role::Manager).await?;
    for words in [&["list"][..], &["show", id], &["list", "--json"], &["show", id, "--json"]] {
        let ended = max.run(words).await?.expect(0, &["202e", "001 EUR", "second line"]);
        let bad = |c: char| c.is_control() && c != '\n' || ('\u{200b}'..='\u{2069}').contains(&c);
        assert!(!ended.out.contains(bad) && !ended.err.contains(bad), "{ended:?}");
    }
    mia.run(&["whoami"]).await?.expect(0, &["Mia \\u{1b}]0;owned\\u{7}"]);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn sessions_are_seen_and_ended() -> anyhow::Result<()> {
    let world = World::start().await?;
    let mia = Person::signed_in(&world, Role::Member).await?;
    let other = world.sign_in(Role::Member).await?;
    let third = world.sign_in(Role::Member).await?;
    let listed = mia.run(&["sessions"]).await?.expect(0, &["(this session)", "127.0.0.1"]);
    assert_eq!(listed.out.lines().count(), 4, "{listed:?}");
    let id = other.get("/v1/me").await?.body["session"]["id"].as_str().context("an id")?.to_owned();
    let end = &id[id.len() - 8..];
    let ended = mia.run(&["sessions", "revoke", end]).await?;
    ended.expect(0, &["The session has ended.", "3 of 3 edges enforce this"]);
    assert_eq!(world.demand_admin(&other).await?, [401; 3]);
    let ended = mia.run(&["sessions", "revoke", "--others"]).await?;
    ended.expect(0, &["1 session has ended.", "3 of 3 edges enforce this"]);
    assert_eq!(world.demand_admin(&third).await?, [401; 3]);
    mia.run(&["sessions", "revoke"]).await?.expect(2, &[]);
    mia.run(&["sessions", "revoke", end]).await?.expect(1, &["No session's id ends in"]);
    // Signing in again leaves no session behind.
    mia.sign_in(&world, Role::Member).await?.expect(0, &[]);
    assert_eq!(mia.run(&["sessions"]).await?.out.lines().count(), 2);
    // Others' sessions are for those who may.
    let ada = Person::signed_in(&world, Role::Admin).await?;
    let words = ["sessions", "--user", "member@acme.test", "revoke", "--all"];
    mia.run(&words).await?.expect(4, &["forbidden"]);
    ada.run(&words).await?.expect(0, &["1 session has ended."]);
    mia.run(&["whoami"]).await?.expect(3, &[]);
    world.end().await;
    Ok(())
}
