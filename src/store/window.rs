//! Which run a state of the past comes from, and when the next one looked.

use super::Reader;
use super::error::Error;
use super::rows::row;
use crate::clock::Timestamp;

/// The observation behind the state as of a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    pub organization: String,
    pub run_id: i64,
    /// The run looked between these two.
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
    /// When the next `ok` run began.
    pub next_started_at: Option<Timestamp>,
}

row! {
    struct Row {
        organization: String,
        run_id: i64,
        started_at: i64,
        finished_at: i64,
        next_started_at: Option<i64>,
    }
}

impl Reader {
    /// Of each organization of which something was known as of a time, the run that it was known from.
    pub async fn load_windows(
        &mut self,
        organization: Option<&str>,
        as_of: Timestamp,
    ) -> Result<Vec<Window>, Error> {
        let rows: Vec<Row> = sqlx::query_as(
            "select o.name as organization, r.run_id, r.started_at, r.finished_at,
                    (select n.started_at from runs n
                     where n.organization = r.organization and n.status = 'ok' and n.run_id > r.run_id
                     order by n.run_id limit 1) as next_started_at
             from organizations o join runs r on r.run_id = (
                 select max(b.run_id) from runs b
                 where b.organization = o.organization and b.status = 'ok' and b.finished_at <= ?1)
             where ?2 is null or o.name = ?2
             order by o.name",
        )
        .bind(as_of.unix())
        .bind(organization)
        .fetch_all(&mut self.connection)
        .await
        .map_err(|source| self.failed(source))?;
        let time = |row: &Row, seconds| {
            let row = row.run_id.to_string();
            Timestamp::from_unix(seconds).ok_or(Error::Inconsistent {
                table: "runs",
                column: "started_at",
                row,
            })
        };
        let read = |row: Row| {
            Ok(Window {
                started_at: time(&row, row.started_at)?,
                finished_at: time(&row, row.finished_at)?,
                next_started_at: row.next_started_at.map(|at| time(&row, at)).transpose()?,
                run_id: row.run_id,
                organization: row.organization,
            })
        };
        rows.into_iter().map(read).collect()
    }
}
