//! What changes for all keys at once is a notice; what changes for one is an event.

use super::*;

const NONE: [&str; 0] = [];

#[test]
fn a_field_that_starts_for_all_keys_is_one_notice() {
    let before = world([("a", json!({"name": "A"})), ("b", json!({"name": "B"}))]);
    let after = world([
        ("a", json!({"name": "A", "tier": 1})),
        ("b", json!({"name": "B", "tier": null})),
    ]);
    let (events, notices) = told(&before, &after);
    assert_eq!(events, NONE);
    assert_eq!(notices, ["field_started tier a=1"]);
}

#[test]
fn a_field_that_starts_for_some_keys_is_an_event_of_each() {
    let before = world([("a", json!({})), ("b", json!({})), ("c", json!({}))]);
    let after = world([
        ("a", json!({"tier": 1})),
        ("b", json!({"tier": null})),
        ("c", json!({})),
    ]);
    let (events, notices) = told(&before, &after);
    assert_eq!(events, ["a tier: - > 1"]);
    assert_eq!(notices, NONE);
}

#[test]
fn a_field_that_stops_for_all_keys_is_one_notice_and_keeps_its_last_values() {
    let full = world([
        ("a", json!({"name": "A", "tier": 1})),
        ("b", json!({"name": null, "tier": null})),
    ]);
    let bare = world([("a", json!({})), ("b", json!({})), ("c", json!({}))]);
    let changes = compare(first(&full), &bare, &[]);
    assert_eq!(
        told_by(&changes),
        (
            vec![],
            vec![
                "field_stopped name".to_owned(),
                "field_stopped tier".to_owned()
            ]
        )
    );
    assert_eq!(changes.altered, []);
    let stopped = advance(&first(&full), &changes);
    assert_eq!(stopped.keys[&id("a")].name.as_deref(), Some("A"));
    assert_eq!(stopped.keys[&id("a")].other.get("tier"), Some(&json!(1)));

    // Still stopped: nothing new.
    let changes = compare(copy(&stopped), &bare, &[]);
    assert_eq!(told_by(&changes), (vec![], vec![]));
    assert_eq!(advance(&stopped, &changes).keys, stopped.keys);

    // Back with the values it had, with another one, and for a key that it was never known of.
    let back = world([
        ("a", json!({"name": "A", "tier": 2})),
        ("b", json!({"name": null, "tier": null})),
        ("c", json!({"name": "C", "tier": null})),
    ]);
    let (events, notices) = told_by(&compare(copy(&stopped), &back, &[]));
    assert_eq!(events, ["a tier: 1 > 2"]);
    assert_eq!(notices, ["field_started name c=C", "field_started tier"]);

    // Back for one key only.
    let some = world([("a", json!({"name": "Z"})), ("b", json!({}))]);
    let changes = compare(copy(&stopped), &some, &[]);
    assert_eq!(
        told_by(&changes),
        (vec!["a name: A > Z".to_owned()], vec![])
    );
    assert_eq!(changes.fields.get("name"), Some(&Sent::Stopped));
}

#[test]
fn a_field_that_stops_for_some_keys_is_an_event_of_each() {
    let before = world([("a", json!({"tier": 1})), ("b", json!({"tier": 2}))]);
    let after = world([("a", json!({"tier": 1})), ("b", json!({}))]);
    let (events, notices) = told(&before, &after);
    assert_eq!(events, ["b tier: 2 > -"]);
    assert_eq!(notices, NONE);
}

#[test]
fn a_list_without_keys_tells_nothing_of_fields() {
    let before = first(&world([("a", json!({"tier": 1}))]));
    let changes = compare(copy(&before), &World::new(), &[]);
    assert_eq!(
        (changes.notices.len(), changes.fields.clone()),
        (0, before.fields.clone())
    );
    assert_eq!(changes.unconfirmed, [id("a")]);
}

fn owned(owner: impl Into<Value>) -> Value {
    json!({"name": "N", "owner": owner.into()})
}

#[test]
fn an_owner_that_is_null_or_absent_on_some_keys_is_theirs_to_tell() {
    let user = json!({"type": "user", "id": "u", "role": "owner"});
    let before = world([
        ("a", owned(user.clone())),
        ("b", owned(user.clone())),
        ("c", owned(user.clone())),
    ]);
    let after = world([
        ("a", owned(user)),
        ("b", owned(Value::Null)),
        ("c", json!({"name": "N"})),
    ]);
    let (events, notices) = told(&before, &after);
    let gone = |key: &str| {
        [
            format!("{key} owner_type: user > -"),
            format!("{key} owner_id: u > -"),
            format!("{key} owner_role: owner > -"),
        ]
    };
    assert_eq!(events, [gone("b"), gone("c")].concat());
    assert_eq!(notices, NONE);
    // And back.
    let (events, notices) = told(&after, &before);
    assert_eq!(
        (events.len(), notices.len()),
        (6, 0),
        "{events:?} {notices:?}"
    );
}

#[test]
fn an_owner_that_is_null_on_all_keys_is_theirs_to_tell_too() {
    let user = json!({"type": "user", "deep": {"er": 1}});
    let before = world([("a", owned(user.clone())), ("b", owned(user))]);
    let after = world([("a", owned(Value::Null)), ("b", owned(Value::Null))]);
    let (events, notices) = told(&before, &after);
    assert_eq!(
        events,
        [
            "a owner_type: user > -",
            "a owner.deep.er: 1 > -",
            "b owner_type: user > -",
            "b owner.deep.er: 1 > -"
        ]
    );
    assert_eq!(notices, NONE);
    // The fields of an owner are still as they were: coming back is no news of the API.
    let known = first(&before);
    let nulls = advance(&known, &compare(copy(&known), &after, &[]));
    let (events, notices) = told_by(&compare(nulls, &before, &[]));
    assert_eq!((events.len(), notices), (4, vec![]));
}

#[test]
fn a_field_of_the_owner_that_stops_is_one_notice() {
    let before = world([
        ("a", owned(json!({"type": "user", "role": "owner"}))),
        ("b", owned(json!({"type": "user", "role": "member"}))),
        ("c", owned(Value::Null)),
    ]);
    let after = world([
        ("a", owned(json!({"type": "user"}))),
        ("b", owned(json!({"type": "user"}))),
        ("c", owned(Value::Null)),
    ]);
    let changes = compare(first(&before), &after, &[]);
    assert_eq!(
        told_by(&changes),
        (vec![], vec!["field_stopped owner_role".to_owned()])
    );
    let after = advance(&first(&before), &changes);
    assert_eq!(after.keys[&id("b")].owner_role.as_deref(), Some("member"));
}

#[test]
fn an_owner_that_the_api_sends_no_more_is_one_notice() {
    let user = json!({"type": "user", "id": "u", "created_at": 1});
    let before = world([("a", owned(user.clone())), ("b", owned(user.clone()))]);
    let after = world([("a", json!({"name": "N"})), ("b", json!({"name": "N"}))]);
    let known = first(&before);
    let changes = compare(copy(&known), &after, &[]);
    assert_eq!(
        told_by(&changes),
        (vec![], vec!["field_stopped owner".to_owned()])
    );
    let stopped = advance(&known, &changes);
    assert_eq!(stopped.keys, known.keys);
    // It stays known while it is not sent, and its return with the same values tells no value.
    let again = compare(copy(&stopped), &after, &[]);
    assert_eq!(told_by(&again), (vec![], vec![]));
    let (events, notices) = told_by(&compare(copy(&stopped), &before, &[]));
    assert_eq!(events, NONE);
    assert_eq!(notices, ["field_started owner"]);
    // What it is for a key that came meanwhile is no event either.
    let mut more = after;
    more.insert("c".to_owned(), json!({"name": "N"}));
    let with_c = advance(&stopped, &compare(copy(&stopped), &more, &[]));
    let back = world([
        ("a", owned(user.clone())),
        (
            "b",
            owned(json!({"type": "service_account", "id": "u", "created_at": 1})),
        ),
        ("c", owned(user)),
    ]);
    let (events, notices) = told_by(&compare(with_c, &back, &[]));
    assert_eq!(events, ["b owner_type: user > service_account"]);
    assert_eq!(
        notices,
        [
            "field_started owner",
            "field_started owner.created_at c=1",
            "field_started owner_id c=u",
            "field_started owner_type c=user"
        ]
    );
}

#[test]
fn what_only_some_owners_have_is_kept_too_when_the_owner_is_sent_no_more() {
    let user = json!({"type": "user", "name": "Ada"});
    let account = json!({"type": "service_account"});
    let before = world([("a", owned(user)), ("b", owned(account))]);
    let after = world([("a", json!({"name": "N"})), ("b", json!({"name": "N"}))]);
    let known = first(&before);
    let stopped = advance(&known, &compare(copy(&known), &after, &[]));
    assert_eq!(stopped.keys, known.keys);
    assert_eq!(told_by(&compare(stopped, &before, &[])).0, NONE);
}

#[test]
fn an_owner_that_starts_for_all_keys_is_no_event() {
    let before = world([("a", json!({})), ("b", json!({}))]);
    let after = world([
        ("a", json!({"owner": {"type": "user"}})),
        ("b", json!({"owner": null})),
    ]);
    let (events, notices) = told(&before, &after);
    assert_eq!(events, NONE);
    assert_eq!(notices, ["field_started owner_type a=user"]);
}

fn redacted(value: &str) -> Value {
    json!({"redacted_value": value})
}

#[test]
fn a_new_format_of_all_redacted_values_is_one_notice() {
    let before = world([
        ("a", redacted("sk-admin...abc")),
        ("b", redacted("sk-admin...def")),
    ]);
    let after = world([
        ("a", redacted("sk-****abc")),
        ("b", redacted("sk-****def")),
        ("c", redacted("sk-****ghi")),
    ]);
    let changes = compare(first(&before), &after, &[]);
    let (events, notices) = told_by(&changes);
    assert_eq!(events, NONE);
    assert_eq!(
        notices,
        ["redacted_format redacted_value a=sk-****abc b=sk-****def"]
    );
    assert_eq!(changes.altered[0].key.scope, Scope::Admin);
    assert_eq!(
        changes.notices[0].to_string(),
        "the `redacted_value` of all 2 keys changed at once"
    );
}

#[test]
fn another_redacted_value_of_one_key_is_an_event() {
    let before = world([
        ("a", redacted("sk-admin...abc")),
        ("b", redacted("sk-admin...def")),
    ]);
    let after = world([
        ("a", redacted("sk-admin...abc")),
        ("b", redacted("sk-admin...xyz")),
    ]);
    let (events, notices) = told(&before, &after);
    assert_eq!(
        events,
        ["b redacted_value: sk-admin...def > sk-admin...xyz"]
    );
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
    let after = world([
        ("a", redacted("sk-proj...abc")),
        ("b", redacted("sk-admin...def")),
    ]);
    let (events, notices) = told(&before, &after);
    assert_eq!(
        notices,
        ["field_started redacted_value a=sk-proj...abc b=sk-admin...def"]
    );
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
        (
            "sk-proj...abc",
            json!({"type": "user", "role": "owner"}),
            Scope::Project,
        ),
        ("sk-svcacct...abc", json!(null), Scope::Project),
        ("sk-...abc", json!(null), Scope::Project),
        ("****abc", member.clone(), Scope::Project),
        (
            "****abc",
            json!({"type": "service_account", "role": "owner"}),
            Scope::Admin,
        ),
        (
            "****abc",
            json!({"type": "user", "role": "member"}),
            Scope::Admin,
        ),
        ("****abc", json!(null), Scope::Admin),
    ] {
        assert_eq!(
            sighting("a", &key(redacted, &owner)).key.scope,
            scope,
            "{redacted} {owner}"
        );
    }
    let other = ("z", redacted("sk-admin...z"));
    let step = |before: Value, after: Value| {
        told(
            &world([("a", before), other.clone()]),
            &world([("a", after), other.clone()]),
        )
        .0
    };
    // Another owner does not move it, nor does an unreadable redacted value.
    let user = json!({"type": "user", "role": "owner"});
    assert!(
        !step(key("****abc", &member), key("****abc", &user))
            .concat()
            .contains("scope")
    );
    assert!(
        !step(key("sk-proj...abc", &user), key("****abc", &user))
            .concat()
            .contains("scope")
    );
    assert_eq!(
        step(key("****abc", &user), key("sk-proj...abc", &user)),
        [
            "a redacted_value: ****abc > sk-proj...abc",
            "a scope: admin > project"
        ]
    );
}

fn used(redacted: &str, time: i64) -> Value {
    json!({"redacted_value": redacted, "last_used_at": time})
}

#[test]
fn our_own_use_of_our_own_key_is_no_event_but_kept_up_to_date() {
    let before = world([
        ("a", used("sk-admin-own", 1)),
        ("b", used("sk-admin-xyz", 1)),
    ]);
    let after = world([
        ("a", used("sk-admin-own", 2)),
        ("b", used("sk-admin-xyz", 2)),
    ]);
    let changes = compare(first(&before), &after, &[]);
    let (events, notices) = told_by(&changes);
    assert_eq!(
        events,
        ["b last_used_at: 1970-01-01T00:00:01Z > 1970-01-01T00:00:02Z"]
    );
    assert_eq!(notices, NONE);
    assert_eq!(changes.own_key, Some(id("a")));
    assert_eq!(changes.altered[0].key.last_used_at.unwrap().unix(), 2);
    assert!(
        changes
            .altered
            .iter()
            .all(|alteration| !alteration.more_than_use)
    );
    // Its other changes are events like any key's.
    let mut renamed = after;
    renamed.insert(
        "a".to_owned(),
        json!({"redacted_value": "sk-admin-own", "last_used_at": 3, "name": "N"}),
    );
    let (events, _) = told(&before, &renamed);
    assert_eq!(
        events
            .iter()
            .filter(|event| event.starts_with("a "))
            .count(),
        1
    );
}

#[test]
fn another_own_key_is_a_notice_that_leaves_the_history_right() {
    let before = world([
        ("a", used("sk-admin-own", 1)),
        ("b", used("sk-admin-xyz", 1)),
    ]);
    let known = first(&before);
    assert_eq!(known.own_key, Some(id("a")));
    let later = world([
        ("a", used("sk-admin-own", 9)),
        ("b", used("sk-admin-xyz", 1)),
    ]);
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
    assert_eq!(
        notices,
        [
            "own_key own_key a=- b=1",
            "own_use last_used_at a=1970-01-01T00:00:09Z"
        ]
    );
    assert_eq!(changes.notices[0].to_string(), "our own key is `b`");
    let changes = credential("nowhere", &later);
    assert_eq!(
        changes.notices[0].to_string(),
        "our own key is not in the list"
    );
    assert_eq!(changes.own_key, None);
}

#[test]
fn our_own_key_is_known_though_its_redacted_value_is_sent_no_more() {
    let before = world([
        ("a", used("sk-admin-own", 1)),
        ("b", used("sk-admin-xyz", 1)),
    ]);
    let after = world([
        ("a", json!({"last_used_at": 2})),
        ("b", json!({"last_used_at": 1})),
    ]);
    let changes = compare(first(&before), &after, &[]);
    assert_eq!(changes.own_key, Some(id("a")));
    let (events, notices) = told_by(&changes);
    assert_eq!(
        (events, notices),
        (vec![], vec!["field_stopped redacted_value".to_owned()])
    );
}

#[test]
fn of_several_keys_that_look_like_ours_it_is_the_one_it_was() {
    let one = world([("a", redacted("sk-admin-own"))]);
    let both = world([
        ("a", redacted("sk-admin-own")),
        ("b", redacted("sk-admin-own")),
    ]);
    assert_eq!(compare(first(&one), &both, &[]).own_key, Some(id("a")));
    assert_eq!(first(&both).own_key, None);
}

#[test]
fn our_own_key_that_goes_is_no_notice_beside_its_removal() {
    let both = world([
        ("a", redacted("sk-admin-own")),
        ("b", redacted("sk-admin-xyz")),
    ]);
    let rest = world([("b", redacted("sk-admin-xyz"))]);
    let changes = compare(first(&both), &rest, &["a"]);
    assert_eq!(
        (
            changes.removed.len(),
            changes.notices.len(),
            &changes.own_key
        ),
        (1, 0, &None)
    );
}
