//! Reasons, comments, tickets and durations.

use serde_json::{Value, json};
use shared::role::Role;
use tests::World;

use super::Scene;

#[tokio::test]
async fn a_reason_that_says_nothing_is_refused() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let long = |n: usize| "zwölf ".chars().cycle().take(n).collect::<String>();
    let (too_long, much_too_long) = (long(2_001), long(20_000));
    let mut reasons = vec![
        (json!(null), 422, "reason-required"),
        (json!(""), 422, "reason-required"),
        (json!(" \t\r\n\u{3000}\u{a0}"), 422, "reason-required"),
        (json!("."), 422, "reason-too-weak"),
        (json!("asap"), 422, "reason-too-weak"),
        (json!("....................."), 422, "reason-too-weak"),
        (json!("aaaaaaaaaaaaaaaaaaaaa"), 422, "reason-too-weak"),
        (json!("AaAaAaAaAaAaAaAaAaAaA"), 422, "reason-too-weak"),
        (json!("\u{200b}".repeat(40)), 422, "reason-too-weak"),
        (json!("\u{202e}\u{202c}".repeat(20)), 422, "reason-too-weak"),
        (json!("🔥".repeat(40)), 422, "reason-too-weak"),
        // The reason of the grant that the scene was set with, in other spellings.
        (json!("The night batch hangs at payments"), 422, "reason-too-weak"),
        (json!("  the NIGHT batch\nhangs  at payments "), 422, "reason-too-weak"),
        (json!(too_long), 400, "bad-request"),
        (json!(much_too_long), 400, "bad-request"),
    ];
    for control in ["\u{0}", "\t", "\r", "\u{8}", "\u{1b}[2J", "\u{7f}", "\u{85}", "\u{9b}"] {
        reasons.push((json!(format!("The database is{control} down for all")), 400, "bad-request"));
    }
    for (reason, status, code) in reasons {
        let what = format!("{reason:.80}");
        let request = scene.request("POST /v1/emergency/grants").json(&json!({"reason": reason}));
        scene.refused(&what, request, status, code).await?;
    }
    scene.end().await
}

#[tokio::test]
async fn tickets_comments_and_durations_have_bounds() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let asked = |field: &str, value: Value| {
        let mut body = json!({"reason": "The cache serves yesterday's prices"});
        body[field] = value;
        scene.request("POST /v1/emergency/grants").json(&body)
    };
    for (seconds, status, code) in [
        (json!(-5), 400, "bad-request"),
        (json!(0), 400, "bad-request"),
        (json!(4), 400, "bad-request"),
        (json!(4.9), 400, "bad-request"),
        (json!(14_401), 422, "duration-too-long"),
        (json!(u32::MAX), 422, "duration-too-long"),
        (json!(4_294_967_296_u64), 400, "bad-request"),
    ] {
        let what = format!("{seconds} s");
        scene.refused(&what, asked("duration_seconds", seconds), status, code).await?;
    }
    for ticket in
        ["x".repeat(201), "INC\n1".to_owned(), "INC\u{0}".to_owned(), "INC\u{1b}".to_owned()]
    {
        let what = format!("{ticket:.20?}");
        scene.refused(&what, asked("ticket", json!(ticket)), 422, "ticket-invalid").await?;
    }
    for comment in
        ["x".repeat(2_001), "over\u{0}".to_owned(), "over\u{1b}".to_owned(), "\tover".to_owned()]
    {
        let what = format!("{comment:.20?}");
        let request = scene.request("POST /v1/emergency/grants/{grant}/revoke");
        let request = request.json(&json!({"comment": comment}));
        scene.refused(&what, request, 400, "bad-request").await?;
    }
    scene.end().await
}

#[tokio::test]
async fn a_reason_is_kept_verbatim() -> anyhow::Result<()> {
    let world = World::start().await?;
    let (member, manager) =
        (world.sign_in(Role::Member).await?, world.sign_in(Role::Manager).await?);
    let longest = "zwölf ".chars().cycle().take(2_000).collect::<String>();
    for reason in [
        longest.as_str(),
        "  The database is down\r\nfor everybody\n ",
        "Invoice \u{202e}fdp.exe\u{202c} was \u{2066}sent\u{2069} twice \u{200f}",
        "主数据库宕机需要手动切换到备用节点 🔥 e\u{301}galite\u{301}",
        "<script>alert('x')</script> & \"quotes\" \\ `ticks` %s {0} ${jndi:ldap://x}",
        "=HYPERLINK(\"https://evil.test\") +1 -1 @SUM(1)",
        "Robert'); DROP TABLE emergency_grants;--",
        "X-Auth-Role: admin and Set-Cookie: a=b, in words",
    ] {
        let granted = member.request_grant(reason, 60).await?;
        assert_eq!(granted["grant"]["reason"], reason);
        let path =
            format!("/v1/emergency/grants/{}", granted["grant"]["id"].as_str().expect("an id"));
        assert_eq!(manager.get(&path).await?.expect(200).body["grant"]["reason"], reason);
        let audit = manager.get("/v1/audit?limit=1&action=grant.activated").await?.expect(200).body;
        assert_eq!(audit["entries"][0]["detail"]["reason"], reason);
        let comment = json!({"comment": reason});
        let revoked = member.post(&format!("{path}/revoke"), comment).await?.expect(200).body;
        assert_eq!(revoked["grant"]["end_reason"], reason);
    }
    world.end().await;
    Ok(())
}
