//! What the tests of this module share: hostile texts, and a printer that writes into memory.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use super::{Printer, Stream, Terminal};

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

/// What was written, readable while the writer is in use.
#[derive(Debug, Clone, Default)]
pub(crate) struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A writer that fails from the start.
pub(crate) struct Failing(pub(crate) io::ErrorKind);

impl Write for Failing {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Err(self.0.into())
    }
}

pub(crate) fn terminal(width: u16) -> Terminal {
    Terminal { interactive: true, colour: false, width: Some(width) }
}

pub(crate) fn in_colour(width: u16) -> Terminal {
    Terminal { colour: true, ..terminal(width) }
}

/// A printer, and what it writes to standard output and standard error.
pub(crate) fn printer(out: Terminal, quiet: bool) -> (Printer, Captured, Captured) {
    let (stdout, stderr) = (Captured::default(), Captured::default());
    let printer = Printer::new(
        Stream::new(Box::new(stdout.clone()), out),
        Stream::new(Box::new(stderr.clone()), out),
        quiet,
    );
    (printer, stdout, stderr)
}
