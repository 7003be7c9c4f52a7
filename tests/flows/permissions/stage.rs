//! The people, sessions and grants that a cell of the matrix plays with.

use std::{collections::BTreeMap, sync::LazyLock};

use anyhow::Context as _;
use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, Version};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use shared::{
    clock::{Clock as _, SystemClock},
    id::{SessionId, TenantId, UserId},
    role::Role,
    token::Token,
};
use tests::{Answer, Client, World};
use uuid::Uuid;

use super::{Effect, Object};

/// Who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Caller {
    /// Without a token.
    Nobody,
    /// With something that is no token.
    Garbage,
    /// A member, with the token of a session that was signed out of.
    Dead,
    Member,
    Manager,
    Admin,
    /// A member with a grant to admin.
    Elevated,
}

pub(super) const CALLERS: [Caller; 7] = [
    Caller::Nobody,
    Caller::Garbage,
    Caller::Dead,
    Caller::Member,
    Caller::Manager,
    Caller::Admin,
    Caller::Elevated,
];

/// Somebody with two sessions and, where the route is about grants, a past, an active and a pending one.
struct Person {
    tenant: TenantId,
    id: UserId,
    sessions: [SessionId; 2],
    clients: [Client; 2],
    grants: BTreeMap<&'static str, Uuid>,
}

/// Everybody's password.
pub(super) const PASSWORD: &str = "matrix-harbour-7";

/// Its hash, with parameters that cost next to nothing.
static PASSWORD_HASH: LazyLock<String> = LazyLock::new(|| {
    let params = Params::new(8, 1, 1, None).expect("the least that there is");
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash = argon2.hash_password_with_salt(PASSWORD.as_bytes(), &[1; 16]);
    hash.expect("it can be hashed").to_string()
});

/// Two tenants of their own: the caller with a colleague, and a stranger.
pub(super) struct Stage {
    pub(super) caller: Client,
    /// The grant that elevates the caller.
    pub(super) elevation: Option<Uuid>,
    me: Person,
    colleague: Person,
    stranger: Person,
}

/// What may change: which sessions work, in which state each grant is, and how many revocations
/// the two tenants have seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    sessions: BTreeMap<&'static str, u16>,
    grants: BTreeMap<Uuid, String>,
    active: BTreeMap<UserId, usize>,
    revocations: i64,
    opened: i64,
}

impl Stage {
    pub(super) async fn set(
        world: &World,
        number: usize,
        caller: Caller,
        path: &str,
        object: Object,
    ) -> anyhow::Result<Self> {
        let ours = tenant(world, &format!("ours-{number}")).await?;
        let theirs = tenant(world, &format!("theirs-{number}")).await?;
        let role = match caller {
            Caller::Manager => Role::Manager,
            Caller::Admin => Role::Admin,
            _ => Role::Member,
        };
        let grants =
            if path.contains("/grants/") { &["past", "active", "pending"][..] } else { &[] };
        // An active grant of one's own elevates: only who is about to lose it has one.
        let own: &[_] = match object {
            Object::Own if !grants.is_empty() => &["past", "active"],
            Object::OwnPending => &["past", "pending"],
            _ => &grants[..grants.len().min(1)],
        };
        let me = Person::new(world, ours, role, own).await?;
        let colleague = Person::new(world, ours, Role::Member, grants).await?;
        let stranger = Person::new(world, theirs, Role::Member, grants).await?;
        let (mut client, mut elevation) = (me.clients[0].clone(), None);
        match caller {
            Caller::Nobody => client.token = None,
            Caller::Garbage => client.token = Some("bgs_nonsense".to_owned()),
            Caller::Dead => {
                client = session(world, ours, me.id).await?.1;
                client.at(&world.edge(3)).post("/v1/logout", json!({})).await?.expect(204);
            }
            Caller::Member | Caller::Manager | Caller::Admin => {}
            Caller::Elevated => {
                let granted =
                    client.request_grant("This raises the caller's own role", 3_600).await?;
                elevation = Some(uuid(&granted["grant"]["id"])?);
            }
        }
        Ok(Self { caller: client, elevation, me, colleague, stranger })
    }

    /// The path, with the object's ids.
    pub(super) fn fill(&self, path: &str, object: Object) -> String {
        let (me, colleague, stranger) = (&self.me, &self.colleague, &self.stranger);
        let (user, session) = match object {
            Object::Nothing => return path.to_owned(),
            Object::Own | Object::OwnPast | Object::OwnPending => (me.id, me.sessions[1]),
            Object::Colleagues | Object::ColleaguesPast | Object::ColleaguesPending => {
                (colleague.id, colleague.sessions[0])
            }
            Object::Strangers | Object::StrangersPast | Object::StrangersPending => {
                (stranger.id, stranger.sessions[0])
            }
            Object::ColleaguesAsOwn => (me.id, colleague.sessions[0]),
            Object::StrangersAsColleagues => (colleague.id, stranger.sessions[0]),
            Object::Nobodys => {
                let now = SystemClock.wall();
                (UserId::new(now), SessionId::new(now))
            }
        };
        let id = if path.starts_with("/v1/sessions/") {
            session.0
        } else if path.contains("/grants/") && object != Object::Nobodys {
            self.grant(object)
        } else {
            user.0
        };
        path.replace("{id}", &id.to_string()).replace("{sid}", &session.to_string())
    }

    fn grant(&self, object: Object) -> Uuid {
        let (person, which) = match object {
            Object::Own => (&self.me, "active"),
            Object::OwnPast => (&self.me, "past"),
            Object::OwnPending => (&self.me, "pending"),
            Object::Colleagues => (&self.colleague, "active"),
            Object::ColleaguesPast => (&self.colleague, "past"),
            Object::ColleaguesPending => (&self.colleague, "pending"),
            Object::Strangers => (&self.stranger, "active"),
            Object::StrangersPast => (&self.stranger, "past"),
            Object::StrangersPending => (&self.stranger, "pending"),
            other => unreachable!("{other:?} is no grant"),
        };
        person.grants[which]
    }

    /// A client with the token of a sign-in.
    pub(super) fn signed_in(&self, answer: &Answer) -> Client {
        let mut client = self.caller.clone();
        client.token = answer.body["token"].as_str().map(ToOwned::to_owned);
        client
    }

    /// What works now, asked at another edge than the one that is called.
    pub(super) async fn state(&self, world: &World) -> anyhow::Result<State> {
        let mut sessions = BTreeMap::new();
        for (name, person) in
            [("own", &self.me), ("colleague's", &self.colleague), ("stranger's", &self.stranger)]
        {
            for (number, client) in person.clients.iter().enumerate() {
                let (status, _) = client.at(&world.edge(2)).authorize().await?;
                sessions.insert(SESSION_NAMES[name_index(name) * 2 + number], status);
            }
        }
        let tenants = [self.me.tenant.0, self.stranger.tenant.0];
        let rows: Vec<(Uuid, Uuid, String)> = sqlx::query_as(
            "SELECT id, user_id, state FROM emergency_grants WHERE tenant_id = ANY($1)",
        )
        .bind(tenants)
        .fetch_all(&world.pool)
        .await?;
        let mut active = BTreeMap::new();
        for (_, user, state) in &rows {
            *active.entry(UserId(*user)).or_default() += usize::from(state == "active");
        }
        let people = [&self.me, &self.colleague, &self.stranger];
        let known: Vec<_> = people.iter().flat_map(|person| person.grants.values()).collect();
        let grants = rows
            .into_iter()
            .filter(|row| known.contains(&&row.0))
            .map(|row| (row.0, row.2))
            .collect();
        let (revocations, opened) = sqlx::query_as(
            "SELECT (SELECT count(*) FROM revocations WHERE tenant_id = ANY($1)),
                    (SELECT count(*) FROM sessions WHERE tenant_id = ANY($1))",
        )
        .bind(tenants)
        .fetch_one(&world.pool)
        .await?;
        Ok(State { sessions, grants, active, revocations, opened })
    }

    /// What the state becomes by an effect.
    pub(super) fn with_effect(&self, mut state: State, effect: Effect, object: Object) -> State {
        let mut end = |names: &[&'static str]| {
            for name in names {
                state.sessions.insert(name, 401);
            }
        };
        let of = |name: &str| &SESSION_NAMES[name_index(name) * 2..][..2];
        match (effect, object) {
            (Effect::Shows(_) | Effect::Opens, _) => return state,
            (Effect::EndsCaller, _) => end(&of("own")[..1]),
            (Effect::EndsOther, _) | (Effect::EndsSession, Object::Own) => end(&of("own")[1..]),
            (Effect::EndsSession, Object::Colleagues) => end(&of("colleague's")[..1]),
            (Effect::EndsUser, Object::Own) => end(of("own")),
            (Effect::EndsUser, Object::Colleagues) => end(of("colleague's")),
            (Effect::Revises, _) => {}
            (Effect::Grants, _) => *state.active.entry(self.me.id).or_default() += 1,
            (Effect::EndsGrant, Object::Own | Object::Colleagues) => {
                state.grants.insert(self.grant(object), "revoked".to_owned());
                let owner = if object == Object::Own { self.me.id } else { self.colleague.id };
                *state.active.entry(owner).or_default() -= 1;
            }
            (Effect::Activates, Object::ColleaguesPending) => {
                state.grants.insert(self.grant(object), "active".to_owned());
                *state.active.entry(self.colleague.id).or_default() += 1;
            }
            (Effect::Extends, Object::Own) => {
                state.grants.insert(self.grant(object), "revoked".to_owned());
            }
            (Effect::Moves(to), _) => {
                state.grants.insert(self.grant(object), to.to_owned());
                return state;
            }
            other => unreachable!("nobody is allowed {other:?}"),
        }
        state.revocations += 1;
        state
    }
}

const SESSION_NAMES: [&str; 6] = [
    "own, the caller",
    "own, the other",
    "colleague's first",
    "colleague's second",
    "stranger's first",
    "stranger's second",
];

fn name_index(name: &str) -> usize {
    ["own", "colleague's", "stranger's"].iter().position(|known| *known == name).expect("a name")
}

impl Person {
    async fn new(
        world: &World,
        tenant: TenantId,
        role: Role,
        wanted: &[&'static str],
    ) -> anyhow::Result<Self> {
        let id = UserId::new(SystemClock.wall());
        sqlx::query(
            "INSERT INTO users (id, tenant_id, email, name, role, password_hash) VALUES ($1, $2, $3, 'x', $4, $5)",
        )
        .bind(id.0)
        .bind(tenant.0)
        .bind(format!("{id}@matrix.test"))
        .bind(role.as_str())
        .bind(&*PASSWORD_HASH)
        .execute(&world.pool)
        .await?;
        let (first, client) = session(world, tenant, id).await?;
        let (second, other) = session(world, tenant, id).await?;
        let mut grants = BTreeMap::new();
        for which in wanted.iter().copied() {
            let approvals_needed = i32::from(which == "pending");
            sqlx::query("UPDATE emergency_policies SET approvals_needed = $2 WHERE tenant_id = $1")
                .bind(tenant.0)
                .bind(approvals_needed)
                .execute(&world.pool)
                .await?;
            let granted =
                client.request_grant(&format!("Payments are stuck: {which}"), 3_600).await?;
            let grant = uuid(&granted["grant"]["id"])?;
            grants.insert(which, grant);
            if which == "past" {
                let revoke = format!("/v1/emergency/grants/{grant}/revoke");
                client.post(&revoke, json!({})).await?.expect(200);
            }
        }
        sqlx::query("UPDATE emergency_policies SET approvals_needed = 0 WHERE tenant_id = $1")
            .bind(tenant.0)
            .execute(&world.pool)
            .await?;
        Ok(Self { tenant, id, sessions: [first, second], clients: [client, other], grants })
    }
}

async fn tenant(world: &World, slug: &str) -> anyhow::Result<TenantId> {
    let id = TenantId::new(SystemClock.wall());
    sqlx::query("INSERT INTO tenants (id, slug, name) VALUES ($1, $2, $2)")
        .bind(id.0)
        .bind(slug)
        .execute(&world.pool)
        .await?;
    for policies in ["mfa_policies", "emergency_policies"] {
        let insert = format!("INSERT INTO {policies} (tenant_id) VALUES ($1)");
        sqlx::query(sqlx::AssertSqlSafe(insert)).bind(id.0).execute(&world.pool).await?;
    }
    Ok(id)
}

/// Another session of somebody, without the cost of a password.
async fn session(
    world: &World,
    tenant: TenantId,
    user: UserId,
) -> anyhow::Result<(SessionId, Client)> {
    let (id, token) = (SessionId::new(SystemClock.wall()), Token::generate());
    sqlx::query(
        "INSERT INTO sessions (id, tenant_id, user_id, token_hash, methods, idle_seconds, expires_at)
         VALUES ($1, $2, $3, $4, '{password}', 3600, clock_timestamp() + interval '12 hours')",
    )
    .bind(id.0)
    .bind(tenant.0)
    .bind(user.0)
    .bind(&token.hash().0[..])
    .execute(&world.pool)
    .await?;
    let mut client = world.anonymous();
    client.token = Some(token.expose().to_owned());
    Ok((id, client))
}

/// What a seeded user signs in with.
pub(super) fn credentials(world: &World, role: Role) -> anyhow::Result<Value> {
    let user = world.stack.credentials().and_then(|c| c.of(role)).context("a seeded user")?;
    Ok(json!({
        "tenant": "acme", "email": user.email, "password": user.password.expose_secret(), "transport": "token",
    }))
}

fn uuid(value: &Value) -> anyhow::Result<Uuid> {
    Ok(value.as_str().context("an id")?.parse()?)
}
