//! Mail to those whom something concerns, and the link for a forgotten password.

use serde_json::json;
use shared::role::Role;
use tests::eventually;

use super::{emit, receiver::MailServer, user_id, world_with};

#[tokio::test]
async fn those_concerned_get_mail_and_nobody_else() -> anyhow::Result<()> {
    let mails = MailServer::start().await?;
    let flags = ["--smtp-url", &mails.url, "--mail-from", "Breakglass <bg@acme.test>"];
    let world = world_with(&flags).await?;
    world.create_tenant("other").await?;
    let [member, manager, admin] = [Role::Member, Role::Manager, Role::Admin];
    let (member, manager, admin) = (
        user_id(&world, member).await?,
        user_id(&world, manager).await?,
        user_id(&world, admin).await?,
    );
    let payload = json!({"user": member, "ip": "192.0.2.7", "device": {"label": "curl"}});
    emit(&world, "acme", "session.new-device", payload).await?;
    let mail = &mails.wait_for("member@acme.test", 1).await?[0];
    assert!(mail.head.contains("signed in from a new device"), "{}", mail.head);
    assert!(mail.text.contains("192.0.2.7") && mail.text.contains("curl"), "{}", mail.text);
    assert!(mail.text.contains("If this was not you"), "{}", mail.text);

    let payload = json!({"user": member, "by": member, "recipients": [manager, admin, manager]});
    emit(&world, "acme", "grant.requested", payload).await?;
    mails.wait_for("manager@acme.test", 1).await?;
    mails.wait_for("admin@acme.test", 1).await?;
    // Somebody of another tenant is nobody here; and not a word of the record's head.
    emit(&world, "other", "grant.requested", json!({"user": member, "recipients": [admin]}))
        .await?;
    emit(&world, "acme", "audit.head-signed", json!({"recipients": [admin]})).await?;
    emit(&world, "acme", "mfa.disabled", json!({"user": member, "by": member})).await?;
    mails.wait_for("member@acme.test", 2).await?;
    eventually("all events were fanned out", || async {
        let waiting = "SELECT count(*) FROM outbox WHERE published_at IS NULL";
        sqlx::query_scalar::<_, i64>(waiting).fetch_one(&world.pool).await.is_ok_and(|n| n == 0)
    })
    .await?;
    let mut to: Vec<_> = mails.mails().into_iter().flat_map(|mail| mail.to).collect();
    to.sort();
    assert_eq!(
        to,
        ["admin@acme.test", "manager@acme.test", "member@acme.test", "member@acme.test"],
        "what one asked for oneself is no news"
    );
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_forgotten_password_is_set_by_a_link_that_is_in_the_mail_alone() -> anyhow::Result<()> {
    let mails = MailServer::start().await?;
    let flags = [
        "--smtp-url",
        &mails.url,
        "--mail-from",
        "Breakglass <bg@acme.test>",
        "--public-url",
        "https://b.example/",
    ];
    let world = world_with(&flags).await?;
    let asked = json!({"tenant": "acme", "email": "Member@acme.test"});
    world.anonymous().post("/v1/password-reset/request", asked).await?.expect(202);
    let mail = &mails.wait_for("member@acme.test", 1).await?[0];
    let link = mail.text.lines().find(|line| line.starts_with("https://")).expect("a link");
    let token = link.strip_prefix("https://b.example/password-reset#").expect("the token");
    let rows = "SELECT coalesce(string_agg(t, ' '), '') FROM (
        SELECT to_jsonb(o)::text FROM outbox o UNION ALL SELECT to_jsonb(d)::text FROM notification_deliveries d
        UNION ALL SELECT to_jsonb(a)::text FROM audit a UNION ALL SELECT to_jsonb(p)::text FROM password_tokens p) AS t (t)";
    let mut seen: String = sqlx::query_scalar(rows).fetch_one(&world.pool).await?;
    for log in std::fs::read_dir(world.stack.data().join("log"))? {
        seen += &std::fs::read_to_string(log?.path())?;
    }
    assert!(seen.contains("account.password-forgotten"));
    assert!(!seen.contains(token), "the token is in the mail alone");
    let set = json!({"token": token, "new_password": "quiet-harbour-lamp"});
    world.anonymous().post("/v1/password-reset", set.clone()).await?.expect(200);
    world.anonymous().sign_in("acme", "member@acme.test", "quiet-harbour-lamp").await?;
    world.anonymous().post("/v1/password-reset", set).await?.expect(401);
    // Of that the user hears, too.
    let mails = mails.wait_for("member@acme.test", 2).await?;
    assert!(mails.iter().any(|mail| mail.head.contains("was set")), "{mails:?}");
    world.end().await;
    Ok(())
}
