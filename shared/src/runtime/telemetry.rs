//! Structured logs on standard error, traces over OTLP where an endpoint is configured.

use std::time::Duration;

use anyhow::Context as _;
use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SdkTracerProvider},
};
use tracing_subscriber::{
    EnvFilter, Layer as _, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

/// Logs and traces.
#[derive(Debug, Clone, clap::Args)]
pub struct TelemetryConfig {
    /// Where traces go: an OTLP endpoint over HTTP, such as <http://localhost:4318>.
    #[arg(long, env = "BREAKGLASS_OTLP_ENDPOINT")]
    pub otlp_endpoint: Option<String>,
    /// How logs are written.
    #[arg(long, env = "BREAKGLASS_LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,
    /// What is logged, as a filter of tracing-subscriber.
    #[arg(long, env = "BREAKGLASS_LOG", default_value = "info,async_nats=warn")]
    pub log: String,
}

/// How logs are written.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

pub(super) struct Telemetry(SdkTracerProvider);

pub(super) fn start(
    service: &'static str,
    instance: String,
    config: &TelemetryConfig,
) -> anyhow::Result<Telemetry> {
    let resource = Resource::builder_empty()
        .with_attributes([
            KeyValue::new("service.name", service),
            KeyValue::new("service.instance.id", instance),
            KeyValue::new("service.namespace", "breakglass"),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        ])
        .build();
    // A client's own `traceparent` does not decide whether its attempt is traced. What goes nowhere is
    // not kept: then spans have ids, for the audit record and for what they call, and nothing else.
    let sampler =
        if config.otlp_endpoint.is_some() { Sampler::AlwaysOn } else { Sampler::AlwaysOff };
    let mut provider = SdkTracerProvider::builder().with_resource(resource).with_sampler(sampler);
    if let Some(endpoint) = &config.otlp_endpoint {
        let exporter = SpanExporter::builder()
            .with_http()
            .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
            .with_timeout(Duration::from_secs(5))
            .build()
            .with_context(|| format!("cannot export traces to {endpoint}"))?;
        provider = provider.with_batch_exporter(exporter);
    }
    let provider = provider.build();

    let filter: EnvFilter = config.log.parse().context("the log filter does not parse")?;
    let format = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let format = match config.log_format {
        LogFormat::Json => format.json().flatten_event(true).boxed(),
        LogFormat::Text => format.compact().with_ansi(false).boxed(),
    };
    // Traces take what is of interest to operators, whatever the logs show.
    let traces = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("breakglass"))
        .with_location(false)
        .with_threads(false)
        .with_filter(EnvFilter::new("info"));
    tracing_subscriber::registry().with(format.with_filter(filter)).with(traces).init();
    Ok(Telemetry(provider))
}

impl Telemetry {
    /// Sends what is left, for a short time.
    pub(super) fn stop(self) {
        if let Err(error) = self.0.shutdown_with_timeout(Duration::from_secs(2)) {
            tracing::debug!(%error, "traces not flushed");
        }
    }
}
