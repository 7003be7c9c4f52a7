//! What every command needs.

use secrecy::SecretString;
use serde_json::Value;

use crate::{
    api::Api,
    args::Global,
    environment::Environment,
    failure::Failure,
    profile::{Profile, Profiles},
    server::Server,
    terminal::{self, Terminal},
};

/// The options of all commands, the terminal, and who is signed in.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) global: Global,
    pub(crate) terminal: Terminal,
    pub(crate) profiles: Profiles,
    /// From the environment; nothing of the profile is used then.
    token: Option<SecretString>,
}

impl Context {
    pub(crate) fn new(global: Global, environment: Environment) -> Result<Self, Failure> {
        if environment.token.is_some() && global.server.is_empty() {
            return Err(Failure::usage(
                "BREAKGLASS_TOKEN is set: say with BREAKGLASS_SERVER, or --server, where it belongs.",
            ));
        }
        Ok(Self {
            global,
            terminal: Terminal::new(&environment),
            profiles: Profiles::new(environment.config),
            token: environment.token,
        })
    }

    /// The way to the server, as whoever is signed in.
    pub(crate) fn api(&self) -> Result<Api, Failure> {
        if let Some(token) = &self.token {
            return self.api_at(self.global.server.clone(), Some(token.clone()));
        }
        let profile = self.profile()?.filter(|profile| profile.token.is_some());
        let Some(profile) = profile else {
            return Err(Failure::NotSignedIn(
                "You are not signed in.\nbreakglass sign-in".to_owned(),
            ));
        };
        let known = servers(&profile)?;
        let asked = &self.global.server;
        if let Some(other) = asked.iter().find(|server| !known.contains(server)) {
            // Whoever can make us ask another server must not get the token by that.
            return Err(Failure::NotSignedIn(format!(
                "You are signed in at {}, not at {other}.\nbreakglass sign-in --server {other}",
                known.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            )));
        }
        let servers = if asked.is_empty() { known } else { asked.clone() };
        self.api_at(servers, profile.token)
    }

    pub(crate) fn api_at(
        &self,
        servers: Vec<Server>,
        token: Option<SecretString>,
    ) -> Result<Api, Failure> {
        Api::new(servers, token, self.global.allow_http)
    }

    pub(crate) fn profile(&self) -> Result<Option<Profile>, Failure> {
        self.profiles.load(&self.global.profile)
    }

    /// Prints the server's answer where that is wanted, and otherwise what it means.
    pub(crate) fn answer(&self, answer: &Value, words: &str) -> Result<(), Failure> {
        if self.global.json { terminal::print_json(answer) } else { terminal::print(words) }
    }

    /// Asks for what is missing, if there is somebody to ask.
    pub(crate) fn ask(
        &self,
        option: &str,
        question: &str,
        suggested: &str,
    ) -> Result<String, Failure> {
        let value = if self.terminal.interactive {
            terminal::ask(question, suggested)?
        } else {
            suggested.to_owned()
        };
        if value.is_empty() {
            return Err(Failure::usage(format!("{option} is missing.")));
        }
        Ok(value)
    }

    /// Fails unless somebody says yes, or has said so before.
    pub(crate) fn confirm(&self, question: &str, yes: bool) -> Result<(), Failure> {
        if yes {
            return Ok(());
        }
        if !self.terminal.interactive {
            return Err(Failure::usage("There is no terminal to ask. If you are sure: --yes"));
        }
        if terminal::confirm(question)? {
            Ok(())
        } else {
            Err(Failure::other("Nothing was changed."))
        }
    }

    /// Refuses to change the profile while a token of the environment stands before it.
    pub(crate) fn without_token_of_environment(&self) -> Result<(), Failure> {
        match self.token {
            Some(_) => Err(Failure::usage(
                "BREAKGLASS_TOKEN is set, and would be used all the same. Unset it first.",
            )),
            None => Ok(()),
        }
    }
}

/// Where a profile signs in.
pub(crate) fn servers(profile: &Profile) -> Result<Vec<Server>, Failure> {
    let parsed: Result<Vec<_>, _> = profile.servers.iter().map(|server| server.parse()).collect();
    parsed
        .map_err(|error| Failure::other(format!("The profile is damaged: {error}. Sign in again.")))
}
