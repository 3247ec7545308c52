//! A simulated organization that speaks the provider's HTTP on loopback: for the demo, the tests
//! and the benchmarks.
//!
//! It keeps its own keys, credentials and time, and everything about it follows from a seed. Around
//! a faithful API it has what a real one does not offer: changes in the middle of a scan, faults
//! and latency on demand, a log of what was asked, and the truth to hold an inventory against.
//!
//! ```no_run
//! use keydrift::sim::{ANY_PORT, Fault, Matcher, Organization, Server};
//!
//! # fn main() -> std::io::Result<()> {
//! let server = Server::start_blocking(Organization::generate(7, 250), ANY_PORT)?;
//! let organization = server.organization();
//! let credential = organization.credential();
//! organization.fault(Matcher::list().nth(2), Fault::status(503));
//! // … a client lists `server.base_url()` with `credential` …
//! assert!(organization.requests().iter().all(|request| request.method == "GET"));
//! # Ok(())
//! # }
//! ```
//!
//! - `organization`, `projects`, `audit_log`: what the organization holds, the admin keys, the
//!   projects with theirs, and who did what; `generate` is the seeded content.
//! - `mutations`, `random`: what happens to it; `truth`: what really was there. `rows` is one list,
//!   `keys` the ordered table underneath.
//! - `endpoints`, `listing`, `audit_query`: the API's own answers; `access`: whom it refuses, and
//!   how.
//! - `faults`, `distort`: what can go wrong, and the doing of it.
//! - `world`: one server's state; `server`, `http`: sockets.

mod access;
mod audit_log;
mod audit_query;
mod distort;
mod endpoints;
mod faults;
mod generate;
mod http;
mod keys;
mod listing;
mod mutations;
mod organization;
mod projects;
mod random;
mod reply;
mod request;
mod rows;
mod server;
#[cfg(test)]
mod tests;
mod truth;
mod world;

pub use access::{Access, Area};
pub use audit_log::{Actor, AuditDelay, AuditEntry, AuditLogging, AuditWriting};
pub use faults::{BadItem, ErrorBody, Fault, Matcher};
pub use organization::{AboveMaxLimit, DEFAULT_NOW, Organization, Paging, VanishedCursor};
pub use projects::ProjectAccess;
pub use random::{Mutation, MutationKind};
pub use reply::EdgeIds;
pub use request::{Endpoint, LoggedRequest};
pub use server::{ANY_PORT, Handle, Server};
pub use truth::{KeyTruth, Lifetime, Mark};
pub use world::Churn;
