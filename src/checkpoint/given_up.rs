//! The checkpoints that were given up when a restored database was accepted.

use std::collections::{BTreeMap, HashMap};

use crate::audit::{Acceptance, Checkpoint, Digest, Place};
use crate::store::{self, Links};

/// What the acts in a database give up.
#[derive(Debug, Default)]
pub(super) struct GivenUp {
    by_origin: BTreeMap<String, OfOne>,
}

#[derive(Debug, Default)]
struct OfOne {
    accepted: Vec<Acceptance>,
    /// The links in the places that the acts give up: what agrees with them is not given up.
    there: HashMap<Place, Digest>,
}

impl GivenUp {
    pub(super) async fn load(links: &mut Links<'_>) -> Result<Self, store::Error> {
        let mut by_origin: BTreeMap<String, OfOne> = BTreeMap::new();
        for (origin, accepted) in links.accepted().await? {
            let (since, until) = accepted.span();
            let there = links.between(&origin, since, until).await?;
            let of_one = by_origin.entry(origin).or_default();
            of_one.there.extend(there.into_iter().map(|link| (link.place, link.digest)));
            of_one.accepted.push(accepted);
        }
        Ok(Self { by_origin })
    }

    pub(super) fn has(&self, checkpoint: &Checkpoint) -> bool {
        self.by_origin.get(&checkpoint.origin).is_some_and(|of_one| {
            of_one.accepted.iter().any(|accepted| accepted.covers(checkpoint))
                && of_one.there.get(&checkpoint.place) != Some(&checkpoint.digest)
        })
    }
}
