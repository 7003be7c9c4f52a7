//! Emergency access by the pages.

use reqwest::Method;
use serde_json::json;
use shared::role::Role;
use tests::World;

use super::visitor::{Visitor, filled};

const PAGE: &str = "/dashboard?view=rbac-emergency-access";
const REASON: &str = "Production incident: need to change the pipeline";
/// What must never be anything but text.
const HOSTILE: &str = "<script>alert(1)</script>\"><img src=x onerror=alert(2)>'{{7*7}} javascript:alert(3) \u{202e}x";

#[tokio::test]
async fn access_is_asked_for_and_ended_by_forms() -> anyhow::Result<()> {
    let world = World::start().await?;
    let member = Visitor::signed_in(&world, Role::Member).await?;
    member.get("/emergency/request").await?.expect(200).shows("Request access");
    let weak = [("reason", "x"), ("duration_seconds", "900"), ("ticket", "INC-1")];
    let page = member.post("/emergency/request", &weak).await?.expect(422);
    page.shows("id=\"reason-wrong\"")
        .shows("aria-describedby=\"reason-wrong reason-hint\"")
        .shows("value=\"INC-1\"")
        .shows("<option value=\"900\" selected>");
    let asked = [("reason", REASON), ("duration_seconds", "900"), ("ticket", "")];
    let elsewhere = member.post_from_elsewhere("/emergency/request", &asked).await?;
    elsewhere.expect(403);
    member.get(PAGE).await?.expect(200).shows("Nobody has emergency access now.");
    member.post("/emergency/request", &asked).await?.leads_to(PAGE);
    assert_eq!(member.program(&world).authorize().await?, (200, "admin".to_owned()));
    let page = member.get(PAGE).await?.expect(200);
    let page = page
        .shows("Emergency access was granted.")
        .shows("End now")
        .shows(REASON)
        .shows("15m remaining");
    member.is_enforced(&page).await?;
    let grant = page.between("id=\"grant-", "\"").to_owned();
    // Said once.
    member.get(PAGE).await?.expect(200).hides("edges enforce this");

    let manager = Visitor::signed_in(&world, Role::Manager).await?;
    let path = format!("/emergency/grants/{grant}/revoke");
    manager.get(&path).await?.expect(200).shows("Mia Member").shows("Revoke access");
    manager.post_from_elsewhere(&path, &[]).await?.expect(403);
    assert_eq!(member.program(&world).authorize().await?, (200, "admin".to_owned()));
    // As the script sends it.
    let request = manager.request(Method::POST, &path).header("sec-fetch-site", "same-origin");
    let sent = filled(request.header("hx-request", "true"), &[("comment", "It is over")]);
    let sent = manager.send(sent).await?.expect(200);
    assert_eq!(sent.headers["hx-redirect"], PAGE);
    assert_eq!(member.program(&world).authorize().await?, (200, "member".to_owned()));
    let page = manager.get(PAGE).await?.expect(200).shows("Emergency access was revoked.");
    manager.is_enforced(&page).await?;
    page.shows("To be reviewed");
    let again = manager.post(&path, &[]).await?.expect(409);
    again.shows("role=\"alert\"");

    let review = format!("/emergency/grants/{grant}/review");
    manager.post(&review, &[("note", ""), ("outcome", "justified")]).await?.expect(422);
    manager.post(&review, &[("note", "As agreed"), ("outcome", "justified")]).await?.leads_to(PAGE);
    let page = manager.get(&format!("/emergency/grants/{grant}")).await?.expect(200);
    page.shows("Justified").shows("As agreed").shows("It is over").shows("grant.revoked");
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn requests_are_decided_by_forms_as_they_were_shown() -> anyhow::Result<()> {
    let world = World::start().await?;
    let admin = world.sign_in(Role::Admin).await?;
    let mut policy = admin.get("/v1/emergency/policy").await?.body;
    policy["approvals_needed"] = json!(1);
    admin.send(Method::PUT, "/v1/emergency/policy", Some(policy)).await?.expect(200);
    let member = Visitor::signed_in(&world, Role::Member).await?;
    let manager = Visitor::signed_in(&world, Role::Manager).await?;
    let ask = async || -> anyhow::Result<String> {
        let reason = format!("{REASON} {}", fastrand::u64(..));
        let asked = [("reason", reason.as_str()), ("duration_seconds", "900"), ("ticket", "")];
        member.post("/emergency/request", &asked).await?.leads_to(PAGE);
        let page = member.get(PAGE).await?.expect(200).shows("Your request waits for approval.");
        // The newest of those that wait.
        let (_, waiting) = page.text.split_once("id=\"pending\"").expect("a list");
        let (_, id) = waiting.split_once("id=\"grant-").expect("a request");
        Ok(id.chars().take_while(|c| *c != '"').collect())
    };
    let grant = ask().await?;
    let path = format!("/emergency/grants/{grant}/approve");
    // One's own is not one's to approve.
    member.get(PAGE).await?.expect(200).hides("/approve\"");
    member.post(&path, &[]).await?.expect(403).shows("role=\"alert\"");
    manager.post(&path, &[("request_digest", &"0".repeat(64))]).await?.expect(409);
    let form = manager.get(&path).await?.expect(200);
    let digest = form.between("name=\"request_digest\" value=\"", "\"").to_owned();
    manager.post(&path, &[("request_digest", &digest)]).await?.leads_to(PAGE);
    let page = manager.get(PAGE).await?.shows("Approved. Emergency access was granted.");
    manager.is_enforced(&page).await?;
    assert_eq!(member.program(&world).authorize().await?, (200, "admin".to_owned()));

    let extend = format!("/emergency/grants/{grant}/extend");
    let more =
        [("reason", "The rollback takes longer than it should"), ("duration_seconds", "900")];
    member.post(&extend, &more).await?.leads_to(PAGE);
    member.get(PAGE).await?.shows("Your request waits for approval.");

    let denied = ask().await?;
    manager.post(&format!("/emergency/grants/{denied}/deny"), &[]).await?.leads_to(PAGE);
    manager.get(PAGE).await?.shows("The request was denied.").shows("Denied");
    let withdrawn = ask().await?;
    member.post(&format!("/emergency/grants/{withdrawn}/cancel"), &[]).await?.leads_to(PAGE);
    member.get(PAGE).await?.shows("The request was withdrawn.");
    let filtered = format!("{PAGE}&state=denied");
    manager.get(&filtered).await?.expect(200).shows(&denied).hides(&withdrawn);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn what_people_typed_is_text_on_every_page() -> anyhow::Result<()> {
    let world = World::start().await?;
    sqlx::query("UPDATE users SET name = $1 WHERE email = 'member@acme.test'")
        .bind(&HOSTILE[..60])
        .execute(&world.pool)
        .await?;
    let member = Visitor::signed_in(&world, Role::Member).await?;
    let asked = [("reason", HOSTILE), ("duration_seconds", "900"), ("ticket", "<b>T</b>")];
    member.post("/emergency/request", &asked).await?.leads_to(PAGE);
    let page = member.get(PAGE).await?.expect(200);
    let grant = page.between("id=\"grant-", "\"").to_owned();
    let admin = Visitor::signed_in(&world, Role::Admin).await?;
    let of_grant = |rest| format!("/emergency/grants/{grant}{rest}");
    for path in [PAGE.to_owned(), of_grant(""), of_grant("/revoke"), of_grant("/review")] {
        let page = admin.get(&path).await?.expect(200);
        page.shows("&#60;script&#62;alert(1)")
            .shows("<bdi>")
            .hides("<script>alert")
            .hides("<img src=x")
            .hides("<b>T</b>");
    }
    let typed =
        [("reason", "</textarea><script>x"), ("ticket", "\" autofocus onfocus=alert(1) x=\"")];
    let page = member.post("/emergency/request", &typed).await?;
    page.hides("</textarea><script>").hides("\" autofocus onfocus");
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn another_tenants_grant_has_no_page() -> anyhow::Result<()> {
    let world = World::start().await?;
    world.create_tenant("globex").await?;
    let theirs = world.sign_in_to("globex", Role::Member).await?;
    let grant = theirs.request_grant(REASON, 900).await?;
    let id = grant["grant"]["id"].as_str().expect("an id");
    let admin = Visitor::signed_in(&world, Role::Admin).await?;
    for task in ["", "/revoke", "/approve", "/deny", "/cancel", "/extend", "/review"] {
        let path = format!("/emergency/grants/{id}{task}");
        admin.get(&path).await?.expect(404).hides(REASON);
    }
    admin.post(&format!("/emergency/grants/{id}/revoke"), &[]).await?.expect(404);
    assert_eq!(theirs.authorize().await?, (200, "admin".to_owned()));
    let revision = grant["receipt"]["revision"].as_u64().expect("a revision");
    admin.get(&format!("/receipts/{revision}")).await?.expect(404);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn the_policy_is_changed_by_its_form() -> anyhow::Result<()> {
    let world = World::start().await?;
    let member = Visitor::signed_in(&world, Role::Member).await?;
    let admin = Visitor::signed_in(&world, Role::Admin).await?;
    let before = admin.program(&world).get("/v1/emergency/policy").await?.body;
    member.get("/emergency/policy").await?.expect(200).shows("disabled").hides("Save policy");
    let form = |approvals: &'static str, pattern: &'static str| {
        vec![
            ("role", "admin"),
            ("applies_to", "user"),
            ("requesters", "member"),
            ("requesters", "manager"),
            ("requesters", "admin"),
            ("approvers", "manager"),
            ("approvers", "admin"),
            ("max_duration_minutes", "240"),
            ("default_duration_minutes", "60"),
            ("approvals_needed", approvals),
            ("require_fresh_mfa", "on"),
            ("min_reason_length", "15"),
            ("ticket_pattern", pattern),
            ("max_active_per_user", "3"),
            ("cooldown_minutes", "0"),
            ("pending_timeout_minutes", "60"),
            ("review_within_hours", "24"),
            ("extensions_allowed", "3"),
            ("bypass_max_minutes", "30"),
        ]
    };
    member.post("/emergency/policy", &form("0", "")).await?.expect(403);
    let page = admin.post("/emergency/policy", &form("some", "")).await?.expect(422);
    page.shows("id=\"approvals_needed-wrong\"");
    admin.post("/emergency/policy", &form("0", "[")).await?.expect(400).shows("role=\"alert\"");
    // What the form shows is what is in force.
    admin.post("/emergency/policy", &form("0", "")).await?.leads_to(PAGE);
    let after = admin.program(&world).get("/v1/emergency/policy").await?.body;
    assert_eq!(after, before);
    admin.post("/emergency/policy", &form("2", "INC-[0-9]+")).await?.leads_to(PAGE);
    let after = admin.program(&world).get("/v1/emergency/policy").await?.body;
    assert_eq!(
        (&after["approvals_needed"], &after["ticket_pattern"]),
        (&json!(2), &json!("INC-[0-9]+"))
    );
    world.end().await;
    Ok(())
}
