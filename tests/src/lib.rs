//! A whole Breakglass for a test: real processes, a NATS of its own, a database of its own in a
//! Postgres that all tests of a process share, and a random subject prefix.

mod bus;
mod disturb;
mod edges;
mod events;
pub mod faults;
pub mod model;
mod people;
pub mod scratch;
mod world;

pub use self::bus::observer;
pub use self::disturb::Paused;
pub use self::edges::{assert_whole, receipt};
pub use self::events::{Event, Events};
pub use self::people::Authenticator;
pub use self::world::{Answer, Client, Options, World, eventually, program};
