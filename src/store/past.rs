//! What a daemon has to know of the runs before its time.

use super::Reader;
use super::error::Error;
use super::rows::row;
use crate::clock::Timestamp;

/// The end of an organization's run history, as far as it says when to run next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Past {
    /// When the last run began and ended, however it ended.
    pub last: Option<(Timestamp, Timestamp)>,
    /// The same of the last run that accounts for the slots before it: one that somebody starts by hand does
    /// not, unless there was no other.
    pub handled: Option<(Timestamp, Timestamp)>,
    /// Whether the last run was stopped or killed.
    pub cut_short: bool,
    /// Failed runs in a row at the end.
    pub failures: u32,
    /// Killed runs in a row at the end.
    pub killed: u32,
    /// Until when the API asked to be left alone, by the last run.
    pub deferred_until: Option<Timestamp>,
}

/// How the last run of an organization ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastRun {
    pub finished_at: Timestamp,
    /// As in the view.
    pub status: String,
    pub error: Option<String>,
}

row! {
    struct Row {
        started_at: i64,
        finished_at: i64,
        status: String,
        cut_short: Option<String>,
        deferred_until: Option<i64>,
    }
}

impl Reader {
    /// A random name of this database.
    pub async fn installation(&mut self) -> Result<String, Error> {
        sqlx::query_scalar("select id from installation")
            .fetch_one(&mut self.connection)
            .await
            .map_err(|source| self.failed(source))
    }

    /// The end of an organization's run history, also of one that is not known yet.
    pub async fn load_past(&mut self, organization: &str) -> Result<Past, Error> {
        // No delay grows on from there.
        const ENOUGH: u32 = 32;
        let rows: Vec<Row> = sqlx::query_as(
            "select started_at, finished_at, status, cut_short, deferred_until
             from runs
             where organization = (select organization from organizations where name = ?1)
             order by run_id desc limit ?2",
        )
        .bind(organization)
        .bind(ENOUGH)
        .fetch_all(&mut self.connection)
        .await
        .map_err(|source| self.failed(source))?;
        let in_a_row = |holds: fn(&Row) -> bool| {
            u32::try_from(rows.iter().take_while(|row| holds(row)).count()).unwrap_or(ENOUGH)
        };
        let Some(last) = rows.first() else {
            return Ok(Past::default());
        };
        let from_unix = |seconds| Timestamp::from_unix(seconds);
        let handled: Option<(i64, i64)> = sqlx::query_as(
            "select started_at, finished_at from runs
             where organization = (select organization from organizations where name = ?1)
               and (trigger <> 'manual' or skipped > 0)
             order by run_id desc limit 1",
        )
        .bind(organization)
        .fetch_optional(&mut self.connection)
        .await
        .map_err(|source| self.failed(source))?;
        let (handled_from, handled_to) = handled.unwrap_or((last.started_at, last.finished_at));
        Ok(Past {
            last: from_unix(last.started_at).zip(from_unix(last.finished_at)),
            handled: from_unix(handled_from).zip(from_unix(handled_to)),
            cut_short: last.cut_short.is_some(),
            failures: in_a_row(|row| row.status == "failed"),
            killed: in_a_row(|row| row.cut_short.as_deref() == Some("killed")),
            deferred_until: last.deferred_until.and_then(from_unix),
        })
    }

    /// How the last run of an organization ended, if there was one.
    pub async fn load_last_run(&mut self, organization: &str) -> Result<Option<LastRun>, Error> {
        let row: Option<(i64, String, Option<String>)> = sqlx::query_as(
            "select finished_at, status, error
             from runs
             where organization = (select organization from organizations where name = ?1)
             order by run_id desc limit 1",
        )
        .bind(organization)
        .fetch_optional(&mut self.connection)
        .await
        .map_err(|source| self.failed(source))?;
        Ok(row.and_then(|(finished_at, status, error)| {
            Some(LastRun { finished_at: Timestamp::from_unix(finished_at)?, status, error })
        }))
    }
}
