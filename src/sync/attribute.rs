//! Who did it: what the provider's audit log says of the events of a run, asked for when all else is known.
//!
//! The log is somebody else's testimony, and it comes late or not at all. Whatever goes wrong costs the run
//! nothing: what is missing is asked for by later runs, for a day.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Ledger, Request, in_one_line, is_denied};
use crate::clock::{Clock, Timestamp};
use crate::inventory::{Attributable, Changes, PATIENCE, SLACK, attributable, attribute};
use crate::openai::{self, AuditQuery};
use crate::store::{Attributed, SharedWriter, Silence, Unattributed};

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
) -> Result<Attributed, super::Error> {
    if !request.organization.audit_logs {
        return Ok(Attributed::default());
    }
    let name = request.organization.name.as_str();
    let now = clock.now();
    let since = now.saturating_sub(PATIENCE);
    let mut known = writer.lock().await.load_unattributed(name, since).await?;
    let new = known.previous_started_at.map(|after| attributable(changes, after, now));
    let new = new.transpose().map_err(super::Error::SetAside)?;
    let events: Vec<Attributable> =
        std::mem::take(&mut known.recent).into_iter().chain(new.into_iter().flatten()).collect();
    let mut said = Said { known: &known, now, notices: &mut ledger.notices };
    let Some(query) = query(&events) else {
        return Ok(Attributed { attributions: Vec::new(), silences: said.of_nothing_new() });
    };
    let asked = tokio::time::timeout(MOST_WAIT, session.list_audit_entries(&query));
    let answer = tokio::select! {
        biased;
        _ = request.stop.requested() => {
            tracing::info!(org.label = name, "told to stop: not waiting for the audit log");
            return Ok(Attributed::default());
        }
        answer = asked => answer,
    };
    let (attributions, silences) = match answer {
        Ok(Ok(entries)) => {
            let log_ids: BTreeSet<&str> = entries.iter().map(|entry| &*entry.log_id).collect();
            let attached = writer.lock().await.load_attached(name, &log_ids).await?;
            (attribute(&events, &entries, &attached), said.of_an_answer(!entries.is_empty()))
        }
        Ok(Err(error)) if is_denied(&error) => (Vec::new(), said.of_a_refusal(&error)),
        failed => {
            let seconds = MOST_WAIT.as_secs();
            let error = match failed {
                Ok(Err(error)) => in_one_line(&error),
                _ => format!("no answer within {seconds} s"),
            };
            tracing::warn!(org.label = name, error, "the audit log could not be read");
            (Vec::new(), said.of_a_failure(&error))
        }
    };
    Ok(Attributed { attributions, silences })
}

/// What is said of the log in the history: each thing once, when it begins and when it is over.
struct Said<'a> {
    known: &'a Unattributed,
    now: Timestamp,
    notices: &'a mut Vec<String>,
}

impl Said<'_> {
    /// Nothing is asked; but what was asked for before may be overdue by now.
    fn of_nothing_new(&mut self) -> Vec<(Silence, bool)> {
        let overdue = self
            .known
            .waiting_since
            .is_some_and(|since| since.saturating_add(PATIENCE) <= self.now);
        if !overdue || self.known.gave_entries || self.known.silences.contains(&Silence::Empty) {
            return Vec::new();
        }
        self.notices.push(
            "the audit log can be read and has no entry of what was done to keys a day ago, so that events lack who \
             did it: audit logging may be off in the organization"
                .to_owned(),
        );
        vec![(Silence::Waiting, false), (Silence::Empty, true)]
    }

    fn of_an_answer(&mut self, has_entries: bool) -> Vec<(Silence, bool)> {
        let known = self.known;
        if known.silences.contains(&Silence::Refused) || known.silences.contains(&Silence::Failing)
        {
            self.notices.push("the audit log can be read again".to_owned());
        }
        let mut silences = vec![(Silence::Refused, false), (Silence::Failing, false)];
        if has_entries {
            if known.silences.contains(&Silence::Empty) {
                self.notices.push("the audit log has entries now".to_owned());
            }
            silences.extend([(Silence::Waiting, false), (Silence::Empty, false)]);
        } else if !known.gave_entries && !known.silences.contains(&Silence::Empty) {
            let overdue = self.of_nothing_new();
            let waits = overdue.is_empty().then_some((Silence::Waiting, true));
            silences.extend(overdue.into_iter().chain(waits));
        }
        silences
    }

    fn of_a_refusal(&mut self, error: &openai::Error) -> Vec<(Silence, bool)> {
        if !self.known.silences.contains(&Silence::Refused) {
            self.notices.push(format!(
                "the audit log may not be read, so that events lack who did it: {}",
                in_one_line(error)
            ));
        }
        vec![(Silence::Refused, true), (Silence::Failing, false), (Silence::Waiting, false)]
    }

    fn of_a_failure(&mut self, error: &str) -> Vec<(Silence, bool)> {
        if !self.known.silences.contains(&Silence::Failing)
            && !self.known.silences.contains(&Silence::Refused)
        {
            self.notices.push(format!(
                "the audit log could not be read, so that events lack who did it: {error}"
            ));
        }
        // Nobody knows what it has meanwhile.
        vec![(Silence::Failing, true), (Silence::Waiting, false)]
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

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 60 * 60;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix(seconds).unwrap()
    }

    /// What comes of a run at `now`, and how many notices it has.
    fn said(
        known: &Unattributed,
        now: i64,
        what: impl FnOnce(&mut Said<'_>) -> Vec<(Silence, bool)>,
    ) -> (Vec<(Silence, bool)>, usize) {
        let mut notices = Vec::new();
        let silences = what(&mut Said { known, now: at(now), notices: &mut notices });
        (silences, notices.len())
    }

    fn waiting() -> Unattributed {
        Unattributed { waiting_since: Some(at(0)), ..Unattributed::default() }
    }

    #[test]
    fn a_log_without_an_entry_is_told_of_after_a_day_and_once() {
        let read = [(Silence::Refused, false), (Silence::Failing, false)];
        let empty = [(Silence::Waiting, false), (Silence::Empty, true)];
        let answered = |said: &mut Said<'_>| said.of_an_answer(false);
        let nothing = |said: &mut Said<'_>| said.of_nothing_new();
        let (first, told) = said(&Unattributed::default(), 0, answered);
        assert_eq!((first, told), ([&read[..], &[(Silence::Waiting, true)]].concat(), 0));
        // With an answer or without.
        for (now, times) in [(DAY - 1, 0), (DAY, 1)] {
            let (silences, told) = said(&waiting(), now, answered);
            let expected = if times == 1 { &empty[..] } else { &[(Silence::Waiting, true)] };
            assert_eq!((silences, told), ([&read[..], expected].concat(), times));
            let (silences, told) = said(&waiting(), now, nothing);
            assert_eq!(
                (silences.as_slice(), told),
                (if times == 1 { &empty[..] } else { &[] }, times)
            );
        }
        let again = Unattributed { silences: vec![Silence::Empty], ..waiting() };
        assert_eq!(said(&again, 9 * DAY, nothing), (Vec::new(), 0));
        assert_eq!(said(&again, 9 * DAY, answered), (read.to_vec(), 0));
        let gave = Unattributed { gave_entries: true, ..waiting() };
        assert_eq!(said(&gave, 9 * DAY, answered), (read.to_vec(), 0));
    }

    #[test]
    fn an_entry_takes_it_back_and_a_failure_begins_the_wait_anew() {
        let empty = Unattributed { silences: vec![Silence::Empty], ..Unattributed::default() };
        let (silences, told) = said(&empty, DAY, |said| said.of_an_answer(true));
        assert!(silences.contains(&(Silence::Empty, false)) && told == 1);
        let (silences, told) = said(&waiting(), DAY, |said| said.of_a_failure("503"));
        assert_eq!(
            (silences, told),
            (vec![(Silence::Failing, true), (Silence::Waiting, false)], 1)
        );
        for known in [
            Unattributed { silences: vec![Silence::Failing], ..Unattributed::default() },
            Unattributed { silences: vec![Silence::Refused], ..Unattributed::default() },
        ] {
            assert_eq!(said(&known, DAY, |said| said.of_a_failure("503")).1, 0);
            assert_eq!(said(&known, DAY, |said| said.of_an_answer(true)).1, 1);
        }
    }
}
