//! Evidence packs of a time before, across and behind a rename.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::evidence::{self, Files};
use crate::support::{History, Keydrift, sql};

const BEFORE: (&str, &str) = ("2026-10-02T12:00:00Z", "2026-10-06T12:00:00Z");

/// Under a configuration with another name.
fn under(history: &History, name: &str, args: &[&str]) -> Keydrift {
    let variable = format!("KEYDRIFT__ORGANIZATIONS__{}__BASE_URL", name.to_uppercase());
    history.world.keydrift(args).env(&variable, history.world.server.base_url())
}

/// An organization that is called `acme` after `default`, and then `initech`.
fn renamed() -> History {
    let history = History::eventful();
    for (from, to) in [("default", "acme"), ("acme", "initech")] {
        history.world.keydrift(&["organization", "rename", from, to]).succeeds();
        under(&history, to, &["sync"]).succeeds();
    }
    history
}

fn make(history: &History, from: &str, to: &str, name: &str) -> PathBuf {
    let path = history.world.path().join(name);
    let args = ["evidence", "--from", from, "--to", to, "-o", path.to_str().unwrap()];
    under(history, "initech", &args).succeeds();
    path
}

#[track_caller]
fn holds(pack: &Path, words: &str) {
    let ran = evidence::verify(pack);
    assert_eq!(ran.code, Some(0), "{ran}");
    assert!(ran.stdout.contains(words), "{ran}");
    evidence::script_agrees(pack, &ran, &[]);
}

/// Packs it again with an edit, which both find.
#[track_caller]
fn is_found(pack: &Path, edit: impl Fn(&mut Files)) {
    let mut files = evidence::files(pack);
    let known = files.clone();
    edit(&mut files);
    assert!(files != known, "nothing was edited");
    let path = pack.with_extension("edited");
    evidence::pack_again(&files, &path);
    let ran = evidence::verify(&path);
    assert_eq!(ran.code, Some(3), "{ran}");
    evidence::script_agrees(&path, &ran, &[]);
}

fn edit_chains(files: &mut Files, edit: impl Fn(&mut Map<String, Value>)) {
    let mut start: Value = serde_json::from_slice(&files["start.json"]).unwrap();
    edit(start["chains"].as_object_mut().unwrap());
    files.insert("start.json".to_owned(), serde_json::to_vec(&start).unwrap());
}

#[test]
fn they_hold_under_the_new_name() {
    let history = History::eventful();
    let old = evidence::make(&history, BEFORE.0, BEFORE.1, "old.tar.gz");
    holds(&old, "default");
    drop(history);
    let history = renamed();
    holds(&make(&history, BEFORE.0, BEFORE.1, "before.tar.gz"), "initech");
    holds(&make(&history, BEFORE.0, "now", "across.tar.gz"), "renamed `acme` to `initech`");
    holds(&make(&history, "2026-09-01", "now", "all.tar.gz"), "renamed `default` to `acme`");
    let acted = "select acted_at from act_history order by act_id desc limit 1";
    let acted = sql::value(&history.world.database(), acted);
    holds(&make(&history, acted.as_str().unwrap(), "now", "behind.tar.gz"), "initech");
}

#[test]
fn a_wrong_name_at_either_end_and_an_act_less_are_found() {
    let history = renamed();
    let before = make(&history, BEFORE.0, BEFORE.1, "before.tar.gz");
    let across = make(&history, BEFORE.0, "now", "across.tar.gz");
    let chain = |files: &mut Files, edit: &dyn Fn(&mut Map<String, Value>)| {
        edit_chains(files, |chains| edit(chains["initech"].as_object_mut().unwrap()));
    };
    is_found(&before, |files| {
        chain(files, &|chain| {
            let known = chain.insert("name_after".to_owned(), "acme".into());
            assert_eq!(known, Some("default".into()));
        });
    });
    is_found(&before, |files| chain(files, &|chain| drop(chain.remove("name_after"))));
    is_found(&across, |files| {
        chain(files, &|chain| {
            assert_eq!(chain.insert("name".to_owned(), "acme".into()), None);
        });
    });
    let take_last = |files: &mut Files, name: &str| {
        let text = String::from_utf8(files[name].clone()).unwrap();
        let end = text.trim_end().rfind('\n').unwrap() + 1;
        files.insert(name.to_owned(), text[..end].to_owned().into_bytes());
    };
    is_found(&across, |files| {
        // The last run and the act before it: without checkpoints, nothing else tells of them.
        files.insert("checkpoints.txt".to_owned(), Vec::new());
        take_last(files, "run_history.ndjson");
        take_last(files, "act_history.ndjson");
    });
}

#[test]
fn another_name_altogether_is_found_where_the_renames_are_in_the_pack() {
    let history = History::eventful();
    let old = evidence::make(&history, BEFORE.0, BEFORE.1, "old.tar.gz");
    let renamed = renamed();
    // Of a time before the renames, nothing in a pack can tell the name of now.
    let across = make(&renamed, BEFORE.0, "now", "across.tar.gz");
    let all = make(&renamed, "2026-09-01", "now", "all.tar.gz");
    for (pack, name) in [(&old, "default"), (&across, "initech"), (&all, "initech")] {
        is_found(pack, |files| {
            let from = format!("\"organization\":\"{name}\"");
            for (file, content) in files.iter_mut().filter(|(file, _)| file.ends_with(".ndjson")) {
                let text = String::from_utf8(content.clone()).unwrap();
                assert!(file != "chains.ndjson" || text.contains(&from), "{text}");
                *content = text.replace(&from, "\"organization\":\"hooli\"").into_bytes();
            }
            edit_chains(files, |chains| {
                let chain = chains.remove(name).into_iter();
                chains.extend(chain.map(|chain| ("hooli".to_owned(), chain)));
            });
        });
    }
}

#[test]
fn none_is_made_of_a_history_with_a_name_that_is_not_its_own() {
    let history = History::eventful();
    sql::rows(&history.world.database(), "update organizations set name = 'acme'");
    let output = history.world.path().join("pack.tar.gz");
    let to = output.to_str().unwrap();
    let args = ["evidence", "--from", "2026-10-02", "--to", "2026-10-06", "-o", to];
    let ran = history.world.keydrift(&args).exits(3);
    assert!(ran.stdout.contains("its history leads to the name `default`"), "{ran}");
    assert!(!output.exists());
}
