//! What pruning and forgetting leave: no byte of a name, no way around it, and nothing half done.
#![expect(clippy::too_many_lines, reason = "a table is best read in one piece")]

use std::fs;
use std::pin::pin;
use std::task::Poll;

use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;

use super::evidence::{Script, verify};
use super::*;
use crate::audit::Problem;

const PERSON: &str = "user-1";
const TRACES: [&str; 3] = ["Ada Lovelace", "ada@example.com", "192.0.2.77"];

fn owned(name: &str, used: i64, owner: &serde_json::Value) -> serde_json::Value {
    json!({"name": name, "created_at": 1_760_000_000, "last_used_at": used, "owner": owner})
}

fn ada(email: &str) -> serde_json::Value {
    json!({"id": PERSON, "type": "user", "name": TRACES[0], "email": email, "last_ip_address": TRACES[2]})
}

fn bob() -> serde_json::Value {
    json!({"id": "user-2", "type": "user", "name": "Bob", "email": "bob@example.com"})
}

/// Two keys, uses, changes of every kind of personal value, and a field that starts.
async fn storied() -> Books {
    let mut books = Books::new().await;
    let without = |name: &str| json!({"id": PERSON, "type": "user", "name": name});
    let plain = json!({"id": "user-2", "type": "user", "name": "Bob"});
    books
        .sync(
            &world([("k1", owned("One", 1, &without("Augusta"))), ("k2", owned("Two", 1, &plain))]),
            &[],
        )
        .await;
    books
        .sync(
            &world([("k1", owned("One", 2, &ada(TRACES[1]))), ("k2", owned("Two", 2, &bob()))]),
            &[],
        )
        .await;
    books
        .sync(
            &world([
                ("k1", owned("One", 3, &bob())),
                ("k2", owned("Two", 3, &ada("ada@old.example"))),
            ]),
            &[],
        )
        .await;
    books.fail("no network").await;
    books
        .sync(
            &world([("k2", owned("Two", 4, &ada(TRACES[1]))), ("k3", owned("Three", 4, &bob()))]),
            &["k1"],
        )
        .await;
    books
        .sync(
            &world([("k2", owned("Two", 5, &ada(TRACES[1]))), ("k3", owned("Tri", 5, &bob()))]),
            &[],
        )
        .await;
    books
}

/// All bytes in the directory of the database.
fn bytes(books: &Books) -> Vec<u8> {
    let files = fs::read_dir(books.directory.path()).unwrap();
    files.flat_map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect()
}

fn traces(bytes: &[u8]) -> Vec<&'static str> {
    let found = |text: &&str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    ["Augusta", "ada@old.example"].into_iter().chain(TRACES).filter(found).collect()
}

#[tokio::test]
async fn no_byte_of_a_forgotten_person_is_left_and_none_comes_back() {
    let mut books = storied().await;
    books.prune(ORG, Some(4), Some(5)).await.unwrap();
    assert!(!traces(&bytes(&books)).is_empty());
    let Forgetting::Done { places } = books.forget(ORG, PERSON).await else { panic!("not done") };
    assert!(places >= 10, "{places}");
    books.writer.scrub().await.unwrap();
    assert_eq!(traces(&bytes(&books)), [""; 0]);
    assert_eq!(books.problem().await, None);
    let before = books.events().await.len();
    // The same keys again, and another e-mail address: nothing that anybody could tell.
    for email in [TRACES[1], "ada@new.example"] {
        let keys = [("k2", owned("Two", 5, &ada(email))), ("k3", owned("Tri", 5, &bob()))];
        books.sync(&world(keys), &[]).await;
    }
    assert_eq!(books.events().await.len(), before);
    let keys = [("k3", owned("Tri", 5, &bob())), ("k9", owned("New", 5, &ada(TRACES[1])))];
    books.sync(&world(keys), &["k2"]).await;
    let owner = json!({"id": PERSON, "type": "user", "role": "member", "name": TRACES[0]});
    books
        .sync(&world([("k3", owned("Tri", 5, &bob())), ("k9", owned("New", 5, &owner))]), &[])
        .await;
    books.writer.scrub().await.unwrap();
    assert_eq!(traces(&bytes(&books)), [""; 0]);
    assert_eq!(books.problem().await, None);
    let keys = books.keys().await;
    let new = keys.iter().find(|key| key.key_id == "k9").unwrap();
    assert_eq!(new.owner_name.as_deref(), Some("erased"));
    assert_eq!(
        (new.owner_id.as_deref(), new.owner_role.as_deref()),
        (Some(PERSON), Some("member"))
    );
    // Bob is who he was.
    let third = keys.iter().find(|key| key.key_id == "k3").unwrap();
    assert_eq!(third.owner_name.as_deref(), Some("Bob"));
}

#[tokio::test]
async fn only_an_owner_with_an_id_can_be_forgotten_and_only_where_it_is_known() {
    let mut books = storied().await;
    books
        .sync_as(
            "other",
            &world([("k", owned("K", 1, &bob())), ("l", json!({"owner": {"id": ""}}))]),
            &[],
        )
        .await;
    for owner_id in ["", "nobody", TRACES[0], PERSON] {
        assert_eq!(books.forget("other", owner_id).await, Forgetting::Unknown, "{owner_id}");
    }
    assert_eq!(books.forget("nowhere", PERSON).await, Forgetting::Unknown);
    assert!(matches!(books.forget("other", "user-2").await, Forgetting::Done { places: 2 }));
    assert_eq!(books.forget("other", "user-2").await, Forgetting::Before);
    assert_eq!(
        books.keys().await.iter().filter(|key| key.owner_name.as_deref() == Some("Bob")).count(),
        2
    );
    assert_eq!(books.problem().await, None);
    // Nor is what one organization's act erased another's.
    books.forget(ORG, "user-2").await;
    let swap = "update erased set act_id = 3 - act_id
                where rowid in (select min(rowid) from erased group by act_id)";
    let problem = damaged(&books, swap).await.unwrap();
    assert!(problem.what.contains("of another organization"), "{problem:?}");
}

#[tokio::test]
async fn while_somebody_reads_the_past_its_bytes_stay_and_it_says_so() {
    let mut books = storied().await;
    let mut reader = books.reader().await;
    sqlx::raw_sql("begin; select * from runs").execute(&mut reader.connection).await.unwrap();
    books.forget(ORG, PERSON).await;
    let error = books.writer.scrub().await.unwrap_err();
    assert!(matches!(error, Error::NotScrubbed { .. }) && error.hint().is_some(), "{error}");
    sqlx::raw_sql("rollback").execute(&mut reader.connection).await.unwrap();
    assert_eq!(books.forget(ORG, PERSON).await, Forgetting::Before);
    books.writer.scrub().await.unwrap();
    assert_eq!(traces(&bytes(&books)), [""; 0]);
}

/// What verifying a copy says that somebody changed behind the back of all triggers.
async fn damaged(books: &Books, sql: &str) -> Option<Problem> {
    let path = books.directory.path().join("copy.db");
    let target = path.display().to_string();
    let mut reader = books.reader().await;
    sqlx::query("vacuum into ?1").bind(target).execute(&mut reader.connection).await.unwrap();
    let options = SqliteConnectOptions::new().filename(&path).foreign_keys(false);
    let mut connection = options.connect().await.unwrap();
    let triggers: Vec<String> = sqlx::query_scalar(
        "select 'drop trigger ' || name from sqlite_schema where type = 'trigger'",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    for sql in triggers.into_iter().chain([sql.to_owned()]) {
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    }
    connection.close().await.unwrap();
    let verdicts = Reader::open(&path).await.unwrap().verify(&|_, _| None).await.unwrap();
    if let Some(mut script) = Script::start() {
        let (theirs, said) = script.verify(&path);
        assert_eq!(theirs, verify(&path).await, "{sql}: {said}");
    }
    fs::remove_file(&path).unwrap();
    verdicts.into_iter().find_map(|verdict| verdict.problem)
}

#[tokio::test]
async fn damage_of_what_is_left_is_found() {
    let mut books = storied().await;
    books.forget(ORG, PERSON).await;
    books.prune(ORG, Some(3), Some(5)).await.unwrap();
    assert_eq!(damaged(&books, "select 1").await, None);
    let mut wrong = Vec::new();
    for (sql, run_id, says) in [
        (
            "update parts set digest = zeroblob(32) where run_id = 2 and part = 'used'",
            2,
            "digest of a pruned part",
        ),
        (
            "update parts set digest = zeroblob(32) where run_id = 1 and part = 'events'",
            1,
            "digest of a pruned part",
        ),
        (
            "update parts set items = 9 where run_id = 2 and part = 'used'",
            2,
            "its `used` should be 2 and are 9",
        ),
        (
            "delete from parts where run_id = 1 and part = 'events'",
            1,
            "its `events` should be 2 and are 0",
        ),
        ("insert into parts select 1, 'notices', 1, zeroblob(32)", 1, "digest of a pruned part"),
        ("update runs set keys_seen = 7 where run_id = 1", 1, "the run itself was edited"),
        (
            "insert into audit select 1, 1, version, 'added', null, null, 1 from keys limit 1",
            1,
            "event 1 was inserted",
        ),
        (
            "insert into audit select 4, 2, version, 'used', null, 1, 2 from keys limit 1",
            2,
            "event 4 was inserted",
        ),
        (
            "insert into notices values (0, 1, 'field_started', 'tier', '[]')",
            1,
            "its `notices` are pruned",
        ),
        ("update keyframes set last_used_at = 9 where key = 2", 3, "the keyframe was edited"),
        ("update keyframes set first_seen_at = 9 where key = 2", 3, "the keyframe was edited"),
        ("update keyframes set unconfirmed = 1 where key = 2", 3, "the keyframe was edited"),
        ("delete from keyframes where key = 1", 3, "the keyframe was edited"),
        ("delete from keyframes", 3, "the keyframe was edited"),
        (
            "update key_versions set name = 'x' where version = (select version from keyframes where key = 1)",
            3,
            "",
        ),
        ("delete from acts where kind = 'pruned'", 1, "should have 2 events and has 0"),
        (
            "update acts set detail = json_set(detail, '$.policy.events', '9y') where kind = 'pruned'",
            6,
            "act 2 was edited",
        ),
        (
            "update acts set detail = json_set(detail, '$.horizons.used', 2) where kind = 'pruned'",
            1,
            "",
        ),
        (
            "update erased set seal = zeroblob(32) where rowid = (select max(e.rowid) from erased e
              join audit a on a.event_id = e.id where e.place = 'event')",
            0,
            "was edited",
        ),
        ("delete from erased where rowid = (select max(rowid) from erased)", 0, ""),
        // Where it was, said in another way.
        (
            "update erased set key_id = 'zz' where rowid = (select max(e.rowid) from erased e
              join audit a on a.event_id = e.id where e.place = 'event')",
            0,
            "was edited",
        ),
        (
            "insert into erased select 1, 'event', 999, null, 'new', 'owner_name', zeroblob(32)",
            6,
            "marked as erased by it",
        ),
        (
            "insert into erased select 2, 'event', 999, null, 'new', 'owner_name', zeroblob(32)",
            6,
            "marked as erased by it",
        ),
        (
            "insert into erased select 9, 'event', 999, null, 'new', 'owner_name', zeroblob(32)",
            0,
            "act 9, which is not there",
        ),
        ("update owners set name = 'Eve' where id = 'user-1'", 0, ""),
        ("update owners set name = 'erased' where id = 'user-2'", 0, ""),
    ] {
        match damaged(&books, sql).await {
            Some(problem)
                if problem.what.contains(says)
                    && (run_id == 0 || problem.run_id == Some(run_id)) => {}
            other => wrong.push((sql, other)),
        }
    }
    assert_eq!(wrong, []);
}

/// What is in the tables that pruning and forgetting change.
async fn content(books: &Books) -> Vec<String> {
    let mut reader = books.reader().await;
    let mut rows = Vec::new();
    for sql in [
        "select json_array(event_id, run_id, version, event, field, old_value, new_value) from audit",
        "select json_array(owner, type, id, name, role, other, hex(salt)) from owners",
        "select json_array(version, key, owner, name) from key_versions",
        "select json_array(notice_id, run_id, changes) from notices",
        "select json_array(key, version, last_used_at, last_seen_at) from keyframes",
        "select json_array(act_id, kind, detail) from acts",
        "select json_array(act_id, place, id, field) from erased",
        "select json_array(name, sql) from sqlite_schema order by name",
    ] {
        rows.extend(
            sqlx::query_scalar::<_, String>(sql).fetch_all(&mut reader.connection).await.unwrap(),
        );
    }
    rows
}

/// Asks a future so many times, and then drops it wherever it is.
async fn cut_off<T>(future: impl Future<Output = T>, mut polls: u32) -> Option<T> {
    let mut future = pin!(future);
    std::future::poll_fn(move |context| {
        if polls == 0 {
            return Poll::Ready(None);
        }
        polls -= 1;
        future.as_mut().poll(context).map(Some)
    })
    .await
}

#[tokio::test]
async fn what_is_cut_off_anywhere_is_not_done_and_the_triggers_hold() {
    let minutes = |runs: u64| Some(Duration::from_mins(runs));
    let policy = Policy { used_events: minutes(3), events: minutes(5) };
    for prunes in [true, false] {
        let (mut polls, mut done) = (1, false);
        let mut books = storied().await;
        let before = content(&books).await;
        while !done {
            let now = books.now();
            let cut = if prunes {
                cut_off(books.writer.prune(ORG, policy, now, "tester"), polls).await.map(drop)
            } else {
                cut_off(books.writer.forget(ORG, PERSON, now, "tester"), polls).await.map(drop)
            };
            // As a kill would: the connection goes, whatever it was at.
            let Books { writer, directory, runs, attributes } = books;
            drop(writer);
            let path = directory.path().join("keydrift.db");
            let writer = Writer::open(&path, Duration::from_secs(5), |_| {}).await.unwrap();
            books = Books { writer, directory, runs, attributes };
            let after = content(&books).await;
            done = cut.is_some() || after != before;
            assert!(done || after == before);
            assert_eq!(books.problem().await, None);
            assert!(books.execute("delete from audit").await.unwrap_err().contains("append-only"));
            assert!(
                books
                    .execute("update owners set name = 'x'")
                    .await
                    .unwrap_err()
                    .contains("append-only")
            );
            polls += 1 + polls / 4;
        }
        assert_eq!(books.number("select count(*) from acts").await, 1);
    }
}

#[tokio::test]
async fn what_fails_at_the_end_is_not_done() {
    let mut books = storied().await;
    let before = content(&books).await;
    let fails =
        "create temp trigger fails before insert on acts begin select raise(abort, 'x'); end";
    books.execute(fails).await.unwrap();
    let policy = Policy { used_events: Some(Duration::from_mins(1)), events: None };
    let now = books.now();
    assert!(books.writer.prune(ORG, policy, now, "tester").await.is_err());
    books.execute(fails).await.unwrap();
    assert!(books.writer.forget(ORG, PERSON, now, "tester").await.is_err());
    assert_eq!(content(&books).await, before);
    // And then it goes.
    assert!(books.writer.prune(ORG, policy, now, "tester").await.unwrap().is_some());
}

#[tokio::test]
async fn a_history_that_does_not_hold_is_not_pruned() {
    let mut books = storied().await;
    books.damage("update audit set new_value = 'x' where event_id = 3").await;
    let policy = Policy { used_events: None, events: Some(Duration::from_mins(1)) };
    let now = books.now();
    let error = books.writer.prune(ORG, policy, now, "tester").await.unwrap_err();
    assert!(matches!(error, Error::Broken { .. }), "{error}");
}

#[tokio::test]
async fn numbers_are_not_given_twice_where_the_newest_items_are_pruned() {
    let mut books = storied().await;
    let last = books.number("select last_event_id from runs order by run_id desc limit 1").await;
    let notice = books.number("select max(notice_id) from notices").await;
    books.prune(ORG, Some(0), Some(0)).await.unwrap();
    assert_eq!(books.number("select count(*) from audit").await, 0);
    assert_eq!(books.number("select count(*) from notices").await, 0);
    let keys = ["k2", "k3", "k4"].map(|id| (id, owned("Same", 9, &json!({"id": "u", "tier": 1}))));
    books.sync(&world(keys), &[]).await;
    assert_eq!(books.number("select min(event_id) from audit").await, last + 1);
    assert!(books.number("select ifnull(min(notice_id), 9999) from notices").await > notice);
    assert_eq!(books.problem().await, None);
    assert_eq!(books.reader().await.find_break().await.unwrap(), None);
}
