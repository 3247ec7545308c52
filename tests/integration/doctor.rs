//! `doctor`: each capability, both ways.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use keydrift::clock::{Clock as _, SystemClock};
use keydrift::sim::{
    ANY_PORT, Access, Area, AuditLogging, ErrorBody, Fault, Matcher, Organization, ProjectAccess,
    Server,
};
use serde_json::Value;

use crate::support::{Keydrift, World, sql};

const CHECKS: [&str; 11] = [
    "credential",
    "permission",
    "admin keys",
    "project keys",
    "audit logs",
    "organization id",
    "clock",
    "schedule",
    "database",
    "disk space",
    "checkpoint",
];

/// An organization with projects, whose clock is ours.
fn world() -> World {
    let world = World::of(Organization::generate(7, 12).with_projects_of(3, 2..=5));
    world.organization().with(|organization| organization.set_now(SystemClock.now().unix()));
    world
}

/// The answer: exit code and rows.
struct Answer {
    code: i32,
    rows: Vec<Value>,
}

impl Answer {
    #[track_caller]
    fn of(keydrift: Keydrift) -> Self {
        let ran = keydrift.args(["doctor", "--format", "json"]).run();
        let rows = ran.json().as_array().expect("rows").clone();
        Self { code: ran.code.expect("an exit code"), rows }
    }

    #[track_caller]
    fn row(&self, check: &str) -> &Value {
        let row = self.rows.iter().find(|row| row["check"] == check);
        row.unwrap_or_else(|| panic!("no row `{check}`: {:#?}", self.rows))
    }

    #[track_caller]
    fn result(&self, check: &str) -> &str {
        self.row(check)["result"].as_str().unwrap()
    }

    fn detail(&self, check: &str) -> &str {
        self.row(check)["detail"].as_str().unwrap()
    }

    /// The checks that did not go well.
    fn bad(&self) -> Vec<(&str, &str)> {
        let bad = |row: &&Value| row["result"] != "ok";
        let tell = |row| ["check", "result"].map(|column: &str| -> &str { text(row, column) });
        self.rows.iter().filter(bad).map(tell).map(|[check, result]| (check, result)).collect()
    }
}

fn text<'a>(row: &'a Value, column: &str) -> &'a str {
    row[column].as_str().unwrap_or_default()
}

#[track_caller]
fn doctor(world: &World) -> Answer {
    Answer::of(world.keydrift(&[]))
}

/// With a setting of the organization.
#[track_caller]
fn doctor_with(world: &World, setting: &str, value: &str) -> Answer {
    let variable = format!("KEYDRIFT__ORGANIZATIONS__DEFAULT__{setting}");
    Answer::of(world.keydrift(&[]).env(&variable, value))
}

fn bytes(path: &Path) -> Option<Vec<u8>> {
    std::fs::read(path).ok()
}

#[test]
fn all_is_tried_with_few_requests_and_without_a_database_none_is_made() {
    let world = world();
    let answer = doctor(&world);
    let checks: Vec<&str> = answer.rows.iter().map(|row| text(row, "check")).collect();
    assert_eq!((answer.code, checks), (0, CHECKS.to_vec()));
    assert_eq!(answer.bad(), []);
    assert!(answer.detail("database").contains("the first sync makes it"));
    assert!(answer.detail("schedule").starts_with("there was no run yet; due next at "));
    assert!(answer.detail("audit logs").ends_with("not used, as `audit_logs` is false"));
    let left: Vec<_> = std::fs::read_dir(world.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    let requests = world.organization().requests();
    assert_eq!(requests.len(), 4);
    assert!(requests.iter().all(|request| request.method == "GET"));
    let limits: Vec<_> = requests.iter().map(|request| request.limit.as_deref().unwrap()).collect();
    assert_eq!(limits, ["1", "3", "1", "1"]);
}

#[test]
fn a_database_that_is_there_is_held_against_the_answers_and_left_as_it_is() {
    let world = World::of(Organization::generate(7, 12));
    world.organization().with(|organization| organization.set_now(SystemClock.now().unix()));
    world.keydrift(&["sync"]).succeeds();
    let before = bytes(&world.database());
    let answer = doctor(&world);
    assert_eq!((answer.code, answer.bad()), (0, vec![]));
    assert!(answer.detail("organization id").ends_with("`, as before"));
    assert!(answer.detail("schedule").contains(": ok; due next at "));
    assert!(answer.detail("checkpoint").starts_with("the history agrees with "));
    assert_eq!(bytes(&world.database()), before);
    assert_eq!(sql::integer(&world.database(), "select count(*) from run_history"), 1);
}

#[test]
fn without_a_credential_nothing_is_asked() {
    let world = world();
    let answer = Answer::of(world.keydrift(&[]).without_env("OPENAI_ADMIN_KEY"));
    assert_eq!((answer.code, answer.result("credential")), (3, "failed"));
    assert!(text(answer.row("credential"), "mend").contains("OPENAI_ADMIN_KEY_FILE"));
    let skipped = answer.bad().iter().filter(|(_, result)| *result == "skipped").count();
    assert_eq!(skipped, 6);
    assert_eq!(answer.result("database"), "ok");
    assert!(world.organization().requests().is_empty());
}

#[test]
fn a_credential_that_is_refused_is_the_permission_s_failure() {
    let refusals = [
        (Access::Revoked, "Incorrect API key provided"),
        (Access::ProjectKey, "requires an admin API key"),
        (Access::MissingScopes { status: 401 }, "lacks the scope `api.management.read`"),
        (Access::MissingScopes { status: 403 }, "lacks the scope `api.management.read`"),
    ];
    for (access, told) in refusals {
        let world = world();
        let secret = world.organization().credential();
        world.organization().with(|organization| organization.set_access(&secret, access));
        let answer = doctor(&world);
        assert_eq!((answer.code, answer.result("permission")), (3, "failed"), "{access:?}");
        assert!(answer.detail("permission").contains(told), "{}", answer.detail("permission"));
        assert!(!text(answer.row("permission"), "mend").is_empty());
        assert_eq!(answer.result("admin keys"), "skipped");
        assert_eq!(answer.result("database"), "ok");
    }
}

#[test]
fn an_api_that_is_not_there_or_no_api_fails_the_admin_keys() {
    let world = world();
    let unreachable = world.keydrift(&[]).env("OPENAI_BASE_URL", "http://127.0.0.1:9/v1");
    let answer = Answer::of(unreachable);
    assert_eq!((answer.code, answer.result("admin keys")), (3, "failed"));
    assert!(answer.detail("admin keys").starts_with("could not reach the API"));
    assert_eq!(answer.result("permission"), "skipped");
    assert_eq!(answer.result("clock"), "skipped");
    world.organization().fault(Matcher::list(), Fault::status_with(200, ErrorBody::Html));
    let answer = doctor(&world);
    assert_eq!((answer.code, answer.result("admin keys")), (3, "failed"));
    assert!(text(answer.row("admin keys"), "mend").contains("check the base URL"));
    world.organization().clear_faults();
    world.organization().fault(Matcher::list(), Fault::EmptyList);
    let answer = doctor(&world);
    assert_eq!((answer.code, answer.result("admin keys")), (0, "warning"));
}

#[test]
fn project_keys_are_needed_where_somebody_said_so_or_they_worked_before() {
    let world = world();
    let secret = world.organization().credential();
    for area in [Area::Projects, Area::ProjectKeys] {
        world.organization().with(|organization| organization.refuse(&secret, area, Some(403)));
        let answer = doctor(&world);
        assert_eq!((answer.code, answer.result("project keys")), (0, "warning"), "{area:?}");
        let row = answer.row("project keys");
        assert!(text(row, "costs").starts_with("the keys of projects are not watched"));
        assert!(text(row, "mend").ends_with("or set `project_keys = false`"), "{row}");
        let answer = doctor_with(&world, "PROJECT_KEYS", "true");
        assert_eq!((answer.code, answer.result("project keys")), (3, "failed"));
        let answer = doctor_with(&world, "PROJECT_KEYS", "false");
        assert_eq!((answer.code, answer.result("project keys")), (0, "skipped"));
        world.organization().with(|organization| organization.refuse(&secret, area, None));
    }
    world.organization().with(|organization| {
        let first = organization.project_ids().next().unwrap().to_owned();
        organization.set_project_access(&first, ProjectAccess::Forbidden { status: 403 });
    });
    let answer = doctor_with(&world, "PROJECT_KEYS", "true");
    assert_eq!((answer.code, answer.result("project keys")), (0, "warning"));
    assert!(answer.detail("project keys").starts_with("not of each project: "));
}

#[test]
fn audit_logs_are_needed_where_somebody_wants_them() {
    let world = world();
    let log = |logging| {
        world.organization().with(|organization| organization.audit_logging = logging);
    };
    let wanted = || doctor_with(&world, "AUDIT_LOGS", "true");
    assert_eq!((wanted().code, wanted().result("audit logs")), (0, "warning"), "it is empty");
    log(AuditLogging::Refused { status: 403 });
    let answer = wanted();
    assert_eq!((answer.code, answer.result("audit logs")), (3, "failed"));
    assert_eq!((doctor(&world).code, doctor(&world).result("audit logs")), (0, "skipped"));
    log(AuditLogging::On);
    world.organization().with(Organization::add);
    assert_eq!((wanted().code, wanted().result("audit logs")), (0, "ok"));
}

#[test]
fn the_wrong_organization_is_told() {
    let world = World::new(12);
    let set = doctor_with(&world, "ORGANIZATION_ID", "org-other");
    assert_eq!((set.code, set.result("permission")), (3, "failed"), "the API says so itself");
    world.keydrift(&["sync"]).succeeds();
    world
        .organization()
        .fault(Matcher::list(), Fault::OrganizationHeader(Some("org-other".to_owned())));
    let answer = doctor(&world);
    assert_eq!((answer.code, answer.result("organization id")), (3, "failed"));
    assert!(answer.detail("organization id").contains("come from `org-other`, those of earlier"));
    let own = world
        .organization()
        .with(|organization| organization.organization_id().map(str::to_owned).unwrap());
    let answer = doctor_with(&world, "ORGANIZATION_ID", &own);
    assert!(
        answer.detail("organization id").contains("`organization_id` is "),
        "{:?}",
        answer.rows
    );
    world.organization().clear_faults();
    world.organization().fault(Matcher::list(), Fault::OrganizationHeader(None));
    let answer = doctor(&world);
    assert_eq!((answer.code, answer.result("organization id")), (0, "warning"));
}

#[test]
fn a_clock_that_is_off_is_told_of() {
    let world = world();
    for (off, result) in [(120, "warning"), (-120, "warning"), (3_600, "failed")] {
        world.organization().with(|organization| {
            organization.set_now(SystemClock.now().unix() + off);
        });
        let answer = doctor(&world);
        assert_eq!((answer.code, answer.result("clock")), (0, result), "{off}");
        let than = if off > 0 { "behind the API's" } else { "ahead of the API's" };
        assert!(answer.detail("clock").ends_with(than), "{}", answer.detail("clock"));
    }
}

#[test]
fn a_database_that_cannot_be_used_is_told_of_and_left_as_it_is() {
    let world = world();
    std::fs::write(world.database(), "no database, but long enough to be one").unwrap();
    let answer = doctor(&world);
    assert_eq!((answer.code, answer.result("database")), (3, "failed"));
    assert!(answer.detail("database").ends_with("is no SQLite database"));
    assert_eq!(answer.result("admin keys"), "ok");
    let nowhere = world.path().join("nowhere/keys.db");
    let answer = Answer::of(world.keydrift_on(&nowhere, &[]));
    assert_eq!((answer.code, answer.result("database")), (3, "failed"));
    assert!(answer.detail("database").ends_with("is no directory"), "{:?}", answer.rows);
    assert!(!nowhere.parent().unwrap().exists());
}

#[test]
fn a_history_that_is_not_whole_is_told_of() {
    let world = World::new(12);
    world.keydrift(&["sync"]).succeeds();
    let mut edited = sql::Session::open(&world.database());
    for trigger in
        sql::rows(&world.database(), "select name from sqlite_schema where type = 'trigger'")
    {
        edited.run(&format!("drop trigger {}", trigger["name"].as_str().unwrap()));
    }
    edited.run("delete from audit where event_id = 3");
    edited.close();
    let answer = doctor(&world);
    assert_eq!((answer.code, answer.result("database")), (3, "failed"));
    assert!(answer.detail("database").contains("is not sound"), "{:?}", answer.row("database"));
}

#[test]
fn a_database_that_departs_from_its_checkpoints_is_told_of() {
    let world = World::new(12);
    world.keydrift(&["sync"]).succeeds();
    let older = bytes(&world.database()).unwrap();
    world.keydrift(&["sync"]).succeeds();
    std::fs::write(world.database(), older).unwrap();
    let answer = doctor(&world);
    assert_eq!((answer.code, answer.result("checkpoint")), (3, "failed"));
    assert!(answer.detail("checkpoint").contains("is older than its checkpoint"));
    assert!(text(answer.row("checkpoint"), "mend").contains("keydrift checkpoint accept"));
    std::fs::remove_file(world.database()).unwrap();
    let answer = doctor(&world);
    assert_eq!((answer.code, answer.result("database")), (3, "failed"));
    assert!(answer.detail("database").contains("is missing"), "{:?}", answer.row("database"));
}

#[test]
fn every_checkpoint_in_the_file_is_compared() {
    for run_id in [1, 2] {
        let world = World::new(12);
        world.keydrift(&["sync"]).succeeds();
        world.keydrift(&["sync"]).succeeds();
        let answer = doctor(&world);
        assert!(
            answer.detail("checkpoint").starts_with("the history agrees with 2 checkpoints in ")
        );
        let mut edited = sql::Session::open(&world.database());
        edited.run("drop trigger runs_no_update");
        edited.run(&format!("update runs set digest = zeroblob(32) where run_id = {run_id}"));
        edited.close();
        let answer = doctor(&world);
        assert_eq!((answer.code, answer.result("checkpoint")), (3, "failed"), "{run_id}");
        let told = answer.detail("checkpoint");
        assert!(told.contains(&format!("run {run_id}")), "{told}");
        assert!(!text(answer.row("checkpoint"), "mend").is_empty());
    }
}

#[test]
fn a_checkpoint_file_that_does_not_tell_of_the_history_is_no_agreement() {
    let world = World::new(12);
    world.keydrift(&["sync"]).succeeds();
    world.keydrift(&["sync"]).succeeds();
    let file = world.path().join("keys.db.checkpoints");
    let whole = bytes(&file).unwrap();
    let cut = &whole[..whole.len() - 30];
    for (content, told) in [
        (&b"garbage\n\n"[..], "has no checkpoint of `default`"),
        (&b""[..], "has no checkpoint of `default`"),
        (cut, "1 checkpoint in it compared, and agree"),
    ] {
        std::fs::write(&file, content).unwrap();
        let answer = doctor(&world);
        assert_eq!((answer.code, answer.result("checkpoint")), (0, "warning"), "{told}");
        assert!(answer.detail("checkpoint").contains(told), "{}", answer.detail("checkpoint"));
        assert!(!text(answer.row("checkpoint"), "mend").is_empty());
    }
    std::fs::remove_file(&file).unwrap();
    let answer = doctor(&world);
    assert_eq!((answer.code, answer.result("checkpoint")), (0, "warning"));
    assert!(answer.detail("checkpoint").contains("is missing, though the history"));
    std::fs::write(&file, &whole).unwrap();
    assert_eq!(doctor(&world).result("checkpoint"), "ok");
}

#[test]
fn each_failure_says_how_to_mend_it_and_none_claims_what_was_not_checked() {
    let world = World::new(12);
    world.keydrift(&["sync"]).succeeds();
    let answer = doctor(&world);
    assert!(answer.detail("database").ends_with("`keydrift verify` proves the history"));
    let mut edited = sql::Session::open(&world.database());
    edited.run("pragma foreign_keys = off");
    edited.run("drop table audit");
    edited.close();
    world.organization().fault(Matcher::list(), Fault::status_with(200, ErrorBody::Html));
    let answer = doctor(&world);
    assert_eq!((answer.code, answer.result("database")), (3, "failed"));
    for row in answer.rows.iter().filter(|row| row["result"] == "failed") {
        assert!(!text(row, "mend").is_empty(), "{row}");
    }
}

#[test]
fn a_checkpoint_that_cannot_be_made_is_told_of() {
    let world = world();
    let unsigned = world.keydrift(&[]).env("KEYDRIFT__CHECKPOINT__KEY_FILE", "/nowhere/key");
    let answer = Answer::of(unsigned);
    assert_eq!((answer.code, answer.result("checkpoint")), (0, "failed"));
    assert!(text(answer.row("checkpoint"), "mend").contains("keygen"));
    let nowhere = world.path().join("nowhere/checkpoints");
    let lost = world.keydrift(&[]).env("KEYDRIFT__CHECKPOINT__PATH", &nowhere);
    assert_eq!(Answer::of(lost).result("checkpoint"), "failed");
}

#[test]
fn a_run_that_is_overdue_is_told_of() {
    let world = world();
    let fault = Fault::status(500).with_header("x-should-retry", "false");
    world.organization().fault(Matcher::list().nth(1), fault);
    world.keydrift(&["sync"]).exits(1);
    let answer = doctor(&world);
    assert_eq!((answer.code, answer.result("schedule")), (0, "failed"));
    assert!(answer.detail("schedule").starts_with("the last run did not succeed: "));
    assert!(text(answer.row("schedule"), "mend").contains("keydrift sync"));
}

#[test]
fn one_organization_that_fails_hides_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let server = |seed| Server::start_blocking(Organization::generate(seed, 5), ANY_PORT).unwrap();
    let servers = [("acme", server(1)), ("globex", server(2)), ("initech", server(3))];
    let mut configuration = String::new();
    for (name, server) in &servers {
        let (url, file) = (server.base_url(), directory.path().join(format!("{name}.key")));
        if *name != "initech" {
            std::fs::write(&file, server.organization().credential()).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        let key = format!("admin_key_file = \"{name}.key\"");
        writeln!(configuration, "[organizations.{name}]\nbase_url = \"{url}\"\n{key}").unwrap();
    }
    let path = directory.path().join("keydrift.toml");
    std::fs::write(&path, configuration).unwrap();
    servers[0].1.organization().fault(Matcher::any(), Fault::status(403));
    let keydrift = |args: &[&str]| {
        let database = directory.path().join("keys.db");
        Keydrift::new(directory.path())
            .args(args)
            .arg("--config")
            .arg(&path)
            .arg("--database")
            .arg(database)
    };
    let answer = Answer::of(keydrift(&[]));
    assert_eq!((answer.code, answer.rows.len()), (3, 3 * 8 + 3));
    let result = |organization: &str, check: &str| {
        let mut rows = answer.rows.iter();
        let row = rows.find(|row| row["organization"] == organization && row["check"] == check);
        text(row.unwrap(), "result").to_owned()
    };
    assert_eq!(result("acme", "permission"), "failed");
    assert_eq!(result("globex", "admin keys"), "ok");
    assert_eq!(result("initech", "credential"), "failed");
    assert!(answer.row("database")["organization"].is_null());
    let one = keydrift(&["doctor", "--organization", "globex"]).succeeds();
    assert!(one.stdout.contains("globex") && !one.stdout.contains("acme"), "{one}");
    let unknown = keydrift(&["doctor", "--organization", "nobody"]).exits(2);
    assert!(unknown.stderr.contains("known: acme, globex, initech"), "{unknown}");
}

#[test]
fn the_credential_is_never_shown() {
    let world = world();
    let secret = world.organization().credential();
    let echo = Fault::status_with(401, ErrorBody::Envelope(format!("no such key: {secret}")));
    world.organization().fault(Matcher::any(), echo);
    for format in ["table", "json", "ndjson", "csv"] {
        let ran = world.keydrift(&["doctor", "-vvv", "--format", format]).exits(3);
        assert!(!format!("{}{}", ran.stdout, ran.stderr).contains(&secret), "{ran}");
        assert!(ran.stdout.contains("no such key: "), "{ran}");
    }
}
