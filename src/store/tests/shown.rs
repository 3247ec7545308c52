//! What the views show of a history, and what must be said of a difference: who is accused, and of which run.

use std::collections::BTreeMap;

use super::evidence::{Accused, Row, query};
use super::*;

/// The views that are evidence, and what names a row of each.
const VIEWS: [(&str, &[&str]); 14] = [
    ("chains", &["organization", "origin"]),
    ("run_history", &["run_id"]),
    ("run_parts", &["run_id", "part"]),
    ("act_history", &["act_id"]),
    ("audit_history", &["event_id"]),
    ("audit_salts", &["event_id"]),
    ("notice_history", &["notice_id"]),
    ("notice_salts", &["notice_id", "key_id"]),
    ("attribution_history", &["attribution_id"]),
    ("attribution_salts", &["attribution_id"]),
    ("erased_values", &["act_id", "place", "id", "key_id", "side", "field"]),
    ("all_keys", &["organization", "key_id"]),
    ("keyframe_keys", &["organization", "key_id"]),
    ("keyframe_salts", &["organization", "key_id"]),
];

pub(super) struct Shown(BTreeMap<(&'static str, String), Row>);

/// The earliest and the latest run that may be called the first bad one.
type Span = (i64, i64);

/// What must be said.
#[derive(Debug, Default)]
pub(super) struct Expected {
    spans: BTreeMap<String, Span>,
    /// Organizations that are shown at all.
    shown: Vec<String>,
}

pub(super) async fn show(connection: &mut SqliteConnection) -> Result<Shown, sqlx::Error> {
    let mut shown = BTreeMap::new();
    for (view, names) in VIEWS {
        for mut row in query(connection, &format!("select * from {view}")).await? {
            if view == "audit_history" {
                // What it shows of attributions is theirs.
                row.retain(|name, _| !name.starts_with("act"));
            }
            let name: Vec<String> = names.iter().map(|name| row[*name].to_string()).collect();
            shown.insert((view, name.join(" ")), row);
        }
    }
    Ok(Shown(shown))
}

impl Shown {
    fn rows(&self, view: &str) -> impl Iterator<Item = &Row> {
        self.0.iter().filter(move |((of, _), _)| *of == view).map(|(_, row)| row)
    }

    /// The runs of an organization.
    fn runs(&self, organization: &str) -> impl Iterator<Item = i64> {
        let runs = self.rows("run_history").filter(move |run| run["organization"] == organization);
        runs.map(|run| run["run_id"].as_i64().unwrap())
    }

    /// Whether something is another that no history may differ in. Of salts and of erased values it depends on
    /// what they belong to.
    pub(super) fn must_be_seen(&self, after: &Self) -> bool {
        let keys = self.0.keys().chain(after.0.keys());
        let mut told =
            keys.filter(|(view, _)| !view.ends_with("_salts") && *view != "erased_values");
        told.any(|key| match (self.0.get(key), after.0.get(key)) {
            (Some(was), Some(is)) => was != is && !is_exempt(key.0, was, is),
            _ => true,
        })
    }

    pub(super) fn newest(&self, view: &str, id: &str) -> Option<i64> {
        self.rows(view).filter_map(|row| row[id].as_i64()).max()
    }

    /// Whose a row is, and the run that recorded it.
    fn place(&self, view: &str, row: &Row) -> Option<(String, i64)> {
        let of = |view: &str, id: &str| self.rows(view).find(|found| found[id] == row[id]);
        let row = match view {
            "audit_salts" => of("audit_history", "event_id")?,
            "notice_salts" => of("notice_history", "notice_id")?,
            "attribution_salts" => of("attribution_history", "attribution_id")?,
            _ => row,
        };
        let organization = row["organization"].as_str()?.to_owned();
        let run = match view {
            "chains" => 0,
            "act_history" => row["after_run_id"].as_i64()?,
            "all_keys" => self.runs(&organization).max()?,
            _ => row["run_id"].as_i64()?,
        };
        Some((organization, run))
    }

    /// Whether a salt that is another one in the other row seals anything.
    fn seals(&self, view: &str, row: &Row, other: Option<&Row>) -> bool {
        let differs = |name: &str| other.is_none_or(|other| other[name] != row[name]);
        if view == "notice_salts" {
            let notice = self.rows("notice_history").find(|n| n["notice_id"] == row["notice_id"]);
            let changes = notice.map(|notice| notice["changes"].as_str().unwrap_or_default());
            let changes: Vec<Vec<serde_json::Value>> =
                serde_json::from_str(changes.unwrap_or("[]")).unwrap_or_default();
            return changes.iter().any(|c| c[0] == row["key_id"] && !c[1].is_null());
        }
        if view == "attribution_salts" {
            let mut all = self.rows("attribution_history");
            let of = all.find(|of| of["attribution_id"] == row["attribution_id"]);
            let addresses = ["actor_email", "actor_ip_address"];
            return of.is_some_and(|of| addresses.iter().any(|name| !of[*name].is_null()));
        }
        let event = self.rows("audit_history").find(|event| event["event_id"] == row["event_id"]);
        let sealed = |side: &str| {
            let value = event.and_then(|event| event[side].as_str()).unwrap_or_default();
            let key: serde_json::Value = serde_json::from_str(value).unwrap_or_default();
            if let Some(field) = event.and_then(|event| event["field"].as_str()) {
                return crate::audit::is_personal(field) && !value.is_empty();
            }
            key["owner_name"].is_string() || key["other"].get("owner.name").is_some()
        };
        (differs("old_salt") && sealed("old_value")) || (differs("new_salt") && sealed("new_value"))
    }

    /// Where the history from before the chain begins, and where it ends.
    fn adopted(&self, organization: &str) -> Option<Span> {
        let mut acts = self.rows("act_history").filter(|act| act["organization"] == organization);
        let act = acts.find(|act| act["kind"] == "adopted")?;
        Some((self.runs(organization).min()?, act["after_run_id"].as_i64()?))
    }
}

/// Whether it is nothing but our own use of our own key, or what no history tells.
fn is_exempt(view: &str, before: &Row, after: &Row) -> bool {
    let differing: Vec<&str> =
        before.keys().filter(|name| before[*name] != after[*name]).map(String::as_str).collect();
    match view {
        "chains" => differing == ["database_id"],
        "all_keys" => before["own_key"] == 1 && differing == ["last_used_at"],
        _ => false,
    }
}

/// What must be said of `after`; `None` if it shows nothing else than `before`.
pub(super) fn expect(before: &Shown, after: &Shown) -> Option<Expected> {
    let mut expected = Expected::default();
    let text = |row: &Row| row["organization"].as_str().unwrap().to_owned();
    expected.shown = after.rows("chains").map(text).collect();
    let (mut differs, mut inventories) = (false, BTreeMap::new());
    for key in before.0.keys().chain(after.0.keys()) {
        let (was, is) = (before.0.get(key), after.0.get(key));
        if was == is || matches!((was, is), (Some(was), Some(is)) if is_exempt(key.0, was, is)) {
            continue;
        }
        let sealed = |shown: &Shown, row: Option<&Row>, other| {
            row.is_some_and(|row| shown.seals(key.0, row, other))
        };
        if key.0.ends_with("_salts") && !sealed(before, was, is) && !sealed(after, is, was) {
            continue;
        }
        // An item belongs to the run that recorded it, wherever it was moved.
        let was = was.and_then(|row| before.place(key.0, row));
        let is = is.and_then(|row| after.place(key.0, row));
        let moved = was.as_ref().map(|was| &was.0) != is.as_ref().map(|is| &is.0);
        let (act, inventory) = (key.0 == "act_history", key.0 == "all_keys");
        let rows = before.0.get(key).into_iter().chain(after.0.get(key));
        let renames = act && rows.into_iter().any(|row| row["kind"] == "renamed");
        let left = was.is_some() && is.is_some() && moved;
        let there = is.clone().filter(|(organization, run)| {
            act || inventory || *run == 0 || after.runs(organization).any(|its| its == *run)
        });
        let places = was.into_iter().map(|place| (place, moved));
        let places = places.chain(there.filter(|_| moved || act).map(|place| (place, false)));
        for ((organization, run), lost) in places {
            differs = true;
            let run = if inventory { after.runs(&organization).max().unwrap_or(run) } else { run };
            // Without a link, or with an act too much, it may be the next that does not fit.
            let runs = before.runs(&organization).chain(after.runs(&organization));
            let next = runs.filter(|next| *next > run).min().filter(|_| act || left);
            let later = is.as_ref().map_or(run, |is| is.1).max(next.unwrap_or(run));
            let mut span = (run, if act || left { later } else { run });
            if act && lost && next.is_none() {
                // It was the end of the chain: what is wrong elsewhere tells, if anything does.
                span.1 = i64::MAX;
            }
            if key.0 == "chains" {
                // No link is that of a chain that began under another name.
                span.1 = after.runs(&organization).min().unwrap_or(0);
            } else if renames {
                // What it is called is of no run.
                span.0 = 0;
            }
            if let Some((first, last)) = before.adopted(&organization).filter(|_| !inventory)
                && run <= last
            {
                span.0 = span.0.min(first);
            }
            let spans = if inventory { &mut inventories } else { &mut expected.spans };
            let known = spans.entry(organization).or_insert(span);
            *known = (known.0.min(span.0), known.1.min(span.1));
        }
    }
    // The inventory is looked at last, if at all.
    for (organization, span) in inventories {
        let known = expected.spans.entry(organization).or_insert(span);
        known.0 = known.0.min(span.0);
    }
    differs.then_some(expected)
}

impl Expected {
    /// Why what is said is not right.
    pub(super) fn judge(&self, said: &Accused) -> Result<(), String> {
        if self.shown.is_empty() {
            return said.values().any(Option::is_some).then_some(()).ok_or("nothing".to_owned());
        }
        let first = self.spans.values().map(|span| span.0).min().unwrap_or(0);
        for organization in &self.shown {
            let run = said.get(organization).copied().flatten();
            let right = match self.spans.get(organization) {
                Some((from, to)) => run.is_some_and(|run| (*from..=*to).contains(&run)),
                // The file as a whole may be unsound, too.
                None => run.is_none_or(|run| run == 0 || run >= first),
            };
            if !right {
                return Err(format!("`{organization}`: {run:?}"));
            }
        }
        Ok(())
    }
}
