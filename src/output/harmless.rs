//! Text of others, made harmless for a terminal, a log line or a sentence.
//!
//! A character that could move the cursor, break a line, reverse the reading direction or simply
//! not be seen is written as a visible escape: `\n`, `\r`, `\t`, or `\u{1b}` for the rest.
//!
//! A backslash stays as it is, so that the two characters `\n` in a name look like an escaped
//! newline. That is on purpose: making text harmless twice changes nothing more, paths and JSON
//! inside a text stay readable, and where the exact text matters, JSON output has it.

use std::borrow::Cow;
use std::fmt::Write as _;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Combining marks allowed on one character: enough for every script, not for burying a line.
pub(super) const MARKS_MAX: usize = 4;

/// Whether a character is invisible or steers what displays it, so that it must never be written as
/// it is: controls, line separators, and what Unicode calls bidi controls and default-ignorable.
///
/// The emoji and text variation selectors pass: they count as marks (see [`atoms`]).
pub(super) fn is_dangerous(c: char) -> bool {
    matches!(c,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}'
        | '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0d}' | '\u{feff}'
        | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{13430}'..='\u{1345f}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// The text with every dangerous character as a visible escape.
///
/// It applies to a text once or often with the same result.
#[must_use]
pub fn harmless(text: &str) -> Cow<'_, str> {
    if is_plain(text) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for atom in atoms(text) {
        out.push_str(&atom.text);
    }
    if out == text { Cow::Borrowed(text) } else { Cow::Owned(out) }
}

/// The harmless text in at most `width` columns of a terminal: what does not fit gives way to `…`.
///
/// An escape is never cut in two, nor a character from its marks.
#[must_use]
pub fn shortened(text: &str, width: usize) -> Cow<'_, str> {
    if text.len() <= width && is_plain(text) {
        return Cow::Borrowed(text);
    }
    let mut used = 0;
    let mut out = String::new();
    // The length of `out` where there is still room for the ellipsis.
    let mut fits_with_ellipsis = 0;
    for atom in atoms(text) {
        used += atom.width;
        if used > width {
            out.truncate(fits_with_ellipsis);
            if width > 0 {
                out.push('…');
            }
            return Cow::Owned(out);
        }
        out.push_str(&atom.text);
        if used < width {
            fits_with_ellipsis = out.len();
        }
    }
    if out == text { Cow::Borrowed(text) } else { Cow::Owned(out) }
}

/// How many columns the text takes, once harmless.
pub(super) fn width(text: &str) -> usize {
    if is_plain(text) {
        return text.len();
    }
    atoms(text).map(|atom| atom.width).sum()
}

/// The harmless text, cut into lines of at most `width` columns; nothing is lost or moved.
pub(super) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut used = 0;
    for atom in atoms(text) {
        if used > 0 && used + atom.width > width {
            lines.push(std::mem::take(&mut line));
            used = 0;
        }
        used += atom.width;
        line.push_str(&atom.text);
    }
    lines.push(line);
    lines
}

/// Whether each byte is a visible character of one column, as nearly always.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, 0x20..=0x7e))
}

/// What is shown together: an escape, or a character with its marks.
struct Atom<'a> {
    text: Cow<'a, str>,
    width: usize,
}

fn atoms(text: &str) -> impl Iterator<Item = Atom<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        // A mark here has no character to stand on, or one that carries enough of them.
        if is_dangerous(first) || is_mark(first) {
            rest = &rest[first.len_utf8()..];
            let text = escape(first);
            let width = text.len();
            return Some(Atom { text: Cow::Owned(text), width });
        }
        let marks = rest.chars().skip(1).take(MARKS_MAX).take_while(|&c| is_mark(c));
        let length = first.len_utf8() + marks.map(char::len_utf8).sum::<usize>();
        let (atom, after) = rest.split_at(length);
        rest = after;
        Some(Atom { text: Cow::Borrowed(atom), width: atom.width() })
    })
}

fn is_mark(c: char) -> bool {
    !is_dangerous(c) && c.width() == Some(0)
}

fn escape(c: char) -> String {
    match c {
        '\n' => "\\n".to_owned(),
        '\r' => "\\r".to_owned(),
        '\t' => "\\t".to_owned(),
        other => {
            let mut text = String::new();
            // Writing into a `String` cannot fail.
            write!(text, "\\u{{{:x}}}", u32::from(other)).ok();
            text
        }
    }
}

#[cfg(test)]
mod tests;
