//! What there is to say of the state of things: for `status`, and for metrics.

use super::Reader;
use super::error::Error;
use super::rows::row;
use crate::clock::Timestamp;
use crate::inventory::Scope;

/// How an organization is, as far as the database knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    pub last_run: Option<HealthRun>,
    /// When the last `ok` run ended. Where that is in the future, because a clock was, when it began.
    pub last_success_at: Option<Timestamp>,
    /// Whether a run was held since then.
    pub is_held: bool,
    pub admin_keys: u64,
    pub project_keys: u64,
    /// The next time that a key expires.
    pub next_expiry_at: Option<Timestamp>,
    /// How many findings are open, by rule and severity.
    pub findings: Vec<(String, String, u64)>,
}

/// The last run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthRun {
    pub finished_at: Timestamp,
    /// As in the view.
    pub status: String,
    pub trigger: String,
    pub error: Option<String>,
}

row! {
    struct Row {
        finished_at: i64,
        status: String,
        trigger: String,
        error: Option<String>,
        success_at: Option<i64>,
        success_began_at: Option<i64>,
        is_held: bool,
    }
}

impl Reader {
    /// A number that changes when somebody else changes the database. It says nothing to another reader.
    pub async fn version(&mut self) -> Result<i64, Error> {
        sqlx::query_scalar("pragma data_version")
            .fetch_one(&mut self.connection)
            .await
            .map_err(|source| self.failed(source))
    }

    /// How an organization is, also one that is not known yet.
    pub async fn load_health(
        &mut self,
        organization: &str,
        now: Timestamp,
    ) -> Result<Health, Error> {
        let runs: Option<Row> = sqlx::query_as(
            "with mine as (select organization from organizations where name = ?1),
                  good as (select max(run_id) as run_id from runs
                           where organization = (select * from mine) and status = 'ok')
             select finished_at, status, trigger, error,
                    (select finished_at from runs where run_id = (select run_id from good)) as success_at,
                    (select started_at from runs where run_id = (select run_id from good)) as success_began_at,
                    exists (select 1 from runs where organization = (select * from mine)
                        and status = 'held' and run_id > ifnull((select run_id from good), 0)) as is_held
             from runs where organization = (select * from mine)
             order by run_id desc limit 1",
        )
        .bind(organization)
        .fetch_optional(&mut self.connection)
        .await
        .map_err(|source| self.failed(source))?;
        let Some(runs) = runs else { return Ok(Health::default()) };
        let keys: Vec<(String, i64, Option<i64>)> = sqlx::query_as(
            "select v.scope, count(*), min(v.expires_at) filter (where v.expires_at > ?2)
             from keys k join key_versions v on v.version = k.version
             where k.organization = (select organization from organizations where name = ?1)
               and k.removed_run is null
             group by v.scope",
        )
        .bind(organization)
        .bind(now.unix())
        .fetch_all(&mut self.connection)
        .await
        .map_err(|source| self.failed(source))?;
        let count = |scope: Scope| {
            let of_scope = keys.iter().find(|(name, ..)| name == scope.as_str());
            of_scope.and_then(|(_, count, _)| u64::try_from(*count).ok()).unwrap_or(0)
        };
        Ok(Health {
            findings: self.count_findings(organization).await?,
            last_success_at: runs
                .success_at
                .map(|at| if at > now.unix() { runs.success_began_at.unwrap_or(at) } else { at })
                .and_then(Timestamp::from_unix),
            is_held: runs.is_held,
            admin_keys: count(Scope::Admin),
            project_keys: count(Scope::Project),
            next_expiry_at: keys.iter().filter_map(|(.., at)| Timestamp::from_unix((*at)?)).min(),
            last_run: Timestamp::from_unix(runs.finished_at).map(|finished_at| HealthRun {
                finished_at,
                status: runs.status,
                trigger: runs.trigger,
                error: runs.error,
            }),
        })
    }

    /// The first thing that is wrong with the history as a whole, if anything is: numbers that are not
    /// where they must be.
    pub async fn find_break(&mut self) -> Result<Option<String>, Error> {
        const QUESTIONS: [(&str, &str); 4] = [
            (
                "run {} is not where it should be in the run history",
                "select run_id from (select run_id, row_number() over (order by run_id) as place from runs)
                 where run_id <> place order by run_id limit 1",
            ),
            (
                "run {} does not have as many events as it says",
                "select run_id from (
                     select run_id, last_event_id - ifnull(lag(last_event_id) over (order by run_id), 0) as events,
                            baseline + added + restored + removed + used + changed as said
                     from runs)
                 where events <> said order by run_id limit 1",
            ),
            (
                "the events up to {} are not all there",
                // What is pruned is left out.
                "with horizons as (
                     select organization, max(detail ->> '$.horizons.used') as used,
                            max(detail ->> '$.horizons.events') as events
                     from acts where kind = 'pruned' group by organization)
                 select last_event_id from runs
                 where run_id = (select max(run_id) from runs)
                   and (last_event_id < (select ifnull(max(event_id), 0) from audit)
                        or (select count(*) from audit) <> (
                            select sum(iif(r.run_id > ifnull(h.used, 0), r.used, 0)
                                + iif(r.run_id > ifnull(h.events, 0),
                                      r.baseline + r.added + r.restored + r.removed + r.changed, 0))
                            from runs r left join horizons h on h.organization = r.organization))",
            ),
            (
                "the inventory does not have as many keys as run {} left in it",
                "select r.run_id from runs r
                 where r.run_id in (select max(run_id) from runs group by organization)
                   and r.keys_after <> (select count(*) from keys k
                       where k.organization = r.organization and k.removed_run is null)
                 limit 1",
            ),
        ];
        for (what, question) in QUESTIONS {
            let found: Result<Option<i64>, sqlx::Error> =
                sqlx::query_scalar(question).fetch_optional(&mut self.connection).await;
            match found.map_err(|source| self.failed(source)) {
                Ok(None) => {}
                Ok(Some(number)) => return Ok(Some(what.replace("{}", &number.to_string()))),
                Err(Error::Corrupt { .. }) => {
                    return Ok(Some("the database file is damaged".to_owned()));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}
