//! Waits until a service says that it is ready.

use std::{net::SocketAddr, time::Duration};

use tokio::time::sleep;

/// Asks `/readyz` again and again until it answers 200. Bounded by whoever waits.
pub(crate) async fn until_ready(address: SocketAddr) {
    let url = format!("http://{address}/readyz");
    // Without proxies: whatever the environment says, this stays on the machine.
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(2)).build();
    let client = client.expect("a client without TLS needs nothing from the system");
    loop {
        if let Ok(answer) = client.get(&url).send().await
            && answer.status() == reqwest::StatusCode::OK
        {
            return;
        }
        sleep(Duration::from_millis(25)).await;
    }
}
