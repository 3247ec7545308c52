//! Laws of comparing, replaying and judging, and the worlds that they are tried on.

mod compare;
mod fields;
mod judge;
mod notices;
mod projects;
mod recognition;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

pub(crate) use projects::{of_project, project};

use super::*;
use crate::clock::Timestamp;

pub(crate) fn id(text: &str) -> KeyId {
    KeyId::new(text).unwrap()
}

/// A key as the API would describe it in `item`, read in the way that the client reads it.
pub(crate) fn sighting(key_id: &str, item: &Value) -> Sighting {
    let mut key = Key::new(id(key_id), Scope::Admin);
    let mut shape = Shape::default();
    flatten("", item, &mut key, &mut shape);
    Sighting::new(key, Arc::new(shape))
}

fn flatten(parent: &str, object: &Value, key: &mut Key, shape: &mut Shape) {
    for (name, value) in object.as_object().unwrap() {
        let path = join_path(parent, name);
        if value.as_object().is_some_and(|object| !object.is_empty()) {
            shape.objects.insert(path.clone());
            flatten(&path, value, key, shape);
            continue;
        }
        let column = Column::from_api_path(&path);
        let field = column.map_or(path.clone(), |column| column.name().to_owned());
        shape.leaves.insert(field);
        let time = value.as_i64().and_then(Timestamp::from_unix);
        match column {
            Some(column) if column.is_time() && time.is_some() => key.set_time(column, time),
            Some(column) if !column.is_time() && value.is_string() => {
                key.set_text(column, value.as_str().map(Arc::from));
            }
            _ if value.is_null() => {}
            _ => key.set_other(&path, Some(value.clone())),
        }
    }
}

pub(crate) type World = BTreeMap<String, Value>;

pub(crate) fn world<const N: usize>(keys: [(&str, Value); N]) -> World {
    keys.into_iter().map(|(key_id, item)| (key_id.to_owned(), item)).collect()
}

/// Our own key is the one whose redacted value ends in `own`.
pub(crate) fn compare(snapshot: Snapshot, world: &World, gone: &[&str]) -> Changes {
    let sightings = world.iter().map(|(key_id, item)| sighting(key_id, item));
    let gone = gone.iter().map(|text| id(text)).collect();
    compare_all(snapshot, sightings, &gone, &HashSet::new())
}

#[expect(clippy::needless_pass_by_value, reason = "most callers make one for it")]
pub(crate) fn compare_all(
    snapshot: Snapshot,
    sightings: impl IntoIterator<Item = Sighting>,
    gone: &HashSet<KeyId>,
    returning: &HashSet<KeyId>,
) -> Changes {
    let sightings: Vec<Sighting> = sightings.into_iter().collect();
    let compare = |mut comparison: Comparison<'_>| {
        for sighting in &sightings {
            comparison.observe(sighting.clone());
        }
        resolve(&mut comparison, &snapshot);
        comparison.finish(gone, returning)
    };
    let changes = compare(Comparison::new(in_outline(&snapshot), is_own));
    assert_eq!(
        changes,
        compare(Comparison::new(copy(&snapshot), is_own)),
        "by the keys themselves"
    );
    changes
}

pub(crate) fn is_own(redacted: &str) -> bool {
    redacted.ends_with("own")
}

/// The same snapshot, of which only an outline is at hand.
pub(crate) fn in_outline(snapshot: &Snapshot) -> Snapshot {
    let Snapshot { keys, fields, project_fields, projects, own_key, .. } = snapshot;
    let mut outline = Outline::new(keys.len(), fields, project_fields);
    for key in keys.values() {
        let is_own =
            own_key.as_ref() == Some(&key.id) || key.redacted_value.as_deref().is_some_and(is_own);
        outline.add(key, projects, is_own);
    }
    Snapshot { keys: HashMap::new(), outline, ..copy(snapshot) }
}

/// Gives the comparison the keys that it wants, and no others.
pub(crate) fn resolve(comparison: &mut Comparison<'_>, snapshot: &Snapshot) {
    let wanted = comparison.wanted().into_iter();
    let keys = wanted.filter_map(|id| Some((id.clone(), snapshot.keys.get(&id)?.clone())));
    comparison.resolve(keys.collect());
}

/// The snapshot that `changes` lead to.
pub(crate) fn advance(before: &Snapshot, changes: &Changes) -> Snapshot {
    let mut keys = before.keys.clone();
    for appearance in &changes.appeared.all() {
        keys.insert(appearance.key().id.clone(), appearance.key().clone());
    }
    for alteration in &changes.altered {
        let known = keys.insert(alteration.key.id.clone(), alteration.key.clone());
        assert!(known.is_some());
    }
    for key in &changes.removed {
        assert_eq!(keys.remove(&key.id).as_ref(), Some(key));
    }
    Snapshot {
        keys,
        own_key: changes.own_key.clone(),
        fields: changes.fields.clone(),
        project_fields: changes.project_fields.clone(),
        projects: changes.projects.clone(),
        last_run: Some(before.last_run.unwrap_or(0) + 1),
        unconfirmed: changes.unconfirmed.iter().cloned().collect(),
        exists: true,
        forgotten: before.forgotten.clone(),
        outline: Outline::default(),
    }
}

pub(crate) fn copy(snapshot: &Snapshot) -> Snapshot {
    Snapshot {
        keys: snapshot.keys.clone(),
        own_key: snapshot.own_key.clone(),
        fields: snapshot.fields.clone(),
        project_fields: snapshot.project_fields.clone(),
        projects: snapshot.projects.clone(),
        last_run: snapshot.last_run,
        unconfirmed: snapshot.unconfirmed.clone(),
        exists: snapshot.exists,
        forgotten: snapshot.forgotten.clone(),
        outline: Outline::default(),
    }
}

/// The snapshot after a first look at `world`.
pub(crate) fn first(world: &World) -> Snapshot {
    let before = Snapshot::default();
    let changes = compare(copy(&before), world, &[]);
    advance(&before, &changes)
}

/// What is told of one step from `before` to `after`, nothing gone: each event, and each notice.
pub(crate) fn told(before: &World, after: &World) -> (Vec<String>, Vec<String>) {
    told_by(&compare(first(before), after, &[]))
}

pub(crate) fn told_by(changes: &Changes) -> (Vec<String>, Vec<String>) {
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    let mut events: Vec<String> = Vec::new();
    for Alteration { key, changes, .. } in &changes.altered {
        events.extend(changes.iter().map(|change| {
            format!("{} {}: {} > {}", key.id, change.field, text(&change.old), text(&change.new))
        }));
    }
    let notices = changes.notices.iter().map(|notice| {
        let values: Vec<String> = notice
            .values
            .iter()
            .map(|(key_id, value)| format!(" {key_id}={}", text(value)))
            .collect();
        format!("{} {}{}", notice.kind.as_str(), notice.field, values.concat())
    });
    (events, notices.collect())
}

/// The events of a run as the view `audit_history` shows them.
pub(crate) fn past_events(before: &Snapshot, changes: &Changes) -> Vec<PastEvent> {
    let whole = |key: &Key, kind, old_value, new_value| PastEvent {
        key_id: key.id.clone(),
        scope: key.scope,
        kind,
        field: None,
        old_value,
        new_value,
    };
    let appeared = changes.appeared.all();
    let appeared = appeared.iter().map(|appearance| {
        whole(
            appearance.key(),
            appearance.kind(),
            None,
            Some(appearance.key().to_json().to_string()),
        )
    });
    let altered = changes.altered.iter().flat_map(|Alteration { key, changes, .. }| {
        changes.iter().map(move |change| PastEvent {
            field: Some(change.field.clone()),
            ..whole(key, change.kind(), change.old.clone(), change.new.clone())
        })
    });
    let removed = changes.removed.iter().map(|key| {
        assert_eq!(Some(key), before.keys.get(&key.id));
        whole(key, EventKind::Removed, Some(key.to_json().to_string()), None)
    });
    appeared.chain(altered).chain(removed).collect()
}

/// Moves the inventory past a run, by nothing but what its events and notices say.
pub(crate) fn replay(inventory: &mut Inventory, before: &Snapshot, changes: &Changes) {
    for event in past_events(before, changes) {
        inventory.apply(&event).unwrap();
    }
    let untold = [NoticeKind::OwnKey, NoticeKind::Unconfirmed];
    for notice in changes.notices.iter().filter(|notice| !untold.contains(&notice.kind)) {
        for (key_id, value) in &notice.values {
            inventory.adopt(key_id, &notice.field, value.as_deref()).unwrap();
        }
    }
}

/// Texts that something in the way might take for something else.
pub(crate) fn text() -> impl Strategy<Value = String> {
    let traps = vec![
        "",
        " ",
        "0",
        "-1",
        "1.5",
        "1e3",
        "1e999",
        "true",
        "null",
        " 7 ",
        "\"x\"",
        "[]",
        "[1]",
        "{}",
        "{\"a\":null}",
        "json:",
        "json:1",
        "json:null",
        "json:\"x\"",
        "json:json:",
        "JSON:1",
        "\0",
        "a\0b",
        "\u{1}\u{2}",
        "\u{1b}]8;;x\u{7}",
        "'; drop table audit; --",
        "🦀é\u{202e}",
        "\\u0000",
        "2026-11-23T12:29:00Z",
        "owner.type",
        "\u{7f}\u{85}",
        "\"",
        "\\",
        "a.b",
        "\u{feff}",
    ];
    prop_oneof![
        3 => "[a-c]{1,2}",
        2 => proptest::sample::select(traps).prop_map(str::to_owned),
        1 => any::<String>(),
    ]
}

pub(crate) fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        2 => any::<i64>().prop_map(Value::from),
        1 => any::<u64>().prop_map(Value::from),
        2 => any::<i32>().prop_map(|eighths| Value::from(f64::from(eighths) / 8.0)),
        4 => text().prop_map(Value::from),
    ]
}

pub(crate) fn value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            Just(json!({})),
        ]
    })
}

pub(crate) fn time() -> impl Strategy<Value = Value> {
    prop_oneof![
        6 => (0_i64..5).prop_map(|day| json!(1_760_000_000 + day * 86_400)),
        1 => Just(json!(Timestamp::MIN.unix())),
        1 => Just(json!(Timestamp::MAX.unix())),
        1 => Just(json!(Timestamp::MAX.unix() + 1)),
        1 => Just(json!("2026-11-23T12:29:00Z")),
        1 => Just(json!(1.5)),
        1 => value(),
    ]
}

fn redacted() -> impl Strategy<Value = Value> {
    let shown =
        ["sk-admin...abc", "sk-proj-...abc", "sk-...xyz", "****abc", "sk-admin-*own", "**own"];
    prop_oneof![6 => proptest::sample::select(shown.to_vec()).prop_map(Value::from), 1 => value()]
}

/// Members that are there or not.
fn members(
    fields: Vec<(&'static str, BoxedStrategy<Value>)>,
) -> impl Strategy<Value = Map<String, Value>> {
    let fields: Vec<_> = fields
        .into_iter()
        .map(|(name, value)| {
            proptest::option::weighted(0.8, value).prop_map(move |value| (name.to_owned(), value))
        })
        .collect();
    fields.prop_map(|fields| {
        fields.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    })
}

fn item() -> impl Strategy<Value = Value> {
    let few = |texts: &'static [&'static str]| {
        prop_oneof![
            4 => proptest::sample::select(texts).prop_map(Value::from),
            1 => value(),
        ]
        .boxed()
    };
    let owner = members(vec![
        ("type", few(&["user", "service_account"])),
        ("id", few(&["user-1", "user-2"])),
        ("name", text().prop_map(Value::from).boxed()),
        ("role", few(&["owner", "member"])),
        ("created_at", time().boxed()),
    ]);
    let owner = prop_oneof![5 => owner.prop_map(Value::from), 1 => Just(Value::Null), 1 => value()];
    members(vec![
        ("name", prop_oneof![4 => text().prop_map(Value::from), 1 => value()].boxed()),
        ("redacted_value", redacted().boxed()),
        ("created_at", time().boxed()),
        ("last_used_at", time().boxed()),
        ("expires_at", time().boxed()),
        ("owner", owner.boxed()),
        ("owner_name", scalar().boxed()),
        ("a.b", scalar().boxed()),
        ("permissions", value().boxed()),
        ("scope", scalar().boxed()),
    ])
    .prop_map(Value::from)
}

/// An organization of up to six keys out of seven, some with odd ids.
pub(crate) fn any_world() -> impl Strategy<Value = World> {
    let ids = ["key_1", "key_2", "key_3", "k'/\"\\ \u{1f511}", "a\0b", "7", "json:1"];
    let ids = proptest::sample::select(ids.to_vec()).prop_map(str::to_owned);
    proptest::collection::btree_map(ids, item(), 0..6)
}

/// A key in any state.
pub(crate) fn key() -> impl Strategy<Value = Key> {
    (text().prop_filter("ids are not empty", |text| !text.is_empty()), item())
        .prop_map(|(key_id, item)| sighting(&key_id, &item).key)
}
