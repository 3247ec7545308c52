//! A sync with projects that fails half-way, at each of its requests.

use std::collections::{BTreeMap, BTreeSet};

use keydrift::run::Status;
use keydrift::sim::{AboveMaxLimit, Endpoint, Fault, Matcher, Organization};

use super::histories::failures;
use super::model::{Books, Lists};
use crate::support::drills::for_each;
use crate::support::{Here, World, oracle};

/// An organization of five projects and some pages, and what happened to it since its first sync.
struct Drill {
    world: World,
    here: Here,
    books: Books,
}

impl Drill {
    fn new() -> Self {
        let mut organization = Organization::generate(11, 5).with_projects_of(5, 4..=9);
        organization.paging.max_limit = 4;
        organization.paging.above_max = AboveMaxLimit::Clamp;
        let own = organization.own_key(organization.credential()).expect("one").to_owned();
        let world = World::in_memory(organization);
        let mut drill =
            Self { here: Here::of(&world), books: Books::new(world.database(), &own), world };
        // So that each request is waited for.
        drill.here.settings.api.side_by_side = false;
        assert_eq!(drill.here.sync().status, Status::Ok);
        drill.check(&BTreeSet::new(), false);
        drill.world.organization().with(|organization| {
            let projects: Vec<String> = organization.project_ids().map(str::to_owned).collect();
            for (at, project) in projects.iter().enumerate() {
                let keys = organization.project_keys(project);
                let id = |at: usize| keys[at]["id"].as_str().expect("an id").to_owned();
                assert!(organization.remove(&id(0)) && organization.rename(&id(1), "renamed"));
                assert!(organization.set_owner_access(&id(2), at % 2 == 0));
                organization.rename_project(project, &format!("project {at}"));
                organization.add_project_key(project).expect("a key");
            }
            let own = organization.own_key(organization.credential()).map(str::to_owned);
            let other = organization.ids().find(|id| Some(*id) != own.as_deref());
            let other = other.expect("another").to_owned();
            assert!(organization.remove(&other));
        });
        drill.world.organization().clear_requests();
        drill
    }

    fn check(&mut self, unread: &BTreeSet<String>, look_ups_failed: bool) {
        self.world.organization().with(|organization| {
            let projects: BTreeMap<String, bool> = organization
                .project_ids()
                .map(|id| (id.to_owned(), !unread.contains(id)))
                .collect();
            self.books.check(organization, &Lists { projects: Some(projects), look_ups_failed });
        });
    }
}

fn requests_of_a_whole_run() -> usize {
    let mut drill = Drill::new();
    assert_eq!(drill.here.sync().status, Status::Ok);
    drill.check(&BTreeSet::new(), false);
    drill.world.organization().requests().len()
}

#[test]
fn a_sync_that_fails_at_any_request_tells_what_it_could_read_and_nothing_else() {
    let requests = requests_of_a_whole_run();
    assert!(requests > 30, "{requests}: lists of several pages, and look-ups");
    let mut cases = Vec::new();
    for nth in 1..=requests {
        // All of them somewhere, each of them at the beginning.
        let faults = failures();
        let which =
            if nth < 4 { 0..faults.len() } else { nth % faults.len()..nth % faults.len() + 1 };
        cases.extend(faults[which].iter().map(|fault| (nth, fault.clone())));
    }
    for_each(
        &cases,
        |(nth, fault)| format!("{fault:?} at {nth}"),
        |(nth, fault)| fail(*nth, fault),
    );
}

fn fail(nth: usize, fault: &Fault) {
    let mut drill = Drill::new();
    let organization = drill.world.organization();
    organization.fault(Matcher::any().nth(nth as u64), fault.clone());
    let report = drill.here.sync();
    organization.clear_faults();
    let hit = organization.requests().swap_remove(nth - 1);
    let notice = drill.world.last_run()["notice"].as_str().unwrap_or_default().to_owned();
    match hit.endpoint {
        Endpoint::List => {
            assert_eq!(report.status, Status::Failed);
            drill.books.check_untouched();
        }
        Endpoint::Projects => {
            assert_eq!(report.status, Status::Ok);
            assert!(
                notice.contains("the projects could not be listed, nor their keys"),
                "{notice}"
            );
            drill.world.organization().with(|organization| {
                drill.books.check(organization, &Lists::default());
            });
        }
        Endpoint::ProjectKeys => {
            assert_eq!(report.status, Status::Ok);
            let project = hit.project_id.expect("a project");
            assert!(notice.contains(", which were not listed, stay as they were"), "{notice}");
            assert!(notice.contains(&format!("`{project}`")), "{notice}");
            drill.check(&BTreeSet::from([project]), false);
        }
        _ => {
            assert_eq!(report.status, Status::Ok);
            drill.check(&BTreeSet::new(), true);
        }
    }
    // The next run catches up.
    assert_eq!(drill.here.sync().status, Status::Ok);
    drill.check(&BTreeSet::new(), false);
    oracle::check_consistent(&drill.world.database());
    drill.here.verify();
}
