//! What happens to the simulated organization in its fortnight, and how each sync of it went.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, ManualClock, Timestamp};
use crate::config::Settings;
use crate::output;
use crate::run::{EventCounts, Status, Trigger};
use crate::sim::{Fault, Handle, Matcher, Organization};
use crate::stop::Stop;
use crate::store::SharedWriter;
use crate::sync::{self, Report, Request, Ticks};

/// How many admin keys the simulated organization begins with.
const KEYS: usize = 12;
/// Its projects, with so many keys each. The last one is archived.
const PROJECTS: [&str; 3] = ["checkout", "search", "hackathon"];
const KEYS_EACH: usize = 2;
/// The same organization every time.
pub(super) const SEED: u64 = 2026;

const DAY: Duration = Duration::from_hours(24);
/// From the first sync to the last one.
pub(super) const LENGTH: Duration = Duration::from_hours(24 * 14);

/// A question to the database that the demo leaves: what it asks, and how.
pub(super) struct Query {
    pub(super) asks: &'static str,
    pub(super) sql: &'static str,
}

pub(super) const QUERIES: [Query; 3] = [
    Query {
        asks: "What happened, and how often?",
        sql: "select event, count(*) as events from audit_history group by event",
    },
    Query {
        asks: "Which keys has nobody used for half a year, and whose are they?",
        sql: "select key_id, name, owner_name, last_used_at from current_keys \
              where ifnull(last_used_at, created_at) < date('now', '-180 days')",
    },
    Query {
        asks: "How did the organization drift, day by day?",
        sql: "select day, added, removed, used, changed, keys from key_drift_daily",
    },
];

type Happening = Box<dyn Fn(&Handle) + Send + Sync>;

/// One day: what happens, and then a sync.
pub(super) struct Day {
    pub(super) number: u32,
    pub(super) tells: &'static str,
    pub(super) happens: Happening,
}

/// The fortnight, and the key that has the most to tell of it.
pub(super) struct Story {
    pub(super) days: Vec<Day>,
    pub(super) hero: String,
}

/// The organization as the story finds it.
pub(super) fn organization(begin: Timestamp) -> Organization {
    let organization = Organization::generate(SEED, KEYS);
    let mut organization = organization.with_projects_of(PROJECTS.len(), KEYS_EACH..=KEYS_EACH);
    organization.set_now(begin.saturating_sub(DAY * 60).unix());
    let projects: Vec<String> = organization.project_ids().map(str::to_owned).collect();
    for (id, name) in projects.iter().zip(PROJECTS) {
        organization.rename_project(id, name);
        organization.unarchive_project(id);
        for key in project_keys(&organization, id) {
            organization.label_rightly(&key);
            organization.set_owner_access(&key, true);
        }
    }
    if let Some(last) = projects.last() {
        organization.archive_project(last);
    }
    organization.set_now(begin.unix());
    organization
}

fn project_keys(organization: &Organization, project: &str) -> Vec<String> {
    let keys = organization.project_keys(project);
    keys.iter().filter_map(|key| key["id"].as_str().map(str::to_owned)).collect()
}

impl Day {
    pub(super) fn time(&self, begin: Timestamp) -> Timestamp {
        begin.saturating_add(DAY * self.number)
    }
}

/// Something that happens to the organization.
fn then(step: impl Fn(&mut Organization) + Send + Sync + 'static) -> Happening {
    Box::new(move |handle| handle.with(&step))
}

fn touch(ids: Vec<String>) -> Happening {
    then(move |organization| {
        for id in &ids {
            organization.touch(id);
        }
    })
}

/// The fortnight: every kind of event, and what must not become one.
pub(super) fn tell(organization: &Handle) -> Story {
    let ids = organization.with(|organization| {
        let own = organization.own_key(organization.credential()).unwrap_or_default();
        organization.ids().filter(|id| *id != own).map(str::to_owned).collect::<Vec<_>>()
    });
    let id = |place: usize| ids.get(place).cloned().unwrap_or_default();
    let (hero, deleted) = (id(4), id(9));
    let projects: Vec<String> =
        organization.with(|organization| organization.project_ids().map(str::to_owned).collect());
    let project = |place: usize| projects.get(place).cloned().unwrap_or_default();
    let day = |number, tells, happens| Day { number, tells, happens };
    let mut days = vec![
        day(0, "the first sync: every key is recorded as found, none as new", then(|_| {})),
        day(1, "three keys are used", touch(vec![id(2), id(5), id(8)])),
        day(2, "nothing happens, so nothing is recorded but the run", then(|_| {})),
        day(
            3,
            "somebody creates a key, \u{201c}quick test, delete me\u{201d}",
            then(make_quick_test),
        ),
        day(
            4,
            "a key is renamed, another changes hands",
            rename_and_hand_over(hero.clone(), id(7)),
        ),
        day(5, "the API is down all day", Box::new(go_down)),
        day(6, "the API is back, and the quick test is used", then(use_newest)),
        day(
            7,
            "a key is deleted, and the project \u{201c}checkout\u{201d} gets a new one",
            delete_and_deploy(deleted.clone(), project(0)),
        ),
        day(8, "the list lacks two living keys: each is looked up, and kept", Box::new(forget_two)),
        day(9, "the API sends a new field for every key: a notice, no drift", then(send_new_field)),
    ];
    days.extend([
        day(10, "the renamed key gets an end date, its owner another role", limit(hero.clone())),
        day(
            11,
            "most of the list is missing, no look-up is answered (guard lowered: guard_keys = 3)",
            Box::new(forget_most),
        ),
        day(12, "the list is whole again, and the renamed key is used", touch(vec![hero.clone()])),
        day(13, "the deleted key is back, the quick test is deleted", restore_and_tidy(deleted)),
        day(
            14,
            "a key is used, and who owns two keys in \u{201c}search\u{201d} loses the access to it",
            use_and_lose_access(hero.clone(), project(1)),
        ),
    ]);
    Story { days, hero }
}

fn make_quick_test(organization: &mut Organization) {
    let id = organization.add();
    organization.rename(&id, "quick test, delete me");
}

fn newest(organization: &Organization) -> String {
    organization.ids().last().unwrap_or_default().to_owned()
}

fn use_newest(organization: &mut Organization) {
    let id = newest(organization);
    organization.touch(&id);
}

fn rename_and_hand_over(renamed: String, handed_over: String) -> Happening {
    then(move |organization| {
        organization.rename(&renamed, "payments, production");
        organization.change_owner(&handed_over);
    })
}

fn delete_and_deploy(deleted: String, project: String) -> Happening {
    then(move |organization| {
        organization.remove(&deleted);
        if let Some(id) = organization.add_project_key(&project) {
            organization.label_rightly(&id);
            organization.rename(&id, "checkout, deployment");
        }
    })
}

fn use_and_lose_access(used: String, project: String) -> Happening {
    then(move |organization| {
        organization.touch(&used);
        if let Some(key) = project_keys(organization, &project).first() {
            organization.set_owner_access(key, false);
        }
    })
}

fn restore_and_tidy(restored: String) -> Happening {
    then(move |organization| {
        let quick_test = newest(organization);
        organization.remove(&quick_test);
        organization.restore(&restored);
    })
}

fn limit(id: String) -> Happening {
    then(move |organization| {
        let expires_at = organization.now() + i64::try_from(DAY.as_secs()).unwrap_or(0) * 90;
        organization.set_field(&id, "expires_at", expires_at);
        organization.set_field(&id, "owner.role", "reader");
    })
}

fn send_new_field(organization: &mut Organization) {
    organization.set_field_everywhere("tier", &"standard".into());
}

fn go_down(organization: &Handle) {
    organization.fault(Matcher::any(), Fault::status(503).with_header("retry-after-ms", "0"));
}

fn forget_two(organization: &Handle) {
    organization.fault(Matcher::list(), Fault::DropItem(7));
    organization.fault(Matcher::list(), Fault::DropItem(3));
}

fn forget_most(organization: &Handle) {
    for _ in 0..8 {
        organization.fault(Matcher::list(), Fault::DropItem(1));
    }
    let broken = Fault::status(500).with_header("retry-after-ms", "0");
    organization.fault(Matcher::retrieve(), broken);
}

/// One sync at the time that the clock shows.
pub(super) async fn sync(
    writer: &SharedWriter,
    clock: &Arc<ManualClock>,
    settings: &Settings,
) -> anyhow::Result<Report> {
    let organization = &settings.organizations[0];
    let credential = settings.credential_source(&organization.name)?;
    let clock: Arc<dyn Clock> = clock.clone();
    let request = Request {
        organization,
        credential: &|| credential.read(),
        api: &settings.api,
        removal: settings.removal,
        rules: &settings.findings,
        trigger: Trigger::Schedule,
        accept: false,
        ticks: Ticks::default(),
        stop: &Stop::never(),
        progress: &|_| {},
    };
    Ok(sync::run(writer, &clock, &request).await?)
}

/// How a sync went: its status, and in a phrase what it recorded or why not.
pub(super) fn outcome(report: &Report) -> (&'static str, String) {
    let status = report.status.as_str();
    if report.status != Status::Ok {
        let cause = report.error.as_ref().and_then(std::error::Error::source);
        let cause = cause.map(ToString::to_string).unwrap_or_default();
        return (status, format!("nothing changed: {}", without_request(&cause)));
    }
    let recorded = report.recorded.as_ref();
    let counts = recorded.map(|recorded| recorded.counts).unwrap_or_default();
    let EventCounts { baseline, added, restored, removed, used, changed } = counts;
    let mut told: Vec<String> = [
        (baseline, "found"),
        (added, "added"),
        (restored, "restored"),
        (removed, "removed"),
        (used, "used"),
        (changed, "changed"),
        (report.tally.unconfirmed, "not in the list but there"),
    ]
    .into_iter()
    .filter(|(number, _)| *number > 0)
    .map(|(number, what)| format!("{} {what}", output::grouped(number)))
    .collect();
    if told.is_empty() {
        told.push("no change".to_owned());
    }
    let notice = recorded.and_then(|recorded| recorded.notice.as_deref());
    told.extend(notice.map(|notice| format!("notice: {notice}")));
    (status, told.join(", "))
}

/// A story needs no request ids; the run history has them.
fn without_request(text: &str) -> String {
    match (text.find(" (request "), text.find("): ")) {
        (Some(from), Some(to)) if from < to => format!("{}{}", &text[..from], &text[to + 1..]),
        _ => text.to_owned(),
    }
}
