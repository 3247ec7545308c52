//! One JSON object a line, for whoever collects logs without a journal.

use std::fmt::Write as _;
use std::io::Write;

use serde_json::{Map, Value};
use tracing::Metadata;

use super::fields::{Fields, Sink};
use crate::clock::{Clock, SystemClock};

/// Writes each event with `timestamp`, `level`, `target` and `message`, and its fields beside them.
pub(super) struct Json<W>(pub(super) W);

impl<W: Fn() -> T + 'static, T: Write> Sink for Json<W> {
    fn take(&self, fields: &Fields, metadata: &Metadata<'_>) {
        let mut line = Map::new();
        line.insert("timestamp".to_owned(), SystemClock.now().to_string().into());
        line.insert("level".to_owned(), metadata.level().as_str().into());
        line.insert("target".to_owned(), metadata.target().into());
        line.insert("message".to_owned(), fields.message.as_str().into());
        if let Some(id) = &fields.message_id {
            line.insert("message_id".to_owned(), id.as_str().into());
        }
        for (name, value) in &fields.others {
            line.insert((*name).to_owned(), value.clone());
        }
        let mut line = unobtrusive(&Value::Object(line).to_string());
        line.push('\n');
        (self.0)().write_all(line.as_bytes()).ok();
    }
}

/// The same JSON without characters that a terminal would take for more than text. Outside of strings JSON
/// has none of them.
fn unobtrusive(json: &str) -> String {
    let harmful = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if harmful(c) {
            // Writing into a `String` cannot fail.
            write!(out, "\\u{:04x}", u32::from(c)).ok();
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::fields::Collect;
    use proptest::prelude::*;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::layer::SubscriberExt;

    #[test]
    fn a_line_is_an_object_with_the_fields_of_event_and_span() {
        #[derive(Clone, Default)]
        struct Buffer(Arc<Mutex<Vec<u8>>>);
        impl Write for Buffer {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().unwrap().write(bytes)
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let layer = Collect(Json(move || writer.clone()));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let _entered = tracing::info_span!("sync.run", org.label = "acme").entered();
            tracing::warn!(run.id = 7_i64, done = true, error = "a\nb\u{9b}", "said");
        });
        let line = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
        assert_eq!(line.lines().count(), 1);
        let mut json: Map<String, Value> = serde_json::from_str(&line).unwrap();
        let timestamp = json.remove("timestamp").unwrap();
        timestamp.as_str().unwrap().parse::<crate::clock::Timestamp>().unwrap();
        let expected = r#"{"done":true,"error":"a\nb\u009b","level":"WARN","message":"said","org.label":"acme","run.id":7,"target":"keydrift::telemetry::json::tests"}"#;
        assert!(line.contains(r"\u009b"), "{line}");
        assert_eq!(Value::Object(json), serde_json::from_str::<Value>(expected).unwrap());
    }

    proptest! {
        #[test]
        fn any_text_stays_the_same_and_moves_no_cursor(text in any::<String>()) {
            let line = unobtrusive(&Value::from(text.as_str()).to_string());
            let harmful = |c: char| c.is_control() || c == '\u{202e}';
            prop_assert!(!line.contains(harmful), "{line:?}");
            prop_assert_eq!(serde_json::from_str::<String>(&line).unwrap(), text);
        }
    }
}
