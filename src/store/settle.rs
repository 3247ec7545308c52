//! Runs that are in hand, or owed to the history: noted beside the lock, and settled later.

use super::Writer;
use super::error::Error;
use super::lock::{Owed, RunNote};
use super::record::{CutShort, Outcome, Promptness, RunDraft, Withholding};
use crate::clock::Timestamp;
use crate::run::{Status, Tally};

impl Writer {
    /// Notes that a run begins, so that it is known of if this process is killed.
    pub fn begin_run(&mut self, note: &RunNote) -> Result<(), Error> {
        self.lock.begin(note.clone())
    }

    /// Leaves a note of a run whose row could not be written, for the next writer to record.
    pub fn owe_run(&mut self, draft: &RunDraft, status: Status, error: &str) -> Result<(), Error> {
        const LONGEST_CHARS: usize = 200;
        self.lock.owe(RunNote {
            organization: draft.organization.clone(),
            trigger: draft.trigger,
            started_at: draft.started_at.unix(),
            token: draft.token,
            owed: Some(Owed {
                status,
                finished_at: draft.finished_at.unix(),
                tally: draft.tally,
                error: error.chars().take(LONGEST_CHARS).collect(),
            }),
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
            let owed = note.owed.clone().unwrap_or_else(|| Owed {
                status: Status::Failed,
                finished_at: started_at.unix(),
                tally: Tally::default(),
                error: format!(
                    "interrupted: the process ended before the run did (found at {now})"
                ),
            });
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
        let draft = RunDraft {
            organization: note.organization.clone(),
            trigger: note.trigger,
            started_at,
            finished_at: Timestamp::from_unix(owed.finished_at).unwrap_or(now),
            token: note.token,
            tally: owed.tally,
            notices: Vec::new(),
            deferred_until: None,
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
