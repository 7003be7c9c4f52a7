//! Signing in: one answer and one duration for every kind of wrong credentials.

use secrecy::ExposeSecret as _;
use serde_json::json;
use shared::{
    database::{
        Transaction,
        audit::{self, Actor, Record},
        failed, outbox,
    },
    id::{TenantId, UserId},
    message::{
        Origin,
        session::{Method, SignIn, SignInMfa, SignedIn},
    },
    refusal::{Code, Refusal},
    token::TokenHash,
    trace,
};
use tracing::instrument;

use crate::{
    mfa::factor,
    operator::normalise,
    session::opening::{self, NewSession},
    state::State,
    throttle::{self, Account, Guess},
};

/// How long a challenge lives, in seconds.
const CHALLENGE_SECONDS: f64 = 300.0;
/// So many codes may be tried for one challenge.
const TRIES: i32 = 5;
/// So many challenges a user may have open; the oldest goes.
const OPEN_CHALLENGES: i64 = 10;
/// So often a password that was right is looked at, where the hash is another one by then: it may be
/// the same password, hashed anew.
const LOOKS: u32 = 2;

/// Signs in with a password, or as far as that leads.
#[instrument(skip_all, name = "session.sign-in")]
pub(crate) async fn sign_in(state: State, request: SignIn) -> Result<SignedIn, Refusal> {
    if let Some(earlier) = opening::opened_before(&state, &request.token).await? {
        return Ok(earlier);
    }
    let place = state.later.place()?;
    let guess = throttle::begin(&state.pool, Account::new(&request.tenant, &request.email)).await?;
    let mut candidate = None;
    for _ in 0..LOOKS {
        candidate = find(&state, &request.tenant, &request.email).await.map_err(failed)?;
        let hash = candidate.as_ref().and_then(|user| user.password_hash.clone());
        let verified = match state.hashing.verify(request.password.clone(), hash).await {
            Ok(verified) => verified,
            Err(refusal) => return Err(guess.not_looked_at(&state.pool, refusal).await),
        };
        let Some(user) = candidate.as_ref().filter(|_| verified) else { break };
        let rehashed =
            state.hashing.rehash(request.password.clone(), user.password_hash.as_deref()).await;
        if let Some(tx) = begin(&state, user, rehashed).await.map_err(failed)? {
            return with_password(&state, tx, guess, user, &request).await;
        }
    }
    let refused = Refused {
        user: candidate.map(|user| user.id),
        slug: request.tenant,
        origin: request.origin,
        locks: guess.is_last_free(),
    };
    state.later.write(place, "a refused sign-in", record(state.clone(), refused));
    Err(Refusal::new(Code::InvalidCredentials, "The tenant, the email or the password is wrong."))
}

struct Candidate {
    id: UserId,
    tenant: TenantId,
    password_hash: Option<String>,
}

#[instrument(skip_all, name = "user.find")]
async fn find(state: &State, tenant: &str, email: &str) -> Result<Option<Candidate>, sqlx::Error> {
    // Postgres' text has no NUL, so nobody is called so.
    if tenant.contains('\0') || email.contains('\0') {
        return Ok(None);
    }
    let row = sqlx::query!(
        "SELECT u.id, u.tenant_id, u.password_hash FROM users u JOIN tenants t ON t.id = u.tenant_id
         WHERE t.slug = $1 AND u.email = $2 AND u.disabled_at IS NULL",
        tenant,
        normalise(email),
    )
    .fetch_optional(&state.pool)
    .await?;
    Ok(row.map(|row| Candidate {
        id: UserId(row.id),
        tenant: TenantId(row.tenant_id),
        password_hash: row.password_hash,
    }))
}

/// A transaction with the user's row locked, if the password is still the one that was verified and
/// the user may do anything. A hash with better parameters takes the old one's place.
async fn begin(
    state: &State,
    user: &Candidate,
    rehashed: Option<String>,
) -> Result<Option<Transaction>, sqlx::Error> {
    let mut tx = state.pool.begin().await?;
    let unchanged = sqlx::query_scalar!(
        "SELECT id FROM users WHERE id = $1 AND disabled_at IS NULL AND password_hash = $2
         FOR NO KEY UPDATE",
        user.id.0,
        user.password_hash,
    )
    .fetch_optional(&mut *tx)
    .await?;
    if unchanged.is_none() {
        return Ok(None);
    }
    if let Some(hash) = rehashed {
        sqlx::query!("UPDATE users SET password_hash = $2 WHERE id = $1", user.id.0, hash)
            .execute(&mut *tx)
            .await?;
    }
    Ok(Some(tx))
}

/// The password was right: opens a session, or a challenge where there is a second factor.
async fn with_password(
    state: &State,
    mut tx: Transaction,
    guess: Guess,
    user: &Candidate,
    request: &SignIn,
) -> Result<SignedIn, Refusal> {
    if factor::exists(&mut tx, user.id).await.map_err(failed)? {
        let challenge = request.challenge.as_ref().ok_or_else(Refusal::unavailable)?;
        open_challenge(&mut tx, user.id, challenge).await.map_err(failed)?;
        guess.take_back(&mut tx).await.map_err(failed)?;
        tx.commit().await.map_err(failed)?;
        return Ok(SignedIn::MfaRequired);
    }
    let new = NewSession {
        user: user.id,
        tenant: user.tenant,
        methods: &[Method::Password],
        token: request.token,
        origin: &request.origin,
    };
    complete(state, tx, guess, &new).await
}

/// The end of every sign-in, under the lock of the user's row.
async fn complete(
    state: &State,
    mut tx: Transaction,
    guess: Guess,
    new: &NewSession<'_>,
) -> Result<SignedIn, Refusal> {
    let opened = opening::open(state, &mut tx, new).await?;
    guess.forgive(&mut tx).await.map_err(failed)?;
    opening::commit(state, tx, new, opened).await
}

#[instrument(skip_all, name = "challenge.open")]
async fn open_challenge(
    tx: &mut Transaction,
    user: UserId,
    challenge: &TokenHash,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "DELETE FROM sign_in_challenges WHERE user_id = $1 AND (expires_at <= clock_timestamp() OR token_hash IN (
             SELECT token_hash FROM sign_in_challenges WHERE user_id = $1
             ORDER BY created_at DESC OFFSET $2))",
        user.0,
        OPEN_CHALLENGES - 1,
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "INSERT INTO sign_in_challenges (token_hash, user_id, expires_at)
         VALUES ($1, $2, clock_timestamp() + make_interval(secs => $3))
         ON CONFLICT (token_hash) DO NOTHING",
        &challenge.0[..],
        user.0,
        CHALLENGE_SECONDS,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Goes on with a sign-in by a code.
#[instrument(skip_all, name = "session.sign-in-mfa")]
pub(crate) async fn sign_in_mfa(state: State, request: SignInMfa) -> Result<SignedIn, Refusal> {
    if let Some(earlier) = opening::opened_before(&state, &request.token).await? {
        return Ok(earlier);
    }
    let challenge = challenged(&state, &request.challenge).await.map_err(failed)?;
    let challenge = challenge.ok_or_else(no_challenge)?;
    let place = state.later.place()?;
    let guess =
        throttle::begin(&state.pool, Account::new(&challenge.slug, &challenge.email)).await?;
    let locks = guess.is_last_free();
    count_try(&state, &request.challenge).await?;
    match finish(&state, guess, &challenge, &request).await {
        Err(refusal) if refusal.code == Code::InvalidCredentials => {
            let refused = Refused {
                user: Some(challenge.user),
                slug: challenge.slug,
                origin: request.origin,
                locks,
            };
            state.later.write(place, "a refused sign-in", record(state.clone(), refused));
            Err(refusal)
        }
        result => result,
    }
}

async fn finish(
    state: &State,
    guess: Guess,
    challenge: &Challenge,
    request: &SignInMfa,
) -> Result<SignedIn, Refusal> {
    let user = challenge.user;
    let mut tx = state.pool.begin().await.map_err(failed)?;
    sqlx::query!("SELECT id FROM users WHERE id = $1 FOR NO KEY UPDATE", user.0)
        .fetch_optional(&mut *tx)
        .await
        .map_err(failed)?;
    // Of two that are the same, the other one may have come first.
    if opening::earlier(&mut *tx, &request.token).await.map_err(failed)?.is_some() {
        tx.commit().await.map_err(failed)?;
        return opening::opened_before(state, &request.token).await?.ok_or_else(no_challenge);
    }
    // Under the lock: a new password, or the end of the user, takes the challenge away.
    let open = sqlx::query!(
        "DELETE FROM sign_in_challenges c USING users u
         WHERE c.token_hash = $1 AND c.user_id = u.id AND u.disabled_at IS NULL
           AND c.expires_at > clock_timestamp()",
        &request.challenge.0[..],
    )
    .execute(&mut *tx)
    .await
    .map_err(failed)?;
    if open.rows_affected() == 0 {
        return Err(no_challenge());
    }
    let method = factor::use_code(&mut tx, &state.keys, user, request.code.expose_secret()).await?;
    let new = NewSession {
        user,
        tenant: challenge.tenant,
        methods: &[Method::Password, method],
        token: request.token,
        origin: &request.origin,
    };
    complete(state, tx, guess, &new).await
}

struct Challenge {
    user: UserId,
    tenant: TenantId,
    slug: String,
    email: String,
}

async fn challenged(
    state: &State,
    challenge: &TokenHash,
) -> Result<Option<Challenge>, sqlx::Error> {
    let row = sqlx::query!(
        "SELECT u.id, u.tenant_id, u.email, t.slug
         FROM sign_in_challenges c JOIN users u ON u.id = c.user_id JOIN tenants t ON t.id = u.tenant_id
         WHERE c.token_hash = $1 AND c.expires_at > clock_timestamp() AND c.tries < $2",
        &challenge.0[..],
        TRIES,
    )
    .fetch_optional(&state.pool)
    .await?;
    Ok(row.map(|row| Challenge {
        user: UserId(row.id),
        tenant: TenantId(row.tenant_id),
        slug: row.slug,
        email: row.email,
    }))
}

/// Counts a try before it is looked at, so that parallel ones are no more than may be.
async fn count_try(state: &State, challenge: &TokenHash) -> Result<(), Refusal> {
    let counted = sqlx::query!(
        "UPDATE sign_in_challenges SET tries = tries + 1
         WHERE token_hash = $1 AND tries < $2 AND expires_at > clock_timestamp()",
        &challenge.0[..],
        TRIES,
    )
    .execute(&state.pool)
    .await
    .map_err(failed)?;
    if counted.rows_affected() == 1 { Ok(()) } else { Err(no_challenge()) }
}

fn no_challenge() -> Refusal {
    Refusal::new(
        Code::InvalidCredentials,
        "This sign-in has run out of time or tries. Begin again with the password.",
    )
}

/// A sign-in that was refused.
struct Refused {
    user: Option<UserId>,
    slug: String,
    origin: Origin,
    /// Whether delays begin with it.
    locks: bool,
}

/// Its record, where the tenant exists. What was typed is not kept: people type passwords into the
/// wrong field. Of a user who has to wait from now on, people are told.
async fn record(state: State, refused: Refused) -> Result<(), sqlx::Error> {
    let Refused { user, slug, origin, locks } = refused;
    if slug.contains('\0') {
        return Ok(());
    }
    let mut tx = state.pool.begin().await?;
    let tenant = sqlx::query_scalar!("SELECT id FROM tenants WHERE slug = $1", slug)
        .fetch_optional(&mut *tx)
        .await?;
    let Some(tenant) = tenant.map(TenantId) else { return Ok(()) };
    let record = |action| Record {
        tenant,
        actor: Actor::Nobody,
        action,
        target: user.map(|user| format!("user:{user}")),
        origin: &origin,
        detail: json!({}),
        trace_id: trace::current_trace_id(),
    };
    let mut records = vec![record("session.sign-in-refused")];
    if let Some(user) = user.filter(|_| locks) {
        records.push(record("account.locked"));
        let payload = json!({"user": user, "ip": origin.ip});
        outbox::append(&mut tx, state.clock.wall(), tenant, "account.locked", payload).await?;
    }
    audit::append_all(&mut tx, &records).await?;
    tx.commit().await
}
