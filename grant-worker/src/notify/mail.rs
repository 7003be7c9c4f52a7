//! Mail: to those whom an event concerns, and to the mailboxes of a tenant.

use std::{fmt::Write as _, time::Duration};

use lettre::{
    AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor,
    message::{
        Mailbox, Mailboxes,
        header::{ContentType, HeaderName, HeaderValue},
    },
};
use secrecy::{ExposeSecret as _, SecretString};
use shared::{
    message::user::IssueReset,
    refusal::{Code, Refusal},
    token::PasswordToken,
};

use super::{
    Notify,
    attempt::{Failure, Told},
    text, wording,
};

/// One step of a conversation with the server takes no longer.
const STEP: Duration = Duration::from_secs(8);
/// Longest subject.
const SUBJECT: usize = 150;
/// What one is told who may not have asked for a link.
const UNASKED: &str = "If you did not ask for this, do nothing: your password stays as it is.";
/// This event is told with a link.
const FORGOTTEN: &str = "account.password-forgotten";

/// The options for mail cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MailerError {
    #[error("--smtp-url is not the address of a mail server")]
    Url(#[source] lettre::transport::smtp::Error),
    #[error("--mail-from is not an address")]
    From(#[source] lettre::address::AddressError),
}

/// Sends mail. Cheap to clone.
#[derive(Clone)]
pub(super) struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

impl Mailer {
    pub(super) fn new(url: &SecretString, from: &str) -> Result<Self, MailerError> {
        let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(url.expose_secret())
            .map_err(MailerError::Url)?;
        let from = from.parse().map_err(MailerError::From)?;
        Ok(Self { transport: transport.timeout(Some(STEP)).build(), from })
    }

    async fn send(&self, message: Message) -> Result<(), Failure> {
        match self.transport.send(message).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_permanent() => {
                Err(Failure::set_aside("the mail server refused it for good"))
            }
            Err(error) if error.is_timeout() => {
                Err(Failure::retry("the mail server did not answer in time"))
            }
            Err(_) => Err(Failure::retry("the mail server did not take it")),
        }
    }
}

/// Whether text is an address that mail can be sent to.
pub(super) fn is_address(text: &str) -> bool {
    text.len() <= 254 && text.is_ascii() && text.parse::<lettre::Address>().is_ok()
}

/// Mails an event to mailboxes of the tenant.
pub(super) async fn to_addresses(
    notify: &Notify,
    addresses: &[String],
    told: Told<'_>,
) -> Result<(), Failure> {
    let mailer = mailer(notify)?;
    let to = addresses.iter().map(|address| mailbox(address)).collect::<Result<Mailboxes, _>>()?;
    mailer.send(message(notify, mailer, to, told, None)?).await
}

/// Mails an event to somebody whom it concerns.
pub(super) async fn to_person(
    notify: &Notify,
    address: &str,
    told: Told<'_>,
) -> Result<(), Failure> {
    let mailer = mailer(notify)?;
    let to = Mailboxes::from(mailbox(address)?);
    let token = if told.kind == FORGOTTEN { Some(reset_token(notify, told).await?) } else { None };
    mailer.send(message(notify, mailer, to, told, token.as_ref())?).await
}

/// A token made for this very mail: it is nowhere but there. An earlier one, of an attempt that may
/// have failed after all, no longer counts.
async fn reset_token(notify: &Notify, told: Told<'_>) -> Result<PasswordToken, Failure> {
    let token = PasswordToken::generate();
    let request = IssueReset { event_id: told.event, token: token.hash() };
    match notify.bus.request(&request).await {
        Ok(_) => Ok(token),
        Err(Refusal { code: Code::NotFound, .. }) => Err(Failure::set_aside("it came too late")),
        Err(_) => Err(Failure::retry("no token could be had for it")),
    }
}

fn mailer(notify: &Notify) -> Result<&Mailer, Failure> {
    notify.mailer.as_ref().ok_or_else(|| Failure::retry("mail is not configured here"))
}

fn mailbox(address: &str) -> Result<Mailbox, Failure> {
    let address = address.parse().map_err(|_| Failure::set_aside("the address is none"))?;
    Ok(Mailbox::new(None, address))
}

fn message(
    notify: &Notify,
    mailer: &Mailer,
    to: Mailboxes,
    told: Told<'_>,
    token: Option<&PasswordToken>,
) -> Result<Message, Failure> {
    let id = told.delivery.map_or(told.event.0, |delivery| delivery.0);
    let written = Written::new(told, notify.public_url.as_deref(), token);
    let automatic = HeaderValue::new(
        HeaderName::new_from_ascii_str("Auto-Submitted"),
        "auto-generated".to_owned(),
    );
    Message::builder()
        .from(mailer.from.clone())
        .mailbox(lettre::message::header::To::from(to))
        .message_id(Some(format!("<{id}@{}>", mailer.from.email.domain())))
        .subject(written.subject)
        .raw_header(automatic)
        .header(ContentType::TEXT_PLAIN)
        .body(written.body)
        .map_err(|_| Failure::set_aside("it cannot be written as mail"))
}

/// The parts of a mail that hold what somebody may have typed.
struct Written {
    subject: String,
    body: String,
}

impl Written {
    fn new(told: Told<'_>, public_url: Option<&str>, token: Option<&PasswordToken>) -> Self {
        let data = &told.body["data"];
        // Names in a subject are plain; in the text they keep what they have to themselves.
        let plain = wording::of(told.kind, data, &mut |typed| text::one_line(typed, SUBJECT));
        let tenant = text::one_line(data["tenant"]["name"].as_str().unwrap_or("Breakglass"), 50);
        let subject = text::one_line(&format!("[{tenant}] {}", plain.headline), SUBJECT);
        let said = wording::of(told.kind, data, &mut text::isolated);
        let mut body = format!("{}.\n\n", said.headline);
        for (name, value) in &said.lines {
            // A line that somebody typed does not look like one of ours.
            let _ = writeln!(body, "{name}: {}", value.replace('\n', "\n    "));
        }
        let _ = writeln!(body, "Time: {}\n", told.at);
        let _ = match (token.map(PasswordToken::expose), public_url) {
            (Some(token), Some(url)) => writeln!(
                body,
                "Set a new password within half an hour, once, here:\n{url}/password-reset#{token}\n\n{UNASKED}"
            ),
            (Some(token), None) => writeln!(
                body,
                "With this token you set a new password within half an hour, once:\n{token}\n\n{UNASKED}"
            ),
            (None, Some(url)) => writeln!(body, "{url}{}", wording::page(told.kind)),
            (None, None) => Ok(()),
        };
        if is_of_account(told.kind) && token.is_none() {
            body.push_str("\nIf this was not you, tell an admin of your organisation at once.\n");
        }
        Self { subject, body }
    }
}

fn is_of_account(kind: &str) -> bool {
    ["session.", "account.", "mfa."].iter().any(|begin| kind.starts_with(begin))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use shared::{clock::Timestamp, id::EventId};

    use super::*;

    #[test]
    fn hostile_text_neither_makes_headers_nor_turns_lines() {
        let body = json!({"data": {
            "tenant": {"name": "Acme\r\nBcc: all@x.test"},
            "user": {"id": "x", "email": "e@x.test", "name": "Eve\r\nSubject: other \u{202e}"},
            "grant": {"role": "admin", "reason": "one\nTime: never\u{202e}\n\n.\nlast", "ticket": null},
        }});
        let told = Told {
            delivery: None,
            event: EventId(uuid::Uuid::nil()),
            kind: "grant.requested",
            at: Timestamp::from_micros(0),
            body: &body,
        };
        let written = Written::new(told, Some("https://b.example"), None);
        assert!(!written.subject.contains(['\r', '\n', '\u{202e}']), "{:?}", written.subject);
        assert!(written.body.contains("\u{202e}\u{2069}\n"), "{:?}", written.body);
        assert_eq!(written.body.lines().filter(|line| line.starts_with("Time: ")).count(), 1);
        let message = Message::builder()
            .from("b@x.test".parse().expect("an address"))
            .to("a@x.test".parse().expect("an address"))
            .subject(written.subject)
            .header(ContentType::TEXT_PLAIN)
            .body(written.body)
            .expect("a message");
        let text = String::from_utf8(message.formatted()).expect("ASCII");
        let (head, _) = text.split_once("\r\n\r\n").expect("head and body");
        let names: Vec<_> = head
            .lines()
            .filter(|line| !line.starts_with(' '))
            .filter_map(|line| line.split_once(':').map(|(name, _)| name))
            .collect();
        assert!(!names.contains(&"Bcc"), "{head}");
        assert_eq!(names.iter().filter(|name| **name == "Subject").count(), 1, "{head}");
    }

    #[test]
    fn an_address_is_one_address() {
        for good in ["a@x.test", "on-call+bg@x.example"] {
            assert!(is_address(good), "{good}");
        }
        for bad in [
            "",
            "a",
            "a@",
            "@x",
            "a@x.test,b@x.test",
            "a@x.test\r\nBcc: b@x.test",
            "A <a@x.test>",
            "a b@x.test",
        ] {
            assert!(!is_address(bad), "{bad}");
        }
    }
}
