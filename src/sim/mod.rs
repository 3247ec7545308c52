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
//! - `organization`, `mutations`, `truth`: what the organization holds, what happens to it, what
//!   really was there; `keys` is the ordered table underneath, `generate` the seeded content.
//! - `endpoints`: the API's own answers; `access`: whom it refuses, and how.
//! - `faults`, `distort`: what can go wrong, and the doing of it.
//! - `world`: one server's state; `server`, `http`: sockets.

mod access;
mod distort;
mod endpoints;
mod faults;
mod generate;
mod http;
mod keys;
mod mutations;
mod organization;
mod reply;
mod request;
mod server;
#[cfg(test)]
mod tests;
mod truth;
mod world;

pub use access::Access;
pub use faults::{BadItem, ErrorBody, Fault, Matcher};
pub use mutations::{Mutation, MutationKind};
pub use organization::{AboveMaxLimit, DEFAULT_NOW, Organization, Paging, VanishedCursor};
pub use reply::EdgeIds;
pub use request::{Endpoint, LoggedRequest};
pub use server::{ANY_PORT, Handle, Server};
pub use truth::{Lifetime, Mark};
pub use world::Churn;
