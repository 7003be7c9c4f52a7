//! A client's end of a stream of events.

use std::time::Duration;

use anyhow::Context as _;
use reqwest::{Method, Response, header::HeaderMap};
use serde_json::Value;

use crate::Client;

/// Nothing that a flow waits for takes this long, unless something is broken.
const PATIENCE: Duration = Duration::from_secs(20);
/// A stream may be open for as long as a flow takes.
const OPEN: Duration = Duration::from_mins(10);

/// What came on a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its name; empty where only a comment came.
    pub name: String,
    /// Its id, if it has one.
    pub id: Option<String>,
    /// Its data, as JSON.
    pub data: Value,
}

/// An open stream of events.
pub struct Events {
    response: Response,
    text: Vec<u8>,
}

impl Client {
    /// Opens a stream of events, and takes its first one.
    pub async fn events(&self) -> anyhow::Result<Events> {
        let response = self.request(Method::GET, "/v1/events").timeout(OPEN).send().await?;
        let status = response.status();
        anyhow::ensure!(status == 200, "{status}: {}", response.text().await?);
        let mut events = Events { response, text: Vec::new() };
        let hello = events.next().await?.context("a stream begins")?;
        anyhow::ensure!(hello.name == "hello", "{hello:?}");
        Ok(events)
    }
}

impl Events {
    /// The headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// What comes next, comments aside; nothing: the stream has ended in order.
    pub async fn next(&mut self) -> anyhow::Result<Option<Event>> {
        let next = async {
            loop {
                match self.block().await? {
                    Some(event) if event.name.is_empty() => {}
                    event => return Ok(event),
                }
            }
        };
        tokio::time::timeout(PATIENCE, next).await.context("nothing came")?
    }

    /// What comes next, comments too.
    pub async fn block(&mut self) -> anyhow::Result<Option<Event>> {
        loop {
            if let Some(end) = self.text.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<_> = self.text.drain(..end + 2).collect();
                return Ok(Some(parse(std::str::from_utf8(&block)?)?));
            }
            let Some(chunk) = self.response.chunk().await? else {
                anyhow::ensure!(self.text.is_empty(), "it ended within an event");
                return Ok(None);
            };
            self.text.extend_from_slice(&chunk);
        }
    }

    /// What comes until an event for which `is_it` holds, that one last.
    pub async fn until(&mut self, is_it: impl Fn(&Event) -> bool) -> anyhow::Result<Vec<Event>> {
        let mut came = Vec::new();
        let coming = async {
            loop {
                let event = self.next().await?.context("the stream ended before")?;
                let last = is_it(&event);
                came.push(event);
                if last {
                    return anyhow::Ok(());
                }
            }
        };
        let reached = tokio::time::timeout(PATIENCE, coming).await;
        match reached {
            Ok(Ok(())) => Ok(came),
            Ok(Err(error)) => Err(error.context(format!("after {came:?}"))),
            Err(_) => anyhow::bail!("it never came, but {came:?}"),
        }
    }

    /// The reason with which the stream ends, and nothing after it. What comes before is skipped.
    pub async fn signed_out(&mut self) -> anyhow::Result<String> {
        let last = self.until(|event| event.name == "signed-out").await?.pop();
        let after = self.next().await?;
        anyhow::ensure!(after.is_none(), "after the end came {after:?}");
        let reason = last.and_then(|last| last.data["reason"].as_str().map(str::to_owned));
        reason.context("a reason")
    }
}

impl Event {
    /// Whether it tells of something of this kind.
    #[must_use]
    pub fn tells(&self, kind: &str) -> bool {
        self.name == "change" && self.data["kind"] == kind
    }
}

fn parse(block: &str) -> anyhow::Result<Event> {
    let mut event = Event { name: String::new(), id: None, data: Value::Null };
    for line in block.lines().filter(|line| !line.is_empty()) {
        let (field, value) = line.split_once(':').context("a field")?;
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut event.name),
            "id" => event.id = Some(value.to_owned()),
            "data" => event.data = serde_json::from_str(value)?,
            "retry" | "" => {}
            other => anyhow::bail!("an unknown field {other}"),
        }
    }
    Ok(event)
}
