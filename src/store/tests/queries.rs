//! Questions and their answers.

use super::*;
use crate::inventory::{EventKind, Scope};

async fn told(books: &Books, filter: EventFilter) -> Vec<i64> {
    let rows = events(&mut books.reader().await, &filter).await;
    rows.into_iter().map(|row| row.event_id).collect()
}

/// Runs with the events 1 2 | 3 | 4 | 5 6 (of another organization) | none (failed) | 7.
async fn story() -> Books {
    let mut books = Books::new().await;
    let named = |name: &str| {
        let mut keys = two_keys();
        keys.get_mut("key_1").unwrap()["name"] = json!(name);
        keys
    };
    books.sync(&named("A"), &[]).await;
    books.sync(&named("B"), &[]).await;
    books.sync(&named("C"), &[]).await;
    books.sync_as("other", &two_keys(), &[]).await;
    let mut used = named("C");
    used.get_mut("key_2").unwrap()["last_used_at"] = json!(5);
    books.fail("no network").await;
    books.sync(&used, &[]).await;
    books
}

#[tokio::test]
async fn events_are_listed_by_time_kind_key_number_and_place() {
    let books = story().await;
    let all = EventFilter::default;
    let time = |run: i64, plus: i64| Some(at(START + 60 * run + 1 + plus));
    assert_eq!(told(&books, all()).await, [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(told(&books, EventFilter { reverse: true, ..all() }).await, [7, 6, 5, 4, 3, 2, 1]);
    // Since is inclusive, until is exclusive.
    assert_eq!(told(&books, EventFilter { since: time(1, 0), ..all() }).await, [3, 4, 5, 6, 7]);
    assert_eq!(told(&books, EventFilter { since: time(1, 1), ..all() }).await, [4, 5, 6, 7]);
    assert_eq!(told(&books, EventFilter { until: time(1, 0), ..all() }).await, [1, 2]);
    assert_eq!(told(&books, EventFilter { until: time(1, 1), ..all() }).await, [1, 2, 3]);
    assert_eq!(
        told(&books, EventFilter { since: time(2, 0), until: time(3, 1), ..all() }).await,
        [4, 5, 6]
    );
    assert_eq!(told(&books, EventFilter { since: time(9, 0), ..all() }).await, [0; 0]);
    assert_eq!(told(&books, EventFilter { until: time(-1, 0), ..all() }).await, [0; 0]);
    // The newest so many.
    assert_eq!(told(&books, EventFilter { limit: Some(2), ..all() }).await, [6, 7]);
    assert_eq!(told(&books, EventFilter { limit: Some(2), reverse: true, ..all() }).await, [7, 6]);
    assert_eq!(told(&books, EventFilter { limit: Some(0), ..all() }).await, [0; 0]);
    assert_eq!(
        told(&books, EventFilter { limit: Some(2), until: time(2, 0), ..all() }).await,
        [2, 3]
    );
    let kinds = vec![EventKind::Used, EventKind::Changed];
    assert_eq!(told(&books, EventFilter { kinds, ..all() }).await, [3, 4, 7]);
    let rare = |kinds: &[EventKind]| EventFilter { kinds: kinds.to_vec(), ..all() };
    let (baseline, changed) = (EventKind::Baseline, EventKind::Changed);
    assert_eq!(told(&books, rare(&[changed])).await, [3, 4]);
    assert_eq!(told(&books, rare(&[changed, baseline])).await, [1, 2, 3, 4, 5, 6]);
    assert_eq!(told(&books, rare(&[EventKind::Removed])).await, [0; 0]);
    let newest = EventFilter { limit: Some(3), ..rare(&[changed, baseline]) };
    assert_eq!(told(&books, newest.clone()).await, [4, 5, 6]);
    assert_eq!(told(&books, EventFilter { reverse: true, ..newest.clone() }).await, [6, 5, 4]);
    // A limit counts those of the organization alone.
    let of_default = Some("default".to_owned());
    assert_eq!(told(&books, EventFilter { organization: of_default, ..newest }).await, [2, 3, 4]);
    let early = EventFilter { until: time(2, 0), ..rare(&[baseline, changed]) };
    assert_eq!(told(&books, EventFilter { since: time(1, 0), ..early }).await, [3]);
    assert_eq!(told(&books, EventFilter { after: Some(6), ..all() }).await, [7]);
    assert_eq!(
        told(&books, EventFilter { after: Some(2), since: time(3, 0), ..all() }).await,
        [5, 6, 7]
    );
    let other = Some("other".to_owned());
    assert_eq!(told(&books, EventFilter { organization: other.clone(), ..all() }).await, [5, 6]);
    let key_1 = Some("key_1".to_owned());
    assert_eq!(told(&books, EventFilter { key_id: key_1.clone(), ..all() }).await, [1, 3, 4, 5]);
    let changed = EventFilter { key_id: key_1.clone(), limit: Some(1), ..rare(&[changed]) };
    assert_eq!(told(&books, changed).await, [4]);
    assert_eq!(
        told(&books, EventFilter { key_id: key_1, organization: other, ..all() }).await,
        [5]
    );
}

#[tokio::test]
async fn no_question_goes_through_a_long_history_from_end_to_end() {
    let books = story().await;
    let all = EventFilter::default;
    let rare = vec![EventKind::Removed, EventKind::Changed];
    let key_id = Some("key_1".to_owned());
    for filter in [
        all(),
        EventFilter { kinds: vec![EventKind::Used], ..all() },
        EventFilter { kinds: rare.clone(), ..all() },
        EventFilter { kinds: rare.clone(), unexplained: true, ..all() },
        EventFilter { key_id: key_id.clone(), ..all() },
        EventFilter { key_id, kinds: rare, ..all() },
    ] {
        for reverse in [false, true] {
            let sql = read::events_sql(&EventFilter { reverse, ..filter.clone() });
            let mut reader = books.reader().await;
            let explained =
                sqlx::query_as(sqlx::AssertSqlSafe(format!("explain query plan {sql}")))
                    .fetch_all(&mut reader.connection);
            let steps: Vec<(i64, i64, i64, String)> = explained.await.unwrap();
            for (_, parent, _, step) in steps {
                // Further in, `a` is the few acts that notes are among.
                let scans = ["SCAN audit", "SCAN k", "SCAN v"].contains(&step.as_str())
                    || (parent == 0 && step == "SCAN a");
                let sorts = parent == 0 && step == "USE TEMP B-TREE FOR ORDER BY";
                assert!(!scans && !sorts, "{filter:?}: {step}");
            }
        }
    }
}

#[tokio::test]
async fn keys_are_listed_by_scope_owner_and_use() {
    let mut books = Books::new().await;
    let keys = world([
        (
            "a",
            json!({"created_at": 100, "last_used_at": 500, "owner": {"id": "u1", "name": "Ada"}}),
        ),
        ("b", json!({"created_at": 100, "owner": {"id": "u2", "name": "Bob"}})),
        ("c", json!({"created_at": 300, "redacted_value": "sk-proj...", "owner": {"id": "Ada"}})),
        ("d", json!({"created_at": 200, "last_used_at": null})),
        ("gone", json!({})),
    ]);
    books.sync(&keys, &[]).await;
    let rest: World = keys.into_iter().filter(|(key, _)| key != "gone").collect();
    books.sync(&rest, &["gone"]).await;
    let list = async |filter: KeyFilter| {
        let mut ids = Vec::new();
        let each = |row: KeyRow| push(&mut ids, row.key_id);
        books.reader().await.list_keys(&filter, each).await.unwrap();
        ids
    };
    let all = KeyFilter::default;
    assert_eq!(list(all()).await, ["a", "b", "d", "c"]);
    assert_eq!(list(KeyFilter { removed: true, ..all() }).await, ["gone"]);
    assert_eq!(list(KeyFilter { scope: Some(Scope::Project), ..all() }).await, ["c"]);
    assert_eq!(list(KeyFilter { owner: Some("Ada".to_owned()), ..all() }).await, ["a", "c"]);
    assert_eq!(list(KeyFilter { unused_since: Some(at(201)), ..all() }).await, ["b", "d"]);
    assert_eq!(
        list(KeyFilter { unused_since: Some(at(501)), ..all() }).await,
        ["a", "b", "d", "c"]
    );
    assert_eq!(list(KeyFilter { organization: Some("x".to_owned()), ..all() }).await, [""; 0]);
}

#[tokio::test]
async fn an_error_of_who_is_listed_to_ends_the_list() {
    let books = story().await;
    let mut seen = 0;
    let each = |_| {
        seen += 1;
        Err(Error::Missing { path: PathBuf::new() })
    };
    let ended = books.reader().await.list_events(&EventFilter::default(), each).await;
    assert!(matches!(ended, Err(Error::Missing { .. })));
    assert_eq!(seen, 1);
}

#[tokio::test]
async fn runs_are_listed_newest_or_oldest_first() {
    let books = story().await;
    let list = async |organization: Option<&str>, limit, reverse| {
        let mut ids = Vec::new();
        let each = |row: RunRow| push(&mut ids, row.run_id);
        books.reader().await.list_runs(organization, limit, reverse, each).await.unwrap();
        ids
    };
    assert_eq!(list(None, None, false).await, [1, 2, 3, 4, 5, 6]);
    assert_eq!(list(None, Some(2), false).await, [5, 6]);
    assert_eq!(list(None, Some(2), true).await, [6, 5]);
    assert_eq!(list(Some("other"), None, false).await, [4]);
}
