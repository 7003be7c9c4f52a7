//! Which subject goes to which handler.

use shared::{
    bus::Server,
    message::grant::{ExpireGrant, GetGrant, ListGrants, RequestGrant, RevokeGrant},
    runtime::SHUTDOWN,
};
use tokio_util::sync::CancellationToken;

use crate::{expire, read, request, revoke, state::State};

/// Serves requests until `stop` is cancelled, then finishes what has begun.
pub(crate) async fn serve(state: State, stop: CancellationToken) -> anyhow::Result<()> {
    let server = Server::new(state.bus.clone(), stop);
    server.handle::<RequestGrant, _, _, _>(&state, request::request).await?;
    server.handle::<RevokeGrant, _, _, _>(&state, revoke::revoke).await?;
    server.handle::<ExpireGrant, _, _, _>(&state, expire::expire).await?;
    server.handle::<ListGrants, _, _, _>(&state, read::list).await?;
    server.handle::<GetGrant, _, _, _>(&state, read::get).await?;
    let drained = server.drained(SHUTDOWN).await;
    // What is left here is committed, and the beacon tells the edges of it.
    state.announced(crate::FLUSH).await;
    drained
}
