//! Backups that come to nothing leave nothing behind.

use std::future::{pending, ready};
use std::os::unix::ffi::OsStrExt;

use super::*;

/// The files of the directory for copies.
fn left(copies: &TempDir) -> Vec<String> {
    let names = std::fs::read_dir(copies.path()).unwrap();
    names.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

#[tokio::test]
async fn one_that_is_stopped_leaves_no_file() {
    let (mut books, copies) = (Books::new().await, TempDir::new().unwrap());
    let item = |number: i64| {
        (format!("key_{number}"), json!({"name": "One", "created_at": 1_760_000_000 + number}))
    };
    books.sync(&(0..5_000).map(item).collect(), &[]).await;
    let stopped = back_up(&books.path(), &copies.path().join("copy.db"), ready(())).await;
    assert_eq!(stopped.unwrap(), None);
    assert_eq!(left(&copies), [""; 0]);
    let made = back_up(&books.path(), &copies.path().join("copy.db"), pending()).await;
    assert_eq!(made.unwrap().map(|backup| backup.events), Some(5_000));
    assert_eq!(left(&copies), ["copy.db"]);
}

#[tokio::test]
async fn a_name_that_sqlite_does_not_take_is_refused_before_anything_is_made() {
    let (books, copies) = (Books::new().await, TempDir::new().unwrap());
    let name = std::ffi::OsStr::from_bytes(b"copy-\xff.db");
    let refused = back_up(&books.path(), &copies.path().join(name), pending()).await;
    assert!(
        refused.unwrap_err().to_string().ends_with("is not UTF-8, and SQLite takes no other path")
    );
    assert_eq!(left(&copies), [""; 0]);
}

#[tokio::test]
async fn a_broken_history_is_told_of_the_original() {
    let (mut books, copies) = (Books::new().await, TempDir::new().unwrap());
    books.sync(&two_keys(), &[]).await;
    let triggers = "select name from sqlite_schema where type = 'trigger'";
    let triggers: Vec<String> =
        sqlx::query_scalar(triggers).fetch_all(&mut books.writer.connection).await.unwrap();
    for name in triggers {
        let drop = sqlx::AssertSqlSafe(format!("drop trigger {name}"));
        sqlx::raw_sql(drop).execute(&mut books.writer.connection).await.unwrap();
    }
    books.execute("update runs set baseline = 7").await.unwrap();
    let error = back_up(&books.path(), &copies.path().join("copy.db"), pending()).await;
    let error = error.unwrap_err();
    assert!(matches!(&error, Error::Corrupt { path, .. } if *path == books.path()), "{error:?}");
    let hint = error.hint().unwrap();
    assert!(hint.contains(&books.path().display().to_string()), "{hint}");
    assert_eq!(left(&copies), [""; 0]);
}
