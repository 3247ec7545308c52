//! The client of the provider's admin API: HTTP and the provider's JSON, and nothing of the database.
//!
//! Its one public act is to yield the keys of a complete scan, or to say why it could not; and to look
//! up single keys that a scan did not list. A [`Session`] is one run's conversation:
//!
//! - [`Session::scan`] walks the pages. The walk itself (`walk`) is a pure state machine, and what it
//!   promises is a law that its tests hold.
//! - [`Session::look_up`] asks for missing keys by id, and says how far the answers can be believed.
//! - `session` repeats what is worth repeating (`retry`) until the run's deadline; `client` makes one
//!   attempt; `address` says where a credential may go.
//! - `wire` and `fields` read the JSON; `mask` keeps secrets out of what they read.
//!
//! It sends GET requests and nothing else.

mod address;
mod client;
mod error;
mod fields;
mod look_up;
mod mask;
mod retry;
mod scan;
mod session;
#[cfg(test)]
mod test_server;
mod walk;
mod wire;

pub(crate) use client::set_up_way_out;
pub use client::{Client, Options};
pub use error::{Error, Lost, Origin, Subject};
pub use fields::Warnings;
pub use scan::{OnPage, Scan, ScanProgress};
pub use session::{Outcomes, Session, Traffic};
