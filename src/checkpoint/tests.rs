//! The file, at every byte.

use std::fs;
use std::path::Path;

use zeroize::Zeroizing;

use super::file::{self, Wanted};
use crate::audit::{Checkpoint, Digest, Note, Place, SigningKey};
use crate::clock::Timestamp;

fn note(origin: &str, run_id: i64, key: Option<&SigningKey>) -> Note {
    let checkpoint = Checkpoint {
        database: "c4a1".to_owned(),
        origin: origin.to_owned(),
        place: Place { run_id, act_id: None },
        digest: Digest([0xab; 32]),
        time: Timestamp::from_unix(1_764_000_000).unwrap(),
    };
    Note::new(checkpoint, key).unwrap()
}

fn newest(path: &Path, origins: &[&str]) -> Vec<Note> {
    let origins: Vec<String> = origins.iter().map(|origin| (*origin).to_owned()).collect();
    let wanted = Wanted { database: "c4a1", origins: &origins, ..Wanted::default() };
    file::read_newest(path, &wanted).unwrap().ours.into_values().collect()
}

#[test]
fn a_note_cut_off_at_any_byte_is_mended_by_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("checkpoints");
    let key = SigningKey::new("acme", Zeroizing::new([1; 32])).unwrap();
    for key in [None, Some(&key)] {
        let (first, second, third) = (note("a", 1, key), note("a", 2, key), note("a", 3, key));
        let whole = second.with_empty_line();
        for cut in 0..=whole.len() {
            let torn = [first.with_empty_line().as_bytes(), &whole.as_bytes()[..cut]].concat();
            fs::write(&path, &torn).unwrap();
            let mended = file::append(&path, std::slice::from_ref(&third)).unwrap();
            let ends_whole = torn.ends_with(b"\n\n");
            assert_eq!(mended, !ends_whole, "{cut}");
            let mut read = Vec::new();
            let damaged = file::read(&path, |note| read.push(note)).unwrap().unwrap();
            assert_eq!((&read[0], read.last().unwrap()), (&first, &third), "{cut}");
            assert!(damaged <= 1 && read.len() <= 3, "{cut}");
            assert_eq!(newest(&path, &["a"]), std::slice::from_ref(&third), "{cut}");
        }
    }
}

#[test]
fn the_newest_are_found_at_the_end_of_a_large_file_and_else_in_all_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("checkpoints");
    file::append(&path, &[note("rare", 1, None)]).unwrap();
    let many: Vec<Note> = (2..30_000).map(|run_id| note("often", run_id, None)).collect();
    file::append(&path, &many).unwrap();
    assert!(fs::metadata(&path).unwrap().len() > 4 << 20);
    assert_eq!(newest(&path, &["often"]), [note("often", 29_999, None)]);
    let both = [note("often", 29_999, None), note("rare", 1, None)];
    assert_eq!(newest(&path, &["often", "rare"]), both);
    let other = Wanted { database: "other", ..Wanted::default() };
    let other = file::read_newest(&path, &other).unwrap();
    assert_eq!((other.ours.len(), other.any), (0, Some(note("often", 29_999, None))));
}

#[test]
fn what_is_no_file_is_an_error_and_what_is_not_there_is_empty() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(newest(&directory.path().join("none"), &["a"]), []);
    assert!(file::read_any(directory.path()).is_err());
    assert!(file::append(directory.path(), &[note("a", 1, None)]).is_err());
}

#[test]
fn a_file_without_line_feeds_is_read_in_pieces() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("checkpoints");
    fs::write(&path, vec![b'x'; 1 << 20]).unwrap();
    file::append(&path, &[note("a", 1, None)]).unwrap();
    assert_eq!(newest(&path, &["a"]), [note("a", 1, None)]);
}
