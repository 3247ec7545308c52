//! Random histories: whatever happens to an organization, and whatever goes wrong between, the inventory and
//! the history tell what happened, and never that a living key is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use keydrift::run::Status;
use keydrift::sim::{
    BadItem, Churn, EdgeIds, ErrorBody, Fault, Handle, Matcher, MutationKind, Organization,
    VanishedCursor,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, RngSeed, TestRunner};
use serde_json::{Map, Value, json};

use crate::support::{Here, World, oracle, sql};

/// What happens to the organization.
#[derive(Debug, Clone)]
enum Change {
    /// So many random changes from this seed.
    Random(u64, usize),
    /// Time goes by, so that our own key's use moves with the next sync.
    Advance(i64),
    /// This field appears for all keys, with a value from this number.
    Appear(u8),
    /// It is not sent any more.
    Vanish,
    /// It is there for one key alone.
    Single(u64),
    /// Something odd is set in one key.
    Odd(u64, u8),
}

/// What goes wrong in the sync of a step: list request or look-up, which one, and how.
type Trouble = (bool, u64, bool, usize);

#[derive(Debug, Clone)]
struct Step {
    changes: Vec<Change>,
    trouble: Option<Trouble>,
    /// Random changes while it lists, from this seed.
    churn: Option<u64>,
}

#[derive(Debug, Clone)]
struct History {
    seed: u64,
    keys: usize,
    vanished: VanishedCursor,
    headers: bool,
    page_size: usize,
    steps: Vec<Step>,
}

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        12 => (any::<u64>(), 1_usize..6).prop_map(|(seed, count)| Change::Random(seed, count)),
        3 => (1_i64..100_000).prop_map(Change::Advance),
        1 => any::<u8>().prop_map(Change::Appear),
        1 => Just(Change::Vanish),
        1 => any::<u64>().prop_map(Change::Single),
        2 => (any::<u64>(), any::<u8>()).prop_map(|(seed, kind)| Change::Odd(seed, kind)),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    let trouble = (any::<bool>(), 1_u64..5, any::<bool>(), 0..troubles().len());
    (
        prop::collection::vec(any_change(), 0..4),
        prop::option::weighted(0.35, trouble),
        prop::option::weighted(0.1, any::<u64>()),
    )
        .prop_map(|(changes, trouble, churn)| Step { changes, trouble, churn })
}

fn any_history() -> impl Strategy<Value = History> {
    let vanished = prop_oneof![
        Just(VanishedCursor::NotFound404),
        Just(VanishedCursor::BadRequest400),
        Just(VanishedCursor::EmptyPage),
        Just(VanishedCursor::FromTheBeginning),
        Just(VanishedCursor::Continues),
    ];
    let steps = prop::collection::vec(any_step(), 5..13);
    (any::<u64>(), 1_usize..45, vanished, any::<bool>(), 3_usize..20, steps).prop_map(
        |(seed, keys, vanished, headers, page_size, steps)| History {
            seed,
            keys,
            vanished,
            headers,
            page_size,
            steps,
        },
    )
}

/// Faults that never take long.
fn troubles() -> Vec<Fault> {
    let strangers = Arc::new(Organization::generate(4711, 9));
    vec![
        Fault::status(500),
        Fault::status(404),
        Fault::status(400),
        Fault::status(401),
        Fault::status(429).with_header("retry-after", "3600"),
        Fault::status_with(503, ErrorBody::Html),
        Fault::no_content(),
        Fault::redirect(302, "/v1/elsewhere"),
        Fault::ContentType(None),
        Fault::OrganizationHeader(None),
        Fault::OrganizationHeader(Some("org-other".to_owned())),
        Fault::OtherOrganization { organization: strangers, header: true },
        Fault::ResetConnection,
        Fault::CutBody,
        Fault::WrongJson,
        Fault::EarlyEnd,
        Fault::EndlessHasMore,
        Fault::MissingHasMore,
        Fault::EmptyPageWithMore,
        Fault::EmptyList,
        Fault::DropItem(1),
        Fault::DuplicateItem(2),
        Fault::SkipAhead(2),
        Fault::RepeatedPage,
        Fault::Overlap(2),
        Fault::FromTheBeginning,
        Fault::OtherOrder,
        Fault::ShuffledItems,
        Fault::MissingData,
        Fault::BadItem(0, BadItem::NullId),
        Fault::EdgeIds(EdgeIds::Null),
        Fault::FullSecret("sk-admin-abcdefghijklmnopqrstuvwxyz".to_owned()),
        Fault::RetrieveAlwaysFound,
        Fault::RetrieveNeverFound,
        Fault::RetrieveOtherId("key_other".to_owned()),
    ]
}

/// The field that appears and vanishes. Its last values are kept when it does, so that it has a test of its
/// own and is left out where all others are compared with the API.
const FIELD: &str = "tier";

/// Keys with everything about them, by id.
type Keys = BTreeMap<String, Map<String, Value>>;

/// One organization, its database, and what its history must be.
struct Life {
    world: World,
    here: Here,
    own: Option<String>,
    headers: bool,
    by_binary: bool,
    /// The keys as the last good run saw them.
    known: Keys,
    ever: BTreeSet<String>,
    /// No run was good so far.
    baseline: bool,
    runs: usize,
    last_event: i64,
}

impl Life {
    fn begin(history: &History, by_binary: bool) -> Self {
        let mut organization = Organization::generate(history.seed, history.keys);
        organization.paging.vanished_cursor = history.vanished;
        organization.paging.max_limit = history.page_size;
        organization.paging.above_max = keydrift::sim::AboveMaxLimit::Clamp;
        if !history.headers {
            organization.set_organization_id(None);
        }
        let own = organization.own_key(organization.credential()).map(str::to_owned);
        let world = World::in_memory(organization);
        Self {
            here: Here::of(&world),
            world,
            own,
            headers: history.headers,
            by_binary,
            known: Keys::new(),
            ever: BTreeSet::new(),
            baseline: true,
            runs: 0,
            last_event: 0,
        }
    }

    fn organization(&self) -> Handle {
        self.world.organization()
    }

    /// One sync: how it ended, and why.
    fn sync(&mut self) -> (Status, String) {
        self.runs += 1;
        if self.by_binary {
            let ran = self.world.keydrift(&["sync"]).env("KEYDRIFT__API__MAX_ATTEMPTS", "1").run();
            let status = self.world.last_run()["status"].clone();
            let known = [Status::Ok, Status::Failed, Status::Held];
            let status = known.into_iter().find(|known| status == known.as_str()).expect("one");
            assert_eq!(ran.code, Some(i32::from(status != Status::Ok)), "{ran}");
            return (status, ran.stderr);
        }
        let report = self.here.sync();
        (report.status, report.error.map(|error| error.in_one_line()).unwrap_or_default())
    }

    fn truth(&self) -> Keys {
        let by_id = |key: Map<String, Value>| (key["id"].as_str().expect("an id").to_owned(), key);
        self.organization().with(|organization| organization.keys().map(by_id).collect())
    }

    fn change(&self, change: &Change) {
        let own = self.own.as_ref();
        self.organization().with(|organization| match change {
            Change::Random(seed, count) => {
                let mut rng = fastrand::Rng::with_seed(*seed);
                for _ in 0..*count {
                    organization.mutate(&mut rng);
                }
            }
            Change::Advance(seconds) => organization.advance(*seconds),
            Change::Appear(value) => organization.set_field_everywhere(FIELD, &json!(value)),
            Change::Vanish => organization.remove_field_everywhere(FIELD),
            Change::Single(seed) => {
                if let Some(id) = pick(organization, *seed, own) {
                    organization.set_field(&id, FIELD, *seed);
                }
            }
            Change::Odd(seed, kind) => {
                let Some(id) = pick(organization, *seed, own) else { return };
                let (path, value) = match kind % 8 {
                    0 => ("name", Value::Null),
                    1 => ("name", json!("\u{1b}[31m<script>=cmd()\u{202e}")),
                    2 => ("owner", Value::Null),
                    3 => ("expires_at", json!("soon")),
                    4 => ("last_used_at", json!(9_999_999_999_999_i64)),
                    5 => ("permissions", json!(["b", "a"])),
                    6 => ("owner.name", json!(format!("{seed} O'Brien"))),
                    _ => {
                        let key = organization.key(&id).unwrap_or_default();
                        let value = key["redacted_value"].as_str().unwrap_or_default();
                        let start = value.split('*').next().unwrap_or_default();
                        ("redacted_value", json!(format!("{start}****{:04}", seed % 10_000)))
                    }
                };
                organization.set_field(&id, path, value);
            }
        });
    }

    /// A step, and all that must hold after it.
    fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        step.changes.iter().for_each(|change| self.change(change));
        let organization = self.organization();
        let from = organization.requests().len();
        if let Some((list, nth, for_good, which)) = step.trouble {
            let what = if list { Matcher::list() } else { Matcher::retrieve() };
            let when = if for_good { what.from(nth) } else { what.nth(nth) };
            let fault = troubles().swap_remove(which);
            // Nobody can tell whose a list is that comes without a header, or before all others.
            let tells = self.headers && !self.baseline;
            if tells || !matches!(fault, Fault::OtherOrganization { .. }) {
                organization.fault(when, fault);
            }
        }
        // Not both: a list that grows at each request and never says that it ends has no end.
        if let (Some(seed), None) = (step.churn, step.trouble) {
            let churn = Churn::new(seed, 1).among(MutationKind::MEMBERSHIP);
            organization.set_churn(Some(churn));
        }
        let (status, _) = self.sync();
        organization.set_churn(None);
        organization.clear_faults();
        self.check_removals(from)?;
        oracle::check_consistent(&self.world.database());
        match status {
            Status::Ok if step.trouble.is_none() && step.churn.is_none() => self.check_exactly(),
            Status::Ok => self.check_roughly(step),
            _ => self.check_untouched(step),
        }
    }

    fn new_events(&mut self) -> Vec<Map<String, Value>> {
        let query = "select event_id, event, key_id, field from audit_history where event_id > ";
        let query = format!("{query} {} order by event_id", self.last_event);
        let events = sql::rows(&self.world.database(), &query);
        if let Some(last) = events.last() {
            self.last_event = last["event_id"].as_i64().expect("a number");
        }
        events
    }

    /// No key that lived all through the run was removed in it.
    fn check_removals(&mut self, from: usize) -> Result<(), TestCaseError> {
        let requests = self.organization().requests().split_off(from);
        let query = format!(
            "select key_id from audit_history where run_id = {} and event = 'removed'",
            self.runs
        );
        let removed = sql::rows(&self.world.database(), &query);
        let (Some(first), Some(last)) = (requests.first(), requests.last()) else {
            prop_assert_eq!(removed.len(), 0);
            return Ok(());
        };
        let (first, last) = (first.mark, last.mark);
        let living = self.organization().with(|sim| sim.lived_throughout(first, last));
        for row in removed {
            let id = row["key_id"].as_str().expect("an id");
            prop_assert!(!living.contains(id), "{id} is removed and lives");
        }
        Ok(())
    }

    /// A run that failed or was held has no events and leaves the inventory as it was.
    fn check_untouched(&mut self, step: &Step) -> Result<(), TestCaseError> {
        prop_assert!(step.trouble.is_some() || step.churn.is_some(), "nothing was wrong");
        prop_assert_eq!(self.new_events(), vec![]);
        self.check_inventory();
        Ok(())
    }

    /// A run among troubles: what it recorded is consistent, and what it says of living keys is true.
    fn check_roughly(&mut self, step: &Step) -> Result<(), TestCaseError> {
        let events = self.new_events();
        let truth = self.truth();
        let present = current_ids(&self.world);
        for event in &events {
            let id = event["key_id"].as_str().expect("an id");
            if step.churn.is_none() {
                let lives = truth.contains_key(id);
                prop_assert_eq!(lives, event["event"] != "removed", "{:?}", event);
            }
        }
        let mut known = Keys::new();
        for id in present {
            prop_assert!(
                truth.contains_key(&id) || self.known.contains_key(&id) || step.churn.is_some()
            );
            known.insert(id, Map::new());
        }
        // What it was seen to be, from the inventory itself: the next good run must find the rest.
        self.ever.extend(known.keys().cloned());
        self.resync()
    }

    /// After trouble, a healthy run brings all right; what follows is compared with the truth again.
    fn resync(&mut self) -> Result<(), TestCaseError> {
        let from = self.organization().requests().len();
        let (status, error) = self.sync();
        self.check_removals(from)?;
        prop_assert_eq!(status, Status::Ok, "{}", error);
        self.new_events();
        self.known = self.truth();
        self.baseline = false;
        self.ever.extend(self.known.keys().cloned());
        oracle::check_consistent(&self.world.database());
        self.check_inventory();
        Ok(())
    }

    /// A healthy run: the events are exactly what is different, and the inventory is the truth.
    fn check_exactly(&mut self) -> Result<(), TestCaseError> {
        let truth = self.truth();
        let mut expected = BTreeSet::new();
        for (id, key) in &truth {
            match self.known.get(id) {
                None if self.baseline => drop(expected.insert(event("baseline", id, ""))),
                None if self.ever.contains(id) => drop(expected.insert(event("restored", id, ""))),
                None => drop(expected.insert(event("added", id, ""))),
                Some(before) => expected.extend(self.differences(id, before, key)),
            }
        }
        for id in self.known.keys().filter(|id| !truth.contains_key(*id)) {
            expected.insert(event("removed", id, ""));
        }
        let events = self.new_events();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let found: BTreeSet<_> = events
            .iter()
            .map(|event| (text(&event["event"]), text(&event["key_id"]), text(&event["field"])))
            .filter(|(_, _, field)| field != FIELD)
            .collect();
        prop_assert_eq!(&found, &expected);
        let told = events.iter().filter(|event| event["field"] != FIELD).count();
        prop_assert_eq!(told, found.len(), "each once");
        self.ever.extend(truth.keys().cloned());
        self.known = truth;
        self.baseline = false;
        self.check_inventory();
        Ok(())
    }

    /// What is told of a key that was there before.
    fn differences(
        &self,
        id: &str,
        before: &Map<String, Value>,
        now: &Map<String, Value>,
    ) -> BTreeSet<(String, String, String)> {
        let (before, now) = (flat(before), flat(now));
        let paths: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
        let mut events = BTreeSet::new();
        for path in paths {
            let (old, new) = (before.get(path), now.get(path));
            if old == new || path == FIELD {
                continue;
            }
            let kind = if path == "last_used_at" { "used" } else { "changed" };
            if kind == "used" && self.own.as_deref() == Some(id) {
                continue;
            }
            let field = match path.as_str() {
                "owner.type" => "owner_type",
                "owner.id" => "owner_id",
                "owner.name" => "owner_name",
                "owner.role" => "owner_role",
                other => other,
            };
            events.insert(event(kind, id, field));
        }
        events
    }

    fn check_inventory(&self) {
        let items: Vec<_> = self.known.values().cloned().collect();
        oracle::check_inventory_but(
            &self.world.database(),
            "default",
            &items,
            &[FIELD],
            self.own.as_deref(),
        );
    }
}

fn event(kind: &str, id: &str, field: &str) -> (String, String, String) {
    (kind.to_owned(), id.to_owned(), field.to_owned())
}

fn pick(organization: &Organization, seed: u64, own: Option<&String>) -> Option<String> {
    let ids: Vec<&str> =
        organization.ids().filter(|id| Some(*id) != own.map(String::as_str)).collect();
    let at = usize::try_from(seed).unwrap_or(0).checked_rem(ids.len())?;
    Some(ids[at].to_owned())
}

fn current_ids(world: &World) -> BTreeSet<String> {
    let rows = sql::rows(&world.database(), "select key_id from current_keys");
    rows.iter().map(|row| row["key_id"].as_str().expect("text").to_owned()).collect()
}

/// Every value of a key that is not null, by its path; arrays of scalars as sets.
fn flat(key: &Map<String, Value>) -> BTreeMap<String, Value> {
    let mut paths = BTreeMap::new();
    oracle::flatten("", &Value::Object(key.clone()), &mut paths);
    paths
}

fn live(history: &History, by_binary: bool) -> Result<(), TestCaseError> {
    let mut life = Life::begin(history, by_binary);
    for step in &history.steps {
        life.step(step)?;
    }
    life.resync()
}

fn run_histories(cases: u32, seed: u64, by_binary: bool) {
    let persistence = FileFailurePersistence::Off;
    let config = Config {
        cases,
        failure_persistence: Some(Box::new(persistence)),
        max_shrink_iters: 60,
        rng_seed: RngSeed::Fixed(seed),
        ..Config::default()
    };
    let lived = TestRunner::new(config).run(&any_history(), |history| live(&history, by_binary));
    lived.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn random_histories_are_recorded_as_they_happened() {
    std::thread::scope(|scope| {
        for seed in 0..4 {
            scope.spawn(move || run_histories(50, seed, false));
        }
    });
}

#[test]
fn the_binary_records_random_histories_as_well() {
    run_histories(5, 1_000, true);
}

#[test]
fn a_field_that_appears_or_vanishes_for_all_keys_is_one_notice_and_keeps_its_last_values() {
    let world = World::new(30);
    let organization = world.organization();
    world.sync();
    let before = world.content();
    let notice = || world.last_run()["notice"].as_str().unwrap_or_default().to_owned();
    organization.with(|sim| sim.set_field_everywhere("owner.department", &json!("R&D")));
    world.sync();
    assert_eq!(world.events_since(&before), []);
    assert_eq!(notice(), "the API now sends `owner.department`");

    organization.with(|sim| sim.remove_field_everywhere("owner.department"));
    world.keydrift(&["sync"]).succeeds();
    oracle::check_consistent(&world.database());
    assert_eq!(world.events_since(&before), []);
    assert!(notice().contains("no longer sends `owner.department`"), "{}", notice());
    let kept = "select count(*) from current_keys where other ->> '$.\"owner.department\"' = 'R&D'";
    assert_eq!(sql::integer(&world.database(), kept), 30);

    // One of the columns that older answers lack.
    let expiring = "select count(*) from current_keys where expires_at is not null";
    let expiring_keys = sql::integer(&world.database(), expiring);
    assert!(expiring_keys > 0);
    organization.with(|sim| sim.remove_field_everywhere("expires_at"));
    world.keydrift(&["sync"]).succeeds();
    oracle::check_consistent(&world.database());
    assert_eq!(world.events_since(&before), []);
    assert_eq!(sql::integer(&world.database(), expiring), expiring_keys);
    // And for one key alone it is an event.
    let id = world.some_ids(1).remove(0);
    organization.with(|sim| sim.set_field(&id, "expires_at", 1_900_000_000));
    world.keydrift(&["sync"]).succeeds();
    oracle::check_consistent(&world.database());
    let events = world.events_since(&before);
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!((&events[0]["key_id"], &events[0]["field"]), (&json!(id), &json!("expires_at")));
}
