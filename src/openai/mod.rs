//! The client of the provider's admin API: HTTP and the provider's JSON, and nothing of the database.
//!
//! It yields the keys of complete scans, or says why it could not; looks up single keys that a scan did
//! not list; and asks who did what to a key. A [`Session`] is one run's conversation:
//!
//! - [`Session::scan`] lists the admin keys, [`Session::list_projects`] the projects and
//!   [`Session::scan_projects`] the keys of each. All go through the same listing (`listing`); the walk
//!   through its pages (`walk`) is a pure state machine, and what it promises is a law that its tests hold.
//! - [`Session::look_up_all`] asks for missing keys by id, and says how far the answers can be believed.
//! - [`Session::list_audit_entries`] reads the provider's own audit log: who did what to some keys.
//! - [`Session::probe_admin_keys`] and its like try what a credential opens, for `doctor`.
//! - `session` repeats what is worth repeating (`retry`) until the run's deadline, all within one budget
//!   of requests under way; `client` makes one attempt; `address` says where a credential may go.
//! - `wire`, `fields` and `owner` read the JSON; `mask` keeps secrets out of what they read.
//!
//! It sends GET requests and nothing else.

mod address;
mod ahead;
mod audit_log;
mod both_ends;
mod client;
mod error;
mod fields;
mod hint;
mod listing;
mod look_up;
mod mask;
mod owner;
mod pace;
mod plain;
mod probe;
mod projects;
mod retry;
mod scan;
mod segments;
mod session;
mod side_by_side;
mod subject;
#[cfg(test)]
mod test_server;
mod walk;
mod wire;

pub use ahead::Early;
pub use audit_log::AuditQuery;
pub(crate) use client::set_up_way_out;
pub use client::{Client, Options};
pub use error::Error;
pub use fields::Warnings;
pub use look_up::{Control, Inquiry, Place};
pub use probe::Probe;
pub use projects::{OnProject, ProjectListing};
pub use scan::{OnPage, Scan, ScanProgress};
pub use segments::Boundary;
pub use session::{Outcomes, Session, Traffic};
pub use side_by_side::{Audience, Opening};
pub use subject::{Lost, Origin, Subject};
