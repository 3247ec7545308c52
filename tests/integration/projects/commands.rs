//! What the commands show of projects' keys.

use keydrift::sim::Organization;
use serde_json::{Map, Value, json};

use crate::support::{History, Keydrift, oracle, sql};

const PROJECT: &str = "Default project";

/// A project with three keys, over three days: two are found, one is added and another goes, the project is
/// renamed and an owner loses the access.
struct Days {
    history: History,
    project: String,
    /// The keys that stayed, went and came.
    keys: [String; 3],
}

fn days() -> Days {
    let mut organization = Organization::generate(7, 3).with_projects_of(1, 2..=2);
    organization.records_own_use = false;
    let project = organization.project_ids().next().unwrap().to_owned();
    let keys = organization.project_keys(&project);
    let id = |at: usize| keys[at]["id"].as_str().unwrap().to_owned();
    let (stays, goes) = (id(0), id(1));
    let history = History::of(organization);
    history.sync("2026-10-01T08:00:00Z");
    let organization = history.world.organization();
    let comes = organization.with(|organization| {
        organization.remove(&goes);
        organization.add_project_key(&project).unwrap()
    });
    history.sync("2026-10-02T08:00:00Z");
    organization.with(|organization| {
        organization.rename_project(&project, "payments");
        organization.set_owner_access(&stays, false);
    });
    history.sync("2026-10-03T08:00:00Z");
    oracle::check_consistent(&history.world.database());
    Days { history, project, keys: [stays, goes, comes] }
}

impl Days {
    fn rows(&self, args: &[&str]) -> Vec<Map<String, Value>> {
        let args = [args, &["--format", "json"]].concat();
        let rows = self.history.world.keydrift(&args).succeeds().json();
        rows.as_array().unwrap().iter().map(|row| row.as_object().unwrap().clone()).collect()
    }

    /// The ids that a listing gives, sorted.
    fn ids(&self, args: &[&str]) -> Vec<String> {
        let rows = self.rows(args);
        let mut ids: Vec<String> =
            rows.iter().map(|row| row["key_id"].as_str().unwrap().to_owned()).collect();
        ids.sort();
        ids
    }
}

fn sorted(ids: &[&String]) -> Vec<String> {
    let mut ids: Vec<String> = ids.iter().map(|id| (*id).clone()).collect();
    ids.sort();
    ids
}

#[test]
fn keys_are_listed_by_project_and_scope_now_and_then() {
    let days = days();
    let [stays, goes, comes] = &days.keys;
    let (now, then) = (sorted(&[stays, comes]), sorted(&[stays, goes]));
    assert_eq!(days.ids(&["keys", "--project", "payments"]), now);
    assert_eq!(days.ids(&["keys", "--project", &days.project]), now);
    assert_eq!(days.ids(&["keys", "--project", PROJECT]), Vec::<String>::new());
    assert_eq!(
        days.ids(&["keys", "--removed", "--project", &days.project]),
        std::slice::from_ref(goes)
    );
    let of_scope = days.ids(&["keys", "--scope", "project"]);
    assert!(now.iter().all(|id| of_scope.contains(id)));
    assert!(days.ids(&["keys", "--scope", "admin"]).iter().all(|id| !now.contains(id)));
    let first = ["keys", "--as-of", "2026-10-01T12:00:00Z", "--project"];
    assert_eq!(days.ids(&[&first[..], &[PROJECT]].concat()), then);
    let row = &days.rows(&[&first[..], &[&days.project]].concat())[0];
    assert_eq!(row["project_name"], PROJECT);
    assert_eq!(
        (&row["owner_project_access"], &row["project_archived"]),
        (&json!("active"), &json!(0))
    );
    let rows = days.rows(&["keys", "--project", "payments"]);
    let row = rows.iter().find(|row| row["key_id"] == **stays).unwrap();
    assert_eq!(row["owner_project_access"], "inactive");
}

#[test]
fn show_log_and_diff_tell_a_project_keys_story() {
    let days = days();
    let [stays, goes, comes] = &days.keys;
    let shown = days.history.world.keydrift(&["show", stays]).succeeds().stdout;
    for part in ["payments", &days.project, "inactive", "project_name", "owner_project_access"] {
        assert!(shown.contains(part), "{part} is not in:\n{shown}");
    }
    let of_key = |id: &str| {
        let rows = days.rows(&["log", "--key", id]);
        let text =
            |row: &Map<String, Value>, name: &str| row[name].as_str().unwrap_or("").to_owned();
        let mut told: Vec<String> = rows
            .iter()
            .map(|row| format!("{} {}", text(row, "event"), text(row, "field")))
            .collect();
        told.sort();
        assert!(rows.iter().all(|row| row["scope"] == "project"));
        told
    };
    assert_eq!(
        of_key(stays),
        ["baseline ", "changed owner_project_access", "changed project_name"]
    );
    assert_eq!(of_key(goes), ["baseline ", "removed "]);
    assert_eq!(of_key(comes)[..1], ["added "]);
    let differs = days.ids(&["diff", "2026-10-01T12:00:00Z", "2026-10-02T12:00:00Z"]);
    assert_eq!(differs, sorted(&[goes, comes]));
    let rows = days.rows(&["diff", "2026-10-02T12:00:00Z", "2026-10-03T12:00:00Z"]);
    let fields: Vec<&str> = rows
        .iter()
        .filter(|row| row["key_id"] == **stays)
        .map(|row| row["field"].as_str().unwrap())
        .collect();
    assert_eq!(fields, ["project_name", "owner_project_access"]);
}

#[test]
fn an_evidence_pack_holds_projects_keys_and_verifies_anywhere() {
    let days = days();
    let pack = days.history.world.path().join("pack.tar.gz");
    let output = pack.to_str().unwrap();
    let period = ["evidence", "--from", "2026-10-01", "--to", "2026-10-04", "-o", output];
    days.history.world.keydrift(&period).succeeds();
    let home = tempfile::tempdir().unwrap();
    let ran = Keydrift::new(home.path()).args(["evidence", "verify"]).arg(&pack).succeeds();
    assert!(ran.stdout.ends_with("\nwhole and unedited\n"), "{ran}");
    days.history.world.keydrift(&["verify"]).succeeds();
    let files = keydrift::evidence::archive::read(std::fs::File::open(&pack).unwrap()).unwrap();
    for id in &days.keys {
        let told = files.values().any(|content| String::from_utf8_lossy(content).contains(id));
        assert!(told, "{id} is not in the pack");
    }
    let all = sql::integer(&days.history.world.database(), "select count(*) from all_keys");
    assert_eq!(all, 6);
}
