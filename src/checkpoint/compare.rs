//! The database against the newest checkpoints of it.

use std::collections::BTreeMap;
use std::path::Path;

use super::Error;
use crate::audit::{Checkpoint, Note};
use crate::store::{self, Links};

/// How a database departs from a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Departure {
    /// The whole database ends before it.
    Older { checkpoint: Checkpoint, end: i64 },
    /// The database goes on, but this link is not in it.
    Truncated { checkpoint: Checkpoint, end: i64 },
    /// The link is there, with another digest.
    Forked { checkpoint: Checkpoint },
}

impl Departure {
    #[must_use]
    pub fn checkpoint(&self) -> &Checkpoint {
        match self {
            Self::Older { checkpoint, .. }
            | Self::Truncated { checkpoint, .. }
            | Self::Forked { checkpoint } => checkpoint,
        }
    }

    /// As an error of the database at `database`, whose checkpoint is in `file`.
    #[must_use]
    pub fn into_error(self, database: &Path, file: &Path) -> Error {
        let (database, file) = (database.to_owned(), file.to_owned());
        match self {
            Self::Older { checkpoint, end } => {
                Error::Older { database, file, checkpoint: Box::new(checkpoint), end }
            }
            Self::Truncated { checkpoint, end } => {
                Error::Truncated { database, file, checkpoint: Box::new(checkpoint), end }
            }
            Self::Forked { checkpoint } => {
                Error::Forked { database, file, checkpoint: Box::new(checkpoint) }
            }
        }
    }
}

/// Where a database departs from the newest checkpoints of it, by organization.
pub(super) async fn compare(
    links: &mut Links<'_>,
    newest: &BTreeMap<String, Note>,
) -> Result<Vec<Departure>, store::Error> {
    let mut departures = Vec::new();
    for note in newest.values() {
        let checkpoint = note.checkpoint.clone();
        match links.find(&checkpoint.origin, checkpoint.place).await? {
            Some(link) if link.digest == checkpoint.digest => {}
            Some(_) => departures.push(Departure::Forked { checkpoint }),
            None => {
                let (run_id, act_id) = links.end().await?;
                let act_is_there = checkpoint.place.act_id.is_none_or(|id| id <= act_id);
                let end = run_id;
                let place = checkpoint.place;
                departures.push(
                    if run_id < place.run_id || run_id == place.run_id && !act_is_there {
                        Departure::Older { checkpoint, end }
                    } else {
                        Departure::Truncated { checkpoint, end }
                    },
                );
            }
        }
    }
    Ok(departures)
}
