//! Rules that time breaks.

use proptest::prelude::*;

use super::*;

/// A threshold in seconds, and the time from which it counts.
fn cases() -> impl Strategy<Value = (i64, i64)> {
    (3600..400 * DAY, START - 2_000 * DAY..START + 2_000 * DAY)
}

fn long(seconds: i64) -> Duration {
    Duration::from_secs(seconds.unsigned_abs())
}

proptest! {
    #[test]
    fn a_key_that_was_never_used_is_found_from_its_threshold_on((limit, created) in cases()) {
        let key = Key { created_at: Some(at(created)), last_used_at: None, ..good("a") };
        let case = Case::of([key]).with(|rules| rules.never_used = long(limit));
        case.begins(Rule::NeverUsed, created + limit);
        case.never(Rule::Unused);
    }

    #[test]
    fn where_creation_is_unknown_it_counts_from_when_it_was_first_seen((limit, seen) in cases()) {
        let key = Key { created_at: None, last_used_at: None, ..good("a") };
        let mut case = Case::of([key.clone()]).with(|rules| rules.never_used = long(limit));
        case.rules.admin_key_age = long(limit);
        case.past.first_seen.insert(key_id("a"), at(seen));
        case.begins(Rule::NeverUsed, seen + limit);
        case.begins(Rule::Old, seen + limit);
        // A key that is new has all its time before it.
        let case = Case::added(key);
        prop_assert_eq!(case.broken(Rule::NeverUsed, seen), []);
        prop_assert_eq!(case.broken(Rule::Old, seen), []);
    }

    #[test]
    fn a_key_that_is_no_longer_used_is_found_from_its_threshold_on((limit, used) in cases()) {
        let key = Key { last_used_at: Some(at(used)), ..good("a") };
        let case = Case::of([key]).with(|rules| rules.unused = long(limit));
        case.begins(Rule::Unused, used + limit);
        case.never(Rule::NeverUsed);
    }

    #[test]
    fn an_admin_key_is_old_from_its_threshold_on((limit, created) in cases()) {
        let key = Key { created_at: Some(at(created)), ..good("a") };
        let case = Case::of([key]).with(|rules| rules.admin_key_age = long(limit));
        case.begins(Rule::Old, created + limit);
    }

    #[test]
    fn a_projects_key_is_old_only_where_a_threshold_is_set((limit, created) in cases()) {
        let key = Key { scope: Scope::Project, created_at: Some(at(created)), ..good("a") };
        Case::of([key.clone()]).never(Rule::Old);
        let case = Case::of([key]).with(|rules| rules.project_key_age = Some(long(limit)));
        case.begins(Rule::Old, created + limit);
    }

    #[test]
    fn a_key_expires_soon_until_it_has_expired((limit, expires) in cases()) {
        let created = Some(at(expires - 3_000 * DAY));
        let key = Key { created_at: created, expires_at: Some(at(expires)), ..good("a") };
        let case = Case::of([key]).with(|rules| rules.expires_within = long(limit));
        let soon = expires - limit;
        prop_assert_eq!(case.broken(Rule::ExpiresSoon, soon - 1), []);
        prop_assert_eq!(case.the(Rule::ExpiresSoon, soon).since, at(soon));
        prop_assert_eq!(case.the(Rule::ExpiresSoon, expires - 1).since, at(soon));
        prop_assert_eq!(case.broken(Rule::ExpiresSoon, expires), []);
        case.begins(Rule::Expired, expires);
    }
}

#[test]
fn a_key_that_is_made_for_a_week_expires_soon_from_the_beginning() {
    let key = Key { expires_at: Some(at(START + 7 * DAY)), ..good("a") };
    let case = Case::of([key]);
    assert_eq!(case.the(Rule::ExpiresSoon, START).since, at(START));
    assert_eq!(case.the(Rule::ExpiresSoon, START + DAY).since, at(START));
}

#[test]
fn the_details_are_readable() {
    let now = START + 100 * DAY;
    let never = Key { last_used_at: None, ..good("never") };
    let mut unseen = Key { created_at: None, ..never.clone() };
    unseen.id = key_id("unseen");
    let soon = Key { expires_at: Some(at(now + DAY)), ..good("soon") };
    let expired = Key { expires_at: Some(at(now)), ..good("was") };
    let mut case = Case::of([never, unseen, soon, expired]);
    case.past.first_seen.insert(key_id("unseen"), at(START + DAY));
    let opened = case.evaluation().at(at(now)).opened;
    let told = opened.iter().map(|finding| {
        let Finding { key_id, rule, since, detail, .. } = finding;
        format!("{} {rule} since {since}: {detail}", key_id.as_ref().unwrap())
    });
    insta::assert_snapshot!(told.collect::<Vec<_>>().join("\n"), @"
    never never_used since 2026-04-01T00:00:00Z: created on 2026-01-01, never used
    never old since 2026-04-01T00:00:00Z: created on 2026-01-01
    soon unused since 2026-04-01T00:00:00Z: last used on 2026-01-01
    soon old since 2026-04-01T00:00:00Z: created on 2026-01-01
    soon expires_soon since 2026-03-29T00:00:00Z: expires at 2026-04-12T00:00:00Z
    unseen never_used since 2026-04-02T00:00:00Z: first seen on 2026-01-02, never used
    unseen old since 2026-04-02T00:00:00Z: first seen on 2026-01-02
    unseen same_name_and_owner since 2026-01-02T00:00:00Z: `never` is newer, with the same name and owner
    was unused since 2026-04-01T00:00:00Z: last used on 2026-01-01
    was old since 2026-04-01T00:00:00Z: created on 2026-01-01
    was expired since 2026-04-11T00:00:00Z: expired at 2026-04-11T00:00:00Z
    ");
}

#[test]
fn a_use_that_is_not_told_says_nothing() {
    // Not sent at all, no longer sent, or as something that is no time.
    let key = Key { last_used_at: None, ..good("a") };
    let mut case = Case::of([key.clone(), good("b")]);
    let now = START + 1_000 * DAY;
    assert_eq!(case.broken(Rule::NeverUsed, now).len(), 1);
    assert_eq!(case.broken(Rule::Unused, now).len(), 1);
    case.changes.fields.insert("last_used_at".to_owned(), Sent::Stopped);
    case.never(Rule::NeverUsed);
    case.never(Rule::Unused);
    case.changes.fields.remove("last_used_at");
    case.never(Rule::NeverUsed);
    let odd = with_other(key, "last_used_at", "yesterday");
    Case::of([odd]).never(Rule::NeverUsed);
}

#[test]
fn our_own_use_of_our_own_key_says_nothing_of_it() {
    let mut case = Case::of([good("a"), Key { last_used_at: None, ..good("b") }]);
    let now = START + 1_000 * DAY;
    assert_eq!(case.the(Rule::Unused, now).key_id, Some(key_id("a")));
    assert_eq!(case.the(Rule::NeverUsed, now).key_id, Some(key_id("b")));
    case.changes.own_key = Some(key_id("a"));
    assert_eq!(case.broken(Rule::Unused, now), []);
    case.changes.own_key = Some(key_id("b"));
    assert_eq!(case.broken(Rule::NeverUsed, now), []);
    assert_eq!(case.broken(Rule::Old, now).len(), 2, "it is judged like others otherwise");
}
