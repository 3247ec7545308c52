//! Pages asked for side by side: what comes of it is what comes of reading them one after the other.

use std::time::Duration;

use keydrift::sim::{Churn, Endpoint, Organization};

use crate::support::{World, sql};

const KEYS: usize = 1_250;

/// What the database says of keys and events, whatever the order of recording.
fn told(world: &World) -> (String, String) {
    let keys =
        "select json_group_array(json_array(key_id, name, last_used_at, redacted_value)) from
        (select * from current_keys order by key_id)";
    let events = "select json_group_array(json_array(run_id, key_id, event, field, old_value, new_value)) from
        (select * from audit_history order by run_id, key_id, event, field)";
    let text = |query| sql::value(&world.database(), query).to_string();
    (text(keys), text(events))
}

/// Some keys come, go, and are used.
fn live(organization: &mut Organization) {
    organization.advance(3_600);
    let ids: Vec<String> = organization.ids().map(str::to_owned).collect();
    for id in ids.iter().skip(3).step_by(7) {
        organization.touch(id);
    }
    // The hundredth key of each page would be a boundary.
    for id in ids.iter().skip(99).step_by(200).chain(ids.iter().skip(40).step_by(300)) {
        organization.remove(id);
    }
    for _ in 0..12 {
        organization.add();
    }
}

#[test]
fn both_ways_of_reading_the_list_lead_to_the_same_history() {
    let worlds = ["side_by_side", "sequential"].map(|scan| {
        let world = World::new(KEYS);
        world.organization().with(|organization| organization.records_own_use = false);
        world.organization().set_latency(Duration::from_millis(5));
        for _ in 0..3 {
            let ran = world.keydrift(&["sync"]).env("KEYDRIFT__API__SCAN", scan).succeeds();
            world.check();
            assert!(!ran.stderr.contains("page by page"), "{ran}");
            world.organization().with(live);
        }
        world
    });
    let most = worlds.each_ref().map(|world| world.organization().most_in_flight());
    assert!(most[0] > 4, "{most:?} at once");
    assert_eq!(most[1], 8, "look-ups are side by side in either way");
    assert_eq!(told(&worlds[0]), told(&worlds[1]));
}

#[test]
fn a_known_organization_takes_no_more_requests_than_it_has_pages() {
    let world = World::new(KEYS);
    world.sync();
    world.organization().clear_requests();
    world.organization().set_latency(Duration::from_millis(20));
    world.sync();
    let requests = world.organization().count(Endpoint::List);
    assert!((13..=15).contains(&requests), "{requests} for 13 pages");
    assert_eq!(world.organization().most_in_flight(), 8);
}

#[test]
fn max_concurrency_is_the_most_at_once() {
    let world = World::new(KEYS);
    world.sync();
    world.organization().clear_requests();
    world.organization().set_latency(Duration::from_millis(20));
    world.keydrift(&["sync"]).env("KEYDRIFT__API__MAX_CONCURRENCY", "3").succeeds();
    assert_eq!(world.organization().most_in_flight(), 3);
}

#[test]
fn a_list_that_changes_while_it_is_read_in_parts_loses_no_key() {
    for seed in 0..4 {
        let world = World::new(KEYS);
        world.sync();
        world.organization().with(live);
        world.organization().set_churn(Some(Churn::new(seed, 1)));
        world.keydrift(&["sync"]).succeeds();
        world.organization().set_churn(None);
        // What is right by then is brought right by the next run, and nothing was taken for gone that is there.
        world.sync();
        let restored = "select count(*) from audit_history where event = 'restored'";
        let came_back = sql::integer(&world.database(), restored);
        let really = world.organization().with(|organization| {
            organization.truth().iter().filter(|key| key.lifetimes().len() > 1).count()
        });
        assert!(came_back <= i64::try_from(really).unwrap(), "seed {seed}");
    }
}
