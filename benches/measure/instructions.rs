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
use crate::place::{Expected, Life, Place};
use crate::table::{Report, thousands};

const USUAL: Life = Life { used: 10, new: 1, gone: 1 };

pub(crate) fn measure(wish: &Wish) -> anyhow::Result<Report> {
    find_valgrind()?;
    let keys = if wish.quick { 300 } else { 10_000 };
    let empty = Place::new(&wish.binary, 1, Duration::ZERO)?;
    count(&empty, || empty.unchanged())?;
    let nothing = count(&empty, || empty.unchanged())?;
    let place = Place::new(&wish.binary, keys, Duration::ZERO)?;
    let listed = count_listing(&place, keys)?;
    let first = count(&place, || place.unchanged())?;
    let unchanged = count(&place, || place.unchanged())?;
    let mut changes = 0;
    let next = count(&place, || {
        let expected = place.live(USUAL);
        changes = expected.used + expected.added + expected.removed;
        expected
    })?;
    let each = |count: u64, of: usize| thousands(usize::try_from(count).unwrap_or(0) / of.max(1));
    let row = |work: &str, count: u64, less: u64, of: usize| {
        let rest = count.saturating_sub(less);
        format!(
            "| {work} | {} | {} |",
            thousands(usize::try_from(rest).unwrap_or(0)),
            each(rest, of)
        )
    };
    let mut report = Report::new("instructions");
    let title = format!("{} keys", thousands(keys));
    let header = [title.as_str(), "instructions", "each"];
    report.table(
        &header,
        1,
        [
            row("starting, with next to no keys", nothing, 0, 1),
            row(
                "fetching and reading all keys, nothing known of them (each: a key)",
                listed,
                nothing,
                keys,
            ),
            row(
                "comparing and committing all of them, first sync (each: a key)",
                first,
                listed,
                keys,
            ),
            row(
                "fetching and comparing all, nothing changed (each: a key)",
                unchanged,
                nothing,
                keys,
            ),
            row(
                "recording what changed, 1 % used, 0.1 % new, 0.1 % gone (each: a change)",
                next,
                unchanged,
                changes,
            ),
        ],
    );
    Ok(report)
}

fn find_valgrind() -> anyhow::Result<()> {
    let there = Command::new("valgrind").arg("--version").stdout(Stdio::null()).status();
    if !there.is_ok_and(|status| status.success()) {
        bail!("instructions are counted by valgrind, which is not installed");
    }
    Ok(())
}

/// The instructions of one sync, which must record what `live` lets happen before it.
fn count(place: &Place, live: impl FnOnce() -> Expected) -> anyhow::Result<u64> {
    let expected = live();
    let (succeeded, count) = run(place)?;
    ensure!(succeeded, "a sync under valgrind failed");
    let recorded = place.recorded()?;
    ensure!(recorded == expected, "recorded {recorded:?} of {expected:?}");
    Ok(count)
}

/// The instructions of a sync that is refused the last page.
fn count_listing(place: &Place, keys: usize) -> anyhow::Result<u64> {
    let last = u64::try_from(keys.div_ceil(100))?;
    place.organization().fault(Matcher::list().nth(last), Fault::status(403));
    let (succeeded, count) = run(place)?;
    ensure!(!succeeded, "a sync without its last page succeeded");
    place.organization().clear_faults();
    Ok(count)
}

/// Runs a sync under callgrind. Pages come one after the other: how they overlap must not count.
fn run(place: &Place) -> anyhow::Result<(bool, u64)> {
    let counts = place.directory().join("callgrind.out");
    let sync = place.keydrift(&["-q", "sync"]);
    let mut command = Command::new("valgrind");
    command.arg("-q").arg("--tool=callgrind");
    command.arg(format!("--callgrind-out-file={}", counts.display()));
    command.arg(sync.get_program()).args(sync.get_args()).current_dir(place.directory());
    command.env_clear();
    command.envs(sync.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("KEYDRIFT__API__MAX_CONCURRENCY", "1");
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    let text = std::fs::read_to_string(&counts).context("valgrind left no counts")?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
    let total = total.and_then(|total| total.trim().parse().ok());
    Ok((status.success(), total.context("valgrind left no total")?))
}
