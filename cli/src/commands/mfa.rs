//! Setting up a second factor without a browser.

use qrcode::{QrCode, render::unicode::Dense1x2};
use secrecy::ExposeSecret as _;
use serde_json::json;

use super::{code, sign_in};
use crate::{
    args::{Mfa, MfaCommand},
    context::Context,
    failure::{Exit, Failure},
    grant::fields,
    message::{BackupCodes, Enrolment, Me},
    terminal,
};

/// How often a code can be given again.
const TRIES: u32 = 5;

pub(super) fn mfa(context: &Context, what: &Mfa) -> Result<Exit, Failure> {
    match what.command {
        MfaCommand::SetUp => set_up(context),
    }
}

fn set_up(context: &Context) -> Result<Exit, Failure> {
    if !context.terminal.interactive || context.global.json {
        return Err(Failure::usage("This is done in a terminal, by hand."));
    }
    context.without_token_of_environment()?;
    let mut api = context.api()?;
    let me: Me = api.get("/v1/me")?.read()?;
    let password = terminal::ask_secret("Password")?;
    let mut body = json!({ "password": password.expose_secret() });
    if me.mfa.enabled {
        body["code"] = json!(terminal::ask("Code of the app that you have, or a backup code", "")?);
    }
    let enrolment: Enrolment = api.post("/v1/mfa/totp", &body)?.read()?;
    terminal::print(&format!(
        "Scan this with your authenticator app:\n\n{}\n\n{}",
        qr(enrolment.otpauth_uri.raw())?,
        fields(&[("Or enter", enrolment.secret.to_string())]),
    ))?;
    let mut tries = TRIES;
    let mut answer = loop {
        tries -= 1;
        match api.post("/v1/mfa/totp/confirm", &json!({"code": code::ask()?})) {
            Err(refused) if tries > 0 && refused.code() == Some("invalid-credentials") => {
                refused.report(false);
            }
            answer => break answer?,
        }
    };
    // The session goes on under another token.
    sign_in::keep_token(context, &mut answer)?;
    let codes: BackupCodes = answer.read()?;
    let codes: Vec<_> = codes.backup_codes.iter().map(|code| format!("  {code}")).collect();
    terminal::print(&format!(
        "Two-factor sign-in is on. You are signed out everywhere else.\n\n\
         Backup codes, each good for one sign-in without the app. They are not shown again:\n\n{}",
        codes.join("\n")
    ))?;
    Ok(Exit::Done)
}

/// Two rows of the code in each line, dark on light, whatever the colours of the terminal.
fn qr(uri: &str) -> Result<String, Failure> {
    let code =
        QrCode::new(uri).map_err(|_| Failure::other("The secret does not fit into a QR code."))?;
    let text =
        code.render::<Dense1x2>().dark_color(Dense1x2::Dark).light_color(Dense1x2::Light).build();
    let lines: Vec<_> = text.lines().map(|line| format!("\x1b[30;47m{line}\x1b[0m")).collect();
    Ok(lines.join("\n"))
}
