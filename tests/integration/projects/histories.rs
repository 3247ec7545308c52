//! Random histories of organizations with projects.

use std::collections::BTreeMap;

use keydrift::run::Status;
use keydrift::sim::{
    AboveMaxLimit, Area, Endpoint, ErrorBody, Fault, LoggedRequest, Matcher, MutationKind,
    Organization, ProjectAccess,
};

use super::model::{Books, Lists};
use crate::support::drills::for_each;
use crate::support::{Here, World, oracle};

/// How many histories there are, in this process and through the binary.
const HERE: u64 = 490;
const BY_BINARY: u64 = 10;

/// What goes wrong in the sync of a step.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// One request or all from it on fail outright.
    Failing { from: u64, for_good: bool, at: usize },
    /// Answers that are wrong and look right.
    Lying { nth: u64, for_good: bool, at: usize },
}

/// The list that meets one of these is not to be had.
pub(super) fn failures() -> Vec<Fault> {
    vec![
        Fault::status(500),
        Fault::status_with(503, ErrorBody::Html),
        Fault::status_with(403, ErrorBody::BareString("Not for you.".to_owned())),
        Fault::CutBody,
        Fault::ResetConnection,
        Fault::WrongJson,
        Fault::MissingData,
    ]
}

fn lies() -> Vec<(Matcher, Fault)> {
    let lists = [Matcher::list(), Matcher::projects(), Matcher::project_keys()];
    let lists = lists.into_iter().flat_map(|matcher| {
        let faults = [
            Fault::EarlyEnd,
            Fault::EmptyList,
            Fault::DropItem(0),
            Fault::DropItem(1),
            Fault::DuplicateItem(1),
            Fault::SkipAhead(2),
            Fault::RepeatedPage,
            Fault::FromTheBeginning,
            Fault::EmptyPageWithMore,
            Fault::ShuffledItems,
        ];
        faults.map(|fault| (matcher.clone(), fault))
    });
    let look_ups = [Matcher::retrieve(), Matcher::project_key(), Matcher::any()];
    let look_ups = look_ups.into_iter().flat_map(|matcher| {
        let faults = [
            Fault::RetrieveNeverFound,
            Fault::RetrieveAlwaysFound,
            Fault::RetrieveOtherId("key_other".to_owned()),
        ];
        faults.map(|fault| (matcher.clone(), fault))
    });
    lists.chain(look_ups).collect()
}

struct Life {
    world: World,
    here: Here,
    by_binary: bool,
    rng: fastrand::Rng,
    books: Books,
    /// Projects that are not open.
    shut: BTreeMap<String, ProjectAccess>,
    refused: Option<Area>,
}

impl Life {
    fn begin(seed: u64, by_binary: bool) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        // Mostly few, so that more can happen in the same time.
        let projects = match rng.u8(..10) {
            0 => 0,
            1..=5 => rng.usize(1..=6),
            6 | 7 => rng.usize(7..=20),
            _ => rng.usize(21..=50),
        };
        let mut organization =
            Organization::generate(seed, rng.usize(1..12)).with_projects_of(projects, 0..=5);
        organization.paging.max_limit = rng.usize(2..12);
        organization.paging.above_max = AboveMaxLimit::Clamp;
        let own = organization.own_key(organization.credential()).expect("one").to_owned();
        let world = World::in_memory(organization);
        let mut here = Here::of(&world);
        // Half of them page by page, where it is known what a page that fails comes to.
        here.settings.api.side_by_side = seed.is_multiple_of(2);
        Self {
            here,
            books: Books::new(world.database(), &own),
            world,
            by_binary,
            rng,
            shut: BTreeMap::new(),
            refused: None,
        }
    }

    fn change(&mut self) {
        let handle = self.world.organization();
        let what = self.rng.u8(..16);
        let Self { rng, shut, refused, books, .. } = self;
        handle.with(|organization| {
            let projects: Vec<String> = organization.project_ids().map(str::to_owned).collect();
            match what {
                0..=7 => {
                    let kinds = [MutationKind::USUAL, MutationKind::PROJECTS].concat();
                    for _ in 0..rng.usize(1..4) {
                        organization.mutate_among(rng, &kinds);
                    }
                }
                8 => organization.advance(rng.i64(1..100_000)),
                9 | 10 => {
                    let Some(project) = rng.choice(projects) else { return };
                    let access = match rng.u8(..4) {
                        0 => ProjectAccess::Vanished,
                        1 => ProjectAccess::Forbidden { status: 401 },
                        2 => ProjectAccess::Forbidden { status: 403 },
                        _ => ProjectAccess::Open,
                    };
                    organization.set_project_access(&project, access);
                    shut.insert(project, access);
                }
                11 => open_all(organization, shut),
                12 => {
                    let secret = organization.credential().to_owned();
                    if let Some(area) = refused.take() {
                        organization.refuse(&secret, area, None);
                    } else {
                        let area = if rng.bool() { Area::Projects } else { Area::ProjectKeys };
                        organization.refuse(
                            &secret,
                            area,
                            Some(if rng.bool() { 401 } else { 403 }),
                        );
                        *refused = Some(area);
                    }
                }
                13 | 14 => {
                    let keys = projects.iter().flat_map(|id| organization.project_keys(id));
                    let ids = keys.map(|key| key["id"].as_str().expect("an id").to_owned());
                    // Of the others nobody but the admin list knows, and what it drops may be gone.
                    let ids = ids.filter(|id| books.is_told(id) && organization.is_mislabelled(id));
                    for id in ids.take(3).collect::<Vec<_>>() {
                        organization.label_rightly(&id);
                    }
                }
                _ => {
                    // The last key of a project goes, and often the project is archived.
                    let Some(project) = rng.choice(projects) else { return };
                    for key in organization.project_keys(&project) {
                        organization.remove(key["id"].as_str().expect("an id"));
                    }
                    if rng.bool() {
                        organization.archive_project(&project);
                    }
                }
            }
        });
    }

    fn draw_trouble(&mut self) -> Option<Trouble> {
        let projects = self.world.organization().with(|sim| sim.project_ids().count());
        let requests = u64::try_from(projects + 8).expect("few");
        let rng = &mut self.rng;
        let (from, for_good) = (rng.u64(1..=requests), rng.u8(..4) == 0);
        match rng.u8(..10) {
            0..=3 => {
                let at = rng.usize(..failures().len());
                Some(Trouble::Failing { from, for_good, at })
            }
            4 | 5 => {
                let at = rng.usize(..lies().len());
                Some(Trouble::Lying { nth: rng.u64(1..4), for_good: rng.bool(), at })
            }
            _ => None,
        }
    }

    fn step(&mut self) {
        for _ in 0..self.rng.usize(..5) {
            self.change();
        }
        let trouble = self.draw_trouble();
        let organization = self.world.organization();
        match trouble {
            Some(Trouble::Failing { from, for_good, at }) => {
                let any = Matcher::any();
                let when = if for_good { any.from(from) } else { any.nth(from) };
                organization.fault(when, failures().swap_remove(at));
            }
            Some(Trouble::Lying { nth, for_good, at }) => {
                let (matcher, fault) = lies().swap_remove(at);
                let when = if for_good { matcher.from(nth) } else { matcher.nth(nth) };
                organization.fault(when, fault);
            }
            None => {}
        }
        organization.clear_requests();
        let status = self.sync();
        organization.clear_faults();
        self.check(status, trouble);
    }

    fn sync(&mut self) -> Status {
        if !self.by_binary {
            return self.here.sync().status;
        }
        let ran = self.world.keydrift(&["sync"]).env("KEYDRIFT__API__MAX_ATTEMPTS", "1").run();
        let status = self.world.last_run()["status"].clone();
        let known = [Status::Ok, Status::Failed, Status::Held];
        let status = known.into_iter().find(|known| status == known.as_str()).expect("one");
        assert_eq!(ran.code, Some(i32::from(status != Status::Ok)), "{ran}");
        status
    }

    fn is_side_by_side(&self) -> bool {
        self.by_binary || self.here.settings.api.side_by_side
    }

    fn check(&mut self, status: Status, trouble: Option<Trouble>) {
        let handle = self.world.organization();
        let requests = handle.requests();
        assert!(requests.iter().all(|request| request.method == "GET"));
        if status != Status::Ok {
            assert!(trouble.is_some(), "nothing was wrong");
            self.books.check_untouched();
            return;
        }
        let hit: Vec<&LoggedRequest> = match trouble {
            Some(Trouble::Failing { from, for_good, .. }) => {
                let skip = usize::try_from(from).expect("small") - 1;
                let take = if for_good { usize::MAX } else { 1 };
                requests.iter().skip(skip).take(take).collect()
            }
            Some(Trouble::Lying { .. }) => {
                handle.with(|organization| self.books.check_roughly(organization));
                return;
            }
            None => Vec::new(),
        };
        // What is asked for early or twice may fail, and the list is whole all the same: the oracle says whether it is.
        let failed_list = hit.iter().any(|request| request.endpoint == Endpoint::List);
        assert!(self.is_side_by_side() || !failed_list, "not `ok`, then");
        handle.with(|organization| {
            let lists = self.lists(organization, &hit);
            self.books.check(organization, &lists);
        });
    }

    /// What could be read, by what the simulation was told to refuse and to break.
    fn lists(&self, organization: &Organization, hit: &[&LoggedRequest]) -> Lists {
        let is_hit = |endpoint, project: Option<&str>| {
            hit.iter().any(|request| {
                request.endpoint == endpoint
                    && project.is_none_or(|id| request.project_id.as_deref() == Some(id))
            })
        };
        let looked_up = [Endpoint::Retrieve, Endpoint::ProjectKey, Endpoint::Project];
        let look_ups_failed = looked_up.into_iter().any(|endpoint| is_hit(endpoint, None));
        let is_refused = |area| self.refused == Some(area);
        if is_refused(Area::Projects) || is_hit(Endpoint::Projects, None) {
            return Lists { projects: None, look_ups_failed };
        }
        let mut lacking = true;
        let mut projects = BTreeMap::new();
        for id in organization.project_ids() {
            let access = self.shut.get(id).copied().unwrap_or_default();
            if access == ProjectAccess::Vanished {
                continue;
            }
            let breaks = is_hit(Endpoint::ProjectKeys, Some(id));
            let refuses = access != ProjectAccess::Open || is_refused(Area::ProjectKeys);
            lacking &= refuses && !breaks;
            projects.insert(id.to_owned(), !breaks && !refuses);
        }
        // Where the credential may read no project's keys, it is as if it could not list projects.
        let projects = (projects.is_empty() || !lacking).then_some(projects);
        Lists { projects, look_ups_failed }
    }

    /// Once everything can be read again, everything is as it is, but for what was in deleted projects.
    fn end(mut self) {
        let handle = self.world.organization();
        let Self { shut, refused, .. } = &mut self;
        handle.with(|organization| {
            open_all(organization, shut);
            let secret = organization.credential().to_owned();
            if let Some(area) = refused.take() {
                organization.refuse(&secret, area, None);
            }
            let projects: Vec<String> = organization.project_ids().map(str::to_owned).collect();
            for project in projects {
                organization.unarchive_project(&project);
            }
        });
        // Twice: that no key of a project is left is not believed at first sight.
        for _ in 0..2 {
            self.world.organization().clear_requests();
            let status = self.sync();
            assert_eq!(status, Status::Ok);
            self.check(status, None);
        }
        let database = self.world.database();
        self.world.organization().with(|organization| {
            let deleted = |id: &String| {
                let project = organization.project_of(id);
                project.is_some_and(|project| organization.project(project).is_none())
            };
            for id in self.books.rows.keys().filter(|id| !organization.exists(id)) {
                assert!(deleted(id), "`{id}` is gone, and its project is not");
            }
        });
        oracle::check_consistent(&database);
        if self.by_binary {
            self.world.keydrift(&["verify"]).succeeds();
        } else {
            self.here.verify();
        }
    }
}

fn open_all(organization: &mut Organization, shut: &mut BTreeMap<String, ProjectAccess>) {
    for project in std::mem::take(shut).keys() {
        organization.set_project_access(project, ProjectAccess::Open);
    }
}

fn live(seed: u64, by_binary: bool) {
    let mut life = Life::begin(seed, by_binary);
    for _ in 0..life.rng.usize(2..5) {
        life.step();
    }
    life.end();
}

#[test]
fn random_histories_with_projects_never_remove_a_living_key_and_end_in_the_truth() {
    let seeds: Vec<u64> = (0..HERE).collect();
    for_each(&seeds, |seed| format!("history {seed}"), |seed| live(*seed, false));
}

#[test]
fn the_binary_records_random_histories_with_projects_as_well() {
    let seeds: Vec<u64> = (HERE..HERE + BY_BINARY).collect();
    for_each(&seeds, |seed| format!("history {seed}"), |seed| live(*seed, true));
}
