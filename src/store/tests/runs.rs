//! The row of runs.

use super::*;

#[tokio::test]
async fn numbers_rise_across_organizations() {
    let mut books = Books::new().await;
    for name in ["b", "a", "b", "c"] {
        let keys = if books.runs == 2 { World::new() } else { two_keys() };
        books.sync_as(name, &keys, &["key_1"]).await;
    }
    let rows: Vec<_> =
        books.events().await.into_iter().map(|e| (e.event_id, e.run_id, e.organization)).collect();
    let ids: Vec<_> = rows.iter().map(|row| row.0).collect();
    assert_eq!(ids, [1, 2, 3, 4, 5, 6, 7]);
    assert!(rows.is_sorted_by_key(|row| row.1));
    assert_eq!(books.reader().await.list_organizations().await.unwrap(), ["a", "b", "c"]);
    assert_eq!(books.reader().await.last_event_id().await.unwrap(), 7);
}

#[tokio::test]
async fn a_run_never_finishes_before_the_one_before_it() {
    let mut books = Books::new().await;
    books.runs = 10;
    books.sync(&two_keys(), &[]).await;
    books.runs = 0;
    let back = books.sync_as("other", &two_keys(), &[]).await;
    assert_eq!(back.finished_at.to_string(), run_at(10));
    assert_eq!(
        back.notice.unwrap(),
        "the clock went back by 600 s; the latest time before is kept"
    );
    // Within a run.
    books.runs = 20;
    let mut draft = books.draft(ORG);
    draft.finished_at = at(draft.started_at.unix() - 30);
    let outcome = Outcome::Failed { error: "e", withheld: None };
    let run = books.writer.record_run(&draft, &outcome).await.unwrap();
    assert_eq!(run.finished_at, draft.started_at);
    let on_time = books.sync(&two_keys(), &[]).await;
    assert_eq!(on_time.notice, None);
}

#[tokio::test]
async fn the_header_is_kept_until_another_comes() {
    let mut books = Books::new().await;
    for (header, remembered) in
        [(None, None), (Some("a"), Some("a")), (None, Some("a")), (Some("b"), Some("b"))]
    {
        let changes = books.compare(ORG, &two_keys(), &[]).await;
        let draft = books.draft(ORG);
        books
            .writer
            .record_run(
                &draft,
                &Outcome::Ok {
                    changes: &changes,
                    header,
                    attributed: &Attributed::default(),
                    judge: None,
                },
            )
            .await
            .unwrap();
        let (_, found) = books.writer.load_snapshot(ORG, &is_own).await.unwrap();
        assert_eq!(found.as_deref(), remembered);
    }
}

#[tokio::test]
async fn the_cost_of_a_run_grows_no_faster_than_its_changes() {
    // Each step takes a fraction of a second; where a statement goes through all keys for each key, the
    // first two alone take a minute.
    let all = |used: i64| -> World {
        let key = |n: i64| {
            (
                format!("key_{n}"),
                json!({"last_used_at": n + used, "owner": {"id": format!("u{n}")}}),
            )
        };
        (0..20_000).map(key).collect()
    };
    let gone: Vec<String> = all(0).into_keys().collect();
    let gone: Vec<&str> = gone.iter().map(String::as_str).collect();
    let life = async {
        let mut books = Books::new().await;
        books.sync(&all(0), &[]).await;
        books.sync(&all(1), &[]).await;
        books.sync(&World::new(), &gone).await;
        books.sync(&all(1), &[]).await.counts.restored
    };
    assert_eq!(tokio::time::timeout(Duration::from_mins(1), life).await, Ok(20_000));
}
