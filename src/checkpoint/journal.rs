//! What the journal is told of checkpoints.

use std::collections::BTreeMap;

use crate::audit::{Checkpoint, Note};
use crate::store::{self, Links};
use crate::telemetry::message;

/// What the organizations of some notes are called now, by what notes call them.
pub(super) async fn load_names(
    links: &mut Links<'_>,
    notes: &[Note],
) -> Result<BTreeMap<String, String>, store::Error> {
    let mut names = BTreeMap::new();
    for note in notes {
        let origin = &note.checkpoint.origin;
        if !names.contains_key(origin) {
            names.extend(links.name_of(origin).await?.map(|name| (origin.clone(), name)));
        }
    }
    Ok(names)
}

/// Tells the journal of a checkpoint.
pub(super) fn tell_journal(note: &Note, names: &BTreeMap<String, String>) {
    let Checkpoint { origin, place, digest, .. } = &note.checkpoint;
    let name = names.get(origin).unwrap_or(origin);
    tracing::info!(
        target: "keydrift::event",
        message_id = message::CHECKPOINT,
        org.label = name.as_str(),
        run.id = place.run_id,
        audit.head = %digest,
        checkpoint = %note,
        "checkpoint of {place}"
    );
}
