//! What all edges say at a moment, and what receipts promise of them.

use anyhow::Context as _;
use serde_json::{Value, json};
use shared::message::revocation::{Receipt, ReceiptEdges};

use crate::{Answer, Client, World};

impl World {
    /// What each edge says to a reverse proxy about a client: the status and the effective role.
    pub async fn authorize(&self, client: &Client) -> anyhow::Result<Vec<(u16, String)>> {
        let mut said = Vec::new();
        for edge in self.at_all_edges(client) {
            said.push(edge.authorize().await?);
        }
        Ok(said)
    }

    /// Each edge's answer where the role of an admin is demanded.
    pub async fn demand_admin(&self, client: &Client) -> anyhow::Result<Vec<u16>> {
        let mut said = Vec::new();
        for edge in self.at_all_edges(client) {
            said.push(edge.get("/authorize?role=admin").await?.status.as_u16());
        }
        Ok(said)
    }

    /// How many lives of edges may be deciding, as the database has it.
    pub async fn live_edges(&self) -> anyhow::Result<i64> {
        let count = "SELECT count(*) FROM edges WHERE NOT fenced AND NOT has_left";
        Ok(sqlx::query_scalar(count).fetch_one(&self.pool).await?)
    }
}

impl Client {
    /// Ends a grant.
    pub async fn revoke_grant(&self, grant: &Value, comment: &str) -> anyhow::Result<Answer> {
        let id = grant["id"].as_str().context("a grant has an id")?;
        self.post(&format!("/v1/emergency/grants/{id}/revoke"), json!({"comment": comment})).await
    }
}

/// The receipt in an answer's body.
pub fn receipt(body: &Value) -> anyhow::Result<Receipt> {
    serde_json::from_value(body["receipt"].clone()).with_context(|| format!("no receipt: {body}"))
}

/// Fails unless a receipt says that so many edges, and no other, enforce the revision.
#[track_caller]
pub fn assert_whole(receipt: &Receipt, acknowledged: u32, fenced: u32) {
    let edges =
        ReceiptEdges { total: acknowledged + fenced, acknowledged, fenced, waiting: Vec::new() };
    assert_eq!((receipt.enforced, &receipt.edges), (true, &edges), "{receipt:?}");
}
