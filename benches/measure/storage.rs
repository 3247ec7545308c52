//! What the file takes a key and an event, how far its log of pages grows, and how soon a long history answers.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rusqlite::Connection;

use crate::Wish;
use crate::history;
use crate::place::{Life, Place};
use crate::process::{self, Cost};
use crate::table::{Report, median, seconds, thousands};

/// One run in which a tenth of the keys is used.
const BUSY: Life = Life { used: 100, new: 0, gone: 0 };
/// How often: each time the same keys.
const USES: usize = 10;

pub(crate) fn measure(wish: &Wish) -> anyhow::Result<Report> {
    let (keys, events) = if wish.quick { (1_000, 20_000) } else { (100_000, 10_000_000) };
    let mut report = Report::new("storage");
    let place = Place::new(&wish.binary, keys, Duration::ZERO)?;
    let rows = space(&place, keys)?;
    report.table(&["file", "measured", "goal"], 1, rows);
    let long = history::lengthen(&place.database(), events)?;
    let rows = questions(wish, &place, &long)?;
    let title = format!("{} events: question", thousands(long.events as usize));
    report.table(
        &[&title, "rows", "whole process", "of that, asking", "peak memory, MiB"],
        1,
        rows,
    );
    Ok(report)
}

/// Bytes a key and a `used` event, and the most that waited in the log of pages.
fn space(place: &Place, keys: usize) -> anyhow::Result<Vec<String>> {
    let wal = most_in_wal(&place.database(), || place.sync(place.unchanged(), &[]))?;
    let first = Size::of(&place.read()?)?;
    // A key's first `used` event costs it rows and entries that later ones find there.
    let (mut events, mut busiest, mut sizes) = (0, 0, Vec::new());
    for _ in 0..USES {
        let expected = place.live(BUSY);
        events = expected.used;
        busiest = busiest.max(most_in_wal(&place.database(), || place.sync(expected, &[]))?);
        sizes.push(Size::of(&place.read()?)?);
    }
    let (once, later) = (&sizes[0], &sizes[sizes.len() - 1]);
    let wal_left = std::fs::metadata(wal_file(&place.database())).map_or(0, |file| file.len());
    eprintln!("by table: {:#?}, later {:#?}", first.by_table, later.by_table);
    let each = |bytes: u64, of: usize| bytes / of as u64;
    let grown = |from: &Size, to: &Size, uses: usize, size: fn(&Size) -> u64| {
        each(size(to).saturating_sub(size(from)), events * uses)
    };
    let kib = |bytes: u64| format!("{} KiB", bytes / 1_024);
    Ok(vec![
        format!(
            "| bytes a key after the first sync | {} | 300 |",
            each(first.without_findings(), keys)
        ),
        format!("| the same with its findings | {} | |", each(first.total(), keys)),
        format!(
            "| bytes a `used` event, runs and chain included: {USES} uses of each key | {} | 50 |",
            grown(&first, later, USES, Size::without_findings)
        ),
        format!(
            "| the same: the first use of a key | {} | |",
            grown(&first, once, 1, Size::without_findings)
        ),
        format!(
            "| the same: each later one | {} | |",
            grown(once, later, USES - 1, Size::without_findings)
        ),
        format!(
            "| the same, {USES} uses, with the findings that they open and close | {} | |",
            grown(&first, later, USES, Size::total)
        ),
        format!(
            "| most in the write-ahead log, first sync ({} file) | {} | |",
            kib(first.total()),
            kib(wal)
        ),
        format!("| the same, a tenth of the keys used | {} | |", kib(busiest)),
        format!("| what stays of it | {} | |", kib(wal_left)),
    ])
}

/// What each table and index takes.
struct Size {
    by_table: Vec<(String, u64)>,
}

impl Size {
    fn of(connection: &Connection) -> anyhow::Result<Self> {
        let mut select = connection.prepare(
            "select s.tbl_name || ': ' || d.name, sum(d.pgsize) from dbstat d
             join sqlite_schema s on s.name = d.name group by 1 order by 2 desc",
        )?;
        let rows =
            select.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs())))?;
        Ok(Self { by_table: rows.collect::<Result<_, _>>()? })
    }

    fn total(&self) -> u64 {
        self.by_table.iter().map(|(_, bytes)| bytes).sum()
    }

    fn without_findings(&self) -> u64 {
        let is_of_findings =
            |name: &str| name.starts_with("finding") || name.starts_with("happenings:");
        let others = self.by_table.iter().filter(|(name, _)| !is_of_findings(name));
        others.map(|(_, bytes)| bytes).sum()
    }
}

fn wal_file(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

/// The most bytes that the write-ahead log had while something was done.
fn most_in_wal(
    database: &Path,
    work: impl FnOnce() -> anyhow::Result<Cost>,
) -> anyhow::Result<u64> {
    let (file, done, most) = (wal_file(database), AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                let bytes = std::fs::metadata(&file).map_or(0, |file| file.len());
                most.fetch_max(bytes, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let worked = work();
        done.store(true, Ordering::Release);
        worked
    })?;
    Ok(most.into_inner())
}

/// What people ask a long history, each time as a process of its own.
fn questions(wish: &Wish, place: &Place, long: &history::Long) -> anyhow::Result<Vec<String>> {
    let (key, since, until) = (long.key.as_str(), long.since.as_str(), long.until.as_str());
    let asked: [&[&str]; 8] = [
        &["log", "--key", key],
        &["show", key],
        &["log", "--since", since, "--until", until, "--limit", "100"],
        &["log", "--event", "removed", "--limit", "10"],
        &["log", "--event", "removed", "--event", "changed", "--limit", "10"],
        &["log", "--event", "used", "--limit", "10"],
        &["log", "--limit", "10"],
        &["runs", "--limit", "10"],
    ];
    let mut rows = Vec::new();
    for arguments in asked {
        let ndjson = [arguments, &["--format", "ndjson"]].concat();
        let answer = place.keydrift(&ndjson).output()?;
        ensure!(
            answer.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&answer.stderr)
        );
        let lines = String::from_utf8_lossy(&answer.stdout).lines().count();
        ensure!(lines > 0, "{arguments:?} answers nothing");
        let (mut starts, mut times) = (Vec::new(), Vec::new());
        for _ in 0..wish.rounds {
            starts.push(process::time(&mut place.keydrift(&["log", "--limit", "1"]))?);
            times.push(process::time(&mut place.keydrift(&ndjson))?);
        }
        let (whole, start) = (median(times), median(starts));
        let shown =
            arguments.join(" ").replace(key, "KEY").replace(since, "TIME").replace(until, "TIME");
        rows.push(format!(
            "| `{shown}` | {} | {} | {} | |",
            thousands(lines),
            seconds(whole),
            seconds((whole - start).max(0.0))
        ));
    }
    rows.extend(streams(place, long)?);
    Ok(rows)
}

/// Long answers, whose memory must not grow with them.
fn streams(place: &Place, long: &history::Long) -> anyhow::Result<Vec<String>> {
    let mut rows = Vec::new();
    for (since, events) in [(&long.hundredth, long.events / 100), (&long.tenth, long.events / 10)] {
        let arguments = ["log", "--since", since.as_str(), "--format", "ndjson"];
        let cost = process::run(&mut place.keydrift(&arguments)).context("a long answer")?;
        rows.push(format!(
            "| `log --since TIME`, all of it | {} | {} | | {:.1} |",
            thousands(events as usize),
            seconds(cost.seconds),
            cost.peak_mib
        ));
    }
    Ok(rows)
}
