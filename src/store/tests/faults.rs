//! Files that are not what they should be, and disks that are full.

use std::fs;

use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;

use super::*;

async fn raw(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(path).create_if_missing(true).connect().await.unwrap()
}

async fn run(connection: &mut SqliteConnection, sql: &'static str) {
    sqlx::raw_sql(sql).execute(connection).await.unwrap();
}

fn listing(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
        })
        .collect();
    files.sort();
    files
}

#[tokio::test]
async fn a_file_that_is_not_ours_is_left_untouched() {
    let directory = TempDir::new().unwrap();
    let file = |name: &str| directory.path().join(name);
    fs::write(file("text"), "no database, but a text that is longer than a header".repeat(40))
        .unwrap();
    fs::write(file("short"), "x").unwrap();
    fs::write(file("cut"), b"SQLite format 3\0").unwrap();
    run(&mut raw(&file("theirs")).await, "create table t (x); insert into t values (1)").await;
    run(&mut raw(&file("named")).await, "pragma application_id = 7").await;
    let mut open = raw(&file("in_use")).await;
    run(&mut open, "pragma journal_mode = wal; create table t (x); insert into t values (1)").await;
    // As a killed process would leave it: a table that is in the log only.
    for end in ["", "-wal"] {
        fs::copy(file(&format!("in_use{end}")), file(&format!("killed{end}"))).unwrap();
    }
    let before = listing(directory.path());
    for (name, ours) in [
        ("text", false),
        ("short", false),
        ("cut", false),
        ("theirs", true),
        ("named", true),
        ("in_use", true),
        ("killed", true),
    ] {
        let written = open_at(&file(name)).await.unwrap_err();
        let read = Reader::open(&file(name)).await.unwrap_err();
        for error in [written, read] {
            match error {
                Error::NotOurs { .. } => assert!(ours, "{name}"),
                Error::NotADatabase { .. } => assert!(!ours, "{name}"),
                other => panic!("{name}: {other}"),
            }
        }
    }
    assert!(listing(directory.path()) == before);
    drop(open);
}

#[tokio::test]
async fn a_new_file_is_ours_from_the_start() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("new.db");
    assert!(matches!(Reader::open(&path).await, Err(Error::Missing { .. })));
    assert!(!path.exists());
    // An empty file too.
    fs::write(&path, "").unwrap();
    let mut writer = open_at(&path).await.unwrap();
    let id: i64 = sqlx::query_scalar("select application_id from pragma_application_id")
        .fetch_one(&mut writer.connection)
        .await
        .unwrap();
    assert_eq!(id, 0x6b64_7274);
    writer.close().await.unwrap();
    assert_eq!(&fs::read(&path).unwrap()[68..72], b"kdrt");
}

#[tokio::test]
async fn a_database_can_be_opened_while_it_is_written_back() {
    let mut books = Books::new().await;
    for number in 0..20 {
        let item = json!({"name": "n".repeat(9_000)});
        books.sync(&world([("a", item), (&format!("k{number}"), json!({}))]), &[]).await;
        let cut_back = sqlx::raw_sql("pragma wal_checkpoint(truncate)");
        let path = books.path();
        let (cut_back, reader) =
            tokio::join!(cut_back.execute(&mut books.writer.connection), Reader::open(&path));
        cut_back.unwrap();
        reader.unwrap().list_organizations().await.unwrap();
    }
}

#[tokio::test]
async fn opening_a_database_again_writes_nothing() {
    let mut books = Books::new().await;
    books.sync(&two_keys(), &[]).await;
    let path = books.path();
    let Books { writer, directory: _directory, .. } = books;
    writer.close().await.unwrap();
    // All but the two counters that say how often the file was opened for writing.
    let content = || {
        let mut bytes = fs::read(&path).unwrap();
        bytes[24..28].fill(0);
        bytes[92..96].fill(0);
        bytes
    };
    let before = content();
    open_at(&path).await.unwrap().close().await.unwrap();
    Reader::open(&path).await.unwrap().close().await.unwrap();
    assert!(content() == before);
}

/// The number of the newest step.
fn newest() -> i64 {
    super::super::open::migrations().iter().map(|step| step.version).max().unwrap()
}

#[tokio::test]
async fn databases_of_other_versions_are_refused() {
    let mut books = Books::new().await;
    let newer =
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
                 values (9999, 'later', true, x'00', 0)";
    books.execute(newer).await.unwrap();
    let path = books.path();
    let Books { writer, directory: _directory, .. } = books;
    writer.close().await.unwrap();
    for error in [open_at(&path).await.unwrap_err(), Reader::open(&path).await.unwrap_err()] {
        assert!(
            matches!(error, Error::Newer { found: 9_999, known, .. } if known == newest()),
            "{error}"
        );
    }
    let mut connection = raw(&path).await;
    run(&mut connection, "delete from _sqlx_migrations").await;
    connection.close().await.unwrap();
    let error = Reader::open(&path).await.unwrap_err();
    assert!(matches!(error, Error::Older { found: 0, known, .. } if known == newest()), "{error}");
}

#[tokio::test]
async fn places_where_no_database_can_be() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    for path in [
        directory.path().join("no/where.db"),
        file.join("below.db"),
        directory.path().to_owned(),
        "/dev/null".into(),
    ] {
        let error = open_at(&path).await.unwrap_err();
        assert!(matches!(error, Error::CannotOpen { .. }), "{error:?}");
        assert!(error.hint().is_some());
    }
    assert!(matches!(
        Reader::open(&directory.path().join("no/where.db")).await,
        Err(Error::Missing { .. })
    ));
    assert!(matches!(Reader::open(&file.join("below.db")).await, Err(Error::CannotOpen { .. })));
    // Nobody can make files there, not even root.
    let error = open_at(Path::new("/proc/keydrift.db")).await.unwrap_err();
    assert!(matches!(error, Error::CannotOpen { .. } | Error::ReadOnly { .. }), "{error:?}");
}

#[tokio::test]
async fn a_database_that_is_damaged_says_so() {
    let mut books = Books::new().await;
    books.sync(&two_keys(), &[]).await;
    let path = books.path();
    let Books { writer, directory: _directory, .. } = books;
    writer.close().await.unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[4_096..].fill(0xa5);
    fs::write(&path, &bytes).unwrap();
    let mut seen = Vec::new();
    if let Ok(mut writer) = open_at(&path).await {
        seen.push(writer.load_snapshot(ORG, &is_own).await.map(drop).unwrap_err());
    }
    match Reader::open(&path).await {
        Ok(mut reader) => seen.push(reader.list_organizations().await.unwrap_err()),
        Err(error) => seen.push(error),
    }
    assert!(seen.iter().all(|error| matches!(error, Error::Corrupt { .. })), "{seen:?}");
}

#[tokio::test]
async fn a_full_disk_leaves_nothing_of_the_run_and_the_next_one_goes_on() {
    let mut books = Books::new().await;
    books.sync(&two_keys(), &[]).await;
    let keys: World = (0..300)
        .map(|n| {
            (format!("key_{n}"), json!({"name": "n".repeat(200), "owner": {"id": format!("u{n}")}}))
        })
        .collect();
    let mut refused = 0;
    let mut pages = books.number("select page_count from pragma_page_count").await;
    loop {
        let before = books.sizes().await;
        let changes = books.compare(ORG, &keys, &["key_1"]).await;
        let limit = format!("pragma max_page_count = {pages}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(limit))
            .execute(&mut books.writer.connection)
            .await
            .unwrap();
        let draft = books.draft(ORG);
        let outcome = Outcome::Ok {
            changes: &changes,
            header: None,
            attributed: &Attributed::default(),
            judge: None,
        };
        match books.writer.record_run(&draft, &outcome).await {
            Ok(recorded) => {
                assert_eq!(recorded.counts.added, 298);
                break;
            }
            Err(Error::Full { .. }) => refused += 1,
            Err(other) => panic!("{other:?}"),
        }
        assert_eq!(books.sizes().await, before);
        // Where there is no space for the changes there is some for a row.
        books
            .writer
            .record_run(&draft, &Outcome::Failed { error: "full", withheld: None })
            .await
            .unwrap();
        pages += 1;
    }
    assert!(refused > 10, "{refused}");
    assert_eq!(books.keys().await.len(), 300);
    assert_eq!(
        books
            .number("select count(*) from pragma_integrity_check where integrity_check <> 'ok'")
            .await,
        0
    );
}

#[tokio::test]
async fn a_database_locked_by_another_program_is_busy_and_then_free() {
    let mut books = Books::new().await;
    let changes = books.compare(ORG, &two_keys(), &[]).await;
    let mut other = raw(&books.path()).await;
    run(&mut other, "begin exclusive").await;
    let draft = books.draft(ORG);
    let outcome = Outcome::Ok {
        changes: &changes,
        header: None,
        attributed: &Attributed::default(),
        judge: None,
    };
    let error = books.writer.record_run(&draft, &outcome).await.unwrap_err();
    assert!(matches!(error, Error::Busy { .. }), "{error:?}");
    run(&mut other, "rollback").await;
    assert_eq!(books.writer.record_run(&draft, &outcome).await.unwrap().run_id, 1);
}

#[tokio::test]
async fn a_run_that_cannot_be_written_leaves_nothing_and_the_next_one_goes_on() {
    let mut books = Books::new().await;
    books.sync(&two_keys(), &[]).await;
    let before = books.sizes().await;
    // Restored, but never known.
    let unknown = crate::inventory::Appearance::Restored(sighting("key_9", &json!({})).key);
    let mut changes = Changes::default();
    changes.appeared.add(&unknown);
    let draft = books.draft(ORG);
    let outcome = Outcome::Ok {
        changes: &changes,
        header: None,
        attributed: &Attributed::default(),
        judge: None,
    };
    assert!(books.writer.record_run(&draft, &outcome).await.is_err());
    assert_eq!(books.sizes().await, before);
    books.sync(&two_keys(), &[]).await;
}

#[tokio::test]
async fn a_transaction_that_the_database_ended_itself_does_not_stop_the_next_run() {
    let mut books = Books::new().await;
    // As it does at times where the disk is full.
    let ends =
        "create temp trigger ends before insert on runs begin select raise(rollback, 'x'); end";
    books.execute(ends).await.unwrap();
    let draft = books.draft(ORG);
    let outcome = Outcome::Failed { error: "e", withheld: None };
    assert!(books.writer.record_run(&draft, &outcome).await.is_err());
    assert_eq!(books.writer.record_run(&draft, &outcome).await.unwrap().run_id, 1);
}
