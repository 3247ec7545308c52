//! One writer at a time, and what the one before left.

use super::*;
use crate::store::lock::{Owed, RunNote};

fn note(token: i64) -> RunNote {
    RunNote {
        organization: ORG.to_owned(),
        trigger: Trigger::Schedule,
        started_at: START + 600,
        token,
        owed: None,
        notices: Vec::new(),
        skipped: 0,
    }
}

/// Drops the writer as the end of its process would, and opens the database anew.
async fn reopen(books: Books) -> Books {
    let Books { writer, directory, runs, attributes } = books;
    drop(writer);
    // The thread of the connection that was dropped may still be closing it.
    let writer = loop {
        match open_at(&directory.path().join("keydrift.db")).await {
            Err(Error::Busy { .. }) => {}
            opened => break opened.unwrap(),
        }
    };
    Books { writer, directory, runs, attributes }
}

#[tokio::test]
async fn a_second_writer_learns_who_holds_the_database_and_gives_up() {
    let mut books = Books::new().await;
    let pid = std::process::id();
    let mut told = Vec::new();
    let second = Writer::open(&books.path(), Duration::ZERO, |holder| {
        told.push(holder.to_owned());
    })
    .await;
    let Err(Error::Held { holder, .. }) = second else { panic!("{second:?}") };
    assert_eq!((holder, told.len()), (format!("process {pid}"), 0));
    books.writer.begin_run(&note(7)).unwrap();
    let wait = Duration::from_millis(60);
    let second = Writer::open(&books.path(), wait, |holder| told.push(holder.to_owned())).await;
    let busy = format!("process {pid} (a sync of `default` since {})", at(START + 600));
    assert_eq!(told, std::slice::from_ref(&busy));
    assert!(second.unwrap_err().to_string().starts_with(&busy));
    // By another name of the same file too.
    let link = books.directory.path().join("link.db");
    std::os::unix::fs::symlink(books.path(), &link).unwrap();
    assert!(matches!(open_at(&link).await, Err(Error::Held { .. })));
    // The lock goes with who held it.
    let Books { writer, directory, .. } = books;
    drop(writer);
    open_at(&directory.path().join("link.db")).await.unwrap();
}

#[tokio::test]
async fn a_second_writer_waits_for_the_first() {
    let mut books = Books::new().await;
    books.sync(&two_keys(), &[]).await;
    let Books { writer, directory, .. } = books;
    let path = directory.path().join("keydrift.db");
    let mut first = Some(writer);
    let second = Writer::open(&path, Duration::from_mins(1), |_| drop(first.take())).await;
    assert_eq!(second.unwrap().load_snapshot(ORG, &is_own).await.unwrap().0.outline.len(), 2);
}

#[tokio::test]
async fn a_run_that_was_killed_is_recorded_as_interrupted() {
    let mut books = Books::new().await;
    books.sync(&two_keys(), &[]).await;
    books.writer.begin_run(&note(77)).unwrap();
    let mut books = reopen(books).await;
    let now = at(START + 1_000);
    let settled = books.writer.settle_run(now).await.unwrap();
    assert_eq!(settled, Some(note(77)));
    let run = books.runs().await.pop().unwrap();
    assert_eq!((run.status.as_str(), run.trigger.as_str()), ("failed", "schedule"));
    assert_eq!(
        (&run.started_at, &run.finished_at),
        (&run.started_at, &at(START + 600).to_string())
    );
    assert_eq!(
        run.error.unwrap(),
        format!("interrupted: the process ended before the run did (found at {now})")
    );
    assert_eq!((run.notice, books.keys().await.len()), (None, 2));
    assert_eq!(books.writer.settle_run(now).await.unwrap(), None);
    assert_eq!(reopen(books).await.writer.settle_run(now).await.unwrap(), None);
}

#[tokio::test]
async fn a_run_that_was_killed_after_its_commit_is_not_recorded_again() {
    let mut books = Books::new().await;
    books.sync(&two_keys(), &[]).await;
    // The token of that run.
    books.writer.begin_run(&note(1)).unwrap();
    let mut books = reopen(books).await;
    assert_eq!(books.writer.settle_run(at(START)).await.unwrap(), None);
    assert_eq!(books.runs().await.len(), 1);
}

#[tokio::test]
async fn a_run_that_is_over_leaves_no_note() {
    let mut books = Books::new().await;
    books.writer.begin_run(&note(1)).unwrap();
    books.sync(&two_keys(), &[]).await;
    let mut books = reopen(books).await;
    assert_eq!(books.writer.settle_run(at(START)).await.unwrap(), None);
}

#[tokio::test]
async fn runs_that_are_owed_are_recorded_by_the_next_writer_each_once() {
    let mut books = Books::new().await;
    books.sync(&two_keys(), &[]).await;
    let mut first = books.draft(ORG);
    first.tally.requests = 9;
    books.writer.begin_run(&RunNote { token: first.token, ..note(0) }).unwrap();
    books.writer.owe_run(&first, Status::Failed, &"\u{1}".repeat(5_000)).unwrap();
    // Another run comes between, and it is owed as well.
    let second = RunDraft { organization: "other".to_owned(), ..books.draft(ORG) };
    books.writer.begin_run(&RunNote { token: second.token, ..note(0) }).unwrap();
    books.writer.owe_run(&second, Status::Held, "too many").unwrap();
    let path = books.path();
    let Books { writer, directory, .. } = books;
    writer.close().await.unwrap();
    let mut writer = open_at(&path).await.unwrap();
    let now = at(START + 10_000);
    let settled = writer.settle_run(now).await.unwrap().unwrap();
    assert_eq!((settled.token, settled.organization.as_str()), (first.token, ORG));
    let Some(Owed { status: Status::Held, error, .. }) =
        writer.settle_run(now).await.unwrap().unwrap().owed
    else {
        panic!("held")
    };
    assert_eq!(error, "too many");
    assert_eq!(writer.settle_run(now).await.unwrap(), None);
    let books = Books { writer, directory, runs: 0, attributes: false };
    let runs = books.runs().await;
    let shown: Vec<_> = runs
        .iter()
        .map(|run| (run.status.as_str(), run.requests, run.finished_at.clone()))
        .collect();
    assert_eq!(shown, [("ok", 0, run_at(0)), ("failed", 9, run_at(1)), ("held", 0, run_at(2))]);
    assert_eq!(runs[1].error.as_ref().unwrap().len(), 200);
}

#[tokio::test]
async fn a_run_that_is_recorded_later_says_so() {
    let mut books = Books::new().await;
    let draft = books.draft(ORG);
    books.writer.owe_run(&draft, Status::Failed, "no space").unwrap();
    books.sync(&two_keys(), &[]).await;
    books.writer.settle_run(at(START)).await.unwrap();
    let run = books.runs().await.pop().unwrap();
    assert_eq!(run.finished_at, run_at(1));
    assert_eq!(run.notice.unwrap(), format!("recorded later; it ended at {}", run_at(0)));
}

#[tokio::test]
async fn a_note_that_cannot_be_read_tells_of_no_run() {
    let books = Books::new().await;
    let lock = books.directory.path().join("keydrift.db.lock");
    let mut torn = b"{\"pid\":\xff\xfe".to_vec();
    torn.resize(9_000, 0);
    for rubbish in [b"", &b"{\"pid\":"[..], &torn] {
        std::fs::write(&lock, rubbish).unwrap();
        let second = open_at(&books.path()).await.unwrap_err();
        assert!(second.to_string().starts_with("another process is using"), "{second}");
    }
    let mut books = reopen(books).await;
    assert_eq!(books.writer.settle_run(at(START)).await.unwrap(), None);
}

#[tokio::test]
async fn readers_and_the_writer_do_not_wait_for_each_other() {
    let mut books = Books::new().await;
    books.sync(&two_keys(), &[]).await;
    // Readers read the state before a transaction that is open.
    books
        .execute("begin immediate; delete from fields; update keys set last_used_at = 1")
        .await
        .unwrap();
    assert_eq!(books.keys().await[0].last_used_at, None);
    books.execute("rollback").await.unwrap();
    // A writer writes while somebody reads.
    let mut reader = books.reader().await;
    sqlx::raw_sql("begin; select * from audit_history")
        .execute(&mut reader.connection)
        .await
        .unwrap();
    let mut more = two_keys();
    more.insert("key_3".to_owned(), json!({}));
    books.sync(&more, &[]).await;
    assert_eq!(books.events().await.len(), 3);
    assert_eq!(events(&mut reader, &EventFilter::default()).await.len(), 2);
    // Nor does closing wait.
    let path = books.path();
    let Books { writer, directory: _directory, .. } = books;
    writer.close().await.unwrap();
    drop(reader);
    assert_eq!(
        open_at(&path).await.unwrap().load_snapshot(ORG, &is_own).await.unwrap().0.outline.len(),
        3
    );
}

#[tokio::test]
async fn the_log_is_cut_back_on_close() {
    let mut books = Books::new().await;
    books.sync(&two_keys(), &[]).await;
    let reader = books.reader().await;
    let log = books.directory.path().join("keydrift.db-wal");
    assert!(log.metadata().unwrap().len() > 0);
    let Books { writer, directory: _directory, .. } = books;
    writer.close().await.unwrap();
    // The reader keeps the file, but nothing is in it.
    assert_eq!(log.metadata().unwrap().len(), 0);
    reader.close().await.unwrap();
}

#[tokio::test]
async fn a_note_without_room_lets_one_run_stand_for_several() {
    let mut books = Books::new().await;
    books.sync(&two_keys(), &[]).await;
    let mut counted = 0;
    for _ in 0..500 {
        let mut draft = books.draft(ORG);
        draft.tally.skipped = 1;
        draft.notices = vec!["3 slots missed".to_owned()];
        counted += 1;
        books.writer.begin_run(&RunNote { token: draft.token, ..note(0) }).unwrap();
        books.writer.owe_run(&draft, Status::Failed, &"full".repeat(50)).unwrap();
    }
    // Another organization's is not lost among them.
    let other = RunDraft { organization: "other".to_owned(), ..books.draft(ORG) };
    books.writer.owe_run(&other, Status::Held, "too many").unwrap();
    let until = books.writer.owed_until();
    assert_eq!(until[ORG].to_string(), run_at(500));
    let mut books = reopen(books).await;
    let mut settled = 0;
    while books.writer.settle_run(at(START + 100_000)).await.unwrap().is_some() {
        settled += 1;
    }
    let runs = books.runs().await;
    assert_eq!(runs.len(), 1 + settled);
    assert!(settled > 50, "{settled}");
    assert_eq!(runs.iter().filter(|run| run.organization == "other").count(), 1);
    assert_eq!(runs.iter().map(|run| run.skipped).sum::<i64>(), counted);
    let folded: Vec<&RunRow> = runs
        .iter()
        .filter(|run| run.notice.as_ref().is_some_and(|notice| notice.contains("stands for")))
        .collect();
    let [folded] = folded[..] else { panic!("{folded:?}") };
    let further = format!("stands for {} further runs", 501 - settled);
    let notice = folded.notice.as_ref().unwrap();
    assert!(notice.contains(&further) && notice.contains("3 slots missed"), "{notice}");
    assert_eq!(folded.finished_at, run_at(500));
}

#[tokio::test]
async fn a_run_that_was_killed_keeps_what_was_to_be_said_of_it() {
    let mut books = Books::new().await;
    let notices = vec!["5 slots of the schedule missed".to_owned()];
    books.writer.begin_run(&RunNote { notices, skipped: 2, ..note(1) }).unwrap();
    let mut books = reopen(books).await;
    books.writer.settle_run(at(START + 60)).await.unwrap().unwrap();
    let run = books.runs().await.pop().unwrap();
    assert_eq!((run.status.as_str(), run.skipped), ("failed", 2));
    assert!(run.notice.unwrap().starts_with("5 slots of the schedule missed"));
}

#[tokio::test]
async fn several_runs_in_hand_are_each_noted_and_named_to_who_waits() {
    let mut books = Books::new().await;
    let pid = std::process::id();
    let of = |name: &str, token| RunNote {
        organization: name.to_owned(),
        started_at: START + 600 + token,
        ..note(token)
    };
    let holder = async |books: &Books| {
        let second = Writer::open(&books.path(), Duration::ZERO, |_| {}).await;
        let Err(Error::Held { holder, .. }) = second else { panic!("{second:?}") };
        holder
    };
    let since = at(START + 601);
    let mut expected = Vec::new();
    for (token, name) in [(1, "a"), (2, "b"), (3, "c"), (4, "d"), (5, "e")] {
        books.writer.begin_run(&of(name, token)).unwrap();
        expected.push(holder(&books).await);
    }
    let told: Vec<String> = [
        "a sync of `a`",
        "syncs of `a` and `b`",
        "syncs of `a`, `b` and `c`",
        "syncs of `a`, `b`, `c` and 1 more",
        "syncs of `a`, `b`, `c` and 2 more",
    ]
    .map(|syncs| format!("process {pid} ({syncs} since {since})"))
    .into();
    assert_eq!(expected, told);
    // One ends, and one begins again without ever having ended: the others are still in hand.
    let draft = RunDraft { organization: "b".to_owned(), token: 2, ..books.draft("b") };
    let failed = Outcome::Failed { error: "no", withheld: None };
    books.writer.record_run(&draft, &failed).await.unwrap();
    books.writer.begin_run(&of("a", 6)).unwrap();
    let settled = books.writer.settle_run(at(START + 700)).await.unwrap().unwrap();
    assert_eq!((settled.organization.as_str(), settled.token), ("a", 1));
    assert_eq!(books.writer.settle_run(at(START + 700)).await.unwrap(), None);
    // The process is killed.
    let mut books = reopen(books).await;
    let mut left = Vec::new();
    while let Some(run) = books.writer.settle_run(at(START + 800)).await.unwrap() {
        left.push((run.organization, run.token));
    }
    assert_eq!(left, [("c", 3), ("d", 4), ("e", 5), ("a", 6)].map(|(n, t)| (n.to_owned(), t)));
    let runs = books.runs().await;
    assert_eq!(runs.len(), 6);
    assert_eq!(runs.iter().filter(|run| run.status == "failed").count(), 6);
}

#[tokio::test]
async fn a_run_whose_note_has_no_room_does_not_begin_and_keeps_none_from_ending() {
    let mut books = Books::new().await;
    books.sync(&two_keys(), &[]).await;
    let of = |token: i64| RunNote { organization: format!("{token:063}"), ..note(token) };
    let begun =
        (1_000..9_000).take_while(|token| books.writer.begin_run(&of(*token)).is_ok()).count();
    assert!(begun > 200, "{begun}");
    let refused = books.writer.begin_run(&of(999)).unwrap_err();
    let text = format!("{:#}", anyhow::Error::from(refused));
    assert!(text.contains("too many organizations"), "{text}");
    let draft = RunDraft { organization: of(1_000).organization, token: 1_000, ..books.draft(ORG) };
    let failed = Outcome::Failed { error: "no", withheld: None };
    books.writer.record_run(&draft, &failed).await.unwrap();
    books.writer.begin_run(&of(999)).unwrap();
    let mut books = reopen(books).await;
    let mut left = 0;
    while books.writer.settle_run(at(START + 800)).await.unwrap().is_some() {
        left += 1;
    }
    assert_eq!(left, begun);
}
