//! Runs that are in hand, or owed to the history: noted beside the lock, and settled later.

use std::collections::BTreeMap;

use super::Writer;
use super::error::Error;
use super::lock::{MOST_NOTICES, Owed, RunNote};
use super::record::{CutShort, Outcome, Promptness, RunDraft, Withholding};
use crate::clock::Timestamp;
use crate::run::Status;

impl Writer {
    /// Until when runs that are owed to the history account for their organizations.
    #[must_use]
    pub fn owed_until(&self) -> BTreeMap<String, Timestamp> {
        self.lock.owed_until()
    }

    /// Notes that a run begins, so that it is known of if this process is killed.
    pub fn begin_run(&mut self, note: &RunNote) -> Result<(), Error> {
        self.lock.begin(note.clone())
    }

    /// Leaves a note of a run whose row could not be written, for the next writer to record.
    pub fn owe_run(&mut self, draft: &RunDraft, status: Status, error: &str) -> Result<(), Error> {
        const LONGEST_CHARS: usize = 200;
        let short = |text: &str| text.chars().take(LONGEST_CHARS).collect::<String>();
        self.lock.owe(RunNote {
            organization: draft.organization.clone(),
            trigger: draft.trigger,
            started_at: draft.started_at.unix(),
            token: draft.token,
            owed: Some(Owed {
                status,
                finished_at: draft.finished_at.unix(),
                tally: draft.tally,
                error: short(error),
                deferred_until: draft.deferred_until.map(Timestamp::unix),
                further: 0,
            }),
            notices: draft.notices.iter().take(MOST_NOTICES).map(|notice| short(notice)).collect(),
            skipped: draft.tally.skipped,
        })
    }

    /// Records the oldest run that was left without an end, by an earlier process or by this one, if
    /// there is one: with the end it owed, or as interrupted. To be called until there is none.
    pub async fn settle_run(&mut self, now: Timestamp) -> Result<Option<RunNote>, Error> {
        while let Some(note) = self.lock.leftover() {
            let known: i64 = sqlx::query_scalar("select count(*) from runs where token = ?1")
                .bind(note.token)
                .fetch_one(&mut self.connection)
                .await
                .map_err(|source| self.failed(source))?;
            if known > 0 {
                // It was killed after its transaction, before the note was cleared.
                self.lock.end(note.token)?;
                continue;
            }
            let started_at = Timestamp::from_unix(note.started_at).unwrap_or(now);
            let mut owed = note.end();
            if note.owed.is_none() {
                owed.error = format!("{} (found at {now})", owed.error);
            }
            self.settle(&note, started_at, &owed, now).await?;
            return Ok(Some(note));
        }
        Ok(None)
    }

    async fn settle(
        &mut self,
        note: &RunNote,
        started_at: Timestamp,
        owed: &Owed,
        now: Timestamp,
    ) -> Result<(), Error> {
        let mut notices = note.notices.clone();
        if owed.further > 0 {
            let runs = if owed.further == 1 { "run" } else { "runs" };
            notices.push(format!(
                "stands for {} further {runs} that could not be recorded either",
                owed.further
            ));
        }
        let draft = RunDraft {
            organization: note.organization.clone(),
            trigger: note.trigger,
            started_at,
            finished_at: Timestamp::from_unix(owed.finished_at).unwrap_or(now),
            token: note.token,
            tally: owed.tally,
            notices,
            deferred_until: owed.deferred_until.and_then(Timestamp::from_unix),
            // What owes its end was not killed.
            cut_short: note.owed.is_none().then_some(CutShort::Killed),
        };
        let withheld = Withholding::default();
        let outcome = match owed.status {
            Status::Held => Outcome::Held { error: &owed.error, withheld: &withheld },
            Status::Ok | Status::Failed => Outcome::Failed { error: &owed.error, withheld: None },
        };
        self.record_and_clear(&draft, &outcome, Promptness::Later).await.map(drop)
    }
}
