use super::*;

fn item(id: &str, created_at: i64) -> Item {
    (Arc::from(id), Timestamp::from_unix(created_at))
}

fn items(ids: &[&str]) -> Vec<Item> {
    ids.iter().map(|id| item(id, i64::from(id.as_bytes()[0]))).collect()
}

fn taken(walk: &mut Walk, ids: &[&str], has_more: Option<bool>) -> bool {
    match walk.accept(&items(ids), has_more).unwrap() {
        Verdict::Taken { end, .. } => end,
        Verdict::SteppedBack(lost) => panic!("stepped back: {lost:?}"),
    }
}

fn cursor(walk: &Walk) -> Option<&str> {
    walk.cursor().map(AsRef::as_ref)
}

#[test]
fn pages_follow_each_other_to_the_end() {
    let mut walk = Walk::default();
    assert!(!taken(&mut walk, &["a", "b"], Some(true)));
    assert_eq!(cursor(&walk), Some("b"));
    assert!(taken(&mut walk, &["c"], Some(false)));
    assert_eq!((walk.len(), walk.shifts, walk.lost_cursors, walk.restarts), (3, 0, 0, 0));
}

#[test]
fn an_empty_first_page_is_an_empty_list() {
    assert!(taken(&mut Walk::default(), &[], Some(false)));
    assert!(taken(&mut Walk::default(), &[], None));
}

#[test]
fn an_empty_first_page_that_promises_more_is_asked_again_a_few_times() {
    let mut walk = Walk::default();
    for _ in 0..3 {
        assert_eq!(walk.accept(&[], Some(true)), Ok(Verdict::SteppedBack(Some(Lost::Empty))));
        assert_eq!(cursor(&walk), None);
    }
    assert_eq!(walk.accept(&[], Some(true)), Err(Stuck::Lost(Lost::Empty)));
}

#[test]
fn a_list_that_is_empty_after_it_had_keys_ends_nothing() {
    for has_more in [Some(false), None] {
        let mut walk = Walk::default();
        taken(&mut walk, &["a", "b", "c"], Some(true));
        let stuck = (0..100).find_map(|_| walk.accept(&[], has_more).err());
        assert_eq!(stuck, Some(Stuck::Lost(Lost::Empty)), "{has_more:?}");
    }
}

#[test]
fn a_lost_cursor_steps_back_further_and_further() {
    let mut walk = Walk::default();
    taken(&mut walk, &["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"], Some(true));
    let mut tried = Vec::new();
    for _ in 0..4 {
        walk.refuse(404).unwrap();
        tried.push(cursor(&walk).map(str::to_owned));
    }
    assert_eq!(tried, [Some("i".into()), Some("g".into()), Some("c".into()), None]);
    assert_eq!(walk.restarts, 1);
    assert_eq!(walk.lost_cursors, 4);
}

#[test]
fn the_end_after_stepping_back_is_the_end() {
    let mut walk = Walk::default();
    taken(&mut walk, &["a", "b", "c"], Some(true));
    walk.refuse(404).unwrap();
    assert_eq!(cursor(&walk), Some("b"));
    walk.accept(&[], Some(false)).unwrap();
    assert_eq!(cursor(&walk), None, "an empty page is never the end by itself");
    assert!(taken(&mut walk, &["a"], Some(false)));
}

#[test]
fn a_list_without_has_more_ends_when_the_last_key_is_confirmed() {
    let mut walk = Walk::default();
    assert!(!taken(&mut walk, &["a", "b", "c"], None));
    assert_eq!(walk.accept(&[], None), Ok(Verdict::SteppedBack(None)));
    assert_eq!(cursor(&walk), Some("b"));
    assert!(taken(&mut walk, &["c"], None));
    assert_eq!((walk.lost_cursors, walk.restarts), (0, 0));
}

#[test]
fn a_list_of_one_key_without_has_more_ends() {
    let mut walk = Walk::default();
    taken(&mut walk, &["a"], None);
    walk.accept(&[], None).unwrap();
    assert_eq!(cursor(&walk), None);
    assert!(taken(&mut walk, &["a"], None));
    assert_eq!((walk.lost_cursors, walk.restarts), (0, 0));
}

#[test]
fn an_empty_page_for_a_vanished_cursor_without_has_more_loses_nothing() {
    let mut walk = Walk::default();
    taken(&mut walk, &["a", "b", "c"], None);
    walk.accept(&[], None).unwrap();
    assert!(!taken(&mut walk, &["d", "e"], None), "c had vanished, d and e had not");
    assert_eq!(walk.len(), 5);
}

#[test]
fn a_page_from_the_beginning_is_a_lost_cursor() {
    let mut walk = Walk::default();
    taken(&mut walk, &["a", "b"], Some(true));
    taken(&mut walk, &["c", "d"], Some(true));
    let verdict = walk.accept(&items(&["a", "b"]), Some(true));
    assert_eq!(verdict, Ok(Verdict::SteppedBack(Some(Lost::Older))));
    assert_eq!(cursor(&walk), Some("c"));
}

#[test]
fn with_equal_times_a_page_from_the_beginning_is_told_by_its_lack_of_progress() {
    let tied = |ids: &[&str]| ids.iter().map(|id| item(id, 7)).collect::<Vec<_>>();
    let mut walk = Walk::default();
    walk.accept(&tied(&["a", "b"]), Some(true)).unwrap();
    walk.accept(&tied(&["c", "d"]), Some(true)).unwrap();
    let verdict = walk.accept(&tied(&["a", "b"]), Some(true));
    assert_eq!(verdict, Ok(Verdict::SteppedBack(Some(Lost::Repeated))));
}

#[test]
fn some_seen_and_some_new_is_a_shifting_list() {
    let mut walk = Walk::default();
    taken(&mut walk, &["a", "b"], Some(true));
    let verdict = walk.accept(&items(&["b", "c"]), Some(false)).unwrap();
    assert_eq!(verdict, Verdict::Taken { fresh: vec![false, true], end: true });
    assert_eq!(walk.shifts, 1);
}

#[test]
fn a_server_that_ignores_the_cursor_is_given_up() {
    for ids in [&["a"][..], &["a", "b"], &["a", "b", "c"]] {
        for has_more in [Some(true), None] {
            let mut walk = Walk::default();
            let page = items(ids);
            let stuck = (0..100).find_map(|_| walk.accept(&page, has_more).err());
            assert!(matches!(stuck, Some(Stuck::Lost(_))), "{ids:?} {has_more:?}: {stuck:?}");
        }
    }
}

#[test]
fn a_page_that_repeats_the_first_and_says_it_is_the_last_ends_nothing() {
    let mut walk = Walk::default();
    taken(&mut walk, &["a", "b"], Some(true));
    for _ in 0..2 {
        let verdict = walk.accept(&items(&["a", "b"]), Some(false)).unwrap();
        assert!(matches!(verdict, Verdict::SteppedBack(_)), "{verdict:?}");
    }
}

#[test]
fn the_newest_first_is_refused_unless_it_is_the_whole_list() {
    let page = items(&["c", "b", "a"]);
    assert_eq!(Walk::default().accept(&page, Some(true)), Err(Stuck::WrongOrder));
    assert!(Walk::default().accept(&page, Some(false)).is_ok());

    let mut one_by_one = Walk::default();
    let mut world: Vec<Item> = items(&["a", "b", "c", "d", "e"]);
    world.reverse();
    let stuck = (0..100).find_map(|_| {
        let from = one_by_one
            .cursor()
            .map_or(0, |id| 1 + world.iter().position(|(known, _)| known.as_ref() == id).unwrap());
        let page: Vec<Item> = world[from..].iter().take(1).cloned().collect();
        one_by_one.accept(&page, Some(from + 1 < world.len())).err()
    });
    assert_eq!(stuck, Some(Stuck::Lost(Lost::Older)));
}
