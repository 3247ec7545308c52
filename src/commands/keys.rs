//! `keydrift keys`: the inventory, now or at another time.

use super::{Context, Exit, Misuse, NothingKnown, none_listed, window};
use crate::cli::Keys;
use crate::clock::Timestamp;
use crate::inventory::{Inventory, Key, Scope};
use crate::output::{self, Cell, Column, Format, Kind, ListingWriter};
use crate::store::{KeyFilter, KeyRow, Reader};
use crate::when;

/// The columns of the view `all_keys`, in their order.
const COLUMNS: [Column; 22] = [
    Column::hidden("organization", Kind::Id),
    Column::new("scope", "SCOPE", Kind::Word).spare(2),
    Column::new("key_id", "KEY", Kind::Id),
    Column::new("name", "NAME", Kind::Text),
    Column::new("redacted_value", "VALUE", Kind::Id),
    Column::hidden("project_id", Kind::Id),
    Column::hidden("project_name", Kind::Text),
    Column::hidden("owner_type", Kind::Text),
    Column::hidden("owner_id", Kind::Id),
    Column::new("owner_name", "OWNER", Kind::Text).spare(1),
    Column::hidden("owner_role", Kind::Text),
    Column::new("created_at", "CREATED", Kind::Time).spare(3),
    Column::new("last_used_at", "LAST USED", Kind::Time),
    Column::hidden("expires_at", Kind::Time),
    Column::hidden("other", Kind::Json),
    Column::hidden("own_key", Kind::Id),
    Column::hidden("first_seen_at", Kind::Time),
    Column::hidden("last_seen_at", Kind::Time),
    Column::new("removed_at", "REMOVED", Kind::Time),
    Column::hidden("owner_project_access", Kind::Text),
    Column::hidden("project_archived", Kind::Id),
    Column::hidden("project_archived_at", Kind::Time),
];
type Inventories = std::collections::BTreeMap<String, Inventory>;

/// What there is to tell of a key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    Past,
    Present,
    Removed,
}

impl Shown {
    /// Those of the columns, or of the cells in them.
    fn pick<T>(self, all: impl IntoIterator<Item = T>) -> Vec<T> {
        let tells = |(at, value): (usize, T)| {
            let is_told = match at {
                // The times that the history alone does not tell.
                15..=17 => self != Self::Past,
                18 => self == Self::Removed,
                _ => true,
            };
            is_told.then_some(value)
        };
        all.into_iter().enumerate().filter_map(tells).collect()
    }
}

pub(super) async fn run(context: &mut Context, arguments: &Keys) -> anyhow::Result<Exit> {
    let as_of = context.optional_time("--as-of", arguments.as_of.as_ref())?;
    let at = as_of.unwrap_or_else(|| context.clock.now());
    let filter = KeyFilter {
        organization: arguments.organization.name.clone(),
        removed: arguments.removed,
        scope: arguments.scope.map(Scope::from),
        owner: arguments.owner.clone(),
        project: arguments.project.clone(),
        unused_since: stale(arguments.stale.as_deref(), at)?,
    };
    let mut reader = context.reader(filter.organization.as_deref()).await?;
    let several = filter.organization.is_none() && reader.list_organizations().await?.len() > 1;
    let shown = match (as_of, filter.removed) {
        (Some(_), _) => Shown::Past,
        (None, false) => Shown::Present,
        (None, true) => Shown::Removed,
    };
    let mut columns = COLUMNS;
    if several {
        columns[0] = Column::new("organization", "ORGANIZATION", Kind::Id);
    }
    let past = match as_of {
        Some(time) => Some(load_past(context, &mut reader, &filter, time).await?),
        None => None,
    };
    let format = arguments.format.format;
    let none = none_listed(&mut reader, filter.organization.as_deref(), "no keys match").await?;
    let columns = shown.pick(columns);
    let mut listing = context.printer.listing(format, &columns, &none)?;
    let mut keys = 0;
    match past {
        Some(past) => keys += list_past(&past, &filter, &mut listing)?,
        None => {
            reader
                .list_keys(&filter, |row| {
                    keys += 1;
                    listing.row(&shown.pick(cells(row))).map_err(anyhow::Error::from)
                })
                .await?;
        }
    }
    let summary = match as_of {
        Some(time) => format!("{} as of {time}", output::count(keys, "key")),
        None => output::count(keys, "key"),
    };
    let listed = listing.finish()?;
    if listed > 0 && format == Format::Table {
        context.printer.note(&summary);
    }
    if let Some(time) = as_of {
        let observed = window::load(context, &mut reader, filter.organization.as_deref(), time);
        observed.await?.tell(context, format);
    }
    reader.close().await?;
    Ok(Exit::Done)
}

/// Since when a stale key has not been used.
fn stale(value: Option<&str>, at: Timestamp) -> Result<Option<Timestamp>, Misuse> {
    let parse = |value: &str| {
        when::parse_duration(value).map_err(|source| Misuse::Duration {
            argument: "--stale",
            value: value.to_owned(),
            source,
        })
    };
    Ok(value.map(parse).transpose()?.map(|duration| at.saturating_sub(duration)))
}

/// All keys that are there, as a table.
pub(super) async fn list_present(context: &mut Context, reader: &mut Reader) -> anyhow::Result<()> {
    let columns = Shown::Present.pick(COLUMNS);
    let mut listing = context.printer.listing(Format::Table, &columns, "no keys")?;
    let each = |row| listing.row(&Shown::Present.pick(cells(row))).map_err(anyhow::Error::from);
    reader.list_keys(&KeyFilter::default(), each).await?;
    listing.finish()?;
    Ok(())
}

/// The inventories as they were, of each organization that was known then.
async fn load_past(
    context: &mut Context,
    reader: &mut Reader,
    filter: &KeyFilter,
    time: Timestamp,
) -> anyhow::Result<Inventories> {
    let inventories = reader.replay(filter.organization.as_deref(), time).await?;
    if inventories.is_empty() {
        return Err(NothingKnown.into());
    }
    if filter.organization.is_none() {
        let known = reader.list_organizations().await?;
        for name in known.iter().filter(|name| !inventories.contains_key(*name)) {
            context.printer.warning(&format!("nothing is known of `{name}` at {time}: left out"));
        }
    }
    Ok(inventories)
}

fn list_past(
    inventories: &Inventories,
    filter: &KeyFilter,
    listing: &mut ListingWriter<'_>,
) -> anyhow::Result<u64> {
    let mut listed = 0;
    for (organization, inventory) in inventories {
        let mut keys: Vec<&Key> = inventory.keys.values().collect();
        keys.sort_by_key(|key| (key.created_at, &key.id));
        for key in keys.into_iter().filter(|key| lets_through(filter, key)) {
            listed += 1;
            listing.row(&Shown::Past.pick(past_cells(organization, key)))?;
        }
    }
    Ok(listed)
}

fn lets_through(filter: &KeyFilter, key: &Key) -> bool {
    let owner = |wanted: &str| {
        key.owner_id.as_deref() == Some(wanted) || key.owner_name.as_deref() == Some(wanted)
    };
    let project = |wanted: &str| {
        key.project_id.as_deref() == Some(wanted) || key.project_name.as_deref() == Some(wanted)
    };
    let unused = |since| {
        let used = key.last_used_at.or(key.created_at);
        used.is_some_and(|used| used < since)
    };
    filter.scope.is_none_or(|scope| key.scope == scope)
        && filter.owner.as_deref().is_none_or(owner)
        && filter.project.as_deref().is_none_or(project)
        && filter.unused_since.is_none_or(unused)
}

fn past_cells(organization: &str, key: &Key) -> Vec<Cell> {
    let text = |text: &Option<std::sync::Arc<str>>| Cell::from(text.as_deref());
    let other = key.other.iter().map(|(path, value)| (path.clone(), value.clone()));
    vec![
        organization.into(),
        key.scope.as_str().into(),
        key.id.as_str().into(),
        text(&key.name),
        text(&key.redacted_value),
        text(&key.project_id),
        text(&key.project_name),
        text(&key.owner_type),
        text(&key.owner_id),
        text(&key.owner_name),
        text(&key.owner_role),
        key.created_at.into(),
        key.last_used_at.into(),
        key.expires_at.into(),
        Cell::Json(serde_json::Value::Object(other.collect())),
        // The times that only the present has, which are picked out.
        Cell::Null,
        Cell::Null,
        Cell::Null,
        Cell::Null,
        key.owner_project_access().into(),
        key.is_project_archived().map(i64::from).map_or(Cell::Null, Cell::from),
        key.project_archived_at().into(),
    ]
}

pub(super) fn cells(row: KeyRow) -> Vec<Cell> {
    vec![
        row.organization.into(),
        row.scope.into(),
        row.key_id.into(),
        row.name.into(),
        row.redacted_value.into(),
        row.project_id.into(),
        row.project_name.into(),
        row.owner_type.into(),
        row.owner_id.into(),
        row.owner_name.into(),
        row.owner_role.into(),
        row.created_at.into(),
        row.last_used_at.into(),
        row.expires_at.into(),
        Cell::parse_json(Some(row.other)),
        row.own_key.into(),
        row.first_seen_at.into(),
        row.last_seen_at.into(),
        row.removed_at.into(),
        row.owner_project_access.into(),
        row.project_archived.map_or(Cell::Null, Cell::from),
        row.project_archived_at.into(),
    ]
}

/// The columns of [`cells`], for `show`.
pub(super) const fn columns() -> &'static [Column] {
    &COLUMNS
}
