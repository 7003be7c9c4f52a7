//! Messages for Slack's incoming webhooks, and for what takes the same (Mattermost, Rocket.Chat).

use serde_json::{Value, json};

use super::{text, wording};

/// Slack's limit for a block's text is 3,000 characters; a headline has two people at most. Counted when it
/// is escaped, which makes text longer.
const LONGEST: usize = 1_300;

/// An event as a message.
pub(super) fn message(kind: &str, body: &Value, public_url: Option<&str>) -> Value {
    let said = wording::of(kind, &body["data"], &mut shown);
    let mut blocks = vec![section(&format!("*{}*", said.headline))];
    blocks.extend(said.lines.iter().map(|(name, value)| section(&format!("{name}: {value}"))));
    if let Some(url) = public_url {
        // The operator's own URL.
        let link = format!("<{url}{}|Open Breakglass>", wording::page(kind));
        blocks.push(json!({"type": "context", "elements": [{"type": "mrkdwn", "text": link}]}));
    }
    json!({ "text": said.headline, "blocks": blocks })
}

fn section(markup: &str) -> Value {
    json!({ "type": "section", "text": { "type": "mrkdwn", "text": markup } })
}

/// Text that somebody typed, escaped, and its direction kept to itself.
fn shown(typed: &str) -> String {
    let mut length = 0;
    let fitting = typed.char_indices().find(|(_, char)| {
        length += text::slack(char.encode_utf8(&mut [0; 4])).chars().count();
        length > LONGEST
    });
    let (cut, more) = match fitting {
        Some((at, _)) => (&typed[..at], "…"),
        None => (typed, ""),
    };
    text::isolated(&format!("{}{more}", text::slack(cut)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_stays_text() {
        let body = json!({"data": {
            "tenant": {"name": "A <!here> Ltd", "slug": "a"},
            "user": {"id": "x", "email": "e@x.test", "name": "<@U1> *Eve*"},
            "grant": {"role": "admin", "reason": "<!channel> @here \u{202e}evil\n<https://evil|ok> & more", "ticket": null},
        }});
        let message = message("grant.requested", &body, Some("https://b.example"));
        let text = message.to_string();
        for markup in ["<!", "<@", "<https://evil", "@here", "@channel"] {
            assert!(!text.contains(markup), "{markup} in {text}");
        }
        assert!(text.contains("&lt;!channel&gt;") && text.contains("&amp; more"), "{text}");
        assert!(text.contains("<https://b.example/"), "{text}");
        let reason = message["blocks"][1]["text"]["text"].as_str().expect("a text");
        assert!(reason.contains("\u{202e}evil\u{2069}"), "kept, and closed: {reason:?}");
        assert!(message["text"].as_str().expect("a text").contains("asks for emergency access"));
    }

    #[test]
    fn a_message_has_a_length_that_slack_takes() {
        let long = "&".repeat(2_000);
        let user = json!({"name": long, "email": long});
        let body =
            json!({"data": {"grant": {"reason": long, "ticket": long}, "user": user, "by": user}});
        let message = message("grant.revoked", &body, None);
        for block in message["blocks"].as_array().expect("blocks") {
            let text = block["text"]["text"].as_str().expect("a text");
            assert!(text.chars().count() <= 3_000, "{}", text.chars().count());
            assert!(
                !text.contains("&amp…") && !text.contains("&am…"),
                "cut within an entity: {text}"
            );
        }
    }
}
