//! Every route that hands out a token, in every state that an account can be in: nothing comes
//! around password, second factor, lock or policy.

use std::fmt;

use reqwest::Method;
use serde_json::{Value, json};
use shared::role::Role;
use tests::{Answer, Authenticator, Client, World};

use super::{Tenant, decided, with_token};
use crate::problem::assert_problem;

/// How the account stands whose owner tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Account {
    /// Too many wrong guesses were made at it.
    Locked,
    Disabled,
    /// The policy requires a factor, and there is one.
    Protected,
    /// The policy requires a factor, there is none, and the time to set one up is over.
    EnrolmentOnly,
}

const ACCOUNTS: [Account; 4] =
    [Account::Locked, Account::Disabled, Account::Protected, Account::EnrolmentOnly];

/// What a route hands out.
#[derive(PartialEq, Eq)]
enum Given {
    /// A session that may do everything that its owner may.
    Session,
    /// A session that can only set up a second factor.
    Enrolment,
    /// A challenge, and no session.
    Challenge,
    /// It did what was asked, and handed out nothing that signs in.
    Nothing,
    /// A token for somebody else's password.
    PasswordToken,
    Refused(u16, String),
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session => f.write_str("session"),
            Self::Enrolment => f.write_str("enrolment session"),
            Self::Challenge => f.write_str("challenge"),
            Self::Nothing => f.write_str("nothing"),
            Self::PasswordToken => f.write_str("password token"),
            Self::Refused(status, code) => write!(f, "{status} {code}"),
        }
    }
}

fn refused(status: u16, code: &str) -> Given {
    Given::Refused(status, code.to_owned())
}

/// What an answer hands out, as every edge sees it.
async fn given(world: &World, answer: &Answer) -> anyhow::Result<Given> {
    if !answer.status.is_success() {
        assert_problem(answer, answer.status.as_u16(), answer.code());
        assert!(!answer.headers.contains_key("set-cookie"), "a refusal sets no cookie");
        return Ok(refused(answer.status.as_u16(), answer.code()));
    }
    let is = |field: &str| answer.body[field].is_string();
    Ok(match (is("token"), is("challenge"), is("set_password_token")) {
        (true, false, false) => {
            let client = with_token(&world.anonymous(), answer);
            match decided(world, &client).await?.as_slice() {
                [200, 200, 200] => Given::Session,
                [403, 403, 403] => Given::Enrolment,
                other => anyhow::bail!("edges answer {other:?} to {}", answer.body),
            }
        }
        (false, true, false) => Given::Challenge,
        (false, false, true) => Given::PasswordToken,
        (false, false, false) => {
            let text = answer.body.to_string();
            assert!(!["bgs_", "bgc_", "bgp_"].iter().any(|kind| text.contains(kind)), "{text}");
            assert!(!answer.headers.contains_key("set-cookie"), "no cookie either");
            Given::Nothing
        }
        _ => anyhow::bail!("more than one token: {}", answer.body),
    })
}

/// Somebody whose account gets into a state, and what they had in hand before it did.
struct Person<'a> {
    tenant: &'a Tenant<'a>,
    email: String,
    id: String,
    /// A session from before.
    session: Client,
    app: Option<Authenticator>,
}

const PASSWORD: &str = "quiet-harbour-lamp";
const NEW: &str = "other-harbour-lamp";

impl<'a> Person<'a> {
    /// A new user with a password; one who has an authenticator app if so told.
    async fn new(
        tenant: &'a Tenant<'a>,
        admin: &Client,
        role: Role,
        has_app: bool,
    ) -> anyhow::Result<Self> {
        let email = format!("{}@{}.test", uuid::Uuid::new_v4().simple(), tenant.slug);
        let new = json!({"email": email, "name": "Ada", "role": role});
        let created = admin.post("/v1/users", new).await?.expect(201).body;
        let token = &created["set_password_token"];
        let set = json!({"token": token, "new_password": PASSWORD});
        admin.post("/v1/password-reset", set).await?.expect(200);
        let id = created["user"]["id"].as_str().expect("an id").to_owned();
        let anonymous = tenant.world.anonymous();
        let mut session = anonymous.sign_in(tenant.slug, &email, PASSWORD).await?;
        let mut app = None;
        if has_app {
            let enrolled = session.enroll(tenant.world, PASSWORD).await?;
            (session, app) = (enrolled.0, Some(enrolled.1));
        }
        Ok(Self { tenant, email, id, session, app })
    }

    /// Gets the account into a state. Nobody but this person is concerned.
    async fn become_(&self, account: Account, admin: &Client) -> anyhow::Result<()> {
        match account {
            Account::Locked => {
                for _ in 0..10 {
                    let wrong = self.tenant.login(&self.email, "wrong-guess").await?;
                    assert_problem(&wrong, 401, "invalid-credentials");
                }
            }
            Account::Disabled => {
                let path = format!("/v1/users/{}", self.id);
                let disable = Some(json!({"disabled": true}));
                admin.send(Method::PATCH, &path, disable).await?.expect(200);
            }
            Account::Protected => assert!(self.app.is_some(), "they have an app"),
            // What it is anyway under this tenant's policy.
            Account::EnrolmentOnly => assert!(self.app.is_none(), "they have none"),
        }
        Ok(())
    }

    async fn login(&self, password: &str) -> anyhow::Result<Answer> {
        self.tenant.login(&self.email, password).await
    }

    async fn challenge(&self) -> anyhow::Result<String> {
        self.tenant.world.anonymous().challenge(self.tenant.slug, &self.email, PASSWORD).await
    }

    /// A token for a new password, made while the account was still well.
    async fn password_token(&self, admin: &Client) -> anyhow::Result<Value> {
        let path = format!("/v1/users/{}/reset-password", self.id);
        let issued = admin.post(&path, json!({})).await?.expect(200);
        Ok(issued.body["set_password_token"].clone())
    }

    /// Begins to set an app up; gives the first code.
    async fn first_code(&self) -> anyhow::Result<String> {
        let mut proof = json!({"password": PASSWORD});
        if let Some(app) = &self.app {
            proof["code"] = app.code(self.tenant.world, 0).await?.into();
        }
        let begun = self.session.post("/v1/mfa/totp", proof).await?.expect(201).body;
        let secret = begun["secret"].as_str().expect("a secret");
        Authenticator::new(secret, &self.email)?.code_as_is(self.tenant.world, 0).await
    }
}

/// A tenant whose policy requires a factor of everybody at once, and its admin who has one.
async fn strict<'a>(
    world: &'a World,
    slug: &'static str,
) -> anyhow::Result<(Tenant<'a>, Client, Authenticator)> {
    let tenant = Tenant::new(world, slug).await?;
    let admin = tenant.sign_in(Role::Admin).await?;
    let (admin, app, _) = admin.enroll(world, "adminadmin").await?;
    let policy = json!({"require_2fa": true, "required_roles": [], "grace_period_days": 0});
    admin.send(Method::PUT, "/v1/mfa-policy", Some(policy)).await?.expect(200);
    Ok((tenant, admin, app))
}

/// A table of what was handed out, checked as a whole so that a failure shows all of it.
#[track_caller]
fn assert_table(route: &str, found: &[(Account, Given)], expected: &[(Account, Given)]) {
    assert_eq!(found, expected, "{route}");
}

#[tokio::test]
async fn no_route_that_signs_in_comes_around_lock_factor_or_policy() -> anyhow::Result<()> {
    let world = World::start().await?;
    let (tenant, admin, _) = strict(&world, "signingin").await?;
    let (mut login, mut code, mut confirm) = (Vec::new(), Vec::new(), Vec::new());
    for account in ACCOUNTS {
        let has_app = account == Account::Protected;
        let person = Person::new(&tenant, &admin, Role::Member, has_app).await?;
        person.become_(account, &admin).await?;
        login.push((account, given(&world, &person.login(PASSWORD).await?).await?));

        // The challenge is from before.
        let person = Person::new(&tenant, &admin, Role::Member, true).await?;
        let challenge = person.challenge().await?;
        let totp = person.app.as_ref().expect("an app").code(&world, 0).await?;
        if account == Account::EnrolmentOnly {
            // The factor goes between the two steps.
            sqlx::query("DELETE FROM totp_factors WHERE user_id = $1::uuid")
                .bind(&person.id)
                .execute(&world.pool)
                .await?;
        } else {
            person.become_(account, &admin).await?;
        }
        let answer = tenant.answer(2, &challenge, &totp).await?;
        code.push((account, given(&world, &answer).await?));

        // What was begun is from before.
        let person = Person::new(&tenant, &admin, Role::Member, has_app).await?;
        let first = person.first_code().await?;
        person.become_(account, &admin).await?;
        let answer = person.session.post("/v1/mfa/totp/confirm", json!({"code": first})).await?;
        confirm.push((account, given(&world, &answer).await?));
        if answer.status == 200 {
            let renewed = with_token(&person.session, &answer);
            assert_ne!(renewed.token, person.session.token, "the level has changed");
            assert_eq!(decided(&world, &person.session).await?, [401; 3], "{account:?}");
        }
    }
    assert_table(
        "POST /v1/login",
        &login,
        &[
            (Account::Locked, refused(429, "too-many-attempts")),
            (Account::Disabled, refused(401, "invalid-credentials")),
            (Account::Protected, Given::Challenge),
            (Account::EnrolmentOnly, Given::Enrolment),
        ],
    );
    assert_table(
        "POST /v1/login/mfa",
        &code,
        &[
            (Account::Locked, refused(429, "too-many-attempts")),
            (Account::Disabled, refused(401, "invalid-credentials")),
            (Account::Protected, Given::Session),
            (Account::EnrolmentOnly, refused(401, "invalid-credentials")),
        ],
    );
    assert_table(
        "POST /v1/mfa/totp/confirm",
        &confirm,
        &[
            (Account::Locked, refused(429, "too-many-attempts")),
            (Account::Disabled, refused(401, "unauthenticated")),
            (Account::Protected, Given::Session),
            (Account::EnrolmentOnly, Given::Session),
        ],
    );
    world.end().await;
    Ok(())
}

/// “A reset neither signs in nor removes MFA; it kills all sessions.”
#[tokio::test]
async fn a_reset_neither_signs_in_nor_unlocks_nor_removes_a_factor() -> anyhow::Result<()> {
    let world = World::start().await?;
    let (tenant, admin, _) = strict(&world, "resetting").await?;
    let (mut reset, mut after) = (Vec::new(), Vec::new());
    for account in ACCOUNTS {
        let has_app = account == Account::Protected;
        let person = Person::new(&tenant, &admin, Role::Member, has_app).await?;
        let token = person.password_token(&admin).await?;
        person.become_(account, &admin).await?;
        let set = json!({"token": token, "new_password": NEW});
        // A cookie or a token that comes with it changes nothing.
        let answer = person.session.post("/v1/password-reset", set).await?;
        reset.push((account, given(&world, &answer).await?));
        assert_eq!(decided(&world, &person.session).await?, [401; 3], "{account:?}");
        after.push((account, given(&world, &person.login(NEW).await?).await?));
    }
    assert_table(
        "POST /v1/password-reset",
        &reset,
        &[
            (Account::Locked, Given::Nothing),
            (Account::Disabled, refused(401, "invalid-credentials")),
            (Account::Protected, Given::Nothing),
            (Account::EnrolmentOnly, Given::Nothing),
        ],
    );
    assert_table(
        "then POST /v1/login",
        &after,
        &[
            (Account::Locked, refused(429, "too-many-attempts")),
            (Account::Disabled, refused(401, "invalid-credentials")),
            (Account::Protected, Given::Challenge),
            (Account::EnrolmentOnly, Given::Enrolment),
        ],
    );
    world.end().await;
    Ok(())
}

/// Whoever hands out tokens for others' passwords has to be well themselves; for whom they are
/// changes nothing of what the other one's account demands.
#[tokio::test]
async fn tokens_for_passwords_are_issued_by_admins_in_full_sessions_alone() -> anyhow::Result<()> {
    let world = World::start().await?;
    let (tenant, admin, _) = strict(&world, "issuing").await?;
    let (mut create, mut issue, mut issued_for, mut used) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for account in ACCOUNTS {
        let has_app = account != Account::EnrolmentOnly;
        let other = Person::new(&tenant, &admin, Role::Admin, has_app).await?;
        other.become_(account, &admin).await?;
        let new = json!({"email": format!("{account:?}@b.test"), "name": "A", "role": "member"});
        let answer = other.session.post("/v1/users", new).await?;
        create.push((account, given(&world, &answer).await?));
        let target = tenant.user(Role::Manager).await?;
        let path = format!("/v1/users/{target}/reset-password");
        let answer = other.session.post(&path, json!({})).await?;
        issue.push((account, given(&world, &answer).await?));

        let person = Person::new(&tenant, &admin, Role::Member, has_app).await?;
        person.become_(account, &admin).await?;
        let path = format!("/v1/users/{}/reset-password", person.id);
        let answer = admin.post(&path, json!({})).await?;
        issued_for.push((account, given(&world, &answer).await?));
        let set = json!({"token": answer.body["set_password_token"], "new_password": NEW});
        let answer = world.anonymous().post("/v1/password-reset", set).await?;
        used.push((account, given(&world, &answer).await?));
    }
    let by = [
        // Guesses at somebody's password take nothing from the session that they have.
        (Account::Locked, Given::PasswordToken),
        (Account::Disabled, refused(401, "unauthenticated")),
        (Account::Protected, Given::PasswordToken),
        (Account::EnrolmentOnly, refused(403, "enrollment-required")),
    ];
    assert_table("POST /v1/users", &create, &by);
    assert_table("POST /v1/users/{id}/reset-password", &issue, &by);
    assert_table(
        "POST /v1/users/{id}/reset-password for them",
        &issued_for,
        &ACCOUNTS.map(|account| (account, Given::PasswordToken)),
    );
    assert_table(
        "then POST /v1/password-reset",
        &used,
        &[
            (Account::Locked, Given::Nothing),
            (Account::Disabled, refused(401, "invalid-credentials")),
            (Account::Protected, Given::Nothing),
            (Account::EnrolmentOnly, Given::Nothing),
        ],
    );
    world.end().await;
    Ok(())
}
