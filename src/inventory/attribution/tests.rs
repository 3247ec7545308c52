//! Laws: an entry explains what it can explain, once, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const HOUR: i64 = 3_600;
const START: i64 = 1_764_000_000;
const KEYS: [&str; 3] = ["key_1", "key_2", "key_3"];

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix(START + seconds).unwrap()
}

fn key(id: &str) -> KeyId {
    KeyId::new(id).unwrap()
}

fn event(id: i64, key_id: &str, kind: EventKind, field: Option<&str>, hour: i64) -> Attributable {
    Attributable {
        event_id: Some(id),
        key_id: key(key_id),
        kind,
        field: field.map(str::to_owned),
        after: at(hour * HOUR),
        observed_at: at((hour + 1) * HOUR + 10),
        attributed: false,
    }
}

fn entry(log_id: &str, key_id: &str, action: KeyAction, seconds: i64) -> AuditEntry {
    AuditEntry {
        log_id: log_id.into(),
        action,
        key_id: key(key_id),
        happened_at: at(seconds),
        actor: Actor::default(),
        scopes: None,
    }
}

/// Which event each entry is attached to.
fn attached(attributions: &[Attribution]) -> Vec<(i64, &str)> {
    let pair = |of: &'_ Attribution| of.event.event_id.unwrap();
    attributions.iter().map(|of| (pair(of), &*of.entry.log_id)).collect()
}

#[test]
fn an_entry_is_attached_from_five_minutes_before_its_window_to_five_after() {
    let events = [event(1, "key_1", EventKind::Removed, None, 0)];
    let slack = i64::try_from(SLACK.as_secs()).unwrap();
    for (seconds, is_near) in [
        (-slack - 1, false),
        (-slack, true),
        (0, true),
        (HOUR + 10, true),
        (HOUR + 10 + slack, true),
        (HOUR + 11 + slack, false),
    ] {
        let entries = [entry("log", "key_1", KeyAction::Deleted, seconds)];
        let found = attribute(&events, &entries, &BTreeSet::new());
        assert_eq!(!found.is_empty(), is_near, "{seconds}");
    }
}

#[test]
fn each_action_explains_its_kinds_of_events() {
    use EventKind::{Added, Baseline, Changed, Removed, Restored, Used};
    let behind = |kind, field| KeyAction::behind(kind, field).map(KeyAction::event_type);
    for kind in [Added, Restored] {
        assert_eq!(behind(kind, None), Some("api_key.created"));
    }
    assert_eq!(behind(Removed, None), Some("api_key.deleted"));
    for field in ["name", "expires_at", "permissions", "redacted_value", "ownership"] {
        assert_eq!(behind(Changed, Some(field)), Some("api_key.updated"), "{field}");
    }
    for field in
        ["owner_name", "owner.email", "owner_project_access", "project_name", "project.id", "scope"]
    {
        assert_eq!(behind(Changed, Some(field)), None, "{field}");
    }
    assert_eq!(behind(Used, Some("last_used_at")), None);
    assert_eq!(behind(Baseline, None), None);
}

#[test]
fn all_changes_of_one_observation_share_the_entry_that_made_them() {
    let events = [
        event(1, "key_1", EventKind::Changed, Some("name"), 0),
        event(2, "key_1", EventKind::Changed, Some("permissions"), 0),
        event(3, "key_1", EventKind::Changed, Some("owner_name"), 0),
        event(4, "key_2", EventKind::Changed, Some("name"), 0),
    ];
    let entries = [
        entry("a", "key_1", KeyAction::Updated, 5),
        entry("b", "key_1", KeyAction::Updated, 9),
        entry("b", "key_1", KeyAction::Updated, 9),
    ];
    let found = attribute(&events, &entries, &BTreeSet::new());
    assert_eq!(attached(&found), [(1, "a"), (2, "a"), (1, "b"), (2, "b")]);
}

#[test]
fn between_two_observations_the_window_decides_then_what_is_unexplained_then_time() {
    let mut events = [
        event(1, "key_1", EventKind::Changed, Some("name"), 0),
        event(2, "key_1", EventKind::Changed, Some("name"), 1),
    ];
    let which = |events: &[Attributable], seconds| {
        let entries = [entry("log", "key_1", KeyAction::Updated, seconds)];
        attribute(events, &entries, &BTreeSet::new())[0].event.event_id.unwrap()
    };
    // Of both windows, with slack; of one of them without.
    assert_eq!(which(&events, HOUR - 30), 1);
    assert_eq!(which(&events, HOUR + 30), 2);
    // While the first of the two listings went on, either may have seen it.
    assert_eq!(which(&events, HOUR + 5), 1);
    events[0].attributed = true;
    assert_eq!(which(&events, HOUR + 5), 2);
    // An event that is explained does not leave its entries to another one.
    assert_eq!(which(&events, HOUR - 30), 1);
}

#[test]
fn an_actor_is_shown_as_whom_the_id_is_of() {
    let text = |text: &str| Some(Arc::from(text));
    let actor = |user: bool, account: bool| Actor {
        kind: text("api_key"),
        user_id: text("user-1").filter(|_| user),
        service_account_id: text("svc-1").filter(|_| account),
        ..Actor::default()
    };
    for (user, account, shown, id) in [
        (true, true, "user", Some("user-1")),
        (false, true, "service_account", Some("svc-1")),
        (false, false, "api_key", None),
    ] {
        let actor = actor(user, account);
        assert_eq!(actor.shown_type(), Some(shown));
        assert_eq!(actor.id().map(AsRef::as_ref), id);
    }
    assert_eq!(Actor::default().shown_type(), None);
}

fn any_event() -> impl Strategy<Value = Attributable> {
    let kind = prop_oneof![
        Just((EventKind::Added, None)),
        Just((EventKind::Restored, None)),
        Just((EventKind::Removed, None)),
        Just((EventKind::Changed, Some("name"))),
        Just((EventKind::Changed, Some("tier"))),
        Just((EventKind::Changed, Some("owner_name"))),
        Just((EventKind::Used, Some("last_used_at"))),
    ];
    (0..1_000_i64, prop::sample::select(&KEYS[..]), kind, 0..4_i64, any::<bool>()).prop_map(
        |(id, key_id, (kind, field), hour, attributed)| Attributable {
            attributed,
            ..event(id, key_id, kind, field, hour)
        },
    )
}

fn any_entry() -> impl Strategy<Value = AuditEntry> {
    let action = prop::sample::select(&KeyAction::ALL[..]);
    ("[a-h]", prop::sample::select(&KEYS[..]), action, -HOUR..6 * HOUR)
        .prop_map(|(log_id, key_id, action, seconds)| entry(&log_id, key_id, action, seconds))
}

fn any_case() -> impl Strategy<Value = (Vec<Attributable>, Vec<AuditEntry>)> {
    let events = prop::collection::vec(any_event(), 0..12).prop_map(|events| {
        let by_id: BTreeMap<_, _> = events.into_iter().map(|of| (of.event_id, of)).collect();
        by_id.into_values().collect()
    });
    (events, prop::collection::vec(any_entry(), 0..12))
}

proptest! {
    #[test]
    fn what_is_attached_fits_and_is_near((events, entries) in any_case()) {
        let slack = i64::try_from(SLACK.as_secs()).unwrap();
        for Attribution { event, entry } in attribute(&events, &entries, &BTreeSet::new()) {
            prop_assert_eq!(&event.key_id, &entry.key_id);
            prop_assert!(entry.action.fits(event.kind));
            prop_assert_eq!(event.action(), Some(entry.action));
            let at = entry.happened_at.unix();
            prop_assert!(event.after.unix() - slack <= at && at <= event.observed_at.unix() + slack);
        }
    }

    #[test]
    fn an_entry_is_attached_within_one_observation_and_once_to_each_event((events, entries) in any_case()) {
        let found = attribute(&events, &entries, &BTreeSet::new());
        let mut observations: BTreeMap<&str, BTreeSet<_>> = BTreeMap::new();
        let mut pairs = BTreeSet::new();
        for Attribution { event, entry } in &found {
            observations.entry(&entry.log_id).or_default().insert(event.observed_at);
            prop_assert!(pairs.insert((event.event_id, &entry.log_id)));
        }
        prop_assert!(observations.values().all(|of| of.len() == 1));
    }

    #[test]
    fn no_entry_that_fits_is_lost((events, entries) in any_case()) {
        let found = attribute(&events, &entries, &BTreeSet::new());
        let attached: BTreeSet<&str> = found.iter().map(|of| &*of.entry.log_id).collect();
        let mut first: BTreeMap<&str, &AuditEntry> = BTreeMap::new();
        for entry in &entries {
            first.entry(&entry.log_id).or_insert(entry);
        }
        for (log_id, entry) in first {
            let fits = events.iter().any(|event| event.distance(entry).is_some());
            prop_assert_eq!(attached.contains(log_id), fits);
        }
    }

    #[test]
    fn what_was_attached_is_not_attached_again_and_the_rest_stays((events, entries) in any_case(), cut in 0..12_usize) {
        let (early, _) = entries.split_at(cut.min(entries.len()));
        let before = attribute(&events, early, &BTreeSet::new());
        let known: BTreeSet<String> =
            before.iter().map(|of| of.entry.log_id.to_string()).collect();
        let after = attribute(&events, &entries, &known);
        prop_assert!(after.iter().all(|of| !known.contains(&*of.entry.log_id)));
        // Early or late, all that fits is there in the end.
        let late: BTreeSet<String> = after.iter().map(|of| of.entry.log_id.to_string()).collect();
        let at_once = attribute(&events, &entries, &BTreeSet::new());
        for of in at_once {
            let log_id = &*of.entry.log_id;
            prop_assert!(known.contains(log_id) || late.contains(log_id));
        }
    }

    #[test]
    fn foreign_entries_change_nothing((events, entries) in any_case(), foreign in any_entry()) {
        let alone = attribute(&events, &entries, &BTreeSet::new());
        let mut foreign = foreign;
        foreign.key_id = key("key_elsewhere");
        foreign.log_id = "foreign".into();
        let mut more = vec![foreign];
        more.extend(entries);
        prop_assert_eq!(attribute(&events, &more, &BTreeSet::new()), alone);
    }
}
