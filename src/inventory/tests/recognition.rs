//! What a redacted value tells: its format, the scope of its key, and which key is our own.

use super::*;

const NONE: [&str; 0] = [];

fn redacted(value: &str) -> Value {
    json!({"redacted_value": value})
}

#[test]
fn a_new_format_of_all_redacted_values_is_one_notice() {
    let before = world([("a", redacted("sk-admin...abc")), ("b", redacted("sk-admin...def"))]);
    let after = world([
        ("a", redacted("sk-****abc")),
        ("b", redacted("sk-****def")),
        ("c", redacted("sk-****ghi")),
    ]);
    let changes = compare(first(&before), &after, &[]);
    let (events, notices) = told_by(&changes);
    assert_eq!(events, NONE);
    assert_eq!(notices, ["redacted_format redacted_value a=sk-****abc b=sk-****def"]);
    assert_eq!(changes.altered[0].key.scope, Scope::Admin);
    assert_eq!(
        changes.notices[0].to_string(),
        "the `redacted_value` of all 2 keys changed at once"
    );
}

#[test]
fn another_redacted_value_of_one_key_is_an_event() {
    let before = world([("a", redacted("sk-admin...abc")), ("b", redacted("sk-admin...def"))]);
    let after = world([("a", redacted("sk-admin...abc")), ("b", redacted("sk-admin...xyz"))]);
    let (events, notices) = told(&before, &after);
    assert_eq!(events, ["b redacted_value: sk-admin...def > sk-admin...xyz"]);
    assert_eq!(notices, NONE);
    // Of an only key it cannot be told that it is no more than a format.
    let (events, notices) = told(
        &world([("a", redacted("sk-admin...abc"))]),
        &world([("a", redacted("sk-admin...xyz"))]),
    );
    assert_eq!((events.len(), notices.len()), (1, 0));
}

#[test]
fn redacted_values_that_start_to_be_sent_are_one_notice() {
    let before = world([("a", json!({})), ("b", json!({}))]);
    let after = world([("a", redacted("sk-proj...abc")), ("b", redacted("sk-admin...def"))]);
    let (events, notices) = told(&before, &after);
    assert_eq!(notices, ["field_started redacted_value a=sk-proj...abc b=sk-admin...def"]);
    // What they tell of a scope is told by an event: nothing else would.
    assert_eq!(events, ["a scope: admin > project"]);
}

#[test]
fn a_scope_is_found_once_and_changes_only_with_a_conclusive_redacted_value() {
    let member = json!({"type": "service_account", "role": "member"});
    let key = |redacted: &str, owner: &Value| json!({"redacted_value": redacted, "owner": owner});
    for (redacted, owner, scope) in [
        ("sk-admin...abc", json!(null), Scope::Admin),
        // Labelled as an admin key in the list, but it is a project's.
        ("sk-admin...abc", member.clone(), Scope::Admin),
        ("sk-proj...abc", json!({"type": "user", "role": "owner"}), Scope::Project),
        ("sk-svcacct...abc", json!(null), Scope::Project),
        ("sk-...abc", json!(null), Scope::Project),
        ("****abc", member.clone(), Scope::Project),
        ("****abc", json!({"type": "service_account", "role": "owner"}), Scope::Admin),
        ("****abc", json!({"type": "user", "role": "member"}), Scope::Admin),
        ("****abc", json!(null), Scope::Admin),
    ] {
        assert_eq!(sighting("a", &key(redacted, &owner)).key.scope, scope, "{redacted} {owner}");
    }
    let other = ("z", redacted("sk-admin...z"));
    let step = |before: Value, after: Value| {
        told(&world([("a", before), other.clone()]), &world([("a", after), other.clone()])).0
    };
    // Another owner does not move it, nor does an unreadable redacted value.
    let user = json!({"type": "user", "role": "owner"});
    assert!(!step(key("****abc", &member), key("****abc", &user)).concat().contains("scope"));
    assert!(!step(key("sk-proj...abc", &user), key("****abc", &user)).concat().contains("scope"));
    assert_eq!(
        step(key("****abc", &user), key("sk-proj...abc", &user)),
        ["a redacted_value: ****abc > sk-proj...abc", "a scope: admin > project"]
    );
}

fn used(redacted: &str, time: i64) -> Value {
    json!({"redacted_value": redacted, "last_used_at": time})
}

#[test]
fn our_own_use_of_our_own_key_is_no_event_but_kept_up_to_date() {
    let before = world([("a", used("sk-admin-own", 1)), ("b", used("sk-admin-xyz", 1))]);
    let after = world([("a", used("sk-admin-own", 2)), ("b", used("sk-admin-xyz", 2))]);
    let changes = compare(first(&before), &after, &[]);
    let (events, notices) = told_by(&changes);
    assert_eq!(events, ["b last_used_at: 1970-01-01T00:00:01Z > 1970-01-01T00:00:02Z"]);
    assert_eq!(notices, NONE);
    assert_eq!(changes.own_key, Some(id("a")));
    assert_eq!(changes.altered[0].key.last_used_at.unwrap().unix(), 2);
    assert!(changes.altered.iter().all(|alteration| !alteration.more_than_use));
    // Its other changes are events like any key's.
    let mut renamed = after;
    renamed.insert(
        "a".to_owned(),
        json!({"redacted_value": "sk-admin-own", "last_used_at": 3, "name": "N"}),
    );
    let (events, _) = told(&before, &renamed);
    assert_eq!(events.iter().filter(|event| event.starts_with("a ")).count(), 1);
}

#[test]
fn another_own_key_is_a_notice_that_leaves_the_history_right() {
    let before = world([("a", used("sk-admin-own", 1)), ("b", used("sk-admin-xyz", 1))]);
    let known = first(&before);
    assert_eq!(known.own_key, Some(id("a")));
    let later = world([("a", used("sk-admin-own", 9)), ("b", used("sk-admin-xyz", 1))]);
    let known = advance(&known, &compare(copy(&known), &later, &[]));
    let credential = |suffix: &'static str, world: &World| {
        let mut comparison =
            Comparison::new(copy(&known), move |redacted| redacted.ends_with(suffix));
        for (key_id, item) in world {
            comparison.observe(sighting(key_id, item));
        }
        comparison.finish(&HashSet::new(), &HashSet::new())
    };
    let changes = credential("xyz", &later);
    let (events, notices) = told_by(&changes);
    assert_eq!(events, NONE);
    // What our use did to the key that was ours is not left to be guessed.
    assert_eq!(notices, ["own_key own_key a=- b=1", "own_use last_used_at a=1970-01-01T00:00:09Z"]);
    assert_eq!(changes.notices[0].to_string(), "our own key is `b`");
    let changes = credential("nowhere", &later);
    assert_eq!(changes.notices[0].to_string(), "our own key is not in the list");
    assert_eq!(changes.own_key, None);
}

#[test]
fn our_own_key_is_known_though_its_redacted_value_is_sent_no_more() {
    let before = world([("a", used("sk-admin-own", 1)), ("b", used("sk-admin-xyz", 1))]);
    let after = world([("a", json!({"last_used_at": 2})), ("b", json!({"last_used_at": 1}))]);
    let changes = compare(first(&before), &after, &[]);
    assert_eq!(changes.own_key, Some(id("a")));
    let (events, notices) = told_by(&changes);
    assert_eq!((events, notices), (vec![], vec!["field_stopped redacted_value".to_owned()]));
}

#[test]
fn of_several_keys_that_look_like_ours_it_is_the_one_it_was() {
    let one = world([("a", redacted("sk-admin-own"))]);
    let both = world([("a", redacted("sk-admin-own")), ("b", redacted("sk-admin-own"))]);
    assert_eq!(compare(first(&one), &both, &[]).own_key, Some(id("a")));
    assert_eq!(first(&both).own_key, None);
}

#[test]
fn our_own_key_that_goes_is_no_notice_beside_its_removal() {
    let both = world([("a", redacted("sk-admin-own")), ("b", redacted("sk-admin-xyz"))]);
    let rest = world([("b", redacted("sk-admin-xyz"))]);
    let changes = compare(first(&both), &rest, &["a"]);
    assert_eq!((changes.removed.len(), changes.notices.len(), &changes.own_key), (1, 0, &None));
}
