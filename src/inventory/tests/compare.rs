//! Laws of comparing: what is told leads from one state to the next, and tells nothing else.

use proptest::sample::subsequence;

use super::*;
use crate::inventory::field::{is_below, path_of};

/// A step of an organization: its keys, and which missing keys are believed gone, as one bit each.
type Step = (World, u64);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec((any_world(), any::<u64>()), 1..5)
}

/// Everything that is known after a row of runs, and of each the changes that it told.
#[derive(Default)]
struct Books {
    snapshot: Snapshot,
    inventory: Inventory,
    gone: HashSet<KeyId>,
}

impl Books {
    fn turn(&mut self, world: &World, believed: u64) -> Changes {
        let sightings: Vec<_> = world.iter().map(|(key_id, item)| sighting(key_id, item)).collect();
        let missing =
            self.snapshot.keys.keys().filter(|key_id| !world.contains_key(key_id.as_str()));
        let missing: std::collections::BTreeSet<KeyId> = missing.cloned().collect();
        let gone = missing.into_iter().enumerate().filter(|(place, _)| believed >> place & 1 == 1);
        let gone: HashSet<KeyId> = gone.map(|(_, key_id)| key_id).collect();
        let changes = compare_all(copy(&self.snapshot), sightings, &gone, &self.gone);
        replay(&mut self.inventory, &self.snapshot, &changes);
        for key in world.keys() {
            self.gone.remove(&id(key));
        }
        self.gone.extend(gone);
        self.snapshot = advance(&self.snapshot, &changes);
        changes
    }

    /// The history leads to the inventory, but for our own use of our own key.
    fn check_replay(&self) {
        let mut replayed = self.inventory.keys.clone();
        let mut keys: BTreeMap<KeyId, Key> = self.snapshot.keys.clone().into_iter().collect();
        if let Some(own) = &self.snapshot.own_key {
            for keys in [&mut replayed, &mut keys] {
                keys.get_mut(own).unwrap().set_shown(Column::LastUsedAt, None).unwrap();
            }
        }
        assert_eq!(replayed, keys);
    }

    /// The inventory is what the API said last, but for fields that it has stopped to send.
    fn check_against(&self, world: &World) {
        for (key_id, item) in world {
            let seen = sighting(key_id, item);
            for change in field_changes(&self.snapshot.keys[&seen.key.id], &seen.key) {
                let path = path_of(&change.field);
                let kept = self.snapshot.fields.iter().any(|(field, sent)| {
                    let concerned = path == path_of(field) || is_below(path, path_of(field));
                    *sent == Sent::Stopped && !seen.shape.sends(field) && concerned
                });
                assert!(kept || change.field == "scope", "{key_id}: {change:?}");
            }
        }
    }
}

fn events(changes: &Changes) -> usize {
    let altered = changes.altered.iter().map(|alteration| alteration.changes.len());
    changes.appeared.len() + changes.removed.len() + altered.sum::<usize>()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_key_does_not_differ_from_itself(key in key()) {
        prop_assert_eq!(field_changes(&key, &key.clone()), []);
    }

    #[test]
    fn two_keys_differ_in_nothing_only_if_they_are_equal(one in key(), two in key()) {
        let two = Key { id: one.id.clone(), ..two };
        prop_assert_eq!(field_changes(&one, &two).is_empty(), one == two);
    }

    #[test]
    fn events_and_notices_lead_from_each_state_to_the_next(steps in steps()) {
        let mut books = Books::default();
        for (world, believed) in &steps {
            books.turn(world, *believed);
            books.check_replay();
            books.check_against(world);
        }
    }

    #[test]
    fn the_same_world_twice_is_no_news(steps in steps()) {
        let mut books = Books::default();
        for (world, believed) in &steps {
            books.turn(world, *believed);
            let before = copy(&books.snapshot);
            let again = books.turn(world, 0);
            prop_assert_eq!(events(&again), 0, "{:?}", again);
            prop_assert_eq!(&again.altered, &vec![]);
            prop_assert_eq!(&again.notices, &vec![]);
            prop_assert_eq!(&again.fields, &before.fields);
            prop_assert_eq!(&again.own_key, &before.own_key);
        }
    }

    #[test]
    fn the_order_of_the_list_does_not_matter(
        before in any_world(),
        (sightings, shuffled) in any_world().prop_flat_map(|world| {
            let sightings: Vec<(String, Value)> = world.into_iter().collect();
            (Just(sightings.clone()), Just(sightings).prop_shuffle())
        }),
    ) {
        let sorted = |list: Vec<(String, Value)>| {
            let list = list.iter().map(|(key_id, item)| sighting(key_id, item));
            let mut changes = compare_all(first(&before), list, &HashSet::new(), &HashSet::new());
            let mut appeared = std::mem::take(&mut changes.appeared).all();
            appeared.sort_by(|a, b| a.key().id.cmp(&b.key().id));
            changes.altered.sort_by(|a, b| a.key.id.cmp(&b.key.id));
            changes.notices.iter_mut().for_each(|notice| notice.values.sort());
            (appeared, changes)
        };
        prop_assert_eq!(sorted(sightings), sorted(shuffled));
    }

    #[test]
    fn what_is_missing_is_removed_or_unconfirmed_and_never_both(
        world in any_world(),
        kept in subsequence((0..6).collect::<Vec<usize>>(), 0..6),
        believed in any::<u64>(),
    ) {
        let mut books = Books::default();
        books.turn(&world, 0);
        let rest: World = world.iter().enumerate().filter(|(place, _)| kept.contains(place))
            .map(|(_, (key_id, item))| (key_id.clone(), item.clone())).collect();
        let changes = books.turn(&rest, believed);
        let removed: Vec<&KeyId> = changes.removed.iter().map(|key| &key.id).collect();
        let mut missing: Vec<&KeyId> = removed.iter().copied().chain(&changes.unconfirmed).collect();
        missing.sort();
        let expected: Vec<KeyId> = world.keys().filter(|key_id| !rest.contains_key(*key_id)).map(|text| id(text)).collect();
        prop_assert_eq!(missing, expected.iter().collect::<Vec<_>>());
        prop_assert!(removed.is_sorted() && changes.unconfirmed.is_sorted());
    }
}

#[test]
fn a_key_that_had_gone_is_restored_and_a_new_one_added() {
    let (one, two) =
        (world([("key_1", json!({}))]), world([("key_1", json!({})), ("key_2", json!({}))]));
    let mut books = Books::default();
    assert!(matches!(
        books.turn(&two, 0).appeared.all()[..],
        [Appearance::Baseline(_), Appearance::Baseline(_)]
    ));
    let removed = books.turn(&one, 1).removed;
    assert_eq!(removed.iter().map(|key| &key.id).collect::<Vec<_>>(), [&id("key_2")]);
    assert!(matches!(books.turn(&two, 0).appeared.all()[..], [Appearance::Restored(_)]));
    let three = world([("key_1", json!({})), ("key_2", json!({})), ("key_3", json!({}))]);
    assert!(matches!(books.turn(&three, 0).appeared.all()[..], [Appearance::Added(_)]));
    books.check_replay();
}

#[test]
fn keys_that_come_to_an_organization_seen_empty_are_added() {
    let before = first(&World::new());
    assert!(before.exists);
    let changes = compare(before, &world([("key_1", json!({}))]), &[]);
    assert!(matches!(changes.appeared.all()[..], [Appearance::Added(_)]));
}

#[test]
fn what_a_comparison_knows_before_its_end_is_what_it_was_shown() {
    let before = world([("key_1", json!({})), ("key_2", json!({})), ("key_3", json!({}))]);
    let known = first(&before);
    let mut comparison = Comparison::new(in_outline(&known), is_own);
    for (key_id, item) in
        [("key_9", json!({})), ("key_2", json!({})), ("key_8", json!({"redacted_value": "**own"}))]
    {
        comparison.observe(sighting(key_id, &item));
    }
    resolve(&mut comparison, &known);
    assert_eq!((comparison.snapshot_keys(), comparison.common_keys()), (3, (3, 1)));
    assert_eq!(comparison.missing(), [id("key_1"), id("key_3")]);
    let appeared: Vec<KeyId> = comparison.appeared().map(Result::unwrap).collect();
    assert_eq!(appeared, [id("key_9"), id("key_8")]);
    assert_eq!(comparison.some_listed(Scope::Admin, 2), [id("key_8"), id("key_2")]);
    assert_eq!(comparison.some_listed(Scope::Admin, 9), [id("key_8"), id("key_2"), id("key_9")]);
    assert_eq!(comparison.some_listed(Scope::Admin, 0), []);
}

#[test]
fn a_history_that_does_not_add_up_is_refused() {
    let event = |kind, field: Option<&str>, old: Option<&str>, new: Option<&str>| PastEvent {
        key_id: id("key_1"),
        scope: Scope::Admin,
        kind,
        field: field.map(str::to_owned),
        old_value: old.map(str::to_owned),
        new_value: new.map(str::to_owned),
    };
    let key = |key_id: &str| Key::new(id(key_id), Scope::Admin).to_json().to_string();
    let apply = |known: bool, event: PastEvent| {
        let mut inventory = Inventory::default();
        if known {
            inventory.keys.insert(id("key_1"), Key::new(id("key_1"), Scope::Admin));
        }
        inventory.apply(&event).unwrap_err().to_string()
    };
    for (known, event, error) in [
        (
            false,
            event(EventKind::Removed, None, Some(&key("key_1")), None),
            "`removed` is recorded for key `key_1`, which was not there",
        ),
        (
            false,
            event(EventKind::Used, Some("last_used_at"), None, None),
            "`used` is recorded for key `key_1`, which was not there",
        ),
        (
            true,
            event(EventKind::Added, None, None, Some(&key("key_1"))),
            "`added` is recorded for key `key_1`, which was there already",
        ),
        (
            false,
            event(EventKind::Added, None, None, None),
            "`added` is recorded for key `key_1` without what it must hold",
        ),
        (
            true,
            event(EventKind::Changed, None, None, None),
            "`changed` is recorded for key `key_1` without what it must hold",
        ),
        (
            false,
            event(EventKind::Added, None, None, Some(&key("key_2"))),
            "the recorded state of key `key_1` cannot be read",
        ),
        (
            false,
            event(EventKind::Added, None, None, Some("{")),
            "the recorded state of key `key_1` cannot be read",
        ),
        (
            true,
            event(EventKind::Changed, Some("scope"), None, Some("team")),
            "the recorded state of key `key_1` cannot be read",
        ),
    ] {
        assert_eq!(apply(known, event.clone()), error, "{event:?}");
    }
}
