//! Straight to the journal, with fields: a thin layer over its native socket.
//!
//! `KEYDRIFT_` and the field's name in capitals, with underscores for all but letters and digits: `run.id` is
//! `KEYDRIFT_RUN_ID`. `MESSAGE`, `MESSAGE_ID` and `PRIORITY` are the journal's own. What can't be sent, for
//! want of a reader, goes to standard error: nothing waits for the journal.

use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tracing::{Level, Metadata};

use super::fields::{Fields, Sink};
use crate::output::harmless;

/// Where systemd's journal listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";
/// A longer value is cut.
const LONGEST_VALUE_BYTES: usize = 8 * 1024;
/// No more of them: with their values they stay below what a datagram holds.
const MOST_FIELDS: usize = 16;
/// What the journal allows for a field's name.
const LONGEST_NAME_BYTES: usize = 64;

/// Whether standard error is the journal: the variable says which file that would be, and may be inherited.
pub(super) fn is_stderr(journal_stream: Option<&str>) -> bool {
    let named = journal_stream.and_then(|text| text.split_once(':'));
    let named = named.and_then(|(dev, ino)| Some((dev.parse().ok()?, ino.parse().ok()?)));
    let stderr = rustix::fs::fstat(io::stderr());
    stderr.is_ok_and(|stderr| named == Some((stderr.st_dev, stderr.st_ino)))
}

/// Sends each event.
pub(super) struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Journal {
    /// `None` if nobody listens there.
    pub(super) fn open(path: &Path) -> Option<Self> {
        path.metadata().ok().filter(|file| file.mode() & 0o170_000 == 0o140_000)?;
        let socket = UnixDatagram::unbound().ok()?;
        socket.set_nonblocking(true).ok()?;
        Some(Self { socket, path: path.to_owned() })
    }
}

impl Sink for Journal {
    fn take(&self, fields: &Fields, metadata: &Metadata<'_>) {
        let (level, target) = (*metadata.level(), metadata.target());
        // Not connected: the journal may be restarted meanwhile.
        if self.socket.send_to(&encode(fields, level, target), &self.path).is_err() {
            let line = format!("{level} {target}: {}\n", harmless(&fields.message));
            io::stderr().write_all(line.as_bytes()).ok();
        }
    }
}

fn encode(fields: &Fields, level: Level, target: &str) -> Vec<u8> {
    let mut entry = Vec::new();
    put(&mut entry, "MESSAGE", &harmless(&fields.message));
    let by_level = match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    };
    let priority = fields.priority.as_deref().and_then(priority_of).unwrap_or(by_level);
    put(&mut entry, "PRIORITY", &priority.to_string());
    put(&mut entry, "SYSLOG_IDENTIFIER", "keydrift");
    if let Some(id) = &fields.message_id {
        put(&mut entry, "MESSAGE_ID", id);
    }
    put(&mut entry, "KEYDRIFT_TARGET", target);
    for (name, value) in fields.others.iter().take(MOST_FIELDS) {
        match value {
            Value::String(text) => put(&mut entry, &journal_name(name), text),
            other => put(&mut entry, &journal_name(name), &other.to_string()),
        }
    }
    entry
}

/// For a line that is more or less than its level says.
fn priority_of(word: &str) -> Option<u8> {
    match word {
        "error" => Some(3),
        "warning" => Some(4),
        "notice" => Some(5),
        _ => None,
    }
}

fn journal_name(name: &str) -> String {
    let name = name.trim_start_matches("r#");
    let fits = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    let name = "KEYDRIFT_".chars().chain(name.chars().map(fits));
    name.take(LONGEST_NAME_BYTES).collect()
}

/// `NAME=value`, or with the length before a value of several lines.
fn put(entry: &mut Vec<u8>, name: &str, value: &str) {
    let value = &value[..value.floor_char_boundary(LONGEST_VALUE_BYTES)];
    entry.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        entry.push(b'\n');
        entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend_from_slice(value.as_bytes());
    entry.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::fields::Collect;
    use crate::telemetry::message;
    use proptest::prelude::*;
    use tracing_subscriber::layer::SubscriberExt;

    const NAMES: [&str; 5] = ["run.id", "org.label", "error", "duration_ms", "key.id"];

    /// What the journal makes of an entry, by its own description of the protocol.
    fn decode(mut entry: &[u8]) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let mut fields = Vec::new();
        while let Some(at) = entry.iter().position(|byte| matches!(byte, b'=' | b'\n')) {
            let (name, rest) = entry.split_at(at);
            let (length, value) = if rest[0] == b'=' {
                (rest[1..].iter().position(|byte| *byte == b'\n').unwrap(), &rest[1..])
            } else {
                let (length, value) = rest[1..].split_first_chunk::<8>().unwrap();
                (usize::try_from(u64::from_le_bytes(*length)).unwrap(), value)
            };
            assert_eq!(value[length], b'\n');
            fields.push((text(name), text(&value[..length])));
            entry = &value[length + 1..];
        }
        assert!(entry.is_empty());
        fields
    }

    /// What arrives at a socket while `act` logs.
    fn received(act: impl FnOnce()) -> Vec<Vec<(String, String)>> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let receiver = UnixDatagram::bind(&path).unwrap();
        receiver.set_nonblocking(true).unwrap();
        let journal = Collect(Journal::open(&path).unwrap());
        let subscriber = tracing_subscriber::registry().with(journal);
        tracing::subscriber::with_default(subscriber, act);
        let mut entries = Vec::new();
        let mut buffer = vec![0; 1 << 20];
        while let Ok(length) = receiver.recv(&mut buffer) {
            entries.push(decode(&buffer[..length]));
        }
        entries
    }

    #[test]
    fn an_event_arrives_with_its_fields_and_those_of_its_span() {
        let entries = received(|| {
            let span = tracing::info_span!("sync.run", org.label = "acme");
            let _entered = span.enter();
            let id = Some(7);
            tracing::info!(
                message_id = message::RUN_OK,
                run.id = id,
                duration_ms = 12_u64,
                "synced"
            );
            tracing::info!(priority = "error", error = "a\nb", "held {}", "\u{1b}[31m\n");
        });
        let shown: Vec<String> = entries
            .iter()
            .map(|fields| {
                fields
                    .iter()
                    .map(|(name, value)| format!("{name}={value:?}"))
                    .collect::<Vec<_>>()
                    .join(" ")
            })
            .collect();
        insta::assert_snapshot!(shown.join("\n"), @r#"
        MESSAGE="synced" PRIORITY="6" SYSLOG_IDENTIFIER="keydrift" MESSAGE_ID="21aa60cb1f51433da18d8cec5dbebd0f" KEYDRIFT_TARGET="keydrift::telemetry::journal::tests" KEYDRIFT_DURATION_MS="12" KEYDRIFT_ORG_LABEL="acme" KEYDRIFT_RUN_ID="7"
        MESSAGE="held \\u{1b}[31m\\n" PRIORITY="3" SYSLOG_IDENTIFIER="keydrift" KEYDRIFT_TARGET="keydrift::telemetry::journal::tests" KEYDRIFT_ERROR="a\nb" KEYDRIFT_ORG_LABEL="acme"
        "#);
    }

    #[test]
    fn where_nobody_listens_there_is_no_journal() {
        let directory = tempfile::tempdir().unwrap();
        assert!(Journal::open(&directory.path().join("none")).is_none());
        std::fs::write(directory.path().join("file"), "").unwrap();
        assert!(Journal::open(&directory.path().join("file")).is_none());
        assert!(!is_stderr(None) && !is_stderr(Some("8:1")) && !is_stderr(Some("nonsense")));
    }

    proptest! {
        #[test]
        fn any_value_arrives_as_it_is(values in prop::collection::vec(any::<String>(), 5), message in any::<String>()) {
            let mut fields = Fields { message: message.clone(), ..Fields::default() };
            for (name, value) in NAMES.into_iter().zip(&values) {
                fields.others.insert(name, Value::from(value.as_str()));
            }
            let decoded = decode(&encode(&fields, Level::INFO, "target"));
            prop_assert_eq!(&decoded[0], &("MESSAGE".to_owned(), harmless(&message).into_owned()));
            for (name, value) in NAMES.into_iter().zip(&values) {
                prop_assert!(decoded.contains(&(journal_name(name), value.clone())));
            }
        }

        #[test]
        fn the_longest_entry_fits_into_a_datagram(length in 0..100_000_usize) {
            let mut fields = Fields { message: "ä".repeat(length), ..Fields::default() };
            for name in NAMES {
                fields.others.insert(name, Value::from("\n".repeat(length)));
            }
            let entry = encode(&fields, Level::INFO, "target");
            prop_assert!(entry.len() < 200_000);
            decode(&entry);
        }
    }
}
