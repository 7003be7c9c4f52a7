//! How each service is called: the one place that knows their flags.

use std::{
    collections::HashMap,
    ffi::OsString,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use secrecy::{ExposeSecret, SecretString};
use shared::{id::EdgeId, subject::Identity};

use crate::{
    keys::{Key, WorkerKeys},
    process::{Launch, Orphaned, Signal},
};

/// The kinds of worker.
pub const WORKERS: [Identity; 3] =
    [Identity::SessionWorker, Identity::GrantWorker, Identity::ExpiryWorker];

/// The program of each kind of service.
pub(crate) const PROGRAMS: [&str; 4] =
    ["gateway", "session-worker", "grant-worker", "expiry-worker"];

/// What all services of a stack have in common.
#[derive(Debug)]
pub(crate) struct Surroundings<'a> {
    pub(crate) bin_dir: &'a Path,
    pub(crate) nats_url: &'a str,
    pub(crate) prefix: &'a str,
    pub(crate) otlp_endpoint: Option<&'a str>,
    pub(crate) log_format: &'a str,
    pub(crate) database_url: &'a SecretString,
    pub(crate) keys: &'a WorkerKeys,
    pub(crate) extra_flags: &'a HashMap<String, Vec<String>>,
}

/// The edge with a number, counted from 1.
pub(crate) fn edge(number: u16) -> Identity {
    let id = EdgeId::try_from(format!("gateway-{number}"));
    Identity::Gateway(id.expect("digits may be in an edge id"))
}

/// `local-a` to `local-z`, then `local-27` and so on.
fn region(number: u16) -> String {
    match number {
        1..=26 => {
            format!("local-{}", (b'a'..=b'z').nth(usize::from(number) - 1).map_or('z', char::from))
        }
        _ => format!("local-{number}"),
    }
}

/// How to run the edge with a number.
pub(crate) fn gateway(
    around: &Surroundings<'_>,
    number: u16,
    key: &Key,
    port: u16,
    log: PathBuf,
) -> Launch {
    let identity = edge(number);
    let mut launch = service(around, "gateway", key, log);
    let place = ["--edge", identity.name(), "--region", &region(number)].map(OsString::from);
    launch.args.extend(place);
    launch.args.extend(["--listen".into(), address(port).to_string().into()]);
    add_extra_flags(&mut launch, around, identity.name());
    launch
}

/// How to run a worker.
pub(crate) fn worker(
    around: &Surroundings<'_>,
    identity: &Identity,
    key: &Key,
    health_port: u16,
    log: PathBuf,
) -> Launch {
    let name = identity.name();
    let mut launch = service(around, name, key, log);
    launch.args.extend(["--health-listen".into(), address(health_port).to_string().into()]);
    launch.env = vec![("BREAKGLASS_DATABASE_URL", around.database_url.expose_secret().into())];
    if *identity == Identity::SessionWorker {
        launch.args.extend(around.keys.flags());
    }
    if *identity == Identity::GrantWorker {
        launch.args.extend(["--webhook-keys".into(), around.keys.webhook_keys.clone().into()]);
    }
    add_extra_flags(&mut launch, around, name);
    launch
}

/// An address of this machine alone.
pub(crate) fn address(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn service(around: &Surroundings<'_>, program: &str, key: &Key, log: PathBuf) -> Launch {
    let mut args: Vec<OsString> = vec!["--nats-url".into(), around.nats_url.into()];
    args.extend(["--nats-nkey-file".into(), key.path.clone().into()]);
    args.extend(["--subject-prefix".into(), around.prefix.into()]);
    if let Some(endpoint) = around.otlp_endpoint {
        args.extend(["--otlp-endpoint".into(), endpoint.into()]);
    }
    args.extend(["--log-format".into(), around.log_format.into(), "--exit-with-parent".into()]);
    Launch {
        program: around.bin_dir.join(program),
        args,
        env: Vec::new(),
        log,
        dir: "/".into(),
        user: None,
        leash: true,
        orphaned: Orphaned::Kill,
        stop: Signal::TERM,
        // Longer than a service takes at worst: its drain of `runtime::SHUTDOWN`, then the flush.
        grace: Duration::from_secs(15),
    }
}

fn add_extra_flags(launch: &mut Launch, around: &Surroundings<'_>, name: &str) {
    let flags = around.extra_flags.get(name).into_iter().flatten();
    launch.args.extend(flags.map(OsString::from));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(launch: &Launch) -> String {
        launch.args.join(&OsString::from(" ")).into_string().expect("it is text")
    }

    #[test]
    fn services_are_called_as_they_expect() {
        let url = SecretString::from("postgres://secret");
        let extra = HashMap::from([("gateway-2".to_owned(), vec!["--more".to_owned()])]);
        let around = Surroundings {
            bin_dir: Path::new("/bin-dir"),
            nats_url: "nats://n",
            prefix: "p",
            otlp_endpoint: Some("http://o"),
            log_format: "text",
            keys: &WorkerKeys {
                secret_keys: "/keys/s".into(),
                audit_key: "/keys/a".into(),
                webhook_keys: "/keys/w".into(),
            },
            database_url: &url,
            extra_flags: &extra,
        };
        let key = Key { path: "/k.nk".into(), public: "U".into() };
        let gateway = gateway(&around, 2, &key, 8081, "/log".into());
        assert_eq!(gateway.program, Path::new("/bin-dir/gateway"));
        let common = "--nats-url nats://n --nats-nkey-file /k.nk --subject-prefix p \
                      --otlp-endpoint http://o --log-format text --exit-with-parent";
        let own = "--edge gateway-2 --region local-b --listen 127.0.0.1:8081 --more";
        assert_eq!(args(&gateway), format!("{common} {own}"));
        assert!(gateway.env.is_empty(), "an edge has no database");

        let worker = worker(&around, &Identity::GrantWorker, &key, 9000, "/log".into());
        assert_eq!(worker.program, Path::new("/bin-dir/grant-worker"));
        let own = "--health-listen 127.0.0.1:9000 --webhook-keys /keys/w";
        assert_eq!(args(&worker), format!("{common} {own}"));
        assert!(!args(&worker).contains("secret"), "arguments are public");
        assert_eq!(worker.env, [("BREAKGLASS_DATABASE_URL", "postgres://secret".into())]);
    }

    #[test]
    fn regions_go_on_after_z() {
        assert_eq!(
            (region(1), region(26), region(27)),
            ("local-a".into(), "local-z".into(), "local-27".into())
        );
    }
}
