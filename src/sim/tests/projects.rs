//! Projects and their keys: listing, look-ups, refusals, changes.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::super::{
    Area, Churn, Endpoint, Fault, Matcher, Mutation, MutationKind, Organization, ProjectAccess,
};
use super::Site;

const PROJECTS: &str = "/v1/organization/projects";

fn site(projects: usize) -> Site {
    Site::new(Organization::generate(3, 40).with_projects_of(projects, 3..=30))
}

impl Site {
    /// Lists with this query until `has_more` is false.
    fn list_all(&self, path: &str, query: &str) -> Vec<String> {
        let mut ids: Vec<String> = Vec::new();
        loop {
            let after = ids.last().map(|id| format!("&after={id}")).unwrap_or_default();
            let page = self.get(&format!("{path}?limit=7{query}{after}"));
            assert_eq!(page.status, 200, "{:?}", page.json());
            ids.extend(page.ids());
            if !page.has_more() {
                return ids;
            }
        }
    }

    fn keys_of(&self, project: &str, query: &str) -> Vec<String> {
        self.list_all(&format!("{PROJECTS}/{project}/api_keys"), query)
    }

    fn project_ids(&self) -> Vec<String> {
        self.organization
            .with(|organization| organization.project_ids().map(str::to_owned).collect())
    }
}

/// A key that fits, of all the keys in projects.
fn find_key(organization: &Organization, fits: impl Fn(&Value) -> bool) -> String {
    let projects = organization.project_ids();
    let mut keys = projects.flat_map(|project| organization.project_keys(project));
    let key = keys.find(|key| fits(&Value::Object(key.clone()))).expect("such a key");
    key["id"].as_str().unwrap().to_owned()
}

#[test]
fn an_organization_without_projects_lists_none() {
    let site = Site::of(3);
    let page = site.get(PROJECTS);
    assert_eq!((page.status, page.ids().len(), page.has_more()), (200, 0, false));
    assert_eq!(site.get(&format!("{PROJECTS}/proj_none/api_keys")).status, 404);
    let plain: Vec<_> = Organization::generate(3, 40).keys().collect();
    let with = Organization::generate(3, 40).with_projects(20).with_audit_logs();
    assert!(plain.iter().all(|key| with.key(key["id"].as_str().unwrap()).as_ref() == Some(key)));
}

#[test]
fn projects_have_the_shape_of_the_reference_and_archived_ones_are_asked_for() {
    let site = site(50);
    let all = site.list_all(PROJECTS, "&include_archived=true");
    assert_eq!(all, site.project_ids());
    let active = site.list_all(PROJECTS, "");
    assert_eq!(active, site.list_all(PROJECTS, "&include_archived=false"));
    assert!(active.len() < 50 && active.len() > 25, "{}", active.len());
    let page = site.get(&format!("{PROJECTS}?include_archived=true")).json();
    assert_eq!(page["data"].as_array().unwrap().len(), 20, "the default limit");
    for project in page["data"].as_array().unwrap() {
        assert_eq!(project["object"], "organization.project");
        assert!(project["id"].as_str().unwrap().starts_with("proj_"));
        assert!(project["name"].is_string() && project["created_at"].is_i64());
        let archived = !active.contains(&project["id"].as_str().unwrap().to_owned());
        assert_eq!(project["status"], if archived { "archived" } else { "active" });
        assert_eq!(project["archived_at"].is_i64(), archived);
        let id = project["id"].as_str().unwrap();
        assert_eq!(site.get(&format!("{PROJECTS}/{id}")).json(), *project);
    }
    for query in ["limit=0", "limit=101", "include_archived=maybe", "after=proj_none"] {
        assert!(site.get(&format!("{PROJECTS}?{query}")).status >= 400, "{query}");
    }
}

#[test]
fn project_keys_have_the_shape_of_the_reference() {
    let site = site(20);
    let (mut users, mut service_accounts) = (0, 0);
    for project in site.project_ids() {
        let page = site
            .get(&format!("{PROJECTS}/{project}/api_keys?limit=100&owner_project_access=any"))
            .json();
        for key in page["data"].as_array().unwrap() {
            assert_eq!(key["object"], "organization.project.api_key");
            assert!(key.get("expires_at").is_none(), "a project key says nothing of expiry");
            assert!(key["name"].is_string() && key["created_at"].is_i64());
            assert!(key.get("last_used_at").is_some());
            assert!(
                ["active", "inactive"].contains(&key["owner_project_access"].as_str().unwrap())
            );
            let owner = &key["owner"];
            let kind = owner["type"].as_str().unwrap();
            assert!(owner[kind]["id"].is_string() && owner[kind]["role"].is_string());
            assert!(owner[kind]["created_at"].is_i64() && owner[kind]["name"].is_string());
            assert_eq!(owner[kind].get("email").is_some(), kind == "user");
            *(if kind == "user" { &mut users } else { &mut service_accounts }) += 1;
            let id = key["id"].as_str().unwrap();
            let path = format!("{PROJECTS}/{project}/api_keys/{id}");
            assert_eq!(site.get(&path).json(), *key);
        }
    }
    assert!(users > 20 && service_accounts > 20, "{users} {service_accounts}");
}

#[test]
fn keys_of_owners_without_access_come_only_when_asked_for() {
    let site = site(12);
    let mut inactive = 0;
    for project in site.project_ids() {
        let any = site.keys_of(&project, "&owner_project_access=any");
        let active = site.keys_of(&project, "&owner_project_access=active");
        let without = site.keys_of(&project, "&owner_project_access=inactive");
        assert_eq!(site.keys_of(&project, ""), active);
        assert_eq!(any.len(), active.len() + without.len());
        assert!(without.iter().all(|id| any.contains(id) && !active.contains(id)));
        for id in &without {
            assert_eq!(site.get(&format!("{PROJECTS}/{project}/api_keys/{id}")).status, 200);
        }
        inactive += without.len();
    }
    assert!(inactive > 3, "{inactive}");
    let project = &site.project_ids()[0];
    let wrong = site.get(&format!("{PROJECTS}/{project}/api_keys?owner_project_access=all"));
    assert_eq!(
        (wrong.status, &wrong.json()["error"]["param"]),
        (400, &json!("owner_project_access"))
    );
}

#[test]
fn a_mislabelled_key_is_in_both_lists_and_stays_one_key() {
    let mut site = site(10);
    let admin: BTreeSet<String> = site.scan(100, "asc").into_iter().collect();
    let mut both = BTreeSet::new();
    for project in site.project_ids() {
        let keys = site.keys_of(&project, "&owner_project_access=any");
        both.extend(keys.into_iter().filter(|id| admin.contains(id)));
    }
    assert!(both.len() > 5, "{}", both.len());
    for id in &both {
        let row = site.retrieve(id).json();
        assert_eq!(row["object"], "organization.admin_api_key");
        assert_eq!(
            (&row["owner"]["type"], &row["owner"]["role"]),
            (&json!("service_account"), &json!("member"))
        );
        assert!(row["expires_at"].is_null() && row["owner"]["id"].is_string());
    }
    let id = both.first().unwrap().clone();
    site.organization.with(|organization| {
        organization.advance(60);
        assert!(organization.touch(&id) && organization.rename(&id, "other"));
        assert!(organization.change_owner(&id));
        let (row, key) = (organization.key(&id).unwrap(), organization.project_key(&id).unwrap());
        for field in ["name", "last_used_at", "redacted_value", "created_at"] {
            assert_eq!(row[field], key[field], "{field}");
        }
        let kind = key["owner"]["type"].as_str().unwrap();
        assert_eq!(row["owner"]["id"], key["owner"][kind]["id"]);
        assert_eq!(key["last_used_at"], organization.now());
        let before = (row, key);
        assert!(organization.remove(&id) && !organization.exists(&id));
        assert!(organization.restore(&id) && !organization.restore(&id));
        assert_eq!(
            (organization.key(&id).unwrap(), organization.project_key(&id).unwrap()),
            before
        );
        assert!(organization.label_rightly(&id) && !organization.label_rightly(&id));
        assert!(organization.remove(&id) && organization.restore(&id));
        assert!(organization.exists(&id) && !organization.contains(&id), "as it was when it went");
        assert!(organization.mislabel(&id) && organization.is_mislabelled(&id));
    });
    site.credential = String::new();
    assert_eq!(site.get(PROJECTS).status, 401);
}

#[test]
fn what_happens_to_projects_shows() {
    let mut organization = Organization::generate(3, 10);
    let project = organization.create_project("first");
    assert_eq!(organization.project(&project).unwrap()["created_at"], organization.now());
    let key = organization.add_project_key(&project).unwrap();
    assert!(organization.rename_project(&project, "second"));
    assert!(organization.archive_project(&project) && !organization.archive_project(&project));
    assert_eq!(organization.is_archived(&project), Some(true));
    assert!(organization.exists(&key), "keys of archived projects live");
    assert!(organization.unarchive_project(&project) && !organization.unarchive_project(&project));
    let map = organization.project(&project).unwrap();
    assert_eq!((&map["name"], &map["archived_at"]), (&json!("second"), &Value::Null));
    assert!(organization.delete_project(&project) && !organization.delete_project(&project));
    assert!(!organization.exists(&key) && !organization.restore(&key));
    assert_eq!(organization.add_project_key(&project), None);
    assert_eq!(organization.project_of(&key), Some(project.as_str()));
}

#[test]
fn an_owner_who_loses_access_loses_it_for_every_key_in_that_project() {
    let mut organization = Organization::generate(3, 10).with_projects_of(1, 60..=60);
    let key = find_key(&organization, |key| key["owner_project_access"] == "active");
    let project = organization.project_of(&key).unwrap().to_owned();
    let owner = |key: &serde_json::Map<String, Value>| {
        key["owner"].get("user").or(key["owner"].get("service_account")).unwrap()["id"].clone()
    };
    let theirs = owner(&organization.project_key(&key).unwrap());
    assert!(organization.set_owner_access(&key, false));
    let keys = organization.project_keys(&project);
    let (own, others): (Vec<_>, Vec<_>) = keys.iter().partition(|key| owner(key) == theirs);
    assert!(own.len() > 1 && own.iter().all(|key| key["owner_project_access"] == "inactive"));
    assert!(others.iter().any(|key| key["owner_project_access"] == "active"));
    assert!(organization.set_owner_access(&key, true));
    assert_eq!(organization.project_key(&key).unwrap()["owner_project_access"], "active");
    assert!(!organization.set_owner_access("key_none", true));
}

#[test]
fn a_project_can_be_forbidden_or_vanish_while_its_keys_live() {
    let site = site(4);
    let project = site.project_ids()[1].clone();
    let key = site.keys_of(&project, "&owner_project_access=any")[0].clone();
    let set = |access| {
        site.organization.with(|organization| organization.set_project_access(&project, access))
    };
    let paths = ["", "/api_keys", &format!("/api_keys/{key}")]
        .map(|rest| format!("{PROJECTS}/{project}{rest}"));
    for status in [401, 403] {
        assert!(set(ProjectAccess::Forbidden { status }));
        for path in &paths {
            let answer = site.get(path);
            assert_eq!(answer.status, status);
            assert!(answer.json()["error"].as_str().unwrap().contains("api.management.read"));
        }
        assert!(site.list_all(PROJECTS, "&include_archived=true").contains(&project));
    }
    set(ProjectAccess::Vanished);
    for path in &paths {
        let answer = site.get(path);
        assert_eq!((answer.status, answer.json()["error"]["message"].is_string()), (404, true));
    }
    assert!(!site.list_all(PROJECTS, "&include_archived=true").contains(&project));
    assert!(site.organization.with(|organization| organization.exists(&key)));
    set(ProjectAccess::Open);
    assert!(paths.iter().all(|path| site.get(path).status == 200));
}

#[test]
fn a_credential_can_lack_the_scopes_of_any_part() {
    let site = site(2);
    let project = &site.project_ids()[0];
    let paths = [
        "/v1/organization/admin_api_keys".to_owned(),
        PROJECTS.to_owned(),
        format!("{PROJECTS}/{project}/api_keys"),
        "/v1/organization/audit_logs".to_owned(),
    ];
    let refused = |area| {
        let secret = &site.credential;
        site.organization.with(|organization| organization.refuse(secret, area, Some(403)));
        let statuses = paths.each_ref().map(|path| site.get(path).status);
        site.organization.with(|organization| organization.refuse(secret, area, None));
        statuses
    };
    assert_eq!(refused(Area::AdminKeys), [403, 200, 200, 200]);
    assert_eq!(refused(Area::Projects), [200, 403, 403, 200]);
    assert_eq!(refused(Area::ProjectKeys), [200, 200, 403, 200]);
    assert_eq!(refused(Area::AuditLogs), [200, 200, 200, 403]);
    assert!(paths.iter().all(|path| site.get(path).status == 200));
}

#[test]
fn faults_find_a_project_and_any_one_request() {
    let site = site(3);
    let ids = site.project_ids();
    let key = site.keys_of(&ids[1], "&owner_project_access=any")[0].clone();
    let paths = [
        PROJECTS.to_owned(),
        format!("{PROJECTS}/{}/api_keys?owner_project_access=any", ids[0]),
        format!("{PROJECTS}/{}/api_keys?owner_project_access=any", ids[1]),
        format!("{PROJECTS}/{}/api_keys/{key}", ids[1]),
        format!("{PROJECTS}/{}", ids[1]),
    ];
    let statuses = |when, fault| {
        site.organization.clear_faults();
        site.organization.fault(when, fault);
        paths.each_ref().map(|path| site.get(path).status)
    };
    let failing = |when| statuses(when, Fault::status(503));
    assert_eq!(failing(Matcher::projects()), [503, 200, 200, 200, 200]);
    assert_eq!(failing(Matcher::project_keys()), [200, 503, 503, 200, 200]);
    assert_eq!(failing(Matcher::project_keys().nth(2)), [200, 200, 503, 200, 200]);
    assert_eq!(failing(Matcher::project_keys().project(&ids[0])), [200, 503, 200, 200, 200]);
    assert_eq!(failing(Matcher::any().project(&ids[1])), [200, 200, 503, 503, 503]);
    assert_eq!(failing(Matcher::project_key().id(&key)), [200, 200, 200, 503, 200]);
    assert_eq!(failing(Matcher::to(Endpoint::Project)), [200, 200, 200, 200, 503]);
    for (at, _) in paths.iter().enumerate() {
        let nth = u64::try_from(at).unwrap() + 1;
        let mut expected = [200; 5];
        expected[at] = 503;
        assert_eq!(failing(Matcher::any().nth(nth)), expected);
    }
    let never = statuses(Matcher::any(), Fault::RetrieveNeverFound);
    assert_eq!(never, [200, 200, 200, 404, 404]);
    site.organization.clear_faults();
    site.organization.with(|organization| organization.remove(&key));
    site.organization.fault(Matcher::project_key(), Fault::RetrieveAlwaysFound);
    assert_eq!(site.get(&paths[3]).json()["object"], "organization.project.api_key");
    site.organization.fault(Matcher::project_keys(), Fault::EmptyList);
    assert!(site.get(&paths[2]).ids().is_empty());
    site.organization.fault(Matcher::projects(), Fault::CutBody);
    assert!(!site.get(PROJECTS).whole);
}

#[test]
fn the_log_names_the_endpoint_the_project_and_the_page() {
    let site = site(3);
    let ids = site.project_ids();
    let listed = site.keys_of(&ids[0], "&owner_project_access=any");
    let requests = site.organization.requests();
    assert!(requests.iter().all(|request| request.endpoint == Endpoint::ProjectKeys));
    assert!(requests.iter().all(|request| request.project_id.as_ref() == Some(&ids[0])));
    let pages: Vec<_> = requests.iter().map(|request| request.page.unwrap()).collect();
    assert_eq!(pages, (0..listed.len().div_ceil(7)).collect::<Vec<_>>());
    assert_eq!(requests[0].parameters("owner_project_access"), ["any"]);
    site.get("/v1/organization/projects/a%2Fb/api_keys/c%20d");
    let last = site.organization.requests().pop().unwrap();
    assert_eq!(last.endpoint, Endpoint::ProjectKey);
    assert_eq!((last.project_id.as_deref(), last.key_id.as_deref()), (Some("a/b"), Some("c d")));
    site.get("/v1/organization/projects//api_keys");
    assert_eq!(site.organization.count(Endpoint::Unknown), 1);
}

#[test]
fn random_changes_of_projects_follow_from_the_seed_and_the_truth_tells_of_all() {
    let kinds = [MutationKind::USUAL, MutationKind::PROJECTS].concat();
    let play = || {
        let mut organization = Organization::generate(8, 12).with_projects(6).with_audit_logs();
        let mut rng = fastrand::Rng::with_seed(4);
        let changes = (0..3_000).map(|_| organization.mutate_among(&mut rng, &kinds));
        (changes.collect::<Vec<Mutation>>(), organization)
    };
    let (changes, organization) = play();
    let (again, same) = play();
    assert_eq!(changes, again);
    assert_eq!(organization.truth(), same.truth());
    for kind in kinds {
        assert!(changes.iter().any(|change| change.kind == kind), "{kind:?}");
    }
    let truth = organization.truth();
    let mut listed = BTreeSet::new();
    for project in organization.project_ids() {
        for key in organization.project_keys(project) {
            listed.insert(key["id"].as_str().unwrap().to_owned());
        }
    }
    listed.extend(organization.ids().map(str::to_owned));
    let living = truth.iter().filter(|key| key.lives()).map(|key| key.id.clone());
    assert_eq!(living.collect::<BTreeSet<_>>(), listed);
    for key in &truth {
        assert_eq!(organization.project_of(&key.id), key.project.as_deref());
        assert_eq!(organization.lifetimes(&key.id), key.lifetimes());
        for lifetime in &key.in_admin_listing {
            let lived = |of: &super::super::Lifetime| {
                of.from <= lifetime.from
                    && of.until.is_none_or(|until| lifetime.until.is_some_and(|end| end <= until))
            };
            assert!(key.lifetimes().iter().any(lived), "a row without a key: {key:?}");
        }
    }
    assert!(truth.iter().any(|key| key.project.is_some() && !key.in_admin_listing.is_empty()));
}

#[test]
fn keys_of_projects_come_and_go_between_two_requests() {
    let site = site(5);
    let churn = Churn::new(7, 4).among(MutationKind::PROJECT_MEMBERSHIP);
    site.organization.set_churn(Some(churn));
    let mut seen = BTreeSet::new();
    for project in site.project_ids() {
        let page =
            site.get(&format!("{PROJECTS}/{project}/api_keys?limit=100&owner_project_access=any"));
        seen.extend(page.ids());
    }
    let requests = site.organization.requests();
    let (from, until) = (requests[0].mark, requests[requests.len() - 1].mark);
    site.organization.with(|organization| {
        let of_projects = |ids: BTreeSet<String>| -> BTreeSet<String> {
            ids.into_iter().filter(|id| organization.project_of(id).is_some()).collect()
        };
        assert!(of_projects(organization.lived_throughout(from, until)).is_subset(&seen));
        assert!(seen.is_subset(&of_projects(organization.lived_sometime(from, until))));
    });
}

#[test]
fn a_step_can_wait_for_any_request() {
    let site = site(3);
    let ids = site.project_ids();
    let gone = ids[1].clone();
    site.organization.before(Matcher::project_keys().nth(2), move |organization| {
        organization.delete_project(&gone);
    });
    let status = |id: &str| site.get(&format!("{PROJECTS}/{id}/api_keys")).status;
    assert_eq!([status(&ids[1]), site.get(PROJECTS).status, status(&ids[1])], [200, 200, 404]);
    assert_eq!(status(&ids[0]), 200);
}
