//! One POST to one checked address: no proxy, no redirect, no connection kept, nothing read of the
//! answer but its head.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{
    Request, StatusCode,
    body::Bytes,
    client::conn::http1,
    header::{HOST, HeaderName, HeaderValue, RETRY_AFTER},
};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::AbortHandle,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::target::{Allowed, Target};

/// An attempt takes no longer.
pub(crate) const TOTAL: Duration = Duration::from_secs(10);
/// Resolving a name takes no longer.
const RESOLVE: Duration = Duration::from_secs(3);
/// Connecting to one address takes no longer.
const CONNECT: Duration = Duration::from_secs(4);
/// Most addresses that are tried.
const ADDRESSES: usize = 3;
/// The head of an answer is no longer.
const HEAD: usize = 16 * 1024;

/// Why a request was not answered. Says nothing that the other side has said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PostError {
    #[error("the name was not resolved")]
    Unresolved,
    #[error("the address is not public, and the operator has not allowed it")]
    NotPublic,
    #[error("no connection")]
    Connect,
    #[error("no secure connection: the certificate was not accepted, or there is no TLS")]
    Tls,
    #[error("the answer was not HTTP, or the connection broke")]
    Http,
    #[error("no answer within 10 seconds")]
    TimedOut,
}

/// The head of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// As the receiver asked for it in seconds.
    pub(crate) retry_after: Option<Duration>,
}

/// Sends requests. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Poster {
    tls: TlsConnector,
    allowed: Arc<Allowed>,
}

/// Ends what drives a connection when nobody waits for its answer any more.
struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Poster {
    /// Trusts the certificates that this machine trusts.
    pub(crate) fn new(allowed: Arc<Allowed>) -> Result<Self, rustls::Error> {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        let (_, unfit) = roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            tracing::warn!(unfit, "this machine trusts no certificates: no https:// will work");
        }
        Self::trusting(roots, allowed)
    }

    fn trusting(roots: RootCertStore, allowed: Arc<Allowed>) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: TlsConnector::from(Arc::new(config)), allowed })
    }

    /// Where a target may be connected to, of all that its name resolves to.
    pub(crate) async fn resolve(&self, target: &Target) -> Result<Vec<SocketAddr>, PostError> {
        let found: Vec<SocketAddr> = match &target.host {
            url::Host::Domain(name) => {
                let lookup = tokio::net::lookup_host((name.as_str(), target.port));
                match timeout(RESOLVE, lookup).await {
                    Ok(Ok(found)) => found.collect(),
                    Ok(Err(_)) | Err(_) => return Err(PostError::Unresolved),
                }
            }
            url::Host::Ipv4(address) => vec![(*address, target.port).into()],
            url::Host::Ipv6(address) => vec![(*address, target.port).into()],
        };
        if found.is_empty() {
            return Err(PostError::Unresolved);
        }
        let admitted = |address: &SocketAddr| self.allowed.admits(address.ip(), target.encrypted);
        let admitted: Vec<_> = found.into_iter().filter(admitted).take(ADDRESSES).collect();
        if admitted.is_empty() { Err(PostError::NotPublic) } else { Ok(admitted) }
    }

    /// Sends a body, and waits for the head of the answer.
    pub(crate) async fn post(
        &self,
        target: &Target,
        headers: &[(HeaderName, HeaderValue)],
        body: Vec<u8>,
    ) -> Result<Answer, PostError> {
        let posted = self.post_unbounded(target, headers, body);
        timeout(TOTAL, posted).await.unwrap_or(Err(PostError::TimedOut))
    }

    async fn post_unbounded(
        &self,
        target: &Target,
        headers: &[(HeaderName, HeaderValue)],
        body: Vec<u8>,
    ) -> Result<Answer, PostError> {
        let addresses = self.resolve(target).await?;
        let stream = connect(&addresses).await.map_err(|_| PostError::Connect)?;
        let request = request(target, headers, body).map_err(|_| PostError::Http)?;
        if !target.encrypted {
            return send(stream, request).await;
        }
        let name = match &target.host {
            url::Host::Domain(name) => {
                ServerName::try_from(name.clone()).map_err(|_| PostError::Tls)?
            }
            url::Host::Ipv4(address) => ServerName::from(std::net::IpAddr::from(*address)),
            url::Host::Ipv6(address) => ServerName::from(std::net::IpAddr::from(*address)),
        };
        let stream = self.tls.connect(name, stream).await.map_err(|_| PostError::Tls)?;
        send(stream, request).await
    }
}

async fn connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut last = io::ErrorKind::NotFound.into();
    for address in addresses {
        match timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

fn request(
    target: &Target,
    headers: &[(HeaderName, HeaderValue)],
    body: Vec<u8>,
) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
    let path = &target.url[url::Position::BeforePath..url::Position::AfterQuery];
    let host = &target.url[url::Position::BeforeHost..url::Position::AfterPort];
    let mut request = Request::post(path).header(HOST, host);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    request.body(Full::new(body.into()))
}

async fn send<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Answer, PostError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|_| PostError::Http)?;
    let _driver = Driver(tokio::spawn(async move { drop(connection.await) }).abort_handle());
    let response = sender.send_request(request).await.map_err(|_| PostError::Http)?;
    let retry_after = response.headers().get(RETRY_AFTER);
    let retry_after = retry_after.and_then(|value| value.to_str().ok()?.trim().parse().ok());
    Ok(Answer { status: response.status(), retry_after: retry_after.map(Duration::from_secs) })
}

#[cfg(test)]
mod tests {
    use rustls::{
        ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    };
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// For 127.0.0.1, signed by itself, until 2126.
    const CERTIFICATE: &[u8] = include_bytes!("../../tests/receiver.pem");
    const KEY: &[u8] = include_bytes!("../../tests/receiver-key.pem");

    fn certificate() -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(CERTIFICATE).expect("a certificate")
    }

    fn poster(roots: RootCertStore) -> Poster {
        let allowed = Allowed(vec!["127.0.0.0/8".parse().expect("a network")]);
        Poster::trusting(roots, Arc::new(allowed)).expect("a configuration")
    }

    fn trusted() -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(certificate()).expect("a root");
        roots
    }

    /// A server that answers one request over TLS; gives its port and what it was asked.
    async fn receiver(answer: &'static str) -> (u16, tokio::task::JoinHandle<String>) {
        let key = PrivateKeyDer::from_pem_slice(KEY).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate()], key)
            .expect("a pair");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let serving = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("a connection");
            let Ok(mut stream) = TlsAcceptor::from(Arc::new(config)).accept(stream).await else {
                return String::new();
            };
            let mut asked = Vec::new();
            while !asked.ends_with(b"the body") {
                let mut bytes = [0; 1_024];
                let length = stream.read(&mut bytes).await.expect("bytes");
                assert!(length > 0, "it broke off");
                asked.extend_from_slice(&bytes[..length]);
            }
            stream.write_all(answer.as_bytes()).await.expect("taken");
            String::from_utf8(asked).expect("text")
        });
        (port, serving)
    }

    async fn post(poster: &Poster, url: &str) -> Result<Answer, PostError> {
        let target = Target::parse(url, &poster.allowed).expect("a target");
        poster.post(&target, &[], b"the body".to_vec()).await
    }

    #[tokio::test]
    async fn a_request_goes_over_tls_to_whom_the_certificate_names() {
        let answer = "HTTP/1.1 429 no\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n";
        let (port, serving) = receiver(answer).await;
        let url = format!("https://127.0.0.1:{port}/a?b=c");
        let answer = post(&poster(trusted()), &url).await.expect("an answer");
        assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(answer.retry_after, Some(Duration::from_secs(7)));
        let asked = serving.await.expect("it served");
        assert!(asked.starts_with("POST /a?b=c HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains(&format!("host: 127.0.0.1:{port}\r\n")), "{asked}");

        // Another name for the same machine, and a certificate that nobody trusts.
        let (port, _) = receiver("").await;
        let url = format!("https://localhost:{port}/");
        let refused = post(&poster(trusted()), &url).await;
        assert!(matches!(refused, Err(PostError::Tls)), "{refused:?}");
        let (port, _) = receiver("").await;
        let url = format!("https://127.0.0.1:{port}/");
        let refused = post(&poster(RootCertStore::empty()), &url).await;
        assert!(matches!(refused, Err(PostError::Tls)), "{refused:?}");
    }

    #[tokio::test]
    async fn what_is_no_http_is_no_answer() {
        for answer in ["", "SSH-2.0-x\r\n", "HTTP/1.1 200"] {
            let (port, _) = receiver(answer).await;
            let url = format!("https://127.0.0.1:{port}/");
            let refused = post(&poster(trusted()), &url).await;
            assert!(matches!(refused, Err(PostError::Http)), "{answer:?}: {refused:?}");
        }
    }

    #[tokio::test]
    async fn a_name_is_checked_by_what_it_resolves_to() {
        let allowed = Arc::new(Allowed::default());
        let poster = Poster::trusting(trusted(), allowed.clone()).expect("a configuration");
        let mut target = Target::parse("https://name.test/", &allowed).expect("a target");
        // What a resolver says of this name is known.
        target.host = url::Host::Domain("localhost".to_owned());
        let refused = poster.post(&target, &[], Vec::new()).await;
        assert_eq!(refused.err(), Some(PostError::NotPublic));
    }
}
