//! Every checkpoint in the own file against the database, for who wants to know whether they agree.

use std::collections::BTreeMap;

use super::proof::{Proof, Source};
use super::{Error, verifying_key};
use crate::audit::{Acceptance, Place};
use crate::config::Settings;
use crate::store::Reader;

const BEGINNING: Place = Place { run_id: -1, act_id: None };

/// How the checkpoints in the file and the links in the database are to each other.
#[derive(Debug, Default)]
pub struct Comparison {
    /// How many agree.
    pub agree: u64,
    /// How many were given up when a restored database was accepted.
    pub abandoned: u64,
    /// Stretches of the file that are no checkpoint.
    pub damaged: u64,
    /// The first link of an organization that is not what its checkpoint says, and what is wrong.
    pub bad: Option<(String, String)>,
    /// Organizations whose history has links, and of which not one checkpoint was found.
    pub without: Vec<String>,
    /// Why the file was left aside.
    pub unreadable: Option<String>,
}

/// Holds every checkpoint in the file against the database.
pub async fn compare_all(settings: &Settings, reader: &mut Reader) -> Result<Comparison, Error> {
    let database = reader.links().database_id().await?;
    let sources = [Source::Own(settings.checkpoint.path.clone())];
    let key = verifying_key(&settings.checkpoint);
    let plain = Proof::read(&database, &sources, Vec::new())?;
    let proof = match key {
        Some(key) => Proof::read(&database, &sources, vec![key])?,
        None => Proof::read(&database, &sources, Vec::new())?,
    };
    let mut found = Comparison {
        damaged: plain.damaged,
        unreadable: plain.unreadable.as_ref().map(|(_, error)| error.to_string()),
        ..Comparison::default()
    };
    let mut accepted: BTreeMap<String, Vec<Acceptance>> = BTreeMap::new();
    for (origin, acceptance) in reader.links().accepted().await? {
        accepted.entry(origin).or_default().push(acceptance);
    }
    let origins = reader.links().origins().await?;
    let lost = plain.origins().find(|origin| !origins.iter().any(|known| known == origin));
    if let Some(lost) = lost {
        found.bad = Some((lost.to_owned(), "it is not in the database".to_owned()));
    }
    for origin in origins {
        let accepted = accepted.remove(&origin).unwrap_or_default();
        let mut tally = proof.hold(reader, &origin, &accepted).await?;
        if tally.agree == 0 && tally.bad.is_none() {
            // What is not signed counts where nothing is.
            tally = plain.hold(reader, &origin, &accepted).await?;
        }
        found.agree += tally.agree;
        found.abandoned += tally.abandoned;
        let name = reader.links().name_of(&origin).await?.unwrap_or_else(|| origin.clone());
        if let Some((_, what)) = tally.bad {
            found.bad.get_or_insert((name, what));
        } else if tally.agree == 0 && !reader.links().after(&origin, BEGINNING).await?.is_empty() {
            found.without.push(name);
        }
    }
    Ok(found)
}
