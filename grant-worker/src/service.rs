//! Which subject goes to which handler.

use shared::{
    bus::Server,
    message::grant::{
        CancelGrant, DecideGrant, ExpireGrants, ExtendGrant, GetEmergencyPolicy, GetEvidence,
        GetGrant, ListGrants, RecordActions, RemindOfReview, RequestGrant, ReviewGrant,
        RevokeGrant, SetEmergencyPolicy, WarnOfEnd,
    },
    runtime::SHUTDOWN,
};
use tokio_util::sync::CancellationToken;

use crate::{
    cancel, decide, evidence, expire, notify::Notify, policy, read, request, review, revoke,
    state::State,
};

/// Serves requests until `stop` is cancelled, then finishes what has begun.
pub(crate) async fn serve(
    state: State,
    notify: Notify,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let server = Server::new(state.bus.clone(), stop);
    server.handle::<RequestGrant, _, _, _>(&state, request::request).await?;
    server.handle::<ExtendGrant, _, _, _>(&state, request::extend).await?;
    server.handle::<DecideGrant, _, _, _>(&state, decide::decide).await?;
    server.handle::<CancelGrant, _, _, _>(&state, cancel::cancel).await?;
    server.handle::<RevokeGrant, _, _, _>(&state, revoke::revoke).await?;
    server.handle::<ReviewGrant, _, _, _>(&state, review::review).await?;
    server.handle::<GetEmergencyPolicy, _, _, _>(&state, policy::get).await?;
    server.handle::<SetEmergencyPolicy, _, _, _>(&state, policy::set).await?;
    server.handle::<ExpireGrants, _, _, _>(&state, expire::expire_all).await?;
    server.handle::<WarnOfEnd, _, _, _>(&state, expire::warn).await?;
    server.handle::<RemindOfReview, _, _, _>(&state, expire::remind).await?;
    server.handle::<ListGrants, _, _, _>(&state, read::list).await?;
    server.handle::<GetGrant, _, _, _>(&state, read::get).await?;
    server.handle::<GetEvidence, _, _, _>(&state, evidence::get).await?;
    server.handle::<RecordActions, _, _, _>(&state, evidence::record_actions).await?;
    notify.serve(&server).await?;
    let drained = server.drained(SHUTDOWN).await;
    // What is left here is committed, and the beacon tells the edges of it.
    state.announced(crate::FLUSH).await;
    drained
}
