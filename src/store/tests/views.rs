//! The views say what the design says.
#![expect(clippy::too_many_lines, reason = "a table or a story is best read in one piece")]

use super::*;

fn full_key() -> serde_json::Value {
    json!({
        "name": "CI", "redacted_value": "sk-proj...own", "created_at": 1_760_000_000,
        "last_used_at": 1_760_000_100, "expires_at": null, "project_id": "proj_1", "project_name": "P",
        "tier": 2, "scopes": ["b", "a"],
        "owner": {"type": "user", "id": "u", "name": "Ada", "role": "owner", "created_at": 7},
    })
}

#[tokio::test]
async fn a_key_is_shown_whole() {
    let mut books = Books::new().await;
    books.sync(&world([("key_1", full_key())]), &[]).await;
    let text = |text: &str| Some(text.to_owned());
    let other = r#"{"scopes":["b","a"],"tier":2,"owner.created_at":7}"#;
    assert_eq!(
        books.keys().await,
        [KeyRow {
            organization: ORG.to_owned(),
            scope: "project".to_owned(),
            key_id: "key_1".to_owned(),
            name: text("CI"),
            redacted_value: text("sk-proj...own"),
            project_id: text("proj_1"),
            project_name: text("P"),
            owner_type: text("user"),
            owner_id: text("u"),
            owner_name: text("Ada"),
            owner_role: text("owner"),
            created_at: text("2025-10-09T08:53:20Z"),
            last_used_at: text("2025-10-09T08:55:00Z"),
            expires_at: None,
            other: other.to_owned(),
            own_key: 1,
            first_seen_at: run_at(0),
            last_seen_at: run_at(0),
            removed_at: None,
            owner_project_access: None,
            project_archived: Some(0),
            project_archived_at: None,
        }]
    );
    let [event] = &books.events().await[..] else { panic!("one event") };
    assert_eq!((event.event.as_str(), &event.field, &event.old_value), ("baseline", &None, &None));
    assert_eq!((&event.observed_at, &event.previous_observed_at), (&run_at(0), &None));
    assert_eq!((event.scope.as_str(), event.key_name.as_deref()), ("project", Some("CI")));
    assert_eq!(
        event.new_value.as_deref().unwrap(),
        format!(
            "{{\"key_id\":\"key_1\",\"name\":\"CI\",\"redacted_value\":\"sk-proj...own\",\
             \"project_id\":\"proj_1\",\"project_name\":\"P\",\"owner_type\":\"user\",\"owner_id\":\"u\",\
             \"owner_name\":\"Ada\",\"owner_role\":\"owner\",\"created_at\":\"2025-10-09T08:53:20Z\",\
             \"last_used_at\":\"2025-10-09T08:55:00Z\",\"expires_at\":null,\"other\":{other}}}"
        )
    );
    let columns = "select count(*) from pragma_table_info('current_keys') c
                   join pragma_table_info('all_keys') a on a.name = c.name and a.cid = c.cid";
    assert_eq!(books.number(columns).await, 18);
}

#[tokio::test]
async fn each_kind_of_event_has_its_values_and_its_window() {
    let mut books = Books::new().await;
    books.sync(&two_keys(), &[]).await;
    let mut later = two_keys();
    later.remove("key_2");
    later.insert(
        "key_1".to_owned(),
        json!({"name": "Uno", "created_at": 1_760_000_000,
        "redacted_value": "sk-admin...abc", "last_used_at": 1_764_000_030}),
    );
    later.insert("key_3".to_owned(), json!({"name": "Three"}));
    books.fail("no network").await;
    books.sync(&later, &["key_2"]).await;
    books.sync(&two_keys(), &["key_3"]).await;

    let told: Vec<_> = books
        .events()
        .await
        .into_iter()
        .map(|e| {
            let short = |value: Option<String>| {
                value.map_or("-".to_owned(), |v| v.chars().take(18).collect())
            };
            let from = e.previous_observed_at.unwrap_or("-".to_owned());
            format!(
                "{} {} {from} {} {} {} {} {} {}",
                e.event_id,
                e.run_id,
                e.observed_at,
                e.event,
                e.key_id,
                e.field.unwrap_or("-".to_owned()),
                short(e.old_value),
                short(e.new_value)
            )
        })
        .collect();
    let (first, third) = (at(START).to_string(), at(START + 120).to_string());
    let (r0, r2, r3) = (run_at(0), run_at(2), run_at(3));
    let whole = |key: &str| format!("{{\"key_id\":\"{key}\",");
    assert_eq!(
        told,
        [
            format!("1 1 - {r0} baseline key_1 - - {}", whole("key_1")),
            format!("2 1 - {r0} baseline key_2 - - {}", whole("key_2")),
            format!("3 3 {first} {r2} added key_3 - - {}", whole("key_3")),
            format!("4 3 {first} {r2} changed key_1 name One Uno"),
            format!("5 3 {first} {r2} used key_1 last_used_at - 2025-11-24T16:00:3"),
            format!("6 3 {first} {r2} removed key_2 - {} -", whole("key_2")),
            format!("7 4 {third} {r3} restored key_2 - - {}", whole("key_2")),
            format!("8 4 {third} {r3} changed key_1 name Uno One"),
            format!("9 4 {third} {r3} used key_1 last_used_at 2025-11-24T16:00:3 -"),
            format!("10 4 {third} {r3} removed key_3 - {} -", whole("key_3")),
        ]
    );
    let gone: Vec<_> = books
        .keys()
        .await
        .into_iter()
        .map(|k| (k.key_id, k.first_seen_at, k.last_seen_at, k.removed_at))
        .collect();
    let key = |key: &str| key.to_owned();
    assert_eq!(
        gone,
        [
            (key("key_1"), run_at(0), run_at(3), None),
            (key("key_2"), run_at(0), run_at(3), None),
            (key("key_3"), run_at(2), run_at(2), Some(run_at(3))),
        ]
    );
}

#[tokio::test]
async fn a_key_that_is_not_confirmed_keeps_the_time_it_was_seen() {
    let mut books = Books::new().await;
    books.sync(&two_keys(), &[]).await;
    let mut one = two_keys();
    one.remove("key_2");
    let seen = async |books: &Books| {
        let keys = books.keys().await;
        keys.into_iter().map(|key| key.last_seen_at).collect::<Vec<_>>()
    };
    books.sync(&two_keys(), &[]).await;
    books.sync(&one, &[]).await;
    assert_eq!(seen(&books).await, [run_at(2), run_at(1)]);
    books.fail("no network").await;
    books.sync(&one, &[]).await;
    assert_eq!(seen(&books).await, [run_at(4), run_at(1)]);
    // Seen again, unchanged.
    books.sync(&two_keys(), &[]).await;
    assert_eq!(seen(&books).await, [run_at(5), run_at(5)]);
    // Unconfirmed, then gone: it was last seen before.
    books.sync(&one, &[]).await;
    books.sync(&one, &["key_2"]).await;
    assert_eq!(seen(&books).await, [run_at(7), run_at(5)]);
    // Restored, unconfirmed with a change on its return.
    books.sync(&two_keys(), &[]).await;
    books.sync(&one, &[]).await;
    let mut renamed = two_keys();
    renamed.get_mut("key_2").unwrap()["name"] = json!("Due");
    books.sync(&renamed, &[]).await;
    assert_eq!(seen(&books).await, [run_at(10), run_at(10)]);
    assert_eq!(books.number("select count(*) from keys where last_seen_run is not null").await, 0);
    assert_eq!(books.runs().await[2].unconfirmed, 1);
}

#[tokio::test]
async fn failed_and_held_runs_leave_nothing_but_their_row() {
    let mut books = Books::new().await;
    books.sync(&two_keys(), &[]).await;
    let before = books.sizes().await;
    let keys = books.keys().await;
    let mut draft = books.draft(ORG);
    draft.tally =
        Tally { keys_seen: 1, unconfirmed: 2, skipped: 3, pages: 4, requests: 5, retries: 6 };
    draft.notices = vec!["one".to_owned(), "two".to_owned()];
    draft.trigger = Trigger::Missed;
    let outcome = Outcome::Failed { error: "no network", withheld: None };
    let failed = books.writer.record_run(&draft, &outcome).await.unwrap();
    assert_eq!((failed.run_id, failed.keys_after), (2, 2));
    let held = books.draft(ORG);
    let missing = vec![id("key_1"), id("k\"\0'")];
    let withheld =
        Withholding { missing: missing.clone(), stranger: Some(Some("org-b".to_owned())) };
    let outcome = Outcome::Held { error: "too many", withheld: &withheld };
    books.writer.record_run(&held, &outcome).await.unwrap();
    let mut expected = before.clone();
    expected[1] += 2;
    expected[2] += 1;
    assert_eq!(books.sizes().await, expected);
    assert_eq!(books.keys().await, keys);

    let runs = books.runs().await;
    let run = &runs[1];
    assert_eq!((run.status.as_str(), run.trigger.as_str()), ("failed", "missed"));
    assert_eq!(run.error.as_deref(), Some("no network"));
    assert_eq!(run.notice.as_deref(), Some("one; two"));
    let counts =
        [run.keys_seen, run.unconfirmed, run.skipped, run.pages, run.requests, run.retries];
    assert_eq!(counts, [1, 2, 3, 4, 5, 6]);
    assert_eq!(runs[2].status, "held");
    assert!(runs.iter().all(|run| run.digest.as_ref().is_some_and(|digest| digest.len() == 64)));

    let accepted = books.writer.load_accepted(ORG).await.unwrap().unwrap();
    assert_eq!((accepted.run_id, accepted.reason.as_str()), (3, "too many"));
    assert_eq!(accepted.acceptance.missing, missing.into_iter().collect());
    assert_eq!(accepted.acceptance.stranger, Some(Some("org-b".to_owned())));
    assert_eq!(books.writer.load_accepted("other").await.unwrap(), None);
    // A run that fails later does not hide it, one that succeeds does.
    books.fail("no network").await;
    assert_eq!(books.writer.load_accepted(ORG).await.unwrap().unwrap().run_id, 3);
    books.sync(&two_keys(), &[]).await;
    assert_eq!(books.writer.load_accepted(ORG).await.unwrap(), None);
}

/// A row of the view `key_drift_daily`.
type DayRow = (String, String, i64, i64, i64, i64, i64);

#[tokio::test]
async fn a_day_counts_what_drifted_on_it() {
    const DAY: i64 = 86_400;
    let mut books = Books::new().await;
    let mut one = two_keys();
    one.remove("key_2");
    books.sync(&two_keys(), &[]).await;
    books.runs = DAY / 60;
    books.sync(&one, &["key_2"]).await;
    books.sync(&two_keys(), &[]).await;
    books.sync_as("other", &one, &[]).await;
    books.runs = 2 * DAY / 60;
    books.fail("no network").await;
    let sql = "select day, organization, added, removed, used, changed, keys from key_drift_daily order by 1, 2";
    let rows: Vec<DayRow> =
        sqlx::query_as(sql).fetch_all(&mut books.writer.connection).await.unwrap();
    let row = |day: &str, name: &str, added, removed, keys| {
        (day.to_owned(), name.to_owned(), added, removed, 0, 0, keys)
    };
    assert_eq!(
        rows,
        [
            row("2025-11-24", ORG, 0, 0, 2),
            row("2025-11-25", ORG, 1, 1, 2),
            row("2025-11-25", "other", 0, 0, 1),
            row("2025-11-26", ORG, 0, 0, 2),
        ]
    );
}

#[tokio::test]
async fn an_unchanged_organization_costs_one_row() {
    let mut books = Books::new().await;
    let mut keys = two_keys();
    keys.insert("key_3".to_owned(), full_key());
    books.sync(&keys, &[]).await;
    books.sync(&keys, &[]).await;
    let changes = books.compare(ORG, &keys, &[]).await;
    let before = books.sizes().await;
    let rows = books.number("select total_changes()").await;
    let draft = books.draft(ORG);
    books
        .writer
        .record_run(
            &draft,
            &Outcome::Ok {
                changes: &changes,
                header: None,
                attributed: &Attributed::default(),
                judge: None,
            },
        )
        .await
        .unwrap();
    assert_eq!(books.number("select total_changes()").await, rows + 1);
    let mut expected = before;
    expected[1] += 1;
    assert_eq!(books.sizes().await, expected);
}
