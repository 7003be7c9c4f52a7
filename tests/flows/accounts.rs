//! Accounts: users, passwords, second factors, the policy for them, and what stops guessing.
//! Each flow is named after a line of what the product must withstand.

mod deadline_property;
mod factors;
mod failures;
mod interop;
mod operator;
mod passwords;
mod policy;
mod races;
mod routes;
mod unguarded;
mod users;

use serde_json::{Value, json};
use shared::role::Role;
use tests::{Answer, Client, World};

/// A tenant of the flow's own, and how its users sign in.
struct Tenant<'a> {
    world: &'a World,
    slug: &'static str,
}

impl<'a> Tenant<'a> {
    async fn new(world: &'a World, slug: &'static str) -> anyhow::Result<Self> {
        world.create_tenant(slug).await?;
        Ok(Self { world, slug })
    }

    fn email(&self, role: Role) -> String {
        format!("{role}@{}.test", self.slug)
    }

    /// The first password of a role's user.
    fn password(role: Role) -> String {
        format!("{role}{role}")
    }

    async fn sign_in(&self, role: Role) -> anyhow::Result<Client> {
        self.world.sign_in_to(self.slug, role).await
    }

    /// What a sign-in answers.
    async fn login(&self, email: &str, password: &str) -> anyhow::Result<Answer> {
        let login = json!({
            "tenant": self.slug, "email": email, "password": password, "transport": "token",
        });
        self.world.anonymous().post("/v1/login", login).await
    }

    async fn challenge(&self, role: Role) -> anyhow::Result<String> {
        let anonymous = self.world.anonymous();
        anonymous.challenge(self.slug, &self.email(role), &Self::password(role)).await
    }

    /// What a code answers, at an edge.
    async fn answer(&self, edge: usize, challenge: &str, code: &str) -> anyhow::Result<Answer> {
        let body = json!({"challenge": challenge, "code": code, "transport": "token"});
        self.world.anonymous().at(&self.world.edge(edge)).post("/v1/login/mfa", body).await
    }

    async fn user(&self, role: Role) -> anyhow::Result<String> {
        let id: uuid::Uuid = sqlx::query_scalar("SELECT id FROM users WHERE email = $1")
            .bind(self.email(role))
            .fetch_one(&self.world.pool)
            .await?;
        Ok(id.to_string())
    }

    /// How often something stands in the tenant's record.
    async fn recorded(&self, action: &str) -> anyhow::Result<i64> {
        let count = sqlx::query_scalar(
            "SELECT count(*) FROM audit a JOIN tenants t ON t.id = a.tenant_id
             WHERE t.slug = $1 AND a.action = $2",
        )
        .bind(self.slug)
        .bind(action)
        .fetch_one(&self.world.pool)
        .await?;
        Ok(count)
    }
}

/// Somebody with the token that an answer brought.
fn with_token(client: &Client, answer: &Answer) -> Client {
    let mut client = client.clone();
    client.token = answer.body["token"].as_str().map(ToOwned::to_owned);
    client
}

/// The statuses that every edge answers `/authorize` with.
async fn decided(world: &World, client: &Client) -> anyhow::Result<Vec<u16>> {
    let mut statuses = Vec::new();
    for client in world.at_all_edges(client) {
        statuses.push(client.authorize().await?.0);
    }
    Ok(statuses)
}

fn assert_enforced(receipt: &Value) {
    assert_eq!(receipt["enforced"], true, "{receipt}");
    assert_eq!(receipt["edges"]["waiting"], json!([]), "{receipt}");
}
