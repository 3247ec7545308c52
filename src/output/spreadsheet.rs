//! CSV cells that a spreadsheet program cannot take for a formula.

use std::borrow::Cow;

use super::harmless::{harmless, is_dangerous};

/// A text as a CSV cell: harmless, and with a `'` before it if it could be read as a formula.
pub(super) fn cell(text: &str) -> Cow<'_, str> {
    if is_formula(text) { Cow::Owned(format!("'{}", harmless(text))) } else { harmless(text) }
}

/// JSON as a CSV cell: harmless already by its own escapes, which stay, so that it can be parsed.
/// Objects and arrays are never formulas; a lone string or number can look like one.
pub(super) fn json_cell(json: String) -> String {
    if is_formula(&json) { format!("'{json}") } else { json }
}

/// Spreadsheets evaluate what begins with one of `= + - @` or its full-width twin, some of them
/// also behind white space, quotes or what cannot be seen.
fn is_formula(text: &str) -> bool {
    text.starts_with(['\t', '\r'])
        || text.trim_start_matches(is_skipped).starts_with(is_formula_start)
}

fn is_formula_start(c: char) -> bool {
    matches!(c, '=' | '+' | '-' | '@' | '＝' | '＋' | '－' | '＠')
}

fn is_skipped(c: char) -> bool {
    c.is_whitespace()
        || is_dangerous(c)
        || matches!(c, '"' | '\'' | '`' | '“' | '”' | '‘' | '’' | '＂' | '＇')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::testing::{HOSTILE, hostile_text};
    use proptest::prelude::*;

    #[test]
    fn formulas_get_an_apostrophe() {
        for text in ["=cmd()", "+1", "-1", "@SUM(A1)", " =1", "\"=1", "'=1", "\u{a0}=1", "＝1"] {
            assert_eq!(cell(text), format!("'{text}"));
        }
        assert_eq!(cell("\t=1"), "'\\t=1");
        assert_eq!(cell("\r\n-1"), "'\\r\\n-1");
        assert_eq!(cell("\u{200b}\0=1"), "'\\u{200b}\\u{0}=1");
        assert_eq!(cell("\tprod"), "'\\tprod");
    }

    #[test]
    fn other_text_stays_as_it_is() {
        for text in ["", "prod", "a=b", "key-1", "tea", r"\new", "<script>", "a,b", "2026-11-23"] {
            assert_eq!(cell(text), text);
        }
        assert_eq!(cell("a\0\u{202e}b"), r"a\u{0}\u{202e}b");
        assert_eq!(json_cell(r#"{"a":"=1"}"#.to_owned()), r#"{"a":"=1"}"#);
        assert_eq!(json_cell(r#""=1""#.to_owned()), r#"'"=1""#);
    }

    fn reread(cells: &[&str]) -> Vec<Vec<String>> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        for text in cells {
            writer.write_record([cell(text).as_ref(), "end"]).unwrap();
        }
        let bytes = writer.into_inner().unwrap();
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(&*bytes);
        reader.records().map(|row| row.unwrap().iter().map(str::to_owned).collect()).collect()
    }

    #[test]
    fn hostile_names_stay_in_their_cell() {
        let rows = reread(HOSTILE);
        assert_eq!(rows.len(), HOSTILE.len());
        for row in rows {
            assert_eq!(row.len(), 2);
            assert!(
                !row[0].trim_start_matches(is_skipped).starts_with(is_formula_start)
                    || row[0].starts_with('\'')
            );
        }
    }

    proptest! {
        #[test]
        fn no_cell_is_a_formula_and_none_is_torn(texts in prop::collection::vec(hostile_text(), 1..8)) {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let rows = reread(&texts);
            prop_assert_eq!(rows.len(), texts.len());
            for (row, text) in rows.iter().zip(&texts) {
                prop_assert_eq!(row.len(), 2);
                prop_assert_eq!(&row[0], &cell(text).into_owned());
                prop_assert!(!row[0].starts_with(is_formula_start));
                let bare = row[0].trim_start_matches(is_skipped);
                prop_assert!(row[0].starts_with('\'') || !bare.starts_with(is_formula_start));
                prop_assert!(!row[0].contains(|c: char| c.is_control()));
            }
        }
    }
}
