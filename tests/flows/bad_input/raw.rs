//! Bytes that no client library would send.

use std::time::Duration;

use shared::role::Role;
use tests::{Client, World};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// What an edge answers to bytes, until it closes; nothing, if it just closes.
async fn ask(world: &World, request: impl AsRef<[u8]>) -> anyhow::Result<String> {
    let edge = world.edge(1);
    let mut stream = TcpStream::connect(edge.trim_start_matches("http://")).await?;
    stream.write_all(request.as_ref()).await?;
    let mut answer = Vec::new();
    // A connection that is reset has been answered, too.
    let _ = timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn token(client: &Client) -> &str {
    client.token.as_deref().expect("signed in")
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn no_path_is_resolved_or_decoded() -> anyhow::Result<()> {
    let world = World::start().await?;
    let admin = world.sign_in(Role::Admin).await?;
    let bearer = format!("Authorization: Bearer {}", token(&admin));
    for target in [
        "/v1/../v1/me",
        "/./v1/me",
        "/v1/./me",
        "/v1/x/../me",
        "/v1/%2e%2e/v1/me",
        "/v1/%2e/me",
        "/healthz/../v1/me",
        "/v1/%2E%2E%2Fv1/me",
        "/v1\\me",
        "/\\v1/me",
        "/v1/me\\",
        "/v1/m\u{0435}",
        "/v1/users/%2e%2e/me",
        "/v1/users/../sessions",
        "//x/v1/me",
        "/%2fv1/me",
        "/v1/me/..;/",
        "*",
        "/authorize/../authorize",
        "/x/../authorize",
        "/authorize\\",
        "/.//authorize",
    ] {
        let request =
            format!("GET {target} HTTP/1.1\r\nHost: x\r\n{bearer}\r\nConnection: close\r\n\r\n");
        let answer = ask(&world, request).await?;
        assert!([400, 404].contains(&status(&answer)), "{target}: {answer}");
    }
    // The absolute form is the same as the origin form (RFC 9112 §3.2.2).
    let request =
        format!("GET http://x/v1/me HTTP/1.1\r\nHost: x\r\n{bearer}\r\nConnection: close\r\n\r\n");
    assert_eq!(status(&ask(&world, request).await?), 200);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn nothing_is_smuggled_and_no_header_breaks_out() -> anyhow::Result<()> {
    let world = World::start().await?;
    let member = world.sign_in(Role::Member).await?;
    let bearer = format!("Authorization: Bearer {}", token(&member));
    let inner =
        format!("POST /v1/logout HTTP/1.1\r\nHost: x\r\n{bearer}\r\nContent-Length: 0\r\n\r\n");
    let long = "x".repeat(500_000);
    let many = "X-A: 1\r\n".repeat(5_000);
    let (inner_length, chunk) = (inner.len(), format!("{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len()));
    let head = |more: &str, body: &str| {
        format!(
            "POST /v1/emergency/grants HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{more}\r\n\r\n{body}"
        )
    };
    let requests = [
        head("Content-Length: 0\r\nContent-Length: 5", &inner),
        head("Content-Length: 4\r\nTransfer-Encoding: chunked", &chunk),
        head("Transfer-Encoding: chunked, identity", &chunk),
        head("Transfer-Encoding: xchunked", &chunk),
        head("Transfer-Encoding : chunked", &chunk),
        head("Transfer-Encoding: chunked", "5x\r\n{}\r\n0\r\n\r\n"),
        head("Transfer-Encoding: chunked", "ffffffffffffffffff\r\n{}\r\n0\r\n\r\n"),
        head("Content-Length: -1", &inner),
        head("Content-Length: +5", &inner),
        head("Content-Length: 99999999999999999999", &inner),
        head(&format!("X: y\n{bearer}"), &inner),
        head("X: a\u{0}b", ""),
        head("X: a\rb", ""),
        head(" folded: x", ""),
        head("X y: z", ""),
        head(&format!("X: {long}"), ""),
        head(&many, ""),
        format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n"),
        format!(
            "GET /authorize HTTP/1.1\r\nHost: x\r\nCookie: __Host-breakglass={long}\r\nConnection: close\r\n\r\n"
        ),
        "GET /authorize\r\n\r\n".to_owned(),
        "GET /authorize HTTP/9.9\r\n\r\n".to_owned(),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}".to_owned(),
        "\r\n".repeat(10_000) + "x\r\n\r\n",
    ];
    assert!(inner_length > 4);
    for request in requests {
        let what: String = request.chars().take(160).collect();
        let answer = ask(&world, &request).await?;
        let status = status(&answer);
        assert!(status == 0 || (400..500).contains(&status) || status == 505, "{what:?}: {answer}");
        assert_eq!(
            answer.matches("HTTP/1.1 ").count().min(2),
            usize::from(status != 0),
            "{what:?}: {answer}"
        );
    }
    // None of the inner requests was one.
    assert_eq!(world.authorize(&member).await?, vec![(200, "member".to_owned()); 3]);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_body_of_unknown_length_is_bounded_too() -> anyhow::Result<()> {
    let world = World::start().await?;
    for (length, expected) in [(65_536, 400), (65_537, 413), (1_000_000, 413)] {
        let body = format!("{{\"x\": \"{}\"}}", "x".repeat(length - 9));
        let request = format!(
            "POST /v1/login HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
             {:x}\r\n{body}\r\n0\r\n\r\n",
            body.len(),
        );
        let answer = ask(&world, request).await?;
        assert_eq!(status(&answer), expected, "{length}: {answer}");
        assert!(answer.contains("application/problem+json"), "{answer}");
    }
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn who_never_finishes_a_request_holds_up_nobody() -> anyhow::Result<()> {
    let world = World::start().await?;
    let member = world.sign_in(Role::Member).await?;
    let edge = world.edge(1);
    let address = edge.trim_start_matches("http://");
    let mut open = Vec::new();
    for number in 0..300 {
        // Heads that break off, bodies that break off, and silence.
        let mut stream = TcpStream::connect(address).await?;
        let part = match number % 3 {
            0 => "GET /authorize HTTP/1.1\r\nHost: x\r\nX-",
            1 => "POST /v1/login HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{\"tenant\"",
            _ => "",
        };
        stream.write_all(part.as_bytes()).await?;
        open.push(stream);
    }
    let started = timeout(Duration::from_secs(5), async {
        for _ in 0..100 {
            assert_eq!(member.authorize().await?.0, 200);
        }
        member.get("/v1/me").await?.expect(200);
        anyhow::Ok(())
    });
    started.await??;
    // A body that does not come is given up, with an answer.
    let mut answer = vec![0; 4096];
    let read = timeout(Duration::from_secs(15), open[1].read(&mut answer)).await??;
    let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
    assert_eq!(status(&answer), 400, "{answer}");
    assert!(answer.contains("did not arrive in time"), "{answer}");
    assert_eq!(member.authorize().await?.0, 200);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_head_that_never_comes_is_given_up() -> anyhow::Result<()> {
    let world = World::start().await?;
    let edge = world.edge(1);
    let mut stream = TcpStream::connect(edge.trim_start_matches("http://")).await?;
    stream.write_all(b"GET /authorize HTTP/1.1\r\nHost: x\r\nX-").await?;
    let closed = timeout(Duration::from_secs(35), stream.read(&mut [0; 4096])).await;
    assert!(closed.is_ok(), "the edge waits for ever");
    world.end().await;
    Ok(())
}
