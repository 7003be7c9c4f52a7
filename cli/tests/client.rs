//! The program against servers that misbehave, or that answer what a test wants to see handled. What it
//! does with a whole Breakglass is in the flows.

#[path = "client/grants.rs"]
mod grants;
#[path = "client/servers.rs"]
mod servers;
#[path = "client/stub.rs"]
mod stub;

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

/// Somebody's home directory, and the program in it.
struct Person {
    home: TempDir,
    env: Vec<(&'static str, String)>,
}

/// How a command ended.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Person {
    fn new() -> Self {
        Self { home: tempfile::tempdir().expect("a folder"), env: Vec::new() }
    }

    /// Signed in, as a server believes that takes anything.
    fn signed_in(servers: &[&str]) -> Self {
        let person = Self::new();
        let stub = stub::Stub::start(|_| {
            stub::ok(
                &serde_json::json!({"status": "authenticated", "session": {}, "token": "bgs_secret"}),
            )
        });
        let words = [
            "--json",
            "sign-in",
            "--tenant",
            "acme",
            "--email",
            "mia@acme.test",
            "--password-stdin",
        ];
        let ended =
            person.run_with(&[&["--server", stub.url()], &words[..]].concat(), "password\n");
        assert_eq!(ended.code, Some(0), "{ended:?}");
        // As if it had been these.
        let path = person.home.path().join(".config/breakglass/default.json");
        let text = std::fs::read_to_string(&path).expect("a profile");
        let mut profile: Value = serde_json::from_str(&text).expect("JSON");
        profile["servers"] = serde_json::json!(servers);
        std::fs::write(&path, profile.to_string()).expect("written");
        person
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.env.push((name, value.into()));
        self
    }

    fn run(&self, words: &[&str]) -> Ended {
        self.run_with(words, "")
    }

    fn run_with(&self, words: &[&str], stdin: &str) -> Ended {
        let mut command = Command::new(env!("CARGO_BIN_EXE_breakglass"));
        command.args(words).env_clear().env("HOME", self.home.path()).env("TZ", "UTC");
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().expect("it starts");
        // It may have ended without reading.
        let _ = child.stdin.take().expect("stdin").write_all(stdin.as_bytes());
        let output = child.wait_with_output().expect("it ends");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
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

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}
