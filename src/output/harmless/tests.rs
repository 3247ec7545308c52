use proptest::prelude::*;

use super::*;
use crate::output::testing::{HOSTILE, hostile_text};

#[test]
fn hostile_names_are_visible_and_on_one_line() {
    let shown: Vec<_> = HOSTILE.iter().map(|name| format!("[{}]", harmless(name))).collect();
    insta::assert_snapshot!(shown.join("\n"), @r#"
    [\u{1b}[31mred\u{1b}[0m]
    [\u{1b}]8;;https://evil.example\u{7}click\u{1b}]8;;\u{7}]
    [a\u{0}b]
    [<script>alert(1)</script>]
    [=cmd()]
    [\t=cmd()]
    [two\r\nlines]
    [abc\u{202e}fdp.exe]
    [\u{2066}isolated\u{2069}]
    [zero\u{200b}width\u{feff}]
    [line\u{2028}and\u{2029}paragraph]
    [csi \u{9b}31m]
    [tags\u{e0041}\u{e007f}]
    [👩\u{200d}🚀 ❤️ 🇩🇪]
    [x́x́]
    [日本語のキー]
    ["quoted", 'and' a\backslash]
    []
    [ ]
    "#);
}

#[test]
fn each_dangerous_character_is_escaped() {
    // Told apart from `is_dangerous` on purpose.
    let controls = ('\0'..='\u{ff}').filter(|c| c.is_control());
    let bidi = "\u{61c}\u{200e}\u{200f}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\
                \u{2066}\u{2067}\u{2068}\u{2069}";
    let breaks = "\u{85}\u{2028}\u{2029}";
    let invisible = "\u{ad}\u{200b}\u{200c}\u{200d}\u{2060}\u{2063}\u{feff}\u{180e}\u{115f}\u{3164}\
                     \u{ffa0}\u{fff9}\u{fffb}\u{fe00}\u{e0001}\u{e0020}\u{e007f}\u{e01ef}\u{1d173}";
    let others = [bidi, breaks, invisible].concat();
    for c in controls.chain(others.chars()) {
        let name = format!("a{c}b");
        let shown = harmless(&name);
        assert!(shown.len() >= 4 && shown.is_ascii(), "{c:?}: {shown:?}");
        assert!(!shown.contains(char::is_control), "{c:?}");
        assert!(!crate::output::to_json(&name).unwrap().contains(c), "{c:?}");
    }
}

#[test]
fn ordinary_text_is_not_copied() {
    for text in ["", "prod", r"C:\new", "日本語", "naïve — “quoted”", "e\u{301}", "❤\u{fe0f}"]
    {
        assert!(matches!(harmless(text), Cow::Borrowed(same) if same == text), "{text}");
    }
}

#[test]
fn a_mark_with_nothing_to_stand_on_is_escaped() {
    assert_eq!(harmless("\u{301}a"), r"\u{301}a");
    assert_eq!(harmless("\n\u{301}"), r"\n\u{301}");
}

#[test]
fn only_a_few_marks_may_stand_on_one_character() {
    let name = format!("a{}", "\u{301}".repeat(6));
    assert_eq!(harmless(&name), format!("a{}{}", "\u{301}".repeat(4), r"\u{301}\u{301}"));
}

#[test]
fn long_text_is_shortened_to_columns() {
    assert_eq!(shortened("production", 10), "production");
    assert_eq!(shortened("production", 9), "producti…");
    assert_eq!(shortened("日本語のキー", 12), "日本語のキー");
    assert_eq!(shortened("日本語のキー", 11), "日本語のキ…");
    assert_eq!(shortened("日本語のキー", 10), "日本語の…");
    assert_eq!(shortened("e\u{301}e\u{301}e\u{301}", 2), "e\u{301}…");
    assert_eq!(shortened("ab\u{1b}c", 6), "ab…");
    assert_eq!(shortened("ab", 1), "…");
    assert_eq!(shortened("ab", 0), "");
    assert_eq!(shortened(&"x".repeat(10_240), 60).chars().count(), 60);
}

#[test]
fn wrapping_loses_nothing() {
    assert_eq!(wrapped("key_0123456789", 6), ["key_01", "234567", "89"]);
    assert_eq!(wrapped("a  b ", 2), ["a ", " b", " "]);
    assert_eq!(wrapped("", 6), [""]);
    assert_eq!(wrapped("日本", 1), ["日", "本"]);
}

fn is_clean(text: &str) -> bool {
    !text.contains(is_dangerous) && !text.contains(char::is_control)
}

proptest! {
    #[test]
    fn nothing_dangerous_is_left(text in hostile_text()) {
        prop_assert!(is_clean(&harmless(&text)));
    }

    #[test]
    fn twice_is_once(text in hostile_text()) {
        let once = harmless(&text).into_owned();
        prop_assert_eq!(harmless(&once), once.as_str());
    }

    #[test]
    fn shortened_text_fits_and_begins_as_the_whole(text in hostile_text(), columns in 0usize..20) {
        let short = shortened(&text, columns);
        prop_assert!(is_clean(&short));
        prop_assert!(width(&short) <= columns);
        let whole = harmless(&text);
        match short.strip_suffix('…') {
            Some(start) if short != whole => {
                prop_assert!(whole.starts_with(start));
                prop_assert!(width(&text) > columns);
            }
            _ if columns == 0 => {}
            _ => prop_assert_eq!(short, whole),
        }
    }

    #[test]
    fn wrapped_lines_fit_and_join_to_the_whole(text in hostile_text(), columns in 10usize..20) {
        let lines = wrapped(&text, columns);
        prop_assert_eq!(lines.concat(), harmless(&text).into_owned());
        prop_assert!(lines.iter().all(|line| width(line) <= columns));
    }

    #[test]
    fn every_character_takes_some_room(text in hostile_text()) {
        let shown = harmless(&text);
        prop_assert!(shown.chars().count() <= width(&text) * (1 + MARKS_MAX));
    }
}
