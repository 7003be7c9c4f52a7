//! The promise, checked in every world that some small scopes can come to.
//!
//! A world is a database, edges, workers, and messages between them that are lost, repeated,
//! delayed and reordered. What decides is the code that the services run: `Edge`, `EdgeRow`,
//! `FenceWatch` and `Enforcement` of [`shared::lease`]. What stands round it here — the statements
//! on the database, the bus, the cache — is written so that it allows at least as much as the real
//! ones:
//!
//! - At every moment an edge may hold what was loaded under any head that there has been: replicas
//!   lag and loads are delayed without bound, and the cache keeps everything. Every decision that
//!   may have begun since a receipt may end at any moment.
//! - A message is under way until it is taken; what never arrives is lost.
//! - Rows and acks are read as soon as they change, which can only bring fences and receipts
//!   earlier; some scopes read them at any other moment as well.
//! - Clocks go in steps of the margin. An edge's may be one step behind a worker's.

mod after;
mod at_edge;
mod at_worker;
mod broken;
mod fair;
mod moves;
mod mutation;
mod plan;
mod promise;
mod readings;
mod scope;
mod search;
mod step;
mod system;

#[cfg(test)]
mod tests;

pub use self::plan::run;
