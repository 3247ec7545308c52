//! Rules that a state of a key breaks, which shows no time of its own.

use super::*;

/// A rule, how to break it, and a key that comes close.
type State = (Rule, fn(Key) -> Key, fn(Key) -> Key);

const STATES: [State; 5] = [
    (
        Rule::NeverExpires,
        |key| Key { expires_at: None, ..key },
        |key| Key { expires_at: None, scope: Scope::Project, ..key },
    ),
    (
        Rule::NoName,
        |key| Key { name: shared(" \t"), ..key },
        |key| with_other(Key { name: None, ..key }, "name", 7),
    ),
    (
        Rule::OwnerMissing,
        |key| Key { owner_id: None, ..key },
        |key| Key { owner_id: None, owner_name: shared("Ada"), ..key },
    ),
    (
        Rule::OwnerWithoutAccess,
        |key| with_other(key, "owner_project_access", "inactive"),
        |key| with_other(key, "owner_project_access", "active"),
    ),
    (
        Rule::AdminServiceAccount,
        |key| Key { owner_type: shared("service_account"), ..key },
        |key| Key { owner_type: shared("service_account"), scope: Scope::Project, ..key },
    ),
];

#[test]
fn a_state_is_found_and_what_comes_close_is_not() {
    for (rule, breaks, close) in STATES {
        let case = Case::of([breaks(good("a"))]);
        // It was so already when anybody first looked.
        assert_eq!(case.the(rule, START + 7).since, at(START), "{rule}");
        Case::of([close(good("a"))]).never(rule);
        Case::of([good("a")]).never(rule);
    }
}

#[test]
fn a_state_that_begins_while_somebody_looks_is_true_since_then() {
    for (rule, breaks, _) in STATES {
        let now = START + 10 * DAY;
        let case = Case::moved(&good("a"), breaks(good("a")));
        assert_eq!(case.the(rule, now).since, at(now), "{rule}");
        // And stays so, whatever else happens.
        let case = case.recorded(now);
        assert_eq!(case.the(rule, now + DAY).since, at(now), "{rule}");
        let mut touched = breaks(good("a"));
        touched.redacted_value = shared("sk-admin-****abcd");
        let case = case.then(touched);
        assert_eq!(case.the(rule, now + 2 * DAY).since, at(now), "{rule}");
        // Until it is mended.
        let case = case.recorded(now + 2 * DAY).then(good("a"));
        assert_eq!(case.broken(rule, now + 3 * DAY), []);
        assert_eq!(case.evaluation().at(at(now + 3 * DAY)).closed.len(), 1);
    }
}

#[test]
fn a_new_key_is_so_since_it_was_made_or_seen() {
    for (rule, breaks, _) in STATES {
        let now = START + 10 * DAY;
        assert_eq!(Case::added(breaks(good("a"))).the(rule, now).since, at(START));
        let undated = Key { created_at: None, ..breaks(good("a")) };
        assert_eq!(Case::added(undated).the(rule, now).since, at(now));
        let future = Key { created_at: Some(at(now + DAY)), ..breaks(good("a")) };
        assert_eq!(Case::added(future).the(rule, now).since, at(now));
    }
}

#[test]
fn a_field_that_the_api_does_not_send_is_missing_from_no_key() {
    for (rule, fields) in [
        (Rule::NeverExpires, &["expires_at"][..]),
        (Rule::NoName, &["name"]),
        (Rule::OwnerMissing, &["owner", "owner_id"]),
    ] {
        let breaks = STATES.iter().find(|state| state.0 == rule).unwrap().1;
        let mut case = Case::of([breaks(good("a"))]);
        for field in fields {
            case.changes.fields.insert((*field).to_owned(), Sent::Stopped);
        }
        case.never(rule);
        for field in fields {
            case.changes.fields.remove(*field);
        }
        case.never(rule);
        case.changes.fields.insert(fields[0].to_owned(), Sent::Sometimes);
        assert_eq!(case.broken(rule, START).len(), 1);
    }
}

#[test]
fn a_removed_key_breaks_nothing() {
    for (rule, breaks, _) in STATES {
        let mut case = Case::of([breaks(good("a"))]).recorded(START);
        assert_eq!(case.past.open.len(), 1);
        case.changes.removed.push(breaks(good("a")));
        assert_eq!(case.broken(rule, START + 1), []);
        let difference = case.evaluation().at(at(START + 1));
        assert_eq!(difference, Difference { closed: vec![1], ..Difference::default() });
    }
}
