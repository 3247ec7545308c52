//! What the database must hold after a run, from the simulated organization's own state and from what it held
//! before: raw SQL on one side, no code of keydrift's on the other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use keydrift::sim::{KeyTruth, Organization};
use serde_json::{Map, Value};

use crate::support::{oracle, sql};

pub type Row = Map<String, Value>;
pub type Rows = BTreeMap<String, Row>;

/// What a run had to go by, beside the admin list.
#[derive(Debug, Clone, Default)]
pub struct Lists {
    /// The projects in their list, each with whether its keys could be listed. `None`: nobody could list them.
    pub projects: Option<BTreeMap<String, bool>>,
    /// A look-up went wrong: a key that is gone may stay as it was.
    pub look_ups_failed: bool,
}

impl Lists {
    fn were_read(&self, project: &str) -> bool {
        self.projects.as_ref().is_some_and(|projects| projects.get(project) == Some(&true))
    }
}

/// What the database held after the last run, and which lists were ever read.
pub struct Books {
    database: PathBuf,
    own: String,
    pub rows: Rows,
    /// Every key that ever was in the inventory.
    ever: BTreeSet<String>,
    /// Projects that were in a list of projects, and those of them that came after the first such list.
    known: BTreeSet<String>,
    appeared: BTreeSet<String>,
    /// Projects whose keys were listed once.
    listed: BTreeSet<String>,
    any_run: bool,
    projects_listed: bool,
    /// Whether nothing is known any more of which lists were taken for whole.
    pub confused: bool,
    last_event: i64,
}

impl Books {
    pub fn new(database: PathBuf, own: &str) -> Self {
        Self {
            database,
            own: own.to_owned(),
            rows: Rows::new(),
            ever: BTreeSet::new(),
            known: BTreeSet::new(),
            appeared: BTreeSet::new(),
            listed: BTreeSet::new(),
            any_run: false,
            projects_listed: false,
            confused: false,
            last_event: 0,
        }
    }

    /// Whether a project's list ever told of the key.
    pub fn is_told(&self, id: &str) -> bool {
        self.rows.get(id).is_some_and(|row| !row["project_id"].is_null())
    }

    /// A run that failed or was held has changed nothing.
    #[track_caller]
    pub fn check_untouched(&mut self) {
        assert_eq!(self.new_events(), [], "a run that is not `ok` has no events");
        assert_eq!(read(&self.database), self.rows);
    }

    /// An `ok` run of which it is known what it could read.
    #[track_caller]
    pub fn check(&mut self, organization: &Organization, lists: &Lists) {
        let after = read(&self.database);
        let events = self.new_events();
        check_removals(organization, &events);
        for id in self.all_ids(organization, &after) {
            let (before, now) = (self.rows.get(&id), after.get(&id));
            let allowed = self.allowed(organization, lists, &id);
            let fits = allowed.iter().any(|allowed| self.fits(&id, allowed.as_ref(), now));
            assert!(fits, "`{id}` was {before:?} and is {now:?}, and not one of {allowed:?}");
            self.check_last_seen(organization, &id, now, lists);
            if !self.confused {
                self.check_events(&id, now, &events);
            }
        }
        self.remember(lists, after);
    }

    /// An `ok` run after answers that were wrong and looked right: each key is as it is or as it was.
    #[track_caller]
    pub fn check_roughly(&mut self, organization: &Organization) {
        let after = read(&self.database);
        check_removals(organization, &self.new_events());
        let all: BTreeSet<String> = organization.project_ids().map(str::to_owned).collect();
        let all = all.into_iter().map(|project| (project, true)).collect();
        let lists = Lists { projects: Some(all), look_ups_failed: true };
        for id in self.all_ids(organization, &after) {
            let (before, now) = (self.rows.get(&id), after.get(&id));
            let mut allowed = self.allowed(organization, &lists, &id);
            allowed.extend(self.allowed(organization, &Lists::default(), &id));
            allowed.push(before.map(|row| (row.clone(), true)));
            let fits = allowed.iter().any(|allowed| self.fits(&id, allowed.as_ref(), now));
            assert!(fits, "`{id}` was {before:?} and is {now:?}, and not one of {allowed:?}");
        }
        self.remember(&lists, after);
        self.confused = true;
    }

    fn all_ids(&self, organization: &Organization, after: &Rows) -> BTreeSet<String> {
        let truth = organization.truth();
        let living = truth.into_iter().filter(KeyTruth::lives).map(|key| key.id);
        living.chain(self.rows.keys().cloned()).chain(after.keys().cloned()).collect()
    }

    /// What may stand there: a row, with whether all of it is said, or none.
    fn allowed(
        &self,
        organization: &Organization,
        lists: &Lists,
        id: &str,
    ) -> Vec<Option<(Row, bool)>> {
        let before = || self.rows.get(id).map(|row| (row.clone(), true));
        let admin = organization.key(id).map(|item| (expected(&item, None), true));
        let are_all = || lists.projects.as_ref().is_some_and(|all| all.values().all(|read| *read));
        let Some(project) = organization.project_of(id) else {
            let mut allowed = vec![admin];
            // A project's key of which nobody knows the project may be in a list that was not read.
            let is_projects = self.rows.get(id).is_some_and(|row| row["scope"] == "project");
            if allowed == [None] && (lists.look_ups_failed || (is_projects && !are_all())) {
                allowed.push(before());
            }
            return allowed;
        };
        let is_told = self.is_told(id);
        if lists.were_read(project) {
            let item = organization.project_key(id);
            let is_whole = !ever_listed_by_admin(organization, id);
            if let Some(item) = item {
                let about = organization.project(project).expect("a project that is listed");
                return vec![Some((expected(&item, Some(&about)), is_whole))];
            }
            let is_empty = organization.project_keys(project).is_empty();
            let is_shy = organization.is_archived(project) == Some(true) && is_empty;
            if is_told && is_shy {
                return vec![before()];
            }
            // That no key of a project is left has to be seen twice.
            if is_told && is_empty {
                return vec![None, before()];
            }
            return match is_told || are_all() {
                true if lists.look_ups_failed => vec![None, before()],
                true => vec![None],
                false => vec![before()],
            };
        }
        match (is_told, admin) {
            (true, _) => vec![before()],
            (false, Some(admin)) => vec![Some(admin)],
            // Whether it is looked up where the admin list alone shows it depends on the other lists.
            (false, None) => vec![None, before()],
        }
    }

    fn fits(&self, id: &str, allowed: Option<&(Row, bool)>, now: Option<&Row>) -> bool {
        let (Some((expected, is_whole)), Some(now)) = (allowed, now) else {
            return allowed.is_none() && now.is_none();
        };
        let is_other = |name: &str| matches!(name, "last_seen_at" | "first_seen_at" | "other");
        let columns = expected.iter().all(|(name, value)| {
            is_other(name)
                || (name == "last_used_at" && id == self.own)
                || now.get(name) == Some(value)
        });
        let empty = Map::new();
        let paths = |row: &Row| row["other"].as_object().cloned().unwrap_or_else(|| empty.clone());
        let (wanted, found) = (paths(expected), paths(now));
        let said = wanted.iter().all(|(path, value)| found.get(path) == Some(value));
        // What only the admin list tells of a project's key stays with it.
        let extra = found.keys().filter(|path| !wanted.contains_key(*path));
        let mut extra = extra.filter(|path| *is_whole || !path.starts_with("owner."));
        columns && said && extra.next().is_none()
    }

    /// Who was not seen was not seen: nothing moves.
    #[track_caller]
    fn check_last_seen(
        &self,
        organization: &Organization,
        id: &str,
        now: Option<&Row>,
        lists: &Lists,
    ) {
        let (Some(before), Some(now)) = (self.rows.get(id), now) else { return };
        let Some(project) = organization.project_of(id) else { return };
        if !lists.were_read(project) && !organization.contains(id) {
            assert_eq!(now["last_seen_at"], before["last_seen_at"], "{id}");
        }
    }

    /// The events of one key are what is different about it, and no more.
    #[track_caller]
    fn check_events(&self, id: &str, now: Option<&Row>, events: &[Row]) {
        let of_key = events.iter().filter(|event| event["key_id"] == id);
        let told: BTreeSet<(&str, &str)> = of_key
            .map(|event| {
                let field = event["field"].as_str().unwrap_or_default();
                (event["event"].as_str().expect("text"), field)
            })
            .collect();
        let whole = |kind| BTreeSet::from([(kind, "")]);
        let expected = match (self.rows.get(id), now) {
            (None, None) => BTreeSet::new(),
            (Some(_), None) => whole("removed"),
            (None, Some(_)) if self.ever.contains(id) => whole("restored"),
            (None, Some(row)) => whole(if self.finds_baseline(row) { "baseline" } else { "added" }),
            (Some(before), Some(now)) => {
                // What the first list of its project adds to it is told in a notice.
                let learns = before["project_id"].is_null() && !now["project_id"].is_null();
                let fields = ["name", "last_used_at", "project_name", "owner_project_access"];
                let fields = fields.into_iter().chain(["project_archived_at"]);
                let fields = fields.filter(|field| before[*field] != now[*field]);
                let fields = fields.filter(|field| !learns || !field.contains("project"));
                fields
                    .filter(|field| *field != "last_used_at" || id != self.own)
                    .map(|field| (if field == "last_used_at" { "used" } else { "changed" }, field))
                    .chain(
                        (before["expires_at"] != now["expires_at"])
                            .then_some(("changed", "expires_at")),
                    )
                    .collect()
            }
        };
        let told: BTreeSet<_> = told
            .into_iter()
            .filter(|(_, field)| !field.starts_with("owner") || *field == "owner_project_access")
            .collect();
        assert_eq!(told, expected, "the events of `{id}`, {now:?}");
    }

    fn finds_baseline(&self, row: &Row) -> bool {
        let Some(project) = row["project_id"].as_str() else { return !self.any_run };
        let had_appeared = self.appeared.contains(project);
        let appears = self.projects_listed && !self.known.contains(project);
        !self.any_run || !(self.listed.contains(project) || had_appeared || appears)
    }

    fn remember(&mut self, lists: &Lists, after: Rows) {
        self.ever.extend(after.keys().cloned());
        self.rows = after;
        self.any_run = true;
        let Some(projects) = &lists.projects else { return };
        for (project, was_read) in projects {
            if self.known.insert(project.clone()) && self.projects_listed {
                self.appeared.insert(project.clone());
            }
            if *was_read {
                self.listed.insert(project.clone());
            }
        }
        self.projects_listed = true;
    }

    fn new_events(&mut self) -> Vec<Row> {
        let query = "select event_id, event, key_id, field from audit_history where event_id > ";
        let query = format!("{query} {} order by event_id", self.last_event);
        let events = sql::rows(&self.database, &query);
        if let Some(last) = events.last() {
            self.last_event = last["event_id"].as_i64().expect("a number");
        }
        events
    }
}

/// No key that lives is removed.
#[track_caller]
fn check_removals(organization: &Organization, events: &[Row]) {
    for event in events.iter().filter(|event| event["event"] == "removed") {
        let id = event["key_id"].as_str().expect("an id");
        assert!(!organization.exists(id), "`{id}` is removed and lives");
    }
}

/// The keys in the inventory, as anybody sees them who asks with SQL.
pub fn read(database: &Path) -> Rows {
    let rows = sql::rows(database, "select * from current_keys");
    let row = |mut row: Row| {
        let other = row["other"].as_str().expect("`other` is JSON text");
        let other = serde_json::from_str(other).expect("`other` is JSON");
        row.insert("other".to_owned(), other);
        row.remove("own_key");
        (row["key_id"].as_str().expect("an id").to_owned(), row)
    };
    rows.into_iter().map(row).collect()
}

fn ever_listed_by_admin(organization: &Organization, id: &str) -> bool {
    let truth = organization.truth();
    truth.iter().any(|key| key.id == id && !key.in_admin_listing.is_empty())
}

/// The row that an item of the API must lead to; of a project's list with what its project adds.
fn expected(item: &Map<String, Value>, project: Option<&Map<String, Value>>) -> Row {
    let mut item = item.clone();
    let shown = |time: &Value| time.as_i64().and_then(oracle::rfc3339).map(Value::from);
    let (mut archived, mut archived_at, mut access) = (Value::Null, Value::Null, Value::Null);
    let mut scope = None;
    if let Some(project) = project {
        lift_owner(&mut item);
        access = item["owner_project_access"].clone();
        item.insert("project_id".to_owned(), project["id"].clone());
        item.insert("project_name".to_owned(), project["name"].clone());
        archived = i64::from(project["status"] == "archived").into();
        archived_at = shown(&project["archived_at"]).unwrap_or_default();
        item.insert("project_archived_at".to_owned(), archived_at.clone());
        scope = Some("project");
    }
    let (_, mut row) = oracle::expected_key(&item);
    row.insert("owner_project_access".to_owned(), access);
    row.insert("project_archived".to_owned(), archived);
    row.insert("project_archived_at".to_owned(), archived_at);
    if project.is_some() {
        // The admin list may know when it expires.
        row.remove("expires_at");
    }
    row.extend(scope.map(|scope| ("scope".to_owned(), Value::from(scope))));
    row
}

/// `owner.user.name` is `owner.name`.
fn lift_owner(item: &mut Map<String, Value>) {
    let Some(Value::Object(owner)) = item.get_mut("owner") else { return };
    for kind in ["user", "service_account"] {
        if let Some(Value::Object(nested)) = owner.remove(kind) {
            owner.extend(nested);
        }
    }
}
