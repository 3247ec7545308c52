//! Findings: what is open, what a run opens and closes, and how they are listed.

use std::collections::HashMap;

use futures_util::TryStreamExt;
use sqlx::SqliteConnection;

use super::Reader;
use super::error::Error;
use super::record::RunIds;
use super::rows::row;
use super::write::{CHUNK, Insertion, insert_all, insertions, json};
use crate::clock::Timestamp;
use crate::findings::{Difference, Finding, Happening, OpenFinding, Past, Rule, Severity};
use crate::inventory::KeyId;

/// How many findings a run opened and closed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FindingCounts {
    pub opened: u64,
    pub closed: u64,
}

row! {
    /// A row of the view `finding_history`.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct FindingRow {
        pub finding_id: i64,
        pub organization: String,
        pub key_id: Option<String>,
        pub rule: String,
        pub severity: String,
        pub since: String,
        pub detail: String,
        pub opened_run_id: i64,
        pub opened_at: String,
        pub closed_run_id: Option<i64>,
        pub closed_at: Option<String>,
        pub key_name: Option<String>,
        pub scope: Option<String>,
    }
}

/// Which findings to list. Nothing set: all that are open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FindingFilter {
    pub organization: Option<String>,
    pub key_id: Option<String>,
    pub rules: Vec<Rule>,
    /// This one or a worse one.
    pub severity: Option<Severity>,
    /// Closed ones too.
    pub history: bool,
    /// But for those of these organizations.
    pub without: Vec<String>,
}

row! {
    struct OpenRow {
        finding_id: i64,
        key_id: Option<String>,
        rule: String,
        severity: String,
        since: i64,
        detail: String,
        memory: Option<i64>,
        opened_at: i64,
    }
}

impl OpenRow {
    fn into_open(self) -> Result<OpenFinding, sqlx::Error> {
        let row = self.finding_id;
        let inconsistent = |column| {
            Error::into_sqlx(Error::Inconsistent {
                table: "finding_log",
                column,
                row: row.to_string(),
            })
        };
        let time = |seconds, column| Timestamp::from_unix(seconds).ok_or(inconsistent(column));
        Ok(OpenFinding {
            finding_id: row,
            finding: Finding {
                key_id: self.key_id.as_deref().and_then(KeyId::new),
                rule: Rule::parse(&self.rule).ok_or(inconsistent("rule"))?,
                severity: Severity::parse(&self.severity).ok_or(inconsistent("severity"))?,
                since: time(self.since, "since")?,
                detail: self.detail,
                memory: self.memory.map(|at| time(at, "memory")).transpose()?,
            },
            opened_at: time(self.opened_at, "opened_run")?,
        })
    }
}

/// What is open and remembered of these keys (`+`, as else the index of an expression is not used), and when they were first seen if their creation is not known.
pub(super) async fn load_past(
    connection: &mut SqliteConnection,
    organization: i64,
    ids: &str,
) -> Result<Past, sqlx::Error> {
    let open: Vec<OpenRow> = sqlx::query_as(
        "select f.finding_id, k.key_id, f.rule, f.severity, f.since, f.detail, f.memory,
                r.finished_at as opened_at
         from json_each(?2) j
         cross join keys k on k.organization = ?1 and k.key_id = j.value
         cross join finding_log f on f.organization = ?1 and ifnull(f.key, 0) = +k.key
             and f.closed_run is null
         join runs r on r.run_id = f.opened_run",
    )
    .bind(organization)
    .bind(ids)
    .fetch_all(&mut *connection)
    .await?;
    let happened: Vec<OpenRow> = sqlx::query_as(
        "select h.key as finding_id, k.key_id, h.rule, 'high' as severity, h.since, h.detail, h.memory,
                r.finished_at as opened_at
         from json_each(?2) j
         cross join keys k on k.organization = ?1 and k.key_id = j.value
         cross join happenings h on h.organization = ?1 and h.key = k.key
         join runs r on r.run_id = h.noticed_run",
    )
    .bind(organization)
    .bind(ids)
    .fetch_all(&mut *connection)
    .await?;
    let first_seen: Vec<(String, i64)> = sqlx::query_as(
        "select distinct k.key_id, r.finished_at from json_each(?2) j
         cross join keys k on k.organization = ?1 and k.key_id = j.value
         cross join key_versions v on v.version = k.version and v.created_at is null
         cross join runs r on r.run_id = k.first_seen_run",
    )
    .bind(organization)
    .bind(ids)
    .fetch_all(&mut *connection)
    .await?;
    let read = |(id, at): &(String, i64)| Some((KeyId::new(id)?, Timestamp::from_unix(*at)?));
    Ok(Past {
        open: open.into_iter().map(OpenRow::into_open).collect::<Result<_, _>>()?,
        happened: read_happened(happened)?,
        first_seen: first_seen.iter().filter_map(read).collect(),
    })
}

/// What is open of the organization as a whole.
pub(super) async fn load_open_of_organization(
    connection: &mut SqliteConnection,
    organization: i64,
) -> Result<Vec<OpenFinding>, sqlx::Error> {
    let open: Vec<OpenRow> = sqlx::query_as(
        "select f.finding_id, null as key_id, f.rule, f.severity, f.since, f.detail, f.memory,
                r.finished_at as opened_at
         from finding_log f
         join runs r on r.run_id = f.opened_run
         where f.organization = ?1 and ifnull(f.key, 0) = 0 and f.closed_run is null",
    )
    .bind(organization)
    .fetch_all(connection)
    .await?;
    open.into_iter().map(OpenRow::into_open).collect()
}

fn read_happened(rows: Vec<OpenRow>) -> Result<HashMap<(KeyId, Rule), Happening>, sqlx::Error> {
    let mut happened = HashMap::new();
    for row in rows {
        let OpenFinding { mut finding, opened_at, .. } = row.into_open()?;
        finding.severity = finding.rule.severity();
        let Some(key_id) = finding.key_id.clone() else { continue };
        let of = (key_id, finding.rule);
        happened.insert(of, Happening { finding, noticed_at: opened_at });
    }
    Ok(happened)
}

/// What a run writes down of findings: by which number the next one goes, and how many there are by now.
pub(super) struct FindingBook {
    next: i64,
    pub(super) counts: FindingCounts,
}

impl FindingBook {
    pub(super) async fn open(connection: &mut SqliteConnection) -> Result<Self, sqlx::Error> {
        let last: i64 = sqlx::query_scalar("select ifnull(max(finding_id), 0) from finding_log")
            .fetch_one(connection)
            .await?;
        Ok(Self { next: last + 1, counts: FindingCounts::default() })
    }

    /// Takes in findings that are opened, each with the row of its key, and gives back what writes them down.
    pub(super) fn take(
        &mut self,
        ids: RunIds,
        opened: &[(Option<i64>, &Finding)],
    ) -> Vec<Insertion> {
        let rows: Vec<(i64, &(Option<i64>, &Finding))> = (self.next..).zip(opened).collect();
        self.counts.opened += rows.len() as u64;
        self.next = rows.last().map_or(self.next, |(id, _)| id + 1);
        let into = "insert into finding_log (finding_id, organization, key, rule, severity, since, detail, memory,
                 opened_run) ";
        insertions(into, &rows, |row, (finding_id, (key, finding))| {
            let Finding { rule, severity, since, detail, memory, .. } = finding;
            row.push_bind(*finding_id).push_bind(ids.organization).push_bind(*key);
            row.push_bind(rule.as_str()).push_bind(severity.as_str()).push_bind(since.unix());
            row.push_bind(detail.clone()).push_bind(memory.map(Timestamp::unix));
            row.push_bind(ids.run_id);
        })
    }

    /// The same with findings whose keys are found by their ids.
    pub(super) fn take_by_id(
        &mut self,
        ids: RunIds,
        opened: &[Finding],
        key_of: impl Fn(&KeyId) -> Option<i64>,
    ) -> Result<Vec<Insertion>, sqlx::Error> {
        let mut rows = Vec::with_capacity(opened.len());
        for finding in opened {
            // A key that is not there is an error, and not the organization.
            let key = match &finding.key_id {
                None => None,
                Some(key_id) => Some(key_of(key_id).ok_or(sqlx::Error::RowNotFound)?),
            };
            rows.push((key, finding));
        }
        Ok(self.take(ids, &rows))
    }
}

/// Remembers what happened once, and forgets what is over. The rows of the run and of its keys must be there.
pub(super) async fn write_happenings(
    connection: &mut SqliteConnection,
    ids: RunIds,
    difference: &Difference,
) -> Result<(), sqlx::Error> {
    let over = difference.over.iter().map(|(key_id, rule)| (key_id.as_str(), rule.as_str()));
    let over: Vec<_> = over.collect();
    for chunk in over.chunks(CHUNK) {
        sqlx::query(
            "delete from happenings where organization = ?2 and (key, rule) in (
                 select k.key, value ->> 1 from json_each(?1)
                 cross join keys k on k.organization = ?2 and k.key_id = value ->> 0)",
        )
        .bind(json(&chunk))
        .bind(ids.organization)
        .execute(&mut *connection)
        .await?;
    }
    for chunk in difference.happened.chunks(CHUNK) {
        let rows = chunk.iter().map(|finding| {
            let Finding { key_id, rule, since, detail, memory, .. } = finding;
            let memory = memory.map(Timestamp::unix);
            (key_id.as_ref().map(KeyId::as_str), rule.as_str(), since.unix(), detail, memory)
        });
        sqlx::query(
            "insert or replace into happenings (organization, key, rule, since, detail, memory, noticed_run)
             select ?2, k.key, value ->> 1, value ->> 2, value ->> 3, value ->> 4, ?3
             from json_each(?1)
             cross join keys k on k.organization = ?2 and k.key_id = value ->> 0",
        )
        .bind(json(&rows.collect::<Vec<_>>()))
        .bind(ids.organization)
        .bind(ids.run_id)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Writes down what a run opens and closes. The rows of the run and of its keys must be there. Nothing is written
/// where nothing changed.
pub(super) async fn write_findings(
    connection: &mut SqliteConnection,
    ids: RunIds,
    difference: &Difference,
    key_of: impl Fn(&KeyId) -> Option<i64>,
    book: &mut FindingBook,
) -> Result<(), sqlx::Error> {
    let Difference { opened, closed, .. } = difference;
    write_happenings(connection, ids, difference).await?;
    // First: one that is open again is another row.
    for chunk in closed.chunks(CHUNK) {
        let sql = "update finding_log set closed_run = ?2
             where finding_id in (select value from json_each(?1))";
        let update = sqlx::query(sql).bind(json(&chunk)).bind(ids.run_id);
        let update = update.execute(&mut *connection).await?;
        if update.rows_affected() != chunk.len() as u64 {
            return Err(sqlx::Error::RowNotFound);
        }
        book.counts.closed += update.rows_affected();
    }
    insert_all(connection, book.take_by_id(ids, opened, key_of)?).await
}

impl Reader {
    /// Calls `each` with the findings that `filter` lets through: the worst first, then by organization, rule and
    /// age; those of the past in the order in which they opened.
    pub async fn list_findings<E: From<Error>>(
        &mut self,
        filter: &FindingFilter,
        mut each: impl FnMut(FindingRow) -> Result<(), E>,
    ) -> Result<(), E> {
        let path = self.path.clone();
        let worse = |least: Severity| {
            let severities = Severity::ALL.into_iter().filter(|severity| *severity >= least);
            json(&severities.map(Severity::as_str).collect::<Vec<_>>())
        };
        let rules: Vec<&str> = filter.rules.iter().map(|rule| rule.as_str()).collect();
        let mut rows = sqlx::query_as::<_, FindingRow>(
            "select finding_id, organization, key_id, rule, severity, since, detail, opened_run_id,
                    opened_at, closed_run_id, closed_at, key_name, scope
             from finding_history
             where (?1 or closed_run_id is null)
               and (?2 is null or organization = ?2)
               and (?3 is null or key_id = ?3)
               and (?4 is null or rule in (select value from json_each(?4)))
               and (?5 is null or severity in (select value from json_each(?5)))
               and organization not in (select value from json_each(?6))
             order by iif(?1, finding_id, 0),
                 case severity when 'high' then 0 when 'medium' then 1 else 2 end,
                 organization, rule, since, key_id",
        )
        .bind(filter.history)
        .bind(&filter.organization)
        .bind(&filter.key_id)
        .bind((!rules.is_empty()).then(|| json(&rules)))
        .bind(filter.severity.map(worse))
        .bind(json(&filter.without))
        .fetch(&mut self.connection);
        let failed = |source| E::from(Error::from_sqlx(&path, source));
        while let Some(row) = rows.try_next().await.map_err(failed)? {
            each(row)?;
        }
        Ok(())
    }

    /// How many findings of an organization are open, by rule and severity.
    pub(super) async fn count_findings(
        &mut self,
        organization: &str,
    ) -> Result<Vec<(String, String, u64)>, Error> {
        let rows: Vec<(String, String, i64)> = sqlx::query_as(
            "select rule, severity, count(*) from finding_log
             where organization = (select organization from organizations where name = ?1)
               and closed_run is null
             group by rule, severity order by rule, severity",
        )
        .bind(organization)
        .fetch_all(&mut self.connection)
        .await
        .map_err(|source| self.failed(source))?;
        let count = |(rule, severity, count)| (rule, severity, u64::try_from(count).unwrap_or(0));
        Ok(rows.into_iter().map(count).collect())
    }
}
