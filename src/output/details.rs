//! One thing with all that is known of it, a line each.

use std::io::Write;

use super::harmless::{harmless, width};
use super::paint::{Style, paint};
use super::{Cell, Printer, Result, json};

impl Printer {
    /// Labels and values, the values aligned, in full and harmless:
    ///
    /// ```text
    /// id      key_abc
    /// owner   Ada
    /// ```
    pub fn details(&mut self, rows: &[(&str, Cell)]) -> Result<()> {
        let widest = rows.iter().map(|(label, _)| width(label)).max().unwrap_or(0);
        for (label, value) in rows {
            let label = harmless(label);
            let padding = " ".repeat(widest - width(&label));
            let label = paint(&label, Style::Heading, self.out.terminal.colour);
            let value = value_of(value)?;
            writeln!(self.out.writer, "{label}{padding}  {}", harmless(&value))?;
        }
        Ok(())
    }
}

fn value_of(cell: &Cell) -> Result<String> {
    Ok(match cell {
        Cell::Null => "-".to_owned(),
        Cell::Text(text) => text.clone(),
        // Ungrouped: it may be a number to copy.
        Cell::Integer(number) => number.to_string(),
        Cell::Bool(flag) => if *flag { "yes" } else { "no" }.to_owned(),
        Cell::Json(value) => json::to_json(value)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Terminal;
    use crate::output::testing::{in_colour, printer};

    #[test]
    fn values_stand_below_each_other() {
        let (mut printer, out, _) = printer(Terminal::PLAIN, false);
        let rows = [
            ("id", Cell::from("key_abc")),
            ("name", Cell::from("two\nlines \u{1b}[31m")),
            ("last used", Cell::Null),
            ("own key", Cell::from(true)),
            ("run", Cell::from(1204)),
            ("other", Cell::parse_json(Some(r#"{"a": "\u202e"}"#.to_owned()))),
        ];
        printer.details(&rows).unwrap();
        insta::assert_snapshot!(out.text(), @r#"
        id         key_abc
        name       two\nlines \u{1b}[31m
        last used  -
        own key    yes
        run        1204
        other      {"a":"\u202e"}
        "#);
    }

    #[test]
    fn labels_are_bold_on_a_terminal() {
        let (mut printer, out, _) = printer(in_colour(80), false);
        printer.details(&[("id", Cell::from("key_abc"))]).unwrap();
        assert_eq!(out.text(), "\u{1b}[1mid\u{1b}[0m  key_abc\n");
    }
}
