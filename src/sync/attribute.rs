//! Who did it: what the provider's audit log says of the events of a run, asked for when all else is known.
//!
//! The log is somebody else's testimony, and it comes late or not at all. Whatever goes wrong costs the run
//! nothing: what is missing is asked for by later runs, for a day.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Ledger, Request};
use crate::clock::{Clock, Timestamp};
use crate::inventory::{Attributable, Changes, PATIENCE, SLACK, attributable, attribute};
use crate::openai::{self, AuditQuery};
use crate::store::{self, Attributed, SharedWriter};

/// What a run has seen is not held back for longer.
const MOST_WAIT: Duration = Duration::from_mins(1);

/// Asks who did what the run is about to record, and what earlier runs recorded without an answer.
pub(super) async fn find(
    writer: &SharedWriter,
    clock: &dyn Clock,
    session: &openai::Session,
    changes: &Changes,
    request: &Request<'_>,
    ledger: &mut Ledger,
) -> Result<Attributed, store::Error> {
    if !request.organization.audit_logs {
        return Ok(Attributed::default());
    }
    let name = request.organization.name.as_str();
    let now = clock.now();
    let since = now.saturating_sub(PATIENCE);
    let known = writer.lock().await.load_unattributed(name, since).await?;
    let new = known.previous_started_at.map(|after| attributable(changes, after, now));
    let events: Vec<Attributable> =
        known.recent.into_iter().chain(new.into_iter().flatten()).collect();
    let Some(query) = query(&events) else { return Ok(Attributed::default()) };
    let asked = tokio::time::timeout(MOST_WAIT, session.list_audit_entries(&query));
    let answer = tokio::select! {
        biased;
        _ = request.stop.requested() => {
            tracing::info!(org.label = name, "told to stop: not waiting for the audit log");
            return Ok(Attributed::default());
        }
        answer = asked => answer,
    };
    match answer {
        Ok(Ok(entries)) => {
            let log_ids: BTreeSet<&str> = entries.iter().map(|entry| &*entry.log_id).collect();
            let attached = writer.lock().await.load_attached(name, &log_ids).await?;
            if known.said_unreadable {
                ledger.notices.push("the audit log can be read again".to_owned());
            }
            let attributions = attribute(&events, &entries, &attached);
            Ok(Attributed { attributions, is_readable: Some(true) })
        }
        Ok(Err(error)) if is_denied(&error) => {
            if !known.said_unreadable {
                ledger.notices.push(format!(
                    "the audit log may not be read, so that events lack who did it: {}",
                    in_one_line(&error)
                ));
            }
            Ok(Attributed { attributions: Vec::new(), is_readable: Some(false) })
        }
        Ok(Err(error)) => {
            let error = in_one_line(&error);
            tracing::warn!(org.label = name, error, "the audit log could not be read");
            Ok(Attributed::default())
        }
        Err(_) => {
            let seconds = MOST_WAIT.as_secs();
            let error = format!("no answer within {seconds} s");
            tracing::warn!(org.label = name, error, "the audit log could not be read");
            Ok(Attributed::default())
        }
    }
}

/// What to ask for: just the keys, the actions and the time of the events that nothing explains yet.
fn query(events: &[Attributable]) -> Option<AuditQuery> {
    let wanted = || events.iter().filter(|event| !event.attributed);
    let key_ids: BTreeSet<_> = wanted().map(|event| &event.key_id).collect();
    let actions: BTreeSet<_> = wanted().filter_map(Attributable::action).collect();
    let from: Timestamp = wanted().map(|event| event.after).min()?;
    let until: Timestamp = wanted().map(|event| event.observed_at).max()?;
    Some(AuditQuery {
        key_ids: key_ids.into_iter().cloned().collect(),
        actions: actions.into_iter().collect(),
        from: from.saturating_sub(SLACK),
        until: until.saturating_add(SLACK),
    })
}

/// Whether the credential that listed the keys does not get the log. What else may go wrong passes.
fn is_denied(error: &openai::Error) -> bool {
    error.is_missing_permission() || matches!(error, openai::Error::Unauthorized { .. })
}

fn in_one_line(error: &openai::Error) -> String {
    let mut line = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        line = format!("{line}: {cause}");
        source = cause.source();
    }
    line
}
