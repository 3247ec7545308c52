//! Databases from before there was a chain: their history is adopted as it is found, and guarded from then on.

use sqlx::AssertSqlSafe;

use super::evidence::{Accused, Script, block_on, connect, directory, query, verify};
use super::shown::{expect, show};
use super::*;

/// What the two migrations before the chain made.
const BEFORE: [&str; 2] = [
    include_str!("../../../migrations/0001_inventory_and_history.sql"),
    include_str!("../../../migrations/0002_what_a_daemon_remembers.sql"),
];

/// The database of `books` as an earlier version would have written it.
async fn without_chain(books: Books) -> (TempDir, i64) {
    let runs = books.runs;
    let new = books.close().await;
    let old = directory();
    let path = old.path().join("keydrift.db");
    let writer = open_at(&path).await.unwrap();
    writer.close().await.unwrap();
    let mut connection = connect(&path).await;
    let all = "select type || ' ' || name as it from sqlite_schema
               where type in ('view', 'table') and name not like '\\_%' escape '\\'
                 and name not like 'sqlite%' order by type desc";
    for it in query(&mut connection, all).await.unwrap() {
        let sql = format!("drop {}", it["it"].as_str().unwrap());
        query(&mut connection, &sql).await.unwrap();
    }
    for sql in BEFORE {
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    }
    let attach = format!("attach '{}' as new", new.path().join("keydrift.db").display());
    query(&mut connection, &attach).await.unwrap();
    for table in
        ["organizations", "runs", "withheld", "owners", "keys", "key_versions", "audit", "fields"]
    {
        let columns = format!("select group_concat(name) as c from pragma_table_info('{table}')");
        let columns = query(&mut connection, &columns).await.unwrap();
        let columns = columns[0]["c"].as_str().unwrap();
        let sql = format!("insert into main.{table} ({columns}) select {columns} from new.{table}");
        query(&mut connection, &sql).await.unwrap();
    }
    // It told nothing of unconfirmed keys, nor whose a value is.
    let notices = "insert into main.notices
        select notice_id, run_id, kind, field, (select json_group_array(json_array(j.value -> 0, j.value -> 1))
            from json_each(n.changes) j)
        from new.notices n where kind <> 'unconfirmed';
        delete from _sqlx_migrations where version > 2; detach new";
    sqlx::raw_sql(notices).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    (old, runs)
}

async fn upgraded(seed: u8) -> Books {
    let mut books = Books::reopen(directory(), 0).await;
    books.live_randomly(seed, 8).await;
    let (old, runs) = without_chain(books).await;
    let mut books = Books::reopen(old, runs).await;
    books.check_whole().await;
    books.live_randomly(seed + 100, 6).await;
    books
}

fn whole(accused: &Accused) -> bool {
    !accused.is_empty() && accused.values().all(Option::is_none)
}

#[test]
fn a_database_from_before_the_chain_is_whole_and_goes_on() {
    let mut script = Script::start();
    for seed in 0..6 {
        let (ours, directory) = block_on(async {
            let books = upgraded(seed).await;
            (verify(&books.path()).await, books.close().await)
        });
        assert!(whole(&ours), "{seed}: {ours:?}");
        if let Some(script) = &mut script {
            let (theirs, said) = script.verify(&directory.path().join("keydrift.db"));
            assert_eq!(theirs, ours, "{seed}: {said}");
        }
    }
}

#[test]
fn damage_before_the_chain_is_found_no_earlier_than_there_and_no_later() {
    let damages = [
        "update runs set requests = requests + 1 where run_id = 2",
        "update runs set digest = zeroblob(32) where run_id = 2",
        "update audit set run_id = run_id + 1 where event_id = 2",
        "update audit set event = 'used', field = null where event = 'changed'",
        "delete from audit where event_id = 2",
        "delete from notices where notice_id = 1",
        "update notices set field = field || 'x' where notice_id = 1",
        "update key_versions set name = ifnull(name, '') || 'x' where version = 1",
        "update owners set role = ifnull(role, '') || 'x' where owner = 1",
        "update keys set first_seen_run = first_seen_run + 1 where key = 1",
        "update acts set detail = json_set(detail, '$.runs', 1)",
    ];
    let mut script = Script::start();
    let directory = block_on(async { upgraded(1).await.close().await });
    let path = directory.path().join("keydrift.db");
    for (number, damage) in damages.into_iter().enumerate() {
        let copy = directory.path().join(format!("copy-{number}.db"));
        std::fs::copy(&path, &copy).unwrap();
        let (expected, ours) = block_on(async {
            let mut connection = connect(&copy).await;
            let drops =
                "select 'drop trigger ' || name as sql from sqlite_schema where type = 'trigger'";
            for drop in query(&mut connection, drops).await.unwrap() {
                query(&mut connection, drop["sql"].as_str().unwrap()).await.unwrap();
            }
            let before = show(&mut connection).await.unwrap();
            sqlx::raw_sql(AssertSqlSafe(damage)).execute(&mut connection).await.unwrap();
            let after = show(&mut connection).await.unwrap();
            connection.close().await.unwrap();
            (expect(&before, &after), verify(&copy).await)
        });
        let expected = expected.unwrap_or_else(|| panic!("{damage}: nothing is shown of it"));
        assert_eq!(expected.judge(&ours), Ok(()), "{damage}: {ours:?}, {expected:?}");
        if let Some(script) = &mut script {
            let (theirs, said) = script.verify(&copy);
            assert_eq!(theirs, ours, "{damage}: {said}");
        }
    }
}

#[test]
fn of_what_was_before_the_chain_there_is_no_evidence_once_some_of_it_is_pruned() {
    block_on(async {
        let mut books = upgraded(2).await;
        let never = |_: &str, _: Timestamp| None;
        let (before, end) = (at(START + 60 * 4 + 1), books.now());
        let behind = at(START + 60 * 30);
        books.reader().await.load_period(before, end, &never).await.unwrap();
        let runs = books.runs;
        books
            .prune("a", Some(runs.unsigned_abs() - 3), Some(runs.unsigned_abs() - 3))
            .await
            .unwrap();
        let loaded = books.reader().await.load_period(before, end, &never).await;
        assert!(matches!(loaded, Err(Error::NotKept { .. })), "{loaded:?}");
        let period = books.reader().await.load_period(behind, behind, &never).await.unwrap();
        assert!(period.verdicts.iter().all(|verdict| verdict.problem.is_none()));
        assert!(whole(&verify(&books.path()).await));
    });
}
