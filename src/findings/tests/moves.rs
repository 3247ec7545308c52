//! Rules that a use breaks: after an archive, after a silence, or one that went back.

use proptest::prelude::*;

use super::*;

fn used(key: &Key, seconds: impl Into<Option<i64>>) -> Key {
    Key { last_used_at: seconds.into().map(at), ..key.clone() }
}

fn archived(id: &str, seconds: i64) -> Key {
    let key = Key { scope: Scope::Project, ..good(id) };
    with_other(key, "project_archived_at", at(seconds).to_string())
}

#[test]
fn a_use_after_the_archive_is_found_and_one_before_is_not() {
    let archive = START + 10 * DAY;
    let key = archived("a", archive);
    for before in [archive, archive - 1] {
        Case::of([used(&key, before)]).never(Rule::UsedAfterArchive);
    }
    Case::of([used(&key, None)]).never(Rule::UsedAfterArchive);
    let case = Case::of([used(&key, archive + 1)]);
    let finding = case.the(Rule::UsedAfterArchive, archive + DAY);
    assert_eq!(finding.since, at(archive + 1));
    insta::assert_snapshot!(finding.detail, @"used at 2026-01-11T00:00:01Z, after its project was archived at 2026-01-11T00:00:00Z");
    // Later uses are the same finding.
    let case = case.recorded(archive + DAY).then(used(&key, archive + 2 * DAY));
    assert_eq!(case.evaluation().at(at(archive + 3 * DAY)), Difference::default());
    // A project that is live again is no archive.
    let live = used(&Key { scope: Scope::Project, ..good("a") }, archive + 2 * DAY);
    let case = case.recorded(archive + 3 * DAY).then(live);
    assert_eq!(case.evaluation().at(at(archive + 4 * DAY)).closed.len(), 1);
    let odd = with_other(key, "project_archived_at", "long ago");
    Case::of([used(&odd, archive + DAY)]).never(Rule::UsedAfterArchive);
}

#[test]
fn a_key_wakes_up_by_a_use_after_as_long_a_silence() {
    let silence = 90 * DAY;
    for (since_last, wakes) in [(silence - 1, false), (silence, true), (silence + 1, true)] {
        let case = Case::moved(&good("a"), used(&good("a"), START + since_last));
        let found = case.broken(Rule::WokeUp, START + since_last + 60);
        assert_eq!(!found.is_empty(), wakes, "{since_last}");
        for finding in found {
            assert_eq!(finding.since, at(START + since_last));
        }
    }
    // A first use counts from creation.
    let never = used(&good("a"), None);
    let case = Case::moved(&never, used(&never, START + silence));
    insta::assert_snapshot!(case.the(Rule::WokeUp, START + silence).detail, @"used at 2026-04-01T00:00:00Z; before that, created on 2026-01-01");
    let case = Case::moved(&never, used(&never, START + silence - 1));
    case.never(Rule::WokeUp);
    // One that was used long ago already when it was first seen has not woken up.
    Case::added(used(&good("a"), START + silence)).never(Rule::WokeUp);
    // Nor has one whose use is only told from now on.
    let mut case = Case::moved(&never, used(&never, START + silence));
    case.changes.altered[0].changes.clear();
    case.never(Rule::WokeUp);
}

#[test]
fn a_key_that_woke_up_stays_found_for_the_stated_time() {
    let noticed = START + 91 * DAY;
    let woken = used(&good("a"), START + 90 * DAY);
    let case = Case::moved(&good("a"), woken.clone()).recorded(noticed);
    let until = noticed + 30 * DAY;
    let finding = case.the(Rule::WokeUp, until - 1);
    assert_eq!((finding.since, case.past.open.len()), (at(START + 90 * DAY), 2));
    assert_eq!(case.broken(Rule::WokeUp, until), []);
    // Another use meanwhile is the same finding; another silence is another one.
    let case = case.then(used(&woken, noticed + DAY));
    assert_eq!(case.the(Rule::WokeUp, noticed + 2 * DAY), finding);
    let case = case.recorded(noticed + 2 * DAY).then(used(&woken, noticed + 200 * DAY));
    let finding = case.the(Rule::WokeUp, noticed + 201 * DAY);
    assert_eq!(finding.since, at(noticed + 200 * DAY));
    let difference = case.evaluation().at(at(noticed + 201 * DAY));
    assert!(difference.opened.contains(&finding) && !difference.closed.is_empty());
}

proptest! {
    #[test]
    fn a_use_that_went_back_is_found_until_it_has_passed_the_old_one(
        back in prop::option::of(1..1_000i64), forth in 0..2_000i64,
    ) {
        let (last, now) = (START + 1_000, START + 5_000);
        let key = used(&good("a"), last);
        let case = Case::moved(&key, used(&key, back.map(|by| last - by))).recorded(now);
        let finding = case.the(Rule::UseWentBack, now + 1);
        prop_assert_eq!((finding.since, finding.memory), (at(now), Some(at(last))));
        let case = case.then(used(&key, START + forth));
        let healed = START + forth >= last;
        prop_assert_eq!(case.broken(Rule::UseWentBack, now + 2).is_empty(), healed);
    }

    #[test]
    fn a_use_that_went_on_has_not_gone_back(forth in 0..1_000 * DAY) {
        let key = good("a");
        Case::moved(&key, used(&key, START + forth)).never(Rule::UseWentBack);
        let never = used(&key, None);
        Case::moved(&never, used(&never, START + forth)).never(Rule::UseWentBack);
    }
}

#[test]
fn a_use_that_went_back_stays_found_for_the_stated_time() {
    let now = START + DAY;
    let case = Case::moved(&good("a"), used(&good("a"), None)).recorded(now);
    insta::assert_snapshot!(case.the(Rule::UseWentBack, now).detail, @"the last use went back from 2026-01-01T00:00:00Z to never used");
    let until = now + 30 * DAY;
    assert_eq!(case.broken(Rule::UseWentBack, until - 1).len(), 1);
    assert_eq!(case.broken(Rule::UseWentBack, until), []);
    let case = case.recorded(until);
    assert_eq!(case.broken(Rule::UseWentBack, until), [], "it is not found again");
}

#[test]
fn a_use_that_only_comes_back_wakes_nobody_up() {
    let last = START + 100 * DAY;
    let key = used(&good("a"), last);
    let case = Case::moved(&key, used(&key, None)).recorded(last + 60);
    let case = case.then(used(&key, last + 30));
    assert_eq!(case.broken(Rule::WokeUp, last + 120), []);
    assert_eq!(case.broken(Rule::UseWentBack, last + 120), []);
}

#[test]
fn a_use_that_cannot_be_read_has_not_gone_back() {
    let odd = with_other(used(&good("a"), None), "last_used_at", "soon");
    Case::moved(&good("a"), odd.clone()).never(Rule::UseWentBack);
    Case::moved(&odd, used(&good("a"), START + 95 * DAY)).never(Rule::WokeUp);
}

#[test]
fn our_own_use_neither_wakes_up_nor_goes_back() {
    for own_before in [true, false] {
        for after in [used(&good("a"), START + 100 * DAY), used(&good("a"), None)] {
            let mut case = Case::moved(&good("a"), after);
            let own = Some(key_id("a"));
            *(if own_before { &mut case.before.own_key } else { &mut case.changes.own_key }) = own;
            case.never(Rule::WokeUp);
            case.never(Rule::UseWentBack);
        }
    }
}

fn excepted(case: &mut Case, until: i64) {
    case.rules.exceptions.push(Exception {
        key_id: "a".to_owned(),
        rule: None,
        organization: None,
        reason: "why".to_owned(),
        until: at(until),
        origin: String::new(),
    });
}

#[test]
fn what_happened_once_is_found_again_when_an_exception_ends_or_the_rule_is_on_again() {
    let noticed = START + 91 * DAY;
    let woken = || Case::moved(&good("a"), used(&good("a"), START + 90 * DAY));
    let back = || Case::moved(&good("a"), used(&good("a"), None));
    for (rule, case) in [(Rule::WokeUp, woken as fn() -> Case), (Rule::UseWentBack, back)] {
        // The exception begins after it was noticed, or hides it from the start.
        for already_open in [true, false] {
            let mut case = case();
            if already_open {
                case = case.recorded(noticed);
            }
            excepted(&mut case, noticed + 10 * DAY);
            let case = case.recorded(if already_open { noticed + DAY } else { noticed });
            assert!(case.past.open.iter().all(|open| open.finding.rule != rule));
            let finding = case.the(rule, noticed + 10 * DAY);
            // The time that it stays goes on counting from when it was noticed.
            let case = case.recorded(noticed + 10 * DAY);
            assert_eq!(case.the(rule, noticed + 30 * DAY - 1), finding);
            assert_eq!(case.broken(rule, noticed + 30 * DAY), []);
            let mut case = case.recorded(noticed + 30 * DAY);
            assert!(case.past.happened.is_empty());
            case.rules.exceptions.clear();
            assert_eq!(case.broken(rule, noticed + 31 * DAY), []);
        }
        let case = case().with(|rules| rules.disabled.extend([rule])).recorded(noticed);
        assert_eq!(case.broken(rule, noticed + DAY), []);
        let case = case.with(|rules| rules.disabled.clear());
        assert_eq!(case.broken(rule, noticed + DAY).len(), 1);
    }
}

#[test]
fn a_use_that_has_come_back_during_an_exception_is_over() {
    let (now, key) = (START + DAY, good("a"));
    let mut case = Case::moved(&key, used(&key, None)).recorded(now);
    excepted(&mut case, now + 10 * DAY);
    let case = case.then(key.clone()).recorded(now + DAY);
    assert!(case.past.happened.is_empty());
    assert_eq!(case.broken(Rule::UseWentBack, now + 10 * DAY), []);
}
