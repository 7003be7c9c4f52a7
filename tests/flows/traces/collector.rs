//! A collector of traces: OTLP over HTTP, kept in memory.

use std::sync::{Arc, Mutex};

use axum::{Router, body::Bytes, extract::DefaultBodyLimit, http::StatusCode, routing::post};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value::Value},
    trace::v1::{Span as Exported, span::SpanKind},
};
use prost::Message as _;
use tokio::{net::TcpListener, task::JoinHandle};

/// Takes what services export until it is dropped.
pub(crate) struct Collector {
    pub(crate) endpoint: String,
    received: Arc<Mutex<Vec<Bytes>>>,
    server: JoinHandle<()>,
}

/// A span, as far as flows look at it.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    pub(crate) service: String,
    pub(crate) name: String,
    pub(crate) kind: SpanKind,
    pub(crate) trace_id: String,
    pub(crate) id: String,
    /// Empty: it has none.
    pub(crate) parent: String,
    attributes: Vec<KeyValue>,
}

impl Collector {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let received = Arc::new(Mutex::new(Vec::new()));
        let take = {
            let received = Arc::clone(&received);
            async move |body: Bytes| {
                received.lock().expect("nobody panics with it").push(body);
                StatusCode::OK
            }
        };
        let routes =
            Router::new().route("/v1/traces", post(take)).layer(DefaultBodyLimit::disable());
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let server = tokio::spawn(async move {
            axum::serve(listener, routes).await.expect("it serves until it is dropped");
        });
        Ok(Self { endpoint, received, server })
    }

    /// Everything that came, as it came.
    pub(crate) fn received(&self) -> Vec<Bytes> {
        self.received.lock().expect("nobody panics with it").clone()
    }

    /// All spans that came.
    pub(crate) fn spans(&self) -> anyhow::Result<Vec<Span>> {
        let mut spans = Vec::new();
        for body in self.received() {
            for of_service in ExportTraceServiceRequest::decode(body)?.resource_spans {
                let resource = of_service.resource.unwrap_or_default();
                let service = text(&resource.attributes, "service.name").unwrap_or_default();
                let exported = of_service.scope_spans.into_iter().flat_map(|scope| scope.spans);
                spans.extend(exported.map(|span| Span::new(&service, span)));
            }
        }
        Ok(spans)
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Span {
    fn new(service: &str, span: Exported) -> Self {
        Self {
            service: service.to_owned(),
            kind: span.kind(),
            name: span.name,
            trace_id: hex(&span.trace_id),
            id: hex(&span.span_id),
            parent: hex(&span.parent_span_id),
            attributes: span.attributes,
        }
    }

    /// An attribute that is text.
    pub(crate) fn attribute(&self, key: &str) -> Option<String> {
        text(&self.attributes, key)
    }
}

fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    match &found.value {
        Some(AnyValue { value: Some(Value::StringValue(text)) }) => Some(text.clone()),
        _ => None,
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
