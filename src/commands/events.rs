//! Events as rows of a listing, the same for every command that prints them.

use serde_json::Value;

use super::attribution;
use crate::output::{Cell, Column, Format, Kind, ListingWriter, Printer, Result};
use crate::store::{EventRow, note_texts};

/// The columns of the view `audit_history` and the notes, for programs.
const ALL: [Column; 20] = [
    Column::new("event_id", "EVENT", Kind::Id),
    Column::new("run_id", "RUN", Kind::Id),
    Column::new("observed_at", "OBSERVED", Kind::Time),
    Column::new("previous_observed_at", "AFTER", Kind::Time),
    Column::new("organization", "ORGANIZATION", Kind::Id),
    Column::new("scope", "SCOPE", Kind::Word),
    Column::new("key_id", "KEY", Kind::Id),
    Column::new("key_name", "NAME", Kind::Text),
    Column::new("event", "EVENT", Kind::Word),
    Column::new("field", "FIELD", Kind::Text),
    Column::new("old_value", "BEFORE", Kind::Text),
    Column::new("new_value", "NOW", Kind::Text),
    Column::new("actor_type", "ACTOR", Kind::Word),
    Column::new("actor_id", "ACTOR ID", Kind::Id),
    Column::new("actor_email", "E-MAIL", Kind::Text),
    Column::new("actor_key_id", "WITH KEY", Kind::Id),
    Column::new("actor_ip_address", "FROM", Kind::Text),
    Column::new("acted_at", "ACTED", Kind::Time),
    Column::new("actor_scopes", "SCOPES", Kind::Json),
    Column::new("notes", "NOTES", Kind::Json),
];

/// What people read, where there is more than one organization.
const TABLE: [Column; 8] = [
    Column::new("observed_at", "OBSERVED", Kind::Time),
    Column::new("organization", "ORGANIZATION", Kind::Id),
    Column::new("event", "EVENT", Kind::Word),
    Column::new("key_id", "KEY", Kind::Id),
    Column::new("key_name", "NAME", Kind::Text).spare(1),
    Column::new("what", "WHAT", Kind::Phrase),
    Column::new("who", "WHO", Kind::Remark),
    Column::new("notes", "", Kind::Remark),
];
/// The same of one organization,
const TABLE_OF_ONE: [Column; 7] =
    [TABLE[0], TABLE[2], TABLE[3], TABLE[4], TABLE[5], TABLE[6], TABLE[7]];
/// and of one key.
const TABLE_OF_ONE_KEY: [Column; 6] = [
    Column::new("previous_observed_at", "BETWEEN", Kind::Time).spare(1),
    Column::new("observed_at", "AND", Kind::Time),
    TABLE[2],
    TABLE[5],
    TABLE[6],
    TABLE[7],
];

/// What the events of a listing have in common, and tables need not repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    Organizations,
    Organization,
    Key,
}

/// A listing of events.
pub(super) struct EventListing<'a> {
    listing: ListingWriter<'a>,
    format: Format,
    of: Of,
}

impl<'a> EventListing<'a> {
    pub(super) fn begin(
        printer: &'a mut Printer,
        format: Format,
        of: Of,
        none: &'a str,
    ) -> Result<Self> {
        let columns: &[Column] = match of {
            _ if format != Format::Table => &ALL,
            Of::Organizations => &TABLE,
            Of::Organization => &TABLE_OF_ONE,
            Of::Key => &TABLE_OF_ONE_KEY,
        };
        Ok(Self { listing: printer.listing(format, columns, none)?, format, of })
    }

    pub(super) fn row(&mut self, event: EventRow) -> Result<()> {
        let cells = match self.format {
            Format::Table => table_cells(event, self.of),
            // A cell of a spreadsheet has the texts alone.
            Format::Csv => {
                let notes = note_texts(&event.notes).join("; ");
                let mut cells = all_cells(event);
                cells.pop();
                cells.push(notes.into());
                cells
            }
            Format::Json | Format::Ndjson => all_cells(event),
        };
        self.listing.row(&cells)
    }

    pub(super) fn flush(&mut self) -> Result<()> {
        self.listing.flush()
    }

    pub(super) fn finish(self) -> Result<u64> {
        self.listing.finish()
    }
}

fn all_cells(event: EventRow) -> Vec<Cell> {
    vec![
        event.event_id.into(),
        event.run_id.into(),
        event.observed_at.into(),
        event.previous_observed_at.into(),
        event.organization.into(),
        event.scope.into(),
        event.key_id.into(),
        event.key_name.into(),
        event.event.into(),
        event.field.into(),
        event.old_value.into(),
        event.new_value.into(),
        event.actor_type.into(),
        event.actor_id.into(),
        event.actor_email.into(),
        event.actor_key_id.into(),
        event.actor_ip_address.into(),
        event.acted_at.into(),
        Cell::parse_json(event.actor_scopes),
        Cell::parse_json(Some(event.notes)),
    ]
}

fn table_cells(event: EventRow, of: Of) -> Vec<Cell> {
    let what = what(event.field.as_deref(), event.old_value.as_deref(), event.new_value.as_deref());
    let who = match of {
        Of::Key => attribution::in_full(&event),
        Of::Organization | Of::Organizations => attribution::who(&event),
    };
    let mut cells = Vec::new();
    if of == Of::Key {
        cells.push(event.previous_observed_at.into());
    }
    cells.push(event.observed_at.into());
    if of == Of::Organizations {
        cells.push(event.organization.into());
    }
    cells.push(event.event.into());
    if of != Of::Key {
        cells.push(event.key_id.into());
        cells.push(event.key_name.into());
    }
    cells.push(what.into());
    cells.push(who.into());
    cells.push(remark(&event.notes).into());
    cells
}

/// The notes on an event, for people.
fn remark(notes: &str) -> Option<String> {
    let notes: Vec<Value> = serde_json::from_str(notes).unwrap_or_default();
    let told = notes.iter().map(|note| {
        let text = |member: &str| note[member].as_str().unwrap_or_default();
        tell_note(text("noted_at"), text("author"), text("text"))
    });
    let told: Vec<String> = told.collect();
    (!told.is_empty()).then(|| told.join("; "))
}

/// Who noted what, and when.
pub(super) fn tell_note(noted_at: &str, author: &str, text: &str) -> String {
    format!("noted by {author} at {noted_at}: {text}")
}

/// What an event or a difference says, in one phrase: `name: old → new`, `never → 2026-11-23T12:29:00Z`, or
/// which key it was.
pub(super) fn what(field: Option<&str>, old: Option<&str>, new: Option<&str>) -> String {
    match field {
        None => old.or(new).map_or_else(String::new, summary),
        Some("last_used_at") => {
            format!("{} → {}", old.unwrap_or("never"), new.unwrap_or("never"))
        }
        Some(field) => format!("{field}: {} → {}", old.unwrap_or("-"), new.unwrap_or("-")),
    }
}

/// An event as JSON, by the view's column names.
pub(super) fn event_json(event: EventRow) -> Value {
    object(&ALL, all_cells(event))
}

/// One row as a JSON object.
pub(super) fn object(columns: &[Column], cells: Vec<Cell>) -> Value {
    let names = columns.iter().map(|column| column.name.to_owned());
    let values = cells.into_iter().map(|cell| match cell {
        Cell::Null => Value::Null,
        Cell::Text(text) => Value::from(text),
        Cell::Integer(number) => Value::from(number),
        Cell::Bool(truth) => Value::from(truth),
        Cell::Json(value) => value,
    });
    Value::Object(names.zip(values).collect())
}

/// A whole key in a few words: its redacted value and its owner.
fn summary(json: &str) -> String {
    let key: Value = serde_json::from_str(json).unwrap_or_default();
    let text = |field: &str| key.get(field).and_then(Value::as_str);
    let owner = text("owner_name").or_else(|| text("owner_id"));
    match (text("redacted_value"), owner) {
        (Some(redacted), Some(owner)) => format!("{redacted} of {owner}"),
        (Some(text), None) | (None, Some(text)) => text.to_owned(),
        (None, None) => "a key".to_owned(),
    }
}
