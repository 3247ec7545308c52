//! The client of the provider's admin API: HTTP and the provider's JSON, and nothing of SQLite.
mod error;
mod fields;
mod mask;
mod walk;
mod wire;
pub use error::{Error, Lost, Origin, Subject};
pub use fields::Warnings;
