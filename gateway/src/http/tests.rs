//! What all routes share, over a real connection.

use std::time::Duration;

use axum::{Json, routing::get};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::{body::Body, *};

async fn echo(Body(body): Body<serde_json::Map<String, serde_json::Value>>) -> Json<usize> {
    Json(body.len())
}

async fn broken() -> &'static str {
    panic!("a secret of the inside")
}

/// Sends one request and reads everything until the gateway closes.
async fn ask(request: &[u8]) -> String {
    let api = Router::new()
        .route("/v1/thing", get(async || "thing").post(echo))
        .route("/v1/broken", get(broken));
    let quiet = Router::new().route("/quiet", get(broken));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let served = tokio::spawn(async move { axum::serve(listener, dressed(api, quiet)).await });
    let mut stream = TcpStream::connect(address).await.expect("connects");
    stream.write_all(request).await.expect("takes the request");
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    tokio::time::timeout(Duration::from_secs(20), read).await.expect("an end").expect("an answer");
    served.abort();
    String::from_utf8(answer).expect("text").to_lowercase()
}

async fn get_of(line: &str) -> String {
    ask(format!("{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).await
}

fn assert_problem(answer: &str, status: u16, code: &str) {
    assert!(answer.starts_with(&format!("http/1.1 {status} ")), "{answer}");
    assert!(answer.contains("content-type: application/problem+json\r\n"), "{answer}");
    assert!(answer.contains(&format!("\"type\":\"urn:breakglass:problem:{code}\"")), "{answer}");
    assert!(answer.contains("cache-control: no-store\r\n"), "{answer}");
}

#[tokio::test]
async fn every_answer_has_the_security_headers() {
    for line in ["GET /v1/thing", "GET /nowhere", "PUT /v1/thing", "GET /v1/broken", "GET /quiet"] {
        let answer = get_of(line).await;
        for header in [
            "x-content-type-options: nosniff\r\n",
            "referrer-policy: no-referrer\r\n",
            "x-frame-options: deny\r\n",
            "content-security-policy: default-src 'none'; frame-ancestors 'none'\r\n",
            "cross-origin-resource-policy: same-origin\r\n",
            "cache-control: no-store\r\n",
        ] {
            assert!(answer.contains(header), "{line} lacks {header}");
        }
        assert!(!answer.contains("access-control-"), "{line}");
    }
}

#[tokio::test]
async fn mistakes_and_faults_are_problem_documents() {
    assert_problem(&get_of("GET /nowhere").await, 404, "not-found");
    let wrong = get_of("DELETE /v1/thing").await;
    assert_problem(&wrong, 405, "method-not-allowed");
    assert!(wrong.contains("allow: get,head,post\r\n"), "{wrong}");
    for line in ["GET /v1/broken", "GET /quiet"] {
        let answer = get_of(line).await;
        assert_problem(&answer, 500, "internal");
        assert!(!answer.contains("secret"), "{answer}");
    }
}

#[tokio::test]
async fn a_body_has_at_most_64_kib() {
    let post = async |length: usize| {
        let open = b"{\"a\": \"".to_vec();
        let fill = vec![b'x'; length - open.len() - 2];
        let head = format!(
            "POST /v1/thing HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        );
        ask(&[head.into_bytes(), open, fill, b"\"}".to_vec()].concat()).await
    };
    assert!(post(65_536).await.starts_with("http/1.1 200 "));
    assert_problem(&post(65_537).await, 413, "payload-too-large");
    assert_problem(&post(3_000_000).await, 413, "payload-too-large");
}
