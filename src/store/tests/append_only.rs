//! What was said stays said.

use super::*;

#[tokio::test]
async fn the_history_can_neither_be_changed_nor_cut_nor_replaced() {
    let mut books = Books::new().await;
    let owned = |tier: Option<i64>| {
        let mut keys = two_keys();
        keys.get_mut("key_1").unwrap()["owner"] = json!({"id": "u"});
        if let Some(tier) = tier {
            for item in keys.values_mut() {
                item["tier"] = json!(tier);
            }
        }
        keys
    };
    books.sync(&owned(None), &[]).await;
    books.sync(&owned(Some(1)), &[]).await;
    let before = books.sizes().await;
    assert!(before.iter().enumerate().all(|(table, rows)| *rows > 0 || table == 2), "{before:?}");
    for sql in [
        "update audit set new_value = 1",
        "update audit set event_id = 100 where event_id = 1",
        "delete from audit",
        "delete from audit where event_id = (select max(event_id) from audit)",
        "insert or replace into audit select * from audit where event_id = 2",
        "insert or replace into audit select * from audit where event_id = 1",
        "replace into audit (event_id, run_id, version, event) values (1, 1, 1, 'used')",
        "insert into audit (event_id, run_id, version, event) values (0, 1, 1, 'used')",
        "update or replace audit set event_id = 2 where event_id = 1",
        "update runs set finished_at = finished_at + 1",
        "delete from runs",
        "insert or replace into runs select * from runs where run_id = 2",
        "update key_versions set name = 'x'",
        "delete from key_versions",
        "insert or replace into key_versions select * from key_versions where version = 1",
        "update owners set name = 'x'",
        "delete from owners",
        "insert or replace into owners select * from owners",
        "update notices set changes = '[]'",
        "delete from notices",
        "insert or replace into notices select * from notices",
    ] {
        let error = books.execute(sql).await.unwrap_err();
        assert!(error.contains("append-only"), "{sql}: {error}");
    }
    assert_eq!(books.sizes().await, before);
}

#[tokio::test]
async fn a_run_is_not_replaced_by_another_of_the_same_token() {
    let mut books = Books::new().await;
    books.sync(&two_keys(), &[]).await;
    let error = books
        .execute(
            "create temp table copy as select * from runs;
             update copy set run_id = 99;
             insert or replace into runs select * from copy",
        )
        .await
        .unwrap_err();
    assert!(error.contains("append-only"), "{error}");
    assert_eq!(books.number("select max(run_id) from runs").await, 1);
}

#[tokio::test]
async fn an_event_stays_as_it_was_when_its_key_and_owner_change() {
    let mut books = Books::new().await;
    let owned = |name: &str, owner: &str| {
        world([("key_1", json!({"name": name, "owner": {"id": "u", "name": owner}}))])
    };
    books.sync(&owned("A", "Ada"), &[]).await;
    let first = books.events().await;
    books.sync(&owned("B", "Bob"), &[]).await;
    books.sync(&World::new(), &["key_1"]).await;
    books.sync(&owned("C", "Ada"), &[]).await;
    let all = books.events().await;
    assert_eq!(all[..1], first);
    let names: Vec<_> = all.iter().map(|event| event.key_name.as_deref().unwrap()).collect();
    assert_eq!(names, ["A", "B", "B", "B", "C"]);
    // A state of an owner that is back is not written again.
    assert_eq!(books.number("select count(*) from owners").await, 2);
}
