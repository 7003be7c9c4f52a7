//! What every problem document and every answer has in common.

use serde_json::Value;
use tests::Answer;

/// Headers of every answer.
const SECURITY: [(&str, &str); 6] = [
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("x-frame-options", "DENY"),
    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cache-control", "no-store"),
];

/// Words that would tell something of the inside.
const INSIDE: [&str; 14] = [
    "sqlx",
    "postgres",
    "nats",
    "panick",
    "src/",
    ".rs",
    "struct ",
    "enum ",
    "unwrap",
    "relation",
    "constraint",
    "utf8",
    "serde",
    "tuple",
];

/// A problem document (RFC 9457) of the contract's form, with the security headers and nothing of
/// the inside.
#[track_caller]
pub(crate) fn assert_problem(answer: &Answer, status: u16, code: &str) {
    let body = &answer.body;
    assert_eq!((answer.status.as_u16(), answer.code()), (status, code), "{body}");
    assert_eq!(answer.header("content-type"), "application/problem+json", "{body}");
    let mut members: Vec<_> =
        body.as_object().expect("an object").keys().map(String::as_str).collect();
    members.retain(|member| *member != "trace_id");
    assert_eq!(members, ["code", "detail", "status", "title", "type"], "{body}");
    assert_eq!(body["status"], status);
    assert_eq!(body["type"], format!("urn:breakglass:problem:{code}"));
    for member in ["title", "detail"] {
        let text = body[member].as_str().expect(member);
        assert!((4..=400).contains(&text.len()), "{body}");
        let lower = text.to_lowercase();
        assert!(INSIDE.iter().all(|word| !lower.contains(word)), "tells of the inside: {body}");
    }
    if let Some(trace) = body.get("trace_id").and_then(Value::as_str) {
        assert!(trace.len() == 32 && trace.bytes().all(|byte| byte.is_ascii_hexdigit()), "{trace}");
    }
    assert_eq!(answer.header("www-authenticate"), if status == 401 { "Bearer" } else { "" });
    assert_eq!(answer.header("retry-after").is_empty(), !matches!(status, 429 | 503));
    assert_secure(answer);
}

/// The headers that keep a browser from doing anything with an answer.
#[track_caller]
pub(crate) fn assert_secure(answer: &Answer) {
    for (name, value) in SECURITY {
        let values: Vec<_> = answer.headers.get_all(name).iter().collect();
        assert_eq!(values, [value], "{name}");
    }
    let cors = |name: &str| name.starts_with("access-control-");
    assert!(answer.headers.keys().all(|name| !cors(name.as_str())), "{:?}", answer.headers);
    assert_eq!(answer.header("server"), "");
}
