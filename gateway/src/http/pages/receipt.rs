//! Receipts, as pages show them: how many edges enforce something, and which one is awaited.

use std::time::Duration;

use askama::Template;
use axum::{Router, extract, http::HeaderMap, response::Response, routing::get};
use shared::{
    bus::{self, Bus},
    message::{
        Caller,
        revocation::{GetReceipt, Receipt},
    },
};

use super::{
    super::{State, caller::Signed, parameters::Number},
    notice::Notice,
    page,
    turned::Turned,
};

/// How long the answer to a form waits for edges. What takes longer is shown as it comes in.
const PATIENCE: Duration = Duration::from_millis(500);

pub(super) fn routes() -> Router<State> {
    Router::new().route("/receipts/{revision}", get(receipt))
}

/// Asks for something whose answer holds a receipt.
pub(super) async fn soon<F: Future>(what: F) -> F::Output {
    bus::answering_within(PATIENCE, what).await
}

/// A receipt as it stands.
#[derive(Template)]
#[template(path = "receipt.html")]
pub(super) struct ReceiptView {
    revision: u64,
    enforced: bool,
    total: u32,
    acknowledged: u32,
    fenced: u32,
    waiting: String,
    /// How long it took, where that is known.
    took_ms: Option<u64>,
    /// How many seconds those that are awaited may go on deciding, at most.
    at_most: Option<u64>,
}

impl ReceiptView {
    pub(super) fn new(receipt: &Receipt, took_ms: Option<u64>) -> Self {
        let waiting: Vec<_> = receipt.edges.waiting.iter().map(ToString::to_string).collect();
        Self {
            revision: receipt.revision,
            enforced: receipt.enforced,
            total: receipt.edges.total,
            acknowledged: receipt.edges.acknowledged,
            fenced: receipt.edges.fenced,
            waiting: waiting.join(", "),
            took_ms: took_ms.filter(|_| receipt.enforced),
            at_most: receipt.waiting_ms.map(|ms| ms.div_ceil(1_000)),
        }
    }

    /// How long it took, in words.
    fn took(&self) -> Option<String> {
        self.took_ms.map(|ms| match ms {
            0..1_000 => format!("{ms} ms"),
            _ => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        })
    }

    /// The receipt that a notice is about, as it stands now. None if it is not to be had: then the
    /// notice claims nothing about edges.
    pub(super) async fn of(bus: &Bus, caller: &Caller, notice: Notice) -> Option<Self> {
        let request = GetReceipt { caller: caller.clone(), revision: notice.revision? };
        let receipt = bus.request(&request).await.ok()?;
        Some(Self::new(&receipt, notice.took_ms))
    }
}

/// A page for a receipt, where no script asks for it.
#[derive(Template)]
#[template(path = "receipt-page.html")]
struct ReceiptPage {
    receipt: ReceiptView,
}

/// The receipt alone, for a page that waits for it.
async fn receipt(
    extract::State(state): extract::State<State>,
    Signed(caller): Signed,
    headers: HeaderMap,
    Number(revision): Number,
) -> Result<Response, Turned> {
    let receipt = state.bus.request(&GetReceipt { caller, revision }).await?;
    // Asked again and again while it is awaited: how long ago the commit was, when all enforce it.
    let asked = headers.contains_key("hx-request");
    let receipt = ReceiptView::new(&receipt, Some(receipt.took_ms).filter(|_| asked));
    if asked { page(&receipt) } else { page(&ReceiptPage { receipt }) }
}
