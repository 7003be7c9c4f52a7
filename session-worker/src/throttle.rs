//! Counting failures per account, whatever is guessed: password, code or backup code, at whichever
//! route (ASVS 5.0, 6.3.1; SP 800-63B, 3.2.2).
//!
//! An attempt counts as a failure from before it is looked at, in a transaction of its own. So
//! parallel guesses cannot outrun the count, and one that is cut short stays counted.

use std::time::Duration;

use sha2::{Digest as _, Sha256};
use shared::{
    database::{Transaction, failed},
    refusal::{Code, Refusal},
};
use sqlx::PgPool;
use tracing::instrument;

use crate::operator::normalise;

/// So many attempts before the first delay.
const FREE: i32 = 10;
/// The first delay, which doubles with every further failure.
const FIRST_DELAY_SECONDS: f64 = 30.0;
/// The longest delay.
const LONGEST_DELAY_SECONDS: f64 = 3_600.0;

/// What is counted: an address in a tenant as somebody typed them, whether there is such a user or
/// not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Account([u8; 32]);

impl Account {
    pub(crate) fn new(tenant: &str, email: &str) -> Self {
        let hash = Sha256::new()
            .chain_update(tenant.as_bytes())
            .chain_update([0])
            .chain_update(normalise(email).as_bytes());
        Self(hash.finalize().into())
    }
}

/// An attempt that was counted.
#[derive(Debug)]
pub(crate) struct Guess {
    account: Account,
    /// With this one.
    failures: i32,
}

/// Counts an attempt, or refuses it without looking at it.
#[instrument(skip_all, name = "throttle.begin")]
pub(crate) async fn begin(pool: &PgPool, account: Account) -> Result<Guess, Refusal> {
    let counted = sqlx::query_scalar!(
        // Below the limit no time is asked for: a clock that was ahead makes nobody wait.
        // The question whether it waits comes first, without a lock: a storm of guesses is refused
        // without standing in line for the row.
        "INSERT INTO sign_in_failures AS f (account, failures)
         SELECT $1, 1 WHERE NOT EXISTS (
             SELECT FROM sign_in_failures w
             WHERE w.account = $1 AND w.failures >= $2 AND w.last_at + sign_in_delay(w.failures, $2, $3, $4) > clock_timestamp())
         ON CONFLICT (account) DO UPDATE
         SET failures = least(f.failures, 1000000) + 1, last_at = clock_timestamp(), before = f.last_at
         WHERE f.failures < $2 OR f.last_at + sign_in_delay(f.failures, $2, $3, $4) <= clock_timestamp()
         RETURNING failures",
        &account.0[..],
        FREE,
        FIRST_DELAY_SECONDS,
        LONGEST_DELAY_SECONDS,
    )
    .fetch_optional(pool)
    .await
    .map_err(failed)?;
    match counted {
        Some(failures) => Ok(Guess { account, failures }),
        None => Err(too_many(pool, account).await.map_err(failed)?),
    }
}

async fn too_many(pool: &PgPool, account: Account) -> Result<Refusal, sqlx::Error> {
    let seconds = sqlx::query_scalar!(
        r#"SELECT extract(epoch FROM last_at + sign_in_delay(failures, $2, $3, $4) - clock_timestamp())::float8 AS "seconds!"
           FROM sign_in_failures WHERE account = $1"#,
        &account.0[..],
        FREE,
        FIRST_DELAY_SECONDS,
        LONGEST_DELAY_SECONDS,
    )
    .fetch_optional(pool)
    .await?;
    let wait = Duration::try_from_secs_f64(seconds.unwrap_or(0.0).ceil()).unwrap_or_default();
    let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).max(1);
    let detail = "There were too many failed attempts. Wait for as long as Retry-After says, then try again.";
    Ok(Refusal { retry_after: Some(seconds), ..Refusal::new(Code::TooManyAttempts, detail) })
}

/// Forgets what was counted; says how many failures that were.
pub(crate) async fn forget(tx: &mut Transaction, account: Account) -> Result<i32, sqlx::Error> {
    let failures = sqlx::query_scalar!(
        "DELETE FROM sign_in_failures WHERE account = $1 RETURNING failures",
        &account.0[..],
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(failures.unwrap_or(0))
}

impl Guess {
    /// Whether this is the one with which delays begin.
    pub(crate) const fn is_last_free(&self) -> bool {
        self.failures == FREE
    }

    /// It was no failure. That alone forgives no earlier one.
    #[instrument(skip_all, name = "throttle.take-back")]
    pub(crate) async fn take_back(self, tx: &mut Transaction) -> Result<(), sqlx::Error> {
        let left = sqlx::query_scalar!(
            "UPDATE sign_in_failures
             SET failures = greatest(failures - 1, 0),
                 last_at = CASE WHEN failures = $2 THEN coalesce(before, last_at) ELSE last_at END
             WHERE account = $1
             RETURNING failures",
            &self.account.0[..],
            self.failures,
        )
        .fetch_optional(&mut **tx)
        .await?;
        // None is like no row, and anybody can have rows made for accounts that do not exist.
        if left == Some(0) {
            self.forgive(tx).await?;
        }
        Ok(())
    }

    /// It was not looked at, for want of something else: gives the refusal that says so.
    pub(crate) async fn not_looked_at(self, pool: &PgPool, refusal: Refusal) -> Refusal {
        let taken_back = async {
            let mut tx = pool.begin().await?;
            self.take_back(&mut tx).await?;
            tx.commit().await
        };
        match taken_back.await {
            Ok(()) => refusal,
            Err(error) => failed(error),
        }
    }

    /// A sign-in was completed: all is forgiven.
    #[instrument(skip_all, name = "throttle.forgive")]
    pub(crate) async fn forgive(self, tx: &mut Transaction) -> Result<(), sqlx::Error> {
        forget(tx, self.account).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_one_in_every_spelling_of_its_address() {
        let account = Account::new("acme", "ada@acme.test");
        for spelling in ["ADA@acme.TEST", "  ada@acme.test\n"] {
            assert_eq!(Account::new("acme", spelling), account, "{spelling}");
        }
        for (tenant, email) in
            [("other", "ada@acme.test"), ("acme", "bob@acme.test"), ("acmea", "da@acme.test")]
        {
            assert_ne!(Account::new(tenant, email), account);
        }
    }
}
