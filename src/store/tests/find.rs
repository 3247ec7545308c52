//! Which key somebody means.

use super::*;

#[tokio::test]
async fn a_key_is_found_by_id_name_and_the_end_of_its_value() {
    let mut books = Books::new().await;
    let keys = world([
        ("key_abc", json!({"name": "deploy", "redacted_value": "sk-admin...XY9"})),
        ("key_abcd", json!({"name": "key_abc", "redacted_value": "sk-admin-****wxyz"})),
        ("other", json!({"name": "zzz-XY9", "redacted_value": "sk-proj-..."})),
    ]);
    books.sync(&keys, &[]).await;
    let rest: World = keys.into_iter().filter(|(key, _)| key != "key_abcd").collect();
    books.sync(&rest, &["key_abcd"]).await;
    let find = async |text: &str| {
        let rows = books.reader().await.find_keys(Some(ORG), text).await.unwrap();
        rows.into_iter().map(|row| row.key_id).collect::<Vec<_>>()
    };
    // Its id alone, though another is called so and begins so.
    assert_eq!(find("key_abc").await, ["key_abc"]);
    assert_eq!(find("key_").await, ["key_abc", "key_abcd"]);
    assert_eq!(find("deploy").await, ["key_abc"]);
    assert_eq!(find("XY9").await, ["key_abc"]);
    // More of the value than is shown, as it stands in the leak, and less.
    assert_eq!(find("sk-admin-0123456789XY9").await, ["key_abc"]);
    assert_eq!(find("xyz").await, ["key_abcd"]);
    // A name is surer than the end of a value.
    assert_eq!(find("zzz-XY9").await, ["other", "key_abc"]);
    for nobody in ["", "Y9", "eploy", "nobody", "KEY_ABC"] {
        assert_eq!(find(nobody).await, [""; 0], "{nobody}");
    }
    assert!(books.reader().await.find_keys(Some("x"), "key_abc").await.unwrap().is_empty());
    assert_eq!(books.reader().await.find_keys(None, "key_abc").await.unwrap().len(), 1);
}
