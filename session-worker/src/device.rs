//! What a session runs on, from its `User-Agent`.

use shared::message::session::{Device, DeviceKind};

/// Names a program that says what it is (`curl/8.5.0`). Browsers are not told apart.
pub(crate) fn describe(user_agent: Option<&str>) -> Device {
    let product = user_agent
        .and_then(|text| text.split(['/', ' ', '(']).next())
        .filter(|name| !name.is_empty() && *name != "Mozilla")
        .filter(|name| name.len() <= 64 && name.bytes().all(|byte| byte.is_ascii_graphic()));
    let (kind, label) = match (product, user_agent) {
        (Some(name), _) => (DeviceKind::Bot, name),
        (None, Some(text)) if text.starts_with("Mozilla") => (DeviceKind::Unknown, "Browser"),
        _ => (DeviceKind::Unknown, "Unknown device"),
    };
    Device { kind, browser: None, os: None, label: label.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_can_be_known() {
        let label = |text| describe(text).label;
        assert_eq!(label(Some("curl/8.5.0")), "curl");
        assert_eq!(label(Some("Mozilla/5.0 (X11; Linux x86_64)")), "Browser");
        assert_eq!(label(Some("")), "Unknown device");
        assert_eq!(label(None), "Unknown device");
    }
}
