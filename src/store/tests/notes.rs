//! Notes are links of the chain, shown where they belong, and explain what came before them.

use super::evidence::Script;
use super::*;
use crate::inventory::EventKind;

async fn three_runs() -> Books {
    let mut books = Books::new().await;
    books.sync(&two_keys(), &[]).await;
    let mut world = two_keys();
    world.get_mut("key_1").unwrap()["name"] = json!("Renamed");
    world.insert("key_3".to_owned(), json!({"name": "Three", "created_at": 1_760_000_002}));
    books.sync(&world, &[]).await;
    world.remove("key_2");
    world.get_mut("key_1").unwrap()["name"] = json!("Renamed again");
    books.sync(&world, &["key_2"]).await;
    books
}

impl Books {
    async fn note(&mut self, noted: Noted, text: &str) -> i64 {
        let now = at(START + 60 * self.runs + 30);
        self.writer.note(ORG, &noted, text, now, "ana").await.unwrap()
    }

    async fn unexplained(&self) -> Vec<i64> {
        let drift = [EventKind::Added, EventKind::Removed, EventKind::Restored, EventKind::Changed];
        let filter =
            EventFilter { unexplained: true, kinds: drift.to_vec(), ..EventFilter::default() };
        let rows = events(&mut self.reader().await, &filter).await;
        rows.iter().map(|row| row.event_id).collect()
    }
}

#[tokio::test]
async fn a_note_is_chained_and_shown_beside_its_event() {
    let mut books = three_runs().await;
    let text = "rotation,\n\"ticket\" 1234 ✓";
    let first = books.note(Noted::Event(3), text).await;
    let second = books.note(Noted::Event(3), "and done").await;
    assert_eq!(second, first + 1);
    books.check_whole().await;
    assert_eq!(accused_by_script(&mut books).await, None);
    let shown = events(&mut books.reader().await, &EventFilter::default()).await;
    let with_notes: Vec<_> = shown.iter().filter(|row| row.notes != "[]").collect();
    assert_eq!(with_notes.len(), 1);
    assert_eq!(with_notes[0].event_id, 3);
    assert_eq!(note_texts(&with_notes[0].notes), [text, "and done"]);
    let event = books.reader().await.load_event(3).await.unwrap().unwrap();
    assert_eq!(&event, with_notes[0]);
    assert_eq!(books.reader().await.load_event(99).await.unwrap(), None);
    // Whoever changes it, or takes it away, is found.
    books.execute("drop trigger acts_no_update; drop trigger acts_no_delete").await.unwrap();
    books
        .execute("update acts set detail = json_set(detail, '$.text', 'nothing') where act_id = 1")
        .await
        .unwrap();
    let verdicts = books.reader().await.verify(&|_, _| None).await.unwrap();
    let problem = verdicts[0].problem.as_ref().unwrap();
    assert!(problem.what.contains("act 1 was edited"), "{problem:?}");
    if let Some(said) = accused_by_script(&mut books).await {
        assert!(said.contains("act 1"), "{said}");
    }
}

/// What the stand-alone verifier says of a history that does not hold; nothing where there is no Python.
async fn accused_by_script(books: &mut Books) -> Option<String> {
    let mut script = Script::start()?;
    // In one file, with no log beside it.
    let runs = books.runs;
    let fresh = Books::new().await;
    let directory = std::mem::replace(books, fresh).close().await;
    let (accused, said) = script.verify(&directory.path().join("keydrift.db"));
    *books = Books::reopen(directory, runs).await;
    assert!(!accused.is_empty(), "{said}");
    accused.values().any(Option::is_some).then_some(said)
}

#[tokio::test]
async fn a_note_on_an_event_explains_it_and_one_on_a_key_all_up_to_then() {
    let mut books = three_runs().await;
    let drift = books.unexplained().await;
    let kinds: Vec<String> = books.events().await.into_iter().map(|row| row.event).collect();
    assert_eq!(kinds, ["baseline", "baseline", "added", "changed", "changed", "removed"]);
    assert_eq!(drift, [3, 4, 5, 6]);
    books.note(Noted::Event(6), "gone for good").await;
    assert_eq!(books.unexplained().await, [3, 4, 5]);
    books.note(Noted::Key("key_1".to_owned()), "renamed on purpose").await;
    assert_eq!(books.unexplained().await, [3]);
    let notes = books.reader().await.list_key_notes(ORG, "key_1").await.unwrap();
    assert_eq!(
        notes.iter().map(|note| note.text.as_str()).collect::<Vec<_>>(),
        ["renamed on purpose"]
    );
    // What comes later is not explained by what was said before.
    let mut world = two_keys();
    world.remove("key_2");
    world.get_mut("key_1").unwrap()["name"] = json!("Renamed a third time");
    world.insert("key_3".to_owned(), json!({"name": "Three", "created_at": 1_760_000_002}));
    books.sync(&world, &[]).await;
    assert_eq!(books.unexplained().await, [3, 7]);
    books.check_whole().await;
}

#[tokio::test]
async fn a_note_of_one_organization_says_nothing_of_another() {
    let mut books = Books::new().await;
    for name in ["a", "b"] {
        books.sync_as(name, &two_keys(), &[]).await;
        let mut world = two_keys();
        world.get_mut("key_1").unwrap()["name"] = json!("Renamed");
        books.sync_as(name, &world, &[]).await;
    }
    let now = at(START + 600);
    books.writer.note("a", &Noted::Key("key_1".to_owned()), "mine", now, "ana").await.unwrap();
    let kinds = vec![EventKind::Changed];
    let filter = EventFilter { unexplained: true, kinds, ..EventFilter::default() };
    let rows = events(&mut books.reader().await, &filter).await;
    assert_eq!(rows.iter().map(|row| row.organization.as_str()).collect::<Vec<_>>(), ["b"]);
    assert_eq!(books.reader().await.list_key_notes("b", "key_1").await.unwrap(), []);
    let unknown = books.writer.note("c", &Noted::Event(1), "x", now, "ana").await;
    assert!(unknown.is_err());
}

#[tokio::test]
async fn a_note_is_never_earlier_than_what_is_recorded() {
    let mut books = three_runs().await;
    books.writer.note(ORG, &Noted::Event(3), "x", at(5), "ana").await.unwrap();
    let noted_at = "select strftime('%s', noted_at) + 0 from note_history";
    assert_eq!(books.number(noted_at).await, START + 60 * 2 + 1);
    books.check_whole().await;
}

#[tokio::test]
async fn notes_stay_when_their_event_is_pruned() {
    let mut books = three_runs().await;
    books.note(Noted::Event(3), "stays").await;
    let policy = Policy { used_events: None, events: Some(Duration::from_mins(1)) };
    let later = at(START + 1_000_000);
    books.writer.prune(ORG, policy, later, "ana").await.unwrap().unwrap();
    assert_eq!(books.number("select count(*) from note_history").await, 1);
    assert!(books.events().await.is_empty());
    books.check_whole().await;
}
