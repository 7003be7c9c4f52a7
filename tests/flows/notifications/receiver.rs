//! Whoever is told: an HTTP server and a mail server that keep what they get.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, StatusCode},
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// A request that came.
#[derive(Debug, Clone)]
pub(super) struct Received {
    pub(super) headers: HeaderMap,
    pub(super) bytes: Bytes,
    pub(super) body: Value,
}

impl Received {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub(super) fn id(&self) -> &str {
        self.header("webhook-id")
    }

    pub(super) fn kind(&self) -> &str {
        self.body["type"].as_str().unwrap_or_default()
    }

    /// Whether one of the signatures is that of a secret, by RFC 2104 step by step.
    pub(super) fn is_signed_with(&self, secret: &str) -> bool {
        let key = secret.strip_prefix("whsec_").expect("a secret");
        let key = BASE64.decode(key).expect("base64");
        assert!(key.len() <= 64, "a key fits into a block");
        let pad = |with: u8| {
            let mut block = [with; 64];
            for (byte, key) in block.iter_mut().zip(&key) {
                *byte ^= key;
            }
            block
        };
        let signed = [self.id(), ".", self.header("webhook-timestamp"), "."].concat();
        let inner = Sha256::new_with_prefix(pad(0x36))
            .chain_update(signed)
            .chain_update(&self.bytes)
            .finalize();
        let mac = Sha256::new_with_prefix(pad(0x5c)).chain_update(inner).finalize();
        let expected = format!("v1,{}", BASE64.encode(mac));
        self.header("webhook-signature").split(' ').any(|signature| signature == expected)
    }
}

/// Takes webhooks until it is dropped.
pub(super) struct Receiver {
    pub(super) url: String,
    received: Arc<Mutex<Vec<Received>>>,
    answers: Arc<Mutex<VecDeque<u16>>>,
    server: JoinHandle<()>,
}

impl Receiver {
    pub(super) async fn start() -> anyhow::Result<Self> {
        let received = Arc::new(Mutex::new(Vec::new()));
        let answers = Arc::new(Mutex::new(VecDeque::new()));
        let take = {
            let (received, answers) = (Arc::clone(&received), Arc::clone(&answers));
            async move |headers: HeaderMap, bytes: Bytes| {
                let body = serde_json::from_slice(&bytes).unwrap_or_default();
                received.lock().expect("no panic").push(Received { headers, bytes, body });
                let answer = answers.lock().expect("no panic").pop_front().unwrap_or(204);
                StatusCode::from_u16(answer).expect("a status")
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/hook", listener.local_addr()?);
        let server = tokio::spawn(async move {
            axum::serve(listener, Router::new().fallback(take)).await.expect("it serves");
        });
        Ok(Self { url, received, answers, server })
    }

    /// The next requests are answered so; those after them 204.
    pub(super) fn answer_with(&self, answers: &[u16]) {
        self.answers.lock().expect("no panic").extend(answers);
    }

    pub(super) fn received(&self) -> Vec<Received> {
        self.received.lock().expect("no panic").clone()
    }

    /// Waits until so many requests came.
    pub(super) async fn wait_for(&self, count: usize) -> anyhow::Result<Vec<Received>> {
        tests::eventually(&format!("{count} webhooks came"), || async {
            self.received().len() >= count
        })
        .await?;
        Ok(self.received())
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Takes connections and never answers.
pub(super) struct Silent {
    pub(super) url: String,
    connections: Arc<Mutex<Vec<TcpStream>>>,
    server: JoinHandle<()>,
}

impl Silent {
    pub(super) async fn start() -> anyhow::Result<Self> {
        let connections: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/", listener.local_addr()?);
        let kept = Arc::clone(&connections);
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                kept.lock().expect("no panic").push(stream);
            }
        });
        Ok(Self { url, connections, server })
    }

    /// How often somebody has connected.
    pub(super) fn connections(&self) -> usize {
        self.connections.lock().expect("no panic").len()
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// A mail that came.
#[derive(Debug, Clone)]
pub(super) struct Mail {
    pub(super) to: Vec<String>,
    pub(super) head: String,
    pub(super) text: String,
}

/// Takes mail until it is dropped.
pub(super) struct MailServer {
    pub(super) url: String,
    mails: Arc<Mutex<Vec<Mail>>>,
    server: JoinHandle<()>,
}

impl MailServer {
    pub(super) async fn start() -> anyhow::Result<Self> {
        let mails: Arc<Mutex<Vec<Mail>>> = Arc::default();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("smtp://{}", listener.local_addr()?);
        let kept = Arc::clone(&mails);
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, Arc::clone(&kept)));
            }
        });
        Ok(Self { url, mails, server })
    }

    pub(super) fn mails(&self) -> Vec<Mail> {
        self.mails.lock().expect("no panic").clone()
    }

    /// Waits until so many mails came to an address.
    pub(super) async fn wait_for(&self, to: &str, count: usize) -> anyhow::Result<Vec<Mail>> {
        let of = || -> Vec<_> {
            let mails = self.mails().into_iter();
            mails.filter(|mail| mail.to.iter().any(|address| address == to)).collect()
        };
        tests::eventually(&format!("{count} mails came to {to}"), || async { of().len() >= count })
            .await?;
        Ok(of())
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// As much of RFC 5321 as a client needs.
async fn converse(stream: TcpStream, mails: Arc<Mutex<Vec<Mail>>>) -> anyhow::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    write.write_all(b"220 sink\r\n").await?;
    let mut to = Vec::new();
    while let Some(line) = lines.next_line().await? {
        let verb = line.get(..4).unwrap_or_default().to_ascii_uppercase();
        let answer = match verb.as_str() {
            "RCPT" => {
                let address = line.split(['<', '>']).nth(1).unwrap_or_default();
                to.push(address.to_owned());
                "250 ok"
            }
            "DATA" => {
                write.write_all(b"354 go on\r\n").await?;
                let mut data = String::new();
                while let Some(line) = lines.next_line().await? {
                    if line == "." {
                        break;
                    }
                    data.push_str(line.strip_prefix('.').unwrap_or(&line));
                    data.push_str("\r\n");
                }
                let (head, body) = data.split_once("\r\n\r\n").unwrap_or((&data, ""));
                let text = decoded(head, body);
                let mail = Mail { to: std::mem::take(&mut to), head: head.to_owned(), text };
                mails.lock().expect("no panic").push(mail);
                "250 taken"
            }
            "QUIT" => {
                write.write_all(b"221 bye\r\n").await?;
                return Ok(());
            }
            "EHLO" => "250 sink",
            _ => "250 ok",
        };
        write.write_all(format!("{answer}\r\n").as_bytes()).await?;
    }
    Ok(())
}

/// The body as text, whatever its transfer encoding (RFC 2045 §6).
fn decoded(head: &str, body: &str) -> String {
    let encoding = head.lines().find_map(|line| line.strip_prefix("Content-Transfer-Encoding: "));
    let bytes = match encoding.map(str::trim) {
        Some("base64") => BASE64.decode(body.replace("\r\n", "")).expect("base64"),
        Some("quoted-printable") => {
            let joined = body.replace("=\r\n", "");
            let mut bytes = Vec::new();
            let mut rest = joined.as_bytes().iter();
            while let Some(byte) = rest.next() {
                if *byte != b'=' {
                    bytes.push(*byte);
                    continue;
                }
                let hex: Vec<_> = rest.by_ref().take(2).copied().collect();
                let hex = String::from_utf8(hex).expect("ASCII");
                bytes.push(u8::from_str_radix(&hex, 16).expect("two hex digits"));
            }
            bytes
        }
        _ => body.as_bytes().to_vec(),
    };
    String::from_utf8(bytes).expect("UTF-8").replace("\r\n", "\n")
}
