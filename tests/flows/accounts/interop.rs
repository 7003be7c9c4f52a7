//! With programs that are not ours: what they make of our URI and QR code, and we of their codes.

use anyhow::Context as _;
use serde_json::{Value, json};
use shared::role::Role;
use tests::World;
use tokio::process::Command;

use super::{Tenant, decided, with_token};

/// What a program prints; fails if it fails.
async fn output(command: &mut Command) -> anyhow::Result<String> {
    let program = command.as_std().get_program().display().to_string();
    let output = command.output().await.with_context(|| program.clone())?;
    anyhow::ensure!(output.status.success(), "{program}: {output:?}");
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// The secret that the URI tells, as any app would read it.
fn secret_of(uri: &str) -> anyhow::Result<&str> {
    let (_, query) = uri.split_once('?').context("a query")?;
    let secret = query.split('&').find_map(|pair| pair.strip_prefix("secret="));
    secret.context("a secret")
}

#[tokio::test]
async fn oathtool_enrols_from_the_uri_and_signs_in() -> anyhow::Result<()> {
    let world = World::start().await?;
    let tenant = Tenant::new(&world, "oath").await?;
    let member = tenant.sign_in(Role::Member).await?;
    let begun = member.post("/v1/mfa/totp", json!({"password": "membermember"})).await?.expect(201);
    let uri = begun.body["otpauth_uri"].as_str().context("a URI")?.to_owned();
    let secret = secret_of(&uri)?;
    let code = async |when: &str| -> anyhow::Result<String> {
        output(Command::new("oathtool").args(["--totp", "--base32", "--now", when, secret])).await
    };
    let confirm = json!({"code": code("now").await?});
    member.post("/v1/mfa/totp/confirm", confirm).await?.expect(200);
    // The step after the one that enrolled, which counts already.
    let challenge = tenant.challenge(Role::Member).await?;
    let answer = tenant.answer(2, &challenge, &code("30 seconds").await?).await?.expect(200);
    assert_eq!(decided(&world, &with_token(&member, &answer)).await?, [200, 200, 200]);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn zbarimg_reads_the_uri_from_the_qr_code() -> anyhow::Result<()> {
    let world = World::start().await?;
    let tenant = Tenant::new(&world, "zbar").await?;
    let member = tenant.sign_in(Role::Member).await?;
    let begun = member.post("/v1/mfa/totp", json!({"password": "membermember"})).await?.expect(201);
    let svg = begun.body["qr_svg"].as_str().context("an SVG")?;
    assert!(svg.len() < 40_000, "{} bytes", svg.len());
    let dir = tests::scratch::dir("qr-")?;
    let (svg_path, png_path) = (dir.path().join("qr.svg"), dir.path().join("qr.png"));
    tokio::fs::write(&svg_path, svg).await?;
    output(Command::new("rsvg-convert").arg("-o").arg(&png_path).arg(&svg_path)).await?;
    let read = output(Command::new("zbarimg").args(["--quiet", "--raw"]).arg(&png_path)).await?;
    assert_eq!(Value::from(read), begun.body["otpauth_uri"]);
    world.end().await;
    Ok(())
}
