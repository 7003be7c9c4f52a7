//! Reading the audit record.

use std::io;

use axum::{
    Json,
    body::{Body, Bytes},
    extract,
    http::{HeaderValue, header},
    response::IntoResponse,
};
use futures_util::{Stream, stream};
use serde::{Deserialize, Serialize};
use shared::{
    bus::Bus,
    clock::Timestamp,
    id::TenantId,
    message::{
        Caller,
        audit::{
            AuditEntries, AuditEntry, AuditHead, ExportAudit, ExportCursor, ExportedEntries,
            GetHead, ListAudit,
        },
    },
    refusal::Refusal,
};
use tokio::sync::{Semaphore, SemaphorePermit};
use tracing::warn;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    State,
    body::Nothing,
    caller::Signed,
    parameters::{Parameters, page},
    problem::Refused,
    responses,
};

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::default().routes(routes!(list)).routes(routes!(export)).routes(routes!(head))
}

/// So many exports at once; each holds a page in memory for as long as its client takes.
static EXPORTS: Semaphore = Semaphore::const_new(64);

/// Which entries.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Which {
    /// Only by this actor: a user id, or the name of a service.
    actor: Option<String>,
    /// Only this action.
    action: Option<String>,
    /// Only to this target: `<concept>:<id>`.
    target: Option<String>,
    /// Only after this time.
    after: Option<Timestamp>,
    /// Only before this time.
    before: Option<Timestamp>,
    /// At most so many.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// The `next_cursor` of the page before.
    #[param(value_type = Option<String>)]
    cursor: Option<u64>,
}

/// Entries of the tenant's record, newest first.
///
/// Needs `audit.read`.
#[utoipa::path(
    get, path = "/v1/audit", tag = "Audit", operation_id = "listAuditEntries",
    params(Which),
    responses((status = 200, description = "The entries.", body = AuditEntries), responses::Signed),
)]
async fn list(
    extract::State(state): extract::State<State>,
    Signed(caller): Signed,
    Parameters(which): Parameters<Which>,
) -> Result<Json<AuditEntries>, Refused> {
    let request = ListAudit {
        caller,
        actor: which.actor,
        action: which.action,
        target: which.target,
        after: which.after,
        before: which.before,
        limit: page(which.limit)?,
        cursor: which.cursor,
    };
    Ok(Json(state.bus.request(&request).await?))
}

/// A line of the export.
#[derive(Serialize, ToSchema)]
struct Line<'a> {
    /// Whose record.
    tenant: TenantId,
    #[serde(flatten)]
    entry: &'a AuditEntry,
}

/// The tenant's whole record, oldest first: one JSON object on each line.
///
/// Needs `audit.read`. The last entry is that of this export (`audit.exported`); what is written
/// meanwhile is not in it. If the session ends meanwhile, or a component is out of reach, the connection
/// is broken off, so that no part passes for the whole. Keep the lines as they are: their bytes are what
/// a verifier hashes.
#[utoipa::path(
    get, path = "/v1/audit/export", tag = "Audit", operation_id = "exportAudit",
    responses(
        (status = 200, description = "The entries.", body = Line, content_type = "application/x-ndjson"),
        responses::Signed,
    ),
)]
async fn export(
    extract::State(state): extract::State<State>,
    Signed(caller): Signed,
    Parameters(Nothing {}): Parameters<Nothing>,
) -> Result<impl IntoResponse, Refused> {
    let place = EXPORTS.try_acquire().map_err(|_| Refusal::unavailable())?;
    // Whoever may not have it is refused by an answer.
    let first = state.bus.request(&ExportAudit { caller: caller.clone(), cursor: None }).await?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson")),
        (
            header::CONTENT_DISPOSITION,
            HeaderValue::from_static("attachment; filename=\"audit.ndjson\""),
        ),
    ];
    let export = Export { bus: state.bus, caller, step: Step::Page(first), _place: place };
    Ok((headers, Body::from_stream(export.lines())))
}

/// An export on its way.
struct Export {
    bus: Bus,
    caller: Caller,
    step: Step,
    _place: SemaphorePermit<'static>,
}

/// What comes next.
enum Step {
    Page(ExportedEntries),
    Ask(ExportCursor),
    End,
}

impl Export {
    /// Its lines, a page at a time; the next page is asked for when the client has taken this one.
    fn lines(self) -> impl Stream<Item = io::Result<Bytes>> {
        stream::try_unfold(self, |mut export| async move {
            let page = match export.step {
                Step::End => return Ok(None),
                Step::Page(page) => page,
                Step::Ask(cursor) => {
                    let request =
                        ExportAudit { caller: export.caller.clone(), cursor: Some(cursor) };
                    export.bus.request(&request).await.map_err(broken_off)?
                }
            };
            export.step = page.next.map_or(Step::End, Step::Ask);
            Ok(Some((text(&page)?, export)))
        })
    }
}

fn broken_off(refusal: Refusal) -> io::Error {
    warn!(code = %refusal.code, "an export of the audit record was broken off");
    io::Error::other(refusal.detail)
}

fn text(page: &ExportedEntries) -> io::Result<Bytes> {
    let mut text = Vec::new();
    for entry in &page.entries {
        serde_json::to_writer(&mut text, &Line { tenant: page.tenant, entry })?;
        text.push(b'\n');
    }
    Ok(text.into())
}

/// The last signed head of the tenant's record; 404 while there is none.
///
/// Needs `audit.read`. Kept elsewhere, it shows later whether anything was changed or cut off before it.
#[utoipa::path(
    get, path = "/v1/audit/head", tag = "Audit", operation_id = "getAuditHead",
    responses(
        (status = 200, description = "The head.", body = AuditHead),
        responses::Signed, responses::About,
    ),
)]
async fn head(
    extract::State(state): extract::State<State>,
    Signed(caller): Signed,
    Parameters(Nothing {}): Parameters<Nothing>,
) -> Result<Json<AuditHead>, Refused> {
    Ok(Json(state.bus.request(&GetHead { caller }).await?))
}

#[cfg(test)]
mod tests {
    use shared::{
        chain::{Hash, Problem, verify},
        message::audit::Detail,
    };

    use super::*;

    #[test]
    fn a_line_says_what_was_hashed_to_the_byte() {
        let tenant: TenantId = "0192f0c1-2b3c-7d4e-8f50-000000000001".parse().expect("an id");
        let detail = r#"{"n": 1e400, "z": -0.0, "text": "\u0001 ü \" 🔑"}"#;
        let content = shared::chain::Content {
            seq: 1,
            at_micros: 1_795_316_400_120_000,
            actor: "\u{1}\n\"\\",
            action: "ü",
            target: None,
            ip: Some(""),
            detail,
            trace_id: None,
        };
        let entry = AuditEntry {
            seq: 1,
            at: Timestamp::from_micros(content.at_micros),
            actor: content.actor.to_owned(),
            action: content.action.to_owned(),
            target: None,
            ip: Some(String::new()),
            detail: Detail::from_text(detail.to_owned()).expect("JSON"),
            trace_id: None,
            hash: Some(content.hash(Hash::beginning(tenant.0))),
        };
        // As it comes from the worker.
        let entry = serde_json::from_slice(&serde_json::to_vec(&entry).expect("JSON"));
        let page = ExportedEntries { tenant, entries: vec![entry.expect("an entry")], next: None };
        let text = text(&page).expect("lines");
        let text = std::str::from_utf8(&text).expect("UTF-8");
        assert!(text.contains(detail) && text.ends_with("}\n"), "{text}");
        let problems = verify(text.lines(), &[], &[]).problems;
        assert_eq!(problems, [Problem::NothingSigned], "{text}");
    }
}
