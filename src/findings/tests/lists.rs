//! Rules that only the whole list shows to be broken.

use super::*;

fn twin(id: &str, created: i64) -> Key {
    Key { owner_id: shared("ada"), created_at: Some(at(created)), ..good(id) }
}

#[test]
fn of_two_live_keys_with_one_name_and_owner_the_older_one_is_found() {
    let case = Case::of([twin("old", START), twin("new", START + DAY)]);
    let finding = case.the(Rule::SameNameAndOwner, START + 2 * DAY);
    assert_eq!(finding.key_id, Some(key_id("old")));
    assert_eq!(finding.since, at(START + DAY));
    insta::assert_snapshot!(finding.detail, @"`new` is newer, with the same name and owner");
    let three = [twin("a", START), twin("b", START + DAY), twin("c", START + 2 * DAY)];
    let found = Case::of(three).broken(Rule::SameNameAndOwner, START + 3 * DAY);
    let told: Vec<_> = found.iter().map(|finding| (finding.since, &*finding.detail)).collect();
    let detail = "`c` is newer, with the same name and owner";
    assert_eq!(told, [(at(START + DAY), detail), (at(START + 2 * DAY), detail)]);
}

#[test]
fn keys_that_differ_in_more_than_their_age_are_no_twins() {
    let twin = twin("a", START + DAY);
    let project = |id: &str| Key { scope: Scope::Project, project_id: shared(id), ..twin.clone() };
    for (what, other) in [
        ("name", Key { name: shared("another"), ..twin.clone() }),
        ("no name", Key { name: None, ..twin.clone() }),
        ("owner", Key { owner_id: shared("bob"), ..twin.clone() }),
        ("no owner", Key { owner_id: None, ..twin.clone() }),
        ("scope", project("p")),
        ("expired", Key { expires_at: Some(at(START + 2 * DAY)), ..twin.clone() }),
    ] {
        let first = Key { owner_id: shared("ada"), ..good("first") };
        let case = Case::of([first, other]);
        assert_eq!(case.broken(Rule::SameNameAndOwner, START + 2 * DAY), [], "{what}");
    }
    let of = |id: &str, project_id| Key { id: key_id(id), ..project(project_id) };
    let found = |case: Case| case.broken(Rule::SameNameAndOwner, START + 2 * DAY).len();
    assert_eq!(found(Case::of([of("a", "p"), of("b", "q")])), 0);
    assert_eq!(found(Case::of([of("a", "p"), of("b", "p")])), 1);
    // Nobody who was forgotten is the same as another.
    let erased = |id: &str| Key { owner_id: None, owner_name: shared("erased"), ..good(id) };
    assert_eq!(found(Case::of([erased("a"), erased("b")])), 0);
}

#[test]
fn an_id_in_a_detail_is_harmless() {
    let case = Case::of([twin("a", START), twin("\u{1b}[2J\n", START + DAY)]);
    let finding = case.the(Rule::SameNameAndOwner, START + 2 * DAY);
    assert!(!finding.detail.contains(char::is_control), "{}", finding.detail);
}

#[test]
fn one_admin_key_more_than_the_limit_is_found() {
    let some = |count: usize| {
        let keys = (0..count).map(|number| {
            let created = START + i64::try_from(number).unwrap() * 60;
            Key { created_at: Some(at(created)), ..good(&format!("key_{number}")) }
        });
        // Projects' keys do not count.
        let others = (0..20)
            .map(|number| Key { scope: Scope::Project, ..good(&format!("project_{number}")) });
        Case::of(keys.chain(others))
    };
    let now = START + DAY;
    some(10).never(Rule::TooManyAdminKeys);
    let finding = some(12).the(Rule::TooManyAdminKeys, now);
    // Since the eleventh was made.
    assert_eq!((finding.key_id, finding.since), (None, at(START + 600)));
    insta::assert_snapshot!(finding.detail, @"more than 10 admin keys");
    some(12).with(|rules| rules.max_admin_keys = 12).never(Rule::TooManyAdminKeys);
    let none = some(1).with(|rules| rules.max_admin_keys = 0);
    assert_eq!(none.broken(Rule::TooManyAdminKeys, now).len(), 1);
    // It stays true since then, whichever keys go and come, and another limit is another finding.
    let mut case = some(12).recorded(now);
    case.changes.removed.push(good("key_0"));
    assert_eq!(case.the(Rule::TooManyAdminKeys, now + DAY).since, at(START + 600));
    case.rules.max_admin_keys = 5;
    assert_eq!(case.the(Rule::TooManyAdminKeys, now + DAY).since, at(START + 360));
}
