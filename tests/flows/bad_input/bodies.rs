//! Bodies.

use serde_json::{Value, json};

use super::{Scene, routes};

#[tokio::test]
async fn a_body_that_is_no_object_is_refused() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    for (call, good) in routes() {
        let good = good.to_string();
        let inner = &good[1..good.len() - 1];
        let deep = format!("{{\"x\":{}", "[".repeat(60_000));
        let closed = format!("{{\"x\":{}1{}}}", "{\"x\":".repeat(5_000), "}".repeat(5_000));
        let bodies: Vec<Vec<u8>> = [
            "{",
            "}",
            "[]",
            "[{}]",
            "[\"a\", \"b\", \"c\", \"token\"]",
            "true",
            "0",
            "\"\"",
            "{}{}",
            "{}x",
            "{]",
            "{\"a\"}",
            "{'a': 1}",
            "{a: 1}",
            "{,}",
            "// x\n{}",
            "\u{feff}{}",
            "\u{0}",
            "{}\u{0}",
            "{\"reason\": \"\\ud800\"}",
            "{\"reason\": \"\\udc00\\ud800\"}",
            "{\"reason\": \"\\x41\"}",
            "{\"reason\": \"a\u{0}b\"}",
            "{\"reason\": \"a\nb\"}",
            "{\"comment\": \"\\ud83d\"}",
            "{\"email\": \"\\ud800\"}",
            "{\"duration_seconds\": 1e999}",
            "{\"duration_seconds\": 05}",
            "{\"duration_seconds\": NaN}",
            "<x/>",
            "reason=x&duration_seconds=60",
            deep.as_str(),
            closed.as_str(),
        ]
        .map(|text| text.as_bytes().to_vec())
        .into_iter()
        .chain([b"{\"reason\": \"\xff\xfe\"}".to_vec(), b"\xff".to_vec(), b"\x1f\x8b\x08".to_vec()])
        // Cut off, with something after it, and with every comma too many.
        .chain([
            good[..good.len() - 1].into(),
            format!("{good},").into(),
            format!("{{{inner},}}").into(),
        ])
        .collect();
        for body in bodies {
            let what = format!("{call} {:.80}", String::from_utf8_lossy(&body));
            let request = scene.request(call).header("content-type", "application/json").body(body);
            scene.refused(&what, request, 400, "bad-request").await?;
        }
    }
    scene.end().await
}

#[tokio::test]
async fn fields_are_known_once_and_of_their_type() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let text = || vec![json!(5), json!(true), json!([]), json!({}), json!(1.5), json!(["x"])];
    let number = || vec![json!("60"), json!(true), json!([]), json!({}), json!("")];
    for (call, good) in routes() {
        let mut wrong: Vec<(String, String)> = Vec::new();
        let fields = good.as_object().expect("an object");
        for (field, value) in fields {
            let mut values = match value {
                Value::String(_) => text(),
                Value::Number(_) => number(),
                _ => vec![json!("false"), json!(0), json!([])],
            };
            match field.as_str() {
                "tenant" | "email" | "password" | "transport" => values.push(Value::Null),
                "duration_seconds" => values.extend([
                    json!(-1),
                    json!(0),
                    json!(4),
                    json!(4.9),
                    json!(60.0),
                    json!(u64::MAX),
                    json!(i64::MIN),
                    json!(4_294_967_296_u64),
                    json!(1e300),
                ]),
                "role" => {
                    values.extend(["root", "Admin", "", "member", "manager"].map(Value::from));
                }
                _ => {}
            }
            if field == "transport" {
                values.extend(["both", "Cookie", ""].map(Value::from));
            }
            for value in values {
                let mut body = good.clone();
                body[field] = value;
                wrong.push((field.clone(), body.to_string()));
            }
            let twice = good.to_string().replacen('{', &format!("{{\"{field}\": {value}, "), 1);
            wrong.push((field.clone(), twice));
        }
        for unknown in ["unknown", "Reason", "caller", "user_id", "id", "__proto__", "", "reason "]
        {
            let mut body = good.clone();
            body[unknown] = json!("x");
            wrong.push(("unknown field".to_owned(), body.to_string()));
        }
        if call == "POST /v1/login" {
            wrong.push((String::from("no body"), String::new()));
            for field in ["tenant", "email", "password"] {
                let mut body = good.clone();
                body.as_object_mut().expect("an object").remove(field);
                wrong.push((field.to_owned(), body.to_string()));
            }
        }
        for (field, body) in wrong {
            let what = format!("{call} {body}");
            let answer =
                scene.refused(&what, scene.request(call).body(body), 400, "bad-request").await?;
            let detail = answer.body["detail"].as_str().expect("text");
            let told = ["field", "body", field.as_str()].iter().any(|word| detail.contains(word))
                || detail.contains("role");
            assert!(told, "{what} is refused with {detail}");
        }
    }
    scene.end().await
}

#[tokio::test]
async fn a_body_has_64_kib_and_no_more() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let padded = |body: &Value, length: usize| {
        let body = body.to_string();
        format!("{body}{}", " ".repeat(length - body.len()))
    };
    for (call, good) in routes() {
        let what = format!("{call} of 64 KiB and a byte");
        let request = scene.request(call).body(padded(&good, 65_537));
        scene.refused(&what, request, 413, "payload-too-large").await?;
        let what = format!("{call} without a token");
        let request = scene.request(call).body("x".repeat(1_000_000));
        scene.refused(&what, request, 413, "payload-too-large").await?;
        // Of exactly 64 KiB it is read, and so refused for what stands in it.
        let mut unknown = good.clone();
        unknown["unknown"] = json!(1);
        let what = format!("{call} of 64 KiB");
        scene
            .refused(&what, scene.request(call).body(padded(&unknown, 65_536)), 400, "bad-request")
            .await?;
    }
    let wrong =
        json!({"tenant": "acme", "email": "member@acme.test", "password": "x".repeat(60_000)});
    let request = scene.request("POST /v1/login").body(padded(&wrong, 65_536));
    scene.refused("a long password", request, 401, "invalid-credentials").await?;
    for field in ["tenant", "email"] {
        let mut login = json!({"tenant": "acme", "email": "member@acme.test", "password": "x"});
        login[field] = json!("ü".repeat(30_000));
        let request = scene.request("POST /v1/login").body(login.to_string());
        scene.refused(field, request, 401, "invalid-credentials").await?;
    }
    let Scene { world, admin, .. } = scene;
    let good = json!({"reason": "The ledger was closed too early"});
    let request =
        admin.request(reqwest::Method::POST, "/v1/emergency/grants").body(padded(&good, 65_536));
    tests::Answer::to(request).await?.expect(201);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn an_absent_body_is_an_empty_object_whatever_its_type_is_said_to_be() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    for body in ["", " ", "null", "{}"] {
        let request = scene.request("POST /v1/emergency/grants").body(body);
        scene.refused("no reason at all", request, 422, "reason-required").await?;
        let request = scene.request("POST /v1/login").body(body);
        scene.refused("no credentials at all", request, 400, "bad-request").await?;
    }
    let Scene { world, admin, grant, .. } = scene;
    for media_type in ["text/plain", "application/xml", "x"] {
        let request = admin.request(reqwest::Method::POST, "/v1/sessions/revoke-others");
        let request = request.header("content-type", media_type).body(" \r\n\t");
        tests::Answer::to(request).await?.expect(200);
    }
    let path = format!("/v1/emergency/grants/{grant}/revoke");
    tests::Answer::to(admin.request(reqwest::Method::POST, &path)).await?.expect(200);
    tests::Answer::to(admin.request(reqwest::Method::POST, "/v1/logout")).await?.expect(204);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_nul_in_credentials_is_a_wrong_one() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    for field in ["tenant", "email", "password"] {
        let mut login = json!({"tenant": "acme", "email": "member@acme.test", "password": "x"});
        login[field] = json!("acme\u{0}");
        let request = scene.request("POST /v1/login").body(login.to_string());
        scene
            .refused(&format!("a NUL in the {field}"), request, 401, "invalid-credentials")
            .await?;
    }
    scene.end().await
}
