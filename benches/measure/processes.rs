//! Whole processes of the binary against a simulated organization, in turns with their floors.

use std::process::Command;
use std::time::Duration;

use crate::Wish;
use crate::insert::{Rows, Which};
use crate::place::{Life, Place};
use crate::process::{self, Cost};
use crate::table::{Line, Report, median, seconds, thousands};

const DOWNLOAD: &str = "download";
const DOWNLOAD_AND_INSERT: &str = "download + insert";
const GONE: Life = Life { used: 0, new: 0, gone: 1 };
const USUAL: Life = Life { used: 10, new: 1, gone: 1 };

pub(crate) fn measure(wish: &Wish) -> anyhow::Result<Report> {
    let (far, near) = if wish.quick { (300, 500) } else { (10_000, 100_000) };
    let latency = Duration::from_millis(if wish.quick { 2 } else { 50 });
    let mut report = Report::new("processes");
    report.lines(&far_away(wish, far, latency)?);
    let (lines, hundred_thousand) = nearby(wish, near)?;
    report.lines(&lines);
    if wish.million {
        let keys = if wish.quick { near * 10 } else { 1_000_000 };
        report.lines(&million(wish, keys, &hundred_thousand)?);
    }
    starting(wish, &mut report)?;
    Ok(report)
}

/// One thing that is measured, while it is.
struct Course {
    line: Line,
}

impl Course {
    fn new(work: String, floor: &'static str, goal: Option<f64>) -> Self {
        Self { line: Line { work, floor, pairs: Vec::new(), goal } }
    }

    fn add(&mut self, cost: Cost, floor: f64) {
        eprintln!(
            "{}: {} by {}, {:.1} MiB",
            self.line.work,
            seconds(cost.seconds),
            seconds(floor),
            cost.peak_mib
        );
        self.line.pairs.push((cost, floor));
    }
}

/// An organization behind a slow network.
fn far_away(wish: &Wish, keys: usize, latency: Duration) -> anyhow::Result<Vec<Line>> {
    let name = |work: &str| {
        format!("{} keys, {} ms a request: {work}", thousands(keys), latency.as_millis())
    };
    let course = |work: &str, goal| Course::new(name(work), DOWNLOAD, Some(goal));
    let mut first = course("first sync", 0.55);
    let mut eight = course("next sync, 0.1 % gone, 8 at once", 0.18);
    let mut sixteen = course("next sync, 0.1 % gone, 16 at once", 0.11);
    // The latency drowns what else the machine does: a few rounds say it all.
    for _ in 0..wish.rounds.min(3) {
        let place = Place::new(&wish.binary, keys, latency)?;
        let floor = place.download()?;
        first.add(place.sync(place.unchanged(), &[])?, floor);
        let floor = place.download()?;
        for (course, at_once) in [(&mut eight, "8"), (&mut sixteen, "16")] {
            let expected = place.live(GONE);
            let settings = [("KEYDRIFT__API__MAX_CONCURRENCY", at_once)];
            course.add(place.sync(expected, &settings)?, floor);
        }
    }
    Ok(vec![first.line, eight.line, sixteen.line])
}

/// What the phases of one organization took.
struct Phases {
    first: f64,
    next: f64,
    unchanged: f64,
}

/// An organization without latency: what is left is work.
fn nearby(wish: &Wish, keys: usize) -> anyhow::Result<(Vec<Line>, Phases)> {
    let name = |work: &str| format!("{} keys, no latency: {work}", thousands(keys));
    let mut first = Course::new(name("first sync"), DOWNLOAD_AND_INSERT, Some(1.0));
    let mut whole =
        Course::new(name("the same, by all rows"), "download + insert with findings", None);
    let changes = "next sync, 1 % used, 0.1 % new, 0.1 % gone";
    let mut next = Course::new(name(changes), DOWNLOAD, Some(2.0));
    let mut unchanged = Course::new(name("next sync, unchanged"), DOWNLOAD, None);
    for _ in 0..wish.rounds {
        let place = Place::new(&wish.binary, keys, Duration::ZERO)?;
        let download = place.download()?;
        let cost = place.sync(place.unchanged(), &[])?;
        let rows = Rows::read(&place.database())?;
        first.add(cost, download + rows.insert(Which::History)?);
        whole.add(cost, download + rows.insert(Which::All)?);
        drop(rows);
        let expected = place.live(USUAL);
        let floor = place.download()?;
        next.add(place.sync(expected, &[])?, floor);
        let floor = place.download()?;
        unchanged.add(place.sync(place.unchanged(), &[])?, floor);
    }
    let phases = Phases {
        first: first.line.seconds(),
        next: next.line.seconds(),
        unchanged: unchanged.line.seconds(),
    };
    Ok((vec![first.line, whole.line, next.line, unchanged.line], phases))
}

/// Ten times the keys, by what a tenth of them took.
fn million(wish: &Wish, keys: usize, tenth: &Phases) -> anyhow::Result<Vec<Line>> {
    let course = |work: &str| {
        Course::new(format!("{} keys: {work}", thousands(keys)), "a tenth of the keys", Some(11.0))
    };
    let place = Place::new(&wish.binary, keys, Duration::ZERO)?;
    let mut first = course("first sync");
    first.add(place.sync(place.unchanged(), &[])?, tenth.first);
    let mut next = course("next sync, 1 % used, 0.1 % new, 0.1 % gone");
    next.add(place.sync(place.live(USUAL), &[])?, tenth.next);
    let mut unchanged = course("next sync, unchanged");
    unchanged.add(place.sync(place.unchanged(), &[])?, tenth.unchanged);
    Ok(vec![first.line, next.line, unchanged.line])
}

/// How soon a command is there. The floor is a process that does nothing.
fn starting(wish: &Wish, report: &mut Report) -> anyhow::Result<()> {
    let place = Place::new(&wish.binary, 20, Duration::ZERO)?;
    place.sync(place.unchanged(), &[])?;
    let commands: [&[&str]; 4] = [&["--version"], &["status"], &["keys"], &["log", "--limit", "1"]];
    let mut floors = Vec::new();
    let mut times = vec![Vec::new(); commands.len()];
    for _ in 0..wish.rounds * 4 {
        floors.push(process::time(Command::new("true").env_clear())?);
        for (arguments, times) in commands.iter().zip(&mut times) {
            times.push(process::time(&mut place.keydrift(arguments))?);
        }
    }
    let floor = median(floors);
    let row = |(arguments, times): (&&[&str], Vec<f64>)| {
        let highest = times.iter().copied().fold(0.0, f64::max);
        let median = median(times);
        format!(
            "| `keydrift {}` | {} | {} | {} | {:.1} |",
            arguments.join(" "),
            seconds(floor),
            seconds(median),
            seconds(highest),
            median / floor
        )
    };
    let rows: Vec<String> = commands.iter().zip(times).map(row).collect();
    report.table(&["start", "floor: `true`", "median", "highest", "ratio"], 1, rows);
    Ok(())
}
