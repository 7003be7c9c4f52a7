//! Sealing every shared secret anew with the first key of the file, so that older keys can go.

use shared::{id::UserId, sealing::Keys};
use sqlx::PgPool;
use uuid::Uuid;

use super::OperatorError;

/// So many at a time.
const AT_ONCE: i64 = 100;

struct Row {
    user_id: Uuid,
    secret: Vec<u8>,
    key_id: String,
}

/// Seals what other keys have sealed; says how many secrets that were, after each batch. What cannot be
/// opened is left as it is, and told at the end.
///
/// Each secret is replaced in one statement, and only if it is still the one that was read. So it may
/// be stopped, run again, and run beside the services at any time.
pub(super) async fn rotate(
    pool: &PgPool,
    keys: &Keys,
    mut report: impl FnMut(u64),
) -> Result<(), OperatorError> {
    let (mut sealed, mut left) = (0, Vec::new());
    let mut after = Uuid::nil();
    loop {
        let rows = sqlx::query_as!(
            Row,
            "SELECT user_id, secret, key_id FROM totp_factors
             WHERE key_id <> $1 AND user_id > $2 ORDER BY user_id LIMIT $3",
            keys.current(),
            after,
            AT_ONCE,
        )
        .fetch_all(pool)
        .await?;
        let Some(last) = rows.last() else { break };
        after = last.user_id;
        for row in &rows {
            let user = UserId(row.user_id);
            let secret = match keys.open::<20>(user, &row.key_id, &row.secret) {
                Ok(secret) => secret,
                Err(error) => {
                    left.push((user, error));
                    continue;
                }
            };
            let new = keys.seal(user, &secret);
            sqlx::query!(
                "UPDATE totp_factors SET secret = $3, key_id = $4 WHERE user_id = $1 AND secret = $2",
                row.user_id,
                row.secret,
                new.text,
                new.key_id,
            )
            .execute(pool)
            .await?;
            sealed += 1;
        }
        report(sealed);
    }
    // What waits to be confirmed waits for minutes; those who set up an app meanwhile begin again.
    sqlx::query!("DELETE FROM totp_enrollments WHERE key_id <> $1", keys.current())
        .execute(pool)
        .await?;
    report(sealed);
    let count = left.len();
    match left.into_iter().next() {
        Some((user, source)) => Err(OperatorError::Unopened { count, user, source }),
        None => Ok(()),
    }
}
