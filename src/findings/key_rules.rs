//! The rules that one key breaks by itself.

use std::fmt;

use chrono::{DateTime, Datelike};
use serde_json::Value;

use super::Finding;
use super::evaluation::{Judging, Subject};
use super::rule::Rule;
use crate::clock::Timestamp;
use crate::inventory::{Column, Key, Scope};

/// Whether a key breaks it. A time that has not come is asked for by [`Judging::reached`], so that the key is judged
/// again when it has.
pub(super) type KeyRule = fn(&Judging<'_>, &Subject<'_>, Rule) -> Option<Finding>;

/// What is asked of each key.
pub(super) const KEY_RULES: [(Rule, KeyRule); 13] = [
    (Rule::NeverUsed, never_used),
    (Rule::Unused, unused),
    (Rule::Old, old),
    (Rule::ExpiresSoon, expires_soon),
    (Rule::Expired, expired),
    (Rule::NeverExpires, never_expires),
    (Rule::NoName, no_name),
    (Rule::OwnerMissing, owner_missing),
    (Rule::OwnerWithoutAccess, owner_without_access),
    (Rule::AdminServiceAccount, admin_service_account),
    (Rule::UsedAfterArchive, used_after_archive),
    (Rule::WokeUp, woke_up),
    (Rule::UseWentBack, use_went_back),
];

/// Whether the column has no value. One that does not fit it stands in `other`, and is a value all the same.
fn lacks(key: &Key, column: Column) -> bool {
    key.text(column).is_none_or(|text| text.trim().is_empty())
        && key.time(column).is_none()
        && !key.other.contains_key(column.api_path())
}

/// The day of a time, which costs a tenth of the whole time: there may be many.
struct Day(Timestamp);

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DateTime::from_timestamp(self.0.unix(), 0).map(|time| time.date_naive()) {
            Some(day) => write!(f, "{:04}-{:02}-{:02}", day.year(), day.month(), day.day()),
            None => fmt::Display::fmt(&self.0, f),
        }
    }
}

fn never_used(judging: &Judging<'_>, subject: &Subject<'_>, rule: Rule) -> Option<Finding> {
    let key = subject.key;
    if judging.is_own(subject) || !lacks(key, Column::LastUsedAt) {
        return None;
    }
    let born = judging.born(key)?;
    let since = born.saturating_add(judging.basis.rules.never_used);
    let how = if key.created_at.is_some() { "created" } else { "first seen" };
    judging
        .reached(since)
        .then(|| Judging::finding(rule, key, since, format!("{how} on {}, never used", Day(born))))
}

fn unused(judging: &Judging<'_>, subject: &Subject<'_>, rule: Rule) -> Option<Finding> {
    let used = subject.key.last_used_at.filter(|_| !judging.is_own(subject))?;
    let since = used.saturating_add(judging.basis.rules.unused);
    judging
        .reached(since)
        .then(|| Judging::finding(rule, subject.key, since, format!("last used on {}", Day(used))))
}

fn old(judging: &Judging<'_>, subject: &Subject<'_>, rule: Rule) -> Option<Finding> {
    let key = subject.key;
    let age = match key.scope {
        Scope::Admin => judging.basis.rules.admin_key_age,
        Scope::Project => judging.basis.rules.project_key_age?,
    };
    let born = judging.born(key)?;
    let since = born.saturating_add(age);
    let how = if key.created_at.is_some() { "created" } else { "first seen" };
    judging
        .reached(since)
        .then(|| Judging::finding(rule, key, since, format!("{how} on {}", Day(born))))
}

fn expires_soon(judging: &Judging<'_>, subject: &Subject<'_>, rule: Rule) -> Option<Finding> {
    let key = subject.key;
    let expires_at = key.expires_at.filter(|at| !judging.reached(*at))?;
    let soon = expires_at.saturating_sub(judging.basis.rules.expires_within);
    // A key made for a week expires soon from the beginning.
    let since = key.created_at.map_or(soon, |created_at| created_at.min(expires_at).max(soon));
    judging
        .reached(soon)
        .then(|| Judging::finding(rule, key, since, format!("expires at {expires_at}")))
}

fn expired(judging: &Judging<'_>, subject: &Subject<'_>, rule: Rule) -> Option<Finding> {
    let since = subject.key.expires_at.filter(|at| judging.reached(*at))?;
    Some(Judging::finding(rule, subject.key, since, format!("expired at {since}")))
}

/// A state of a key that shows no time of its own.
fn state(
    judging: &Judging<'_>,
    subject: &Subject<'_>,
    rule: Rule,
    is_so: impl Fn(&Key) -> bool,
    detail: &str,
) -> Option<Finding> {
    is_so(subject.key).then(|| {
        let since = judging.state_since(subject, rule, is_so);
        Judging::finding(rule, subject.key, since, detail)
    })
}

fn never_expires(judging: &Judging<'_>, subject: &Subject<'_>, rule: Rule) -> Option<Finding> {
    let is_so = |key: &Key| key.scope == Scope::Admin && lacks(key, Column::ExpiresAt);
    state(judging, subject, rule, is_so, "an admin key without an expiry date")
}

fn no_name(judging: &Judging<'_>, subject: &Subject<'_>, rule: Rule) -> Option<Finding> {
    state(judging, subject, rule, |key| lacks(key, Column::Name), "it has no name")
}

fn owner_missing(judging: &Judging<'_>, subject: &Subject<'_>, rule: Rule) -> Option<Finding> {
    let is_so = |key: &Key| lacks(key, Column::OwnerId) && lacks(key, Column::OwnerName);
    state(judging, subject, rule, is_so, "nobody is known to own it")
}

fn owner_without_access(
    judging: &Judging<'_>,
    subject: &Subject<'_>,
    rule: Rule,
) -> Option<Finding> {
    let is_so = |key: &Key| {
        key.other.get("owner_project_access").and_then(Value::as_str) == Some("inactive")
    };
    state(judging, subject, rule, is_so, "its owner no longer has access to its project")
}

fn admin_service_account(
    judging: &Judging<'_>,
    subject: &Subject<'_>,
    rule: Rule,
) -> Option<Finding> {
    let is_so = |key: &Key| {
        key.scope == Scope::Admin && key.owner_type.as_deref() == Some("service_account")
    };
    state(judging, subject, rule, is_so, "an admin key of a service account")
}

fn used_after_archive(judging: &Judging<'_>, subject: &Subject<'_>, rule: Rule) -> Option<Finding> {
    let key = subject.key;
    let used = key.last_used_at.filter(|_| !judging.is_own(subject))?;
    let archived: Timestamp =
        key.other.get("project_archived_at").and_then(Value::as_str)?.parse().ok()?;
    if used <= archived {
        return None;
    }
    // The first use that was noticed. Later ones are no other finding.
    let open = judging.open(Some(&key.id), rule).map(|open| open.finding.since);
    let since = open.filter(|since| *since > archived).unwrap_or(used);
    let detail = format!("used at {since}, after its project was archived at {archived}");
    Some(Judging::finding(rule, key, since, detail))
}

/// What was found before, and happened once: it stays for a while.
fn kept(judging: &Judging<'_>, subject: &Subject<'_>, rule: Rule) -> Option<Finding> {
    let known = judging.happened(&subject.key.id, rule)?;
    let until = known.noticed_at.saturating_add(judging.basis.rules.stay_open);
    (!judging.reached(until)).then(|| known.finding.clone())
}

fn woke_up(judging: &Judging<'_>, subject: &Subject<'_>, rule: Rule) -> Option<Finding> {
    if judging.is_own(subject) {
        return None;
    }
    kept(judging, subject, rule).or_else(|| {
        let before = subject.before.filter(|_| subject.use_moved)?;
        let used = subject.key.last_used_at?;
        // Where the last use had gone back, it was awake until then.
        let went_back = judging.happened(&before.id, Rule::UseWentBack);
        let known = went_back.and_then(|known| known.finding.memory).max(before.last_used_at);
        let unknown = before.other.contains_key(Column::LastUsedAt.api_path());
        let silent_since = known.or_else(|| judging.born(before).filter(|_| !unknown))?;
        let wakes = silent_since.saturating_add(judging.basis.rules.silence);
        let how = if known.is_some() { "used" } else { "created" };
        (used > silent_since && used >= wakes).then(|| {
            let detail = format!("used at {used}; before that, {how} on {}", Day(silent_since));
            judging.reached(judging.now.saturating_add(judging.basis.rules.stay_open));
            Judging::finding(rule, subject.key, used, detail)
        })
    })
}

fn use_went_back(judging: &Judging<'_>, subject: &Subject<'_>, rule: Rule) -> Option<Finding> {
    let key = subject.key;
    if judging.is_own(subject) {
        return None;
    }
    let healed = |finding: &Finding| key.last_used_at >= finding.memory;
    if let Some(kept) = kept(judging, subject, rule) {
        return (!healed(&kept)).then_some(kept);
    }
    let before = subject.before.filter(|_| subject.use_moved)?.last_used_at?;
    // A value that cannot be read is neither earlier nor later.
    let unknown = key.other.contains_key(Column::LastUsedAt.api_path());
    (key.last_used_at < Some(before) && !unknown).then(|| {
        let to = key.last_used_at.map_or_else(|| "never used".to_owned(), |used| used.to_string());
        let detail = format!("the last use went back from {before} to {to}");
        let memory = Some(before);
        judging.reached(judging.now.saturating_add(judging.basis.rules.stay_open));
        Finding { memory, ..Judging::finding(rule, key, judging.now, detail) }
    })
}
