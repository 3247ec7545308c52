//! Writing down a run: all of it in one transaction, or nothing.

use sqlx::{Connection, SqliteConnection};

use super::Writer;
use super::adopt::chain_on;
use super::attributions::Attributed;
use super::chain::{Head, Witness, write_parts};
use super::changes::{count_events, count_versions, write_changes};
use super::court::Court;
use super::error::Error;
use super::findings::FindingCounts;
use super::open;
use super::projects::{Source, write_fields, write_projects};
use super::rename::find_by_any_name;
use super::snapshot::{ids_json, last_ok_run};
use crate::audit::{Digest, PartDigest, RunHeader};
use crate::clock::Timestamp;
use crate::findings::Rules;
use crate::inventory::{Changes, KeyId, Snapshot};
use crate::run::{EventCounts, Status, Tally, Trigger};

/// What there is to record of a run, however it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunDraft {
    pub organization: String,
    pub trigger: Trigger,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
    /// A random number that names the run.
    pub token: i64,
    pub tally: Tally,
    /// What is worth knowing and no drift.
    pub notices: Vec<String>,
    /// Until when the API asked to be left alone.
    pub deferred_until: Option<Timestamp>,
    pub cut_short: Option<CutShort>,
}

/// Who ended a run before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CutShort {
    /// Somebody who stopped the process.
    Stopped,
    /// Whatever killed it.
    Killed,
}

impl CutShort {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Killed => "killed",
        }
    }
}

/// How a run ended.
#[derive(Debug)]
pub enum Outcome<'a> {
    Ok {
        changes: &'a Changes,
        header: Option<&'a str>,
        attributed: &'a Attributed,
        /// Judges the keys as they are after the run. `None`: findings stay as they were.
        judge: Option<Judge<'a>>,
    },
    Failed {
        error: &'a str,
        withheld: Option<&'a Withholding>,
    },
    Held {
        error: &'a str,
        withheld: &'a Withholding,
    },
}

/// By what keys are judged at the end of a run.
#[derive(Debug, Clone, Copy)]
pub struct Judge<'a> {
    pub rules: &'a Rules,
    /// The keys as they were: all of them in outline, and those that are different now.
    pub before: &'a Snapshot,
}

impl<'a> Outcome<'a> {
    fn withheld(&self) -> Option<&'a Withholding> {
        match self {
            Self::Ok { .. } => None,
            Self::Failed { withheld, .. } => *withheld,
            Self::Held { withheld, .. } => Some(withheld),
        }
    }
}

/// What a held or refused run leaves to be accepted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Withholding {
    pub missing: Vec<KeyId>,
    /// The `openai-organization` header (or none) of answers that seemed to be another organization's.
    pub stranger: Option<Option<String>>,
}

/// A run as it stands in the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    pub run_id: i64,
    pub finished_at: Timestamp,
    pub counts: EventCounts,
    pub findings: FindingCounts,
    /// Keys in the inventory after the run.
    pub keys_after: u64,
    pub notice: Option<String>,
    pub digest: Digest,
}

/// Whether a run is recorded when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Promptness {
    AtOnce,
    /// By a later holder of the lock.
    Later,
}

/// Where the numbering of this run's rows begins.
pub(super) struct Numbers {
    pub(super) organization: i64,
    pub(super) run_id: i64,
    pub(super) event_id: i64,
    pub(super) notice_id: i64,
    pub(super) key: i64,
    pub(super) version: i64,
    pub(super) owner: i64,
    pub(super) keys_present: i64,
    pub(super) last_finished_at: i64,
    pub(super) previous: Option<(i64, i64)>,
}

/// What the rows of a run refer to.
#[derive(Debug, Clone, Copy)]
pub(super) struct RunIds {
    pub(super) organization: i64,
    pub(super) run_id: i64,
}

impl Numbers {
    pub(super) const fn ids(&self) -> RunIds {
        RunIds { organization: self.organization, run_id: self.run_id }
    }
}

impl Writer {
    /// Records a run in one transaction. On an error nothing is written, and the run stays owed.
    pub async fn record_run(
        &mut self,
        draft: &RunDraft,
        outcome: &Outcome<'_>,
    ) -> Result<Recorded, Error> {
        self.record_and_clear(draft, outcome, Promptness::AtOnce).await
    }

    pub(super) async fn record_and_clear(
        &mut self,
        draft: &RunDraft,
        outcome: &Outcome<'_>,
        promptness: Promptness,
    ) -> Result<Recorded, Error> {
        match self.record(draft, outcome, promptness).await {
            Ok(recorded) => {
                // The run stands, whatever becomes of the note: its token tells the next writer so.
                if let Err(error) = self.lock.end(draft.token) {
                    tracing::warn!(%error, "the note of the run could not be cleared");
                }
                Ok(recorded)
            }
            Err(source) => {
                let error = self.failed(source);
                self.reconnect().await;
                Err(error)
            }
        }
    }

    /// Begins anew with a connection that is in no transaction. Where the disk is full, `SQLite` may have
    /// ended the transaction by itself, and then sqlx never gets out of it.
    pub(super) async fn reconnect(&mut self) {
        match open::connect_for_runs(&self.path).await {
            Ok(fresh) => drop(std::mem::replace(&mut self.connection, fresh).close().await),
            Err(error) => tracing::warn!(%error, "the database could not be opened again"),
        }
    }

    async fn record(
        &mut self,
        draft: &RunDraft,
        outcome: &Outcome<'_>,
        promptness: Promptness,
    ) -> Result<Recorded, sqlx::Error> {
        // Immediate: a deferred transaction that turns into a writing one fails at once when somebody
        // else writes, whatever the busy timeout says.
        let mut transaction = self.connection.begin_with("begin immediate").await?;
        let mut numbers = number(&mut transaction, &draft.organization).await?;
        let finished_at = finish(&numbers, draft);
        let head = chain_on(&mut transaction, numbers.organization, finished_at).await?;
        let counts = match outcome {
            Outcome::Ok { changes, .. } => count_events(changes)?,
            Outcome::Failed { .. } | Outcome::Held { .. } => EventCounts::default(),
        };
        let run = Run::new(&numbers, draft, outcome, counts, finished_at, promptness);
        // What has no parts is a link as it stands.
        let is_whole = match outcome {
            Outcome::Ok { changes, attributed, .. } => {
                run.events() == 0
                    && changes.notices.is_empty()
                    && attributed.attributions.is_empty()
            }
            Outcome::Failed { .. } | Outcome::Held { .. } => true,
        };
        let digest = is_whole.then(|| run.digest(&head, &[]));
        run.insert(&mut transaction, digest).await?;
        let mut findings = FindingCounts::default();
        let parts = if let Outcome::Ok { changes, header, attributed, judge } = outcome {
            let previous = numbers.previous.and_then(|(_, at)| Timestamp::from_unix(at));
            let witness = Witness::new(numbers.run_id, finished_at, previous);
            let connection = &mut transaction;
            let mut court = match judge {
                None => None,
                Some(judge) => {
                    let name = draft.organization.as_str();
                    Some(
                        Court::convene(connection, &numbers, judge, name, changes, finished_at)
                            .await?,
                    )
                }
            };
            let parts =
                write_changes(connection, &mut numbers, changes, attributed, witness, &mut court)
                    .await?;
            write_organization(connection, &numbers, changes, *header).await?;
            if let Some(court) = court {
                findings = court.conclude(connection, &numbers).await?;
            }
            if numbers.event_id - 1 != run.last_event_id || numbers.version - 1 != run.last_version
            {
                return Err(sqlx::Error::RowNotFound);
            }
            parts
        } else {
            write_withheld(&mut transaction, numbers.run_id, outcome.withheld()).await?;
            Vec::new()
        };
        let digest = match digest {
            Some(digest) if parts.is_empty() => digest,
            _ => run.seal(&mut transaction, &head, &parts).await?,
        };
        let recorded = run.recorded(digest, findings);
        // With `synchronous = full` the run is on the disk when this returns.
        transaction.commit().await?;
        Ok(recorded)
    }
}

/// When the run ended: no run ends before one that is recorded already.
fn finish(numbers: &Numbers, draft: &RunDraft) -> Timestamp {
    let latest = numbers.last_finished_at.max(draft.started_at.unix());
    let latest = Timestamp::from_unix(latest).unwrap_or(draft.finished_at);
    latest.max(draft.finished_at)
}

async fn number(
    connection: &mut SqliteConnection,
    organization: &str,
) -> Result<Numbers, sqlx::Error> {
    // A run from before it was renamed, which is recorded only now, has its name of then.
    let known = find_by_any_name(connection, organization).await?;
    let organization = if let Some((organization, _)) = known {
        organization
    } else {
        let insert =
            "insert into organizations (name, origin) values (?1, ?1) returning organization";
        sqlx::query_scalar(insert).bind(organization).fetch_one(&mut *connection).await?
    };
    let row: (i64, i64, i64, i64, i64, i64, i64, Option<i64>) = sqlx::query_as(
        // The newest ones may be pruned: no number comes twice.
        "select (select ifnull(max(run_id), 0) from runs) + 1,
                max((select ifnull(max(event_id), 0) from audit),
                    ifnull((select last_event_id from runs order by run_id desc limit 1), 0)) + 1,
                max((select ifnull(max(notice_id), 0) from notices),
                    ifnull((select detail ->> 'last_notice_id' from acts where kind = 'pruned'
                            order by act_id desc limit 1), 0)) + 1,
                (select ifnull(max(key), 0) from keys) + 1,
                (select ifnull(max(version), 0) from key_versions) + 1,
                (select ifnull(max(owner), 0) from owners) + 1,
                ifnull((select keys_after from runs where organization = ?1
                        order by run_id desc limit 1), 0),
                (select finished_at from runs order by run_id desc limit 1)",
    )
    .bind(organization)
    .fetch_one(&mut *connection)
    .await?;
    let previous = last_ok_run(connection, organization).await?;
    let (run_id, event_id, notice_id, key, version, owner, keys_present, last_finished_at) = row;
    let last_finished_at = last_finished_at.unwrap_or(i64::MIN);
    Ok(Numbers {
        organization,
        run_id,
        event_id,
        notice_id,
        key,
        version,
        owner,
        keys_present,
        last_finished_at,
        previous,
    })
}

/// A run as a row, and as a link of the chain.
struct Run<'a> {
    id: i64,
    organization: i64,
    previous_started_at: Option<i64>,
    draft: &'a RunDraft,
    status: Status,
    error: Option<&'a str>,
    /// As the view shows it.
    missing: Option<String>,
    finished_at: Timestamp,
    notice: Option<String>,
    counts: EventCounts,
    keys_after: u64,
    last_event_id: i64,
    last_version: i64,
}

impl<'a> Run<'a> {
    fn new(
        numbers: &Numbers,
        draft: &'a RunDraft,
        outcome: &Outcome<'a>,
        counts: EventCounts,
        finished_at: Timestamp,
        promptness: Promptness,
    ) -> Self {
        let (status, error) = match outcome {
            Outcome::Ok { .. } => (Status::Ok, None),
            Outcome::Failed { error, .. } => (Status::Failed, Some(*error)),
            Outcome::Held { error, .. } => (Status::Held, Some(*error)),
        };
        let versions = match outcome {
            Outcome::Ok { changes, .. } => count_versions(changes),
            Outcome::Failed { .. } | Outcome::Held { .. } => 0,
        };
        let keys_after = u64::try_from(numbers.keys_present).unwrap_or(0)
            + (counts.baseline + counts.added + counts.restored);
        let mut run = Self {
            id: numbers.run_id,
            organization: numbers.organization,
            previous_started_at: numbers.previous.map(|(_, started_at)| started_at),
            draft,
            status,
            error,
            missing: outcome.withheld().map(|withheld| ids_json(&withheld.missing)),
            finished_at,
            notice: notice_of_run(draft, finished_at, promptness),
            counts,
            keys_after: keys_after.saturating_sub(counts.removed),
            last_event_id: numbers.event_id - 1,
            last_version: numbers.version - 1 + versions,
        };
        run.last_event_id += integer(run.events());
        run
    }

    fn digest(&self, head: &Head, parts: &[PartDigest]) -> Digest {
        let (draft, tally, counts) = (self.draft, self.draft.tally, self.counts);
        let deferred_until = draft.deferred_until.map(|time| time.to_string());
        let header = RunHeader {
            origin: &head.origin,
            run_id: self.id,
            trigger: draft.trigger.as_str(),
            started_at: &draft.started_at.to_string(),
            finished_at: &self.finished_at.to_string(),
            status: self.status.as_str(),
            counts: [
                tally.keys_seen,
                counts.baseline,
                counts.added,
                counts.restored,
                counts.removed,
                counts.used,
                counts.changed,
                tally.unconfirmed,
                tally.skipped,
                tally.pages,
                tally.requests,
                tally.retries,
            ]
            .map(integer),
            notice: self.notice.as_deref(),
            error: self.error,
            missing: self.missing.as_deref(),
            deferred_until: deferred_until.as_deref(),
        };
        header.digest(head.previous, parts)
    }

    /// How many events tell of it.
    const fn events(&self) -> u64 {
        let EventCounts { baseline, added, restored, removed, used, changed } = self.counts;
        baseline + added + restored + removed + used + changed
    }

    /// Writes the row, with its digest or without.
    async fn insert(
        &self,
        connection: &mut SqliteConnection,
        digest: Option<Digest>,
    ) -> Result<(), sqlx::Error> {
        let Self { draft, counts, finished_at, .. } = *self;
        let tally = draft.tally;
        sqlx::query(
            "insert into runs (run_id, organization, token, trigger, started_at, finished_at, status,
                 previous_started_at, keys_seen, keys_after, baseline, added, restored, removed, used,
                 changed, unconfirmed, skipped, pages, requests, retries, last_event_id, notice, error,
                 deferred_until, cut_short, last_version, digest)
             values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18,
                 ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28)",
        )
        .bind(self.id)
        .bind(self.organization)
        .bind(draft.token)
        .bind(draft.trigger.as_str())
        .bind(draft.started_at.unix())
        .bind(finished_at.unix())
        .bind(self.status.as_str())
        .bind(self.previous_started_at)
        .bind(integer(tally.keys_seen))
        .bind(integer(self.keys_after))
        .bind(integer(counts.baseline))
        .bind(integer(counts.added))
        .bind(integer(counts.restored))
        .bind(integer(counts.removed))
        .bind(integer(counts.used))
        .bind(integer(counts.changed))
        .bind(integer(tally.unconfirmed))
        .bind(integer(tally.skipped))
        .bind(integer(tally.pages))
        .bind(integer(tally.requests))
        .bind(integer(tally.retries))
        .bind(self.last_event_id)
        .bind(&self.notice)
        .bind(self.error)
        .bind(draft.deferred_until.map(Timestamp::unix))
        .bind(draft.cut_short.map(CutShort::as_str))
        .bind(self.last_version)
        .bind(digest.map(|digest| digest.0.to_vec()))
        .execute(connection)
        .await?;
        Ok(())
    }

    /// Makes the row a link of the chain.
    async fn seal(
        &self,
        connection: &mut SqliteConnection,
        head: &Head,
        parts: &[PartDigest],
    ) -> Result<Digest, sqlx::Error> {
        write_parts(connection, self.id, parts).await?;
        let digest = self.digest(head, parts);
        let sealed = sqlx::query("update runs set digest = ?2 where run_id = ?1")
            .bind(self.id)
            .bind(&digest.0[..])
            .execute(connection)
            .await?;
        if sealed.rows_affected() != 1 {
            return Err(sqlx::Error::RowNotFound);
        }
        Ok(digest)
    }

    fn recorded(self, digest: Digest, findings: FindingCounts) -> Recorded {
        Recorded {
            run_id: self.id,
            finished_at: self.finished_at,
            counts: self.counts,
            findings,
            keys_after: self.keys_after,
            notice: self.notice,
            digest,
        }
    }
}

fn notice_of_run(
    draft: &RunDraft,
    finished_at: Timestamp,
    promptness: Promptness,
) -> Option<String> {
    let mut notices = draft.notices.clone();
    if finished_at > draft.finished_at {
        notices.push(match promptness {
            Promptness::Later => format!("recorded later; it ended at {}", draft.finished_at),
            Promptness::AtOnce => {
                let seconds = finished_at.unix() - draft.finished_at.unix();
                format!("the clock went back by {seconds} s; the latest time before is kept")
            }
        });
    }
    (!notices.is_empty()).then(|| notices.join("; "))
}

/// `SQLite`'s integers are signed. No count comes near the limit.
fn integer(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

async fn write_withheld(
    connection: &mut SqliteConnection,
    run_id: i64,
    withheld: Option<&Withholding>,
) -> Result<(), sqlx::Error> {
    let Some(withheld) = withheld else {
        return Ok(());
    };
    sqlx::query("insert into withheld (run_id, missing, stranger, header) values (?1, ?2, ?3, ?4)")
        .bind(run_id)
        .bind(ids_json(&withheld.missing))
        .bind(withheld.stranger.is_some())
        .bind(withheld.stranger.as_ref().and_then(Option::as_ref))
        .execute(connection)
        .await?;
    Ok(())
}

/// What is remembered of the organization as a whole. Writes nothing if it is as it was.
async fn write_organization(
    connection: &mut SqliteConnection,
    numbers: &Numbers,
    changes: &Changes,
    header: Option<&str>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update organizations set header = ifnull(?2, header), own_key = j.key
         from (select (select key from keys where organization = ?1 and key_id = ?3) as key) j
         where organization = ?1 and (header is not ifnull(?2, header) or own_key is not j.key)",
    )
    .bind(numbers.organization)
    .bind(header)
    .bind(changes.own_key.as_ref().map(KeyId::as_str))
    .execute(&mut *connection)
    .await?;
    write_fields(connection, Source::Admin, numbers.organization, &changes.fields).await?;
    write_fields(connection, Source::Projects, numbers.organization, &changes.project_fields)
        .await?;
    write_projects(connection, numbers.organization, &changes.projects).await
}
