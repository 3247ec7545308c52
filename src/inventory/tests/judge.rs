//! When a key is believed gone, and a list the right organization's.

use std::collections::HashMap;

use super::*;

#[test]
fn the_organization_is_known_by_its_keys_or_by_an_unchanged_header() {
    let same = Ok(Identity::Same);
    let changed = || {
        let (before, now) = ("a".to_owned(), "b".to_owned());
        Ok(Identity::HeaderChanged { before, now })
    };
    let other = |common, snapshot| {
        let (before, now) = ("a".to_owned(), "b".to_owned());
        Err(Stranger::OtherHeader { before, now, common, snapshot })
    };
    let nothing = |snapshot| Err(Stranger::NothingInCommon { snapshot });
    for (snapshot, common, before, now, expected) in [
        // The first run, and an organization without keys.
        (0, 0, None, None, same.clone()),
        (0, 0, None, Some("a"), same.clone()),
        (0, 0, Some("a"), Some("a"), same.clone()),
        (0, 0, Some("a"), None, same.clone()),
        (0, 0, Some("a"), Some("b"), other(0, 0)),
        // An unchanged header vouches for a rotation of all keys; a header alone, old or new, does not.
        (5, 0, Some("a"), Some("a"), same.clone()),
        (5, 0, None, None, nothing(5)),
        (5, 0, None, Some("a"), nothing(5)),
        (5, 0, Some("a"), None, nothing(5)),
        (1, 0, None, None, nothing(1)),
        (5, 1, None, None, same.clone()),
        (5, 1, Some("a"), None, same.clone()),
        (5, 1, None, Some("a"), same),
        // Another header needs most of the keys.
        (5, 3, Some("a"), Some("b"), changed()),
        (5, 2, Some("a"), Some("b"), other(2, 5)),
        (4, 2, Some("a"), Some("b"), other(2, 4)),
        (1, 1, Some("a"), Some("b"), changed()),
        (5, 0, Some("a"), Some("b"), other(0, 5)),
    ] {
        let found = judge_identity(snapshot, common, before, now);
        assert_eq!(found, expected, "{common} of {snapshot}, {before:?} then {now:?}");
    }
}

fn guards() -> Guards {
    Guards { keys: 10, percent: 30, confirm_limit: 5_000 }
}

fn ids(numbers: std::ops::Range<usize>) -> Vec<KeyId> {
    numbers.map(|number| id(&format!("key_{number}"))).collect()
}

fn accepted(numbers: std::ops::Range<usize>) -> Acceptance {
    Acceptance { missing: ids(numbers).into_iter().collect(), stranger: None }
}

#[test]
fn every_missing_key_is_looked_up_as_long_as_there_are_not_too_many() {
    let missing = ids(0..5_000);
    assert_eq!(plan_look_ups(&missing, 9_000, guards(), None).unwrap(), missing);
    let missing = ids(0..5_001);
    assert_eq!(
        plan_look_ups(&missing, 9_000, guards(), None),
        Err(Withheld::TooManyMissing { missing: 5_001, snapshot: 9_000, limit: 5_000 })
    );
    assert_eq!(plan_look_ups(&[], 0, guards(), None).unwrap(), []);
}

#[test]
fn what_was_accepted_is_looked_up_however_much_and_more_is_held_again() {
    let acceptance = accepted(0..5_001);
    let plan = |missing: &[KeyId]| {
        plan_look_ups(missing, 9_000, guards(), Some(&acceptance)).map(<[_]>::len)
    };
    assert_eq!(plan(&ids(0..5_001)), Ok(5_001));
    assert_eq!(plan(&ids(0..5_000)), Ok(5_000));
    assert_eq!(plan(&ids(7..9)), Ok(2));
    assert_eq!(plan(&ids(5_000..5_003)), Err(Withheld::MoreThanAccepted { more: 2 }));
}

#[test]
fn the_guard_is_the_larger_of_keys_and_percent() {
    for (keys, percent, snapshot, allowed) in [
        (10, 30, 0, 10),
        (10, 30, 33, 10),
        (10, 30, 34, 10),
        (10, 30, 37, 11),
        (10, 30, 1_000, 300),
        (0, 0, 50, 0),
    ] {
        let guards = Guards { keys, percent, confirm_limit: 5_000 };
        let judge = |missing: usize| {
            judge_missing(&ids(0..missing), &HashMap::new(), snapshot, guards, None)
        };
        let removals = judge(allowed).unwrap();
        assert_eq!((removals.gone.len(), removals.present, removals.unknown), (0, 0, allowed));
        let unknown = allowed + 1;
        assert_eq!(judge(unknown), Err(Withheld::TooManyUnknown { unknown, snapshot, allowed }));
    }
}

#[test]
fn only_gone_removes() {
    let missing = ids(0..4);
    let answers: HashMap<KeyId, LookUp> = [LookUp::Present, LookUp::Gone, LookUp::Unknown]
        .into_iter()
        .enumerate()
        .map(|(number, answer)| (missing[number].clone(), answer))
        .chain([(id("not missing"), LookUp::Gone)])
        .collect();
    let removals = judge_missing(&missing, &answers, 4, guards(), None).unwrap();
    assert_eq!(removals.gone, HashSet::from([id("key_1")]));
    assert_eq!((removals.present, removals.unknown), (1, 2));
}

#[test]
fn any_number_of_keys_may_be_gone_or_present() {
    for answer in [LookUp::Gone, LookUp::Present] {
        let missing = ids(0..1_000);
        let answers = missing.iter().map(|id| (id.clone(), answer)).collect();
        let removals = judge_missing(&missing, &answers, 1_000, guards(), None).unwrap();
        assert_eq!(removals.gone.len() + removals.present, 1_000);
    }
}

#[test]
fn an_unknown_key_is_gone_if_it_was_accepted_and_a_present_one_never() {
    let missing = ids(0..3);
    let answers = HashMap::from([(id("key_0"), LookUp::Present), (id("key_1"), LookUp::Gone)]);
    let judge =
        |acceptance| judge_missing(&missing, &answers, 3, guards(), Some(&acceptance)).unwrap();
    let removals = judge(accepted(0..3));
    assert_eq!(removals.gone, HashSet::from([id("key_1"), id("key_2")]));
    assert_eq!((removals.present, removals.unknown), (1, 0));
    // What was not accepted by name is not believed.
    let removals = judge(accepted(0..2));
    assert_eq!(removals.gone, HashSet::from([id("key_1")]));
    assert_eq!(removals.unknown, 1);
}
