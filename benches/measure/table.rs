//! Medians and ratios, the tables that they stand in, and the document that these stand in.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;

use crate::process::Cost;

/// What one thing took in each round, and what its floor took in the same round.
pub(crate) struct Line {
    pub(crate) work: String,
    /// What the floor is.
    pub(crate) floor: &'static str,
    pub(crate) pairs: Vec<(Cost, f64)>,
    /// The ratio that it is to stay under.
    pub(crate) goal: Option<f64>,
}

/// The tables of one part of the measurements.
pub(crate) struct Report {
    /// Names the marks in the document that the tables go between.
    part: &'static str,
    text: String,
}

pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn extremes(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    (values.clone().fold(f64::INFINITY, f64::min), values.fold(0.0, f64::max))
}

/// `10,000`.
pub(crate) fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut shown = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// So many digits that both milliseconds and minutes can be read.
pub(crate) fn seconds(seconds: f64) -> String {
    if seconds < 0.1 { format!("{:.1} ms", seconds * 1_000.0) } else { format!("{seconds:.2} s") }
}

impl Line {
    fn ratios(&self) -> impl Iterator<Item = f64> + Clone {
        self.pairs.iter().map(|(cost, floor)| cost.seconds / floor)
    }

    pub(crate) fn seconds(&self) -> f64 {
        median(self.pairs.iter().map(|(cost, _)| cost.seconds))
    }

    fn render(&self) -> String {
        let (lowest, highest) = extremes(self.ratios());
        let (_, peak) = extremes(self.pairs.iter().map(|(cost, _)| cost.peak_mib));
        let goal = self.goal.map_or_else(String::new, |goal| format!("{goal:.2}"));
        format!(
            "| {} | {} | {} | {} | {:.2} ({lowest:.2}–{highest:.2}) | {goal} | {peak:.1} |",
            self.work,
            self.floor,
            seconds(median(self.pairs.iter().map(|(_, floor)| *floor))),
            seconds(self.seconds()),
            median(self.ratios()),
        )
    }
}

impl Report {
    pub(crate) fn new(part: &'static str) -> Self {
        Self { part, text: String::new() }
    }

    /// Adds a table of whole processes.
    pub(crate) fn lines(&mut self, lines: &[Line]) {
        let header = [
            "work",
            "floor",
            "floor takes",
            "keydrift takes",
            "ratio (lowest–highest)",
            "goal",
            "peak memory, MiB",
        ];
        self.table(&header, 2, lines.iter().map(Line::render));
    }

    /// Adds a table; its columns but the first `texts` hold numbers.
    pub(crate) fn table(
        &mut self,
        header: &[&str],
        texts: usize,
        rows: impl IntoIterator<Item = String>,
    ) {
        let rules = (0..header.len()).map(|at| if at < texts { " --- |" } else { " ---: |" });
        writeln!(self.text, "| {} |\n|{}", header.join(" | "), rules.collect::<String>()).ok();
        for row in rows {
            writeln!(self.text, "{row}").ok();
        }
        self.text.push('\n');
    }

    pub(crate) fn render(&self) -> &str {
        self.text.trim_end()
    }

    /// Puts the tables between their marks in a document.
    pub(crate) fn put(&self, file: &Path) -> anyhow::Result<()> {
        let (begin, end) = self.marks();
        let text = std::fs::read_to_string(file)?;
        let (before, rest) = text.split_once(&begin).with_context(|| format!("lacks `{begin}`"))?;
        let (_, after) = rest.split_once(&end).with_context(|| format!("lacks `{end}`"))?;
        std::fs::write(file, format!("{before}{begin}\n\n{}\n\n{end}{after}", self.render()))?;
        Ok(())
    }

    fn marks(&self) -> (String, String) {
        (format!("<!-- {}: begin -->", self.part), format!("<!-- {}: end -->", self.part))
    }
}
