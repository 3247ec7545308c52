//! What the tests of this module share: hostile texts.

use proptest::prelude::*;

/// Names that somebody with bad intentions, or a bad day, could give a key.
pub(crate) const HOSTILE: &[&str] = &[
    "\u{1b}[31mred\u{1b}[0m",
    "\u{1b}]8;;https://evil.example\u{7}click\u{1b}]8;;\u{7}",
    "a\0b",
    "<script>alert(1)</script>",
    "=cmd()",
    "\t=cmd()",
    "two\r\nlines",
    "abc\u{202e}fdp.exe",
    "\u{2066}isolated\u{2069}",
    "zero\u{200b}width\u{feff}",
    "line\u{2028}and\u{2029}paragraph",
    "csi \u{9b}31m",
    "tags\u{e0041}\u{e007f}",
    "👩\u{200d}🚀 ❤\u{fe0f} 🇩🇪",
    "x\u{301}x\u{301}",
    "日本語のキー",
    "\"quoted\", 'and' a\\backslash",
    "",
    " ",
];

/// Text in which hostile characters are common.
pub(crate) fn hostile_text() -> impl Strategy<Value = String> {
    let any_text = prop::collection::vec(any::<char>(), 0..12).prop_map(String::from_iter);
    let nasty = prop::sample::select(
        "\0\t\n\r\u{1b}\u{7f}\u{85}\u{9b}\u{200d}\u{200e}\u{202e}\u{2028}\u{2066}\u{feff}\u{301}\u{fe0f}\u{e0041}=+-@＝\"',;\\ n日a"
            .chars()
            .collect::<Vec<_>>(),
    );
    let nasty_text = prop::collection::vec(nasty, 0..12).prop_map(String::from_iter);
    let known = prop::sample::select(HOSTILE).prop_map(str::to_owned);
    prop_oneof![any_text, nasty_text, known]
}
