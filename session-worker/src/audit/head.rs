//! Signing the heads of the record, so that nobody changes what was written before them unnoticed, not
//! even who owns the database.
//!
//! A head is an entry of the record itself, directly after the one that it covers; it is also an event
//! for others (`outbox`), and a line in the log. What has left the database by these ways cannot be
//! taken back in it.
//!
//! Any number of replicas may do it: who signs holds the lock of the record, and looks again under it.

use std::{collections::VecDeque, time::Duration};

use shared::{
    chain::{HEAD_SIGNED, Head, PublicKey, SIGNER, Signature, SignedHead, SigningKey},
    clock::Timestamp,
    database::{
        audit::{self, Actor, Record},
        failed, outbox,
    },
    id::TenantId,
    message::{
        Origin,
        audit::{AuditHead, GetHead},
    },
    refusal::{Code, Refusal},
    subject::Subject,
};
use sqlx::{PgPool, error::BoxDynError};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, instrument, warn};

use super::{admit, hash};
use crate::state::State;

/// So many are signed before it is looked again who waits.
const AT_ONCE: i64 = 200;
/// How long one may take, with what it waits for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who signs heads, and how often.
pub(crate) struct Heads {
    pool: PgPool,
    key: SigningKey,
    /// Nothing in a record waits longer for a head.
    every: Duration,
}

/// What is to be signed, as it stands under the lock of its record.
struct Due {
    head: Head,
    now: Timestamp,
    /// Whether what was signed last is still there.
    is_kept: bool,
}

impl Heads {
    pub(crate) fn new(pool: PgPool, key: SigningKey, every: Duration) -> Self {
        Self { pool, key, every }
    }

    /// How often it is looked whether anything is due.
    fn beat(&self) -> Duration {
        (self.every / 12).clamp(Duration::from_millis(100), Duration::from_secs(5))
    }

    /// So old a head is followed by the next one: before the next look it would be too old.
    fn due_seconds(&self) -> f64 {
        self.every.saturating_sub(self.beat()).as_secs_f64()
    }

    /// Signs until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let public = self.key.public();
        info!(key_id = %public.id(), public_key = %public, "signing the audit record");
        let mut beat = tokio::time::interval(self.beat());
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = beat.tick() => {}
            }
            let signed = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                signed = self.sign_all() => signed,
            };
            match &signed {
                Err(error) if !failing => error!(%error, "the audit record is not signed"),
                Ok(()) if failing => info!("the audit record is signed again"),
                _ => {}
            }
            failing = signed.is_err();
        }
    }

    /// Signs the head of every record that is due, some at a time. One that fails keeps no other; it is
    /// tried again at the next look.
    async fn sign_all(&self) -> Result<(), sqlx::Error> {
        let mut first_failure = Ok(());
        loop {
            let mut tenants: VecDeque<_> = self.due().await?.into();
            let is_all = tenants.len() < usize::try_from(AT_ONCE).unwrap_or(usize::MAX);
            let mut signed_any = false;
            while let Some(tenant) = tenants.pop_front() {
                let signed = tokio::time::timeout(PATIENCE, self.sign(tenant)).await;
                match signed.unwrap_or(Err(sqlx::Error::PoolTimedOut)) {
                    Ok(signed) => signed_any |= signed,
                    Err(error) => {
                        warn!(%tenant, %error, "audit head not signed");
                        first_failure = Err(error);
                    }
                }
            }
            if is_all || !signed_any {
                return first_failure;
            }
        }
    }

    /// Records with entries that no head covers, and whose last head is old; in any order, so that
    /// replicas begin with different ones, and none is always the last.
    ///
    /// A record that is shorter than what was signed is one of them.
    async fn due(&self) -> Result<Vec<TenantId>, sqlx::Error> {
        let rows = sqlx::query_scalar!(
            "SELECT t.id FROM tenants t LEFT JOIN audit_heads h ON h.tenant_id = t.id
             WHERE t.audit_seq <> coalesce(h.seq + 1, 0)
               AND coalesce(h.signed_at, t.created_at)
                   NOT BETWEEN clock_timestamp() - make_interval(secs => $1) AND clock_timestamp()
             ORDER BY random() LIMIT $2",
            self.due_seconds(),
            AT_ONCE,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(TenantId).collect())
    }

    /// Signs the head of a record, unless somebody has done so meanwhile.
    async fn sign(&self, tenant: TenantId) -> Result<bool, sqlx::Error> {
        let mut tx = self.pool.begin().await?;
        let Some(due) = lock(&mut tx, tenant, self.due_seconds()).await? else { return Ok(false) };
        if !due.is_kept {
            error!(%tenant, "the audit record is not what was signed: somebody changed it in the database");
        }
        let signed = self.key.sign(due.head);
        let detail = serde_json::to_value(&signed)
            .map_err(|error| sqlx::Error::Encode(BoxDynError::from(error)))?;
        let record = Record {
            tenant,
            actor: Actor::Service(SIGNER),
            action: HEAD_SIGNED,
            target: None,
            origin: &Origin::default(),
            detail: detail.clone(),
            trace_id: None,
        };
        audit::append(&mut tx, record).await?;
        outbox::append(&mut tx, due.now, tenant, HEAD_SIGNED, detail).await?;
        sqlx::query!(
            "INSERT INTO audit_heads (tenant_id, seq, hash, signature, public_key) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (tenant_id) DO UPDATE SET seq = excluded.seq, hash = excluded.hash,
                 signature = excluded.signature, public_key = excluded.public_key,
                 signed_at = excluded.signed_at",
            tenant.0,
            signed.seq.cast_signed(),
            &signed.hash.0[..],
            &signed.signature.0[..],
            &self.key.public().to_bytes()[..],
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        // Not before the commit: nobody may hold a head against a record that never had it.
        let SignedHead { seq, hash, signature, key_id } = signed;
        info!(%tenant, seq, %hash, %signature, %key_id, "audit head signed");
        Ok(true)
    }
}

/// What is to be signed of a record, with the record locked; none: nothing.
async fn lock(
    tx: &mut shared::database::Transaction,
    tenant: TenantId,
    due_seconds: f64,
) -> Result<Option<Due>, sqlx::Error> {
    sqlx::query!("SELECT id FROM tenants WHERE id = $1 FOR NO KEY UPDATE", tenant.0)
        .fetch_optional(&mut **tx)
        .await?;
    // A statement of its own, which sees what whoever had the lock has done.
    let row = sqlx::query!(
        r#"SELECT t.audit_seq, t.audit_hash AS "audit_hash!", clock_timestamp() AS "now!",
                  h.seq IS NULL OR EXISTS (
                      SELECT FROM audit a WHERE a.tenant_id = t.id AND a.seq = h.seq AND a.hash = h.hash) AS "is_kept!"
           FROM tenants t LEFT JOIN audit_heads h ON h.tenant_id = t.id
           WHERE t.id = $1 AND t.audit_hash IS NOT NULL AND t.audit_seq <> coalesce(h.seq + 1, 0)
             AND coalesce(h.signed_at, t.created_at)
                 NOT BETWEEN clock_timestamp() - make_interval(secs => $2) AND clock_timestamp()"#,
        tenant.0,
        due_seconds,
    )
    .fetch_optional(&mut **tx)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let head = Head {
        tenant: tenant.0,
        seq: row.audit_seq.cast_unsigned(),
        hash: hash(&row.audit_hash).map_err(sqlx::Error::Decode)?,
    };
    Ok(Some(Due { head, now: row.now.into(), is_kept: row.is_kept }))
}

/// The last signed head of the record of the caller's tenant, with `audit.read`.
#[instrument(skip_all, name = "audit.head")]
pub(crate) async fn head(state: State, request: GetHead) -> Result<AuditHead, Refusal> {
    let (mut tx, known) = admit(&state, &request.caller, Subject::AuditHead).await?;
    let tenant = known.tenant_id;
    let row = sqlx::query!(
        "SELECT seq, hash, signature, public_key FROM audit_heads WHERE tenant_id = $1",
        tenant.0,
    )
    .fetch_optional(&mut *tx)
    .await
    .map_err(failed)?;
    tx.commit().await.map_err(failed)?;
    let none = || Refusal::new(Code::NotFound, "No head of this record is signed yet.");
    let row = row.ok_or_else(none)?;
    let read = || -> Result<AuditHead, BoxDynError> {
        let public_key = PublicKey::from_bytes(row.public_key[..].try_into()?)?;
        Ok(AuditHead {
            tenant,
            seq: row.seq.try_into()?,
            hash: hash(&row.hash)?,
            signature: Signature(row.signature[..].try_into()?),
            key_id: public_key.id(),
            public_key,
        })
    };
    read().map_err(|error| failed(sqlx::Error::Decode(error)))
}
