//! Progress on standard error while pages come in.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::harmless::{harmless, shortened};
use super::human::{count, grouped};

/// How often the spinner turns while a page is awaited.
const TICK: Duration = Duration::from_millis(120);
/// Longer messages are cut.
const MESSAGE_MAX: usize = 60;

/// How far the listing of one organization has come. Clones show the same line; dropping the last
/// one clears it.
#[derive(Debug, Clone)]
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Shows nothing.
    #[must_use]
    pub fn hidden() -> Self {
        Self { bar: ProgressBar::hidden() }
    }

    /// With the number of keys that is expected, a bar; otherwise a spinner with counts.
    pub(super) fn start(organization: &str, expected: Option<u64>, colour: bool) -> Self {
        let progress = Self::on(ProgressDrawTarget::stderr(), organization, expected, colour);
        progress.bar.enable_steady_tick(TICK);
        progress
    }

    fn on(
        target: ProgressDrawTarget,
        organization: &str,
        expected: Option<u64>,
        colour: bool,
    ) -> Self {
        let expected = expected.filter(|&keys| keys > 0);
        let bar = ProgressBar::with_draw_target(expected, target)
            .with_style(style(expected.is_some(), colour))
            .with_prefix(harmless(organization).into_owned())
            .with_finish(indicatif::ProgressFinish::AndClear);
        let progress = Self { bar };
        progress.message("listing keys");
        progress
    }

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

    fn drawn(expected: Option<u64>) -> (Progress, Captured) {
        let terminal = Drawn::default();
        let target = ProgressDrawTarget::term_like(Box::new(terminal.clone()));
        (Progress::on(target, "acme", expected, false), terminal.0)
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
    fn nothing_is_drawn_where_nobody_looks() {
        assert!(
            printer(crate::output::Terminal::PLAIN, false).0.progress("acme", None).bar.is_hidden()
        );
        assert!(printer(in_colour(80), true).0.progress("acme", None).bar.is_hidden());
    }
}
