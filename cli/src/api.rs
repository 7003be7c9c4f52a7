//! One way to ask a gateway, with time limits and without ever sending the token elsewhere.

use std::{io, time::Duration};

use jiff::{SignedDuration, Timestamp, fmt::rfc2822};
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::{
    Agent, Body,
    http::{Method, Request, Response, header},
    tls::{Certificate, RootCerts, TlsConfig},
};

use crate::{
    failure::{Failure, Problem},
    harmless,
    server::Server,
    when,
};

/// To find a server and to be connected to it.
const CONNECT: Duration = Duration::from_secs(5);
/// For one answer. Those that wait for every edge take seconds where one is cut off.
const ANSWER: Duration = Duration::from_secs(30);
/// No answer is nearly as large, in bytes.
const LARGEST: u64 = 16 * 1024 * 1024;
/// What to say where nobody knows whether a change was made.
const PERHAPS: &str =
    "It may have happened all the same: look before you try again (breakglass list).";
/// Clocks that differ by less show the same times.
const SAME_CLOCK: SignedDuration = SignedDuration::from_secs(2);

/// Gateways, tried in turn, and whom to ask them as.
#[derive(Debug)]
pub(crate) struct Api {
    agent: Agent,
    /// For this machine, past any proxy.
    direct: Agent,
    servers: Vec<Server>,
    token: Option<SecretString>,
    /// How far the server's clock is ahead of ours.
    skew: SignedDuration,
}

/// What a gateway answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) body: Value,
}

impl Answer {
    /// The answer as what it should be.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        T::deserialize(&self.body).map_err(|error| {
            Failure::other(format!(
                "The server's answer is not what this version of breakglass knows: {error}."
            ))
        })
    }
}

impl Api {
    /// Fails where a token would travel in clear, unless that is wanted.
    pub(crate) fn new(
        servers: Vec<Server>,
        token: Option<SecretString>,
        allow_http: bool,
    ) -> Result<Self, Failure> {
        if let Some(open) = servers.iter().find(|server| !server.is_private() && !allow_http) {
            return Err(Failure::usage(format!(
                "{open} is not encrypted: password and token could be read on the way.\n\
                 Use https, or --allow-http if you are sure that nobody can read along."
            )));
        }
        let encrypted = servers.iter().any(|server| server.to_string().starts_with("https:"));
        let roots = if encrypted { roots()? } else { RootCerts::new_with_certs(&[]) };
        let config = || {
            Agent::config_builder()
                .http_status_as_error(false)
                .max_redirects(0)
                .max_redirects_will_error(false)
                .timeout_resolve(Some(CONNECT))
                .timeout_connect(Some(CONNECT))
                .timeout_global(Some(ANSWER))
                // A connection that was kept may have been closed meanwhile, and then nobody knows
                // whether a change was made.
                .max_idle_connections(0)
                .user_agent(concat!("breakglass/", env!("CARGO_PKG_VERSION")))
                .tls_config(TlsConfig::builder().root_certs(roots.clone()).build())
        };
        Ok(Self {
            agent: config().build().into(),
            direct: config().proxy(None).build().into(),
            servers,
            token,
            skew: SignedDuration::ZERO,
        })
    }

    /// The server's time.
    pub(crate) fn now(&self) -> Timestamp {
        when::now() + self.skew
    }

    pub(crate) fn get(&mut self, path: &str) -> Result<Answer, Failure> {
        self.send(&Method::GET, path, None)
    }

    pub(crate) fn post(&mut self, path: &str, body: &Value) -> Result<Answer, Failure> {
        self.send(&Method::POST, path, Some(body))
    }

    pub(crate) fn delete(&mut self, path: &str) -> Result<Answer, Failure> {
        self.send(&Method::DELETE, path, None)
    }

    /// Asks the servers in turn until one has been reached. A change is asked for again only where it
    /// cannot have been made.
    fn send(
        &mut self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, Failure> {
        let mut unreachable = Vec::new();
        let mut fenced = None;
        for at in 0..self.servers.len() {
            let server = self.servers[at].clone();
            match self.ask(&server, method, path, body) {
                Ok(response) => match self.answer(&server, response) {
                    // It decided nothing.
                    Err(refused) if refused.code() == Some("edge-fenced") => fenced = Some(refused),
                    answer => {
                        // The next question goes to who answers.
                        self.servers.swap(0, at);
                        return answer;
                    }
                },
                Err(error) => {
                    unreachable.push(format!("{server} {}.", describe(&error)));
                    if is_distrust(&error) {
                        break;
                    }
                    if !(method.is_safe() || was_not_asked(&error)) {
                        unreachable.push(PERHAPS.to_owned());
                        break;
                    }
                }
            }
        }
        Err(fenced.unwrap_or_else(|| Failure::Unreachable(unreachable.join("\n"))))
    }

    fn ask(
        &self,
        server: &Server,
        method: &Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response<Body>, ureq::Error> {
        let mut request = Request::builder()
            .method(method)
            .uri(server.url(path))
            .header(header::ACCEPT, "application/json");
        if let Some(token) = &self.token {
            let mut value =
                header::HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()))
                    .map_err(ureq::http::Error::from)?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        let agent = if server.is_loopback() { &self.direct } else { &self.agent };
        match body {
            Some(body) => {
                let request = request.header(header::CONTENT_TYPE, "application/json");
                agent.run(request.body(body.to_string())?)
            }
            None => agent.run(request.body(())?),
        }
    }

    fn answer(&mut self, server: &Server, mut response: Response<Body>) -> Result<Answer, Failure> {
        let (status, headers) = (response.status(), response.headers().clone());
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        if let Some(date) = text(header::DATE).and_then(|date| rfc2822::parse(date).ok()) {
            let skew = date.timestamp().duration_since(when::now());
            self.skew = if skew.abs() < SAME_CLOCK { SignedDuration::ZERO } else { skew };
        }
        if status.is_redirection() {
            let to = harmless::line(text(header::LOCATION).unwrap_or("somewhere else"));
            return Err(Failure::other(format!(
                "{server} sends us to {to}, where the token does not go by itself.\n\
                 If that is the right address, sign in there: breakglass sign-in --server URL"
            )));
        }
        let read = response.body_mut().with_config().limit(LARGEST).read_to_vec();
        let bytes = read.map_err(|error| {
            Failure::Unreachable(format!(
                "{server} broke off its answer, it {}.\n{PERHAPS}",
                describe(&error)
            ))
        })?;
        let body = match bytes.as_slice() {
            b"" => Some(Value::Null),
            bytes => serde_json::from_slice(bytes).ok(),
        };
        if status.is_success() {
            let body = body.ok_or_else(|| {
                Failure::other(format!(
                    "What answers at {server} is not Breakglass. Is the address right?"
                ))
            })?;
            return Ok(Answer { body });
        }
        let body = body.unwrap_or_default();
        let mut problem = Problem::deserialize_lenient(&body);
        problem.status = status.as_u16();
        problem.retry_after = text(header::RETRY_AFTER).and_then(|after| after.parse().ok());
        if problem.title.is_empty() {
            problem.title = format!("{server} answered {status}");
        }
        problem.body = body;
        Err(Failure::Refused(Box::new(problem)))
    }
}

/// Who may vouch for a server: whom this system trusts, a company's own authority included.
fn roots() -> Result<RootCerts, Failure> {
    let found = rustls_native_certs::load_native_certs();
    let roots: Vec<_> =
        found.certs.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    if roots.is_empty() {
        return Err(Failure::other(
            "This system has no certificates to check a server's by. Install `ca-certificates`, or set \
             SSL_CERT_FILE.",
        ));
    }
    Ok(RootCerts::new_with_certs(&roots))
}

/// Whether it failed before anything was asked.
fn was_not_asked(error: &ureq::Error) -> bool {
    use io::ErrorKind::{
        AddrNotAvailable, ConnectionRefused, HostUnreachable, NetworkDown, NetworkUnreachable,
    };
    match error {
        ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed
        | ureq::Error::Timeout(ureq::Timeout::Resolve | ureq::Timeout::Connect) => true,
        ureq::Error::Io(error) => {
            matches!(
                error.kind(),
                AddrNotAvailable
                    | ConnectionRefused
                    | HostUnreachable
                    | NetworkDown
                    | NetworkUnreachable
            )
        }
        _ => false,
    }
}

/// Whether somebody answered who could not show who they are. That is found out before anything is sent.
fn is_distrust(error: &ureq::Error) -> bool {
    let error = match error {
        ureq::Error::Rustls(error) => Some(error),
        ureq::Error::Io(error) => error.get_ref().and_then(|error| error.downcast_ref()),
        _ => None,
    };
    matches!(error, Some(rustls::Error::InvalidCertificate(_)))
}

/// What a server did instead of answering.
fn describe(error: &ureq::Error) -> String {
    match error {
        ureq::Error::HostNotFound => "has no address: its name is not known here".to_owned(),
        ureq::Error::ConnectionFailed => "cannot be reached".to_owned(),
        ureq::Error::Timeout(ureq::Timeout::Resolve | ureq::Timeout::Connect) => {
            format!("could not be reached within {} s", CONNECT.as_secs())
        }
        ureq::Error::Timeout(_) => format!("has not answered within {} s", ANSWER.as_secs()),
        ureq::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            "does not accept connections".to_owned()
        }
        error if is_distrust(error) => {
            format!("is not trusted, nothing was sent: {}", harmless::line(&error.to_string()))
        }
        error => format!("failed: {}", harmless::line(&error.to_string())),
    }
}
