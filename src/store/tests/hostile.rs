//! Whatever the API sends, it is what is read back.

use super::*;
use crate::inventory::{Column, Key, Scope};

fn hostile() -> Vec<String> {
    let mut texts: Vec<String> = [
        "\0",
        "a\0b",
        "\0\0",
        "\u{1}",
        "\u{1}\u{2}\u{3}",
        "'",
        "\"",
        "\\",
        "\\u0000",
        "';--",
        "{\"a\":1}",
        "[1]",
        "123",
        "1.50",
        "true",
        "null",
        "json:",
        "json:1",
        "json:\"x\"",
        "🦀🔑",
        "\u{202e}rtl",
        "\u{1b}[31m",
        "\r\n\t",
        " ",
        "<script>",
        "=cmd()",
        "\u{feff}",
        "\u{fffe}\u{ffff}",
        "\u{7f}",
        "é\u{301}",
        "2026-11-23T12:29:00Z",
    ]
    .map(str::to_owned)
    .to_vec();
    texts.push("10 KB \0 \"'\\".repeat(1_000));
    texts
}

/// A world in which every text is `text`, as id, in columns and in paths.
fn item(text: &str) -> serde_json::Value {
    json!({
        "name": text, "redacted_value": text, "project_id": text, "project_name": text,
        "owner": {"id": text, "type": text, "name": text, "role": text, text: [text, {"deep": null}]},
        "created_at": text, text: text, "list": [text], "last_used_at": text,
    })
}

#[tokio::test]
async fn hostile_texts_survive_in_every_column_and_in_every_event() {
    let mut books = Books::new().await;
    let texts = hostile();
    let first: World = texts.iter().map(|text| (text.clone(), item(text))).collect();
    // The same keys, each with the text of another.
    let turned = texts.iter().skip(1).chain(&texts[..1]);
    let second: World =
        texts.iter().zip(turned).map(|(key, text)| (key.clone(), item(text))).collect();
    for (number, state) in [&first, &second].into_iter().enumerate() {
        let recorded = books.sync(state, &[]).await;
        assert_eq!(recorded.counts.is_drift(), number == 1);
        let again = books.sync(state, &[]).await;
        assert!(!again.counts.is_drift(), "{again:?}");
        let snapshot = books.whole(ORG).await;
        for (key_id, item) in state {
            assert_eq!(snapshot.keys[&id(key_id)], sighting(key_id, item).key);
        }
        check_replay(&mut books).await;
    }
    let rows = books.keys().await;
    for row in &rows {
        assert_eq!(
            row.name.as_ref(),
            second[&row.key_id]["name"].as_str().map(str::to_owned).as_ref()
        );
        let other: serde_json::Value = serde_json::from_str(&row.other).unwrap();
        assert_eq!(other["created_at"], second[&row.key_id]["created_at"]);
    }
    // All gone and all back: ids are found again.
    let gone: Vec<&str> = texts.iter().map(String::as_str).collect();
    assert_eq!(books.sync(&World::new(), &gone).await.counts.removed, texts.len() as u64);
    for event in books.events().await.iter().filter(|event| event.event == "removed") {
        let json = event.old_value.as_deref().unwrap();
        let scope = Scope::parse(&event.scope).unwrap();
        let key = Key::from_json(scope, json).unwrap();
        assert_eq!(key, sighting(&event.key_id, &second[&event.key_id]).key);
    }
    assert_eq!(books.sync(&second, &[]).await.counts.restored, texts.len() as u64);
    check_replay(&mut books).await;
    assert_eq!(
        books
            .number("select count(*) from pragma_integrity_check where integrity_check <> 'ok'")
            .await,
        0
    );
}

async fn check_replay(books: &mut Books) {
    let snapshot = books.whole(ORG).await;
    let replayed = books.reader().await.replay(Some(ORG), Timestamp::MAX).await.unwrap();
    assert_eq!(replayed[ORG].keys, snapshot.keys.into_iter().collect());
}

#[tokio::test]
async fn texts_that_look_like_numbers_stay_texts() {
    let mut books = Books::new().await;
    books.sync(&world([("1", json!({"name": "007", "tier": "1"})), ("2", json!({}))]), &[]).await;
    books.sync(&world([("1", json!({"name": "1e3", "tier": "2"})), ("2", json!({}))]), &[]).await;
    let changed: Vec<_> = books
        .events()
        .await
        .into_iter()
        .filter(|e| e.event == "changed")
        .map(|e| (e.field.unwrap(), e.old_value.unwrap(), e.new_value.unwrap()))
        .collect();
    let row =
        |field: &str, old: &str, new: &str| (field.to_owned(), old.to_owned(), new.to_owned());
    assert_eq!(changed, [row("name", "007", "1e3"), row("tier", "\"1\"", "\"2\"")]);
    assert_eq!(books.number("select count(*) from audit where event = 'changed' and typeof(new_value) = 'text' and typeof(old_value) = 'text'").await, 2);
}

#[tokio::test]
async fn times_of_all_years_and_times_that_are_none() {
    let mut books = Books::new().await;
    let times = [
        json!(Timestamp::MIN.unix()),
        json!(Timestamp::MAX.unix()),
        json!(0),
        json!(-1),
        json!(null),
        json!(Timestamp::MAX.unix() + 1),
        json!(i64::MIN),
        json!(1.5),
        json!("2026"),
        json!([1]),
        json!(true),
    ];
    for time in &times {
        let key = json!({"last_used_at": time, "created_at": time, "expires_at": time});
        let state = world([("key_1", key.clone()), ("key_2", json!({}))]);
        books.sync(&state, &[]).await;
        assert!(!books.sync(&state, &[]).await.counts.is_drift());
        check_replay(&mut books).await;
        let seen = sighting("key_1", &key).key;
        let row = books.keys().await.into_iter().find(|row| row.key_id == "key_1").unwrap();
        let shown = seen.time(Column::LastUsedAt).map(|time| time.to_string());
        assert_eq!([&row.created_at, &row.last_used_at, &row.expires_at], [&shown; 3]);
    }
    let used = books.events().await.into_iter().filter(|e| e.event == "used");
    let used: Vec<_> = used.map(|e| e.new_value.unwrap_or("-".to_owned())).collect();
    assert_eq!(
        used,
        [
            "9999-12-31T23:59:59Z",
            "1970-01-01T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "-",
            "json:253402300800",
            "json:-9223372036854775808",
            "json:1.5",
            "json:\"2026\"",
            "json:[1]",
            "json:true",
        ]
    );
}
