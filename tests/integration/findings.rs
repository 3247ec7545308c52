//! Findings through the binary: what is open, since when, and when it ends.

use keydrift::sim::{Fault, Matcher, Organization};
use serde_json::{Value, json};

use crate::support::{History, Ran, World, oracle, sql};

/// Three keys, each with something wrong at the end of September 2026, and one of our own.
fn history() -> History {
    let mut organization = Organization::generate(7, 0);
    let tail = organization.credential()[organization.credential().len() - 4..].to_owned();
    let owner = json!({"id": "user-ada", "type": "user", "name": "Ada Lovelace"});
    let account = json!({"id": "sa-ci", "type": "service_account", "name": "ci"});
    for item in [
        // Used every day.
        json!({"id": "key_main", "name": "main", "created_at": 1_788_000_000, "last_used_at": 1_790_000_000,
            "expires_at": 1_800_000_000, "owner": owner, "redacted_value": "sk-admin-****Main"}),
        // Made on 2026-06-01, never used.
        json!({"id": "key_idle", "name": "idle", "created_at": 1_780_272_000, "last_used_at": null,
            "expires_at": 1_800_000_000, "owner": owner, "redacted_value": "sk-admin-****Idle"}),
        json!({"id": "key_ci", "name": null, "created_at": 1_788_000_000, "last_used_at": 1_790_000_000,
            "expires_at": null, "owner": account, "redacted_value": "sk-admin-****KyCi"}),
        json!({"id": "key_own", "name": "keydrift", "created_at": 1_788_000_000, "last_used_at": null,
            "expires_at": 1_800_000_000, "owner": owner, "redacted_value": format!("sk-admin-****{tail}")}),
    ] {
        organization.add_raw(item.as_object().unwrap());
    }
    History::of(organization)
}

fn findings(world: &World, args: &[&str]) -> Ran {
    world.keydrift(&[&["findings"], args].concat()).succeeds()
}

fn rows(world: &World, args: &[&str]) -> Vec<Value> {
    let ran = findings(world, &[args, &["--format", "json"]].concat());
    ran.json().as_array().unwrap().clone()
}

/// `key_id rule` of each.
fn told(world: &World, args: &[&str]) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let told = |row: &Value| format!("{} {}", text(&row["key_id"]), text(&row["rule"]));
    rows(world, args).iter().map(told).collect()
}

const ALL: [&str; 5] = [
    "key_ci admin_service_account",
    "key_idle never_used",
    "key_idle old",
    "key_ci never_expires",
    "key_ci no_name",
];

#[test]
fn findings_are_listed_the_worst_first_as_the_view_has_them() {
    let history = history();
    history.sync("2026-09-30T08:00:00Z");
    let world = &history.world;
    let ran = findings(world, &[]);
    insta::assert_snapshot!(ran.stdout, @"
    SEVERITY  RULE                   KEY       NAME  SINCE                 DETAIL
    medium    admin_service_account  key_ci    -     2026-08-29T10:40:00Z  an admin key of a service account
    medium    never_used             key_idle  idle  2026-08-30T00:00:00Z  created on 2026-06-01, never used
    medium    old                    key_idle  idle  2026-08-30T00:00:00Z  created on 2026-06-01
    low       never_expires          key_ci    -     2026-08-29T10:40:00Z  an admin key without an expiry date
    low       no_name                key_ci    -     2026-08-29T10:40:00Z  it has no name
    ");
    // Behind that, whether it is long ago: on the clock of the machine.
    let told_first = "5 findings: 3 medium, 2 low\nas of run 1 at 2026-09-30T08:00:00Z\n";
    assert!(ran.stderr.starts_with(told_first), "{ran}");
    assert_eq!(told(world, &[]), ALL);
    let database = world.database();
    let columns = "organization, key_id, rule, severity, since, detail, opened_run_id, opened_at, key_name, scope";
    for row in rows(world, &[]) {
        let rule = row["rule"].as_str().unwrap();
        let view =
            sql::rows(&database, &format!("select {columns} from findings where rule = '{rule}'"));
        assert_eq!(row, Value::Object(view[0].clone()));
    }
    let csv = findings(world, &["--format", "csv"]).stdout;
    assert!(csv.starts_with("organization,severity,rule,key_id,key_name,scope,since,"), "{csv}");
    assert_eq!(csv.lines().count(), 6);
}

#[test]
fn filters_and_the_exit_code_say_what_is_asked() {
    let history = history();
    history.sync("2026-09-30T08:00:00Z");
    let world = &history.world;
    assert_eq!(told(world, &["--severity", "low"]), ALL);
    assert_eq!(told(world, &["--severity", "medium"]), ALL[..3]);
    assert_eq!(told(world, &["--severity", "high"]), <[&str; 0]>::default());
    assert_eq!(told(world, &["--rule", "old,no_name"]), [ALL[2], ALL[4]]);
    assert_eq!(told(world, &["--key", "idle"]), [ALL[1], ALL[2]]);
    world.keydrift(&["findings", "--exit-code"]).exits(3);
    world.keydrift(&["findings", "--exit-code", "--severity", "high"]).succeeds();
    world.keydrift(&["findings", "--rule", "stale"]).exits(2);
    world.keydrift(&["findings", "--organization", "nobody"]).exits(2);
    world.keydrift(&["findings", "--key", "nobody"]).exits(1);
    let none = findings(world, &["--severity", "high"]);
    assert_eq!(none.stdout, "");
    assert!(none.stderr.starts_with("no findings\n"), "{none}");
}

#[test]
fn what_is_mended_closes_and_its_history_stays() {
    let history = history();
    let world = &history.world;
    history.sync("2026-08-29T23:59:59Z");
    assert!(!told(world, &[]).contains(&ALL[1].to_owned()), "a second too early");
    history.sync("2026-08-30T00:00:00Z");
    assert!(told(world, &[]).contains(&ALL[1].to_owned()));
    let organization = world.organization();
    organization.fault(Matcher::any(), Fault::status(503).with_header("retry-after-ms", "0"));
    history.sync("2026-08-31T08:00:00Z");
    organization.clear_faults();
    assert_eq!(told(world, &["--key", "key_idle"]), [ALL[1], ALL[2]], "a failed run changes none");
    organization.with(|organization| {
        assert!(organization.set_field("key_idle", "last_used_at", 1_788_246_000_i64));
    });
    history.sync("2026-09-01T08:00:00Z");
    // Used at last, after ninety days.
    assert_eq!(told(world, &["--key", "key_idle"]), ["key_idle woke_up", ALL[2]]);
    organization.with(|organization| organization.remove("key_idle"));
    history.sync("2026-09-02T08:00:00Z");
    assert_eq!(told(world, &["--key", "key_idle"]), <[&str; 0]>::default());
    let closed = rows(world, &["--history", "--key", "key_idle"]);
    let ends: Vec<String> = closed
        .iter()
        .map(|row| format!("{} {} {}", row["rule"], row["opened_at"], row["closed_at"]))
        .collect();
    insta::assert_snapshot!(ends.join("\n").replace('"', ""), @"
    never_used 2026-08-30T00:00:00Z 2026-09-01T08:00:00Z
    old 2026-08-30T00:00:00Z 2026-09-02T08:00:00Z
    woke_up 2026-09-01T08:00:00Z 2026-09-02T08:00:00Z
    ");
    oracle::check_consistent(&world.database());
    world.keydrift(&["verify"]).succeeds();
    let daily = "select group_concat(day || ' ' || opened || ' ' || closed || ' ' || open, x'0a')
        from (select * from findings_daily where severity = 'medium' order by day)";
    insta::assert_snapshot!(sql::value(&world.database(), daily).as_str().unwrap(), @"
    2026-08-29 1 0 1
    2026-08-30 2 0 3
    2026-08-31 0 0 3
    2026-09-01 0 1 2
    2026-09-02 0 1 1
    ");
}

#[test]
fn an_unchanged_organization_writes_no_finding_more() {
    let history = history();
    let database = history.world.database();
    history.sync("2026-09-30T08:00:00Z");
    let count = || sql::integer(&database, "select count(*) from finding_history");
    let before = count();
    for hour in 9..12 {
        history.sync(&format!("2026-09-30T{hour:02}:00:00Z"));
    }
    assert_eq!(count(), before);
}

#[test]
fn exceptions_are_told_and_end() {
    let history = history();
    history.sync("2026-09-30T08:00:00Z");
    let world = &history.world;
    let file = world.path().join("keydrift.toml");
    let exception = |until: &str| {
        let text = format!(
            "[findings]\ndisabled = [\"no_name\"]\n[[findings.exceptions]]\nkey = \"key_ci\"\n\
             rule = \"never_expires\"\nreason = \"ticket 1234\"\nuntil = \"{until}\"\n\
             [organizations.default]\nbase_url = \"{}\"\n",
            world.server.base_url()
        );
        std::fs::write(&file, text).unwrap();
    };
    let with_file = |args: &[&str]| {
        let args = [args, &["--config", "keydrift.toml"]].concat();
        world.keydrift(&args).without_env("OPENAI_BASE_URL")
    };
    exception("9999-01-01");
    // What is in force now counts from the next run on.
    let ran = with_file(&["findings"]).succeeds();
    assert!(ran.stdout.contains("never_expires"), "{ran}");
    assert!(
        ran.stderr.contains(
            "1 exception is in force: from the next run on, what it covers is not listed"
        ),
        "{ran}"
    );
    with_file(&["sync"]).succeeds();
    let ran = with_file(&["findings"]).succeeds();
    assert!(!ran.stdout.contains("never_expires") && !ran.stdout.contains("no_name"), "{ran}");
    exception("2026-01-01");
    with_file(&["sync"]).succeeds();
    let ended = "the exception for `key_ci` ended at 2026-01-01T00:00:00Z and no longer counts (set by `keydrift.toml:3`)";
    for command in [&["findings"][..], &["config", "check"]] {
        let ran = with_file(command).succeeds();
        assert!(ran.stderr.contains(ended), "{ran}");
    }
    let ran = with_file(&["findings"]).succeeds();
    assert!(ran.stdout.contains("never_expires"), "{ran}");
}

#[test]
fn it_is_said_where_nothing_is_known() {
    let world = World::new(3);
    world.keydrift(&["findings"]).exits(1);
    world.sync();
    let ran = findings(&world, &[]);
    assert!(ran.stderr.contains("as of run 1 at "), "{ran}");
    assert!(!ran.stderr.contains("warning"), "{ran}");
}

#[test]
fn findings_of_an_organization_that_is_not_watched_are_left_out_unless_asked_for() {
    let history = history();
    history.sync("2026-09-30T08:00:00Z");
    let world = &history.world;
    let base_url = world.server.base_url();
    let text = format!("[organizations.other]\nbase_url = \"{base_url}\"\n");
    std::fs::write(world.path().join("keydrift.toml"), text).unwrap();
    let with_file = |args: &[&str]| {
        let args = [&["findings", "--config", "keydrift.toml"], args].concat();
        world.keydrift(&args).without_env("OPENAI_BASE_URL")
    };
    let ran = with_file(&["--exit-code"]).succeeds();
    assert!(!ran.stdout.contains("key_ci"), "{ran}");
    let said = "default is not watched, as it is not configured: its findings are left out; `--organization default` or `--history` lists them";
    assert!(ran.stderr.contains(said), "{ran}");
    for asked in [&["--organization", "default"][..], &["--history"], &["--key", "key_ci"]] {
        let ran = with_file(&[asked, &["--exit-code"]].concat()).exits(3);
        assert!(ran.stdout.contains("key_ci"), "{ran}");
        assert!(!ran.stderr.contains("left out"), "{ran}");
    }
}
