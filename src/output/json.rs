//! JSON that is safe to show: dangerous characters are written as `\uXXXX`, which parses to the
//! same value.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};

use super::harmless::is_dangerous;

/// Writes a value as one line of JSON, without the newline.
pub(super) fn write(out: &mut dyn Write, value: &impl Serialize) -> serde_json::Result<()> {
    value.serialize(&mut Serializer::with_formatter(out, HarmlessFormatter))
}

/// A value as one line of JSON that cannot break a terminal.
///
/// # Errors
///
/// As [`serde_json::to_string`]: a map whose keys are not strings.
pub fn to_json(value: &impl Serialize) -> serde_json::Result<String> {
    let mut bytes = Vec::new();
    write(&mut bytes, value)?;
    String::from_utf8(bytes).map_err(serde::ser::Error::custom)
}

/// `serde_json`'s compact format, with the dangerous characters that JSON lets pass escaped.
struct HarmlessFormatter;

impl Formatter for HarmlessFormatter {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        out: &mut W,
        text: &str,
    ) -> io::Result<()> {
        let mut rest = text;
        while let Some((at, found)) = rest.char_indices().find(|&(_, c)| is_dangerous(c)) {
            CompactFormatter.write_string_fragment(out, &rest[..at])?;
            for unit in found.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04x}")?;
            }
            rest = &rest[at + found.len_utf8()..];
        }
        CompactFormatter.write_string_fragment(out, rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::testing::{HOSTILE, hostile_text};
    use proptest::prelude::*;

    #[test]
    fn hostile_names_parse_to_themselves() {
        for name in HOSTILE {
            let json = to_json(name).unwrap();
            assert!(!json.contains(is_dangerous), "{json}");
            assert_eq!(serde_json::from_str::<String>(&json).unwrap(), *name);
        }
    }

    #[test]
    fn escapes_are_of_json() {
        let text = "\u{1b}\u{7f}\u{202e}\u{2028}\u{e0041}\"\\<é日";
        assert_eq!(to_json(&text).unwrap(), r#""\u001b\u007f\u202e\u2028\udb40\udc41\"\\<é日""#);
    }

    proptest! {
        #[test]
        fn json_is_harmless_and_means_the_same(key in hostile_text(), text in hostile_text()) {
            let value = serde_json::json!({ key: [text, null, 1, 2.5, true] });
            let json = to_json(&value).unwrap();
            prop_assert!(!json.contains(is_dangerous));
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap(), value);
        }
    }
}
