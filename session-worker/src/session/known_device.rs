//! Devices that a user has signed in from before; somebody is told of others.

use serde_json::json;
use sha2::{Digest as _, Sha256};
use shared::{
    database::{Transaction, outbox},
    id::{SessionId, TenantId, UserId},
    message::{
        Origin,
        session::{Device, DeviceKind},
    },
};

use super::store;
use crate::{device, state::State};

/// Notes what a new session runs on, under the lock of the user's row. If the user has signed in
/// before, but never from such a device, it is told in the same transaction.
pub(crate) async fn note(
    state: &State,
    tx: &mut Transaction,
    (tenant, user): (TenantId, UserId),
    session: SessionId,
    origin: &Origin,
) -> Result<(), sqlx::Error> {
    let agent = origin.user_agent.as_deref();
    let device = device::describe(agent);
    if !store::is_new_device(tx, user, &fingerprint(&device, agent)).await? {
        return Ok(());
    }
    let payload = json!({
        "user": user,
        "session": session,
        "device": device,
        "ip": origin.ip,
        "location": origin.ip.and_then(|ip| state.locations.of(ip)),
    });
    outbox::append(tx, state.clock.wall(), tenant, "session.new-device", payload).await
}

/// The same for every version of a browser on a system, so that updates are no new devices.
fn fingerprint(device: &Device, agent: Option<&str>) -> [u8; 32] {
    let Device { kind, browser, os, label } = device;
    let named = match (kind, browser, os) {
        (DeviceKind::Bot, ..) => json!([kind, label]),
        (_, None, None) => json!([agent]),
        _ => json!([kind, browser, os]),
    };
    Sha256::digest(named.to_string()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_a_browser_on_a_system_of_any_version() {
        fn of(agent: &str) -> [u8; 32] {
            fingerprint(&device::describe(Some(agent)), Some(agent))
        }
        let chrome = |system: &str, version: u32| {
            format!(
                "Mozilla/5.0 ({system}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{version}.0.0.0 Safari/537.36"
            )
        };
        let windows = "Windows NT 10.0; Win64; x64";
        let of_chrome = |system, version| of(&chrome(system, version));
        assert_eq!(of_chrome(windows, 131), of_chrome(windows, 140));
        assert_ne!(of_chrome(windows, 131), of_chrome("X11; Linux x86_64", 131));
        let edge = format!("{} Edg/131.0.0.0", chrome(windows, 131));
        assert_ne!(of_chrome(windows, 131), of(&edge));
        // A tablet is not a phone.
        let android = chrome("Linux; Android 10; K", 131);
        assert_ne!(of(&android), of(&android.replace("Safari/", "Mobile Safari/")));
        assert_eq!(of("curl/8.5.0"), of("curl/8.6.0"));
        assert_ne!(of("curl/8.5.0"), of("Wget/1.24.5"));
        // Of what nothing is known, only the same text is the same.
        assert_ne!(of("\u{202e}1"), of("\u{202e}2"));
        assert_ne!(fingerprint(&device::describe(None), None), of(""));
    }
}
