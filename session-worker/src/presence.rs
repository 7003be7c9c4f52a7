//! Proof that it is the user who asks, not just their session: the password, and a fresh code where
//! there is a second factor. A cookie alone is never enough for what changes how one signs in
//! (ASVS 5.0, 7.5.1).

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use shared::{
    database::{
        Transaction,
        audit::{self, Actor, Record},
        caller::{self, Known},
        failed,
    },
    id::UserId,
    message::{
        Caller, Origin,
        mfa::{CodeVerified, VerifyCode},
        session::Method,
    },
    refusal::{Code, Refusal},
    subject::Subject,
    trace,
};
use tracing::instrument;

use crate::{
    later::Place,
    mfa::factor,
    state::State,
    throttle::{self, Account},
};

/// What somebody shows to prove that it is them.
pub(crate) struct Shown<'a> {
    pub(crate) caller: &'a Caller,
    /// Absent where the code alone is asked for.
    pub(crate) password: Option<SecretString>,
    pub(crate) code: Option<&'a SecretString>,
    /// What they ask for.
    pub(crate) request: Subject,
    /// Whose row is locked as well.
    pub(crate) target: Option<UserId>,
    /// Whether a session may ask that can only set up a second factor.
    pub(crate) enrolling: bool,
}

/// It is them. The code is used up, and the guess taken back, once the transaction commits.
pub(crate) struct Proven {
    pub(crate) tx: Transaction,
    pub(crate) known: Known,
    /// What they show is their own account.
    pub(crate) account: Own,
    /// Which kind of code it was, where there is a second factor.
    pub(crate) factor: Option<Method>,
}

impl Proven {
    /// It is them, but what they ask for cannot be: the code is used up and no guess is counted.
    pub(crate) async fn refuse(self, refusal: Refusal) -> Refusal {
        match self.tx.commit().await {
            Ok(()) => refusal,
            Err(error) => failed(error),
        }
    }
}

/// What is known of the account of whoever asks.
pub(crate) struct Own {
    pub(crate) slug: String,
    pub(crate) email: String,
    pub(crate) name: String,
    password_hash: Option<String>,
    pub(crate) has_factor: bool,
}

/// Looks the account up.
pub(crate) async fn own(tx: &mut Transaction, user: UserId) -> Result<Own, sqlx::Error> {
    sqlx::query_as!(
        Own,
        r#"SELECT t.slug, u.email, u.name, u.password_hash, m.enabled AS "has_factor!"
           FROM users u JOIN tenants t ON t.id = u.tenant_id JOIN mfa_standing m ON m.user_id = u.id
           WHERE u.id = $1"#,
        user.0,
    )
    .fetch_one(&mut **tx)
    .await
}

/// Refuses whoever cannot show it; else begins the transaction of the change, under the locks of
/// [`caller::lock`].
#[instrument(skip_all, name = "presence.prove")]
pub(crate) async fn prove(state: &State, shown: Shown<'_>) -> Result<Proven, Refusal> {
    let caller = shown.caller;
    let mut tx = state.pool.begin().await.map_err(failed)?;
    let known = look_up(&mut tx, &shown).await?;
    let account = own(&mut tx, known.user_id).await.map_err(failed)?;
    tx.commit().await.map_err(failed)?;
    if account.has_factor && shown.code.is_none() {
        return Err(fresh_code());
    }
    let place = state.later.place()?;
    let guess = throttle::begin(&state.pool, Account::new(&account.slug, &account.email)).await?;
    let hash = account.password_hash.clone();
    if let Some(password) = &shown.password {
        match state.hashing.verify(password.clone(), hash.clone()).await {
            Ok(true) => {}
            Ok(false) => return Err(wrong(state, place, &known, &shown, wrong_password())),
            Err(refusal) => return Err(guess.not_looked_at(&state.pool, refusal).await),
        }
    }
    let mut tx = state.pool.begin().await.map_err(failed)?;
    let known = if shown.enrolling {
        caller::lock_enrolling(&mut tx, caller, shown.target).await?
    } else {
        caller::lock(&mut tx, caller, shown.target).await?
    };
    let account = own(&mut tx, known.user_id).await.map_err(failed)?;
    if shown.password.is_some() && account.password_hash != hash {
        return Err(wrong(state, place, &known, &shown, wrong_password()));
    }
    let factor = match (account.has_factor, shown.code) {
        (true, None) => return Err(fresh_code()),
        (true, Some(code)) => {
            let used =
                factor::use_code(&mut tx, &state.keys, known.user_id, code.expose_secret()).await;
            match used {
                Ok(method) => Some(method),
                Err(refusal) => return Err(wrong(state, place, &known, &shown, refusal)),
            }
        }
        (false, _) => None,
    };
    guess.take_back(&mut tx).await.map_err(failed)?;
    Ok(Proven { tx, known, account, factor })
}

/// Uses a code up on behalf of another worker, for a request of the caller's that it holds.
#[instrument(skip_all, name = "presence.verify-code", fields(grant.id = %request.grant_id))]
pub(crate) async fn verify_code(
    state: State,
    request: VerifyCode,
) -> Result<CodeVerified, Refusal> {
    let shown = Shown {
        caller: &request.caller,
        password: None,
        code: Some(&request.code),
        request: Subject::MfaVerify,
        target: None,
        enrolling: false,
    };
    let proven = prove(&state, shown).await?;
    let Some(method) = proven.factor else { return Err(factor::wrong_code()) };
    proven.tx.commit().await.map_err(failed)?;
    Ok(CodeVerified { method })
}

async fn look_up(tx: &mut Transaction, shown: &Shown<'_>) -> Result<Known, Refusal> {
    if shown.enrolling {
        caller::look_up_enrolling(tx, shown.caller).await
    } else {
        caller::look_up(tx, shown.caller).await
    }
}

fn wrong_password() -> Refusal {
    Refusal::new(Code::InvalidCredentials, "The password is wrong.")
}

fn fresh_code() -> Refusal {
    Refusal::new(
        Code::FreshMfaRequired,
        "This needs a code: the six digits that your authenticator app shows now, or a backup code.",
    )
}

/// The refusal; its record is written meanwhile.
fn wrong(
    state: &State,
    place: Place,
    known: &Known,
    shown: &Shown<'_>,
    refusal: Refusal,
) -> Refusal {
    if refusal.code == Code::InvalidCredentials {
        let origin = shown.caller.origin.clone();
        let record = record(state.clone(), known.clone(), origin, shown.request);
        state.later.write(place, "a refused proof", record);
    }
    refusal
}

async fn record(
    state: State,
    known: Known,
    origin: Origin,
    request: Subject,
) -> Result<(), sqlx::Error> {
    let mut tx = state.pool.begin().await?;
    let record = Record {
        tenant: known.tenant_id,
        actor: Actor::User(known.user_id),
        action: "account.proof-refused",
        target: Some(format!("user:{}", known.user_id)),
        origin: &origin,
        detail: json!({"request": request.path()}),
        trace_id: trace::current_trace_id(),
    };
    audit::append(&mut tx, record).await?;
    tx.commit().await
}
