//! Getting a session, and giving it back.

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use crate::{
    api::{Answer, Api},
    args,
    context::{Context, servers},
    failure::{Exit, Failure},
    message::{Me, SignedIn},
    profile::Profile,
    server::Server,
    terminal::{self, Style},
    when,
};

/// How often a mistyped code can be given again, as the server has it.
const TRIES: u32 = 5;

pub(super) fn sign_in(context: &Context, how: args::SignIn) -> Result<Exit, Failure> {
    context.without_token_of_environment()?;
    // A file that is not safe to read is replaced.
    let before = context.profile().ok().flatten().unwrap_or_default();
    let servers = servers_to_ask(context, &before)?;
    let mut api = context.api_at(servers.clone(), None)?;
    if context.terminal.interactive {
        // Whoever types a password should see where it goes.
        let names: Vec<_> = servers.iter().map(ToString::to_string).collect();
        terminal::note(&format!("Signing in at {}", names.join(", ")));
    }
    let asked = |option, question, given: Option<String>, before| {
        given.map_or_else(|| context.ask(option, question, before), Ok)
    };
    let tenant = asked("--tenant", "Tenant", how.tenant, &before.tenant)?;
    let email = asked("--email", "Email", how.email, &before.email)?;
    let password = if how.password_stdin {
        terminal::read_secret()?
    } else if context.terminal.interactive {
        terminal::ask_secret("Password")?
    } else {
        return Err(Failure::usage(
            "There is no terminal to ask for the password. Use --password-stdin.",
        ));
    };
    let login = json!({
        "tenant": tenant, "email": email, "password": password.expose_secret(), "transport": "token",
    });
    let mut answer = api.post("/v1/login", &login)?;
    if let SignedIn::MfaRequired { challenge } = answer.read()? {
        answer = second_step(context, &mut api, &challenge, how.code)?;
    }
    let limited = matches!(answer.read()?, SignedIn::EnrollmentRequired);
    let token = take_token(&mut answer)?;
    let profile = Profile {
        servers: servers.iter().map(ToString::to_string).collect(),
        tenant,
        email,
        token: Some(token.clone()),
    };
    context.profiles.save(&context.global.profile, &profile)?;
    end_quietly(context, before);
    if context.global.json {
        terminal::print_json(&answer.body)?;
        return Ok(Exit::Done);
    }
    let mut api = context.api_at(servers, Some(token))?;
    match api.get("/v1/me").and_then(|answer| answer.read()) {
        Ok(me) => terminal::print(&welcome(context, &api, &me, limited))?,
        // It is done all the same.
        Err(failure) => {
            failure.report(false);
            terminal::print("Signed in.")?;
        }
    }
    Ok(Exit::Done)
}

fn servers_to_ask(context: &Context, before: &Profile) -> Result<Vec<Server>, Failure> {
    if !context.global.server.is_empty() {
        return Ok(context.global.server.clone());
    }
    let known = servers(before)?;
    if !known.is_empty() {
        return Ok(known);
    }
    if !context.terminal.interactive {
        return Err(Failure::usage("Say where to sign in: --server URL, or BREAKGLASS_SERVER."));
    }
    let server = terminal::ask("Server", "")?;
    Ok(vec![server.parse().map_err(|error| Failure::usage(format!("{error}")))?])
}

/// Asks for the code until it is right, or the challenge has no tries left.
fn second_step(
    context: &Context,
    api: &mut Api,
    challenge: &str,
    given: Option<String>,
) -> Result<Answer, Failure> {
    let ask = || terminal::ask("Code of your authenticator app, or a backup code", "");
    let once = given.is_some() || !context.terminal.interactive;
    let mut code = match given {
        Some(code) => code,
        None if context.terminal.interactive => ask()?,
        None => {
            return Err(Failure::usage(
                "The password is right, and a code is needed too: --code 123456.",
            ));
        }
    };
    for _ in 1..TRIES {
        let body = json!({"challenge": challenge, "code": code, "transport": "token"});
        match api.post("/v1/login/mfa", &body) {
            Err(refused) if !once && refused.code() == Some("invalid-credentials") => {
                refused.report(false);
                code = ask()?;
            }
            answer => return answer,
        }
    }
    let body = json!({"challenge": challenge, "code": code, "transport": "token"});
    api.post("/v1/login/mfa", &body)
}

/// Takes the token out of an answer, so that it is not printed.
fn take_token(answer: &mut Answer) -> Result<SecretString, Failure> {
    match answer.body.as_object_mut().and_then(|body| body.remove("token")) {
        Some(Value::String(token)) => Ok(token.into()),
        _ => Err(Failure::other("The server signed us in without giving a token.")),
    }
}

/// Goes on under the token that an answer brought.
pub(super) fn keep_token(context: &Context, answer: &mut Answer) -> Result<(), Failure> {
    let mut profile = context.profile()?.unwrap_or_default();
    profile.token = Some(take_token(answer)?);
    context.profiles.save(&context.global.profile, &profile)
}

/// Ends the session that the new one replaces. If that cannot be done, it ends by itself.
fn end_quietly(context: &Context, before: Profile) {
    if before.token.is_none() {
        return;
    }
    let api = servers(&before).and_then(|servers| context.api_at(servers, before.token));
    let _ = api.and_then(|mut api| api.post("/v1/logout", &json!({})));
}

fn welcome(context: &Context, api: &Api, me: &Me, limited: bool) -> String {
    let terminal = context.terminal;
    let mut lines = vec![format!(
        "{} as {} ({}) in {}.",
        terminal.paint(Style::Good, "Signed in"),
        me.user,
        me.user.role,
        me.tenant.name,
    )];
    if limited {
        lines.push(terminal.paint(
            Style::Warning,
            "Your organisation requires two-factor sign-in, and the time to do without is over.\n\
             Until you set it up, this session can do nothing else: breakglass mfa set-up",
        ));
    } else if let (false, true, Some(end)) = (me.mfa.enabled, me.mfa.required, me.mfa.grace_ends_at)
    {
        lines.push(terminal.paint(
            Style::Warning,
            &format!(
                "Your organisation requires two-factor sign-in. You can do without until {}.\n\
                 Set it up: breakglass mfa set-up",
                when::both(end, api.now())
            ),
        ));
    }
    lines.join("\n")
}

pub(super) fn sign_out(context: &Context, how: &args::SignOut) -> Result<Exit, Failure> {
    context.without_token_of_environment()?;
    let Some(mut profile) = context.profile()?.filter(|profile| profile.token.is_some()) else {
        return said(context, "You are not signed in.");
    };
    let ended = context.api()?.post("/v1/logout", &json!({}));
    let gone = matches!(&ended, Err(failure) if failure.code() == Some("unauthenticated"));
    if ended.is_ok() || gone || how.forget {
        profile.token = None;
        context.profiles.save(&context.global.profile, &profile)?;
    }
    match ended {
        Ok(_) => said(context, "Signed out. No edge accepts the token any more."),
        Err(_) if gone => said(context, "Signed out. The session had ended before."),
        Err(failure) if how.forget => {
            failure.report(false);
            said(
                context,
                "The token is forgotten here. The session goes on until it ends by itself.",
            )
        }
        Err(failure) => Err(failure),
    }
}

fn said(context: &Context, text: &str) -> Result<Exit, Failure> {
    if !context.global.json {
        terminal::print(text)?;
    }
    Ok(Exit::Done)
}
