//! What changes for all keys at once is a notice; what changes for one is an event.

use super::*;

const NONE: [&str; 0] = [];

#[test]
fn a_field_that_starts_for_all_keys_is_one_notice() {
    let before = world([("a", json!({"name": "A"})), ("b", json!({"name": "B"}))]);
    let after =
        world([("a", json!({"name": "A", "tier": 1})), ("b", json!({"name": "B", "tier": null}))]);
    let (events, notices) = told(&before, &after);
    assert_eq!(events, NONE);
    assert_eq!(notices, ["field_started tier a=1"]);
}

#[test]
fn a_field_that_starts_for_some_keys_is_an_event_of_each() {
    let before = world([("a", json!({})), ("b", json!({})), ("c", json!({}))]);
    let after = world([("a", json!({"tier": 1})), ("b", json!({"tier": null})), ("c", json!({}))]);
    let (events, notices) = told(&before, &after);
    assert_eq!(events, ["a tier: - > 1"]);
    assert_eq!(notices, NONE);
}

#[test]
fn a_field_that_stops_for_all_keys_is_one_notice_and_keeps_its_last_values() {
    let full =
        world([("a", json!({"name": "A", "tier": 1})), ("b", json!({"name": null, "tier": null}))]);
    let bare = world([("a", json!({})), ("b", json!({})), ("c", json!({}))]);
    let changes = compare(first(&full), &bare, &[]);
    assert_eq!(
        told_by(&changes),
        (vec![], vec!["field_stopped name".to_owned(), "field_stopped tier".to_owned()])
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
    let missing = "unconfirmed last_seen_at c=1".to_owned();
    assert_eq!(told_by(&changes), (vec!["a name: A > Z".to_owned()], vec![missing]));
    assert_eq!(changes.fields.get("name"), Some(&Sent::Stopped));
}

#[test]
fn what_happens_to_an_object_of_few_keys_is_an_event_of_each() {
    let others =
        |first: Value| world([("a", first), ("b", json!({"o": null})), ("c", json!({"o": null}))]);
    let one = |inner: Value| others(json!({"o": inner}));
    for (before, after, event) in [
        (one(Value::Null), one(json!({"id": "M"})), "a o.id: - > M"),
        (one(json!({"id": "M"})), one(json!({"id": "M", "role": "r"})), "a o.role: - > r"),
        (one(json!({"id": "M", "role": "r"})), one(json!({"id": "M"})), "a o.role: r > -"),
    ] {
        assert_eq!(told(&before, &after), (vec![event.to_owned()], vec![]));
    }
    // Empty objects are objects that lack what the one has.
    let one = |inner: Value| {
        world([("a", json!({"m": inner})), ("b", json!({"m": {}})), ("c", json!({"m": {}}))])
    };
    let (with, without) = (one(json!({"env": "prod", "x": 1})), one(json!({"x": 1})));
    assert_eq!(told(&with, &without), (vec!["a m.env: prod > -".to_owned()], vec![]));
    assert_eq!(told(&without, &with), (vec!["a m.env: - > prod".to_owned()], vec![]));
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
    let (events, notices) = told_by(&changes);
    assert_eq!((events, notices), (vec![], vec!["unconfirmed last_seen_at a=1".to_owned()]));
    assert_eq!(changes.fields, before.fields);
    assert_eq!(changes.unconfirmed, [id("a")]);
}

fn owned(owner: impl Into<Value>) -> Value {
    json!({"name": "N", "owner": owner.into()})
}

#[test]
fn an_owner_that_is_null_or_absent_on_some_keys_is_theirs_to_tell() {
    let user = json!({"type": "user", "id": "u", "role": "owner"});
    let before =
        world([("a", owned(user.clone())), ("b", owned(user.clone())), ("c", owned(user.clone()))]);
    let after = world([("a", owned(user)), ("b", owned(Value::Null)), ("c", json!({"name": "N"}))]);
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
    assert_eq!((events.len(), notices.len()), (6, 0), "{events:?} {notices:?}");
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
    assert_eq!(told_by(&changes), (vec![], vec!["field_stopped owner_role".to_owned()]));
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
    assert_eq!(told_by(&changes), (vec![], vec!["field_stopped owner".to_owned()]));
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
        ("b", owned(json!({"type": "service_account", "id": "u", "created_at": 1}))),
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
    let after = world([("a", json!({"owner": {"type": "user"}})), ("b", json!({"owner": null}))]);
    let (events, notices) = told(&before, &after);
    assert_eq!(events, NONE);
    assert_eq!(notices, ["field_started owner", "field_started owner_type a=user"]);
}

#[test]
fn keys_that_are_unconfirmed_are_noted_once_and_again_when_they_are_seen() {
    let both = world([("a", json!({})), ("b", json!({}))]);
    let one = world([("a", json!({}))]);
    let before = first(&both);
    let changes = compare(copy(&before), &one, &[]);
    assert_eq!(told_by(&changes).1, ["unconfirmed last_seen_at b=1"]);
    let before = advance(&before, &changes);
    assert_eq!(told_by(&compare(copy(&before), &one, &[])).1, NONE);
    assert_eq!(told_by(&compare(copy(&before), &one, &["b"])).1, NONE);
    assert_eq!(told_by(&compare(copy(&before), &both, &[])).1, ["unconfirmed last_seen_at b=-"]);
}
