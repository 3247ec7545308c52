//! The only place that prints: listings, sentences, error reports and progress.
//!
//! Everything that the API sent (names, owners, even ids) was written by somebody else. It becomes
//! harmless *here*, at the edge, in every format, so that no caller can forget it: callers hand
//! over text as it is. Data goes to standard output, everything else to standard error.

mod harmless;
mod human;
mod json;
mod paint;
mod spreadsheet;
#[cfg(test)]
pub(crate) mod testing;

pub use harmless::{harmless, shortened};
pub use human::{count, duration, grouped};
pub use json::to_json;
