//! The pages of the record.

use reqwest::Method;
use serde_json::{Value, json};
use shared::role::Role;
use tests::{Options, World, eventually};

use super::{
    safe::{HOSTILE, assert_for},
    visitor::Visitor,
};

const PAGE: &str = "/dashboard?view=audit-logs";
/// A trace that an entry names.
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// Puts an entry on a tenant's record, as the services do.
async fn append(
    world: &World,
    slug: &str,
    (actor, action, target): (&str, &str, Option<&str>),
    detail: Value,
) -> anyhow::Result<()> {
    sqlx::query(
        "SELECT append_audit(array[t.id], array[$2], array[$3], array[$4], array['2001:db8::1'],
                             array[$5::jsonb], array[$6])
         FROM tenants t WHERE slug = $1",
    )
    .bind(slug)
    .bind(actor)
    .bind(action)
    .bind(target)
    .bind(detail.to_string())
    .bind(TRACE)
    .execute(&world.pool)
    .await?;
    Ok(())
}

/// The entries that a page shows, in its order.
fn shown(text: &str) -> Vec<u64> {
    let links = text.split("<a href=\"/audit/").skip(1);
    let rows = links.filter(|link| link.contains("aria-label=\"Entry "));
    let numbers = rows.filter_map(|link| link.split_once('"')?.0.parse().ok());
    numbers.collect()
}

#[tokio::test]
async fn the_record_is_shown_to_those_who_may_read_it() -> anyhow::Result<()> {
    let world = World::start().await?;
    world.create_tenant("readers").await?;
    for path in [PAGE, "/audit/1"] {
        assert_for(&world, "readers", path, &[Role::Manager, Role::Admin]).await?;
    }
    // Everybody reads their own organisation's alone.
    append(&world, "acme", ("operator", "thing.happened-elsewhere", None), json!({})).await?;
    let browser = Visitor::of(&world, "readers", Role::Admin).await?;
    let page = browser.get(PAGE).await?.expect(200);
    let page = page.hides("thing.happened-elsewhere");
    let numbers = shown(&page.text);
    assert!(numbers.is_sorted_by(|a, b| a > b) && numbers.last() == Some(&1), "{numbers:?}");
    let last = numbers[0];
    for seq in [
        "0".to_owned(),
        "x".to_owned(),
        "-1".to_owned(),
        (last + 1).to_string(),
        i64::MAX.to_string(),
        u64::MAX.to_string(),
        "99999999999999999999".to_owned(),
    ] {
        let page = browser.get(&format!("/audit/{seq}")).await?;
        assert_eq!(page.status, 404, "{seq}");
    }
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn entries_are_found_and_leafed_through() -> anyhow::Result<()> {
    let world = World::start().await?;
    world.create_tenant("leafers").await?;
    for n in 0..60 {
        let target = format!("thing:{}", n % 2);
        append(&world, "leafers", ("operator", "thing.done", Some(&target)), json!({})).await?;
    }
    let browser = Visitor::of(&world, "leafers", Role::Admin).await?;
    let mut numbers = Vec::new();
    let mut next = Some(format!("{PAGE}&action=thing.done"));
    let mut pages = 0;
    while let Some(path) = next.filter(|_| pages < 5) {
        let page = browser.get(&path).await?.expect(200);
        numbers.extend(shown(&page.text));
        pages += 1;
        let older = page.text.rsplit_once("\">Older</a>");
        next = older.and_then(|(before, _)| {
            let link = before.rsplit_once("href=\"")?.1.replace("&#38;", "&");
            Some(link.trim_end_matches("#entries").to_owned())
        });
    }
    assert_eq!((pages, numbers.len()), (2, 60));
    assert!(numbers.is_sorted_by(|a, b| a > b), "{numbers:?}");

    let found = async |filter: &str| -> anyhow::Result<usize> {
        let page = browser.get(&format!("{PAGE}&{filter}")).await?.expect(200);
        Ok(shown(&page.text).len())
    };
    assert_eq!(found("action=thing.done&target=thing%3A1").await?, 30);
    assert_eq!(found("target=+thing:1+&actor=&action=&after=&before=").await?, 30);
    assert_eq!(found("actor=nobody").await?, 0);
    assert_eq!(found("action=thing.done&before=2001-01-01T00:00").await?, 0);
    assert_eq!(found("action=thing.done&after=2001-01-01T00:00").await?, 50);
    assert_eq!(found("action=thing.done&after=9998-01-01T00:00:00").await?, 0);
    assert_eq!(found("cursor=x&action=thing.done&target=thing:0").await?, 30);
    // What is not understood finds nothing, and says so beside its field.
    let page = browser.get(&format!("{PAGE}&after=yesterday")).await?.expect(200);
    let page = page.shows("id=\"after-wrong\"").shows("value=\"yesterday\"");
    assert_eq!(shown(&page.text), [0; 0]);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn who_did_something_has_a_name_and_a_link_to_the_rest() -> anyhow::Result<()> {
    let world = World::start().await?;
    world.create_tenant("named").await?;
    let member = world.sign_in_to("named", Role::Member).await?;
    let me = member.get("/v1/me").await?.expect(200).body;
    let id = me["user"]["id"].as_str().expect("an id");
    let admin = Visitor::of(&world, "named", Role::Admin).await?;
    let page = admin.get(PAGE).await?.expect(200);
    let link = format!("href=\"{PAGE}&actor={id}\"").replace('&', "&#38;");
    page.shows(&format!("{link}><bdi>member of named</bdi></a>"))
        .shows(&format!("<a href=\"/users/{id}\">user <bdi>member of named</bdi></a>"));
    let page = admin.get(&format!("{PAGE}&actor={id}")).await?.expect(200);
    assert_eq!(shown(&page.text).len(), 1, "the sign-in");
    // Managers may not list users: a name that grants do not tell them is left out.
    let manager = Visitor::of(&world, "named", Role::Manager).await?;
    let page = manager.get(PAGE).await?.expect(200);
    page.hides("member of named")
        .hides("href=\"/users/")
        .shows(&format!(">user …{}</a>", &id[24..]));
    member.request_grant("The pipeline is stuck and the release waits", 600).await?;
    let page = manager.get(PAGE).await?.expect(200);
    page.shows(&format!("{link}><bdi>member of named</bdi></a>"));
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn an_entry_is_shown_as_it_was_written_and_harmless() -> anyhow::Result<()> {
    let flags = vec!["--trace-url".to_owned(), "https://traces.test/t/{trace_id}".to_owned()];
    let options = Options { flags: vec![("gateway-1", flags)], ..Options::default() };
    let world = World::start_with(options).await?;
    world.create_tenant("hostile").await?;
    let detail = json!({"reason": HOSTILE, "turned": "a\u{202e}b", "n": 0.1});
    append(&world, "hostile", (HOSTILE, HOSTILE, Some(HOSTILE)), detail).await?;
    let browser = Visitor::of(&world, "hostile", Role::Admin).await?;
    let list = browser.get(&format!("{PAGE}&before=9998-01-01T00:00")).await?.expect(200);
    let list = list.harmless();
    let seq = shown(&list.text)[1];
    let page = browser.get(&format!("/audit/{seq}")).await?.expect(200);
    let page = page.harmless();
    let quoted = "&#60;script&#62;alert(1)&#60;/script&#62;\\&#34;&#39;&#38;&#60;img src=x&#62;";
    let page = page
        .shows(&format!("\n  &#34;reason&#34;: &#34;{quoted}&#34;"))
        .shows("a\\u202eb")
        .hides("\u{202e}")
        .shows(&format!("<a href=\"https://traces.test/t/{TRACE}\""))
        .shows("2001:db8::1");
    // Its filters lead to it again.
    let of_actor = page.between("Who</dt><dd>", "</dd>");
    let link = of_actor.rsplit_once("href=\"").and_then(|(_, link)| link.split_once('"'));
    let link = link.expect("a link").0.replace("&#38;", "&");
    assert_eq!(shown(&browser.get(&link).await?.expect(200).text), [seq]);
    let hash = world.sign_in_to("hostile", Role::Admin).await?;
    let hash = hash.get(&format!("/v1/audit?cursor={}&limit=1", seq + 1)).await?.expect(200).body;
    page.shows(hash["entries"][0]["hash"].as_str().expect("a hash"));
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn without_a_place_for_traces_an_entry_names_its_trace_alone() -> anyhow::Result<()> {
    let world = World::start().await?;
    world.create_tenant("plain").await?;
    append(&world, "plain", ("operator", "thing.done", None), json!({})).await?;
    let browser = Visitor::of(&world, "plain", Role::Admin).await?;
    let list = browser.get(&format!("{PAGE}&action=thing.done")).await?.expect(200);
    let page = browser.get(&format!("/audit/{}", shown(&list.text)[0])).await?.expect(200);
    page.shows(&format!("<dd><code>{TRACE}</code></dd>"));
    list.shows("Nothing is signed yet");
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn how_far_the_record_is_signed_is_said() -> anyhow::Result<()> {
    let flags = vec!["--audit-head-seconds".to_owned(), "1".to_owned()];
    let options = Options { flags: vec![("session-worker", flags)], ..Options::default() };
    let world = World::start_with(options).await?;
    world.create_tenant("signed").await?;
    let browser = Visitor::of(&world, "signed", Role::Admin).await?;
    eventually("all is signed", || async {
        let page = browser.get(PAGE).await;
        page.is_ok_and(|page| page.text.contains("nothing has come after it"))
    })
    .await?;
    let page = browser.get(PAGE).await?.expect(200);
    let admin = world.sign_in_to("signed", Role::Admin).await?;
    let signed: u64 = page.between(">entry ", "<").parse()?;
    let hash = page.between("Its hash</dt><dd><code>", "<");
    let path = format!("/v1/audit?cursor={}&limit=1", signed + 1);
    let entry = admin.get(&path).await?.expect(200).body["entries"][0].clone();
    assert_eq!((entry["seq"].as_u64(), entry["hash"].as_str()), (Some(signed), Some(hash)));
    let head = admin.send(Method::GET, "/v1/audit/head", None).await?.expect(200).body;
    page.shows(head["key_id"].as_str().expect("a key"))
        .shows("breakglass audit verify")
        .shows("href=\"/v1/audit/export\"");
    world.end().await;
    Ok(())
}
