//! The audit log: what is written, how it is asked for, and how it can mislead.

use serde_json::{Value, json};

use super::super::{Actor, AuditDelay, AuditLogging, AuditWriting, Fault, Matcher, Organization};
use super::Site;

const AUDIT_LOGS: &str = "/v1/organization/audit_logs";

fn site() -> Site {
    Site::new(Organization::generate(3, 10).with_projects_of(2, 4..=4).with_audit_logs())
}

impl Site {
    fn entries(&self, query: &str) -> Vec<Value> {
        let answer = self.get(&format!("{AUDIT_LOGS}?{query}"));
        assert_eq!(answer.status, 200, "{:?}", answer.json());
        answer.json()["data"].as_array().unwrap().clone()
    }

    fn types(&self, query: &str) -> Vec<String> {
        let entries = self.entries(query);
        entries.iter().map(|entry| entry["type"].as_str().unwrap().to_owned()).collect()
    }
}

/// Makes, renames and deletes a key of a project, a minute apart each; returns its id.
fn life_of_a_key(site: &Site) -> String {
    site.organization.with(|organization| {
        let project = organization.project_ids().next().unwrap().to_owned();
        let key = organization.add_project_key(&project).unwrap();
        organization.advance(60);
        organization.rename(&key, "other");
        organization.advance(60);
        organization.remove(&key);
        key
    })
}

#[test]
fn without_audit_logging_nothing_is_written_and_both_answers_are_seen() {
    let site = Site::of(3);
    site.organization.with(Organization::add);
    assert!(site.entries("").is_empty());
    for status in [401, 403] {
        site.organization.with(|organization| {
            organization.audit_logging = AuditLogging::Refused { status };
        });
        let answer = site.get(AUDIT_LOGS);
        assert_eq!(answer.status, status);
        assert!(answer.json()["error"].as_str().unwrap().contains("api.audit_logs.read"));
    }
}

#[test]
fn the_life_of_a_key_is_told_newest_first_in_the_shape_of_the_reference() {
    let site = site();
    let key = life_of_a_key(&site);
    let entries = site.entries(&format!("resource_ids%5B%5D={key}"));
    let kinds: Vec<_> = entries.iter().map(|entry| entry["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["api_key.deleted", "api_key.updated", "api_key.created"]);
    let now = site.organization.with(|organization| organization.now());
    let project = site.organization.with(|organization| {
        let id = organization.project_of(&key).unwrap();
        json!({ "id": id, "name": organization.project(id).unwrap()["name"] })
    });
    for (entry, ago) in entries.iter().zip([0, 60, 120]) {
        assert!(entry["id"].as_str().unwrap().starts_with("audit_log-"));
        assert_eq!(entry["effective_at"], now - ago);
        assert_eq!(entry[entry["type"].as_str().unwrap()]["id"], key.as_str());
        assert_eq!(entry["project"], project);
    }
    assert!(entries[2]["api_key.created"]["data"]["scopes"].is_array());
    assert!(entries[1]["api_key.updated"]["changes_requested"]["scopes"].is_array());
}

#[test]
fn entries_about_admin_keys_have_no_project_and_can_be_missing() {
    let site = site();
    let key = site.organization.with(|organization| {
        organization.audit_writing.admin_keys = false;
        let unseen = organization.add();
        organization.remove(&unseen);
        organization.audit_writing.admin_keys = true;
        organization.add()
    });
    let entries = site.entries("");
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0]["api_key.created"]["id"], key.as_str());
    assert!(entries[0].get("project").is_none());
}

#[test]
fn each_kind_of_actor_is_told_as_the_reference_has_it() {
    let site = site();
    let (user, email) = ("user-1".to_owned(), "ana@example.com".to_owned());
    let actors = [
        Actor::Session { user: user.clone(), email: email.clone(), ip_address: "::1".to_owned() },
        Actor::UserKey { key: "key_1".to_owned(), user, email },
        Actor::ServiceAccountKey { key: "key_2".to_owned(), service_account: "svc".to_owned() },
        Actor::Unknown,
    ];
    site.organization.with(|organization| {
        for actor in actors {
            organization.act_as(Some(actor));
            organization.add();
        }
        organization.act_as(None);
    });
    let told: Vec<_> = site.entries("").iter().rev().map(|entry| entry["actor"].clone()).collect();
    let user = json!({ "id": "user-1", "email": "ana@example.com" });
    assert_eq!(
        told,
        [
            json!({ "type": "session", "session": { "user": user, "ip_address": "::1" } }),
            json!({ "type": "api_key", "api_key": { "id": "key_1", "type": "user", "user": user } }),
            json!({ "type": "api_key", "api_key": { "id": "key_2", "type": "service_account", "service_account": { "id": "svc" } } }),
            Value::Null,
        ]
    );
    let count = |query: &str| site.entries(query).len();
    assert_eq!(count("actor_ids[]=user-1"), 2);
    assert_eq!(count("actor_ids[]=key_2&actor_ids[]=key_1"), 2);
    assert_eq!(count("actor_emails[]=ana@example.com"), 2);
    assert_eq!(count("actor_emails[]=bo@example.com"), 0);
}

#[test]
fn drawn_actors_are_of_every_kind() {
    let mut organization = Organization::generate(3, 10).with_audit_logs();
    for _ in 0..200 {
        organization.add();
    }
    let count = |test: &dyn Fn(&Actor) -> bool| {
        organization.audit_entries().iter().filter(|entry| test(&entry.actor)).count()
    };
    assert!(count(&|actor| matches!(actor, Actor::Session { .. })) > 20);
    assert!(count(&|actor| matches!(actor, Actor::UserKey { .. })) > 5);
    assert!(count(&|actor| matches!(actor, Actor::ServiceAccountKey { .. })) > 20);
}

#[test]
fn filters_hold_each_by_itself_and_together() {
    let site = site();
    let key = life_of_a_key(&site);
    let other = site.organization.with(Organization::add);
    let now = site.organization.with(|organization| organization.now());
    let types = |query: &str| site.types(query).join(" ");
    assert_eq!(types("event_types[]=api_key.updated"), "api_key.updated");
    assert_eq!(
        types("event_types[]=api_key.updated&event_types[]=api_key.deleted"),
        "api_key.deleted api_key.updated"
    );
    let both = format!("resource_ids[]={key}&resource_ids[]={other}&event_types[]=api_key.created");
    assert_eq!(site.entries(&both).len(), 2);
    assert_eq!(site.entries(&format!("effective_at[gt]={now}")).len(), 0);
    assert_eq!(site.entries(&format!("effective_at[gte]={now}")).len(), 2);
    assert_eq!(site.entries(&format!("effective_at[lt]={now}")).len(), 2);
    assert_eq!(site.entries(&format!("effective_at[lte]={}", now - 60)).len(), 2);
    assert_eq!(
        types(&format!("effective_at[gt]={}&effective_at[lt]={now}", now - 120)),
        "api_key.updated"
    );
    let project = site
        .organization
        .with(|organization| organization.project_of(&key).map(str::to_owned).unwrap());
    assert_eq!(site.entries(&format!("project_ids[]={project}")).len(), 3);
    for query in [
        "event_types[]=api_key.renamed",
        "event_types[]=tenant.user.added",
        "effective_at[gt]=yesterday",
        "limit=101",
        "after=audit_log-none",
        "before=audit_log-none",
    ] {
        assert!(site.get(&format!("{AUDIT_LOGS}?{query}")).status >= 400, "{query}");
    }
    assert!(site.entries("event_types[]=tenant.user.added&tenant_only=true").is_empty());
}

#[test]
fn the_log_is_paged_in_both_directions() {
    let site = site();
    site.organization.with(|organization| {
        for step in 0..45 {
            // Now and then two in one second.
            organization.advance(step % 3);
            organization.add();
        }
    });
    let all: Vec<String> = site.get(&format!("{AUDIT_LOGS}?limit=100")).ids();
    let written: Vec<String> = site.organization.with(|organization| {
        organization.audit_entries().iter().rev().map(|entry| entry.id.clone()).collect()
    });
    assert_eq!(all, written);
    let page = |query: &str| {
        let answer = site.get(&format!("{AUDIT_LOGS}?{query}"));
        (answer.ids(), answer.has_more())
    };
    assert_eq!(page(""), (all[..20].to_vec(), true));
    assert_eq!(page(&format!("after={}", all[19])), (all[20..40].to_vec(), true));
    assert_eq!(page(&format!("after={}", all[39])), (all[40..].to_vec(), false));
    assert_eq!(page(&format!("before={}", all[40])), (all[20..40].to_vec(), true));
    assert_eq!(page(&format!("before={}", all[5])), (all[..5].to_vec(), false));
    let between = format!("after={}&before={}&limit=2", all[1], all[5]);
    assert_eq!(page(&between), (all[3..5].to_vec(), true));
    let pages: Vec<_> = site.organization.requests().iter().map(|request| request.page).collect();
    assert_eq!(pages[1..4], [Some(0), Some(1), Some(2)]);
}

#[test]
fn entries_can_be_late_lost_and_written_more_than_once() {
    let site = site();
    let write = |writing: AuditWriting| {
        site.organization.with(|organization| {
            organization.audit_writing = writing;
            organization.add()
        })
    };
    let told = |key: &str| site.entries(&format!("resource_ids[]={key}")).len();
    let usual = AuditWriting::default();
    let late = write(AuditWriting { delay: AuditDelay::Seconds(3_600), ..usual });
    assert_eq!(told(&late), 0);
    site.organization.with(|organization| organization.advance(3_599));
    assert_eq!(told(&late), 0);
    site.organization.with(|organization| organization.advance(1));
    assert_eq!(told(&late), 1);
    let later = write(AuditWriting { delay: AuditDelay::Requests(2), ..usual });
    assert_eq!([told(&later), told(&later), told(&later)], [0, 0, 1]);
    let shown = site.organization.with(|organization| {
        organization.audit_writing.delay = AuditDelay::Requests(1);
        organization.add();
        let entries = organization.audit_entries();
        entries.iter().map(|entry| organization.shows(entry)).collect::<Vec<_>>()
    });
    assert_eq!(shown, [true, true, false]);
    let lost = write(AuditWriting { copies: 0, ..usual });
    assert_eq!(told(&lost), 0);
    let twice = write(AuditWriting { copies: 2, ..usual });
    let entries = site.entries(&format!("resource_ids[]={twice}"));
    assert_eq!(entries.len(), 2);
    assert_ne!(entries[0]["id"], entries[1]["id"]);
    assert_eq!(entries[0]["actor"], entries[1]["actor"]);
}

#[test]
fn a_server_can_send_what_was_not_asked_for() {
    let site = site();
    let key = life_of_a_key(&site);
    let query = format!("resource_ids[]={key}&event_types[]=api_key.deleted");
    site.organization.fault(Matcher::audit_logs().nth(1), Fault::IgnoredFilters);
    site.organization.fault(Matcher::audit_logs().nth(2), Fault::ForeignEntries);
    site.organization.fault(Matcher::audit_logs().nth(3), Fault::DuplicateItem(0));
    site.organization.fault(Matcher::audit_logs().nth(4), Fault::status(429));
    assert_eq!(site.types(&query).len(), 3);
    let foreign = site.entries(&query);
    assert_eq!(site.organization.requests()[1].parameters("resource_ids[]"), [key.as_str()]);
    let kinds: Vec<_> = foreign.iter().map(|entry| entry["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["login.succeeded", "api_key.deleted", "api_key.deleted"]);
    assert_eq!(foreign[1]["api_key.deleted"]["id"], "key_of_somebody_else");
    assert_eq!(foreign[2]["api_key.deleted"]["id"], key.as_str());
    let doubled = site.entries(&query);
    assert_eq!((doubled.len(), &doubled[0]), (2, &doubled[1]));
    assert_eq!(site.get(&format!("{AUDIT_LOGS}?{query}")).status, 429);
}

#[test]
fn keeping_a_log_changes_nothing_else() {
    let play = |organization: Organization| {
        let mut organization = organization;
        let mut rng = fastrand::Rng::with_seed(4);
        for _ in 0..300 {
            organization.mutate(&mut rng);
        }
        organization.keys().collect::<Vec<_>>()
    };
    let plain = Organization::generate(3, 10);
    assert_eq!(play(plain.clone()), play(plain.with_audit_logs()));
}
