//! `keydrift show`: what is known of one key, and its whole story.

use serde_json::{Map, Value, json};

use super::events::{EventListing, Of, event_json, object, tell_note};
use super::{Context, Exit, keys};
use crate::cli::Show;
use crate::clock::Timestamp;
use crate::inventory::render_value;
use crate::output::{Cell, Format};
use crate::store::{EventFilter, EventRow, KeyRow, NoteRow, Reader};

/// The one key that somebody means, or why it is not one.
#[derive(Debug, thiserror::Error)]
pub(super) enum Meant {
    #[error("no key has the id, the beginning of an id, the name or the end of a value `{text}`")]
    None { text: String },
    #[error("`{text}` may mean {} keys: {}", .keys.len(), some(.keys))]
    Several { text: String, keys: Vec<String> },
}

fn some(keys: &[String]) -> String {
    const MOST: usize = 5;
    let mut text = keys.iter().take(MOST).cloned().collect::<Vec<_>>().join(", ");
    if keys.len() > MOST {
        text.push_str(", …");
    }
    text
}

impl Meant {
    pub(super) fn hint(&self) -> String {
        match self {
            Self::None { .. } => {
                "`keydrift keys` and `keydrift keys --removed` list all there are".to_owned()
            }
            Self::Several { .. } => {
                "write the whole id, and `--organization NAME` if two have it".to_owned()
            }
        }
    }
}

/// The one key that `text` means.
pub(super) async fn the_key(
    reader: &mut Reader,
    organization: Option<&str>,
    text: &str,
) -> anyhow::Result<KeyRow> {
    let mut found = reader.find_keys(organization, text).await?;
    match (found.pop(), found.is_empty()) {
        (Some(only), true) => Ok(only),
        (Some(last), false) => {
            found.push(last);
            let names = found.iter().map(|row| format!("{}/{}", row.organization, row.key_id));
            Err(Meant::Several { text: text.to_owned(), keys: names.collect() }.into())
        }
        (None, _) => Err(Meant::None { text: text.to_owned() }.into()),
    }
}

pub(super) async fn run(context: &mut Context, arguments: &Show) -> anyhow::Result<Exit> {
    let organization = arguments.organization.name.as_deref();
    let mut reader = context.reader(organization).await?;
    let key = the_key(&mut reader, organization, &arguments.key).await?;
    let story = load_story(&mut reader, &key).await?;
    let missing = tell_missing(&mut reader, &key).await?;
    let notes = reader.list_key_notes(&key.organization, &key.key_id).await?;
    reader.close().await?;
    match arguments.format.format {
        Format::Table => print_for_people(context, key, &notes, story, missing.as_deref())?,
        Format::Json => {
            let events = story.into_iter().map(event_json).collect::<Vec<_>>();
            let document = json!({ "key": key_json(key), "notes": notes, "history": events });
            context.printer.json(&document)?;
        }
        format => {
            let mut listing = EventListing::begin(&mut context.printer, format, Of::Key, "")?;
            story.into_iter().try_for_each(|event| listing.row(event))?;
            listing.finish()?;
        }
    }
    if arguments.format.format != Format::Table
        && let Some(missing) = missing
    {
        context.printer.note(&missing);
    }
    Ok(Exit::Done)
}

/// The key's story as people read it.
pub(super) async fn tell(
    context: &mut Context,
    reader: &mut Reader,
    key: KeyRow,
) -> anyhow::Result<()> {
    let story = load_story(reader, &key).await?;
    let missing = tell_missing(reader, &key).await?;
    let notes = reader.list_key_notes(&key.organization, &key.key_id).await?;
    print_for_people(context, key, &notes, story, missing.as_deref())
}

/// That the beginning of a key's story was thrown away, if it was.
async fn tell_missing(reader: &mut Reader, key: &KeyRow) -> anyhow::Result<Option<String>> {
    let Some(horizon) = reader.load_horizon(&key.organization).await? else { return Ok(None) };
    let began =
        |ended: &Option<Timestamp>| ended.filter(|ended| *key.first_seen_at <= *ended.to_string());
    Ok(match (began(&horizon.events), began(&horizon.used)) {
        (None, None) => None,
        (Some(events), Some(used)) if events >= used => {
            Some(format!("what was observed of it up to {events} was pruned"))
        }
        (Some(events), Some(used)) => {
            Some(format!("what was observed of it up to {events} was pruned, its use up to {used}"))
        }
        (Some(events), None) => {
            Some(format!("what was observed of it up to {events} was pruned, but not its use"))
        }
        (None, Some(used)) => Some(format!("its use up to {used} was pruned")),
    })
}

async fn load_story(reader: &mut Reader, key: &KeyRow) -> anyhow::Result<Vec<EventRow>> {
    let filter = EventFilter {
        organization: Some(key.organization.clone()),
        key_id: Some(key.key_id.clone()),
        ..EventFilter::default()
    };
    let mut story = Vec::new();
    reader
        .list_events(&filter, |event| {
            story.push(event);
            Ok::<_, crate::store::Error>(())
        })
        .await?;
    Ok(story)
}

fn print_for_people(
    context: &mut Context,
    key: KeyRow,
    notes: &[NoteRow],
    story: Vec<EventRow>,
    missing: Option<&str>,
) -> anyhow::Result<()> {
    let printer = &mut context.printer;
    let state = match &key.removed_at {
        Some(removed_at) => format!("removed, seen gone at {removed_at}"),
        None if key.own_key == 1 => "present; the credential that keydrift uses".to_owned(),
        None => "present".to_owned(),
    };
    printer.heading(&format!("key {}", key.key_id))?;
    let mut rows = vec![("state", Cell::from(state))];
    for (column, cell) in keys::columns().iter().zip(keys::cells(key)) {
        // The heading and the state have said these, and what is empty says nothing.
        let said = matches!(column.name, "key_id" | "own_key" | "removed_at");
        let empty = match &cell {
            Cell::Null => true,
            Cell::Json(Value::Object(members)) => members.is_empty(),
            _ => false,
        };
        match cell {
            _ if said || empty => {}
            Cell::Json(Value::Object(members)) => rows.extend(lines_of(column.name, &members)),
            cell => rows.push((column.name, cell)),
        }
    }
    printer.details(&rows)?;
    for NoteRow { noted_at, author, text, .. } in notes {
        printer.line(&tell_note(noted_at, author, text))?;
    }
    printer.line("")?;
    printer.heading("history")?;
    if let Some(missing) = missing {
        printer.line(missing)?;
    }
    let mut listing = EventListing::begin(printer, Format::Table, Of::Key, "no events")?;
    story.into_iter().try_for_each(|event| listing.row(event))?;
    listing.finish()?;
    Ok(())
}

/// A path and its value a line, the first one behind the label.
fn lines_of<'a>(label: &'a str, members: &Map<String, Value>) -> Vec<(&'a str, Cell)> {
    let labels = std::iter::once(label).chain(std::iter::repeat(""));
    // Those that have a column of their own.
    let rest = members.iter().filter(|(path, _)| keys::columns().iter().all(|c| c.name != **path));
    let lines = rest.map(|(path, value)| format!("{path}: {}", render_value(value)));
    labels.zip(lines.map(Cell::from)).collect()
}

fn key_json(key: KeyRow) -> Value {
    object(keys::columns(), keys::cells(key))
}
