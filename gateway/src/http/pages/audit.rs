//! Audit Logs: what is on record, one entry of it, and how to tell that it is what was written.

use std::collections::{BTreeSet, HashMap};

use askama::Template;
use axum::{Router, extract, extract::Query, http::Uri, response::Response, routing::get};
use futures_util::{StreamExt as _, stream};
use serde::{Deserialize, Serialize, de::IntoDeserializer as _};
use shared::{
    chain::HEAD_SIGNED,
    clock::Timestamp,
    id::UserId,
    message::{
        MOST_ITEMS,
        audit::{AuditEntry, AuditHead, GetHead, ListAudit},
        grant::ListGrants,
        user::GetUser,
    },
    refusal::{Code, Refusal},
    role::Permission,
};

use super::{
    super::{State, parameters::Number},
    emergency::given,
    form::Typed,
    json,
    turned::Turned,
    view::{Shell, Viewer},
};

const PAGE: &str = "/dashboard?view=audit-logs";
/// Entries of a page.
const ROWS: u32 = 50;
/// Most names that are looked up for a page, and how many at once.
const NAMES: usize = 40;
const AT_ONCE: usize = 8;

pub(super) fn routes() -> Router<State> {
    Router::new().route("/audit/{seq}", get(show_entry))
}

/// Which entries, as the form has it. Fields that were left empty are sent empty.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
struct Filter {
    #[serde(skip_serializing_if = "String::is_empty")]
    actor: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    action: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    target: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    after: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    before: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    cursor: String,
}

impl Filter {
    /// Whether anything but the place in the record is given.
    fn is_set(&self) -> bool {
        let Self { actor, action, target, after, before, cursor: _ } = self;
        [actor, action, target, after, before].iter().any(|text| !text.trim().is_empty())
    }

    /// The page that shows it.
    fn link(&self) -> String {
        let query = serde_html_form::to_string(self).unwrap_or_default();
        if query.is_empty() { PAGE.to_owned() } else { format!("{PAGE}&{query}") }
    }

    /// What the form shows again, with what is wrong in it, and the two times.
    fn read(&self) -> (Typed, Option<Timestamp>, Option<Timestamp>) {
        let mut typed = Typed::default();
        let mut time = |field: &'static str, text: &str| {
            let text = given(text)?;
            let time = utc(&text);
            typed = std::mem::take(&mut typed).with(field, text);
            if time.is_none() {
                typed =
                    std::mem::take(&mut typed).problem(field, "A date and a time are needed here.");
            }
            time
        };
        let (after, before) = (time("after", &self.after), time("before", &self.before));
        let typed = typed
            .with("actor", self.actor.trim())
            .with("action", self.action.trim())
            .with("target", self.target.trim());
        (typed, after, before)
    }
}

/// A time as a field for one sends it (`2026-11-22T17:30`, with seconds if there are any), in UTC.
fn utc(text: &str) -> Option<Timestamp> {
    let zone = if text.len() == "2026-11-22T17:30".len() { ":00Z" } else { "Z" };
    let text = format!("{text}{zone}").into_deserializer();
    let read: Result<_, serde::de::value::Error> = Timestamp::deserialize(text);
    read.ok()
}

/// What is known of the users in entries, by id.
struct Names {
    names: HashMap<UserId, String>,
    /// Whether a user's page is the viewer's to see.
    linked: bool,
}

impl Names {
    /// The names of those who did something, and of those to whom it was done, as far as the viewer
    /// may know them. That some are missing is no reason not to show the record.
    async fn of(state: &State, viewer: &Viewer, entries: &[AuditEntry]) -> Self {
        let me = &viewer.shell.account.user;
        let mut names = HashMap::from([(me.id, me.name.clone())]);
        let linked = viewer.shell.has(Permission::TenantManage);
        let users = entries.iter().flat_map(|entry| [user(&entry.actor), target_user(entry)]);
        let unknown: BTreeSet<_> = users.flatten().filter(|id| *id != me.id).collect();
        if linked {
            let asked = stream::iter(unknown.into_iter().take(NAMES)).map(|user_id| async move {
                let request = GetUser { caller: viewer.caller.clone(), user_id };
                state.bus.request(&request).await.ok().map(|one| (user_id, one.user.name))
            });
            let found: Vec<_> = asked.buffer_unordered(AT_ONCE).collect().await;
            names.extend(found.into_iter().flatten());
        } else if !unknown.is_empty() {
            let (caller, limit) = (viewer.caller.clone(), MOST_ITEMS);
            let request = ListGrants { caller, state: None, user_id: None, limit, cursor: None };
            for grant in state.bus.request(&request).await.map(|all| all.grants).unwrap_or_default()
            {
                let approvers = grant.approvals.into_iter().map(|approval| approval.user);
                let reviewer = grant.review.and_then(|review| review.reviewer);
                let people = approvers.chain([grant.user]).chain(grant.ended_by).chain(reviewer);
                names.extend(people.map(|person| (person.id, person.name)));
            }
        }
        Self { names, linked }
    }

    fn name(&self, user: Option<UserId>) -> Option<&str> {
        self.names.get(&user?).map(String::as_str)
    }
}

/// The user that the text is the id of.
fn user(text: &str) -> Option<UserId> {
    text.parse().ok()
}

/// The user to whom something was done.
fn target_user(entry: &AuditEntry) -> Option<UserId> {
    user(entry.target.as_deref()?.strip_prefix("user:")?)
}

/// An entry, as a page shows it.
struct Row<'a> {
    entry: &'a AuditEntry,
    /// The actor's name, where that is a user who is known.
    actor: Option<&'a str>,
    /// The target's.
    target: Option<&'a str>,
    /// Where there is more about the target.
    target_link: Option<String>,
}

impl<'a> Row<'a> {
    fn new(entry: &'a AuditEntry, names: &'a Names) -> Self {
        let target_link = entry.target.as_deref().and_then(|target| {
            let (kind, id) = target.split_once(':')?;
            // Only what is an id leads somewhere.
            let id = user(id)?;
            match kind {
                "grant" => Some(format!("/emergency/grants/{id}")),
                "user" if names.linked => Some(format!("/users/{id}")),
                _ => None,
            }
        });
        Self {
            entry,
            actor: names.name(user(&entry.actor)),
            target: names.name(target_user(entry)),
            target_link,
        }
    }

    /// Whether a person did it.
    fn is_by_user(&self) -> bool {
        user(&self.entry.actor).is_some()
    }

    /// What to say of an actor without a name: a service has one, of the id of a user the part that
    /// differs most will do.
    fn unnamed(&self) -> String {
        match user(&self.entry.actor) {
            Some(id) => format!("user …{}", &id.to_string()[24..]),
            None => self.entry.actor.clone(),
        }
    }

    /// The other entries of the actor.
    fn by_actor(&self) -> String {
        Filter { actor: self.entry.actor.clone(), ..Filter::default() }.link()
    }

    /// The other entries about the target.
    fn about_target(&self) -> String {
        let target = self.entry.target.clone().unwrap_or_default();
        Filter { target, ..Filter::default() }.link()
    }

    /// The other entries of this kind.
    fn of_action(&self) -> String {
        Filter { action: self.entry.action.clone(), ..Filter::default() }.link()
    }
}

/// How far the record is signed.
struct Chain {
    head: AuditHead,
    /// When that was, if the entry that says so is there.
    signed_at: Option<Timestamp>,
    /// How many entries came after it.
    since: u64,
}

async fn chain(state: &State, viewer: &Viewer) -> Result<Option<Chain>, Refusal> {
    let head = match state.bus.request(&GetHead { caller: viewer.caller.clone() }).await {
        Ok(head) => head,
        Err(refusal) if refusal.code == Code::NotFound => return Ok(None),
        Err(refusal) => return Err(refusal),
    };
    // The head is the entry after the one that it covers.
    let own = head.seq.saturating_add(1);
    let (entry, last) = tokio::try_join!(entry(state, viewer, own), list(state, viewer, 1, None))?;
    let last = last.first().map_or(own, |entry| entry.seq);
    Ok(Some(Chain {
        head,
        signed_at: entry.filter(|entry| entry.action == HEAD_SIGNED).map(|entry| entry.at),
        since: last.saturating_sub(own),
    }))
}

async fn list(
    state: &State,
    viewer: &Viewer,
    limit: u32,
    cursor: Option<u64>,
) -> Result<Vec<AuditEntry>, Refusal> {
    let request = ListAudit {
        caller: viewer.caller.clone(),
        actor: None,
        action: None,
        target: None,
        after: None,
        before: None,
        limit,
        cursor,
    };
    Ok(state.bus.request(&request).await?.entries)
}

/// One entry, if there is such a one.
async fn entry(state: &State, viewer: &Viewer, seq: u64) -> Result<Option<AuditEntry>, Refusal> {
    // The worker knows no numbers beyond the database's.
    let Some(cursor) = seq.checked_add(1).filter(|next| i64::try_from(*next).is_ok()) else {
        return Ok(None);
    };
    let entries = list(state, viewer, 1, Some(cursor)).await?;
    Ok(entries.into_iter().next().filter(|entry| entry.seq == seq))
}

#[derive(Template)]
#[template(path = "audit.html")]
struct AuditPage<'a> {
    shell: &'a Shell,
    form: Typed,
    filtered: bool,
    rows: Vec<Row<'a>>,
    /// Actors to choose from: ids and names.
    actors: Vec<(&'a str, &'a str)>,
    /// Actions to choose from.
    actions: BTreeSet<&'a str>,
    chain: Option<&'a Chain>,
    older: Option<String>,
    /// The beginning of what is shown, if this is a further page of it.
    newest: Option<String>,
}

pub(super) async fn show(state: &State, viewer: &Viewer, uri: &Uri) -> Result<Response, Turned> {
    let filter: Filter = Query::try_from_uri(uri).map(|Query(filter)| filter).unwrap_or_default();
    let (form, after, before) = filter.read();
    let request = ListAudit {
        caller: viewer.caller.clone(),
        actor: given(&filter.actor),
        action: given(&filter.action),
        target: given(&filter.target),
        after,
        before,
        limit: ROWS,
        cursor: filter.cursor.parse().ok().filter(|cursor| i64::try_from(*cursor).is_ok()),
    };
    let (found, chain) = tokio::try_join!(state.bus.request(&request), chain(state, viewer))?;
    // A filter that was not understood shows nothing: what it would leave out is not known.
    let entries = if form.is_refused() { Vec::new() } else { found.entries };
    let names = Names::of(state, viewer, &entries).await;
    let rows: Vec<_> = entries.iter().map(|entry| Row::new(entry, &names)).collect();
    let actors: BTreeSet<_> =
        rows.iter().map(|row| (row.entry.actor.as_str(), row.actor.unwrap_or_default())).collect();
    let older = found.next_cursor.filter(|_| !form.is_refused());
    viewer.show(&AuditPage {
        shell: &viewer.shell,
        filtered: filter.is_set(),
        actors: actors.into_iter().collect(),
        actions: rows.iter().map(|row| row.entry.action.as_str()).collect(),
        chain: chain.as_ref(),
        older: older.map(|cursor| Filter { cursor, ..filter.clone() }.link()),
        newest: request.cursor.map(|_| Filter { cursor: String::new(), ..filter.clone() }.link()),
        form,
        rows,
    })
}

#[derive(Template)]
#[template(path = "audit-entry.html")]
struct EntryPage<'a> {
    shell: &'a Shell,
    row: Row<'a>,
    entry: &'a AuditEntry,
    detail: String,
    /// Where its trace is shown, if the operator has said so.
    trace_url: Option<String>,
}

async fn show_entry(
    extract::State(state): extract::State<State>,
    viewer: Viewer,
    Number(seq): Number,
) -> Result<Response, Turned> {
    let entry = entry(&state, &viewer, seq).await?.ok_or_else(Refusal::not_found)?;
    let names = Names::of(&state, &viewer, std::slice::from_ref(&entry)).await;
    let trace_id = entry.trace_id.as_deref();
    viewer.show(&EntryPage {
        shell: &viewer.shell,
        row: Row::new(&entry, &names),
        detail: json::pretty(entry.detail.text()),
        trace_url: state.trace_url.as_ref().and_then(|url| url.of(trace_id?)),
        entry: &entry,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_the_form_are_utc() {
        let at = |text: &str| utc(text).map(|at| at.to_string());
        assert_eq!(at("2026-11-22T17:30").as_deref(), Some("2026-11-22T17:30:00Z"));
        assert_eq!(at("2026-11-22T17:30:05").as_deref(), Some("2026-11-22T17:30:05Z"));
        for text in ["", "2026-11-22", "yesterday", "2026-13-22T17:30", "2026-11-22T17:30+01:00"] {
            assert_eq!(at(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_beside_its_field() {
        let (after, before) = ("yesterday".to_owned(), "2026-11-22T17:30".to_owned());
        let (form, after, before) = Filter { after, before, ..Filter::default() }.read();
        assert!(after.is_none() && before.is_some());
        assert!(
            form.is_refused() && form.wrong("after").is_some() && form.wrong("before").is_none()
        );
        assert_eq!(form.value("after"), "yesterday");
    }

    #[test]
    fn a_link_keeps_the_filter_and_nothing_else() {
        assert_eq!(Filter::default().link(), PAGE);
        let (actor, cursor) = ("a b&c=d".to_owned(), "7".to_owned());
        let link = Filter { actor, cursor, ..Filter::default() }.link();
        assert_eq!(link, format!("{PAGE}&actor=a+b%26c%3Dd&cursor=7"));
    }
}
