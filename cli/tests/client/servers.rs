//! Where passwords and tokens go, and where they don't.

use serde_json::{Value, json};

use crate::{
    Person,
    stub::{Answer, Request, Stub, answer, nobody, ok, problem},
};

const ID: &str = "01a20386-a8c9-79c6-91ae-41c83c3686e6";

fn me(_: &Request) -> Answer {
    ok(&json!({
        "user": {"id": "01a20386-7caf-7413-92e8-22dc8f7b8abe", "email": "mia@acme.test", "name": "Mia",
                 "role": "member"},
        "tenant": {"id": "t", "slug": "acme", "name": "Acme"},
        "session": {"id": ID, "current": true, "device": {"label": "breakglass"}, "ip": null,
            "location": null, "created_at": "2026-11-22T13:51:26Z", "last_active_at": "2026-11-22T13:51:26Z",
            "idle_expires_at": "2026-11-22T14:51:26Z", "expires_at": "2026-11-23T01:51:26Z"},
        "permissions": ["emergency.request"], "elevation": null,
        "mfa": {"enabled": false, "required": false, "grace_ends_at": null, "backup_codes_left": 0},
    }))
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_refused_before_anything_is_sent() {
    let authority = tempfile::tempdir().expect("a folder");
    let stub = Stub::start_tls(authority.path(), me);
    let fallback = Stub::start(me);
    let person = Person::signed_in(&[stub.url(), fallback.url()]);
    for words in [&["whoami"][..], &["request", "-r", "Checkout is down"]] {
        let ended = person.run(words).expect(6, &["is not trusted, nothing was sent"]);
        assert!(!ended.err.contains("may have happened"), "{ended:?}");
    }
    assert_eq!((stub.lines().len(), fallback.lines().len()), (0, 0));
    // The same server, once somebody vouches for it.
    let certificate = authority.path().join("cert.pem");
    let person = person.with("SSL_CERT_FILE", certificate.to_str().expect("a path"));
    person.run(&["whoami"]).expect(0, &["Mia <mia@acme.test>"]);
    assert_eq!(stub.asked()[0].authorization, "Bearer bgs_secret");
}

#[test]
fn a_redirect_is_not_followed() {
    let elsewhere = Stub::start(me);
    let to = format!("{}/v1/me", elsewhere.url());
    let stub = Stub::start(move |_| {
        format!("HTTP/1.1 307 Moved\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n").into_bytes()
    });
    let person = Person::signed_in(&[stub.url()]);
    person.run(&["whoami"]).expect(1, &["sends us to", elsewhere.url()]);
    let login = ["sign-in", "--server", stub.url(), "-t", "acme", "-e", "a@b", "--password-stdin"];
    person.run_with(&login, "password\n").expect(1, &["sends us to"]);
    assert!(elsewhere.asked().is_empty());
}

#[test]
fn a_token_goes_only_where_it_belongs() {
    let (stub, other) = (Stub::start(me), Stub::start(me));
    let person = Person::signed_in(&[stub.url()]);
    person
        .run(&["whoami", "--server", other.url()])
        .expect(3, &["You are signed in at", other.url()]);
    let person = person.with("BREAKGLASS_SERVER", other.url());
    person.run(&["whoami"]).expect(3, &["not at"]);
    let script = Person::new().with("BREAKGLASS_TOKEN", "bgs_script");
    script.run(&["whoami"]).expect(2, &["BREAKGLASS_SERVER"]);
    assert!(other.asked().is_empty());
    let script = script.with("BREAKGLASS_SERVER", other.url());
    script.run(&["whoami"]).expect(0, &[]);
    assert_eq!(other.asked()[0].authorization, "Bearer bgs_script");
    // What the environment says would still be used.
    script.run(&["sign-out"]).expect(2, &["Unset it first"]);
}

#[test]
fn nothing_secret_travels_in_clear() {
    let person = Person::signed_in(&["http://breakglass.example"]);
    person.run(&["whoami"]).expect(2, &["is not encrypted", "--allow-http"]);
    let login = ["sign-in", "-t", "acme", "-e", "a@b", "--password-stdin"];
    let named = [&login[..], &["--server", "http://192.0.2.1"]].concat();
    person.run_with(&named, "password\n").expect(2, &["is not encrypted"]);
}

#[test]
fn this_machine_is_not_asked_through_a_proxy() {
    let (stub, proxy) = (Stub::start(me), Stub::start(me));
    let person = Person::signed_in(&[stub.url()])
        .with("http_proxy", proxy.url())
        .with("HTTP_PROXY", proxy.url())
        .with("ALL_PROXY", proxy.url());
    person.run(&["whoami"]).expect(0, &[]);
    assert_eq!((stub.lines().len(), proxy.lines().len()), (1, 0));
}

#[test]
fn what_is_no_breakglass_is_said_to_be_none() {
    let page = Stub::start(|_| answer("200 OK", "text/html", "<title>Welcome to nginx!</title>"));
    Person::signed_in(&[page.url()]).run(&["whoami"]).expect(1, &["is not Breakglass"]);
    let gateway = Stub::start(|_| answer("502 Bad Gateway", "text/html", "<h1>502</h1>"));
    Person::signed_in(&[gateway.url()]).run(&["whoami"]).expect(6, &["answered 502"]);
    let odd = Stub::start(|_| ok(&json!({"user": "\u{1b}[2J"})));
    let ended = Person::signed_in(&[odd.url()]).run(&["whoami"]);
    let ended = ended.expect(1, &["not what this version of breakglass knows"]);
    assert!(!ended.err.contains('\u{1b}'), "{ended:?}");
}

#[test]
fn the_next_server_is_asked_where_one_is_down_or_cut_off() {
    let fenced = Stub::start(|_| problem(503, "edge-fenced"));
    let stub = Stub::start(me);
    let person = Person::signed_in(&[&nobody(), fenced.url(), stub.url()]);
    person.run(&["whoami"]).expect(0, &["Mia"]);
    assert_eq!(fenced.lines(), ["GET /v1/me"]);
    Person::signed_in(&[fenced.url()]).run(&["whoami"]).expect(6, &["edge-fenced"]);
    let nobody = nobody();
    Person::signed_in(&[&nobody])
        .run(&["whoami"])
        .expect(6, &[&nobody, "does not accept connections"]);
}

#[test]
fn a_change_whose_answer_is_lost_is_not_asked_for_again() {
    let (lost, next) = (Stub::start(|_| Vec::new()), Stub::start(me));
    let person = Person::signed_in(&[lost.url(), next.url()]);
    let request = ["request", "--reason", "Checkout is down since the release"];
    person.run(&request).expect(6, &["It may have happened all the same"]);
    assert_eq!(
        (lost.lines(), next.lines().len()),
        (vec!["POST /v1/emergency/grants".to_owned()], 0)
    );
    // A question may be asked twice.
    person.run(&["whoami"]).expect(0, &["Mia"]);
    // Half an answer is none.
    let half = Stub::start(|_| {
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{\"grant"
            .to_vec()
    });
    Person::signed_in(&[half.url()])
        .run(&request)
        .expect(6, &["It may have happened all the same"]);
}

#[test]
fn how_long_something_takes_goes_by_the_servers_clock() {
    let stub = Stub::start(|request| {
        let me = String::from_utf8(me(request)).expect("text");
        // Two hours before the session ends.
        me.replacen("\r\n", "\r\nDate: Sun, 22 Nov 2026 23:51:26 GMT\r\n", 1).into_bytes()
    });
    let said = ["ends Mon 23 Nov 01:51 (in 2 h)"];
    Person::signed_in(&[stub.url()]).run(&["whoami"]).expect(0, &said);
}

#[test]
fn a_refusal_is_told_with_its_code_and_trace() {
    let refused = |code: &'static str, status| Stub::start(move |_| problem(status, code));
    for (status, code, exit) in [
        (401, "unauthenticated", 3),
        (403, "forbidden", 4),
        (403, "fresh-mfa-required", 4),
        (403, "enrollment-required", 4),
        (404, "not-found", 1),
        (409, "grant-ended", 1),
        (422, "reason-too-weak", 1),
        (429, "too-many-attempts", 1),
        (503, "unavailable", 6),
        (418, "a-code-of-the-future", 1),
    ] {
        let stub = refused(code, status);
        let person = Person::signed_in(&[stub.url()]);
        let request = ["request", "--reason", "Checkout is down"];
        let ended = person.run(&request).expect(exit, &[code, "4bf92f3577b34da6a3ce929d0e0e4736"]);
        assert!(ended.out.is_empty(), "{ended:?}");
        let ended = person.run(&[&["--json"], &request[..]].concat());
        assert_eq!(ended.json()["code"], code);
        assert_eq!(ended.code, Some(exit));
    }
}

#[test]
fn a_refusal_does_nothing_to_the_terminal() {
    let stub = Stub::start(|_| {
        let body: Value = json!({
            "title": "\u{1b}]0;x\u{7}", "detail": "\u{9b}2J\u{202e}", "code": "\u{8}", "trace_id": "\u{1b}c",
        });
        answer("403 No", "application/problem+json", &body.to_string())
    });
    for words in [&["whoami"][..], &["whoami", "--json"]] {
        let ended = Person::signed_in(&[stub.url()]).run(words).expect(4, &[]);
        let bad = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
        assert!(!ended.err.contains(bad) && !ended.out.contains(bad), "{ended:?}");
    }
}

#[test]
fn neither_arguments_nor_output_hold_what_is_secret() {
    let stub = Stub::start(|request| match request.path.as_str() {
        "/v1/login" => ok(&json!({"status": "authenticated", "session": {}, "token": "bgs_fresh"})),
        _ => me(request),
    });
    let person = Person::signed_in(&[stub.url()]);
    let login = [
        "sign-in",
        "--server",
        stub.url(),
        "-t",
        "acme",
        "-e",
        "mia@acme.test",
        "--password-stdin",
    ];
    for words in [&login[..], &[&["--json"], &login[..]].concat()] {
        let ended = person.run_with(words, "correct horse \r\n").expect(0, &[]);
        assert!(!ended.out.contains("bgs_") && !ended.err.contains("bgs_"), "{ended:?}");
    }
    // Verbatim, but for the end of the line.
    assert_eq!(stub.asked()[0].body["password"], "correct horse ");
    assert_eq!(stub.asked()[0].body["transport"], "token");
    // There is no option for either.
    person.run(&["sign-in", "--password", "x"]).expect(2, &["unexpected argument"]);
    person.run(&["whoami", "--token", "x"]).expect(2, &["unexpected argument"]);
    // The session that the new one replaces is given back.
    let first = stub.asked().into_iter().find(|request| request.path == "/v1/logout");
    assert_eq!(first.expect("signed out").authorization, "Bearer bgs_secret");
}
