//! Random interleavings of all that happens to grants, of several people at once, beside a simple model:
//! after each step every edge shows the union of what is live, and the lists show the same.

use std::collections::BTreeMap;

use anyhow::Context as _;
use reqwest::Method;
use serde_json::{Value, json};
use shared::role::Role;
use tests::{Answer, Client, World};

use super::{act, ask, colleague, id_of, set_policy};

const STEPS: usize = 150;
/// Most grants that somebody may hold or wait for.
const MOST: usize = 3;
/// Nothing is compared so close to the end of a grant.
const CLOSE_MS: i64 = 700;

/// A grant, as the model has it.
#[derive(Debug, Clone)]
struct Grant {
    id: String,
    user: usize,
    role: Role,
    state: &'static str,
    extends: Option<String>,
    /// By the database's clock.
    ends_ms: i64,
}

/// Somebody who asks.
struct Person {
    client: Client,
    id: Value,
    email: String,
    role: Role,
    enabled: bool,
}

struct Play<'a> {
    world: &'a World,
    random: fastrand::Rng,
    admin: Client,
    people: Vec<Person>,
    grants: Vec<Grant>,
    /// Of the policy: what is granted, and how many approvals it takes.
    role: Role,
    approvals: u32,
    reasons: u32,
    log: Vec<String>,
}

#[tokio::test]
async fn whatever_happens_edges_show_the_union_of_what_is_live() -> anyhow::Result<()> {
    let world = World::start().await?;
    let admin = set_policy(&world, json!({"extensions_allowed": 100})).await?;
    for seed in [1, 2] {
        let mut people = Vec::new();
        for name in ["ann", "bob"] {
            let name = format!("{name}-{seed}");
            let client = colleague(&world, &name, Role::Member).await?;
            let id = id_of(&client).await?;
            let email = format!("{name}@acme.test");
            people.push(Person { client, id, email, role: Role::Member, enabled: true });
        }
        let mut play = Play {
            world: &world,
            random: fastrand::Rng::with_seed(seed),
            admin: admin.clone(),
            people,
            grants: Vec::new(),
            role: Role::Admin,
            approvals: 0,
            reasons: 0,
            log: Vec::new(),
        };
        play.policy().await?;
        for _ in 0..STEPS {
            play.step().await?;
            play.compare().await.with_context(|| {
                format!("seed {seed}, after\n{}\nwith {:#?}", play.log.join("\n"), play.grants)
            })?;
        }
        let finals = play.grants.iter().filter(|grant| grant.state != "active").count();
        assert!(play.grants.len() > 15 && finals > 8, "little happened: {:?}", play.log);
    }
    world.end().await;
    Ok(())
}

impl Play<'_> {
    async fn now_ms(&self) -> anyhow::Result<i64> {
        let now = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
        Ok(sqlx::query_scalar(now).fetch_one(&self.world.pool).await?)
    }

    fn live(&self, user: usize, now: i64) -> impl Iterator<Item = &Grant> {
        self.grants.iter().filter(move |grant| {
            grant.user == user && grant.state == "active" && grant.ends_ms > now
        })
    }

    fn waiting(&self, user: usize) -> usize {
        self.grants.iter().filter(|grant| grant.user == user && grant.state == "pending").count()
    }

    /// Waits until no grant is about to end.
    async fn settle(&self) -> anyhow::Result<i64> {
        loop {
            let now = self.now_ms().await?;
            let close =
                |grant: &&Grant| grant.state == "active" && (grant.ends_ms - now).abs() < CLOSE_MS;
            if self.grants.iter().find(close).is_none() {
                return Ok(now);
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    async fn step(&mut self) -> anyhow::Result<()> {
        let user = self.random.usize(0..self.people.len());
        match self.random.u32(0..100) {
            0..34 => self.request(user).await,
            34..42 => self.decide("approve").await,
            42..46 => self.decide("deny").await,
            46..50 => self.cancel().await,
            50..64 => self.revoke().await,
            64..80 => self.extend().await,
            80..88 => {
                self.role = if self.random.bool() { Role::Admin } else { Role::Manager };
                self.approvals = u32::from(self.random.u32(0..3) == 0);
                self.policy().await
            }
            88..94 => self.change_role(user).await,
            _ => self.disable_or_enable(user).await,
        }
    }

    fn told(&mut self, what: &str, answer: &Answer, expected: bool) -> anyhow::Result<bool> {
        let came = answer.status.is_success();
        self.log.push(format!("{what}: {}", answer.status));
        anyhow::ensure!(
            came == expected,
            "{what} should {}: {} {}\n{}\n{:#?}",
            if expected { "be done" } else { "be refused" },
            answer.status,
            answer.body,
            self.log.join("\n"),
            self.grants,
        );
        Ok(came)
    }

    fn reason(&mut self) -> String {
        self.reasons += 1;
        format!("Incident number {} of this long night", self.reasons)
    }

    fn pick(&mut self, state: &str) -> Option<usize> {
        let matching: Vec<_> =
            (0..self.grants.len()).filter(|n| self.grants[*n].state == state).collect();
        self.random.choice(matching)
    }

    fn add(&mut self, user: usize, grant: &Value) -> anyhow::Result<()> {
        let state = if grant["state"] == "active" { "active" } else { "pending" };
        let ends_ms = millis(&grant["expires_at"])?;
        self.grants.push(Grant {
            id: grant["id"].as_str().context("an id")?.to_owned(),
            user,
            role: serde_json::from_value(grant["role"].clone())?,
            state,
            extends: grant["extended_from"].as_str().map(ToOwned::to_owned),
            ends_ms,
        });
        Ok(())
    }

    async fn request(&mut self, user: usize) -> anyhow::Result<()> {
        let now = self.settle().await?;
        let seconds = if self.random.bool() { 5 } else { 600 };
        let body = json!({"reason": self.reason(), "duration_seconds": seconds});
        let held = self.live(user, now).count() + self.waiting(user);
        let expected = self.people[user].enabled && held < MOST;
        let answer = ask(&self.people[user].client, body).await?;
        if self.told(&format!("{user} asks for {seconds} s"), &answer, expected)? {
            let state = if self.approvals > 0 { "pending" } else { "active" };
            anyhow::ensure!(answer.body["grant"]["state"] == state, "{}", answer.body);
            self.add(user, &answer.body["grant"])?;
        }
        Ok(())
    }

    async fn decide(&mut self, verb: &str) -> anyhow::Result<()> {
        let Some(which) = self.pick("pending") else { return Ok(()) };
        let now = self.settle().await?;
        let grant = self.grants[which].clone();
        let others = self
            .live(grant.user, now)
            .filter(|live| Some(&live.id) != grant.extends.as_ref())
            .count();
        let fits = grant.role == self.role && others < MOST;
        let answer = act(&self.admin, &json!({"id": grant.id}), verb, json!({})).await?;
        if self.told(&format!("{verb} {which}"), &answer, verb == "deny" || fits)? {
            if verb == "deny" {
                self.grants[which].state = "denied";
            } else {
                self.grants[which].state = "active";
                self.grants[which].ends_ms = millis(&answer.body["grant"]["expires_at"])?;
                self.replace(grant.extends.as_deref(), now);
            }
        }
        Ok(())
    }

    /// What was extended ends, if it has not already.
    fn replace(&mut self, old: Option<&str>, now: i64) {
        let replaced = |grant: &&mut Grant| Some(grant.id.as_str()) == old;
        if let Some(old) = self.grants.iter_mut().find(replaced)
            && old.ends_ms > now
        {
            old.state = "revoked";
        }
    }

    async fn cancel(&mut self) -> anyhow::Result<()> {
        let Some(which) = self.pick("pending") else { return Ok(()) };
        let Grant { id, user, .. } = self.grants[which].clone();
        let person = &self.people[user];
        let (enabled, client) = (person.enabled, person.client.clone());
        let answer = act(&client, &json!({"id": id}), "cancel", json!({})).await?;
        if self.told(&format!("cancel {which}"), &answer, enabled)? {
            self.grants[which].state = "cancelled";
        }
        Ok(())
    }

    async fn revoke(&mut self) -> anyhow::Result<()> {
        let Some(which) = self.pick("active") else { return Ok(()) };
        let now = self.settle().await?;
        let grant = self.grants[which].clone();
        let answer = act(&self.admin, &json!({"id": grant.id}), "revoke", json!({})).await?;
        if self.told(&format!("revoke {which}"), &answer, grant.ends_ms > now)? {
            anyhow::ensure!(answer.body["receipt"]["enforced"] == true, "{}", answer.body);
            self.grants[which].state = "revoked";
            for other in &mut self.grants {
                if other.state == "pending" && other.extends.as_ref() == Some(&grant.id) {
                    other.state = "cancelled";
                }
            }
        }
        Ok(())
    }

    async fn extend(&mut self) -> anyhow::Result<()> {
        let Some(which) = self.pick("active") else { return Ok(()) };
        let now = self.settle().await?;
        let grant = self.grants[which].clone();
        let others = self.live(grant.user, now).filter(|live| live.id != grant.id).count();
        let waits =
            |other: &Grant| other.state == "pending" && other.extends.as_ref() == Some(&grant.id);
        let expected = grant.ends_ms > now
            && others + self.waiting(grant.user) < MOST
            && !self.grants.iter().any(waits);
        let body = json!({"reason": self.reason(), "duration_seconds": 600});
        let client = self.people[grant.user].client.clone();
        let answer = act(&client, &json!({"id": grant.id}), "extend", body).await?;
        if self.told(&format!("extend {which}"), &answer, expected)? {
            self.add(grant.user, &answer.body["grant"])?;
            if answer.body["grant"]["state"] == "active" {
                self.replace(Some(&grant.id), now);
            }
        }
        Ok(())
    }

    async fn policy(&mut self) -> anyhow::Result<()> {
        let mut policy = self.admin.get("/v1/emergency/policy").await?.expect(200).body;
        policy["role"] = json!(self.role);
        policy["approvals_needed"] = self.approvals.into();
        self.admin.send(Method::PUT, "/v1/emergency/policy", Some(policy)).await?.expect(200);
        self.log.push(format!("{} for {} approvals", self.role, self.approvals));
        Ok(())
    }

    async fn patch(&self, user: usize, body: Value) -> anyhow::Result<Answer> {
        let path = format!("/v1/users/{}", self.people[user].id.as_str().unwrap_or_default());
        Ok(self.admin.send(Method::PATCH, &path, Some(body)).await?.expect(200))
    }

    async fn change_role(&mut self, user: usize) -> anyhow::Result<()> {
        let role = if self.random.bool() { Role::Member } else { Role::Manager };
        self.patch(user, json!({"role": role})).await?;
        self.people[user].role = role;
        self.log.push(format!("{user} becomes {role}"));
        Ok(())
    }

    async fn disable_or_enable(&mut self, user: usize) -> anyhow::Result<()> {
        let enabled = !self.people[user].enabled;
        let now = self.settle().await?;
        self.patch(user, json!({"disabled": !enabled})).await?;
        self.log.push(format!("{user} is {}", if enabled { "enabled" } else { "disabled" }));
        self.people[user].enabled = enabled;
        if enabled {
            let email = self.people[user].email.clone();
            let name = email.split('@').next().unwrap_or_default();
            let password = format!("{name} has a password");
            self.people[user].client =
                self.world.anonymous().sign_in("acme", &email, &password).await?;
        }
        for grant in self.grants.iter_mut().filter(|grant| grant.user == user && !enabled) {
            match grant.state {
                "pending" => grant.state = "cancelled",
                "active" if grant.ends_ms > now => grant.state = "revoked",
                _ => {}
            }
        }
        Ok(())
    }

    /// Holds every edge, the lists and the states against the model.
    async fn compare(&self) -> anyhow::Result<()> {
        let now = self.settle().await?;
        for (user, person) in self.people.iter().enumerate() {
            let shown = self.live(user, now).max_by_key(|grant| (grant.role, grant.ends_ms));
            let role = shown.map_or(person.role, |grant| grant.role.max(person.role));
            let grant = shown.map_or("", |grant| grant.id.as_str());
            for edge in self.world.at_all_edges(&person.client) {
                let answer = edge.get("/authorize").await?;
                if !person.enabled {
                    anyhow::ensure!(answer.status == 401, "{user} is disabled: {}", answer.status);
                    continue;
                }
                let seen = (answer.header("x-auth-role"), answer.header("x-auth-emergency-grant"));
                anyhow::ensure!(
                    seen == (role.as_str(), grant),
                    "{user} is {seen:?}, not {role} {grant:?}",
                );
            }
        }
        let mut states = BTreeMap::new();
        let mut path = "/v1/emergency/grants?limit=200".to_owned();
        loop {
            let page = self.admin.get(&path).await?.expect(200).body;
            for grant in page["grants"].as_array().context("a list")? {
                states.insert(text(&grant["id"]), text(&grant["state"]));
            }
            let Some(next) = page["next_cursor"].as_str() else { break };
            path = format!("/v1/emergency/grants?limit=200&cursor={next}");
        }
        for grant in &self.grants {
            let over = grant.state == "active" && grant.ends_ms <= now;
            let expected = if over { "expired" } else { grant.state };
            let shown = states.get(&grant.id).map(String::as_str);
            anyhow::ensure!(shown == Some(expected), "{} is {shown:?}, not {expected}", grant.id);
        }
        Ok(())
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Milliseconds since the epoch; of nothing: never.
fn millis(time: &Value) -> anyhow::Result<i64> {
    let Some(text) = time.as_str() else { return Ok(i64::MAX) };
    let time: shared::clock::Timestamp = serde_json::from_value(json!(text))?;
    Ok(time.micros() / 1_000)
}
