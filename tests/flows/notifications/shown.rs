//! Hostile text in a reason, where it is shown.

use serde_json::json;
use shared::role::Role;

use super::{Receiver, create, emit, receiver::MailServer, user_id, webhook, world_with};

/// What an attacker would write for those who read it elsewhere.
const REASON: &str = "<!channel> @here & <https://evil.test|click>\nTime: never \u{202e}txt.exe \u{2069}\u{202e} \"}],\"x\":\"</script>";

#[tokio::test]
async fn a_hostile_reason_is_text_everywhere() -> anyhow::Result<()> {
    let mails = MailServer::start().await?;
    let from = ["--smtp-url", &mails.url, "--mail-from", "Breakglass <bg@acme.test>"];
    let world = world_with(&from).await?;
    let admin = world.sign_in(Role::Admin).await?;
    let member = world.sign_in(Role::Member).await?;
    let (hook, slack) = (Receiver::start().await?, Receiver::start().await?);
    let wanted = ["grant.told"];
    let (_, secret) = webhook(&admin, &hook, &wanted).await?;
    create(&admin, json!({"kind": "slack", "url": slack.url, "events": wanted})).await?;
    let to = json!({"kind": "mail", "addresses": ["oncall@acme.test"], "events": wanted});
    create(&admin, to).await?;
    let granted = member.request_grant(REASON, 60).await?;
    let user = user_id(&world, Role::Member).await?;
    let payload =
        json!({"grant": granted["grant"]["id"], "user": user, "by": user, "recipients": []});
    emit(&world, "acme", "grant.told", payload).await?;

    // JSON as it was typed; a signature over exactly these bytes.
    let heard = hook.wait_for(1).await?;
    assert!(heard[0].is_signed_with(&secret));
    assert_eq!(heard[0].body["data"]["grant"]["reason"], REASON);
    assert_eq!(heard[0].body["data"].get("recipients"), None);
    assert_eq!(heard[0].body.as_object().map(serde_json::Map::len), Some(3));

    let message = &slack.wait_for(1).await?[0];
    let text = String::from_utf8(message.bytes.to_vec())?;
    assert!(message.header("webhook-signature").is_empty(), "Slack has no use for it");
    for markup in ["<!", "<https", "@here", "</script>"] {
        assert!(!text.contains(markup), "{markup} in {text}");
    }
    assert!(text.contains("&lt;!channel&gt;"), "{text}");

    let mail = &mails.wait_for("oncall@acme.test", 1).await?[0];
    assert_eq!(
        mail.text.lines().filter(|line| line.starts_with("Time: ")).count(),
        1,
        "{}",
        mail.text
    );
    assert!(mail.text.contains('\u{202e}'), "kept");
    for line in mail.text.lines() {
        let depth = line.chars().fold(0_i32, |depth, char| match char {
            '\u{2066}'..='\u{2068}' => depth + 1,
            '\u{2069}' => depth - 1,
            _ => depth,
        });
        assert_eq!(depth, 0, "{line:?} turns what follows");
        let turned = line.find('\u{202e}');
        assert!(turned.is_none_or(|at| line[..at].contains('\u{2068}')), "{line:?}");
    }
    assert_eq!(mail.head.lines().filter(|line| line.starts_with("Subject:")).count(), 1);
    world.end().await;
    Ok(())
}
