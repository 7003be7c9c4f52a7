//! Which subject goes to which handler, and everything that runs beside them.

use std::{sync::Arc, time::Duration};

use shared::{
    bus::{Bus, Server},
    database,
    message::{account, audit, edge, mfa as factor, revocation, session, user},
    runtime,
    subject::Identity,
};
use tokio::task::JoinSet;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Config, account as accounts, audit as record,
    audit::Heads,
    device, edges,
    keys::{self, Keys},
    later::Later,
    location::Locations,
    mfa,
    password::{Hashing, rules::Blocklist},
    presence,
    prune::prune,
    revocation::{Parts, Revocations},
    session::{
        self as sessions, Touching,
        ending::{self, ENDERS},
    },
    sign_in,
    state::State,
    user as users,
    warm::Warm,
};

/// Connections for leases, beacons and fences alone: they never wait behind what anybody can ask
/// for.
const LEASE_CONNECTIONS: u32 = 4;
/// Connections for receipts alone, of which many may wait while an edge is dead.
const RECEIPT_CONNECTIONS: u32 = 4;
/// Connections for looking sessions up alone, which anybody can cause with made-up tokens.
const RESOLVE_CONNECTIONS: u32 = 8;

/// How long the last records and answers may take to go out.
const FLUSH: Duration = Duration::from_secs(1);

/// Runs session-worker until it is told to stop.
pub async fn run(config: Config, context: runtime::Context) -> anyhow::Result<()> {
    let locations = Locations::load(config.location_database.as_deref())?;
    let bus = Bus::connect(&config.bus, Identity::SessionWorker).await?;
    let pool =
        database::connect(&config.database.database_url, config.database.database_connections)?;
    let own_pool = |connections| database::connect(&config.database.database_url, connections);
    let audit_key = keys::audit::read(&config.audit_key)?;
    let background = TaskTracker::new();
    let (revocations, renewals) = Revocations::new(Parts {
        bus: bus.clone(),
        pool: own_pool(LEASE_CONNECTIONS)?,
        receipt_pool: own_pool(RECEIPT_CONNECTIONS)?,
        clock: context.clock.clone(),
        lease: config.lease(),
        margin: config.margin(),
        background: background.clone(),
    });
    let (endings, ender) =
        ending::start(Warm::new(pool.clone(), context.clock.clone()), revocations.clone());
    let state = State {
        pool,
        endings,
        resolve_pool: own_pool(RESOLVE_CONNECTIONS)?,
        clock: context.clock.clone(),
        revocations,
        hashing: Hashing::new(config.hashing_threads)?,
        blocklist: Blocklist::new(config.password_blocklist.as_deref())?,
        keys: Keys::read(&config.secret_keys)?,
        locations: Arc::new(locations),
        idle_seconds: config.session_idle_seconds,
        absolute_seconds: config.session_seconds,
        later: Later::new(background.clone()),
        background: background.clone(),
    };

    tokio::task::spawn_blocking(device::prepare);
    let mut tasks = JoinSet::new();
    // Requests that are still worked on while this stops may wait for acks.
    let finished = CancellationToken::new();
    tasks.spawn(state.revocations.clone().hear_acks(finished.clone()));
    tasks.spawn(state.revocations.clone().look_after_receipts(finished.clone()));
    tasks.spawn(renewals.run(finished.clone()));
    for _ in 0..ENDERS {
        tasks.spawn(ender.clone().run(finished.clone()));
    }
    tasks.spawn(state.revocations.clone().watch(context.stop.clone()));
    tasks.spawn(prune(state.pool.clone(), context.stop.clone()));
    let heads = Heads::new(state.pool.clone(), audit_key, config.audit_head_every());
    tasks.spawn(heads.run(context.stop.clone()));
    if let Some(listen) = config.health_listen {
        let stop = context.stop.clone();
        tasks.spawn(database::serve_health(listen, stop, bus.clone(), state.pool.clone()));
    }
    let server = serve(&bus, &state, &context).await?;
    tasks.spawn(async move {
        let drained = server.drained(runtime::SHUTDOWN).await;
        background.close();
        let _ = tokio::time::timeout(FLUSH, background.wait()).await;
        bus.flush(FLUSH).await;
        finished.cancel();
        drained
    });
    runtime::until_first_ends(&context.stop, tasks).await
}

async fn serve(bus: &Bus, state: &State, context: &runtime::Context) -> anyhow::Result<Server> {
    let server = Server::new(bus.clone(), context.stop.clone());
    server.handle::<edge::Join, _, _, _>(&state.revocations, Revocations::join).await?;
    server.handle::<edge::Renew, _, _, _>(&state.revocations, Revocations::renew).await?;
    server.handle::<edge::Leave, _, _, _>(&state.revocations, Revocations::leave).await?;
    server.handle::<revocation::Since, _, _, _>(&state.revocations, Revocations::since).await?;
    server
        .handle::<revocation::Enforce, _, _, _>(&state.revocations, Revocations::enforce_committed)
        .await?;
    server.handle::<revocation::GetReceipt, _, _, _>(state, edges::receipt).await?;
    server.handle::<edge::ListEdges, _, _, _>(state, edges::list).await?;
    server.handle::<session::SignIn, _, _, _>(state, sign_in::sign_in).await?;
    server.handle::<session::SignInMfa, _, _, _>(state, sign_in::sign_in_mfa).await?;
    server.handle::<session::SignOut, _, _, _>(state, sessions::sign_out).await?;
    server.handle::<session::Resolve, _, _, _>(state, sessions::resolve).await?;
    server.handle::<session::List, _, _, _>(state, sessions::list).await?;
    server.handle::<session::Revoke, _, _, _>(state, sessions::revoke).await?;
    server.handle::<session::RevokeAll, _, _, _>(state, sessions::revoke_all).await?;
    let touching = Touching::new(state.pool.clone());
    server.handle::<session::Touch, _, _, _>(&touching, Touching::touch).await?;
    server.handle::<account::Me, _, _, _>(state, accounts::me).await?;
    server.handle::<user::ChangePassword, _, _, _>(state, accounts::change_password).await?;
    server.handle::<user::SetPassword, _, _, _>(state, accounts::set_password).await?;
    server.handle::<user::ForgotPassword, _, _, _>(state, accounts::forgot_password).await?;
    server.handle::<user::IssueReset, _, _, _>(state, accounts::issue_reset).await?;
    server.handle::<user::ListUsers, _, _, _>(state, users::list).await?;
    server.handle::<user::GetUser, _, _, _>(state, users::get).await?;
    server.handle::<user::CreateUser, _, _, _>(state, users::create).await?;
    server.handle::<user::ChangeUser, _, _, _>(state, users::change).await?;
    server.handle::<user::ResetPassword, _, _, _>(state, users::reset_password).await?;
    server.handle::<factor::Enroll, _, _, _>(state, mfa::enroll).await?;
    server.handle::<factor::Confirm, _, _, _>(state, mfa::confirm).await?;
    server.handle::<factor::Disable, _, _, _>(state, mfa::disable).await?;
    server.handle::<factor::RenewBackupCodes, _, _, _>(state, mfa::renew_backup_codes).await?;
    server.handle::<factor::Reset, _, _, _>(state, mfa::reset).await?;
    server.handle::<factor::GetPolicy, _, _, _>(state, mfa::policy::get).await?;
    server.handle::<factor::GetPolicyReach, _, _, _>(state, mfa::policy::reach).await?;
    server.handle::<factor::SetPolicy, _, _, _>(state, mfa::policy::set).await?;
    server.handle::<factor::Deadline, _, _, _>(state, mfa::policy::deadline).await?;
    server.handle::<factor::VerifyCode, _, _, _>(state, presence::verify_code).await?;
    server.handle::<audit::ListAudit, _, _, _>(state, record::list).await?;
    server.handle::<audit::ExportAudit, _, _, _>(state, record::export).await?;
    server.handle::<audit::GetHead, _, _, _>(state, record::head).await?;
    Ok(server)
}
