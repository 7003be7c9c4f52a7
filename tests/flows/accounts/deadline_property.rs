//! The grace period, step by step beside a small model of it: whatever admins and users do in
//! whatever order, nothing moves a deadline later, and what `/v1/me` and every edge say is what the
//! model says.

use std::collections::BTreeSet;

use anyhow::Context as _;
use futures_util::future::try_join_all;
use reqwest::Method;
use serde_json::{Value, json};
use shared::role::{ROLES, Role};
use tests::{Authenticator, Client, World};

use super::{Tenant, assert_enforced, with_token};
use crate::problem::assert_problem;

/// So many runs beside each other, each in a tenant of its own.
const RUNS: [&str; 3] = ["property-a", "property-b", "property-c"];
const STEPS: usize = 40;

/// What the tenant demands, in whole days.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Policy {
    required: bool,
    roles: BTreeSet<Role>,
    days: i64,
}

impl Policy {
    fn requires(&self, role: Role) -> bool {
        self.required && (self.roles.is_empty() || self.roles.contains(&role))
    }

    fn body(&self) -> Value {
        json!({
            "require_2fa": self.required,
            "required_roles": self.roles,
            "grace_period_days": self.days,
        })
    }
}

/// What the model knows of a user. Days count from the beginning of the run.
#[derive(Debug, Clone)]
struct Standing {
    role: Role,
    disabled: bool,
    has_factor: bool,
    /// When a factor was first required.
    since: Option<i64>,
    due: Option<i64>,
}

impl Standing {
    /// The policy, or the role, is as it is now.
    fn note(&mut self, policy: &Policy, today: i64) {
        if policy.requires(self.role) {
            let since = *self.since.get_or_insert(today);
            let due = since + policy.days;
            self.due = Some(self.due.map_or(due, |before| before.min(due)));
        }
    }

    fn is_enrolment_only(&self, policy: &Policy, today: i64) -> bool {
        policy.requires(self.role) && !self.has_factor && self.due.is_some_and(|due| due <= today)
    }
}

/// A user, in the model and in the product.
struct Person {
    standing: Standing,
    id: String,
    email: String,
    password: String,
    app: Option<Authenticator>,
    /// Their last session, if it lives.
    session: Option<Client>,
}

/// One run.
struct Run<'a> {
    tenant: Tenant<'a>,
    rng: fastrand::Rng,
    admin: Client,
    admin_app: Authenticator,
    policy: Policy,
    today: i64,
    people: Vec<Person>,
    /// What was done, for whoever has to find out why it failed.
    story: Vec<String>,
}

impl<'a> Run<'a> {
    async fn new(world: &'a World, slug: &'static str, seed: u64) -> anyhow::Result<Self> {
        let tenant = Tenant::new(world, slug).await?;
        let (admin, admin_app, _) =
            tenant.sign_in(Role::Admin).await?.enroll(world, "adminadmin").await?;
        let mut people = Vec::new();
        for role in [Role::Member, Role::Manager] {
            people.push(Person {
                standing: Standing {
                    role,
                    disabled: false,
                    has_factor: false,
                    since: None,
                    due: None,
                },
                id: tenant.user(role).await?,
                email: tenant.email(role),
                password: Tenant::password(role),
                app: None,
                session: Some(tenant.sign_in(role).await?),
            });
        }
        let policy = Policy { days: 7, ..Policy::default() };
        let rng = fastrand::Rng::with_seed(seed);
        let story = Vec::new();
        Ok(Self { tenant, rng, admin, admin_app, policy, today: 0, people, story })
    }

    async fn set_policy(&mut self, policy: Policy) -> anyhow::Result<()> {
        let body = Some(policy.body());
        let answer = self.admin.send(Method::PUT, "/v1/mfa-policy", body).await?.expect(200);
        assert_enforced(&answer.body["receipt"]);
        for person in &mut self.people {
            person.standing.note(&policy, self.today);
        }
        self.policy = policy;
        Ok(())
    }

    /// Days go by: everything that is written down was so much earlier. Edges and timers learn of it by
    /// the same policy once more.
    async fn let_days_pass(&mut self, days: i64) -> anyhow::Result<()> {
        sqlx::query(
            "WITH moved AS (
                 UPDATE users u SET mfa_required_since = mfa_required_since - make_interval(days => $2),
                                    mfa_due_at = mfa_due_at - make_interval(days => $2)
                 FROM tenants t WHERE t.id = u.tenant_id AND t.slug = $1 RETURNING u.id)
             UPDATE timers SET due_at = due_at - make_interval(days => $2)
             FROM moved WHERE subject_id = moved.id",
        )
        .bind(self.tenant.slug)
        .bind(i32::try_from(days)?)
        .execute(&self.tenant.world.pool)
        .await?;
        self.today += days;
        self.set_policy(self.policy.clone()).await
    }

    async fn change(&self, person: usize, body: Value) -> anyhow::Result<()> {
        let path = format!("/v1/users/{}", self.people[person].id);
        let answer = self.admin.send(Method::PATCH, &path, Some(body)).await?.expect(200);
        if !answer.body["receipt"].is_null() {
            assert_enforced(&answer.body["receipt"]);
        }
        Ok(())
    }

    async fn sign_in(&mut self, person: usize) -> anyhow::Result<()> {
        let Self { tenant, policy, today, people, .. } = self;
        let person = &mut people[person];
        let login = tenant.login(&person.email, &person.password).await?;
        if person.standing.disabled {
            assert_problem(&login, 401, "invalid-credentials");
            return Ok(());
        }
        let login = login.expect(200);
        let login = match &person.app {
            Some(app) => {
                assert_eq!(login.body["status"], "mfa-required");
                let challenge = login.body["challenge"].as_str().context("a challenge")?;
                let code = app.code(tenant.world, 0).await?;
                tenant.answer(2, challenge, &code).await?.expect(200)
            }
            None => login,
        };
        let only = person.standing.is_enrolment_only(policy, *today);
        let status = if only { "enrollment-required" } else { "authenticated" };
        assert_eq!(login.body["status"], status);
        person.session = Some(with_token(&tenant.world.anonymous(), &login));
        Ok(())
    }

    async fn enrol(&mut self, person: usize) -> anyhow::Result<()> {
        let person = &mut self.people[person];
        let (Some(session), None) = (&person.session, &person.app) else { return Ok(()) };
        let (session, app, _) = session.enroll(self.tenant.world, &person.password).await?;
        (person.session, person.app) = (Some(session), Some(app));
        person.standing.has_factor = true;
        Ok(())
    }

    /// The user does without a factor again, where the policy allows it.
    async fn give_up_factor(&mut self, person: usize) -> anyhow::Result<()> {
        let person = &mut self.people[person];
        let (Some(session), Some(app)) = (&person.session, &person.app) else { return Ok(()) };
        let code = app.code(self.tenant.world, 0).await?;
        let proof = json!({"password": person.password, "code": code});
        let answer = session.send(Method::DELETE, "/v1/mfa/totp", Some(proof)).await?;
        if self.policy.requires(person.standing.role) {
            assert_problem(&answer, 409, "mfa-required-by-policy");
        } else {
            answer.expect(204);
            person.app = None;
            person.standing.has_factor = false;
        }
        Ok(())
    }

    /// An admin takes the factor away, if there is one; all sessions end.
    async fn reset_factor(&mut self, person: usize) -> anyhow::Result<()> {
        let person = &mut self.people[person];
        let code = self.admin_app.code(self.tenant.world, 0).await?;
        let proof = json!({"password": "adminadmin", "code": code});
        let path = format!("/v1/users/{}/mfa", person.id);
        let answer = self.admin.send(Method::DELETE, &path, Some(proof)).await?.expect(200);
        assert_enforced(&answer.body["receipt"]);
        (person.session, person.app) = (None, None);
        person.standing.has_factor = false;
        Ok(())
    }

    /// Something at random.
    async fn step(&mut self) -> anyhow::Result<()> {
        let person = self.rng.usize(..self.people.len());
        match self.rng.u8(..20) {
            0..=5 => {
                let roles = ROLES.into_iter().filter(|_| self.rng.bool()).collect();
                let days = *self.rng.choice([0, 1, 2, 3, 5, 10, 30, 90].iter()).unwrap_or(&7);
                let policy = Policy { required: self.rng.u8(..4) > 0, roles, days };
                self.story.push(format!("{policy:?}"));
                self.set_policy(policy).await
            }
            6..=7 => {
                let days = self.rng.i64(1..=6);
                self.story.push(format!("{days} days pass"));
                self.let_days_pass(days).await
            }
            8..=10 => {
                let role = ROLES[self.rng.usize(..ROLES.len())];
                self.story.push(format!("{person} becomes {role}"));
                self.change(person, json!({"role": role})).await?;
                let standing = &mut self.people[person].standing;
                standing.role = role;
                standing.note(&self.policy, self.today);
                Ok(())
            }
            11..=12 => {
                let disabled = !self.people[person].standing.disabled;
                self.story.push(format!("{person} disabled: {disabled}"));
                self.change(person, json!({"disabled": disabled})).await?;
                let person = &mut self.people[person];
                person.standing.disabled = disabled;
                if disabled {
                    person.session = None;
                }
                Ok(())
            }
            13..=15 => {
                self.story.push(format!("{person} signs in"));
                self.sign_in(person).await
            }
            16..=17 => {
                self.story.push(format!("{person} enrols"));
                self.enrol(person).await
            }
            18 => {
                self.story.push(format!("{person} gives the factor up"));
                self.give_up_factor(person).await
            }
            _ => {
                self.story.push(format!("the factor of {person} is reset"));
                self.reset_factor(person).await
            }
        }
    }

    /// What is stored: how many days are left, by the database's clock.
    async fn days_left(&self, person: &Person) -> anyhow::Result<Option<f64>> {
        let left = sqlx::query_scalar(
            "SELECT (extract(epoch FROM mfa_due_at - clock_timestamp()) / 86400)::float8
             FROM users WHERE id = $1::uuid",
        );
        Ok(left.bind(&person.id).fetch_one(&self.tenant.world.pool).await?)
    }

    /// Everything that can be seen is as the model has it.
    async fn check(&self) -> anyhow::Result<()> {
        for person in &self.people {
            let standing = &person.standing;
            let left = self.days_left(person).await?;
            let expected = standing.due.map(|due| due - self.today);
            #[expect(clippy::cast_precision_loss, reason = "a few hundred days")]
            let near = |left: f64, days: i64| (left - days as f64).abs() < 0.01;
            let is_same = match (left, expected) {
                (Some(left), Some(days)) => near(left, days),
                (left, days) => left.is_none() && days.is_none(),
            };
            assert!(is_same, "{left:?} days are left, not {expected:?}: {standing:?}");

            let Some(session) = &person.session else { continue };
            let only = standing.is_enrolment_only(&self.policy, self.today);
            let required = self.policy.requires(standing.role);
            for client in self.tenant.world.at_all_edges(session) {
                let me = client.get("/v1/me").await?.expect(200).body;
                let mfa = &me["mfa"];
                assert_eq!(mfa["enabled"], standing.has_factor, "{me}");
                assert_eq!(mfa["required"], required, "{me}");
                let shown = required && !standing.has_factor;
                assert_eq!(mfa["grace_ends_at"].is_string(), shown, "{me}");
                assert_eq!(me["permissions"] == json!([]), only, "{me}");
                let (status, role) = client.authorize().await?;
                let said = if only { (403, "") } else { (200, standing.role.as_str()) };
                assert_eq!((status, role.as_str()), said, "{standing:?}");
                let sessions = client.get("/v1/sessions").await?;
                assert_eq!(sessions.status, if only { 403 } else { 200 }, "{}", sessions.body);
            }
        }
        Ok(())
    }

    async fn play(&mut self) -> anyhow::Result<()> {
        for _ in 0..STEPS {
            let before = self.stored().await?;
            let today = self.today;
            self.step().await?;
            if self.today == today {
                for (before, after) in before.iter().zip(self.stored().await?) {
                    let later =
                        before.is_some_and(|before| after.is_none_or(|after| after > before));
                    assert!(!later, "a deadline moved from {before:?} to {after:?}");
                }
            }
            self.check().await?;
        }
        Ok(())
    }

    /// Everybody's deadline to the microsecond.
    async fn stored(&self) -> anyhow::Result<Vec<Option<i64>>> {
        let stored = sqlx::query_scalar(
            "SELECT (extract(epoch FROM mfa_due_at) * 1000000)::bigint FROM users u
             JOIN tenants t ON t.id = u.tenant_id WHERE t.slug = $1 ORDER BY u.id",
        );
        Ok(stored.bind(self.tenant.slug).fetch_all(&self.tenant.world.pool).await?)
    }
}

/// Says what was done if it is dropped while a test fails.
struct Told<'a>(Run<'a>, u64);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("with BREAKGLASS_SEED={}: {:#?}", self.1, self.0.story);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the seed of a failure that is to be played again")]
#[tokio::test]
async fn nothing_that_anybody_does_moves_a_deadline_later() -> anyhow::Result<()> {
    let seed = match std::env::var("BREAKGLASS_SEED") {
        Ok(seed) => seed.parse()?,
        Err(_) => fastrand::u64(..u64::MAX / 2),
    };
    let world = World::start().await?;
    let runs = RUNS.into_iter().zip(seed..).map(|(slug, seed)| {
        let world = &world;
        async move {
            let mut told = Told(Run::new(world, slug, seed).await?, seed);
            let played = told.0.play().await;
            played.with_context(|| format!("BREAKGLASS_SEED={seed}: {:#?}", told.0.story))
        }
    });
    try_join_all(runs).await?;
    world.end().await;
    Ok(())
}
