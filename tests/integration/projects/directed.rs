//! What happens to projects and their keys, one thing at a time.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;

use keydrift::sim::{Endpoint, Fault, Matcher, Organization, ProjectAccess};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::drills::Content;
use crate::support::{World, oracle, sql};

/// What a bare string says of a credential without the scopes.
pub(super) fn scopes() -> &'static str {
    "You have insufficient permissions for this operation. Missing scopes: api.management.read. Check \
     that you have the correct role in your organization."
}

#[track_caller]
pub(super) fn sync(world: &World) {
    world.keydrift(&["sync"]).env("KEYDRIFT__API__MAX_ATTEMPTS", "1").succeeds();
    oracle::check_consistent(&world.database());
}

pub(super) fn notice(world: &World) -> String {
    world.last_run()["notice"].as_str().unwrap_or_default().to_owned()
}

/// The id of a project, by its place in the list.
pub(super) fn project(world: &World, at: usize) -> String {
    world.organization().with(|organization| organization.project_ids().nth(at).unwrap().to_owned())
}

/// The ids of its keys.
pub(super) fn keys_of(world: &World, project: &str) -> Vec<String> {
    world.organization().with(|organization| {
        let keys = organization.project_keys(project);
        keys.iter().map(|key| key["id"].as_str().unwrap().to_owned()).collect()
    })
}

/// Four projects in use, of five keys each and none of them in the admin list, synced once.
pub(super) fn synced() -> World {
    let mut organization = Organization::generate(7, 6).with_projects_of(4, 5..=5);
    let projects: Vec<String> = organization.project_ids().map(str::to_owned).collect();
    for project in projects {
        organization.unarchive_project(&project);
        for key in organization.project_keys(&project) {
            organization.label_rightly(key["id"].as_str().unwrap());
        }
    }
    let world = World::of(organization);
    sync(&world);
    world
}

/// What was told since, as `event field old new` of each key.
fn told(world: &World, before: &Content) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let line = |event: &serde_json::Map<String, Value>| match event["field"].as_str() {
        Some(field) => format!(
            "{} {} {field} {} {}",
            text(&event["event"]),
            text(&event["key_id"]),
            text(&event["old_value"]),
            text(&event["new_value"])
        ),
        None => format!("{} {}", text(&event["event"]), text(&event["key_id"])),
    };
    let mut told: Vec<String> = world.events_since(before).iter().map(line).collect();
    told.sort();
    told
}

fn row(world: &World, id: &str) -> serde_json::Map<String, Value> {
    let query = format!("select * from current_keys where key_id = '{id}'");
    sql::rows(&world.database(), &query).pop().unwrap_or_default()
}

#[test]
fn the_first_list_of_a_source_is_a_baseline_and_a_project_that_appears_adds() {
    let mut organization = Organization::generate(7, 3).with_projects_of(2, 2..=2);
    let shut = organization.project_ids().next().unwrap().to_owned();
    organization.set_project_access(&shut, ProjectAccess::Forbidden { status: 403 });
    let world = World::of(organization);
    sync(&world);
    let kinds = "select distinct event from audit_history";
    assert_eq!(sql::value(&world.database(), kinds), "baseline");

    let before = world.content();
    world.organization().with(|organization| {
        organization.set_project_access(&shut, ProjectAccess::Open);
    });
    sync(&world);
    let told_of = |kind: &str, mut ids: Vec<String>| {
        ids.sort();
        ids.iter().map(|id| format!("{kind} {id}")).collect::<Vec<_>>()
    };
    let unseen = |id: &String| !before.keys.iter().any(|key| key["key_id"] == **id);
    let first: Vec<String> = keys_of(&world, &shut).into_iter().filter(unseen).collect();
    assert!(!first.is_empty());
    assert_eq!(told(&world, &before), told_of("baseline", first));

    let before = world.content();
    let new = world.organization().with(|organization| {
        let new = organization.create_project("brand new");
        organization.add_project_key(&new).unwrap();
        organization.add_project_key(&shut).unwrap();
        new
    });
    sync(&world);
    let mut added = keys_of(&world, &new);
    added.push(keys_of(&world, &shut).pop().unwrap());
    assert_eq!(told(&world, &before), told_of("added", added));
}

#[test]
fn a_project_that_is_not_to_be_had_keeps_its_keys_and_the_run_says_so() {
    for what in ["vanished", "forbidden", "half-way", "archived and empty", "deleted"] {
        let world = synced();
        let id = project(&world, 1);
        let keys = keys_of(&world, &id);
        let before = world.content();
        let organization = world.organization();
        organization.with(|organization| match what {
            "vanished" => drop(organization.set_project_access(&id, ProjectAccess::Vanished)),
            "forbidden" => {
                let access = ProjectAccess::Forbidden { status: 401 };
                organization.set_project_access(&id, access);
            }
            "deleted" => drop(organization.delete_project(&id)),
            "archived and empty" => {
                for key in &keys {
                    assert!(organization.remove(key));
                }
                organization.archive_project(&id);
            }
            _ => organization.paging.max_limit = 2,
        });
        if what == "half-way" {
            organization.with(|sim| sim.paging.above_max = keydrift::sim::AboveMaxLimit::Clamp);
            organization.fault(Matcher::project_keys().project(&id).nth(2), Fault::CutBody);
        }
        sync(&world);
        assert_eq!(told(&world, &before), Vec::<String>::new(), "{what}");
        for key in &keys {
            assert_eq!(row(&world, key)["project_id"], id, "{what}");
        }
        let why = match what {
            "vanished" | "deleted" => "no longer in the list of projects",
            "forbidden" => "the credential lacks `api.management.read`",
            "half-way" => "the answer was cut short",
            _ => "archived, and its list is empty",
        };
        let said = "5 keys, which were not listed, stay as they were, of project";
        assert_eq!(notice(&world), format!("{said} `{id}` ({why})"), "{what}");
    }
}

#[test]
fn an_archived_project_that_shows_its_keys_goes_on() {
    let world = synced();
    let id = project(&world, 1);
    let keys = keys_of(&world, &id);
    let before = world.content();
    world.organization().with(|organization| {
        assert!(organization.archive_project(&id) && organization.remove(&keys[0]));
    });
    sync(&world);
    let now = world.organization().with(|organization| organization.now());
    let now = oracle::rfc3339(now).unwrap();
    let mut expected: Vec<String> =
        keys[1..].iter().map(|key| format!("changed {key} project_archived_at - {now}")).collect();
    expected.push(format!("removed {}", keys[0]));
    expected.sort();
    assert_eq!(told(&world, &before), expected);
    let archived = row(&world, &keys[1]);
    assert_eq!(
        (&archived["project_archived"], &archived["project_archived_at"]),
        (&json!(1), &json!(now))
    );
    assert_eq!(notice(&world), "");
}

#[test]
fn what_changes_about_a_project_changes_its_keys() {
    let world = synced();
    let id = project(&world, 2);
    let keys = keys_of(&world, &id);
    let old = row(&world, &keys[0])["project_name"].as_str().unwrap().to_owned();
    let before = world.content();
    world.organization().with(|organization| {
        assert!(organization.rename_project(&id, "payments (eu)"));
        organization.edit_project(&id, |project| {
            project.insert("status".to_owned(), "suspended".into());
        });
    });
    sync(&world);
    let mut expected: Vec<String> = keys
        .iter()
        .flat_map(|key| {
            [
                format!("changed {key} project_name {old} payments (eu)"),
                format!("changed {key} project_status - suspended"),
            ]
        })
        .collect();
    expected.sort();
    assert_eq!(told(&world, &before), expected);
    assert_eq!(row(&world, &keys[0])["project_name"], "payments (eu)");
    assert_eq!(row(&world, &keys[0])["project_archived"], 0);

    let before = world.content();
    let access = row(&world, &keys[0])["owner_project_access"].as_str().unwrap().to_owned();
    let other = if access == "active" { "inactive" } else { "active" };
    world.organization().with(|sim| assert!(sim.set_owner_access(&keys[0], other == "active")));
    sync(&world);
    let told = told(&world, &before);
    let line = format!("changed {} owner_project_access {access} {other}", keys[0]);
    assert!(told.contains(&line), "{told:?}");
    assert!(told.iter().all(|line| line.contains("owner_project_access")), "{told:?}");
    assert_eq!(row(&world, &keys[0])["owner_project_access"], other);
}

#[test]
fn the_project_itself_vouches_for_the_end_of_its_last_key() {
    let world = synced();
    let id = project(&world, 0);
    let keys = keys_of(&world, &id);
    let before = world.content();
    world.organization().with(|organization| {
        assert!(keys.iter().all(|key| organization.remove(key)));
    });
    let organization = world.organization();
    // At first sight it may be a mistake, and nobody asks. Then the project has to answer for itself, or no 404
    // of its is believed.
    organization.fault(Matcher::to(Endpoint::Project), Fault::status(500));
    for asked in [0, 1] {
        organization.clear_requests();
        sync(&world);
        assert_eq!(told(&world, &before), Vec::<String>::new());
        assert_eq!(world.last_run()["unconfirmed"], 5);
        assert_eq!(organization.count(Endpoint::Project).min(1), asked);
    }
    organization.clear_faults();
    organization.clear_requests();
    sync(&world);
    let mut expected: Vec<String> = keys.iter().map(|key| format!("removed {key}")).collect();
    expected.sort();
    assert_eq!(told(&world, &before), expected);
    let asked = organization.requests();
    let asked: Vec<_> =
        asked.iter().filter(|request| request.endpoint == Endpoint::Project).collect();
    assert_eq!(asked.len(), 2, "before and after");
    assert!(asked.iter().all(|request| request.project_id.as_deref() == Some(id.as_str())));
    assert_eq!(organization.count(Endpoint::ProjectKey), 5);
    assert_eq!(organization.count(Endpoint::Retrieve), 0);
}

#[test]
fn a_key_that_its_list_lacks_and_that_answers_stays() {
    let world = synced();
    let id = project(&world, 0);
    let keys = keys_of(&world, &id);
    let before = world.content();
    let organization = world.organization();
    organization.fault(Matcher::project_keys(), Fault::HiddenKey(keys[2].clone()));
    organization.with(|organization| assert!(organization.remove(&keys[3])));
    sync(&world);
    assert_eq!(told(&world, &before), [format!("removed {}", keys[3])]);
    assert_eq!(world.last_run()["unconfirmed"], 1);
    let asked = organization.requests();
    let asked = asked.iter().filter(|request| request.endpoint == Endpoint::ProjectKey);
    assert!(asked.clone().any(|request| request.key_id.as_deref() == Some(keys[2].as_str())));
    assert!(asked.clone().all(|request| request.project_id.as_deref() == Some(id.as_str())));
}

#[test]
fn an_id_in_both_lists_is_one_key_of_its_project_whatever_the_admin_list_calls_it() {
    let world = synced();
    let keys = keys_of(&world, &project(&world, 0));
    let before = world.content();
    world.organization().with(|organization| {
        for key in &keys[..3] {
            organization.mislabel(key);
        }
        // As much an admin key as can be, by its looks.
        organization.edit_listed(&keys[0], |row| {
            row.insert("redacted_value".to_owned(), "sk-admin-****Look".into());
            row.insert("owner".to_owned(), Value::Null);
        });
        organization.edit_listed(&keys[1], |row| drop(row.remove("redacted_value")));
    });
    sync(&world);
    // All that the admin list may add is what the project's list does not say.
    let added = " owner.object - organization.service_account";
    let told_of = told(&world, &before);
    assert!(told_of.iter().all(|line| line.ends_with(added)), "{told_of:?}");
    let ids = "select count(*) = count(distinct key_id) from current_keys";
    assert_eq!(sql::integer(&world.database(), ids), 1);
    for key in &keys[..3] {
        assert_eq!(row(&world, key)["scope"], "project");
        let item = world.organization().with(|sim| sim.project_key(key).unwrap());
        assert_eq!(row(&world, key)["redacted_value"], item["redacted_value"]);
    }
    // The same from the first run on.
    let anew = world.path().join("anew.db");
    world.keydrift_on(&anew, &["sync"]).succeeds();
    let scopes =
        "select group_concat(distinct scope) from current_keys where project_id is not null";
    assert_eq!(sql::value(&anew, scopes), "project");
    assert_eq!(sql::integer(&anew, ids), 1);
}

#[test]
fn all_requests_are_gets_and_within_the_budget() {
    let world = World::of(Organization::generate(7, 30).with_projects_of(40, 0..=4));
    let organization = world.organization();
    organization.set_latency(std::time::Duration::from_millis(5));
    for at_once in [3, 8] {
        organization.clear_requests();
        world
            .keydrift(&["sync"])
            .env("KEYDRIFT__API__MAX_CONCURRENCY", at_once.to_string())
            .succeeds();
        let requests = organization.requests();
        assert!(requests.len() > 40);
        assert!(requests.iter().all(|request| request.method == "GET"));
        let most = organization.most_in_flight();
        assert!(most <= at_once && most > 1, "{most} of {at_once}");
        let of_keys = requests.iter().filter(|request| request.endpoint == Endpoint::ProjectKeys);
        assert!(
            of_keys.clone().all(|request| request.parameters("owner_project_access") == ["any"])
        );
        let of_projects = requests.iter().filter(|request| request.endpoint == Endpoint::Projects);
        assert!(
            of_projects.clone().all(|request| request.parameters("include_archived") == ["true"])
        );
    }
}

#[test]
fn a_sync_that_is_stopped_among_the_lists_of_projects_changes_nothing() {
    let world = synced();
    let before = world.content();
    let keys = keys_of(&world, &project(&world, 0));
    world.organization().with(|sim| assert!(sim.remove(&keys[0]) && sim.rename(&keys[1], "other")));
    let organization = world.organization();
    organization.fault(Matcher::project_keys().from(2), Fault::Hang);
    let sync = world.keydrift(&["sync"]).start();
    crate::support::until("two projects are asked for", || {
        organization.requests().iter().filter(|r| r.endpoint == Endpoint::ProjectKeys).count() > 5
    });
    sync.signal(Signal::TERM);
    let ran = sync.ends();
    assert_ne!(ran.code, Some(0), "{ran}");
    let run = world.check_nothing_changed(&before, "failed");
    assert!(run["error"].as_str().unwrap().contains("stopped by SIGTERM"), "{run:?}");
    organization.clear_faults();
    self::sync(&world);
    assert_eq!(world.events_since(&before).len(), 2);
}

#[test]
fn two_organizations_with_equal_projects_and_keys_do_not_collide() {
    let organization = || Organization::generate(7, 4).with_projects_of(3, 3..=3);
    let (one, two) = (World::of(organization()), World::of(organization()));
    let path = one.path().join("keydrift.toml");
    let mut text = String::new();
    for (name, world) in [("one", &one), ("two", &two)] {
        let credential = one.path().join(format!("{name}.key"));
        std::fs::write(&credential, world.organization().credential()).unwrap();
        std::fs::set_permissions(&credential, std::fs::Permissions::from_mode(0o600)).unwrap();
        let (url, file) = (world.server.base_url(), credential.display());
        writeln!(text, "[organizations.{name}]\nbase_url = \"{url}\"\nadmin_key_file = \"{file}\"")
            .unwrap();
    }
    std::fs::write(&path, text).unwrap();
    let sync = || {
        let sync = one.keydrift(&["sync"]).arg("--config").arg(&path);
        sync.without_env("OPENAI_ADMIN_KEY").without_env("OPENAI_BASE_URL").succeeds();
        oracle::check_consistent(&one.database());
    };
    sync();
    let id = project(&one, 0);
    assert_eq!(id, project(&two, 0), "equal ids");
    let keys = keys_of(&one, &id);
    let before = one.content();
    one.organization().with(|sim| assert!(sim.remove(&keys[0])));
    two.organization().with(|sim| assert!(sim.rename_project(&id, "two's own")));
    sync();
    let events = one.events_since(&before);
    let of = |name: &str| events.iter().filter(|event| event["organization"] == name).count();
    assert_eq!((of("one"), of("two")), (1, 3), "{events:?}");
    one.keydrift(&["verify"]).succeeds();
}
