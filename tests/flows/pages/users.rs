//! The pages of users.

use anyhow::Context as _;
use reqwest::Method;
use serde_json::json;
use shared::role::{ROLES, Role};
use tests::World;

use super::{
    safe::{HARMLESS, HOSTILE, assert_for},
    visitor::{Page, Visitor, filled},
};

const PAGE: &str = "/dashboard?view=users";

/// What can be done about a user, and a form that does it.
const TASKS: [(&str, &[(&str, &str)]); 6] = [
    ("change", &[("name", "Another"), ("role", "manager")]),
    ("disable", &[]),
    ("enable", &[]),
    ("reset-password", &[]),
    ("reset-mfa", &[("password", "adminadmin")]),
    ("sessions/revoke-all", &[]),
];

async fn id_of(world: &World, slug: &str, role: Role) -> anyhow::Result<String> {
    let id = sqlx::query_scalar("SELECT id::text FROM users WHERE email = $1");
    Ok(id.bind(format!("{role}@{slug}.test")).fetch_one(&world.pool).await?)
}

/// All that is kept of the users.
async fn kept(world: &World) -> anyhow::Result<Vec<String>> {
    let rows = sqlx::query_scalar(
        "SELECT to_jsonb(u)::text FROM users u UNION ALL SELECT to_jsonb(t)::text FROM password_tokens t
         UNION ALL SELECT to_jsonb(s) ->> 'id' FROM sessions s WHERE ended_at IS NULL ORDER BY 1",
    );
    Ok(rows.fetch_all(&world.pool).await?)
}

impl Page {
    /// The token of the link for a password, and where it leads; it stands here this once.
    fn link(&self) -> (&str, &str) {
        self.between("<code id=\"link\">", "</code>").split_once('#').unwrap_or_default()
    }
}

/// The next page says what was done, that all edges enforce it, and says it once.
async fn assert_noticed(browser: &Visitor, page: &Page, text: &str) -> anyhow::Result<()> {
    assert_eq!(page.status, 303, "{}", page.text);
    let next = browser.get(page.location()).await?.expect(200);
    next.shows(text).shows("3 of 3 edges enforce this");
    let again = browser.get(page.location()).await?.expect(200);
    again.hides(text).hides("edges enforce this");
    Ok(())
}

#[tokio::test]
async fn users_are_shown_to_those_who_manage_them() -> anyhow::Result<()> {
    let world = World::start().await?;
    world.create_tenant("managed").await?;
    let member = id_of(&world, "managed", Role::Member).await?;
    let own = format!("/users/{member}");
    for path in [PAGE, "/users/new", own.as_str()] {
        assert_for(&world, "managed", path, &[Role::Admin]).await?;
    }
    for (task, _) in TASKS {
        assert_for(&world, "managed", &format!("{own}/{task}"), &[Role::Admin]).await?;
    }
    // Nor do the forms of the others do anything.
    let manager = Visitor::of(&world, "managed", Role::Manager).await?;
    let before = kept(&world).await?;
    let new = [("email", "x@managed.test"), ("name", "X"), ("role", "admin")];
    manager.post("/users/new", &new).await?.expect(403);
    for (task, fields) in TASKS {
        if task != "sessions/revoke-all" {
            manager.post(&format!("{own}/{task}"), fields).await?.expect(403);
        }
    }
    assert_eq!(kept(&world).await?, before);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn nobody_of_another_organisation_is_to_be_had() -> anyhow::Result<()> {
    let world = World::start().await?;
    world.create_tenant("ours").await?;
    world.create_tenant("theirs").await?;
    let theirs = id_of(&world, "theirs", Role::Member).await?;
    let session = world.sign_in_to("theirs", Role::Member).await?;
    let session = session.get("/v1/me").await?.expect(200).body["session"]["id"].clone();
    let session = session.as_str().context("an id")?;
    let admin = Visitor::of(&world, "ours", Role::Admin).await?;
    let before = kept(&world).await?;
    for id in [theirs.as_str(), "x", "00000000-0000-0000-0000-000000000000"] {
        admin.get(&format!("/users/{id}")).await?.expect(404);
        for (task, fields) in TASKS {
            admin.get(&format!("/users/{id}/{task}")).await?.expect(404);
            admin.post(&format!("/users/{id}/{task}"), fields).await?.expect(404);
        }
        let path = format!("/users/{id}/sessions/{session}/revoke");
        admin.get(&path).await?.expect(404);
        admin.post(&path, &[]).await?.expect(404);
    }
    // Their session under somebody of ours is none either.
    let ours = id_of(&world, "ours", Role::Member).await?;
    let path = format!("/users/{ours}/sessions/{session}/revoke");
    admin.get(&path).await?.expect(404);
    admin.post(&path, &[]).await?.expect(404);
    assert_eq!(kept(&world).await?, before);
    admin.get(PAGE).await?.expect(200).hides("theirs.test");
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn csrf_no_other_site_does_anything_about_users() -> anyhow::Result<()> {
    let world = World::start().await?;
    world.create_tenant("forged").await?;
    let member = id_of(&world, "forged", Role::Member).await?;
    world.sign_in_to("forged", Role::Member).await?;
    let admin = Visitor::of(&world, "forged", Role::Admin).await?;
    let before = kept(&world).await?;
    let new: &[_] = &[("email", "x@forged.test"), ("name", "X"), ("role", "admin")];
    let tasks = TASKS.into_iter().map(|(task, fields)| (format!("/users/{member}/{task}"), fields));
    for (path, fields) in tasks.chain([("/users/new".to_owned(), new)]) {
        for site in ["cross-site", "same-site", "none"] {
            let request = admin.request(Method::POST, &path).header("sec-fetch-site", site);
            let page = admin.send(filled(request, fields)).await?;
            assert_eq!(page.status, 403, "{path} from {site}");
        }
    }
    assert_eq!(kept(&world).await?, before);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn who_is_invited_sets_a_password_and_signs_in() -> anyhow::Result<()> {
    let world = World::start().await?;
    world.create_tenant("inviting").await?;
    let admin = Visitor::of(&world, "inviting", Role::Admin).await?;
    let new = [("email", "Grace@Inviting.test"), ("name", HOSTILE), ("role", "manager")];
    let page = admin.post("/users/new", &new).await?.expect(200);
    let page = page.harmless().shows("within 72 hours");
    let (place, token) = page.link();
    assert_eq!(place, format!("{}/password-reset", world.edge(1)));
    let user = page.between("href=\"/users/", "\"").to_owned();
    let user = format!("/users/{user}");

    // Nothing says it again, and nothing keeps it.
    for path in [PAGE, user.as_str(), "/dashboard?view=audit-logs"] {
        let page = admin.get(path).await?.expect(200);
        page.harmless().hides(&token[4..]);
    }
    assert!(kept(&world).await?.iter().all(|row| !row.contains(&token[4..])));

    let grace = Visitor::at(&world.edge(2))?;
    let password = "grace has a long password";
    let set = [("token", token), ("new_password", password)];
    let page = grace.post("/password-reset", &set).await?.expect(303);
    grace.get(page.location()).await?.expect(200).shows("Your password is set.");
    grace.sign_in("inviting", "grace@inviting.test", password).await?;
    grace.post("/password-reset", &set).await?.expect(401);

    // Once more: beside the field, with what was typed.
    let page = admin.post("/users/new", &new).await?.expect(409);
    page.harmless()
        .shows("id=\"email-wrong\"")
        .shows("value=\"Grace@Inviting.test\"")
        .shows("<option selected>manager</option>");
    let page =
        admin.post("/users/new", &[("email", "x"), ("name", "X"), ("role", "admin")]).await?;
    page.expect(400).shows("role=\"alert\"");
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn hostile_names_do_nothing_in_any_form() -> anyhow::Result<()> {
    let world = World::start().await?;
    world.create_tenant("quoting").await?;
    sqlx::query("UPDATE users SET name = $1 WHERE email = 'member@quoting.test'")
        .bind(HOSTILE)
        .execute(&world.pool)
        .await?;
    let member = id_of(&world, "quoting", Role::Member).await?;
    let agent = "<script>alert(2)</script>";
    let login =
        json!({"tenant": "quoting", "email": "member@quoting.test", "password": "membermember"});
    let request = world.anonymous().request(Method::POST, "/v1/login");
    let request = request.header("user-agent", agent).json(&login);
    let session = tests::Answer::to(request).await?.expect(200).body["session"]["id"].clone();
    let session = session.as_str().context("an id")?.to_owned();
    let admin = Visitor::of(&world, "quoting", Role::Admin).await?;
    for (task, _) in TASKS {
        admin.get(&format!("/users/{member}/{task}")).await?.expect(200).harmless();
    }
    for path in [format!("/users/{member}"), format!("/users/{member}/sessions/{session}/revoke")] {
        let page = admin.get(&path).await?.expect(200);
        page.harmless().shows("<bdi>&#60;script&#62;");
    }
    let name = admin.get(&format!("/users/{member}/change")).await?.expect(200);
    name.shows(&format!("value=\"{HARMLESS}\""));
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_change_counts_on_every_edge_and_is_said_once() -> anyhow::Result<()> {
    let world = World::start().await?;
    world.create_tenant("changing").await?;
    let member = id_of(&world, "changing", Role::Member).await?;
    let client = world.sign_in_to("changing", Role::Member).await?;
    let admin = Visitor::of(&world, "changing", Role::Admin).await?;
    let path = |task: &str| format!("/users/{member}/{task}");

    let fields = [("name", "Somebody"), ("role", "manager")];
    let page = admin.post(&path("change"), &fields).await?;
    assert_noticed(&admin, &page, "The user was changed.").await?;
    for client in world.at_all_edges(&client) {
        assert_eq!(client.authorize().await?, (200, "manager".to_owned()));
    }
    // A name is no right: there is no receipt.
    let page = admin.post(&path("change"), &[("name", "Else"), ("role", "manager")]).await?;
    let page = admin.get(page.expect(303).location()).await?.expect(200);
    page.shows("The user was changed.").hides("edges enforce this");
    let page =
        admin.post(&path("change"), &[("name", " "), ("role", "manager")]).await?.expect(400);
    page.shows("id=\"name-wrong\"");

    let page = admin.post(&path("disable"), &[]).await?;
    assert_noticed(&admin, &page, "The user is disabled.").await?;
    for client in world.at_all_edges(&client) {
        assert_eq!(client.authorize().await?.0, 401);
    }
    let login =
        [("tenant", "changing"), ("email", "member@changing.test"), ("password", "membermember")];
    let browser = Visitor::at(&world.edge(3))?;
    browser.post("/login", &login).await?.expect(401);
    let page = admin.post(&path("enable"), &[]).await?.expect(303);
    admin.get(page.location()).await?.expect(200).shows("The user can sign in again.");
    browser.post("/login", &login).await?.expect(303);

    // The last admin stays.
    let own = id_of(&world, "changing", Role::Admin).await?;
    let fields = [("name", "Myself"), ("role", "member")];
    let page = admin.post(&format!("/users/{own}/change"), &fields).await?.expect(409);
    page.shows("role=\"alert\"").shows("value=\"Myself\"");
    admin.post(&format!("/users/{own}/disable"), &[]).await?.expect(409);
    // With another one, who gives it up comes to a page that they may see.
    let fields = [("name", "Else"), ("role", "admin")];
    admin.post(&path("change"), &fields).await?.expect(303);
    let fields = [("name", "Myself"), ("role", "member")];
    let page = admin.post(&format!("/users/{own}/change"), &fields).await?;
    assert_noticed(&admin, &page, "The user was changed.").await?;
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_link_for_a_new_password_is_for_others() -> anyhow::Result<()> {
    let world = World::start().await?;
    world.create_tenant("linking").await?;
    let member = id_of(&world, "linking", Role::Member).await?;
    let admin = Visitor::of(&world, "linking", Role::Admin).await?;
    let page = admin.post(&format!("/users/{member}/reset-password"), &[]).await?.expect(200);
    let page = page.shows("until <time datetime=\"");
    let (_, token) = page.link();
    let browser = Visitor::at(&world.edge(1))?;
    let set = [("token", token), ("new_password", "another long password")];
    browser.post("/password-reset", &set).await?.expect(303);
    browser.sign_in("linking", "member@linking.test", "another long password").await?;

    let own = id_of(&world, "linking", Role::Admin).await?;
    let page = admin.post(&format!("/users/{own}/reset-password"), &[]).await?.expect(409);
    page.shows("role=\"alert\"");
    let page = admin.get(&format!("/users/{own}")).await?.expect(200);
    for task in ["reset-password", "reset-mfa", "disable", "sessions/revoke-all"] {
        assert!(!page.text.contains(&format!("/users/{own}/{task}")), "{}", page.text);
    }
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_second_factor_is_taken_away_by_somebody_who_proves_who_they_are() -> anyhow::Result<()> {
    let world = World::start().await?;
    world.create_tenant("factors").await?;
    let member = id_of(&world, "factors", Role::Member).await?;
    let client = world.sign_in_to("factors", Role::Member).await?;
    let (client, _, _) = client.enroll(&world, "membermember").await?;
    let admin = Visitor::of(&world, "factors", Role::Admin).await?;
    let page = admin.get(&format!("/users/{member}")).await?.expect(200);
    let path = format!("/users/{member}/reset-mfa");
    page.shows(&path);
    admin.get(&path).await?.expect(200).hides("name=\"code\"");
    let page = admin.post(&path, &[("password", "wrong")]).await?.expect(401);
    page.shows("id=\"password-wrong\"").hides("value=\"wrong\"");
    assert_eq!(client.authorize().await?.0, 200);
    let page = admin.post(&path, &[("password", "adminadmin")]).await?;
    assert_noticed(&admin, &page, "The second factor was taken away.").await?;
    for client in world.at_all_edges(&client) {
        assert_eq!(client.authorize().await?.0, 401);
    }
    admin.get(&format!("/users/{member}")).await?.expect(200).hides(&path);

    // An admin with a factor shows a code of it as well.
    let manager = id_of(&world, "factors", Role::Manager).await?;
    let path = format!("/users/{manager}/reset-mfa");
    let other = world.sign_in_to("factors", Role::Admin).await?;
    let (_, app, _) = other.enroll(&world, "adminadmin").await?;
    let admin = Visitor::at(&world.edge(1))?;
    let login =
        [("tenant", "factors"), ("email", "admin@factors.test"), ("password", "adminadmin")];
    let page = admin.post("/login", &login).await?.expect(200);
    let challenge = page.between("name=\"challenge\" value=\"", "\"");
    let code = app.code(&world, 0).await?;
    admin.post("/login/code", &[("challenge", challenge), ("code", &code)]).await?.expect(303);
    admin.get(&path).await?.expect(200).shows("name=\"code\"");
    for code in ["", " "] {
        let page = admin.post(&path, &[("password", "adminadmin"), ("code", code)]).await?;
        page.expect(403).shows("id=\"code-wrong\"");
    }
    let code = app.code(&world, 0).await?;
    let spaced = format!("{} {}", &code[..3], &code[3..]);
    let page = admin.post(&path, &[("password", "adminadmin"), ("code", &spaced)]).await?;
    assert_noticed(&admin, &page, "The second factor was taken away.").await?;
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn sessions_of_a_user_are_ended_one_by_one_and_all() -> anyhow::Result<()> {
    let world = World::start().await?;
    world.create_tenant("ending").await?;
    let member = id_of(&world, "ending", Role::Member).await?;
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(world.sign_in_to("ending", Role::Member).await?);
    }
    let alive = async || -> anyhow::Result<Vec<bool>> {
        let mut alive = Vec::new();
        for client in &clients {
            alive.push(client.at(&world.edge(2)).authorize().await?.0 == 200);
        }
        Ok(alive)
    };
    let admin = Visitor::of(&world, "ending", Role::Admin).await?;
    let user = format!("/users/{member}");
    let page = admin.get(&user).await?.expect(200);
    assert_eq!(page.text.matches("id=\"session-").count(), 3);
    let first = clients[0].get("/v1/me").await?.expect(200).body["session"]["id"].clone();
    let path = format!("{user}/sessions/{}/revoke", first.as_str().context("an id")?);
    page.shows(&path);
    admin.get(&path).await?.expect(200).shows("member of ending");
    let page = admin.post(&path, &[]).await?;
    assert_noticed(&admin, &page, "The session was revoked.").await?;
    assert_eq!(alive().await?, [false, true, true]);
    admin.get(&path).await?.expect(404);
    admin.post(&path, &[]).await?.expect(404);
    let page = admin.post(&format!("{user}/sessions/revoke-all"), &[]).await?;
    assert_noticed(&admin, &page, "All sessions of this user were revoked.").await?;
    assert_eq!(alive().await?, [false; 3]);
    admin.get(&user).await?.expect(200).shows("They are signed in nowhere.");
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn many_users_are_leafed_through() -> anyhow::Result<()> {
    let world = World::start().await?;
    world.create_tenant("many").await?;
    sqlx::query(
        "INSERT INTO users (id, tenant_id, email, name, role)
         SELECT gen_random_uuid(), t.id, 'u' || n || '@many.test', 'U', 'member'
         FROM tenants t, generate_series(1, 57) n WHERE t.slug = 'many'",
    )
    .execute(&world.pool)
    .await?;
    let admin = Visitor::of(&world, "many", Role::Admin).await?;
    let (mut rows, mut pages) = (0, 0);
    let mut next = Some(PAGE.to_owned());
    while let Some(path) = next.filter(|_| pages < 5) {
        let page = admin.get(&path).await?.expect(200);
        rows += page.text.matches("<tr id=\"user-").count();
        pages += 1;
        let further = page.text.split_once("\">More</a>");
        let link = further.and_then(|(before, _)| before.rsplit_once("href=\""));
        next = link.map(|(_, link)| link.replace("&#38;", "&"));
    }
    assert_eq!((pages, rows), (2, 57 + ROLES.len()));
    world.end().await;
    Ok(())
}
