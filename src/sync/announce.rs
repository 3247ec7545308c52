//! What the log says of a run: one line, and one for each key that came, went or was used first.

use super::Report;
use crate::inventory::{Appearance, Changes};
use crate::run::{Status, Trigger};
use crate::telemetry::message;

/// As many keys of a kind are named.
const MOST_NAMED: usize = 1_000;

/// The ids of keys that somebody may want to hear of at once.
#[derive(Debug, Default)]
pub(super) struct News {
    added: Ids,
    removed: Ids,
    restored: Ids,
    first_used: Ids,
}

#[derive(Debug, Default)]
struct Ids {
    named: Vec<String>,
    total: usize,
}

impl Ids {
    fn push(&mut self, id: &str) {
        self.total += 1;
        if self.named.len() < MOST_NAMED {
            self.named.push(id.to_owned());
        }
    }
}

impl News {
    pub(super) fn of(changes: &Changes) -> Self {
        let mut news = Self::default();
        // Of a baseline, nobody is told key by key. Should one not be read again, the run fails anyway.
        let appeared = changes.appeared.iter().map_while(Result::ok);
        for appearance in appeared.take_while(|_| !changes.appeared.is_baseline()) {
            match appearance {
                Appearance::Baseline(_) => {}
                Appearance::Added(key) => news.added.push(key.id.as_str()),
                Appearance::Restored(key) => news.restored.push(key.id.as_str()),
            }
        }
        for key in &changes.removed {
            news.removed.push(key.id.as_str());
        }
        for alteration in &changes.altered {
            let mut changes = alteration.changes.iter();
            if changes.any(|change| change.field == "last_used_at" && change.old.is_none()) {
                news.first_used.push(alteration.key.id.as_str());
            }
        }
        news
    }
}

impl Report {
    /// Whether a command tells people of the run anyway: then the line is for whoever collects logs.
    fn is_told(&self) -> bool {
        self.trigger == Trigger::Manual
    }
}

pub(super) fn announce(report: &Report, news: &News) {
    announce_run(report);
    // Only what stands in the history has happened.
    let Some(recorded) = report.recorded.as_ref().filter(|_| report.status == Status::Ok) else {
        return;
    };
    for (ids, message_id, what) in [
        (&news.added, message::KEY_ADDED, "key added"),
        (&news.removed, message::KEY_REMOVED, "key removed"),
        (&news.restored, message::KEY_RESTORED, "key restored"),
        (&news.first_used, message::FIRST_USE, "key used for the first time"),
    ] {
        for key_id in &ids.named {
            tracing::info!(
                target: "keydrift::event",
                message_id,
                org.label = report.organization,
                run.id = recorded.run_id,
                key.id = key_id.as_str(),
                "{what}: {key_id}"
            );
        }
        let unnamed = ids.total - ids.named.len();
        if unnamed > 0 {
            tracing::info!(
                target: "keydrift::event",
                message_id,
                org.label = report.organization,
                run.id = recorded.run_id,
                events.unnamed = unnamed,
                "{what}: {unnamed} more, see `keydrift log`"
            );
        }
    }
}

/// One line a run and organization.
fn announce_run(report: &Report) {
    let tally = report.tally;
    let duration_ms = u64::try_from(report.duration.as_millis()).unwrap_or(u64::MAX);
    let run_id = report.recorded.as_ref().map(|recorded| recorded.run_id);
    let counts = report.recorded.as_ref().map(|recorded| recorded.counts).unwrap_or_default();
    let findings = report.recorded.as_ref().map(|recorded| recorded.findings).unwrap_or_default();
    let trigger = report.trigger.as_str();
    let error = report.explanation().unwrap_or_default();
    macro_rules! not_synced {
        ($level:ident, $message_id:expr, $priority:literal, $message:literal) => {
            tracing::$level!(
                message_id = $message_id,
                priority = $priority,
                org.label = report.organization,
                run.id = run_id,
                run.trigger = trigger,
                duration_ms,
                error,
                $message
            )
        };
    }
    match report.status {
        Status::Ok => tracing::info!(
            message_id = message::RUN_OK,
            org.label = report.organization,
            run.id = run_id,
            run.trigger = trigger,
            duration_ms,
            keys.total = tally.keys_seen,
            events.added = counts.added + counts.restored,
            events.removed = counts.removed,
            events.used = counts.used,
            events.changed = counts.changed,
            findings.opened = findings.opened,
            findings.closed = findings.closed,
            "synced"
        ),
        Status::Failed if report.is_told() => {
            not_synced!(info, message::RUN_FAILED, "warning", "not synced");
        }
        Status::Failed => not_synced!(warn, message::RUN_FAILED, "warning", "not synced"),
        Status::Held if report.is_told() => {
            not_synced!(info, message::RUN_HELD, "error", "not synced: held");
        }
        Status::Held => {
            not_synced!(
                error,
                message::RUN_HELD,
                "error",
                "not synced: held until somebody has looked"
            );
        }
    }
}
