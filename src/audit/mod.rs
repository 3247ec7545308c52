//! The history as evidence: bytes, digests, links, and what proves or disproves them.
//!
//! Everything here is pure: no I/O, no clock, no SQL. [`crate::store`] keeps the digests and streams the
//! history through a [`Verifier`]; `docs/audit-log.md` specifies the bytes, so that nobody has to trust this
//! code.
//!
//! Each run of an organization is a link. Its digest covers the run's header, the digest of the link before
//! it, and the digests of its parts: the events but for `used` ones, the `used` events, the notices, the attributions. So a
//! part can be thrown away by a retention policy while the chain still holds. What is done to the history
//! itself (a restore that is accepted, a part that is pruned, a person who is forgotten) is a link as well: an
//! [`Act`].

mod acceptance;
mod attribution;
mod bytes;
mod checkpoint;
mod feed;
mod item;
mod keyframe;
pub mod lines;
mod link;
mod note;
mod record;
mod replay;
mod seal;
#[cfg(test)]
mod tests;
mod verify;

pub use acceptance::Acceptance;
pub use attribution::{
    ACTOR_EMAIL, ACTOR_IP_ADDRESS, AttributionItem, AttributionRecord, Explained,
};
pub use checkpoint::{Checkpoint, Note, NoteReader, Place, Standing, sign_note};
pub use feed::{Feed, Told};
pub use item::{Content, Event, NoticeItem, Placed};
pub use keyframe::{Horizons, KeyframeRecord, Pruning, keyframe_digest};
pub use link::{Act, ActKind, Digest, Link, Part, PartDigest, PartHasher, RunHeader};
pub use note::{KeyFault, Signature, SigningKey, VerifyingKey};
pub use record::{
    ActRecord, Erased, ErasedValue, EventRecord, InventoryRecord, NoticeChange, NoticeRecord,
    RunRecord, VersionRecord, put_erased,
};
pub use seal::{ERASED, Salt, Seal, Sealer, is_personal};
pub use verify::{Gap, Inventories, Overdue, Problem, Start, StartOfChain, Verdict, Verifier};
