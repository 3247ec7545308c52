//! Progress on standard error while pages come in.

use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::harmless::{harmless, shortened};
use super::human::{count, grouped};

/// How often the spinner turns while a page is awaited.
const TICK: Duration = Duration::from_millis(120);
/// Longer messages are cut.
const MESSAGE_MAX: usize = 60;

/// A line for each organization whose keys are coming in, one below the other.
#[derive(Debug)]
pub struct ProgressLines {
    lines: MultiProgress,
    colour: bool,
}

impl ProgressLines {
    /// Shows nothing.
    #[must_use]
    pub fn hidden() -> Self {
        Self::on(ProgressDrawTarget::hidden(), false)
    }

    pub(super) fn on_stderr(colour: bool) -> Self {
        Self::on(ProgressDrawTarget::stderr(), colour)
    }

    fn on(target: ProgressDrawTarget, colour: bool) -> Self {
        Self { lines: MultiProgress::with_draw_target(target), colour }
    }

    /// Begins a line. With the number of keys that is expected (that in the last snapshot), a bar; otherwise a
    /// spinner with counts.
    #[must_use]
    pub fn start(&self, organization: &str, expected: Option<u64>) -> Progress {
        let progress = self.add(organization, expected);
        if !self.lines.is_hidden() {
            progress.bar.enable_steady_tick(TICK);
        }
        progress
    }

    fn add(&self, organization: &str, expected: Option<u64>) -> Progress {
        let expected = expected.filter(|&keys| keys > 0);
        // Nothing is drawn before it has its place among the others.
        let bar = ProgressBar::with_draw_target(expected, ProgressDrawTarget::hidden())
            .with_style(style(expected.is_some(), self.colour))
            .with_prefix(harmless(organization).into_owned())
            .with_finish(indicatif::ProgressFinish::AndClear);
        let progress = Progress { bar: self.lines.add(bar) };
        progress.message("listing keys");
        progress
    }
}

/// How far the listing of one organization has come. Clones show the same line; dropping the last
/// one clears it.
#[derive(Debug, Clone)]
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// So many keys have come, in so many pages.
    pub fn advance(&self, keys_so_far: u64, pages: u64) {
        self.bar.set_position(keys_so_far);
        // More than the last time: the bar stays full.
        if self.bar.length().is_some_and(|length| length < keys_so_far) {
            self.bar.set_length(keys_so_far);
        }
        let keys = match self.bar.length() {
            Some(length) => format!("{} of about {}", grouped(keys_so_far), count(length, "key")),
            None => count(keys_so_far, "key"),
        };
        self.message(&format!("{keys}, {}", count(pages, "page")));
    }

    /// What is being done, such as `waiting 20 s as the server asked`.
    pub fn message(&self, text: &str) {
        self.bar.set_message(shortened(text, MESSAGE_MAX).into_owned());
    }

    /// Takes the line away while something else is written to the terminal.
    pub fn suspend<T>(&self, write: impl FnOnce() -> T) -> T {
        self.bar.suspend(write)
    }

    /// Clears the line.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

fn style(has_length: bool, colour: bool) -> ProgressStyle {
    let template = match (has_length, colour) {
        (true, true) => "{spinner} {prefix} [{bar:30.cyan}] {msg}",
        (true, false) => "{spinner} {prefix} [{bar:30}] {msg}",
        (false, _) => "{spinner} {prefix} {msg}",
    };
    // The templates are constant and a test tries each.
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
        .progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write as _};

    use indicatif::TermLike;

    use super::*;
    use crate::output::testing::{Captured, in_colour, printer};

    /// A terminal that keeps what is drawn; moves and clears are written as words.
    #[derive(Debug, Clone, Default)]
    struct Drawn(Captured);

    impl TermLike for Drawn {
        fn width(&self) -> u16 {
            100
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> io::Result<()> {
            writeln!(self.0.clone(), "{}", text.trim_end())
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            writeln!(self.0.clone(), "{}", text.trim_end())
        }
        fn clear_line(&self) -> io::Result<()> {
            writeln!(self.0.clone(), "<clear>")
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    fn lines() -> (ProgressLines, Captured) {
        let terminal = Drawn::default();
        let target = ProgressDrawTarget::term_like(Box::new(terminal.clone()));
        (ProgressLines::on(target, false), terminal.0)
    }

    fn drawn(expected: Option<u64>) -> (Progress, Captured) {
        let (lines, drawn) = lines();
        (lines.add("acme", expected), drawn)
    }

    fn last_line(drawn: &Captured) -> String {
        drawn.text().lines().rfind(|line| line.contains("acme")).unwrap_or_default().to_owned()
    }

    #[test]
    fn every_template_is_valid() {
        for (has_length, colour) in [(true, true), (true, false), (false, true), (false, false)] {
            drop(style(has_length, colour));
        }
    }

    #[test]
    fn a_known_number_of_keys_makes_a_bar() {
        let (progress, drawn) = drawn(Some(2_000));
        progress.advance(1_000, 10);
        progress.bar.tick();
        insta::assert_snapshot!(last_line(&drawn), @"⠉ acme [===============>              ] 1 000 of about 2 000 keys, 10 pages");
        progress.advance(2_100, 21);
        progress.bar.tick();
        insta::assert_snapshot!(last_line(&drawn), @"⠚ acme [==============================] 2 100 of about 2 100 keys, 21 pages");
    }

    #[test]
    fn an_unknown_number_of_keys_makes_a_spinner() {
        let (progress, drawn) = drawn(None);
        progress.advance(100, 1);
        progress.message("odd\nmessage");
        progress.bar.tick();
        insta::assert_snapshot!(last_line(&drawn), @r"⠉ acme odd\nmessage");
        progress.finish();
        assert!(drawn.text().ends_with("<clear>\n"), "{}", drawn.text());
    }

    #[test]
    fn each_organization_has_its_own_line() {
        let (lines, drawn) = lines();
        let (acme, globex) = (lines.add("acme", None), lines.add("globex", None));
        acme.advance(100, 1);
        globex.advance(200, 2);
        acme.bar.tick();
        globex.bar.tick();
        let shows = |text: &str| {
            let last = drawn.text().lines().rfind(|line| line.contains(text)).map(str::to_owned);
            last.unwrap_or_default()
        };
        insta::assert_snapshot!(shows("acme"), @"⠉ acme 100 keys, 1 page");
        insta::assert_snapshot!(shows("globex"), @"⠉ globex 200 keys, 2 pages");
        acme.finish();
        // What is drawn last, once the first one is done.
        let before = drawn.text().len();
        globex.bar.tick();
        let after = drawn.text()[before..].to_owned();
        assert!(after.contains("globex") && !after.contains("acme"), "{after}");
    }

    #[test]
    fn nothing_is_drawn_where_nobody_looks() {
        let plain = printer(crate::output::Terminal::PLAIN, false).0;
        assert!(plain.progress().start("acme", None).bar.is_hidden());
        assert!(printer(in_colour(80), true).0.progress().start("acme", None).bar.is_hidden());
    }
}
