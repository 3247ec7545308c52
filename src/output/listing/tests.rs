use proptest::prelude::*;

use super::*;
use crate::output::testing::{
    Captured, Failing, HOSTILE, hostile_text, in_colour, printer, terminal,
};
use crate::output::{Error, Terminal};

const COLUMNS: &[Column] = &[
    Column::new("key_id", "KEY", Kind::Id),
    Column::new("name", "NAME", Kind::Text),
    Column::new("event", "EVENT", Kind::Word),
    Column::new("last_used_at", "LAST USED", Kind::Time),
    Column::new("uses", "USES", Kind::Number),
    Column::hidden("own_key", Kind::Flag),
    Column::hidden("other", Kind::Json),
];

const ALL: [Format; 4] = [Format::Table, Format::Json, Format::Ndjson, Format::Csv];

fn row(id: &str, name: &str, event: &str) -> Vec<Cell> {
    vec![
        id.into(),
        name.into(),
        event.into(),
        Cell::from("2026-11-23T12:29:00Z"),
        Cell::Integer(1_204),
        Cell::Bool(true),
        Cell::parse_json(Some(r#"{"permissions":["a","b"]}"#.to_owned())),
    ]
}

fn nulls() -> Vec<Cell> {
    let mut row = vec![Cell::Null; COLUMNS.len()];
    row[0] = "key_null".into();
    row
}

fn written(format: Format, to: Terminal, rows: &[Vec<Cell>]) -> String {
    let (mut printer, out, _) = printer(to, false);
    let mut listing = printer.listing(format, COLUMNS, "no keys match").unwrap();
    for row in rows {
        listing.row(row).unwrap();
    }
    assert_eq!(listing.finish().unwrap(), rows.len() as u64);
    out.text()
}

fn two_rows() -> Vec<Vec<Cell>> {
    vec![row("key_abc", "Main, \"admin\" key", "added"), nulls()]
}

#[test]
fn a_table_is_aligned() {
    let table = written(Format::Table, Terminal::PLAIN, &two_rows());
    insta::assert_snapshot!(table, @r#"
    KEY       NAME               EVENT  LAST USED              USES
    key_abc   Main, "admin" key  added  2026-11-23T12:29:00Z  1 204
    key_null  -                  -      -                         -
    "#);
}

#[test]
fn a_table_shows_events_in_colour() {
    let rows =
        ["added", "removed", "changed", "used", "baseline"].map(|event| row("key", "n", event));
    let table = written(Format::Table, in_colour(80), &rows);
    insta::assert_snapshot!(table.replace('\u{1b}', "␛"), @"
    ␛[1mKEY␛[0m  ␛[1mNAME␛[0m  ␛[1mEVENT␛[0m     ␛[1mLAST USED␛[0m              ␛[1mUSES␛[0m
    key  n     ␛[32madded␛[0m     2026-11-23T12:29:00Z  1 204
    key  n     ␛[31mremoved␛[0m   2026-11-23T12:29:00Z  1 204
    key  n     ␛[33mchanged␛[0m   2026-11-23T12:29:00Z  1 204
    key  n     ␛[36mused␛[0m      2026-11-23T12:29:00Z  1 204
    key  n     ␛[2mbaseline␛[0m  2026-11-23T12:29:00Z  1 204
    ");
}

#[test]
fn json_is_an_array_of_objects_in_the_order_of_columns() {
    insta::assert_snapshot!(written(Format::Json, Terminal::PLAIN, &two_rows()), @r#"
    [
    {"key_id":"key_abc","name":"Main, \"admin\" key","event":"added","last_used_at":"2026-11-23T12:29:00Z","uses":1204,"own_key":true,"other":{"permissions":["a","b"]}},
    {"key_id":"key_null","name":null,"event":null,"last_used_at":null,"uses":null,"own_key":null,"other":null}
    ]
    "#);
}

#[test]
fn ndjson_is_an_object_a_line() {
    insta::assert_snapshot!(written(Format::Ndjson, Terminal::PLAIN, &two_rows()), @r#"
    {"key_id":"key_abc","name":"Main, \"admin\" key","event":"added","last_used_at":"2026-11-23T12:29:00Z","uses":1204,"own_key":true,"other":{"permissions":["a","b"]}}
    {"key_id":"key_null","name":null,"event":null,"last_used_at":null,"uses":null,"own_key":null,"other":null}
    "#);
}

#[test]
fn csv_has_a_header_and_quotes_what_needs_it() {
    insta::assert_snapshot!(written(Format::Csv, Terminal::PLAIN, &two_rows()), @r#"
    key_id,name,event,last_used_at,uses,own_key,other
    key_abc,"Main, ""admin"" key",added,2026-11-23T12:29:00Z,1204,1,"{""permissions"":[""a"",""b""]}"
    key_null,,,,,,
    "#);
}

#[test]
fn no_rows_leave_each_format_whole() {
    let empty = |format| written(format, Terminal::PLAIN, &[]);
    assert_eq!(empty(Format::Table), "");
    assert_eq!(empty(Format::Json), "[]\n");
    assert_eq!(empty(Format::Ndjson), "");
    assert_eq!(empty(Format::Csv), "key_id,name,event,last_used_at,uses,own_key,other\n");
}

#[test]
fn that_a_table_is_empty_is_said_on_standard_error() {
    let said = |format, quiet| {
        let (mut printer, _, err) = printer(Terminal::PLAIN, quiet);
        printer.listing(format, COLUMNS, "no keys match").unwrap().finish().unwrap();
        err.text()
    };
    assert_eq!(said(Format::Table, false), "no keys match\n");
    assert_eq!(said(Format::Table, true), "");
    assert_eq!(said(Format::Json, false), "");
}

#[test]
fn a_narrow_terminal_shortens_names_before_it_wraps_ids() {
    let rows = [row("key_0123456789abcdefghijklmno", "a rather long name of a key", "added")];
    insta::assert_snapshot!(written(Format::Table, terminal(90), &rows), @"
    KEY                            NAME                     EVENT  LAST USED              USES
    key_0123456789abcdefghijklmno  a rather long name of …  added  2026-11-23T12:29:00Z  1 204
    ");
    insta::assert_snapshot!(written(Format::Table, terminal(72), &rows), @"
    KEY                         NAME      EVENT  LAST USED              USES
    key_0123456789abcdefghijkl  a rathe…  added  2026-11-23T12:29:00Z  1 204
    mno
    ");
}

#[test]
fn spare_columns_go_before_texts_become_too_short() {
    let columns = [
        Column::new("scope", "SCOPE", Kind::Word).spare(1),
        Column::new("key_id", "KEY", Kind::Id),
        Column::new("name", "NAME", Kind::Text),
        Column::new("created_at", "CREATED", Kind::Time).spare(2),
    ];
    let cells = ["admin", "key_0123456789", "a rather long name", "2026-11-23T12:29:00Z"];
    let shown = |width| {
        let (mut printer, out, _) = printer(terminal(width), false);
        let mut listing = printer.listing(Format::Table, &columns, "none").unwrap();
        listing.row(&cells.map(Cell::from)).unwrap();
        listing.flush().unwrap();
        listing.row(&cells.map(Cell::from)).unwrap();
        listing.finish().unwrap();
        out.text()
    };
    insta::assert_snapshot!(shown(60), @"
    SCOPE     KEY             NAME          CREATED
    admin     key_0123456789  a rather lo…  2026-11-23T12:29:00Z
    admin     key_0123456789  a rather lo…  2026-11-23T12:29:00Z
    ");
    insta::assert_snapshot!(shown(40), @"
    SCOPE     KEY             NAME
    admin     key_0123456789  a rather long…
    admin     key_0123456789  a rather long…
    ");
    insta::assert_snapshot!(shown(30), @"
    KEY             NAME
    key_0123456789  a rather long…
    key_0123456789  a rather long…
    ");
}

#[test]
fn a_phrase_without_room_stands_below_its_row() {
    let columns = [
        Column::new("key_id", "KEY", Kind::Id),
        Column::new("name", "NAME", Kind::Text),
        Column::new("what", "WHAT", Kind::Phrase),
        Column::new("remark", "", Kind::Remark),
    ];
    let rows = [
        ["key_0123456789", "a rather long name", "name: some old name → a rather long name", ""],
        ["key_0123456789", "short", "used", "said of\nthis row only"],
    ];
    let shown = |to| {
        let (mut printer, out, _) = printer(to, false);
        let mut listing = printer.listing(Format::Table, &columns, "none").unwrap();
        for row in rows {
            let cell = |text: &str| if text.is_empty() { Cell::Null } else { Cell::from(text) };
            listing.row(&row.map(cell)).unwrap();
        }
        listing.finish().unwrap();
        out.text()
    };
    insta::assert_snapshot!(shown(Terminal::PLAIN), @r"
    KEY             NAME                WHAT
    key_0123456789  a rather long name  name: some old name → a rather long name
    key_0123456789  short               used
         said of\nthis row only
    ");
    insta::assert_snapshot!(shown(terminal(74)), @r"
    KEY             NAME              WHAT
    key_0123456789  a rather long n…  name: some old name → a rather long name
    key_0123456789  short             used
         said of\nthis row only
    ");
    insta::assert_snapshot!(shown(terminal(40)), @r"
    KEY             NAME          WHAT
    key_0123456789  a rather lo…
         name: some old name → a rather long
         name
    key_0123456789  short         used
         said of\nthis row only
    ");
    insta::assert_snapshot!(shown(terminal(30)), @r"
    KEY             NAME      WHAT
    key_0123456789  a rathe…
         name: some old name → a
         rather long name
    key_0123456789  short     used
         said of\nthis row only
    ");
}

#[test]
fn no_escape_is_torn_where_a_table_is_narrow() {
    let rows = [row("key_0123456\u{202e}789abcdef", "prod \u{1b}[31m", "added")];
    insta::assert_snapshot!(written(Format::Table, terminal(64), &rows), @r"
    KEY                 NAME      EVENT  LAST USED              USES
    key_0123456         prod …    added  2026-11-23T12:29:00Z  1 204
    \u{202e}789abcdef
    ");
}

#[test]
fn a_table_fits_its_terminal() {
    let name = "日本語 ".repeat(100);
    let rows = [row(&"id".repeat(5_000), &name, "changed"), row("key", "x", "added")];
    for width in [66u16, 80, 120, 200] {
        let table = written(Format::Table, terminal(width), &rows);
        assert!(table.lines().all(|line| crate::output::harmless::width(line) <= width.into()));
    }
}

#[test]
fn a_long_id_in_a_file_is_whole_and_moves_no_other_row() {
    let long = "id".repeat(5_000);
    let rows = [row(&long, &"n".repeat(10_240), "changed"), row("key", "x", "added")];
    let table = written(Format::Table, Terminal::PLAIN, &rows);
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[1].starts_with(&format!("{long}  nnn")));
    assert!(lines[2].len() < 130, "{}", lines[2]);
    assert!(lines[1].contains(&format!("{}…", "n".repeat(59))));
}

#[test]
fn wide_and_combining_characters_stay_aligned() {
    let rows =
        ["日本語のキー", "x\u{301}cole", "🚀 ship", "plain"].map(|name| row("key", name, "ok"));
    insta::assert_snapshot!(written(Format::Table, Terminal::PLAIN, &rows), @"
    KEY  NAME          EVENT  LAST USED              USES
    key  日本語のキー  ok     2026-11-23T12:29:00Z  1 204
    key  x́cole         ok     2026-11-23T12:29:00Z  1 204
    key  🚀 ship       ok     2026-11-23T12:29:00Z  1 204
    key  plain         ok     2026-11-23T12:29:00Z  1 204
    ");
}

#[test]
fn hostile_names_stay_in_their_row_of_a_table() {
    let rows: Vec<_> = HOSTILE.iter().map(|name| row("key", name, "added")).collect();
    insta::assert_snapshot!(written(Format::Table, Terminal::PLAIN, &rows), @r#"
    KEY  NAME                                                     EVENT  LAST USED              USES
    key  \u{1b}[31mred\u{1b}[0m                                   added  2026-11-23T12:29:00Z  1 204
    key  \u{1b}]8;;https://evil.example\u{7}click\u{1b}]8;;\u{7}  added  2026-11-23T12:29:00Z  1 204
    key  a\u{0}b                                                  added  2026-11-23T12:29:00Z  1 204
    key  <script>alert(1)</script>                                added  2026-11-23T12:29:00Z  1 204
    key  =cmd()                                                   added  2026-11-23T12:29:00Z  1 204
    key  \t=cmd()                                                 added  2026-11-23T12:29:00Z  1 204
    key  two\r\nlines                                             added  2026-11-23T12:29:00Z  1 204
    key  abc\u{202e}fdp.exe                                       added  2026-11-23T12:29:00Z  1 204
    key  \u{2066}isolated\u{2069}                                 added  2026-11-23T12:29:00Z  1 204
    key  zero\u{200b}width\u{feff}                                added  2026-11-23T12:29:00Z  1 204
    key  line\u{2028}and\u{2029}paragraph                         added  2026-11-23T12:29:00Z  1 204
    key  csi \u{9b}31m                                            added  2026-11-23T12:29:00Z  1 204
    key  tags\u{e0041}\u{e007f}                                   added  2026-11-23T12:29:00Z  1 204
    key  👩\u{200d}🚀 ❤️ 🇩🇪                                       added  2026-11-23T12:29:00Z  1 204
    key  x́x́                                                       added  2026-11-23T12:29:00Z  1 204
    key  日本語のキー                                             added  2026-11-23T12:29:00Z  1 204
    key  "quoted", 'and' a\backslash                              added  2026-11-23T12:29:00Z  1 204
    key                                                           added  2026-11-23T12:29:00Z  1 204
    key                                                           added  2026-11-23T12:29:00Z  1 204
    "#);
}

#[test]
fn hostile_names_are_whole_in_json_and_tamed_in_csv() {
    let rows: Vec<_> = HOSTILE.iter().map(|name| row(name, name, name)).collect();
    for format in ALL {
        let text = written(format, terminal(100), &rows);
        assert!(!text.replace('\n', "").contains(crate::output::harmless::is_dangerous));
    }
    let json = written(Format::Json, Terminal::PLAIN, &rows);
    let parsed: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
    let names: Vec<_> = parsed.iter().map(|object| object["name"].as_str().unwrap()).collect();
    assert_eq!(names, HOSTILE);
    let csv = written(Format::Csv, Terminal::PLAIN, &rows);
    assert_eq!(csv.lines().count(), rows.len() + 1);
    assert!(csv.contains("\n'=cmd(),'=cmd(),'=cmd(),2026"));
}

#[test]
fn json_in_csv_can_still_be_parsed() {
    let mut cells = nulls();
    let value = serde_json::json!({"note": "a\n\u{202e}\\n"});
    cells[6] = Cell::Json(value.clone());
    let csv = written(Format::Csv, Terminal::PLAIN, &[cells]);
    let record = csv::Reader::from_reader(csv.as_bytes()).into_records().next().unwrap().unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&record[6]).unwrap(), value);
}

#[test]
fn what_is_no_json_stays_text() {
    assert_eq!(Cell::parse_json(Some("{".to_owned())), Cell::from("{"));
    assert_eq!(Cell::parse_json(None), Cell::Null);
}

#[test]
fn a_followed_listing_shows_rows_at_once() {
    for (format, lines) in
        [(Format::Table, [2, 3]), (Format::Ndjson, [1, 2]), (Format::Csv, [2, 3])]
    {
        let (mut printer, out, _) = printer(Terminal::PLAIN, false);
        let mut listing = printer.listing(format, COLUMNS, "nothing").unwrap();
        for expected in lines {
            listing.row(&row("key", "name", "used")).unwrap();
            listing.flush().unwrap();
            assert_eq!(out.text().lines().count(), expected, "{format:?}");
        }
        listing.finish().unwrap();
    }
}

#[test]
fn a_table_of_any_length_has_one_header() {
    let rows = vec![row("key", "name", "used"); 12_000];
    let table = written(Format::Table, Terminal::PLAIN, &rows);
    assert_eq!(table.lines().count(), 12_001);
    assert_eq!(table.matches("NAME").count(), 1);
}

#[test]
fn a_reader_that_left_ends_a_listing_quietly() {
    for format in ALL {
        let out = Stream::new(Box::new(Failing(std::io::ErrorKind::BrokenPipe)), Terminal::PLAIN);
        let err = Stream::new(Box::new(Captured::default()), Terminal::PLAIN);
        let mut printer = Printer::new(out, err, false);
        let result = printer.listing(format, COLUMNS, "none").and_then(|mut listing| {
            listing.row(&row("key", "name", "used"))?;
            listing.finish()
        });
        assert!(matches!(result, Err(Error::Closed)), "{format:?}: {result:?}");
    }
}

proptest! {
    #[test]
    fn every_format_keeps_its_rows_apart(
        names in prop::collection::vec((hostile_text(), hostile_text(), hostile_text()), 1..6),
        width in 20u16..200,
    ) {
        let rows: Vec<_> = names.iter().map(|(id, name, word)| row(id, name, word)).collect();
        for format in ALL {
            let text = written(format, terminal(width), &rows);
            prop_assert!(!text.replace('\n', "").contains(crate::output::harmless::is_dangerous));
        }
        let table = written(Format::Table, Terminal::PLAIN, &rows);
        prop_assert_eq!(table.lines().count(), rows.len() + 1);
        let ndjson = written(Format::Ndjson, Terminal::PLAIN, &rows);
        for (line, (id, name, _)) in ndjson.lines().zip(&names) {
            let object: serde_json::Value = serde_json::from_str(line).unwrap();
            prop_assert_eq!(&object["key_id"], id);
            prop_assert_eq!(&object["name"], name);
        }
        let csv = written(Format::Csv, Terminal::PLAIN, &rows);
        let mut reader = csv::Reader::from_reader(csv.as_bytes());
        let records: Vec<_> = reader.records().collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(records.len(), rows.len());
        prop_assert!(records.iter().all(|record| record.len() == COLUMNS.len()));
        prop_assert!(records.iter().flatten().all(|cell| !cell.starts_with(['=', '+', '-', '@', '\t', '\r'])));
    }
}
