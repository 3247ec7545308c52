//! When to believe that a key is gone, and that the list is the right organization's.

use std::collections::{HashMap, HashSet};

use super::key::KeyId;
use super::keys;

/// The answer of a look-up of one missing key by its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LookUp {
    /// 200 with the same id.
    Present,
    /// 404 in the API's error envelope, and a key that the scan did list answered 200.
    Gone,
    /// All else.
    Unknown,
}

/// How much uncertainty a run may have about missing keys before it is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guards {
    /// So many missing keys may always be unknown.
    pub keys: usize,
    /// So many per cent of the snapshot may always be unknown.
    pub percent: usize,
    /// More missing keys than this are not even looked up.
    pub confirm_limit: usize,
}

impl Guards {
    /// How many of the missing keys may be unknown: the larger of the two guards.
    #[must_use]
    pub fn most_unknown(&self, snapshot_keys: usize) -> usize {
        self.keys.max(snapshot_keys.saturating_mul(self.percent) / 100)
    }
}

/// What somebody accepted by name: what a held or refused run recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acceptance {
    /// The keys that were missing then.
    pub missing: HashSet<KeyId>,
    /// If that run was refused as another organization's: the header it came with, if any.
    pub stranger: Option<Option<String>>,
}

/// Why the list is believed to be the right organization's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// Nothing speaks against it.
    Same,
    /// The header is another, but most keys are the same.
    HeaderChanged { before: String, now: String },
}

/// The list looks like another organization's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stranger {
    #[error(
        "the answers come from organization `{now}`, not from `{before}` as before, and only {common} of {snapshot} known key{} {} in the list",
        if *snapshot == 1 { "" } else { "s" }, are(*common)
    )]
    OtherHeader { before: String, now: String, common: usize, snapshot: usize },
    #[error("{} in the list", none_of(*snapshot))]
    NothingInCommon { snapshot: usize },
}

/// Whether a list of keys comes from the organization that the snapshot came from.
///
/// `before` and `now` are the values of the `openai-organization` header, which is compared with its own
/// earlier value only. `common` of the snapshot's `snapshot` keys are in the list.
pub fn judge_identity(
    snapshot: usize,
    common: usize,
    before: Option<&str>,
    now: Option<&str>,
) -> Result<Identity, Stranger> {
    match (before, now) {
        (Some(before), Some(now)) if before == now => Ok(Identity::Same),
        (Some(before), Some(now)) => {
            let (before, now) = (before.to_owned(), now.to_owned());
            if common.saturating_mul(2) > snapshot {
                Ok(Identity::HeaderChanged { before, now })
            } else {
                Err(Stranger::OtherHeader { before, now, common, snapshot })
            }
        }
        _ if snapshot > 0 && common == 0 => Err(Stranger::NothingInCommon { snapshot }),
        _ => Ok(Identity::Same),
    }
}

fn none_of(snapshot: usize) -> String {
    match snapshot {
        1 => "the only known key is not".to_owned(),
        many => format!("none of the {many} known keys is"),
    }
}

/// Why a run is held.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Withheld {
    #[error(
        "{missing} of {} {} missing, more than the {limit} that may be looked up (`removal.confirm_limit`)",
        keys(snapshot), are(*missing)
    )]
    TooManyMissing { missing: usize, snapshot: usize, limit: usize },
    #[error(
        "{unknown} of {} {} missing and could not be confirmed gone; {allowed} would pass (`removal.guard_keys`, `removal.guard_percent`)",
        keys(snapshot), are(*unknown)
    )]
    TooManyUnknown { unknown: usize, snapshot: usize, allowed: usize },
    #[error("{} {} missing that {} not missing in the accepted run", keys(more), are(*more), were(*more))]
    MoreThanAccepted { more: usize },
}

fn are(count: usize) -> &'static str {
    if count == 1 { "is" } else { "are" }
}

fn were(count: usize) -> &'static str {
    if count == 1 { "was" } else { "were" }
}

/// Which of the missing keys to look up, or why not even that.
pub fn plan_look_ups<'a>(
    missing: &'a [KeyId],
    snapshot: usize,
    guards: Guards,
    acceptance: Option<&Acceptance>,
) -> Result<&'a [KeyId], Withheld> {
    let too_many = missing.len() > guards.confirm_limit;
    match acceptance {
        Some(accepted) => {
            let more = missing.iter().filter(|id| !accepted.missing.contains(*id)).count();
            match more {
                0 => Ok(missing),
                more => Err(Withheld::MoreThanAccepted { more }),
            }
        }
        None if too_many => Err(Withheld::TooManyMissing {
            missing: missing.len(),
            snapshot,
            limit: guards.confirm_limit,
        }),
        None => Ok(missing),
    }
}

/// What became of the missing keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removals {
    /// The keys to remove.
    pub gone: HashSet<KeyId>,
    /// How many are still there though the list lacks them.
    pub present: usize,
    /// How many nobody knows about.
    pub unknown: usize,
}

/// Which of the missing keys are believed gone, after [`plan_look_ups`] and the look-ups it allowed.
///
/// A key without an answer is unknown. An unknown key that was accepted by name is gone.
#[expect(clippy::implicit_hasher, reason = "one caller, one kind of map")]
pub fn judge_missing(
    missing: &[KeyId],
    answers: &HashMap<KeyId, LookUp>,
    snapshot: usize,
    guards: Guards,
    acceptance: Option<&Acceptance>,
) -> Result<Removals, Withheld> {
    let mut removals = Removals::default();
    for id in missing {
        let accepted = acceptance.is_some_and(|accepted| accepted.missing.contains(id));
        match answers.get(id).copied().unwrap_or(LookUp::Unknown) {
            LookUp::Present => removals.present += 1,
            LookUp::Unknown if !accepted => removals.unknown += 1,
            LookUp::Unknown | LookUp::Gone => {
                removals.gone.insert(id.clone());
            }
        }
    }
    let allowed = guards.most_unknown(snapshot);
    if removals.unknown > allowed {
        return Err(Withheld::TooManyUnknown { unknown: removals.unknown, snapshot, allowed });
    }
    Ok(removals)
}
