//! What a session runs on, from its `User-Agent`: for people, no decision rests on it.
//!
//! The rules are those of uap-core (`device/user-agents.json`; `device/update-rules` renews them), run
//! by an engine whose time is linear in the text, whoever wrote it.

use std::sync::LazyLock;

use serde::Deserialize;
use shared::message::session::{Device, DeviceKind};
use ua_parser::{os, user_agent};

/// Gateways cut the header to so many bytes.
const LONGEST: usize = 512;
/// Most characters of a name, so that a label has 80 at most.
const LONGEST_NAME: usize = 36;

static RULES: LazyLock<Rules> = LazyLock::new(Rules::compile);

struct Rules {
    browsers: user_agent::Extractor<'static>,
    systems: os::Extractor<'static>,
}

impl Rules {
    fn compile() -> Self {
        #[derive(Deserialize)]
        struct File {
            browsers: Vec<user_agent::Parser<'static>>,
            systems: Vec<os::Parser<'static>>,
        }
        let file: File = serde_json::from_str(include_str!("device/user-agents.json"))
            .expect("the rules are JSON");
        let browsers = user_agent::Builder::new().push_all(file.browsers);
        let systems = os::Builder::new().push_all(file.systems);
        Self {
            browsers: browsers.expect("valid rules").build().expect("rules of a fair size"),
            systems: systems.expect("valid rules").build().expect("rules of a fair size"),
        }
    }
}

/// Compiles the rules, which would otherwise keep the first who asks waiting.
pub(crate) fn prepare() {
    LazyLock::force(&RULES);
}

/// What sent this header.
pub(crate) fn describe(user_agent: Option<&str>) -> Device {
    let text = user_agent.unwrap_or_default();
    let text = &text[..text.floor_char_boundary(LONGEST)];
    // What browsers, and crawlers that look like them, begin with.
    let is_browser = text.starts_with("Mozilla/") || text.starts_with("Opera/");
    let family = RULES.browsers.extract(text).and_then(|found| name(&found.family));
    if !is_browser || family.as_deref().is_some_and(crawls) {
        let program = family.or_else(|| name(text.split(['/', ' ', '(', ';']).next()?));
        let kind = if program.is_some() { DeviceKind::Bot } else { DeviceKind::Unknown };
        let label = program.unwrap_or_else(|| "Unknown device".to_owned());
        return Device { kind, browser: None, os: None, label };
    }
    let browser = family.map(|family| plain(&family).to_owned());
    let system = RULES.systems.extract(text).and_then(|found| name(&found.os));
    let (kind, os, place) = place(text, system.as_deref());
    let label = match (browser.as_deref(), place) {
        (Some(browser), Some(place)) => format!("{browser} on {place}"),
        (Some(browser), None) => browser.to_owned(),
        (None, Some(place)) => format!("Browser on {place}"),
        (None, None) => "Browser".to_owned(),
    };
    Device { kind, browser, os: os.map(ToOwned::to_owned), label }
}

/// What a name leaves of a text that anybody may have written: nothing that does not print, and
/// nothing that changes how other text is read.
fn name(text: &str) -> Option<String> {
    let words: Vec<_> = text
        .split(|character: char| !character.is_ascii_graphic())
        .filter(|word| !word.is_empty())
        .collect();
    let mut name = words.join(" ");
    name.truncate(LONGEST_NAME);
    let name = name.trim_end();
    (!name.is_empty()).then(|| name.to_owned())
}

fn crawls(family: &str) -> bool {
    let family = family.to_ascii_lowercase();
    ["bot", "crawl", "spider", "slurp", "headless", "preview"]
        .iter()
        .any(|word| family.contains(word))
}

/// A browser's name, the same wherever it runs.
fn plain(family: &str) -> &str {
    let mut name = family.strip_prefix("Mobile ").unwrap_or(family);
    while let Some(shorter) = [" iOS", " Mobile", " WebView", " UI/WKWebView"]
        .iter()
        .find_map(|end| name.strip_suffix(end))
    {
        name = shorter;
    }
    match name {
        "IE" => "Internet Explorer",
        _ => name,
    }
}

/// The kind of device, its system, and what people call it.
fn place<'a>(
    text: &str,
    system: Option<&'a str>,
) -> (DeviceKind, Option<&'a str>, Option<&'a str>) {
    let has = |word| text.contains(word);
    match system {
        None => (DeviceKind::Unknown, None, None),
        Some("iOS") if has("iPad") => (DeviceKind::Tablet, Some("iPadOS"), Some("iPad")),
        Some("iOS") => (DeviceKind::Mobile, Some("iOS"), Some("iPhone")),
        // Android's own rule: a tablet leaves “Mobile” out.
        Some("Android") if has("Mobile") => (DeviceKind::Mobile, Some("Android"), Some("Android")),
        Some("Android") => (DeviceKind::Tablet, Some("Android"), Some("Android")),
        Some("Mac OS X") => (DeviceKind::Desktop, Some("macOS"), Some("macOS")),
        Some(system) if has("Mobile") || system.contains("Phone") => {
            (DeviceKind::Mobile, Some(system), Some(system))
        }
        Some(system) if has("Windows NT") || has("X11") => {
            (DeviceKind::Desktop, Some(system), Some(system))
        }
        Some(system) => (DeviceKind::Unknown, Some(system), Some(system)),
    }
}

#[cfg(test)]
mod tests {
    use DeviceKind::{Bot, Desktop, Mobile, Tablet, Unknown};

    use super::*;

    const APPLE: &str = "AppleWebKit/605.1.15 (KHTML, like Gecko)";
    const CHROME: &str = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0";

    /// `{apple}` and `{chrome}` stand for what such browsers have in common.
    const TABLE: &[(&str, DeviceKind, &str)] = &[
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) {chrome} Safari/537.36",
            Desktop,
            "Chrome on Windows",
        ),
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) {chrome} Safari/537.36 Edg/131.0.0.0",
            Desktop,
            "Edge on Windows",
        ),
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) {chrome} Safari/537.36 OPR/115.0.0.0",
            Desktop,
            "Opera on Windows",
        ),
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:133.0) Gecko/20100101 Firefox/133.0",
            Desktop,
            "Firefox on Windows",
        ),
        (
            "Mozilla/5.0 (Windows NT 10.0; WOW64; Trident/7.0; rv:11.0) like Gecko",
            Desktop,
            "Internet Explorer on Windows",
        ),
        (
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {apple} Version/18.1 Safari/605.1.15",
            Desktop,
            "Safari on macOS",
        ),
        (
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {chrome} Safari/537.36",
            Desktop,
            "Chrome on macOS",
        ),
        (
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:133.0) Gecko/20100101 Firefox/133.0",
            Desktop,
            "Firefox on macOS",
        ),
        ("Mozilla/5.0 (X11; Linux x86_64) {chrome} Safari/537.36", Desktop, "Chrome on Linux"),
        (
            "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0",
            Desktop,
            "Firefox on Ubuntu",
        ),
        (
            "Mozilla/5.0 (X11; FreeBSD amd64; rv:133.0) Gecko/20100101 Firefox/133.0",
            Desktop,
            "Firefox on FreeBSD",
        ),
        (
            "Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) {chrome} Safari/537.36",
            Desktop,
            "Chrome on Chrome OS",
        ),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) {apple} Version/18.1 Mobile/15E148 Safari/604.1",
            Mobile,
            "Safari on iPhone",
        ),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) {apple} CriOS/131.0.6778.73 Mobile/15E148 Safari/604.1",
            Mobile,
            "Chrome on iPhone",
        ),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) {apple} FxiOS/133.0 Mobile/15E148 Safari/605.1.15",
            Mobile,
            "Firefox on iPhone",
        ),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) {apple} Version/18.0 EdgiOS/131.0.2903.68 Mobile/15E148 Safari/604.1",
            Mobile,
            "Edge on iPhone",
        ),
        (
            "Mozilla/5.0 (iPad; CPU OS 17_7 like Mac OS X) {apple} Version/17.7 Mobile/15E148 Safari/604.1",
            Tablet,
            "Safari on iPad",
        ),
        (
            "Mozilla/5.0 (Linux; Android 10; K) {chrome} Mobile Safari/537.36",
            Mobile,
            "Chrome on Android",
        ),
        ("Mozilla/5.0 (Linux; Android 10; K) {chrome} Safari/537.36", Tablet, "Chrome on Android"),
        (
            "Mozilla/5.0 (Linux; Android 10; K) {chrome} Mobile Safari/537.36 EdgA/131.0.0.0",
            Mobile,
            "Edge on Android",
        ),
        (
            "Mozilla/5.0 (Linux; Android 14; Pixel 8; wv) {chrome} Mobile Safari/537.36",
            Mobile,
            "Chrome on Android",
        ),
        (
            "Mozilla/5.0 (Android 15; Mobile; rv:133.0) Gecko/133.0 Firefox/133.0",
            Mobile,
            "Firefox on Android",
        ),
        (
            "Mozilla/5.0 (Android 14; Tablet; rv:133.0) Gecko/133.0 Firefox/133.0",
            Tablet,
            "Firefox on Android",
        ),
        (
            "Mozilla/5.0 (Linux; Android 14; SM-S921B) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/27.0 Chrome/125.0.0.0 Mobile Safari/537.36",
            Mobile,
            "Samsung Internet on Android",
        ),
        ("Mozilla/5.0 (X11; Linux x86_64)", Desktop, "Browser on Linux"),
        ("Mozilla/5.0", Unknown, "Browser"),
        (
            "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
            Bot,
            "Googlebot",
        ),
        (
            "Mozilla/5.0 (Linux; Android 6.0.1; Nexus 5X) {chrome} Mobile Safari/537.36 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
            Bot,
            "Googlebot",
        ),
        (
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/131.0.0.0 Safari/537.36",
            Bot,
            "HeadlessChrome",
        ),
        ("curl/8.5.0", Bot, "curl"),
        ("Wget/1.24.5", Bot, "Wget"),
        ("python-requests/2.32.3", Bot, "Python Requests"),
        ("Go-http-client/2.0", Bot, "Go-http-client"),
        ("kube-probe/1.30", Bot, "kube-probe"),
        ("", Unknown, "Unknown device"),
    ];

    #[test]
    fn names_what_people_and_programs_use() {
        for (text, kind, label) in TABLE {
            let text = text.replace("{apple}", APPLE).replace("{chrome}", CHROME);
            let device = describe(Some(&text));
            assert_eq!((device.kind, device.label.as_str()), (*kind, *label), "{text}");
            let words = [&device.browser, &device.os].into_iter().flatten();
            assert!(*kind != Bot || words.count() == 0, "{text}");
        }
        assert_eq!(describe(None).label, "Unknown device");
        let iphone = describe(Some(&TABLE[12].0.replace("{apple}", APPLE)));
        assert_eq!(
            (iphone.browser.as_deref(), iphone.os.as_deref()),
            (Some("Safari"), Some("iOS"))
        );
    }

    #[test]
    fn what_a_hostile_client_sends_is_harmless_where_it_is_shown() {
        let hostile = [
            "\u{202e}lru\u{202c}c/8.5.0".to_owned(),
            "cu\u{200b}rl\u{7}\r\n\u{1b}[31m/1".to_owned(),
            "Mozilla/5.0 (\u{2066}Windows NT 10.0\u{2069}) \u{202e}Firefox/133.0".to_owned(),
            "MyApp\u{202e}x/1.0 CFNetwork/1408 Darwin/22".to_owned(),
            format!("{}/1.0", "x".repeat(10_000)),
            format!("{} {} iPhone OS 1", "Mozilla/5.0".repeat(9), "a1.".repeat(300)),
            "ü".repeat(10_000),
            "\0\0\0".to_owned(),
            "<script>alert(1)</script>".to_owned(),
            "/".to_owned(),
        ];
        for text in &hostile {
            let Device { label, browser, os, .. } = describe(Some(text));
            for shown in [Some(label), browser, os].into_iter().flatten() {
                assert!(!shown.is_empty() && shown.len() <= 80, "{text:?}: {shown:?}");
                assert!(
                    shown.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()),
                    "{text:?}: {shown:?}"
                );
            }
        }
        let longest = name(&"x".repeat(600)).expect("a name").len();
        assert!(longest * 2 + " on ".len() <= 80);
    }

    /// Hundreds of the worst that 512 bytes can hold; a backtracking engine never ends with some.
    #[test]
    fn no_text_takes_long_to_read() {
        prepare();
        let worst = [
            "a1.".repeat(170),
            "Mozilla/5.0 (Linux; Android; ".repeat(17),
            "(".repeat(512),
            format!("Mozilla/5.0 iPhone OS {}", "1_".repeat(245)),
            format!("Android{}", " ".repeat(505)),
            "Mobile Safari Version/ ".repeat(22),
        ];
        let (done, is_done) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for text in worst.iter().cycle().take(300) {
                describe(Some(text));
            }
            done.send(())
        });
        is_done.recv_timeout(std::time::Duration::from_secs(20)).expect("an end");
    }
}
