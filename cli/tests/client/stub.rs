//! A server that answers as a test wants.

use std::{
    io::{BufRead as _, BufReader, Read, Write},
    net::TcpListener,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use serde_json::{Value, json};

/// Nothing that is sent takes this long.
const PATIENCE: Duration = Duration::from_secs(20);

/// What was asked.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) authorization: String,
    pub(crate) body: Value,
}

impl Request {
    /// `GET /v1/me`
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// What is answered, byte for byte; nothing at all: the connection is closed.
pub(crate) type Answer = Vec<u8>;

pub(crate) fn ok(body: &Value) -> Answer {
    answer("200 OK", "application/json", &body.to_string())
}

pub(crate) fn problem(status: u16, code: &str) -> Answer {
    let body = json!({
        "type": format!("urn:breakglass:problem:{code}"), "title": "It is refused", "status": status,
        "detail": "For a reason.", "code": code, "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    });
    answer(&format!("{status} Refused"), "application/problem+json", &body.to_string())
}

pub(crate) fn answer(status: &str, media_type: &str, body: &str) -> Answer {
    // The time is some days after those in answers, whatever the clock of this machine says.
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\n\
         Date: Wed, 02 Dec 2026 12:00:00 GMT\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// The server.
pub(crate) struct Stub {
    url: String,
    asked: Arc<Mutex<Vec<Request>>>,
}

type Handler = dyn Fn(&Request) -> Answer + Send + Sync;

impl Stub {
    pub(crate) fn start(handler: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        Self::listen(Arc::new(handler), None)
    }

    /// With a certificate of its own making for `localhost`, which it leaves in a folder as `cert.pem`.
    pub(crate) fn start_tls(
        folder: &Path,
        handler: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let made = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
            ])
            .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .args(["-keyout", "key.pem", "-out", "cert.pem"])
            .current_dir(folder)
            .output()
            .expect("openssl runs");
        assert!(made.status.success(), "{made:?}");
        let key = PrivateKeyDer::from_pem_file(folder.join("key.pem")).expect("a key");
        let cert = CertificateDer::from_pem_file(folder.join("cert.pem")).expect("a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![cert], key)
            .expect("a certificate and its key");
        Self::listen(Arc::new(handler), Some(Arc::new(config)))
    }

    fn listen(handler: Arc<Handler>, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let url = match tls {
            Some(_) => format!("https://localhost:{port}"),
            None => format!("http://127.0.0.1:{port}"),
        };
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = asked.clone();
        // Ends with the process.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (handler, heard, tls) = (handler.clone(), heard.clone(), tls.clone());
                thread::spawn(move || {
                    let _ = stream.set_read_timeout(Some(PATIENCE));
                    match tls {
                        None => serve(stream, &*handler, &heard),
                        Some(tls) => {
                            let connection = ServerConnection::new(tls).expect("a connection");
                            serve(StreamOwned::new(connection, stream), &*handler, &heard);
                        }
                    }
                });
            }
        });
        Self { url, asked }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// What was asked so far.
    pub(crate) fn asked(&self) -> Vec<Request> {
        self.asked.lock().expect("nobody panicked").clone()
    }

    /// The same, as lines.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.asked().iter().map(Request::line).collect()
    }
}

/// An address where nobody listens.
pub(crate) fn nobody() -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    format!("http://{}", listener.local_addr().expect("an address"))
}

fn serve(stream: impl Read + Write, handler: &Handler, heard: &Mutex<Vec<Request>>) {
    let mut stream = BufReader::new(stream);
    // A handshake that fails is no request.
    let Some(request) = read(&mut stream) else { return };
    let answer = handler(&request);
    heard.lock().expect("nobody panicked").push(request);
    let stream = stream.get_mut();
    let _ = stream.write_all(&answer).and_then(|()| stream.flush());
}

fn read(stream: &mut BufReader<impl Read>) -> Option<Request> {
    let mut line = String::new();
    stream.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace().map(ToOwned::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let (mut length, mut authorization) = (0, String::new());
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).ok()?;
        match header.trim_end().split_once(": ") {
            None => break,
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.parse().ok()?;
            }
            Some((name, value)) if name.eq_ignore_ascii_case("authorization") => {
                value.clone_into(&mut authorization);
            }
            Some(_) => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    Some(Request { method, path, authorization, body })
}
