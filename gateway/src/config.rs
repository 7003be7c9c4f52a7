//! Options of the gateway.

use std::net::SocketAddr;

use clap::Parser;
use shared::{
    bus::BusConfig,
    id::EdgeId,
    runtime::{RuntimeConfig, ServiceConfig},
};

use crate::{
    edge::OnPartition,
    http::{ForwardedHeader, ProxyNetwork, TraceUrl},
};

/// The edge: decides for reverse proxies from memory, and carries the API to the bus.
#[derive(Debug, Clone, Parser)]
#[command(name = "gateway", version)]
pub struct Config {
    /// Name of this edge, unique in the deployment.
    #[arg(long, env = "BREAKGLASS_EDGE")]
    pub edge: EdgeId,
    /// Where it stands, for people.
    #[arg(long, env = "BREAKGLASS_REGION", default_value = "default")]
    pub region: String,
    /// Address to serve HTTP on.
    #[arg(long, env = "BREAKGLASS_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Origin under which browsers reach this gateway, if a proxy changes the Host header.
    /// May be given several times, or separated by commas.
    #[arg(long = "public-origin", env = "BREAKGLASS_PUBLIC_ORIGIN", value_delimiter = ',')]
    pub public_origins: Vec<String>,
    /// Address or network (192.0.2.0/24) of a proxy that is believed when it says for whom it asks. May be given several times, or separated by commas. Without any, whoever
    /// connects is the client.
    #[arg(long = "trusted-proxy", env = "BREAKGLASS_TRUSTED_PROXIES", value_delimiter = ',')]
    pub trusted_proxies: Vec<ProxyNetwork>,
    /// The header in which the trusted proxies say it. Each of them has to write this one.
    #[arg(long, env = "BREAKGLASS_FORWARDED_HEADER", value_enum, default_value_t)]
    pub forwarded_header: ForwardedHeader,
    /// Most failed attempts to sign in, or to prove who one is, in a minute from one address (of IPv6: one
    /// /64 network), on this gateway; 0: any number. Past it the answer is 429.
    #[arg(long, env = "BREAKGLASS_ADDRESS_FAILURES_PER_MINUTE", default_value_t = 100, value_parser = clap::value_parser!(u32).range(..=10_000))]
    pub address_failures_per_minute: u32,
    /// Most sessions kept in memory.
    #[arg(long, env = "BREAKGLASS_CACHED_SESSIONS", default_value_t = 100_000)]
    pub cached_sessions: u64,
    /// What to do while cut off from the workers: `deny`, or `allow-cached=<seconds>`, which goes on
    /// allowing what is cached for so long after the lease. Receipts wait for such an edge as long.
    #[arg(long, env = "BREAKGLASS_ON_PARTITION", default_value = "deny")]
    pub on_partition: OnPartition,
    /// Address of a trace in whatever shows traces (`https://traces.example/trace/{trace_id}`), to which pages
    /// link the entries of the audit record.
    #[arg(long, env = "BREAKGLASS_TRACE_URL")]
    pub trace_url: Option<TraceUrl>,
    /// The bus.
    #[command(flatten)]
    pub bus: BusConfig,
    /// What every service has.
    #[command(flatten)]
    pub runtime: RuntimeConfig,
}

impl ServiceConfig for Config {
    fn runtime(&self) -> &RuntimeConfig {
        &self.runtime
    }

    fn instance(&self) -> String {
        self.edge.to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use shared::runtime::config;

    use super::*;

    #[test]
    fn options_come_from_a_file_too() {
        let file = "edge = 'eu-1'\nlisten = '127.0.0.1:9'\npublic-origin = 'https://a.test'";
        let file = Some((Path::new("gateway.toml"), file));
        let config: Config =
            config::from(&["gateway"], file, &["BREAKGLASS_LOG".into()]).expect("parses");
        assert_eq!(config.edge.to_string(), "eu-1");
        assert_eq!(config.listen, SocketAddr::from(([127, 0, 0, 1], 9)));
        assert_eq!(config.public_origins, ["https://a.test"]);
    }

    #[test]
    fn where_traces_are_is_looked_at_from_the_start() {
        let parse =
            |url: &str| Config::try_parse_from(["gateway", "--edge", "eu-1", "--trace-url", url]);
        assert!(parse("https://traces.test/trace/{trace_id}").is_ok());
        for url in ["https://traces.test/trace/", "javascript:alert('{trace_id}')", "{trace_id}"] {
            let error = parse(url).expect_err(url).to_string();
            assert!(error.contains("--trace-url"), "{error}");
        }
    }
}
