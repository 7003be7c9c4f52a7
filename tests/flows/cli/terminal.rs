//! Somebody who types.

use std::{process::Stdio, time::Duration};

use anyhow::Context as _;
use reqwest::Method;
use secrecy::ExposeSecret as _;
use serde_json::json;
use shared::role::Role;
use tests::{World, program};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use super::{Person, REASON};

/// Nobody waits longer for what a terminal shows.
const PATIENCE: Duration = Duration::from_secs(20);

/// A terminal, as `script` makes one, and what it showed since it was last looked at.
pub(super) struct Terminal {
    child: Child,
    keys: ChildStdin,
    screen: ChildStdout,
    shown: String,
}

impl Terminal {
    pub(super) fn open(person: &Person, words: &str) -> anyhow::Result<Self> {
        let command =
            format!("stty cols 100 rows 30; exec {} {words}", program("breakglass")?.display());
        let mut child = Command::new("script")
            .args(["-qec", &command, "/dev/null"])
            .env_clear()
            .envs([
                ("TERM", "xterm"),
                ("TZ", "UTC"),
                ("PATH", "/usr/bin:/bin"),
                ("SHELL", "/bin/sh"),
            ])
            .env("HOME", person.home.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let keys = child.stdin.take().context("stdin")?;
        let screen = child.stdout.take().context("stdout")?;
        Ok(Self { child, keys, screen, shown: String::new() })
    }

    /// Waits until it shows something; returns all up to that.
    pub(super) async fn shows(&mut self, words: &str) -> anyhow::Result<String> {
        let looking =
            async { while !self.shown.contains(words) && self.more().await.unwrap_or(false) {} };
        // Late or never is the same; a view that draws itself anew never ends.
        let _ = timeout(PATIENCE, looking).await;
        let Some(at) = self.shown.find(words) else {
            anyhow::bail!("it never showed {words:?}, but {:?}", self.shown);
        };
        let rest = self.shown.split_off(at + words.len());
        Ok(std::mem::replace(&mut self.shown, rest))
    }

    async fn more(&mut self) -> anyhow::Result<bool> {
        let mut bytes = [0; 4096];
        let length = self.screen.read(&mut bytes).await?;
        self.shown.push_str(&String::from_utf8_lossy(&bytes[..length]));
        Ok(length > 0)
    }

    pub(super) async fn types(&mut self, keys: &str) -> anyhow::Result<()> {
        Ok(self.keys.write_all(keys.as_bytes()).await?)
    }

    /// Waits for the end; the exit code, as a shell has it, and what was shown last.
    pub(super) async fn ends(mut self) -> anyhow::Result<(Option<i32>, String)> {
        timeout(PATIENCE, async { while self.more().await.unwrap_or(false) {} }).await?;
        let status = timeout(PATIENCE, self.child.wait()).await??;
        Ok((status.code(), self.shown))
    }
}

#[tokio::test]
async fn somebody_signs_in_by_hand_with_a_code() -> anyhow::Result<()> {
    let world = World::start().await?;
    let user = world.stack.credentials().and_then(|c| c.of(Role::Member)).context("a user")?;
    let password = user.password.expose_secret();
    let (_, app, _) = world.sign_in(Role::Member).await?.enroll(&world, password).await?;
    let mia = Person::new(&world.edge(1))?;
    let mut terminal = Terminal::open(&mia, "sign-in")?;
    for (question, answer) in [
        ("Server: ", world.edge(1)),
        ("Tenant: ", "acme".to_owned()),
        ("Email: ", user.email.clone()),
    ] {
        terminal.shows(question).await?;
        terminal.types(&format!("{answer}\n")).await?;
    }
    terminal.shows("Password: ").await?;
    terminal.types(&format!("{password}\n")).await?;
    let shown = terminal.shows("or a backup code: ").await?;
    assert!(!shown.contains(password), "{shown}");
    terminal.types("000000\n").await?;
    terminal.shows("invalid-credentials").await?;
    terminal.shows("or a backup code: ").await?;
    terminal.types(&format!("{}\n", app.code(&world, 0).await?)).await?;
    let (code, shown) = terminal.ends().await?;
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("as Mia Member <member@acme.test> (member) in Acme."), "{shown}");
    mia.run(&["whoami"]).await?.expect(0, &["on, 10 backup codes left"]);
    // What was answered once is suggested the next time.
    let mut terminal = Terminal::open(&mia, "sign-in")?;
    terminal.shows("Tenant [acme]: ").await?;
    terminal.types("\n").await?;
    terminal.shows("Email [member@acme.test]: ").await?;
    // Ctrl-C, also while nothing is shown, ends it and leaves a terminal that shows what is typed.
    terminal.types("\n").await?;
    terminal.shows("Password: ").await?;
    terminal.types("secr\u{3}").await?;
    let (code, shown) = terminal.ends().await?;
    assert_eq!(code, Some(130), "{shown}");
    assert!(!shown.contains("secr"), "{shown}");
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_second_factor_is_set_up_without_a_browser() -> anyhow::Result<()> {
    let world = World::start().await?;
    let ada = world.sign_in(Role::Admin).await?;
    let policy = json!({"require_2fa": true, "required_roles": ["member"], "grace_period_days": 3});
    ada.send(Method::PUT, "/v1/mfa-policy", Some(policy.clone())).await?.expect(200);
    let mia = Person::new(&world.edge(1))?;
    let signed_in = mia.sign_in(&world, Role::Member).await?;
    signed_in.expect(0, &["requires two-factor sign-in", "(in 3 d)", "breakglass mfa set-up"]);
    mia.run(&["mfa", "set-up"]).await?.expect(2, &["by hand"]);
    // The time to do without is over.
    let mut over = policy;
    over["grace_period_days"] = json!(0);
    ada.send(Method::PUT, "/v1/mfa-policy", Some(over)).await?.expect(200);
    mia.run(&["list"]).await?.expect(4, &["enrollment-required", "breakglass mfa set-up"]);
    let signed_in = mia.sign_in(&world, Role::Member).await?;
    signed_in.expect(0, &["the time to do without is over", "breakglass mfa set-up"]);
    let user = world.stack.credentials().and_then(|c| c.of(Role::Member)).context("a user")?;
    let mut terminal = Terminal::open(&mia, "mfa set-up")?;
    terminal.shows("Password: ").await?;
    terminal.types(&format!("{}\n", user.password.expose_secret())).await?;
    let shown = terminal.shows("Or enter").await?;
    assert!(shown.contains('█') && shown.contains('▀'), "{shown}");
    let secret = terminal.shows("Code that your authenticator app shows now: ").await?;
    let secret = secret.split_whitespace().next().context("a secret")?.to_owned();
    let app = tests::Authenticator::new(&secret, &user.email)?;
    terminal.types(&format!("{}\n", app.code(&world, 0).await?)).await?;
    let (code, shown) = terminal.ends().await?;
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("Two-factor sign-in is on"), "{shown}");
    mia.run(&["whoami"]).await?.expect(0, &["on, 10 backup codes left"]);
    mia.run(&["list"]).await?.expect(0, &[]);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_live_view_goes_on_by_itself_and_ends_with_ctrl_c() -> anyhow::Result<()> {
    let world = World::start().await?;
    let max = Person::signed_in(&world, Role::Manager).await?;
    let mia = Person::signed_in(&world, Role::Member).await?;
    let mut terminal = Terminal::open(&max, "watch")?;
    terminal.shows("Nothing is active or pending.").await?;
    mia.run(&["request", "-r", REASON, "-f", "10m"]).await?.expect(0, &[]);
    let row = terminal.shows("Checkout is down").await?;
    assert!(row.contains("member@acme.test  admin"), "{row}");
    // Nobody has changed anything, and yet there is less time.
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 3 {
        terminal.shows("admin  9 min ").await?;
        seen.insert(terminal.shows(" s left").await?);
    }
    mia.run(&["revoke", "-c", "Rolled back"]).await?.expect(0, &[]);
    terminal.shows("revoked").await?;
    terminal.shows("by member@acme.test: Rolled back").await?;
    // It says so when nobody answers.
    world.kill_for_good("gateway-1").await;
    terminal.shows("does not accept connections").await?;
    world.stack.start_service("gateway-1").await;
    world.stack.wait_ready("gateway-1").await?;
    terminal.shows("Ctrl-C to leave").await?;
    terminal.types("\u{3}").await?;
    let (code, shown) = terminal.ends().await?;
    assert_eq!(code, Some(130), "{shown}");
    world.end().await;
    Ok(())
}
