//! How the daemon is, in one sentence: for `systemctl status`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::clock::Timestamp;
use crate::output;
use crate::run::Status;
use crate::store;

/// The longest reason that is told.
const LONGEST_CHARS: usize = 500;
/// As many organizations are named of those that are being synced.
const MOST_NAMED: usize = 3;

/// What is known of each organization.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) keys: u64,
    pub(super) last: Option<LastRun>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LastRun {
    pub(super) finished_at: Timestamp,
    pub(super) status: Status,
    /// Why it is not `ok`, and what to do about it.
    pub(super) reason: Option<String>,
}

impl From<store::LastRun> for LastRun {
    fn from(run: store::LastRun) -> Self {
        let status =
            [Status::Ok, Status::Held].into_iter().find(|known| known.as_str() == run.status);
        let status = status.unwrap_or(Status::Failed);
        Self { finished_at: run.finished_at, status, reason: run.error }
    }
}

/// `1 204 keys; last run 12:00 ok; next 13:00:07`. With several organizations, those that are not well
/// are named. What comes next is that of an organization of which no run is under way.
pub(super) fn sentence(
    standings: &BTreeMap<String, Standing>,
    under_way: &BTreeSet<String>,
    next: Option<Timestamp>,
    remark: Option<&str>,
) -> String {
    let keys = standings.values().map(|standing| standing.keys).sum();
    let mut text = output::count(keys, "key");
    if standings.len() > 1 {
        push(
            &mut text,
            format_args!(" of {}", output::count(standings.len() as u64, "organization")),
        );
    }
    let lasts =
        standings.iter().filter_map(|(name, standing)| Some((name, standing.last.as_ref()?)));
    if let Some((_, last)) = lasts.clone().max_by_key(|(_, last)| last.finished_at) {
        let time = &last.finished_at.to_string()[11..16];
        push(&mut text, format_args!("; last run {time} {}", last.status.as_str()));
    }
    if !under_way.is_empty() {
        text.push_str("; syncing");
        if standings.len() > 1 {
            push(&mut text, format_args!(" {}", named(under_way)));
        }
    }
    match next {
        Some(next) => push(&mut text, format_args!("; next {}", &next.to_string()[11..19])),
        None if under_way.is_empty() => text.push_str("; no further run"),
        None => {}
    }
    for (name, last) in lasts.filter(|(_, last)| last.status != Status::Ok) {
        let reason = last.reason.as_deref().unwrap_or("no reason is known");
        let reason: String = output::harmless(reason).chars().take(LONGEST_CHARS).collect();
        push(&mut text, format_args!("; {name} {}: {reason}", last.status.as_str()));
    }
    if let Some(remark) = remark {
        push(&mut text, format_args!("; {remark}"));
    }
    text
}

/// `acme, globex and 3 more`
fn named(names: &BTreeSet<String>) -> String {
    let shown: Vec<&str> = names.iter().take(MOST_NAMED).map(String::as_str).collect();
    match names.len().saturating_sub(MOST_NAMED) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn push(text: &mut String, more: std::fmt::Arguments<'_>) {
    // Writing into a `String` cannot fail.
    text.write_fmt(more).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none() -> BTreeSet<String> {
        BTreeSet::new()
    }

    fn under_way(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn standing(keys: u64, time: &str, status: Status, reason: Option<&str>) -> Standing {
        let finished_at = at(time);
        let reason = reason.map(str::to_owned);
        Standing { keys, last: Some(LastRun { finished_at, status, reason }) }
    }

    #[test]
    fn one_organization_that_is_well() {
        let mut standings = BTreeMap::from([("default".to_owned(), Standing::default())]);
        insta::assert_snapshot!(sentence(&standings, &none(), Some(at("2026-11-24T13:00:07Z")), None), @"0 keys; next 13:00:07");
        insta::assert_snapshot!(sentence(&standings, &under_way(&["default"]), None, None), @"0 keys; syncing");
        standings.insert(
            "default".to_owned(),
            standing(1_204, "2026-11-24T12:00:09Z", Status::Ok, None),
        );
        insta::assert_snapshot!(sentence(&standings, &none(), Some(at("2026-11-24T13:00:07Z")), None), @"1 204 keys; last run 12:00 ok; next 13:00:07");
    }

    #[test]
    fn those_that_are_not_well_are_named_with_their_reason_on_one_line() {
        let reason = Some("the credential could not be read: \u{1b}[31m\nno such file");
        let standings = BTreeMap::from([
            ("acme".to_owned(), standing(12, "2026-11-24T12:00:09Z", Status::Failed, reason)),
            ("other".to_owned(), standing(1, "2026-11-24T11:00:00Z", Status::Ok, None)),
        ]);
        let remark = Some("the new configuration is invalid, the old one holds");
        insta::assert_snapshot!(sentence(&standings, &none(), Some(at("2026-11-24T13:00:07Z")), remark), @r"13 keys of 2 organizations; last run 12:00 failed; next 13:00:07; acme failed: the credential could not be read: \u{1b}[31m\nno such file; the new configuration is invalid, the old one holds");
        insta::assert_snapshot!(sentence(&standings, &under_way(&["acme"]), None, None), @r"13 keys of 2 organizations; last run 12:00 failed; syncing acme; acme failed: the credential could not be read: \u{1b}[31m\nno such file");
    }
    #[test]
    fn several_that_are_synced_are_named_and_so_is_the_next_of_the_others() {
        let names = ["acme", "globex", "hooli", "initech", "umbrella"];
        let standings =
            names.iter().map(|name| ((*name).to_owned(), Standing::default())).collect();
        let next = Some(at("2026-11-24T13:00:07Z"));
        insta::assert_snapshot!(sentence(&standings, &under_way(&names[..2]), next, None), @"0 keys of 5 organizations; syncing acme, globex; next 13:00:07");
        insta::assert_snapshot!(sentence(&standings, &under_way(&names), None, None), @"0 keys of 5 organizations; syncing acme, globex, hooli and 2 more");
    }
}
