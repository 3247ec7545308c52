//! What retention leaves: up to where the items of a chain were thrown away, and the inventory as it was there.

use std::collections::BTreeMap;

use ring::digest::{Context, SHA256};

use super::bytes::Bytes;
use super::item::write_key;
use super::link::{Digest, Part};
use super::record::{ActRecord, InventoryRecord};
use super::seal::{Salt, Seal, Sealer};

const KEYFRAME: &str = "keydrift/keyframe/1";

/// Up to and with which run the items of each class were thrown away; 0: none were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Horizons {
    pub used: i64,
    /// All events but `used` ones, and the notices.
    pub events: i64,
}

impl Horizons {
    /// The newest run of which something is gone: the keyframe is the inventory after it.
    #[must_use]
    pub fn newest(self) -> i64 {
        self.used.max(self.events)
    }

    /// Whether the items of this part of a run were thrown away.
    #[must_use]
    pub fn cover(self, part: Part, run_id: i64) -> bool {
        run_id <= if part == Part::Used { self.used } else { self.events }
    }
}

/// What an act of the kind `pruned` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pruning {
    pub horizons: Horizons,
    pub keyframe: Digest,
}

impl Pruning {
    /// `None` if it says nothing of the kind.
    #[must_use]
    pub fn of(act: &ActRecord) -> Option<Self> {
        let detail = act.detail();
        let horizon = |class: &str| match &detail["horizons"][class] {
            serde_json::Value::Null => Some(0),
            run_id => run_id.as_i64(),
        };
        let horizons = Horizons { used: horizon("used")?, events: horizon("events")? };
        let said = detail["keyframe"]["run"].as_i64() == Some(horizons.newest());
        let keyframe = detail["keyframe"]["digest"].as_str()?.parse().ok()?;
        (act.kind == "pruned" && said).then_some(Self { horizons, keyframe })
    }
}

/// One key of a keyframe, and what its personal values are sealed with.
#[derive(Debug, Clone)]
pub struct KeyframeRecord {
    pub record: InventoryRecord,
    /// Whether it was missing then, and not believed gone.
    pub unconfirmed: bool,
    pub salt: Option<Salt>,
    pub erased: BTreeMap<String, Seal>,
}

impl KeyframeRecord {
    #[must_use]
    pub fn sealer(&self) -> Sealer<'_> {
        Sealer { salt: self.salt, erased: Some(&self.erased) }
    }

    fn write(&self, into: &mut Bytes) {
        let InventoryRecord { key, own_key, first_seen_at, last_seen_at, removed_at } =
            &self.record;
        into.list(7);
        write_key(into, key, self.sealer());
        into.text(key.scope.as_str());
        into.integer((*own_key).into());
        into.text(first_seen_at);
        into.optional(last_seen_at.as_deref());
        into.optional(removed_at.as_deref());
        into.integer(self.unconfirmed.into());
    }
}

/// The digest of a keyframe, whatever the order of its keys.
#[must_use]
pub fn keyframe_digest(records: &[KeyframeRecord]) -> Digest {
    let mut sorted: Vec<&KeyframeRecord> = records.iter().collect();
    sorted.sort_unstable_by_key(|record| record.record.key.id.as_str());
    let (mut context, mut bytes) = (Context::new(&SHA256), Bytes::default());
    bytes.text(KEYFRAME);
    for record in sorted {
        context.update(bytes.as_slice());
        bytes.clear();
        record.write(&mut bytes);
    }
    context.update(bytes.as_slice());
    Digest::from_ring(&context.finish())
}
