//! Taking a database for good that departs from its checkpoints: a backup that was restored.

use std::collections::HashMap;

use super::{Checkpoints, Departure, Error, compare, file, refuse_fresh_start};
use crate::audit::{Acceptance, Digest, Note, Place};
use crate::clock::Timestamp;
use crate::config::Settings;
use crate::store::{AcceptedLink, Links, Writer};

/// Records that the database was taken for good, for each organization whose newest checkpoint it departs
/// from, or for one; then that has a checkpoint too. Gives what was departed from.
pub async fn accept(
    settings: &Settings,
    organization: Option<&str>,
    reason: &str,
    (now, actor): (Timestamp, &str),
    on_wait: impl FnMut(&str),
) -> Result<Vec<Departure>, Error> {
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
) -> Result<Vec<Departure>, Error> {
    let mut checkpoints = Checkpoints::read(&settings.checkpoint, &mut writer.links()).await?;
    let newest = checkpoints.newest.clone().unwrap_or_default();
    let mut departures = compare::compare(&mut writer.links(), &newest).await?;
    departures
        .retain(|departure| organization.is_none_or(|name| name == departure.checkpoint().origin));
    let mut links = Vec::new();
    for departure in &departures {
        let checkpoint = departure.checkpoint();
        let since = last_in_common(settings, &mut writer.links(), checkpoint).await?;
        let detail = Acceptance::detail(reason, checkpoint, since);
        links.push(AcceptedLink { origin: checkpoint.origin.clone(), detail });
    }
    // None of what is given up is newer than the act that gives it up.
    let latest = departures.iter().map(|departure| departure.checkpoint().time).max();
    let Some(latest) = latest else {
        return Err(Error::NothingToAccept { file: settings.checkpoint.path.clone() });
    };
    writer.accept_links(&links, now.max(latest), actor).await?;
    for link in &links {
        // The act stands behind what was restored, not behind what was given up.
        checkpoints.newest.get_or_insert_default().remove(&link.origin);
    }
    checkpoints.keep(writer).await;
    Ok(departures)
}

/// The newest link of an organization that has a checkpoint which agrees.
async fn last_in_common(
    settings: &Settings,
    links: &mut Links<'_>,
    of: &crate::audit::Checkpoint,
) -> Result<Place, Error> {
    const BEGINNING: Place = Place { run_id: -1, act_id: None };
    let there = links.after(&of.origin, BEGINNING).await?;
    let there: HashMap<Place, Digest> =
        there.into_iter().map(|link| (link.place, link.digest)).collect();
    let mut newest = BEGINNING;
    let file = &settings.checkpoint.path;
    let each = |Note { checkpoint, .. }: Note| {
        let is_ours = checkpoint.database == of.database && checkpoint.origin == of.origin;
        if is_ours && there.get(&checkpoint.place) == Some(&checkpoint.digest) {
            newest = newest.max(checkpoint.place);
        }
    };
    let read = file::read(file, each);
    read.map_err(|source| Error::Unreadable { file: file.clone(), source })?;
    Ok(newest)
}
