//! When a key that is missing from a list is removed, when the run is held, and what accepting it does.

use keydrift::sim::{Endpoint, Fault, Matcher};
use serde_json::{Map, Value, json};

use crate::support::drills::{Content, Look};
use crate::support::{Keydrift, Ran, World, oracle, sql};

/// A world of so many keys, synced once.
fn synced(keys: usize) -> World {
    let world = World::new(keys);
    world.sync();
    world
}

fn remove(world: &World, ids: &[String]) {
    world.organization().with(|organization| {
        assert!(ids.iter().all(|id| organization.remove(id)));
    });
}

/// The list lacks these keys, which live on.
fn hide(world: &World, ids: &[String]) {
    for id in ids {
        world.organization().fault(Matcher::list(), Fault::HiddenKey(id.clone()));
    }
}

/// Look-ups of these keys fail.
fn blind(world: &World, ids: &[String]) {
    for id in ids {
        world.organization().fault(Matcher::retrieve().id(id), Fault::status(500));
    }
}

/// Tries nothing twice.
fn sync(world: &World, arguments: &[&str]) -> Keydrift {
    let arguments = [&["sync"], arguments].concat();
    world.keydrift(&arguments).env("KEYDRIFT__API__MAX_ATTEMPTS", "1")
}

/// The ids of the keys that were removed since, in order; nothing else may have happened.
#[track_caller]
fn removed_since(world: &World, before: &Content) -> Vec<String> {
    let removed = |event: &Map<String, Value>| {
        assert_eq!(event["event"], "removed", "{event:?}");
        event["key_id"].as_str().unwrap().to_owned()
    };
    let mut ids: Vec<String> = world.events_since(before).iter().map(removed).collect();
    ids.sort();
    ids
}

fn sorted(ids: &[String]) -> Vec<String> {
    let mut ids = ids.to_vec();
    ids.sort();
    ids
}

#[test]
fn keys_that_are_gone_are_removed_and_those_that_answer_stay() {
    let world = synced(60);
    let before = world.content();
    let ids = world.some_ids(8);
    let (gone, hidden) = ids.split_at(5);
    remove(&world, gone);
    hide(&world, hidden);
    let ran = sync(&world, &[]).succeeds();
    assert!(ran.stdout.contains("5 removed") && ran.stdout.contains("3 unconfirmed"), "{ran}");
    world.check();
    assert_eq!(removed_since(&world, &before), sorted(gone));
    assert_eq!(world.last_run()["unconfirmed"], 3);
    // Each missing key once; of both scopes, a control before and, where a key is gone, one after.
    let asked = world.organization().count(Endpoint::Retrieve);
    assert!((8 + 2..=8 + 4).contains(&asked), "{asked}");
}

#[test]
fn unconfirmed_keys_stay_as_they_were_and_are_looked_up_again() {
    let world = synced(60);
    let ids = world.some_ids(3);
    remove(&world, &ids);
    blind(&world, &ids);
    let row = |id: &str| {
        let query = format!("select * from current_keys where key_id = '{id}'");
        sql::rows(&world.database(), &query).pop().unwrap()
    };
    // As if the last good run had been long ago. What guards the history must step aside for that.
    let guards = "select name from sqlite_schema where type = 'trigger' and tbl_name = 'runs'";
    for guard in sql::rows(&world.database(), guards) {
        sql::rows(&world.database(), &format!("drop trigger {}", guard["name"].as_str().unwrap()));
    }
    sql::rows(&world.database(), "update runs set started_at = 1000, finished_at = 2000");
    let before: Vec<_> = ids.iter().map(|id| row(id)).collect();
    assert_eq!(before[0]["last_seen_at"], "1970-01-01T00:33:20Z");
    for _ in 0..2 {
        world.organization().clear_requests();
        sync(&world, &[]).succeeds();
        oracle::check_consistent(&world.database());
        let after: Vec<_> = ids.iter().map(|id| row(id)).collect();
        assert_eq!(after, before, "`last_seen_at` too");
        assert_eq!(world.last_run()["unconfirmed"], 3);
        for id in &ids {
            let asked = world.organization().requests();
            assert!(asked.iter().any(|request| request.key_id.as_ref() == Some(id)));
        }
    }
    let others = "select count(*) from current_keys where last_seen_at > '2020'";
    assert_eq!(sql::integer(&world.database(), others), 57, "those that were listed");
    let content = world.content();
    world.organization().clear_faults();
    world.sync();
    assert_eq!(removed_since(&world, &content), sorted(&ids));
}

#[test]
fn a_key_that_goes_while_look_ups_always_find_it_is_not_removed_and_no_404_is_believed_alone() {
    let world = synced(40);
    let organization = world.organization();
    let before = world.content();
    let ids = world.some_ids(4);
    remove(&world, &ids);
    for lie in [
        Fault::RetrieveAlwaysFound,
        Fault::RetrieveNeverFound,
        Fault::RetrieveOtherId("key_of_somebody_else".to_owned()),
    ] {
        organization.clear_faults();
        organization.fault(Matcher::retrieve(), lie);
        sync(&world, &[]).succeeds();
        oracle::check_consistent(&world.database());
        assert_eq!(removed_since(&world, &before), [""; 0]);
        assert_eq!(world.last_run()["unconfirmed"], 4);
    }
    organization.clear_faults();
    world.sync();
    assert_eq!(removed_since(&world, &before), sorted(&ids));
}

#[test]
fn an_endpoint_that_breaks_between_the_look_ups_is_not_believed() {
    let world = synced(40);
    let before = world.content();
    hide(&world, &world.some_ids(4));
    // The first is of a control key.
    world.organization().fault(Matcher::retrieve().from(2), Fault::RetrieveNeverFound);
    sync(&world, &[]).succeeds();
    world.check();
    assert_eq!(world.events_since(&before), []);
}

/// Removes `gone` keys, of which nothing can be found out, and syncs.
fn sync_with_unknown(keys: usize, gone: usize, settings: &[(&str, &str)]) -> (World, Content, Ran) {
    let world = synced(keys);
    let before = world.content();
    let ids = world.some_ids(gone);
    remove(&world, &ids);
    blind(&world, &ids);
    let command = settings.iter().fold(sync(&world, &[]), |command, (name, value)| {
        command.env(&format!("KEYDRIFT__REMOVAL__{name}"), value)
    });
    let ran = command.run();
    oracle::check_consistent(&world.database());
    (world, before, ran)
}

#[test]
fn more_unknown_keys_than_the_guard_allows_hold_the_run_and_so_many_do_not() {
    // `guard_keys` is 10 and `guard_percent` 30: the larger one counts.
    type Case = (usize, usize, &'static [(&'static str, &'static str)]);
    let cases: [Case; 6] = [
        (30, 10, &[]),
        (45, 13, &[]),
        (34, 10, &[("GUARD_PERCENT", "0")]),
        (34, 2, &[("GUARD_PERCENT", "0"), ("GUARD_KEYS", "2")]),
        (40, 4, &[("GUARD_PERCENT", "10"), ("GUARD_KEYS", "0")]),
        (40, 0, &[("GUARD_PERCENT", "0"), ("GUARD_KEYS", "0")]),
    ];
    for (keys, allowed, settings) in cases {
        let (world, before, ran) = sync_with_unknown(keys, allowed, settings);
        assert_eq!(ran.code, Some(0), "{ran}");
        assert_eq!(world.last_run()["unconfirmed"], allowed);
        assert_eq!(world.events_since(&before), []);

        let (world, before, ran) = sync_with_unknown(keys, allowed + 1, settings);
        assert_eq!(ran.code, Some(1), "{ran}");
        let run = world.check_nothing_changed(&before, "held");
        let error = run["error"].as_str().unwrap();
        let are = if allowed == 0 { "is" } else { "are" };
        let text =
            format!("{} of {keys} keys {are} missing and could not be confirmed", allowed + 1);
        assert!(error.contains(&text), "{error}");
        assert!(error.contains(&format!("{allowed} would pass")), "{error}");
        assert_eq!(run["unconfirmed"], allowed + 1);
        assert_eq!(run["keys_seen"], keys - allowed - 1);
        assert_eq!((&run["removed"], &run["added"]), (&json!(0), &json!(0)));
        assert!(ran.stderr.contains("is held"), "{ran}");
        assert!(ran.stderr.contains("keydrift sync --accept default"), "{ran}");
    }
}

#[test]
fn more_missing_keys_than_may_be_looked_up_hold_the_run() {
    let world = synced(40);
    let before = world.content();
    let ids = world.some_ids(6);
    let limited = |world| sync(world, &[]).env("KEYDRIFT__REMOVAL__CONFIRM_LIMIT", "5");
    remove(&world, &ids);
    limited(&world).exits(1);
    let run = world.check_nothing_changed(&before, "held");
    let error = run["error"].as_str().unwrap();
    assert!(error.contains("6 of 40 keys are missing, more than the 5"), "{error}");
    assert!(error.contains("removal.confirm_limit"), "{error}");
    assert_eq!(run["unconfirmed"], 6);
    assert_eq!(world.organization().count(Endpoint::Retrieve), 0);

    world.organization().with(|organization| assert!(organization.restore(&ids[0])));
    limited(&world).succeeds();
    world.check();
    assert_eq!(removed_since(&world, &before), sorted(&ids[1..]));
}

#[test]
fn a_held_run_that_is_accepted_removes_what_it_recorded_and_keeps_what_answers() {
    let (world, before, ran) = sync_with_unknown(30, 11, &[]);
    assert_eq!(ran.code, Some(1));
    let held = world.last_run();
    let missing: Vec<String> = before
        .keys
        .iter()
        .map(|key| key["key_id"].as_str().unwrap().to_owned())
        .filter(|id| !world.ids().contains(id))
        .collect();
    // One is back in the list, one answers when asked, and the rest still fails.
    world.organization().clear_faults();
    let (back, hidden) = (missing[0].clone(), missing[1].clone());
    world.organization().with(|sim| assert!(sim.restore(&back) && sim.restore(&hidden)));
    hide(&world, &[hidden]);
    blind(&world, &missing[2..]);

    let ran = sync(&world, &["--accept", "default"]).succeeds();
    world.check();
    assert_eq!(removed_since(&world, &before), sorted(&missing[2..]));
    let run = world.last_run();
    assert_eq!((&run["status"], &run["unconfirmed"]), (&json!("ok"), &json!(1)));
    let notice = run["notice"].as_str().unwrap();
    assert!(
        notice.starts_with(&format!("accepted what held run {} had recorded: 11 ", held["run_id"])),
        "{notice}"
    );
    assert!(notice.contains("11 of 30 keys are missing and could not be confirmed"), "{notice}");
    assert!(ran.stderr.contains("accepted what held run"), "{ran}");

    // It is accepted once.
    let again = sync(&world, &["--accept", "default"]).exits(1);
    assert!(again.stderr.contains("no held or refused run to accept"), "{again}");
    assert!(again.stderr.contains("without `--accept`"), "{again}");
}

#[test]
fn more_missing_than_were_accepted_is_held_again_and_that_can_be_accepted() {
    let (world, before, _) = sync_with_unknown(30, 11, &[]);
    let more = world.some_ids(2);
    remove(&world, &more);
    let ran = sync(&world, &["--accept", "default"]).exits(1);
    let run = world.check_nothing_changed(&before, "held");
    assert!(run["error"].as_str().unwrap().contains("2 keys are missing that were not"), "{ran}");

    sync(&world, &["--accept", "default"]).succeeds();
    world.check();
    assert_eq!(removed_since(&world, &before).len(), 13);
}

#[test]
fn what_is_too_much_to_look_up_can_be_accepted_too() {
    let world = synced(40);
    let before = world.content();
    let ids = world.some_ids(6);
    remove(&world, &ids);
    let limited =
        |arguments: &[&str]| sync(&world, arguments).env("KEYDRIFT__REMOVAL__CONFIRM_LIMIT", "5");
    limited(&[]).exits(1);
    limited(&["--accept", "default"]).succeeds();
    world.check();
    assert_eq!(removed_since(&world, &before), sorted(&ids));
}

#[test]
fn a_failed_run_in_between_leaves_the_held_one_to_be_accepted_and_a_good_one_does_not() {
    let (world, before, _) = sync_with_unknown(30, 11, &[]);
    world.organization().fault(Matcher::list().nth(1), Fault::status(500));
    sync(&world, &[]).exits(1);
    world.check_nothing_changed(&before, "failed");
    sync(&world, &["--accept", "default"]).succeeds();
    assert_eq!(removed_since(&world, &before).len(), 11);

    let (world, before, _) = sync_with_unknown(30, 11, &[]);
    world.organization().clear_faults();
    world.sync();
    assert_eq!(removed_since(&world, &before).len(), 11);
    let content = world.content();
    let ran = sync(&world, &["--accept", "default"]).exits(1);
    assert!(ran.stderr.contains("no held or refused run to accept"), "{ran}");
    assert_eq!(world.content(), content);
}

#[test]
fn nothing_to_accept_and_an_unknown_name_are_clear_errors() {
    let world = synced(3);
    let before = world.content();
    let runs = sql::integer(&world.database(), "select count(*) from run_history");
    // That is a slip of whoever typed it, and no run.
    let ran = sync(&world, &["--accept", "default"]).exits(1);
    assert!(ran.stderr.contains("no held or refused run to accept"), "{ran}");
    assert_eq!(world.content(), before);
    assert_eq!(sql::integer(&world.database(), "select count(*) from run_history"), runs);
    let ran = sync(&world, &["--accept", "acme"]).exits(2);
    assert!(ran.stderr.contains("acme") && ran.stderr.contains("default"), "{ran}");
    assert_eq!(sql::integer(&world.database(), "select count(*) from run_history"), runs);
}

#[test]
fn a_mass_rotation_under_an_unchanged_header_is_recorded_as_it_is() {
    let world = synced(30);
    let before = world.content();
    let gone = world.ids();
    let organization = world.organization();
    let credential = organization.with(|organization| {
        let credential = organization.issue_credential("the new admin key");
        for id in &gone {
            organization.remove(id);
        }
        for _ in 0..20 {
            organization.add();
        }
        credential
    });
    sync(&world, &[]).env("OPENAI_ADMIN_KEY", credential).succeeds();
    world.check();
    let events = world.events_since(&before);
    let count = |kind: &str| events.iter().filter(|event| event["event"] == kind).count();
    assert_eq!((count("removed"), count("added"), events.len()), (30, 21, 51));
}

#[test]
fn an_empty_list_removes_nothing_by_itself_but_can_be_accepted() {
    let world = synced(30);
    let before = world.content();
    world.organization().fault(Matcher::list().nth(1), Fault::EmptyList);
    sync(&world, &[]).exits(1);
    let run = world.check_nothing_changed(&before, "held");
    assert_eq!((&run["unconfirmed"], &run["keys_seen"]), (&json!(30), &json!(0)));
    world.sync();
    assert_eq!(world.events_since(&before), []);
    let before = world.content();

    // Now it is true, and nobody is left to vouch for the look-ups.
    remove(&world, &world.ids());
    sync(&world, &[]).exits(1);
    world.check_nothing_changed(&before, "held");
    sync(&world, &["--accept", "default"]).succeeds();
    world.check();
    assert_eq!(removed_since(&world, &before).len(), 30);
}

#[test]
fn a_key_that_comes_back_is_restored_as_it_is_now() {
    let world = synced(30);
    let ids = world.some_ids(2);
    remove(&world, &ids);
    world.sync();
    let before = world.content();
    world.organization().with(|sim| {
        assert!(sim.restore(&ids[0]) && sim.rename(&ids[0], "back again"));
    });
    world.sync();
    let events = world.events_since(&before);
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!((&events[0]["event"], &events[0]["key_id"]), (&json!("restored"), &json!(ids[0])));
    assert!(events[0]["new_value"].as_str().unwrap().contains("back again"));
    let query = format!("select removed_at from all_keys where key_id = '{}'", ids[1]);
    assert!(sql::value(&world.database(), &query).is_string());
}

#[test]
fn hundreds_of_missing_keys_are_all_looked_up() {
    let world = synced(400);
    let organization = world.organization();
    let own = organization.with(|sim| sim.own_key(sim.credential()).map(str::to_owned));
    let ids: Vec<String> =
        organization.ids().into_iter().filter(|id| Some(id) != own.as_ref()).take(390).collect();
    // A key of each scope is left to vouch for the look-ups.
    organization.with(|sim| {
        let left = sim.ids().last().unwrap().to_owned();
        assert!(!ids.contains(&left));
        sim.set_field(&left, "redacted_value", "sk-proj-****left");
    });
    world.sync();
    let before = world.content();
    remove(&world, &ids);
    organization.set_latency(std::time::Duration::from_millis(10));
    sync(&world, &[]).succeeds();
    world.check();
    assert_eq!(removed_since(&world, &before), sorted(&ids));
    assert!(organization.most_in_flight() > 1, "side by side");
    assert!(organization.most_in_flight() <= 8, "and not too many");
}

/// Where the answers of a run do not say whose they are, those of the run before did.
#[test]
fn look_ups_of_another_organization_remove_nothing_though_the_list_came_without_a_header() {
    let world = synced(20);
    let before = world.content();
    let hidden = world.some_ids(2);
    hide(&world, &hidden);
    let organization = world.organization();
    organization.fault(Matcher::list(), Fault::OrganizationHeader(None));
    for id in &hidden {
        let gone = Fault::status(404);
        organization.fault(Matcher::retrieve().id(id), gone);
        let theirs = Fault::OrganizationHeader(Some("org-theirs".to_owned()));
        organization.fault(Matcher::retrieve().id(id), theirs);
    }
    sync(&world, &[]).succeeds();
    assert_eq!(removed_since(&world, &before), [""; 0]);
    assert_eq!(world.last_run()["unconfirmed"], 2);
}
