//! A user's second factor, as it is stored. All of it under the lock of the user's row.

use shared::{
    clock::Timestamp,
    database::{Transaction, failed},
    id::UserId,
    message::session::Method,
    refusal::{Code, Refusal},
    sealing::{Keys, OpenError},
};
use tracing::{error, instrument};

use super::{
    backup,
    totp::{self, Verdict},
};

/// Whether a user has one.
pub(crate) async fn exists(tx: &mut Transaction, user: UserId) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM totp_factors WHERE user_id = $1) AS "exists!""#,
        user.0,
    )
    .fetch_one(&mut **tx)
    .await
}

/// Uses a code up: of the authenticator app, or a backup code. It counts once the transaction
/// commits, and then never again.
#[instrument(skip_all, name = "factor.use-code")]
pub(crate) async fn use_code(
    tx: &mut Transaction,
    keys: &Keys,
    user: UserId,
    code: &str,
) -> Result<Method, Refusal> {
    if totp::has_form(code) {
        use_totp(tx, keys, user, code).await?;
        Ok(Method::Totp)
    } else {
        use_backup_code(tx, user, code).await?;
        Ok(Method::BackupCode)
    }
}

async fn use_totp(
    tx: &mut Transaction,
    keys: &Keys,
    user: UserId,
    code: &str,
) -> Result<(), Refusal> {
    let row = sqlx::query!(
        r#"SELECT secret, key_id, last_step, clock_timestamp() AS "now!"
           FROM totp_factors WHERE user_id = $1"#,
        user.0,
    )
    .fetch_optional(&mut **tx)
    .await
    .map_err(failed)?;
    let Some(row) = row else { return Err(wrong_code()) };
    let secret = keys.open(user, &row.key_id, &row.secret).map_err(|error| unopened(&error))?;
    let step = judge(&secret, code, row.now.into(), row.last_step.cast_unsigned())?;
    sqlx::query!(
        "UPDATE totp_factors SET last_step = $2 WHERE user_id = $1",
        user.0,
        step.cast_signed(),
    )
    .execute(&mut **tx)
    .await
    .map_err(failed)?;
    Ok(())
}

/// The step of a code that counts, or why it does not.
pub(crate) fn judge(
    secret: &totp::Secret,
    code: &str,
    now: Timestamp,
    last_step: u64,
) -> Result<u64, Refusal> {
    match totp::check(secret, code, now, last_step) {
        Verdict::Accepted { step } => Ok(step),
        Verdict::Used => Err(Refusal::new(
            Code::InvalidCredentials,
            "This code was used already. Wait for the next one that your app shows.",
        )),
        Verdict::ClockOff { seconds } => Err(Refusal::new(
            Code::InvalidCredentials,
            format!(
                "The code is right for another time: the clock of your device is {}. Set it to the \
                 network's time, then try the next code; or use a backup code.",
                totp::clock_off(seconds)
            ),
        )),
        Verdict::Wrong => Err(wrong_code()),
    }
}

/// The code is wrong, whatever of it.
pub(crate) fn wrong_code() -> Refusal {
    Refusal::new(
        Code::InvalidCredentials,
        "The code is wrong. Use the six digits that your authenticator app shows now, or a backup code \
         that you have not used yet.",
    )
}

/// A fault of ours or of the key file.
pub(crate) fn unopened(error: &OpenError) -> Refusal {
    error!(%error, "a shared secret cannot be opened");
    Refusal::new(Code::Internal, "Something went wrong on our side.")
}

async fn use_backup_code(tx: &mut Transaction, user: UserId, code: &str) -> Result<(), Refusal> {
    let Some(hash) = backup::typed(user, code) else { return Err(wrong_code()) };
    let found = sqlx::query!(
        "UPDATE backup_codes b SET used_at = clock_timestamp()
         FROM totp_factors f
         WHERE b.user_id = $1 AND b.code_hash = $2 AND b.used_at IS NULL AND f.user_id = b.user_id",
        user.0,
        &hash[..],
    )
    .execute(&mut **tx)
    .await
    .map_err(failed)?;
    if found.rows_affected() == 1 { Ok(()) } else { Err(wrong_code()) }
}

/// Ten new backup codes; the old ones are dead.
pub(crate) async fn renew_backup_codes(
    tx: &mut Transaction,
    user: UserId,
) -> Result<Vec<String>, sqlx::Error> {
    let codes = backup::generate(user);
    let hashes: Vec<_> = codes.iter().map(|code| code.hash.to_vec()).collect();
    sqlx::query!("DELETE FROM backup_codes WHERE user_id = $1", user.0).execute(&mut **tx).await?;
    sqlx::query!(
        "INSERT INTO backup_codes (user_id, code_hash) SELECT $1, unnest($2::bytea[])",
        user.0,
        &hashes,
    )
    .execute(&mut **tx)
    .await?;
    Ok(codes.into_iter().map(|code| code.text).collect())
}

/// Takes everything away; says whether there was a factor.
pub(crate) async fn remove(tx: &mut Transaction, user: UserId) -> Result<bool, sqlx::Error> {
    sqlx::query!("DELETE FROM backup_codes WHERE user_id = $1", user.0).execute(&mut **tx).await?;
    sqlx::query!("DELETE FROM totp_enrollments WHERE user_id = $1", user.0)
        .execute(&mut **tx)
        .await?;
    let removed = sqlx::query!("DELETE FROM totp_factors WHERE user_id = $1", user.0)
        .execute(&mut **tx)
        .await?;
    Ok(removed.rows_affected() == 1)
}
