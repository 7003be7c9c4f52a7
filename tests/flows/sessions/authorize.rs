//! `/authorize`, as reverse proxies ask it.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use futures_util::{StreamExt as _, future::join_all};
use reqwest::{Method, header::HeaderName};
use shared::{role::Role, subject::Subject, token::Token};
use tests::{Answer, Client, Options, World, eventually, observer};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{ALIVE, DEAD};
use crate::problem::{assert_problem, assert_secure};

const HEADERS: [&str; 8] = [
    "x-auth-user",
    "x-auth-email",
    "x-auth-tenant",
    "x-auth-role",
    "x-auth-session",
    "x-auth-methods",
    "x-auth-emergency-grant",
    "x-auth-emergency-expires",
];

/// All of the headers, each once, as proxies copy them.
fn identity(answer: &Answer) -> [String; 8] {
    let sent: BTreeSet<_> = answer
        .headers
        .keys()
        .map(HeaderName::as_str)
        .filter(|name| name.starts_with("x-auth-"))
        .collect();
    assert_eq!(sent, BTreeSet::from(HEADERS));
    HEADERS.map(|name| {
        let values: Vec<_> = answer.headers.get_all(name).iter().collect();
        assert_eq!(values.len(), 1, "{name}");
        values[0].to_str().expect("text").to_owned()
    })
}

#[tokio::test]
async fn every_answer_has_all_headers_and_none_of_the_clients() -> anyhow::Result<()> {
    let world = World::start().await?;
    let member = world.sign_in(Role::Member).await?;
    let me = member.get("/v1/me").await?.expect(200).body;
    let text =
        |pointer: &str| me.pointer(pointer).and_then(|v| v.as_str()).expect(pointer).to_owned();
    let expected = [
        text("/user/id"),
        text("/user/email"),
        text("/tenant/slug"),
        "member".to_owned(),
        text("/session/id"),
        "password".to_owned(),
        String::new(),
        String::new(),
    ];
    let spoofed = |method: Method, path: &str, token: bool| {
        let client = if token { member.clone() } else { world.anonymous() };
        let mut request = client.request(method, path).header("host", "app.internal");
        for name in HEADERS {
            request = request.header(name, "admin");
        }
        request.header("x-forwarded-for", "127.0.0.1").header("x-original-url", "/v1/audit")
    };
    for method in
        ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW", "PROPFIND"]
    {
        let method = Method::from_bytes(method.as_bytes())?;
        let answer = Answer::to(spoofed(method.clone(), "/authorize", true)).await?.expect(ALIVE);
        assert_eq!(identity(&answer), expected, "{method}");
        assert_secure(&answer);
        let answer = Answer::to(spoofed(method.clone(), "/authorize", false)).await?.expect(DEAD);
        assert_eq!(identity(&answer), [const { String::new() }; 8], "{method}");
        assert_secure(&answer);
    }
    for (path, token, status, code) in [
        ("/authorize", false, 401, "unauthenticated"),
        ("/authorize?role=admin", true, 403, "forbidden"),
        ("/authorize?permission=audit.read", true, 403, "forbidden"),
        ("/authorize?role=root", true, 400, "bad-request"),
        ("/authorize?role=root", false, 400, "bad-request"),
    ] {
        let answer = Answer::to(spoofed(Method::GET, path, token)).await?;
        assert_problem(&answer, status, code);
        assert_eq!(identity(&answer), [const { String::new() }; 8], "{path}");
    }
    // A body is not for the edge.
    let with_body = member.request(Method::POST, "/authorize").body("x".repeat(100_000));
    Answer::to(with_body).await?.expect(ALIVE);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_demand_is_met_to_the_letter_or_refused() -> anyhow::Result<()> {
    let world = World::start().await?;
    let manager = world.sign_in(Role::Manager).await?;
    for (query, expected) in [
        ("", 200),
        ("?", 200),
        ("?role=member", 200),
        ("?role=manager", 200),
        ("?role=admin", 403),
        ("?permission=audit.read", 200),
        ("?permission=tenant.manage", 403),
        ("?role=manager&permission=audit.read", 200),
        ("?permission=audit.read&role=manager", 200),
        ("?role=admin&permission=audit.read", 403),
        ("?role=manager&permission=tenant.manage", 403),
        ("?role=", 400),
        ("?role", 400),
        ("?role=Manager", 400),
        ("?role=root", 400),
        ("?role=%6Danager", 400),
        ("?role=member&role=admin", 400),
        ("?role=manager&role=manager", 400),
        ("?permission=", 400),
        ("?permission=all", 400),
        ("?permission=audit.read,emergency.request", 400),
        ("?permission=audit.read&permission=tenant.manage", 400),
        ("?Role=member", 400),
        ("?x=1", 400),
        ("?role=member&", 400),
        ("?role=member;x=1", 400),
        ("?role=member%00", 400),
    ] {
        let answer = manager.get(&format!("/authorize{query}")).await?;
        assert_eq!(answer.status, expected, "{query}");
        if expected == 400 {
            assert_problem(&answer, 400, "bad-request");
        }
    }
    world.end().await;
    Ok(())
}

const AT_ONCE: usize = 50;

/// Asks often and at once, while somebody holds up every look-up of a session: until one waits and
/// the first edge has read all that was asked. What it answered then.
async fn ask_while_held_up(world: &World, client: &Client) -> anyhow::Result<Vec<String>> {
    let mut holding = world.pool.begin().await?;
    sqlx::query("LOCK TABLE sessions IN ACCESS EXCLUSIVE MODE").execute(&mut *holding).await?;
    let edge = world.edge(1);
    let address: SocketAddr = edge.trim_start_matches("http://").parse()?;
    let token = client.token.as_deref().expect("a token");
    let request = format!(
        "GET /authorize HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    );
    let mut asked = Vec::new();
    for _ in 0..AT_ONCE {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        asked.push(stream);
    }
    let waits = "SELECT EXISTS (
        SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database
        WHERE d.datname = current_database() AND relation = 'sessions'::regclass AND NOT granted)";
    let waits = || sqlx::query_scalar::<_, bool>(waits).fetch_one(&world.pool);
    eventually("a look-up waits", || async { waits().await.unwrap_or(false) }).await?;
    eventually("the edge has read all", || async { all_is_read(address.port()) }).await?;
    holding.rollback().await?;
    let mut answers = Vec::new();
    for mut stream in asked {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        answers.push(answer.split(' ').nth(1).unwrap_or("").to_owned());
    }
    Ok(answers)
}

/// Whether all connections to a port are there, and nothing that was sent over them is unread.
fn all_is_read(port: u16) -> bool {
    let sockets = std::fs::read_to_string("/proc/self/net/tcp").unwrap_or_default();
    let unread: Vec<_> = sockets
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let (local, _remote) = (fields.next()?, fields.next()?);
            let (state, queues) = (fields.next()?, fields.next()?);
            let established = state == "01" && local.ends_with(&format!(":{port:04X}"));
            established.then(|| queues.ends_with(":00000000"))
        })
        .collect();
    unread.len() >= AT_ONCE && unread.iter().all(|read| *read)
}

#[tokio::test]
async fn all_who_miss_the_same_session_at_once_cause_one_look_up() -> anyhow::Result<()> {
    let options = Options { bus_users: vec![observer()], ..Options::default() };
    let world = World::start_with(options).await?;
    let mut resolved = world.observe(Subject::SessionResolve).await?;
    let mut look_ups = async || {
        let mut count = 0;
        while tokio::time::timeout(Duration::from_millis(300), resolved.next()).await.is_ok() {
            count += 1;
        }
        count
    };
    let member = world.sign_in(Role::Member).await?;
    let mut unknown = member.clone();
    unknown.token = Some(Token::generate().expose().to_owned());
    let at_once = async |client: &Client, expected: u16| -> anyhow::Result<()> {
        for answer in join_all((0..AT_ONCE).map(|_| client.authorize())).await {
            assert_eq!(answer?.0, expected);
        }
        Ok(())
    };
    assert_eq!(ask_while_held_up(&world, &member).await?, vec!["200"; AT_ONCE]);
    assert_eq!(look_ups().await, 1, "a cold cache");
    at_once(&member, ALIVE).await?;
    assert_eq!(look_ups().await, 0, "a warm cache");
    at_once(&member.at(&world.edge(2)), ALIVE).await?;
    assert!((1..=3).contains(&look_ups().await), "another edge");
    assert_eq!(ask_while_held_up(&world, &unknown).await?, vec!["401"; AT_ONCE]);
    assert_eq!(look_ups().await, 1, "no session");
    // What cannot be a token is looked up nowhere.
    unknown.token = Some("bgs_nonsense".to_owned());
    at_once(&unknown, DEAD).await?;
    assert_eq!(look_ups().await, 0, "no token");
    world.end().await;
    Ok(())
}
