//! Taking a database for good that departs from its checkpoints: a backup that was restored.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::given_up::GivenUp;
use super::{Checkpoints, Error, file, refuse_fresh_start, verifying_key};
use crate::audit::{Acceptance, Checkpoint, Digest, Note, Place};
use crate::clock::Timestamp;
use crate::config::Settings;
use crate::store::{AcceptedLink, Links, Writer};

/// Before everything.
const BEGINNING: Place = Place { run_id: -1, act_id: None };

/// Records that the database was taken for good, for each organization that departs from checkpoints which
/// were not given up yet, or for one; then that has a checkpoint too. Gives the last one departed from of each.
pub async fn accept(
    settings: &Settings,
    organization: Option<&str>,
    reason: &str,
    (now, actor): (Timestamp, &str),
    on_wait: impl FnMut(&str),
) -> Result<Vec<Checkpoint>, Error> {
    let (database, file) = (&settings.database.path, &settings.checkpoint.path);
    refuse_fresh_start(database, file)?;
    if !database.exists() {
        return Err(crate::store::Error::Missing { path: database.clone() }.into());
    }
    let mut writer = Writer::open(database, settings.database.lock_timeout, on_wait).await?;
    let accepted = record(settings, &mut writer, organization, reason, (now, actor)).await;
    let closed = writer.close().await;
    let accepted = accepted?;
    closed?;
    Ok(accepted)
}

async fn record(
    settings: &Settings,
    writer: &mut Writer,
    organization: Option<&str>,
    reason: &str,
    (now, actor): (Timestamp, &str),
) -> Result<Vec<Checkpoint>, Error> {
    let mut checkpoints = Checkpoints::read(&settings.checkpoint, &mut writer.links()).await?;
    let mut departures = find(settings, &mut writer.links()).await?;
    if let Some(name) = organization {
        let origin = find_origin(&mut writer.links(), &departures, name).await?;
        departures.retain(|departure| departure.until.origin == origin);
    }
    let link = |departure: &Departed| AcceptedLink {
        origin: departure.until.origin.clone(),
        detail: Acceptance::detail(reason, &departure.until, departure.since),
    };
    let links: Vec<AcceptedLink> = departures.iter().map(link).collect();
    // None of what is given up is newer than the act that gives it up.
    let Some(latest) = departures.iter().map(|departure| departure.latest).max() else {
        return Err(Error::NothingToAccept { file: settings.checkpoint.path.clone() });
    };
    writer.accept_links(&links, now.max(latest), actor).await?;
    for link in &links {
        // The act stands behind what was restored, not behind what was given up.
        checkpoints.newest.get_or_insert_default().remove(&link.origin);
    }
    checkpoints.keep(writer).await;
    Ok(departures.into_iter().map(|departure| departure.until).collect())
}

/// The name that an organization has in checkpoints, by the one that it has now; one that the database does not
/// know any more has only that.
async fn find_origin(
    links: &mut Links<'_>,
    departures: &[Departed],
    name: &str,
) -> Result<String, Error> {
    if let Some(origin) = links.origin_of(name).await? {
        return Ok(origin);
    }
    let lost = || departures.iter().map(|departure| departure.until.origin.as_str());
    if lost().any(|lost| lost == name) {
        return Ok(name.to_owned());
    }
    let mut known: BTreeSet<String> = lost().map(str::to_owned).collect();
    for origin in links.origins().await? {
        known.remove(&origin);
        known.extend(links.name_of(&origin).await?);
    }
    Err(Error::Unknown { name: name.to_owned(), known: known.into_iter().collect() })
}

/// The checkpoints of one organization that the database departs from, and that are not given up yet.
struct Departed {
    /// The last of them by its place.
    until: Checkpoint,
    /// The newest link before all of them that has a checkpoint which agrees.
    since: Place,
    /// When the latest of them was made.
    latest: Timestamp,
}

/// All checkpoints in the file are held against the database, not only the newest: of one run there may be
/// several that do not agree, if a backup was restored more than once.
async fn find(settings: &Settings, links: &mut Links<'_>) -> Result<Vec<Departed>, Error> {
    let database = links.database_id().await?;
    let given_up = GivenUp::load(links).await?;
    let key = verifying_key(&settings.checkpoint);
    let mut by_origin: BTreeMap<String, Vec<(Checkpoint, bool)>> = BTreeMap::new();
    let file = &settings.checkpoint.path;
    let each = |note: Note| {
        if note.checkpoint.database == database {
            let is_signed = key.as_ref().is_some_and(|key| note.is_signed_by(key));
            let origin = note.checkpoint.origin.clone();
            by_origin.entry(origin).or_default().push((note.checkpoint, is_signed));
        }
    };
    let read = file::read(file, each);
    read.map_err(|source| Error::Unreadable { file: file.clone(), source })?;
    let mut departures = Vec::new();
    for (origin, mut found) in by_origin {
        let there = links.after(&origin, BEGINNING).await?;
        let there: HashMap<Place, Digest> =
            there.into_iter().map(|link| (link.place, link.digest)).collect();
        // As when the database is opened: where any is signed by the key, the others count for nothing.
        let any_signed = found.iter().any(|(_, is_signed)| *is_signed);
        found.retain(|(_, is_signed)| *is_signed || !any_signed);
        let found = found.into_iter().map(|(checkpoint, _)| checkpoint);
        let (agreeing, departing): (Vec<Checkpoint>, Vec<Checkpoint>) = found
            .filter(|checkpoint| !given_up.has(checkpoint))
            .partition(|checkpoint| there.get(&checkpoint.place) == Some(&checkpoint.digest));
        departures.extend(departed(&agreeing, departing));
    }
    Ok(departures)
}

fn departed(agreeing: &[Checkpoint], departing: Vec<Checkpoint>) -> Option<Departed> {
    let first = departing.iter().map(|checkpoint| checkpoint.place).min()?;
    let latest = departing.iter().map(|checkpoint| checkpoint.time).max()?;
    let before = agreeing.iter().map(|checkpoint| checkpoint.place).filter(|place| *place < first);
    let since = before.max().unwrap_or(BEGINNING);
    let until =
        departing.into_iter().max_by_key(|checkpoint| (checkpoint.place, checkpoint.time))?;
    Some(Departed { until, since, latest })
}
