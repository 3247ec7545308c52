//! Keys, the differences between two snapshots of them, and what a difference means.
//!
//! Everything here is pure: no I/O, no clock, no SQL, no HTTP. Where keys come from is
//! [`crate::openai`]'s business, where they are kept is [`crate::store`]'s.

mod appeared;
mod attribution;
mod changes;
mod compare;
mod field;
mod judge;
mod key;
mod mask;
mod outline;
mod personal;
mod project;
mod projects;
mod replay;
mod shelf;
mod sighting;
mod telling;
#[cfg(test)]
pub(crate) mod tests;

pub use appeared::{Appeared, AppearedCounts};
pub use attribution::{
    Actor, Attributable, Attribution, AuditEntry, KeyAction, PATIENCE, SLACK, attributable,
    attribute,
};
pub use changes::{Alteration, Appearance, Changes, Notice, NoticeKind, field_changes};
pub use compare::{Comparison, Snapshot};
pub(crate) use field::field_at;
pub use field::{Column, FieldStates, Sent, Shape, join_path, parse_value, render_value};
pub use judge::{
    Acceptance, Guards, Identity, LookUp, Removals, Stranger, Withheld, judge_identity,
    judge_missing, plan_look_ups,
};
pub use key::{InvalidKey, Key, KeyId, Namesake, Other, Scope};
pub use mask::{looks_like_secret, mask_secrets};
pub use outline::{Outline, boundaries};
pub use personal::{ERASED, is_erased, is_personal, known_changes};
pub use project::Project;
pub use projects::{KnownProject, KnownProjects, SeenProjects};
pub use replay::{EventKind, FieldChange, Inventory, PastEvent, ReplayError};
pub use shelf::Medium;
pub use sighting::Sighting;

/// `1 key`, `2 keys`.
pub(crate) fn keys(count: impl std::fmt::Display) -> String {
    let count = count.to_string();
    let plural = if count == "1" { "" } else { "s" };
    format!("{count} key{plural}")
}
