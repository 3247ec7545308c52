//! Listings: the rows of the views in every format, and what the filters let through.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::support::{History, World, sql};

/// The rows that `query` gives, `other` as the JSON that it is.
pub(super) fn view(database: &Path, query: &str) -> Vec<Map<String, Value>> {
    let mut rows = sql::rows(database, query);
    for row in &mut rows {
        for column in ["other", "missing", "notes"] {
            let Some(Value::String(text)) = row.get(column) else { continue };
            row[column] = serde_json::from_str(text).expect("JSON");
        }
    }
    rows
}

/// What `keydrift ARGS --format json` prints.
#[track_caller]
pub(super) fn json_rows(world: &World, args: &[&str]) -> Vec<Map<String, Value>> {
    let ran = world.keydrift(args).args(["--format", "json"]).succeeds();
    serde_json::from_value(ran.json()).expect("objects")
}

/// The command's rows against the query's, in JSON, lines of JSON and CSV.
#[track_caller]
fn same_in_every_format(world: &World, args: &[&str], query: &str) {
    let expected = view(&world.database(), query);
    assert_eq!(json_rows(world, args), expected, "{args:?}");

    let ran = world.keydrift(args).args(["--format", "ndjson"]).succeeds();
    let parse = |line: &str| serde_json::from_str::<Map<String, Value>>(line).expect("JSON");
    assert_eq!(ran.stdout.lines().map(parse).collect::<Vec<_>>(), expected, "{ran}");

    let ran = world.keydrift(args).args(["--format", "csv"]).succeeds();
    let mut csv = csv::Reader::from_reader(ran.stdout.as_bytes());
    let names: Vec<String> = csv.headers().unwrap().iter().map(str::to_owned).collect();
    if let Some(first) = expected.first() {
        let mut columns: Vec<_> = first.keys().cloned().collect();
        let mut sorted = names.clone();
        columns.sort();
        sorted.sort();
        assert_eq!(sorted, columns, "{ran}");
    }
    let cell = |value: &Value| match value {
        Value::Null => String::new(),
        Value::Array(items) if items.is_empty() => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let found: Vec<Vec<String>> =
        csv.records().map(|row| row.unwrap().iter().map(str::to_owned).collect()).collect();
    let expected_csv: Vec<Vec<String>> =
        expected.iter().map(|row| names.iter().map(|name| cell(&row[name])).collect()).collect();
    assert_eq!(found, expected_csv, "{ran}");

    let ran = world.keydrift(args).succeeds();
    for row in &expected {
        let id = row.get("key_id").unwrap_or_else(|| &row["run_id"]);
        assert!(ran.stdout.contains(&cell(id)), "{id} is not in the table\n{ran}");
    }
}

/// Nobody has noted anything.
const LOG: &str = "select *, '[]' as notes from audit_history";

#[test]
fn each_listing_has_the_rows_of_its_view_in_every_format() {
    let world = History::eventful().world;
    let order = "order by organization, created_at, key_id";
    let keys = format!("select * from current_keys {order}");
    // Where nothing was removed, `removed_at` would say nothing.
    same_in_every_format(&world, &["keys"], &keys);
    let removed = format!("select * from all_keys where removed_at is not null {order}");
    same_in_every_format(&world, &["keys", "--removed"], &removed);
    same_in_every_format(&world, &["log"], &format!("{LOG} order by event_id"));
    same_in_every_format(&world, &["runs"], "select * from run_history order by run_id");
}

#[test]
fn each_filter_of_the_keys_holds() {
    let world = History::eventful().world;
    for (args, condition) in [
        (vec!["--scope", "admin"], "scope = 'admin'"),
        (vec!["--scope", "project"], "scope = 'project'"),
        (vec!["--owner", "user-ada"], "owner_id = 'user-ada'"),
        (vec!["--owner", "Ada Lovelace"], "owner_name = 'Ada Lovelace'"),
        (vec!["--owner", "ada"], "false"),
        (vec!["--organization", "default"], "true"),
        (vec!["--scope", "admin", "--owner", "ci"], "scope = 'admin' and owner_name = 'ci'"),
    ] {
        let args: Vec<&str> = [vec!["keys"], args].concat();
        let query = format!(
            "select * from current_keys where {condition} order by organization, created_at, key_id"
        );
        same_in_every_format(&world, &args, &query);
    }
    let removed = [vec!["keys", "--removed"], vec!["--scope", "project"]].concat();
    assert_eq!(json_rows(&world, &removed)[0]["key_id"], "key_billing");
}

#[test]
fn stale_keys_are_those_unused_for_so_long() {
    let world = World::new(40);
    let seconds_ago = |days: i64| {
        sql::block_on(async {
            use sqlx::Connection;
            let mut memory = sqlx::SqliteConnection::connect("sqlite::memory:").await.unwrap();
            let query = "select unixepoch() - 86400 * ?";
            sqlx::query_scalar::<_, i64>(query).bind(days).fetch_one(&mut memory).await.unwrap()
        })
    };
    let hour = 3_600;
    let ids = world.organization().with(|organization| {
        let ids: Vec<String> = organization.ids().map(str::to_owned).collect();
        for id in &ids {
            organization.set_field(id, "last_used_at", seconds_ago(1));
            organization.set_field(id, "created_at", seconds_ago(500));
        }
        organization.set_field(&ids[0], "last_used_at", seconds_ago(90) - hour);
        organization.set_field(&ids[1], "last_used_at", seconds_ago(90) + hour);
        for (id, created_at) in
            [(&ids[2], seconds_ago(90) - hour), (&ids[3], seconds_ago(90) + hour)]
        {
            organization.set_field(id, "last_used_at", Value::Null);
            organization.set_field(id, "created_at", created_at);
        }
        ids
    });
    world.keydrift(&["sync"]).succeeds();
    let stale = json_rows(&world, &["keys", "--stale", "90d"]);
    let mut found: Vec<&str> = stale.iter().map(|row| row["key_id"].as_str().unwrap()).collect();
    found.sort_unstable();
    let mut expected = [ids[0].as_str(), ids[2].as_str()];
    expected.sort_unstable();
    assert_eq!(found, expected);
    assert_eq!(json_rows(&world, &["keys", "--stale", "400d"]).len(), 0);
}

#[test]
fn each_filter_of_the_log_holds() {
    let world = History::eventful().world;
    for (args, rest) in [
        // From this time on …
        (vec!["--since", "2026-10-02T08:00:00Z"], "where observed_at >= '2026-10-02T08:00:00Z'"),
        (vec!["--since", "2026-10-02T08:00:01Z"], "where observed_at > '2026-10-02T08:00:00Z'"),
        (vec!["--since", "2026-10-02T10:00:00+02:00"], "where run_id >= 2"),
        // … and up to that, but not with it.
        (vec!["--until", "2026-10-02T08:00:00Z"], "where observed_at < '2026-10-02T08:00:00Z'"),
        (vec!["--until", "2026-10-02 08:00:01"], "where observed_at <= '2026-10-02T08:00:00Z'"),
        (vec!["--since", "2026-10-02", "--until", "2026-10-07"], "where run_id between 2 and 6"),
        (vec!["--since", "2026-10-07", "--until", "2026-10-02"], "where false"),
        (vec!["--event", "added"], "where event = 'added'"),
        (vec!["--event", "added,removed"], "where event in ('added', 'removed')"),
        (vec!["--event", "used", "--event", "changed"], "where event in ('used', 'changed')"),
        (vec!["--event", "baseline"], "where event = 'baseline'"),
        (vec!["--event", "restored"], "where event = 'restored'"),
        (vec!["--key", "key_quick"], "where key_id = 'key_quick'"),
        (
            vec!["--key", "Quck", "--event", "removed"],
            "where event = 'removed' and key_id = 'key_quick'",
        ),
        (vec!["--organization", "default"], ""),
    ] {
        let args: Vec<&str> = [vec!["log"], args].concat();
        same_in_every_format(&world, &args, &format!("{LOG} {rest} order by event_id"));
    }
}

#[test]
fn limits_take_the_newest_and_reverse_puts_them_first() {
    let world = History::eventful().world;
    let newest = |n: u32| format!("select * from ({LOG} order by event_id desc limit {n})");
    same_in_every_format(
        &world,
        &["log", "--limit", "3"],
        &format!("{} order by event_id", newest(3)),
    );
    same_in_every_format(&world, &["log", "--limit", "3", "--reverse"], &newest(3));
    same_in_every_format(&world, &["log", "--reverse"], &format!("{LOG} order by event_id desc"));
    same_in_every_format(&world, &["log", "--limit", "0"], &newest(0));
    same_in_every_format(
        &world,
        &["log", "--limit", "1", "--event", "added"],
        &format!("{LOG} where event = 'added' order by event_id desc limit 1"),
    );
    let runs = "select * from run_history order by run_id desc";
    same_in_every_format(&world, &["runs", "--reverse"], runs);
    same_in_every_format(
        &world,
        &["runs", "--limit", "2", "--reverse"],
        &format!("{runs} limit 2"),
    );
    let oldest_first = format!("select * from ({runs} limit 2) order by run_id");
    same_in_every_format(&world, &["runs", "--limit", "2"], &oldest_first);
}

#[test]
fn what_a_sync_prints_is_what_it_recorded() {
    for format in ["json", "ndjson", "csv"] {
        let history = History::small();
        let world = &history.world;
        let ran = world.keydrift(&["sync", "--format", format]).succeeds();
        // A baseline is no drift.
        assert!(ran.stdout.lines().count() <= 1, "{ran}");
        world.organization().with(|organization| {
            organization.rename("key_main", "renamed");
            organization.remove("key_deploy");
            organization.add();
        });
        let ran = world.keydrift(&["sync", "--format", format]).succeeds();
        let drift = view(&world.database(), &format!("{LOG} where event <> 'baseline'"));
        assert_eq!(drift.len(), 3);
        match format {
            "json" => assert_eq!(ran.json(), json!(drift)),
            "ndjson" => assert_eq!(ran.stdout.lines().count(), 3, "{ran}"),
            _ => assert_eq!(ran.stdout.lines().count(), 4, "{ran}"),
        }
        // The line for people is a remark here.
        assert!(
            ran.stderr.contains("default: 4 keys, 1 added, 1 removed, 0 used, 1 changed in "),
            "{ran}"
        );
    }
}

#[test]
fn several_organizations_are_told_apart() {
    let (world, _) = super::ends::two_organizations();
    super::ends::configured(&world, &["sync"]).succeeds();
    let table = world.keydrift(&["keys"]).succeeds().stdout;
    assert!(table.starts_with("ORGANIZATION"), "{table}");
    let table = world.keydrift(&["log"]).succeeds().stdout;
    assert!(table.lines().next().unwrap().contains("ORGANIZATION"), "{table}");
    let table = world.keydrift(&["runs"]).succeeds().stdout;
    assert!(table.lines().next().unwrap().contains("ORGANIZATION"), "{table}");
    same_in_every_format(
        &world,
        &["keys", "--organization", "beta"],
        "select * from current_keys where organization = 'beta' order by created_at, key_id",
    );
    same_in_every_format(
        &world,
        &["log", "--organization", "acme"],
        "select *, '[]' as notes from audit_history where organization = 'acme' order by event_id",
    );
    same_in_every_format(
        &world,
        &["runs", "--organization", "acme"],
        "select * from run_history where organization = 'acme'",
    );
}
