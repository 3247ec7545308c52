//! Laws: whatever is damaged in a history, both verifiers find it, and say at which run.

use std::collections::{BTreeMap, BTreeSet};

use super::evidence::{Row, Script, block_on, connect, directory, query, verify};
use super::shown::{Shown, expect, show};
use super::*;

/// What no view shows, and why nothing has to.
const NO_EVIDENCE: [(&str, &[&str], &str); 11] = [
    ("runs", &["token"], "names a run beside the lock, while it runs"),
    ("runs", &["cut_short"], "what `status` says of the reason of an error"),
    ("withheld", &["stranger", "header"], "what `sync --accept` goes by"),
    (
        "organizations",
        &["header", "projects_listed", "projects_problem", "judged_by"],
        "what the next run compares with",
    ),
    ("keys", &["due_at"], "when the next run that judges it does"),
    (
        "owners",
        &["organization"],
        "by it the next run finds whose salt it is; keys say whose they are",
    ),
    ("actors", &["organization"], "as that of an owner; runs say whose attributions are"),
    ("fields", &["organization", "field", "sent"], "what the next run compares with"),
    ("project_fields", &["organization", "field", "sent"], "what the next run compares with"),
    (
        "projects",
        &["organization", "project_id", "name", "was_listed", "appeared", "last_listed_run"],
        "what the next run compares with",
    ),
    ("unavailable", &["organization", "what", "since_run"], "what the next run need not say again"),
];

/// Where versions of keys are kept, by which the past is asked for.
const VERSIONS: [&str; 2] = ["key_versions", "owners"];

/// Columns of JSON, whose damage must still be JSON for anything to be read at all.
const JSON: [&str; 4] = ["other", "missing", "changes", "detail"];

struct Damage {
    /// The table and the column, or what is done to rows.
    place: (String, String),
    sql: String,
}

/// A history that was closed, without its triggers.
struct Template {
    directory: TempDir,
    before: Shown,
}

async fn template(seed: u8) -> Template {
    let mut books = Books::reopen(directory(), 0).await;
    books.live_randomly(seed, 5).await;
    books.act("a").await;
    books.rename("b", "between").await;
    books.rename("between", "b").await;
    books.live_randomly(seed + 100, 5).await;
    books.rename("a", "another").await;
    books.act("b").await;
    strip(books).await
}

/// The same of a history that is pruned at random points, and has people who were forgotten.
async fn pruned_template(seed: u8) -> Template {
    let mut rng = fastrand::Rng::with_seed(u64::from(seed));
    let mut books = Books::reopen(directory(), 0).await;
    for round in 0..3 {
        books.live_randomly(seed + round, 6).await;
        for name in ["a", "b"] {
            let used = rng.u64(0..5);
            books.prune(name, Some(used), Some(used + rng.u64(0..5))).await;
            if rng.bool() {
                books.forget(name, ["user-1", "user-2"][rng.usize(0..2)]).await;
            }
        }
    }
    books.live_randomly(seed + 100, 4).await;
    strip(books).await
}

async fn strip(books: Books) -> Template {
    let directory = books.close().await;
    let path = directory.path().join("keydrift.db");
    assert!(verify(&path).await.values().all(Option::is_none));
    let mut connection = connect(&path).await;
    let drops = "select 'drop trigger ' || name as sql from sqlite_schema where type = 'trigger'";
    for drop in query(&mut connection, drops).await.unwrap() {
        query(&mut connection, drop["sql"].as_str().unwrap()).await.unwrap();
    }
    let before = show(&mut connection).await.unwrap();
    query(&mut connection, "pragma journal_mode = delete").await.unwrap();
    connection.close().await.unwrap();
    Template { directory, before }
}

fn literal(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => format!("'{}'", text.replace('\'', "''")),
        value => value.to_string(),
    }
}

/// Some rows of a table, each as the condition that finds it.
async fn some_rows(
    connection: &mut SqliteConnection,
    table: &str,
    keys: &[String],
    rng: &mut fastrand::Rng,
    count: usize,
) -> Vec<String> {
    let sql = format!("select {} from {table}", keys.join(", "));
    let rows = query(connection, &sql).await.unwrap();
    let condition = |row: &Row| {
        let parts: Vec<String> = row.iter().map(|(n, v)| format!("{n} = {}", literal(v))).collect();
        parts.join(" and ")
    };
    let mut rows: Vec<String> = rows.iter().map(condition).collect();
    rng.shuffle(&mut rows);
    rows.truncate(count);
    rows
}

/// Each column of some rows of each table, edited.
async fn edits(connection: &mut SqliteConnection, rng: &mut fastrand::Rng) -> Vec<Damage> {
    let mut damages = Vec::new();
    for (table, columns) in tables(connection).await {
        for column in &columns {
            let name = column["name"].as_str().unwrap();
            let is_json = JSON.contains(&name);
            let checks = format!("pragma ignore_check_constraints = {};", i32::from(!is_json));
            for row in some_rows(connection, &table, &keys(&columns), rng, 2).await {
                let at = rng.i32(1..12);
                let filler = match column["type"].as_str().unwrap() {
                    "INTEGER" | "ANY" => "1",
                    "BLOB" => "zeroblob(16)",
                    _ if is_json => "'{}'",
                    _ => "'q'",
                };
                let by = if name == "token" { 1_000 } else { 1 };
                let edited = format!(
                    "case typeof({name}) when 'integer' then {name} + {by} when 'null' then {filler}
                     when 'blob' then randomblob(length({name}))
                     else substr({name}, 1, {at} - 1) || 'q' || substr({name}, {at} + 1) end"
                );
                for value in [edited.as_str(), "null"] {
                    damages.push(Damage {
                        place: (table.clone(), name.to_owned()),
                        sql: format!("{checks} update {table} set {name} = {value} where {row}"),
                    });
                }
            }
        }
    }
    damages
}

async fn tables(connection: &mut SqliteConnection) -> BTreeMap<String, Vec<Row>> {
    let columns = query(
        connection,
        "select m.name as tbl, c.name, c.type, c.pk from sqlite_schema m, pragma_table_info(m.name) c
         where m.type = 'table' and m.name not like '\\_%' escape '\\' and m.name <> 'installation'
           -- Indexes that no view shows: only our own verifier looks at them, in a test of its own.
           and c.name not in ('last_version', 'last_event_id', 'keys_after')",
    );
    let mut tables: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    for column in columns.await.unwrap() {
        tables.entry(column["tbl"].as_str().unwrap().to_owned()).or_default().push(column);
    }
    tables
}

fn keys(columns: &[Row]) -> Vec<String> {
    let keys = columns.iter().filter(|column| column["pk"] != 0);
    let keys: Vec<_> = keys.map(|column| column["name"].as_str().unwrap().to_owned()).collect();
    if keys.is_empty() { vec!["rowid".to_owned()] } else { keys }
}

/// Some rows of each table dropped, and doubled under other numbers.
async fn losses(connection: &mut SqliteConnection, rng: &mut fastrand::Rng) -> Vec<Damage> {
    let mut damages = Vec::new();
    for (table, columns) in tables(connection).await {
        let keys = keys(&columns);
        let mut damage = |kind: &str, sql: String| {
            let place = (table.clone(), format!("({kind})"));
            damages.push(Damage { place, sql });
        };
        for row in some_rows(connection, &table, &keys, rng, 2).await {
            damage("dropped", format!("delete from {table} where {row}"));
            for number in ["(select max(KEY) + 1 from TABLE)", "0", "-7"] {
                let number = number.replace("KEY", &keys[0]).replace("TABLE", &table);
                let value = |column: &Row| match column["name"].as_str().unwrap() {
                    name if name == keys[0] => number.clone(),
                    "token" => "token + 1000".to_owned(),
                    "key_id" if table == "keys" => "key_id || '2'".to_owned(),
                    "name" if table == "organizations" => "name || '2'".to_owned(),
                    name => name.to_owned(),
                };
                let values: Vec<String> = columns.iter().map(value).collect();
                let values = values.join(", ");
                let sql = format!("insert into {table} select {values} from {table} where {row}");
                damage("inserted", sql);
            }
        }
    }
    damages
}

/// Rows that change places.
async fn swaps(connection: &mut SqliteConnection, rng: &mut fastrand::Rng) -> Vec<Damage> {
    let mut damages = Vec::new();
    let swaps = [
        ("audit", "event_id", "old_value, new_value, version"),
        ("audit", "event_id", "run_id"),
        ("audit", "event_id", "event, field"),
        ("runs", "run_id", "organization"),
        ("runs", "run_id", "digest"),
        ("runs", "run_id", "status, error, notice, started_at, finished_at, digest"),
        ("notices", "notice_id", "changes, field, kind"),
        ("notices", "notice_id", "run_id"),
        ("owners", "owner", "salt"),
        ("owners", "owner", "name"),
        ("keys", "key", "version"),
        ("keys", "key", "first_seen_run, last_seen_run"),
        ("key_versions", "version", "name, redacted_value"),
        ("acts", "act_id", "organization"),
        ("attributions", "attribution_id", "event_id, log_id"),
        ("attributions", "attribution_id", "run_id"),
        ("attributions", "attribution_id", "actor, ip_address"),
        ("actors", "actor", "salt"),
        ("actors", "actor", "email"),
    ];
    for (table, key, columns) in swaps {
        for _ in 0..3 {
            let rows = some_rows(connection, table, &[key.to_owned()], rng, 2).await;
            let [one, other] = rows.as_slice() else { continue };
            damages.push(Damage {
                place: (table.to_owned(), format!("(swapped {columns})")),
                sql: format!(
                    "create temp table was as select * from {table} where {one} or {other};
                     update {table} set ({columns}) = (select {columns} from temp.was where {other}) where {one};
                     update {table} set ({columns}) = (select {columns} from temp.was where {one}) where {other};
                     drop table temp.was"
                ),
            });
        }
    }
    damages
}

/// The newest link, whose loss only a checkpoint tells.
fn is_truncation(damage: &Damage, template: &Template) -> bool {
    let rows = |view: &str, id: &str| template.before.newest(view, id);
    let last =
        |row: Option<i64>, id: &str| damage.sql.ends_with(&format!("{id} = {}", row.unwrap()));
    match (damage.place.0.as_str(), damage.place.1.as_str()) {
        ("runs", "(dropped)") => last(rows("run_history", "run_id"), "run_id"),
        ("acts", "(dropped)" | "organization") => last(rows("act_history", "act_id"), "act_id"),
        _ => false,
    }
}

/// What came of a damage, if SQLite let it happen: whether the views show it, and what is wrong with what is said of it.
async fn try_damage(
    template: &Template,
    path: &Path,
    damage: &Damage,
    script: &mut Option<Script>,
) -> Option<(bool, Vec<String>)> {
    std::fs::copy(template.directory.path().join("keydrift.db"), path).unwrap();
    let mut connection = connect(path).await;
    // Some damage SQLite itself refuses: then it is none.
    let done = sqlx::raw_sql(sqlx::AssertSqlSafe(damage.sql.as_str())).execute(&mut connection);
    let done = done.await.is_ok();
    let after = show(&mut connection).await;
    connection.close().await.unwrap();
    if !done {
        return None;
    }
    let ours = verify(path).await;
    let expected = after.map(|after| expect(&template.before, &after));
    // What a version of a key says that no view shows, only our own verifier can hold against the history.
    let is_ours = matches!(expected, Ok(None)) && VERSIONS.contains(&damage.place.0.as_str());
    let mut wrong = Vec::new();
    let mut blame = |why: &str| {
        wrong.push(format!("{why}: {:?}\n{}\nsaid: {ours:?}", damage.place, damage.sql));
    };
    if let Some(script) = script {
        let (theirs, said) = script.verify(path);
        if theirs != ours && !is_ours {
            blame(&format!("the script says something else, {said}"));
        }
    }
    match &expected {
        Err(_) if ours.values().all(Option::is_some) => {}
        Err(_) => blame("nobody can read it"),
        // SQLite may find what no view shows.
        Ok(None) if is_ours => {}
        Ok(None) if ours.values().all(|run| run.unwrap_or(0) == 0) => {}
        Ok(None) => blame("nothing is shown of it"),
        Ok(Some(_)) if is_truncation(damage, template) => {}
        Ok(Some(expected)) => {
            if let Err(why) = expected.judge(&ours) {
                blame(&format!("{why}, where {expected:?}"));
            }
        }
    }
    Some((expected.is_ok_and(|expected| expected.is_some()), wrong))
}

/// The columns whose damage the views have shown, and those whose damage they have not.
#[derive(Default)]
struct Found {
    shown: BTreeSet<(String, String)>,
    tried: BTreeSet<(String, String)>,
    wrong: Vec<String>,
    count: usize,
}

/// What both verifiers say of a damage where they disagree, or see nothing of what is shown.
async fn disagreement(
    template: &Template,
    path: &Path,
    damage: &Damage,
    script: &mut Script,
) -> Option<String> {
    std::fs::copy(template.directory.path().join("keydrift.db"), path).unwrap();
    let mut connection = connect(path).await;
    let done = sqlx::raw_sql(sqlx::AssertSqlSafe(damage.sql.as_str())).execute(&mut connection);
    let done = done.await.is_ok();
    let after = show(&mut connection).await;
    connection.close().await.unwrap();
    if !done {
        return None;
    }
    let ours = verify(path).await;
    let (theirs, said) = script.verify(path);
    std::fs::remove_file(path).unwrap();
    let is_ours = VERSIONS.contains(&damage.place.0.as_str())
        && damage.place.1 != "salt"
        && after.as_ref().is_ok_and(|after| !template.before.must_be_seen(after));
    let unseen = after.is_ok_and(|after| template.before.must_be_seen(&after))
        && ours.values().all(Option::is_none)
        && !is_truncation(damage, template);
    (unseen || theirs != ours && !is_ours).then(|| {
        format!(
            "{:?} {}: unseen: {unseen}, ours: {ours:?}, theirs: {said}",
            damage.place, damage.sql
        )
    })
}

#[test]
fn damage_of_what_pruning_and_forgetting_left_is_found_at_one_run_by_both_verifiers() {
    let Some(mut script) = Script::start() else { return };
    let (mut wrong, mut tried) = (Vec::new(), BTreeSet::new());
    block_on(async {
        let template = pruned_template(3).await;
        let mut rng = fastrand::Rng::with_seed(3);
        let mut connection = connect(&template.directory.path().join("keydrift.db")).await;
        let mut damages = edits(&mut connection, &mut rng).await;
        damages.extend(losses(&mut connection, &mut rng).await);
        damages.extend(swaps(&mut connection, &mut rng).await);
        connection.close().await.unwrap();
        for (number, damage) in damages.into_iter().enumerate() {
            let path = template.directory.path().join(format!("damaged-{number}.db"));
            wrong.extend(disagreement(&template, &path, &damage, &mut script).await);
            tried.insert(damage.place.0);
        }
    });
    let count = wrong.len();
    assert!(wrong.is_empty(), "{count}:\n{}", wrong.join("\n"));
    for table in ["keyframes", "erased", "parts", "acts", "attributions", "actors"] {
        assert!(tried.contains(table), "{table} in {tried:?}");
    }
}

async fn try_all(seed: u8, script: &mut Option<Script>) -> Found {
    let template = template(seed).await;
    let mut rng = fastrand::Rng::with_seed(u64::from(seed));
    let mut connection = connect(&template.directory.path().join("keydrift.db")).await;
    let mut damages = edits(&mut connection, &mut rng).await;
    damages.extend(losses(&mut connection, &mut rng).await);
    damages.extend(swaps(&mut connection, &mut rng).await);
    connection.close().await.unwrap();
    let mut found = Found::default();
    for (number, damage) in damages.into_iter().enumerate() {
        // A file of its own each: the script may not have closed the one before.
        let path = template.directory.path().join(format!("damaged-{number}.db"));
        let Some((shown, wrong)) = try_damage(&template, &path, &damage, script).await else {
            continue;
        };
        std::fs::remove_file(&path).unwrap();
        found.wrong.extend(wrong);
        found.count += 1;
        found.tried.insert(damage.place.clone());
        if shown {
            found.shown.insert(damage.place);
        }
    }
    found
}

#[test]
fn every_damage_is_found_at_its_run_by_both_verifiers() {
    let found = std::thread::scope(|scope| {
        let try_seed = |seed: u8| block_on(try_all(seed, &mut Script::start()));
        let threads = [1, 2].map(|seed| scope.spawn(move || try_seed(seed)));
        threads.map(|thread| thread.join().unwrap())
    });
    let [one, other] = found;
    let wrong: Vec<String> = one.wrong.into_iter().chain(other.wrong).collect();
    let count = wrong.len();
    assert!(wrong.is_empty(), "{count} of {}:\n\n{}", one.count + other.count, wrong.join("\n\n"));
    let shown: BTreeSet<_> = one.shown.union(&other.shown).cloned().collect();
    let tried: BTreeSet<_> = one.tried.union(&other.tried).cloned().collect();
    let listed: BTreeSet<(String, String)> = NO_EVIDENCE
        .iter()
        .flat_map(|(table, columns, _)| {
            columns.iter().map(|column| ((*table).to_owned(), (*column).to_owned()))
        })
        .collect();
    let whole_rows = |place: &&(String, String)| !place.1.starts_with('(');
    let hidden: BTreeSet<_> = tried.difference(&shown).filter(whole_rows).cloned().collect();
    // A row that is moved where its like is already is refused by SQLite itself.
    let refused = listed.difference(&tried).all(|(_, column)| column == "organization");
    assert!(refused, "{:?} were not tried", listed.difference(&tried));
    let listed: BTreeSet<_> = listed.intersection(&tried).cloned().collect();
    assert_eq!(hidden, listed, "columns that are no evidence");
    assert!(tried.len() > 100, "{tried:?}");
}
