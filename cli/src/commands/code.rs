//! Fresh codes, where the policy wants one for the very request.

use serde_json::{Value, json};

use crate::{
    api::{Answer, Api},
    context::Context,
    failure::Failure,
    terminal,
};

/// How often a mistyped code can be given again.
const TRIES: u32 = 3;

/// Sends a request, with a code if one was given. Asks for it where the server wants one.
pub(super) fn post(
    context: &Context,
    api: &mut Api,
    path: &str,
    mut body: Value,
    given: Option<&str>,
) -> Result<Answer, Failure> {
    if let Some(code) = given {
        body["code"] = json!(code);
    }
    let mut tries = if given.is_none() && context.terminal.interactive { TRIES } else { 0 };
    loop {
        match api.post(path, &body) {
            Err(refused) if tries > 0 && is_about_the_code(&refused, &body) => {
                tries -= 1;
                if body.get("code").is_some() {
                    refused.report(false);
                }
                body["code"] = json!(ask()?);
            }
            answer => return answer,
        }
    }
}

pub(super) fn ask() -> Result<String, Failure> {
    terminal::ask("Code that your authenticator app shows now", "")
}

fn is_about_the_code(refused: &Failure, body: &Value) -> bool {
    match refused.code() {
        Some("fresh-mfa-required") => true,
        Some("invalid-credentials") => body.get("code").is_some(),
        _ => false,
    }
}
