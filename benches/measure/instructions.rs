//! How many instructions a sync executes, counted by callgrind: they do not depend on the machine's mood.
//!
//! The process is the whole of it, so the parts are told apart by difference: a run that is broken off at the last page
//! has fetched, read and compared nearly all keys and written nothing; one that finds all as it was has done nothing but
//! that, and load what it compares with; what a run with changes takes beside that one is what the changes cost.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use keydrift::sim::{Fault, Matcher};

use crate::Wish;
use crate::place::{Life, Place};
use crate::table::{Report, thousands};

const USUAL: Life = Life { used: 10, new: 1, gone: 1 };

pub(crate) fn measure(wish: &Wish) -> anyhow::Result<Report> {
    let there = Command::new("valgrind").arg("--version").stdout(Stdio::null()).status();
    if !there.is_ok_and(|status| status.success()) {
        bail!("instructions are counted by valgrind, which is not installed");
    }
    let keys = if wish.quick { 300 } else { 10_000 };
    let nothing = count_start(wish)?;
    let place = Place::new(&wish.binary, keys, Duration::ZERO)?;
    let listed = count_listing(&place, keys)?;
    let first = count(&place, || Ok(place.unchanged()))?;
    let unchanged = count(&place, || Ok(place.unchanged()))?;
    let mut changes = 0;
    let next = count(&place, || {
        let expected = place.live(USUAL);
        changes = expected.used + expected.added + expected.removed;
        Ok(expected)
    })?;
    let each = |count: u64, of: usize| thousands(usize::try_from(count).unwrap_or(0) / of.max(1));
    let row = |work: &str, count: u64, less: u64, of: usize| {
        let rest = count.saturating_sub(less);
        format!("| {work} | {} | {} |", thousands(usize::try_from(rest).unwrap_or(0)), each(rest, of))
    };
    let mut report = Report::new("instructions");
    let header = [&format!("{} keys", thousands(keys)), "instructions", "each"];
    report.table(
        &header.map(String::as_str),
        1,
        [
            row("starting, with next to no keys", nothing, 0, 1),
            row("fetching and reading all keys, nothing known of them (each: a key)", listed, nothing, keys),
            row("comparing and committing all of them, first sync (each: a key)", first, listed, keys),
            row("fetching and comparing all, nothing changed (each: a key)", unchanged, nothing, keys),
            row("recording what changed, 1 % used, 0.1 % new, 0.1 % gone (each: a change)", next, unchanged, changes),
        ],
    );
    Ok(report)
}
