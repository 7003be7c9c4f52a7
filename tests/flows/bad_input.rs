//! Requests that are wrong: a clear problem document, and nothing changed.

mod bodies;
mod paths;
mod raw;
mod reasons;

use reqwest::Method;
use serde_json::{Value, json};
use shared::role::Role;
use tests::{Answer, Client, World};

use crate::problem::assert_problem;

/// A world in which somebody has something to lose.
struct Scene {
    world: World,
    admin: Client,
    /// The id of another session of the admin.
    session: String,
    /// The admin's own id.
    user: String,
    /// An active grant of the admin.
    grant: String,
    before: Value,
}

impl Scene {
    async fn set() -> anyhow::Result<Self> {
        let world = World::start().await?;
        let admin = world.sign_in(Role::Admin).await?;
        let other = world.sign_in(Role::Admin).await?;
        let me = other.get("/v1/me").await?.expect(200).body;
        let granted = admin.request_grant("The night batch hangs at payments", 3_600).await?;
        let text = |value: &Value| value.as_str().expect("an id").to_owned();
        let (session, user) = (text(&me["session"]["id"]), text(&me["user"]["id"]));
        let grant = text(&granted["grant"]["id"]);
        let before = everything(&world).await?;
        Ok(Self { world, admin, session, user, grant, before })
    }

    /// `METHOD /path` with the ids of what there is to lose.
    fn request(&self, call: &str) -> reqwest::RequestBuilder {
        let (method, path) = call.split_once(' ').expect("a method and a path");
        let path = path
            .replace("{user}", &self.user)
            .replace("{session}", &self.session)
            .replace("{grant}", &self.grant);
        self.admin.request(Method::from_bytes(method.as_bytes()).expect("a method"), &path)
    }

    /// Sends something wrong: it must be refused so, and change nothing.
    async fn refused(
        &self,
        what: &str,
        request: reqwest::RequestBuilder,
        status: u16,
        code: &str,
    ) -> anyhow::Result<Answer> {
        let answer = Answer::to(request).await?;
        assert_eq!(
            (answer.status.as_u16(), answer.code()),
            (status, code),
            "{what}: {}",
            answer.body
        );
        assert_problem(&answer, status, code);
        assert_eq!(everything(&self.world).await?, self.before, "{what} changed something");
        Ok(answer)
    }

    async fn end(self) -> anyhow::Result<()> {
        assert_eq!(self.admin.authorize().await?, (200, "admin".to_owned()));
        self.world.end().await;
        Ok(())
    }
}

/// All that a request could have changed, but for the record of what was refused.
async fn everything(world: &World) -> anyhow::Result<Value> {
    let all = "SELECT jsonb_build_array(
        (SELECT revision FROM revocation_head),
        (SELECT jsonb_agg(to_jsonb(s) - 'last_active_at' ORDER BY id) FROM sessions s),
        (SELECT jsonb_agg(to_jsonb(g) ORDER BY id) FROM emergency_grants g),
        (SELECT jsonb_agg(to_jsonb(u) ORDER BY id) FROM users u),
        (SELECT jsonb_agg(to_jsonb(p) ORDER BY tenant_id) FROM emergency_policies p),
        (SELECT count(*) FROM tenants),
        (SELECT count(*) FROM audit WHERE action NOT LIKE '%refused'))";
    Ok(sqlx::query_scalar(all).fetch_one(&world.pool).await?)
}

/// A body that is right, for each route that takes one.
fn routes() -> [(&'static str, Value); 8] {
    let login = json!({"tenant": "acme", "email": "member@acme.test", "password": "x", "transport": "token"});
    let asked = json!({
        "reason": "The invoices have the wrong year", "duration_seconds": 60, "role": "admin",
        "ticket": "INC-1", "code": "123456", "bypass_approval": false,
    });
    [
        ("POST /v1/login", login),
        ("POST /v1/logout", json!({})),
        ("POST /v1/sessions/revoke-others", json!({})),
        ("DELETE /v1/sessions/{session}", json!({})),
        ("POST /v1/users/{user}/sessions/revoke-all", json!({})),
        ("DELETE /v1/users/{user}/sessions/{session}", json!({})),
        ("POST /v1/emergency/grants", asked),
        ("POST /v1/emergency/grants/{grant}/revoke", json!({"comment": "over"})),
    ]
}
