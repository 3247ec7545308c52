//! keydrift keeps the books on an organization's API keys.
//!
//! Data flows one way, and each arrow is one module talking to the next:
//!
//! ```text
//! commands · daemon (when) ─▶ sync ─▶ openai (pages) ─▶ inventory (compare) ─▶ store (one transaction)
//!                                                                                │
//!                      commands · output · metrics · notify  ◀──── queries ──────┘
//! ```
//!
//! - [`openai`] knows HTTP and the provider's JSON, and nothing of SQLite.
//! - [`inventory`] is pure: keys, events, comparing, replaying. No I/O, no clock.
//! - [`findings`] judges the keys of an inventory by rules. Pure as well.
//! - [`store`] holds every line of SQL.
//! - [`checkpoint`] keeps the end of each history outside the database, and holds the database against it.
//! - [`sync`] puts them together for one run of one organization; [`stop`] ends it early.
//! - [`daemon`] decides when, by a [`schedule`]; [`metrics`] and [`notify`] tell others of it.
//! - [`evidence`] packs a period of the history into one file, and reads such files.
//! - [`commands`] has one file a subcommand; [`output`] is the only place that prints.
//! - [`sim`] is a simulated organization that speaks the provider's HTTP on loopback.

pub mod actor;
pub mod audit;
pub mod checkpoint;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod config;
pub mod daemon;
pub mod evidence;
pub mod findings;
pub mod inventory;
pub mod metrics;
pub mod new_file;
pub mod notify;
mod numbered;
pub mod openai;
pub mod output;
pub mod run;
pub mod schedule;
pub mod secret;
pub mod sim;
pub mod stop;
pub mod store;
pub mod sync;
pub mod telemetry;
pub mod when;
