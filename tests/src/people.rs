//! What people do with their second factor.

use anyhow::Context as _;
use serde_json::{Value, json};
use totp_rs::{Builder, Secret, Totp};

use crate::world::{Client, World};

/// An authenticator app, of another making than the product's.
#[derive(Debug, Clone)]
pub struct Authenticator {
    totp: Totp,
    email: String,
}

impl Authenticator {
    /// The app that knows a secret in base32.
    pub fn new(secret: &str, email: &str) -> anyhow::Result<Self> {
        let secret = Secret::try_from_base32(secret).context("a secret in base32")?;
        let totp = Builder::new().with_secret(secret).with_account_name(email).build()?;
        Ok(Self { totp, email: email.to_owned() })
    }

    /// The code of so many steps from now, by the database's clock. Forgets which code was used last,
    /// so that the present one can be used again: flows need not wait for the next.
    pub async fn code(&self, world: &World, steps: i64) -> anyhow::Result<String> {
        sqlx::query(
            "UPDATE totp_factors SET last_step = 0 FROM users WHERE users.id = user_id AND email = $1",
        )
        .bind(&self.email)
        .execute(&world.pool)
        .await?;
        self.code_as_is(world, steps).await
    }

    /// The code of so many steps from now, whatever was used before.
    pub async fn code_as_is(&self, world: &World, steps: i64) -> anyhow::Result<String> {
        let now: i64 = sqlx::query_scalar("SELECT extract(epoch FROM clock_timestamp())::bigint")
            .fetch_one(&world.pool)
            .await?;
        Ok(self.totp.generate((now + 30 * steps).unsigned_abs()).to_string())
    }
}

impl Client {
    /// Sets two-factor sign-in up; gives this session under its new token, the app, and the backup
    /// codes.
    pub async fn enroll(
        &self,
        world: &World,
        password: &str,
    ) -> anyhow::Result<(Self, Authenticator, Vec<String>)> {
        let email = self.get("/v1/me").await?.body["user"]["email"].clone();
        let begun = self.post("/v1/mfa/totp", json!({"password": password})).await?.expect(201);
        let secret = begun.body["secret"].as_str().context("a secret")?;
        let app = Authenticator::new(secret, email.as_str().context("an address")?)?;
        let code = app.code(world, 0).await?;
        let confirmed = self.post("/v1/mfa/totp/confirm", json!({"code": code})).await?.expect(200);
        let codes = confirmed.body["backup_codes"].as_array().context("backup codes")?;
        let codes = codes.iter().filter_map(Value::as_str).map(ToOwned::to_owned).collect();
        let mut client = self.clone();
        client.token = confirmed.body["token"].as_str().map(ToOwned::to_owned);
        Ok((client, app, codes))
    }

    /// The challenge that a sign-in with a second factor begins with.
    pub async fn challenge(
        &self,
        tenant: &str,
        email: &str,
        password: &str,
    ) -> anyhow::Result<String> {
        let login = json!({"tenant": tenant, "email": email, "password": password});
        let answer = self.post("/v1/login", login).await?.expect(200);
        assert_eq!(answer.body["status"], "mfa-required");
        Ok(answer.body["challenge"].as_str().context("a challenge")?.to_owned())
    }
}
