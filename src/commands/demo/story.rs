//! What happens to the simulated organization in its fortnight, and how each sync of it went.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, ManualClock, Timestamp};
use crate::config::Settings;
use crate::output;
use crate::run::{EventCounts, Status, Trigger};
use crate::sim::{Fault, Handle, Matcher, Organization};
use crate::stop::Stop;
use crate::store::Writer;
use crate::sync::{self, Report, Request};

const DAY: Duration = Duration::from_hours(24);
/// From the first sync to the last one.
pub(super) const LENGTH: Duration = Duration::from_hours(24 * 14);

/// Questions to the database that the demo leaves.
pub(super) const QUERIES: [&str; 3] = [
    "select event, count(*) from audit_history group by event",
    "select key_id, name, owner_name, last_used_at from current_keys where last_used_at is null",
    "select day, added, removed, used, changed, keys from key_drift_daily",
];

type Happening = Box<dyn Fn(&Handle) + Send + Sync>;

/// One day: what happens, and then a sync.
pub(super) struct Day {
    number: u32,
    pub(super) tells: &'static str,
    pub(super) happens: Happening,
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
pub(super) fn days(organization: &Handle) -> Vec<Day> {
    let ids: Vec<String> =
        organization.with(|organization| organization.ids().map(str::to_owned).collect());
    let id = |place: usize| ids.get(place).cloned().unwrap_or_default();
    let day = |number, tells, happens| Day { number, tells, happens };
    let mut days = vec![
        day(0, "the first listing: what is there is found, not new", then(|_| {})),
        day(1, "three keys are used", touch(vec![id(2), id(5), id(10)])),
        day(2, "nothing happens, and nothing is recorded", then(|_| {})),
        day(3, "somebody makes a key", then(make_quick_test)),
        day(4, "a key is renamed, another one changes hands", rename_and_hand_over(id(4), id(7))),
        day(5, "the API is down", Box::new(go_down)),
        day(6, "the API is back, and the key of day 3 is used", then(use_newest)),
        day(7, "a key is deleted", remove(id(11))),
        day(
            8,
            "the list lacks two keys: both are looked up by id, and are there",
            Box::new(forget_two),
        ),
        day(9, "the API sends a new field for every key: a notice, no drift", then(send_new_field)),
    ];
    days.extend([
        day(10, "a key gets an end date, and its owner another role", limit(id(4))),
        day(
            11,
            "most of the list is gone, and nobody answers for it: the run is held",
            Box::new(forget_most),
        ),
        day(12, "the list is whole again, and the renamed key is used", touch(vec![id(4)])),
        day(13, "the deleted key is back, the quick test is gone", restore_and_tidy(id(11))),
        day(14, "two keys are used", touch(vec![id(4), id(16)])),
    ]);
    days
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

fn remove(id: String) -> Happening {
    then(move |organization| {
        organization.remove(&id);
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
    organization.fault(Matcher::list(), Fault::DropItem(8));
    organization.fault(Matcher::list(), Fault::DropItem(3));
}

fn forget_most(organization: &Handle) {
    for _ in 0..16 {
        organization.fault(Matcher::list(), Fault::DropItem(1));
    }
    let broken = Fault::status(500).with_header("retry-after-ms", "0");
    organization.fault(Matcher::retrieve(), broken);
}

/// One sync at the time that the clock shows.
pub(super) async fn sync(
    writer: &mut Writer,
    clock: &Arc<ManualClock>,
    settings: &Settings,
) -> anyhow::Result<Report> {
    let organization = &settings.organizations[0];
    let credential = settings.credential_source(&organization.name)?;
    let clock: Arc<dyn Clock> = clock.clone();
    let request = Request {
        organization,
        credential: &credential,
        api: &settings.api,
        removal: settings.removal,
        trigger: Trigger::Schedule,
        accept: false,
        stop: &Stop::never(),
        progress: &|_| {},
    };
    Ok(sync::run(writer, &clock, &request).await?)
}

/// How a sync went, in one line.
pub(super) fn outcome(report: &Report) -> String {
    let status = report.status.as_str();
    let recorded = report.recorded.as_ref();
    if report.status != Status::Ok {
        let causes = report.error.as_ref().map(sync::Error::in_one_line).unwrap_or_default();
        return if causes.starts_with(status) { causes } else { format!("{status}: {causes}") };
    }
    let counts = recorded.map(|recorded| recorded.counts).unwrap_or_default();
    let EventCounts { baseline, added, restored, removed, used, changed } = counts;
    let told: Vec<String> = [
        (baseline, "found"),
        (added, "added"),
        (restored, "restored"),
        (removed, "removed"),
        (used, "used"),
        (changed, "changed"),
        (report.tally.unconfirmed, "missing from the list, and kept"),
    ]
    .into_iter()
    .filter(|(number, _)| *number > 0)
    .map(|(number, what)| format!("{} {what}", output::grouped(number)))
    .collect();
    let told = if told.is_empty() { "no change".to_owned() } else { told.join(", ") };
    match recorded.and_then(|recorded| recorded.notice.as_deref()) {
        Some(notice) => format!("{status}: {told} ({notice})"),
        None => format!("{status}: {told}"),
    }
}
