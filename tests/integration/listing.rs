//! Organizations of every size, the same world twice, what is asked for, and a list that changes while it
//! is read.

use std::collections::BTreeSet;

use keydrift::sim::{
    AboveMaxLimit, Churn, Endpoint, LoggedRequest, MutationKind, Organization, VanishedCursor,
};
use serde_json::{Value, json};

use crate::support::drills::for_each;
use crate::support::{Keydrift, World, oracle, sql};

#[test]
fn organizations_of_every_size_are_listed_whole() {
    for keys in [0, 1, 20, 99, 100, 101, 250] {
        let world = World::new(keys);
        world.sync();
        let found = sql::integer(&world.database(), "select count(*) from current_keys");
        assert_eq!(found, i64::try_from(keys).unwrap());
    }
}

/// A sync whose requests come in a known order.
fn page_by_page(world: &World) {
    world.keydrift(&["sync"]).env("KEYDRIFT__API__SCAN", "sequential").succeeds();
    world.check();
}

#[test]
fn ten_thousand_keys_are_listed_whole_and_then_are_no_news() {
    let world = World::new(10_000);
    page_by_page(&world);
    assert_eq!(sql::integer(&world.database(), "select count(*) from current_keys"), 10_000);
    let run = world.last_run();
    assert_eq!((&run["baseline"], &run["pages"]), (&json!(10_000), &json!(100)));
    world.keydrift(&["sync", "--exit-code"]).succeeds();
    let query = "select count(*) from audit_history where event <> 'baseline'";
    assert_eq!(sql::integer(&world.database(), query), 0);
}

#[test]
fn the_same_world_twice_adds_no_events() {
    let world = World::new(250);
    world.sync();
    let before = world.content();
    world.organization().with(|organization| organization.advance(86_400));
    world.sync();
    assert_eq!(world.content().history, before.history, "not even for our own use of our own key");
    assert_eq!(sql::integer(&world.database(), "select count(*) from run_history"), 2);
}

#[test]
fn the_history_shows_the_baseline_and_exactly_what_drifted() {
    let world = World::new(120);
    world.sync();
    let ids = world.some_ids(2);
    let [gone, renamed] = ids.as_slice() else { panic!("two ids") };
    let (name, added) = world.organization().with(|organization| {
        let name = organization.key(renamed).unwrap()["name"].clone();
        organization.advance(3_600);
        organization.remove(gone);
        organization.rename(renamed, "another name");
        (name, organization.add())
    });
    world.sync();
    let rows = sql::rows(
        &world.database(),
        "select event, key_id, field, old_value, new_value from audit_history order by event_id",
    );
    let (baseline, drifts) = rows.split_at(120);
    assert!(baseline.iter().all(|row| row["event"] == "baseline" && row["old_value"].is_null()));
    assert_eq!(drifts.len(), 3, "{drifts:?}");
    let find = |event: &str| drifts.iter().find(|row| row["event"] == event).unwrap();
    let whole = |value: &Value| serde_json::from_str::<Value>(value.as_str().unwrap()).unwrap();

    let row = find("added");
    assert_eq!((&row["key_id"], &row["field"]), (&json!(added), &Value::Null));
    assert_eq!(row["old_value"], Value::Null);
    assert_eq!(whole(&row["new_value"])["key_id"], json!(added));
    let row = find("removed");
    assert_eq!((&row["key_id"], &row["field"]), (&json!(gone), &Value::Null));
    assert_eq!(row["new_value"], Value::Null);
    assert_eq!(whole(&row["old_value"])["key_id"], json!(gone));
    let row = find("changed");
    assert_eq!((&row["key_id"], &row["field"]), (&json!(renamed), &json!("name")));
    assert_eq!((&row["old_value"], &row["new_value"]), (&name, &json!("another name")));
}

#[test]
fn a_smaller_page_is_asked_for_where_the_usual_one_is_refused() {
    for (max, above, asked, pages) in [
        (50, AboveMaxLimit::Refuse, vec!["100", "50"], 5),
        (20, AboveMaxLimit::Refuse, vec!["100", "50", "20"], 13),
        (7, AboveMaxLimit::Refuse, vec!["100", "50", "20", "none"], 36),
        (50, AboveMaxLimit::Clamp, vec!["100"], 5),
        (20, AboveMaxLimit::Clamp, vec!["100"], 13),
    ] {
        let mut organization = Organization::generate(7, 250);
        organization.paging.max_limit = max;
        organization.paging.above_max = above;
        let world = World::of(organization);
        page_by_page(&world);
        let mut limits: Vec<String> = Vec::new();
        let lists = world.organization().requests();
        for request in lists.into_iter().filter(|request| request.endpoint == Endpoint::List) {
            let limit = request.limit.unwrap_or("none".to_owned());
            if limits.last() != Some(&limit) {
                limits.push(limit);
            }
        }
        assert_eq!(limits, asked, "{max} {above:?}");
        assert_eq!(world.last_run()["pages"], pages, "{max} {above:?}");
        assert_eq!(world.last_run()["notice"], Value::Null);
    }
}

#[test]
fn nothing_but_gets_in_ascending_order_are_sent_and_the_credential_to_the_origin_alone() {
    let world = World::new(250);
    let elsewhere = World::new(3);
    page_by_page(&world);
    let gone = world.some_ids(3);
    let organization = world.organization();
    organization.with(|organization| gone.iter().all(|id| organization.remove(id)));
    world.sync();
    let address = elsewhere.server.base_url();
    organization
        .fault(keydrift::sim::Matcher::list(), keydrift::sim::Fault::redirect(307, &address));
    world.keydrift(&["sync"]).exits(1);

    let requests = organization.requests();
    assert_eq!(organization.count(Endpoint::List), 3 + 3 + 1);
    assert_eq!(organization.count(Endpoint::Unknown), 0);
    for request in &requests {
        assert_eq!(request.method, "GET", "{request:?}");
        assert!(request.has_authorization(), "{request:?}");
        assert_eq!(request.header("accept"), Some("application/json"), "{request:?}");
        let list = request.endpoint == Endpoint::List;
        assert_eq!(request.order.as_deref(), list.then_some("asc"), "{request:?}");
    }
    assert_eq!(elsewhere.organization().requests(), []);
}

const VANISHED: [VanishedCursor; 5] = [
    VanishedCursor::NotFound404,
    VanishedCursor::BadRequest400,
    VanishedCursor::EmptyPage,
    VanishedCursor::FromTheBeginning,
    VanishedCursor::Continues,
];

/// An organization of 60 keys that treats vanished cursors like this.
fn shifting(seed: u64, vanished: VanishedCursor) -> World {
    let mut organization = Organization::generate(seed, 60);
    organization.paging.vanished_cursor = vanished;
    World::of(organization)
}

fn sync_in_tens(world: &World) -> Keydrift {
    world.keydrift(&["sync"]).env("KEYDRIFT__API__PAGE_SIZE", "10")
}

/// What a scan promises, of the requests since `from`: every key that lived from the first list request to
/// the last is in the inventory, and none that lived at no moment of it, but for those that were there
/// before and are not confirmed gone.
#[track_caller]
fn check_promise(world: &World, from: usize, known: &BTreeSet<String>) {
    oracle::check_consistent(&world.database());
    let organization = world.organization();
    let lists: Vec<LoggedRequest> = organization
        .requests()
        .split_off(from)
        .into_iter()
        .filter(|request| request.endpoint == Endpoint::List)
        .collect();
    let (first, last) = (lists.first().unwrap().mark, lists.last().unwrap().mark);
    let (throughout, sometime) = organization
        .with(|sim| (sim.lived_throughout(first, last), sim.lived_sometime(first, last)));
    let inventory = inventory(world);
    let missed: Vec<_> = throughout.difference(&inventory).collect();
    assert!(missed.is_empty(), "missed {missed:?}");
    let invented: Vec<_> =
        inventory.iter().filter(|id| !sometime.contains(*id) && !known.contains(*id)).collect();
    assert!(invented.is_empty(), "invented {invented:?}");
}

fn inventory(world: &World) -> BTreeSet<String> {
    let rows = sql::rows(&world.database(), "select key_id from current_keys");
    rows.iter().map(|row| row["key_id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn keys_that_go_in_mid_scan_cost_no_other_key() {
    /// Which of the ids, in order, vanish before the page that begins at this place is asked for.
    type Victims = fn(usize) -> std::ops::Range<usize>;
    let victims: [(&str, Victims); 6] = [
        ("the cursor", |at| at - 1..at),
        ("the cursor and the key before", |at| at - 2..at),
        ("the page behind", |at| at - 10..at),
        ("the next key", |at| at..at + 1),
        ("the next page", |at| at..at + 10),
        ("the cursor and the next page", |at| at - 1..at + 10),
    ];
    let mut cases = Vec::new();
    for vanished in VANISHED {
        for (name, range) in victims {
            for page in [1, 3, 5] {
                cases.push((vanished, name, range(10 * page), page));
            }
        }
    }
    let name = |(vanished, name, _, page): &(VanishedCursor, &str, _, usize)| {
        format!("{name} goes before page {page}, {vanished:?}")
    };
    for_each(&cases, name, |(vanished, _, range, page)| {
        let world = shifting(11, *vanished);
        let organization = world.organization();
        let ids = world.ids();
        let credential = organization.credential();
        let range = range.clone();
        organization.before_list(u64::try_from(*page).unwrap() + 1, move |sim| {
            let own = sim.own_key(&credential).map(str::to_owned);
            for id in ids[range].iter().filter(|id| Some(*id) != own.as_ref()) {
                assert!(sim.remove(id));
            }
            sim.add();
        });
        sync_in_tens(&world).succeeds();
        check_promise(&world, 0, &BTreeSet::new());
        world.sync();
    });
}

#[test]
fn a_list_that_never_rests_is_listed_as_promised() {
    let seeds: Vec<u64> = (0..40).collect();
    for_each(
        &seeds,
        |seed| format!("seed {seed}"),
        |seed| {
            let world = shifting(*seed, VANISHED[usize::try_from(*seed).unwrap() % VANISHED.len()]);
            let organization = world.organization();
            let churn = Churn::new(*seed, 1 + usize::try_from(*seed).unwrap() % 3);
            let kinds = if seed % 2 == 0 { MutationKind::MEMBERSHIP } else { MutationKind::USUAL };
            organization.set_churn(Some(churn.among(kinds)));
            sync_in_tens(&world).succeeds();
            check_promise(&world, 0, &BTreeSet::new());
            for _ in 0..2 {
                let (from, known) = (organization.requests().len(), inventory(&world));
                let events = world.content();
                sync_in_tens(&world).succeeds();
                check_promise(&world, from, &known);
                check_removals(&world, from, &world.events_since(&events));
            }
            organization.set_churn(None);
            let events = world.content();
            world.sync();
            let from = organization.requests().len() - 1;
            check_removals(&world, from, &world.events_since(&events));
        },
    );
}

/// Every key that was removed was away at some moment of the run.
#[track_caller]
fn check_removals(world: &World, from: usize, events: &[serde_json::Map<String, Value>]) {
    let requests = world.organization().requests().split_off(from);
    let (first, last) = (requests.first().unwrap().mark, requests.last().unwrap().mark);
    let throughout = world.organization().with(|sim| sim.lived_throughout(first, last));
    for event in events.iter().filter(|event| event["event"] == "removed") {
        let id = event["key_id"].as_str().unwrap();
        assert!(!throughout.contains(id), "{id} was there all the time");
    }
}
