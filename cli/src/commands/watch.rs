//! A live view of what is active and pending.
//!
//! In a terminal it is drawn over, each second; elsewhere each change is a line. The server is asked
//! every two seconds, in a thread of its own, so that the seconds go on while it takes its time.

use std::{
    collections::HashMap,
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    thread,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::{
    api::Api,
    args,
    context::Context,
    failure::{Exit, Failure},
    grant::{self, short},
    harmless,
    message::{Grant, Me, OneGrant, Text},
    pick,
    table::cut,
    terminal::{self, Style, Terminal},
    when::{self, Since},
};

/// How often the server is asked.
const ASK: Duration = Duration::from_secs(2);
/// How often the view is drawn anew.
const TICK: Duration = Duration::from_secs(1);
/// How many are shown at most, of either kind.
const MOST: usize = 200;
/// How many that have ended are shown, and for how long.
const ENDED: usize = 5;
const ENDED_FOR: Duration = Duration::from_mins(5);

/// What is live at a moment.
struct Seen {
    live: Vec<(Value, Grant)>,
    /// What was live the last time, as it is now.
    gone: Vec<(Value, Grant)>,
    now: Timestamp,
}

type Asked = Result<Seen, Failure>;

pub(super) fn watch(context: &Context, how: &args::Watch) -> Result<Exit, Failure> {
    let mut api = context.api()?;
    let me: Me = api.get("/v1/me")?.read()?;
    let (sender, asked) = sync_channel(1);
    thread::spawn(move || ask(&mut api, &sender));
    if context.terminal.live && !context.global.json {
        let title = format!("Emergency access at {}", me.tenant.name);
        View::new(context.terminal, title, me.user.id.raw().to_owned(), how.bell).run(&asked)
    } else {
        lines(context.global.json, &asked)
    }
}

/// Asks until nobody listens any more.
fn ask(api: &mut Api, listener: &SyncSender<Asked>) {
    let mut before: HashMap<String, Grant> = HashMap::new();
    loop {
        let seen = look(api, &before);
        if let Ok(seen) = &seen {
            before = seen
                .live
                .iter()
                .map(|(_, grant)| (grant.id.raw().to_owned(), grant.clone()))
                .collect();
        }
        if listener.send(seen).is_err() {
            return;
        }
        thread::sleep(ASK);
    }
}

fn look(api: &mut Api, before: &HashMap<String, Grant>) -> Asked {
    let mut listed = pick::list(api, Some("pending"), "", MOST)?;
    listed.grants.extend(pick::list(api, Some("active"), "", MOST)?.grants);
    let mut live: Vec<(Value, Grant)> = Vec::new();
    for (value, grant) in listed.grants.iter().zip(listed.grants()?) {
        // One that was activated between the two questions is in both answers.
        live.retain(|(_, other)| other.id != grant.id);
        live.push((value.clone(), grant));
    }
    let mut gone = Vec::new();
    for (id, grant) in before {
        if !live.iter().any(|(_, grant)| grant.id.raw() == id) {
            match api.get(&format!("/v1/emergency/grants/{id}")) {
                // How others' ended is not for everybody; that it did is.
                Err(refused) if refused.code() == Some("not-found") => {
                    gone.push((Value::Null, Grant { state: Text::from("over"), ..grant.clone() }));
                }
                answer => {
                    let answer = answer?;
                    let grant = answer.read::<OneGrant>()?.grant;
                    gone.push((answer.body["grant"].clone(), grant));
                }
            }
        }
    }
    Ok(Seen { live, gone, now: api.now() })
}

/// Whether asking again may help.
fn passes(failure: &Failure) -> bool {
    matches!(failure.exit(), Exit::Unreachable)
}

/// What has to change for a line.
#[derive(PartialEq, Eq)]
struct Shown(String, usize, Option<Timestamp>);

impl Shown {
    fn of(grant: &Grant) -> Self {
        Self(grant.state.raw().to_owned(), grant.approvals.len(), grant.expires_at)
    }
}

/// Each change as a line, until the reader leaves.
fn lines(json: bool, asked: &Receiver<Asked>) -> Result<Exit, Failure> {
    let mut shown: HashMap<String, Shown> = HashMap::new();
    let mut silent = false;
    while let Ok(seen) = asked.recv() {
        let seen = match seen {
            Err(failure) if passes(&failure) => {
                if !silent {
                    failure.report(false);
                    terminal::note("Trying again …");
                }
                silent = true;
                continue;
            }
            seen => seen?,
        };
        if silent {
            terminal::note("The server answers again.");
            silent = false;
        }
        for (value, grant) in seen.gone.iter().chain(&seen.live) {
            let state = Shown::of(grant);
            if shown.get(grant.id.raw()) == Some(&state) {
                continue;
            }
            match (json, value) {
                (true, Value::Null) => {}
                (true, value) => terminal::print(&harmless::json(&value.to_string()))?,
                (false, _) => terminal::print(&line(grant, seen.now))?,
            }
            if grant.is_live() {
                shown.insert(grant.id.raw().to_owned(), state);
            } else {
                shown.remove(grant.id.raw());
            }
        }
    }
    Ok(Exit::Done)
}

fn line(grant: &Grant, now: Timestamp) -> String {
    let what = if grant.is_live() {
        format!("{}  {}  {}", grant.role, grant.standing(now), grant::reason(grant))
    } else {
        how_it_ended(grant)
    };
    let (at, id) = (when::local(now, now), short(&grant.id));
    let (state, who) = (grant.state.to_string(), &grant.user.email);
    format!("{at}  {id}  {state:<7}  {who}  {what}")
}

/// `by max@acme.test: Rolled back`
fn how_it_ended(grant: &Grant) -> String {
    let by = grant.ended_by.as_ref().map(|by| format!("by {}", by.email));
    let parts = [by, grant.end_reason.as_ref().map(ToString::to_string)];
    parts.into_iter().flatten().collect::<Vec<_>>().join(": ")
}

/// What is drawn.
struct View {
    terminal: Terminal,
    title: String,
    me: String,
    bell: bool,
    live: Vec<Grant>,
    ended: Vec<(Since, Grant)>,
    now: Option<(Timestamp, Since)>,
    trouble: Option<String>,
    drawn: usize,
    size: (Option<usize>, Option<usize>),
}

impl View {
    fn new(terminal: Terminal, title: String, me: String, bell: bool) -> Self {
        Self {
            terminal,
            title,
            me,
            bell,
            live: Vec::new(),
            ended: Vec::new(),
            now: None,
            trouble: None,
            drawn: 0,
            size: (terminal::width(), terminal::height()),
        }
    }

    fn run(&mut self, asked: &Receiver<Asked>) -> Result<Exit, Failure> {
        loop {
            match asked.recv_timeout(TICK) {
                Ok(Ok(seen)) => self.take(seen)?,
                Ok(Err(failure)) if passes(&failure) => self.trouble = Some(trouble(&failure)),
                Ok(Err(failure)) => return Err(failure),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(Exit::Done),
            }
            self.draw()?;
        }
    }

    fn take(&mut self, seen: Seen) -> Result<(), Failure> {
        let live: Vec<Grant> = seen.live.into_iter().map(|(_, grant)| grant).collect();
        let is_news = |grant: &Grant| {
            grant.is_pending()
                && grant.user.id.raw() != self.me
                && !self.live.iter().any(|known| known.id == grant.id)
        };
        if self.bell && self.now.is_some() && live.iter().any(is_news) {
            terminal::draw("\x07")?;
        }
        self.ended.extend(seen.gone.into_iter().map(|(_, grant)| (Since::now(), grant)));
        self.live = live;
        self.now = Some((seen.now, Since::now()));
        self.trouble = None;
        Ok(())
    }

    fn draw(&mut self) -> Result<(), Failure> {
        let Some((then, since)) = self.now else { return Ok(()) };
        let elapsed = since.elapsed();
        let now = then + SignedDuration::from_secs(elapsed.as_secs().cast_signed());
        self.ended.retain(|(since, _)| since.elapsed() < ENDED_FOR);
        let surplus = self.ended.len().saturating_sub(ENDED);
        self.ended.drain(..surplus);
        let size = (terminal::width(), terminal::height());
        let text = self.text(now, elapsed.as_secs(), size);
        let mut drawing = match self.drawn {
            _ if size != self.size => "\x1b[2J\x1b[H".to_owned(),
            0 => String::new(),
            lines => format!("\x1b[{lines}A\r"),
        };
        // What is too long is cut off: a line that is broken could not be drawn over.
        drawing.push_str("\x1b[?7l");
        for line in text.lines() {
            drawing.push_str(line);
            drawing.push_str("\x1b[K\n");
        }
        drawing.push_str("\x1b[J\x1b[?7h");
        self.drawn = text.lines().count();
        self.size = size;
        terminal::draw(&drawing)
    }

    fn text(
        &self,
        now: Timestamp,
        elapsed: u64,
        (width, height): (Option<usize>, Option<usize>),
    ) -> String {
        let columns = width.unwrap_or(80);
        let mut live = self.live.clone();
        for grant in &mut live {
            grant.remaining_seconds =
                grant.remaining_seconds.map(|left| left.saturating_sub(elapsed));
        }
        let head = format!("{}, {}", self.title, when::local(now, now));
        let mut lines =
            vec![self.terminal.paint(Style::Strong, &cut(&head, columns)), String::new()];
        if live.is_empty() {
            lines.push("Nothing is active or pending.".to_owned());
        } else {
            // All of it stays on the screen, or it could not be drawn over.
            let others = 8 + self.ended.len();
            let room = height.unwrap_or(24).saturating_sub(others).max(3);
            let hidden = live.len().saturating_sub(room);
            live.truncate(room);
            let table = grant::table(&live, self.terminal, now, width);
            lines.extend(table.lines().map(ToOwned::to_owned));
            if hidden > 0 {
                lines.push(format!("and {hidden} more"));
            }
        }
        if !self.ended.is_empty() {
            lines.push(String::new());
            for (_, grant) in &self.ended {
                lines.push(self.terminal.paint(Style::Faint, &cut(&ended(grant, now), columns)));
            }
        }
        lines.push(String::new());
        let trouble = self.trouble.as_ref().map(|trouble| {
            self.terminal.paint(
                Style::Bad,
                &cut(&format!("{} old: {trouble}", when::duration(elapsed)), columns),
            )
        });
        lines.push(trouble.unwrap_or_else(|| self.terminal.paint(Style::Faint, "Ctrl-C to leave")));
        lines.join("\n")
    }
}

fn ended(grant: &Grant, now: Timestamp) -> String {
    let at = grant.ended_at.map(|end| when::local(end, now)).unwrap_or_default();
    let (id, how) = (short(&grant.id), how_it_ended(grant));
    format!("{id}  {}  {} {at} {how}", grant.user.email, grant.state)
}

fn trouble(failure: &Failure) -> String {
    match failure {
        Failure::Unreachable(what) => what.lines().next().unwrap_or_default().to_owned(),
        Failure::Refused(problem) => harmless::line(&problem.title),
        _ => "no answer".to_owned(),
    }
}
