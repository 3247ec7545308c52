//! The only place that prints: listings, sentences, error reports and progress.
//!
//! Everything that the API sent (names, owners, even ids) was written by somebody else. It becomes
//! harmless *here*, at the edge, in every format, so that no caller can forget it: callers hand
//! over text as it is. Data goes to standard output, everything else to standard error.
//!
//! Nothing is fetched from globals: a [`Printer`] is made once, in `main`, and passed in.

mod details;
mod harmless;
mod human;
mod json;
mod listing;
mod paint;
mod printer;
mod progress;
mod report;
mod spreadsheet;
mod table;
#[cfg(test)]
pub(crate) mod testing;

pub use harmless::{harmless, shortened};
pub use human::{count, duration, grouped};
pub use json::to_json;
pub use listing::{Cell, Column, Format, Kind, ListingWriter};
pub use printer::{Printer, Stream, Terminal};
pub use progress::{Progress, ProgressLines};
pub use report::is_closed;

use std::io;

/// Standard output could not be written to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The reader has seen enough (`keydrift log | head`). It is no failure: `main` ends quietly
    /// with exit code 0.
    #[error("nobody reads standard output any more")]
    Closed,
    #[error("could not write to standard output")]
    Write(#[source] io::Error),
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::Closed } else { Self::Write(error) }
    }
}

impl From<csv::Error> for Error {
    fn from(error: csv::Error) -> Self {
        match error.into_kind() {
            csv::ErrorKind::Io(error) => Self::from(error),
            other => Self::Write(io::Error::other(format!("{other:?}"))),
        }
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::from(io::Error::from(error))
    }
}

pub type Result<T, E = Error> = std::result::Result<T, E>;
