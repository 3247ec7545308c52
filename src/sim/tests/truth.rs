//! Mutations, also in the middle of a scan, and what the organization says was there.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::super::{Churn, Endpoint, MutationKind, Organization, VanishedCursor};
use super::{Site, distinct};

#[test]
fn each_mutation_does_what_it_says_and_nothing_else() {
    let mut organization = Organization::generate(5, 30);
    let before: Vec<_> = organization.keys().collect();
    let id = organization.ids().nth(3).unwrap().to_owned();
    organization.advance(100);
    assert!(organization.rename(&id, "\u{1b}[31mred"));
    assert!(organization.touch(&id));
    assert!(organization.change_owner(&id));
    assert!(organization.set_field(&id, "owner.role", "reader"));
    assert!(organization.set_field(&id, "a.b.c", json!([1, 2])));
    assert!(organization.remove_field(&id, "expires_at"));
    let key = organization.key(&id).unwrap();
    assert_eq!(key["name"], "\u{1b}[31mred");
    assert_eq!(key["last_used_at"], organization.now());
    assert_ne!(key["owner"]["id"], before[3]["owner"]["id"]);
    assert_eq!((&key["owner"]["role"], &key["a"]["b"]["c"]), (&json!("reader"), &json!([1, 2])));
    assert!(!key.contains_key("expires_at"));
    let after: Vec<_> = organization.keys().collect();
    let changed = (0..30).filter(|at| before[*at] != after[*at]).collect::<Vec<_>>();
    assert_eq!(changed, [3]);
    assert!(!organization.rename("key_none", "x"));
}

#[test]
fn a_key_that_is_restored_is_what_and_where_it_was() {
    let mut organization = Organization::generate(5, 30);
    let before: Vec<_> = organization.keys().collect();
    let id = organization.ids().nth(3).unwrap().to_owned();
    assert!(organization.remove(&id) && !organization.remove(&id));
    assert!(!organization.contains(&id) && organization.len() == 29);
    assert!(organization.restore(&id) && !organization.restore(&id));
    assert_eq!(organization.keys().collect::<Vec<_>>(), before);
    let lives = organization.lifetimes(&id);
    assert_eq!(lives.len(), 2);
    assert!(lives[0].until.unwrap() < lives[1].from && lives[1].until.is_none());
}

#[test]
fn a_field_of_all_keys_can_come_and_go() {
    let mut organization = Organization::generate(5, 30);
    organization.set_field_everywhere("owner.team", &json!("x"));
    assert!(organization.keys().all(|key| key["owner"]["team"] == "x"));
    organization.remove_field_everywhere("owner");
    assert!(organization.keys().all(|key| !key.contains_key("owner")));
}

#[test]
fn a_key_made_at_another_time_moves_and_one_of_another_id_is_another() {
    let mut organization = Organization::generate(5, 30);
    let first = organization.ids().next().unwrap().to_owned();
    let now = organization.now();
    organization.set_field(&first, "created_at", now);
    assert_eq!(organization.ids().last(), Some(first.as_str()));
    let from = organization.mark();
    organization.set_field(&first, "id", "other");
    let until = organization.mark();
    assert!(organization.contains("other") && !organization.contains(&first));
    let throughout = organization.lived_throughout(from, until);
    assert!(!throughout.contains(&first) && !throughout.contains("other"));
    assert_eq!(organization.lived_sometime(from, until).len(), 31);
}

#[test]
fn items_without_an_id_are_listed_all_the_same() {
    let site = Site::of(2);
    let item = json!({ "created_at": 1, "name": null });
    site.organization.with(|organization| organization.add_raw(item.as_object().unwrap()));
    assert_eq!(site.page("").json()["data"][0], item);
}

#[test]
fn random_changes_follow_from_the_seed_and_leave_own_keys_alone() {
    let play = || {
        let mut organization = Organization::generate(8, 12);
        let mut rng = fastrand::Rng::with_seed(4);
        let mutations: Vec<_> = (0..600).map(|_| organization.mutate(&mut rng)).collect();
        (mutations, organization)
    };
    let (mutations, organization) = play();
    let (again, same) = play();
    assert_eq!(mutations, again);
    assert_eq!(organization.keys().collect::<Vec<_>>(), same.keys().collect::<Vec<_>>());
    for kind in MutationKind::USUAL {
        assert!(mutations.iter().any(|mutation| mutation.kind == *kind), "{kind:?}");
    }
    let own = organization.own_key(organization.credential()).unwrap();
    assert!(mutations.iter().all(|mutation| mutation.id != own));
    let ids: BTreeSet<&str> = organization.ids().collect();
    assert_eq!(ids.len(), organization.len());
    for id in ids {
        assert_eq!(organization.key(id).unwrap()["id"], id, "the index is right");
    }
}

#[test]
fn a_scripted_step_happens_before_its_list_request() {
    let site = Site::of(60);
    let ids = site.ids();
    let (gone, cursor) = (ids[45].clone(), ids[19].clone());
    site.organization.before_list(2, move |organization| {
        organization.remove(&gone);
        organization.add();
    });
    let scanned = site.scan(20, "asc");
    assert_eq!(scanned.len(), 60);
    assert!(scanned.contains(&cursor) && !scanned.contains(&ids[45]));
}

#[test]
fn a_scan_through_churn_holds_all_that_lived_throughout_and_none_that_never_did() {
    for seed in 0..20 {
        let site = Site::new(Organization::generate(seed, 300));
        site.organization.with(|organization| {
            organization.paging.vanished_cursor = VanishedCursor::Continues;
        });
        let churn = Churn::new(seed, 5).among(MutationKind::MEMBERSHIP);
        site.organization.set_churn(Some(churn));
        let scanned: BTreeSet<String> = site.scan(20, "asc").into_iter().collect();
        let requests = site.organization.requests();
        assert!(requests.len() > 10 && requests.iter().all(|r| r.order.as_deref() == Some("asc")));
        let (from, until) = (requests[0].mark, requests[requests.len() - 1].mark);
        let (throughout, sometime) = site.organization.with(|organization| {
            (organization.lived_throughout(from, until), organization.lived_sometime(from, until))
        });
        assert!(throughout.len() < 300 && sometime.len() > 300);
        assert!(throughout.is_subset(&scanned) && scanned.is_subset(&sometime));
    }
}

#[test]
fn the_log_tells_what_was_asked_and_never_with_what_secret() {
    let site = Site::of(250);
    let ids = site.scan(100, "asc");
    site.retrieve(&ids[0]);
    let requests = site.organization.requests();
    assert_eq!(site.organization.count(Endpoint::List), 3);
    assert_eq!(site.organization.count(Endpoint::Retrieve), 1);
    assert_eq!(
        requests.iter().map(|r| r.page).collect::<Vec<_>>(),
        [Some(0), Some(1), Some(2), None]
    );
    assert_eq!(requests[1].after.as_deref(), Some(ids[99].as_str()));
    assert_eq!(requests[0].limit.as_deref(), Some("100"));
    assert!(requests.iter().all(|r| r.method == "GET" && r.has_authorization() && r.status == 200));
    assert_eq!(requests[0].header("host"), Some("sim"));
    assert!(!format!("{requests:?}").contains(&site.credential));
    assert_eq!(site.organization.most_in_flight(), 1);
    site.organization.clear_requests();
    assert!(site.organization.requests().is_empty());
    assert_eq!(distinct(&ids), 250);
}

#[test]
fn a_hostile_field_arrives_as_it_is() {
    let site = Site::of(2);
    let name = "\u{1b}]8;;http://x\u{7}\0<script>=cmd()\u{202e}".repeat(100);
    let id = site.ids()[0].clone();
    site.organization.with(|organization| organization.rename(&id, &name));
    assert_eq!(site.retrieve(&id).json()["name"], Value::from(name));
}
