//! `keydrift diff`: what differs between two times.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Context, Exit, Misuse, NothingKnown, window};
use crate::cli::Diff;
use crate::inventory::{EventKind, Inventory, Key, KeyId, NoticeKind, field_changes};
use crate::output::{self, Cell, Column, Format, Kind};
use crate::store::Adoption;

const COLUMNS: [Column; 9] = [
    Column::hidden("organization", Kind::Id),
    Column::hidden("scope", Kind::Word),
    Column::new("key_id", "KEY", Kind::Id),
    Column::new("key_name", "NAME", Kind::Text).spare(1),
    Column::new("event", "DIFFERENCE", Kind::Word),
    Column::hidden("field", Kind::Text),
    Column::hidden("old_value", Kind::Text),
    Column::hidden("new_value", Kind::Text),
    Column::new("what", "WHAT", Kind::Phrase),
];
/// All but the phrase for people.
const FOR_PROGRAMS: usize = 8;

/// What differs of one key: the kind as in the history, and the values.
struct Difference<'a> {
    key: &'a Key,
    kind: EventKind,
    field: Option<String>,
    old: Option<String>,
    new: Option<String>,
}

pub(super) async fn run(context: &mut Context, arguments: &Diff) -> anyhow::Result<Exit> {
    let from = context.time("FROM", &arguments.from)?;
    let to = context.time("TO", &arguments.to)?;
    if from > to {
        return Err(Misuse::Backwards { from, to }.into());
    }
    let organization = arguments.organization.name.as_deref();
    let mut reader = context.reader(organization).await?;
    let before = reader.replay(organization, from).await?;
    let after = reader.replay(organization, to).await?;
    let mut untold = Untold::new(reader.list_adoptions(organization, from, to).await?);
    let observed = [
        window::load(context, &mut reader, organization, from).await?,
        window::load(context, &mut reader, organization, to).await?,
    ];
    reader.close().await?;
    if after.is_empty() {
        return Err(NothingKnown.into());
    }
    for name in after.keys().filter(|name| !before.contains_key(*name)) {
        context.printer.warning(&format!("nothing is known of `{name}` at {from}: left out"));
    }
    let mut columns = COLUMNS;
    if after.len() > 1 {
        columns[0] = Column::new("organization", "ORGANIZATION", Kind::Id);
    }
    let format = arguments.format.format;
    let shown = if format == Format::Table { COLUMNS.len() } else { FOR_PROGRAMS };
    let none = format!("nothing differs between {from} and {to}");
    let mut listing = context.printer.listing(format, &columns[..shown], &none)?;
    let mut counts: BTreeMap<EventKind, u64> = BTreeMap::new();
    for (name, before) in &before {
        // What was once known stays known.
        let Some(after) = after.get(name) else { continue };
        for difference in differences(before, after) {
            if untold.leaves_out(name, &difference) {
                continue;
            }
            *counts.entry(difference.kind).or_default() += 1;
            listing.row(&cells(name, difference)[..shown])?;
        }
    }
    if listing.finish()? > 0 && format == Format::Table {
        context.printer.note(&format!("{} between {from} and {to}", summary(&counts)));
    }
    for ((organization, kind, field), keys) in &untold.left_out {
        let of = if after.len() > 1 { format!("{organization}: ") } else { String::new() };
        let (why, keys) = (why_left_out(kind, field), output::count(*keys, "key"));
        context.printer.note(&format!("{of}{why}: {keys}, left out"));
    }
    for end in observed.iter().take(if from == to { 1 } else { 2 }) {
        end.tell(context, format);
    }
    Ok(Exit::Done)
}

fn summary(counts: &BTreeMap<EventKind, u64>) -> String {
    let count = |kind| output::grouped(counts.get(&kind).copied().unwrap_or(0));
    format!(
        "{} added, {} removed, {} used, {} changed",
        count(EventKind::Added),
        count(EventKind::Removed),
        count(EventKind::Used),
        count(EventKind::Changed),
    )
}

/// What only a notice told, which is news of the whole list rather than of each key.
struct Untold {
    /// By organization, key and field: the kind of the newest notice, and the value it told.
    adopted: HashMap<(String, String, String), (String, Option<String>)>,
    /// By organization, kind of notice and field: how many differences are left out.
    left_out: BTreeMap<(String, String, String), u64>,
}

impl Untold {
    fn new(adoptions: Vec<Adoption>) -> Self {
        let adopted = adoptions.into_iter().map(|adoption| {
            let Adoption { organization, kind, field, key_id, value } = adoption;
            ((organization, key_id, field), (kind, value))
        });
        Self { adopted: adopted.collect(), left_out: BTreeMap::new() }
    }

    /// Whether the difference is what a notice told. If so it is counted.
    fn leaves_out(&mut self, organization: &str, difference: &Difference<'_>) -> bool {
        let Some(field) = &difference.field else { return false };
        let of = (organization.to_owned(), difference.key.id.to_string(), field.clone());
        let Some((kind, value)) = self.adopted.get(&of) else { return false };
        let is_told = *value == difference.new;
        if is_told {
            let (organization, _, field) = of;
            *self.left_out.entry((organization, kind.clone(), field)).or_default() += 1;
        }
        is_told
    }
}

/// The notice in a few words.
fn why_left_out(kind: &str, field: &str) -> String {
    if kind == NoticeKind::FieldStarted.as_str() {
        format!("the API now sends `{field}`")
    } else if kind == NoticeKind::RedactedFormat.as_str() {
        format!("every `{field}` changed at once")
    } else {
        format!("`{field}` moved by our own use")
    }
}

fn differences<'a>(before: &'a Inventory, after: &'a Inventory) -> Vec<Difference<'a>> {
    let ids: BTreeSet<&KeyId> = before.keys.keys().chain(after.keys.keys()).collect();
    let mut differences = Vec::new();
    for id in ids {
        let whole = |key: &Key| Some(output::to_json(&key.to_json()).unwrap_or_default());
        match (before.keys.get(id), after.keys.get(id)) {
            (None, Some(key)) => differences.push(Difference {
                key,
                kind: EventKind::Added,
                field: None,
                old: None,
                new: whole(key),
            }),
            (Some(key), None) => differences.push(Difference {
                key,
                kind: EventKind::Removed,
                field: None,
                old: whole(key),
                new: None,
            }),
            (Some(before), Some(key)) => {
                differences.extend(field_changes(before, key).into_iter().map(|change| {
                    let kind = change.kind();
                    let (field, old, new) = (Some(change.field), change.old, change.new);
                    Difference { key, kind, field, old, new }
                }));
            }
            (None, None) => {}
        }
    }
    differences
}

fn cells(organization: &str, difference: Difference<'_>) -> Vec<Cell> {
    let Difference { key, kind, field, old, new } = difference;
    let what = super::events::what(field.as_deref(), old.as_deref(), new.as_deref());
    vec![
        organization.into(),
        key.scope.as_str().into(),
        key.id.as_str().into(),
        key.name.as_deref().into(),
        kind.as_str().into(),
        field.into(),
        old.into(),
        new.into(),
        what.into(),
    ]
}
