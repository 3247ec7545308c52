//! Retention: prefixes of an organization's items are thrown away, and the act is a link of its chain.

use std::time::Duration;

use serde_json::json;
use sqlx::{Connection, SqliteConnection};

use super::adopt::chain_on;
use super::chain::append_act;
use super::error::Error;
use super::evidence::{load_acts, load_erased};
use super::guards::{self, PRUNING};
use super::keyframe::{load_keyframe, newest_prunings, write_keyframe};
use super::rows::row;
use super::verify::{load_origins, read_history};
use super::{Reader, Writer};
use crate::audit::{ActKind, Horizons, InventoryRecord, Verifier, keyframe_digest};
use crate::clock::Timestamp;
use crate::when::render_duration;

/// How long events are kept. Neither: for ever.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Policy {
    pub used_events: Option<Duration>,
    /// All others, the notices and the attributions; not shorter.
    pub events: Option<Duration>,
}

impl Policy {
    /// Whether anything is ever thrown away.
    #[must_use]
    pub const fn is_set(&self) -> bool {
        self.used_events.is_some() || self.events.is_some()
    }
}

/// What is thrown away of one organization, or would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pruned {
    pub organization: String,
    /// Up to and with which run nothing is kept of each class.
    pub horizons: Horizons,
    pub used: u64,
    pub events: u64,
    pub notices: u64,
    pub attributions: u64,
    /// The end of the newest run of which something is gone: from there on the past is known.
    pub since: Timestamp,
}

row! {
    struct Counts {
        used: i64,
        events: i64,
        notices: i64,
        attributions: i64,
        since: i64,
    }
}

impl Reader {
    /// What [`Writer::prune`] would throw away of an organization.
    pub async fn plan_prune(
        &mut self,
        organization: &str,
        policy: Policy,
        now: Timestamp,
    ) -> Result<Option<Pruned>, Error> {
        let plan = plan(&mut self.connection, organization, policy, now).await;
        Ok(plan.map_err(|source| self.failed(source))?.map(|plan| plan.pruned))
    }
}

impl Writer {
    /// Throws away what a policy no longer keeps of an organization, if there is any, in one transaction.
    /// Only a history that holds is pruned.
    pub async fn prune(
        &mut self,
        organization: &str,
        policy: Policy,
        now: Timestamp,
        actor: &str,
    ) -> Result<Option<Pruned>, Error> {
        let path = self.path.clone();
        let failed = |source| Error::from_sqlx(&path, source);
        let pruned = async {
            // So that nothing of it is left in the file.
            let secure = "pragma secure_delete = on";
            sqlx::raw_sql(secure).execute(&mut self.connection).await.map_err(failed)?;
            let mut transaction =
                self.connection.begin_with("begin immediate").await.map_err(failed)?;
            let planned = plan(&mut transaction, organization, policy, now).await;
            let Some(plan) = planned.map_err(failed)? else { return Ok(None) };
            let mut head =
                chain_on(&mut transaction, plan.organization, now).await.map_err(failed)?;
            let inventory = read_until(&mut transaction, &plan, &path).await?;
            guards::lift(&mut transaction, &PRUNING).await.map_err(failed)?;
            let at = (plan.organization, plan.pruned.horizons.newest());
            write_keyframe(&mut transaction, &path, at, &inventory).await?;
            let deleted = delete(&mut transaction, &plan).await;
            deleted.map_err(failed)?;
            guards::put_back(&mut transaction, &PRUNING).await.map_err(failed)?;
            let detail = describe(&mut transaction, &plan, policy).await.map_err(failed)?;
            let (organization, kind) = (plan.organization, ActKind::Pruned);
            append_act(&mut transaction, organization, &mut head, kind, now, actor, &detail)
                .await
                .map_err(failed)?;
            transaction.commit().await.map_err(failed)?;
            Ok(Some(plan.pruned))
        };
        let pruned = pruned.await;
        if pruned.is_err() {
            self.reconnect().await;
        }
        pruned
    }
}

/// What is to be done.
struct Plan {
    organization: i64,
    /// Beyond the older ones, what there were before.
    before: Horizons,
    /// Of a notice and of an attribution.
    last_ids: (i64, i64),
    pruned: Pruned,
}

async fn plan(
    connection: &mut SqliteConnection,
    name: &str,
    policy: Policy,
    now: Timestamp,
) -> Result<Option<Plan>, sqlx::Error> {
    let organization: Option<i64> =
        sqlx::query_scalar("select organization from organizations where name = ?1")
            .bind(name)
            .fetch_optional(&mut *connection)
            .await?;
    let Some(organization) = organization else { return Ok(None) };
    let pruning = newest_prunings(&load_acts(connection).await?).remove(name);
    let before = pruning.map(|pruning| pruning.horizons).unwrap_or_default();
    // A horizon is the newest run of which something goes, not the newest that is old enough.
    let until = |duration: Option<Duration>| {
        duration.map_or(i64::MIN, |duration| now.saturating_sub(duration).unix())
    };
    let (used, events): (i64, i64) = sqlx::query_as(
        "select ifnull((select max(run_id) from runs
                    where organization = ?1 and run_id > ?2 and finished_at < ?3 and used > 0), 0),
                ifnull((select max(run_id) from runs r
                    where organization = ?1 and run_id > ?4 and finished_at < ?5
                      and (baseline + added + restored + removed + changed > 0
                           or exists (select 1 from notices n where n.run_id = r.run_id)
                           or exists (select 1 from attributions t where t.run_id = r.run_id))), 0)",
    )
    .bind(organization)
    .bind(before.used)
    .bind(until(policy.used_events.or(policy.events)))
    .bind(before.events)
    .bind(until(policy.events))
    .fetch_one(&mut *connection)
    .await?;
    if used == 0 && events == 0 {
        return Ok(None);
    }
    let horizons = Horizons { used: used.max(before.used), events: events.max(before.events) };
    let counts = count(connection, organization, before, horizons).await?;
    let last_ids: (i64, i64) = sqlx::query_as(
        "with newest as (select (select detail from acts where kind = 'pruned'
                                 order by act_id desc limit 1) as detail)
         select max(ifnull((select max(notice_id) from notices), 0),
                    ifnull(detail ->> 'last_notice_id', 0)),
                max(ifnull((select max(attribution_id) from attributions), 0),
                    ifnull(detail ->> 'last_attribution_id', 0)) from newest",
    )
    .fetch_one(connection)
    .await?;
    let count = |count: i64| u64::try_from(count).unwrap_or(0);
    let pruned = Pruned {
        organization: name.to_owned(),
        horizons,
        used: count(counts.used),
        events: count(counts.events),
        notices: count(counts.notices),
        attributions: count(counts.attributions),
        since: Timestamp::from_unix(counts.since).unwrap_or(now),
    };
    Ok(Some(Plan { organization, before, last_ids, pruned }))
}

/// What there is between the horizons before and the new ones, and when the newest run of it ended.
async fn count(
    connection: &mut SqliteConnection,
    organization: i64,
    before: Horizons,
    horizons: Horizons,
) -> Result<Counts, sqlx::Error> {
    sqlx::query_as(
        "select ifnull(sum(r.used) filter (where r.run_id > ?2 and r.run_id <= ?3), 0) as used,
                ifnull(sum(r.baseline + r.added + r.restored + r.removed + r.changed)
                    filter (where r.run_id > ?4 and r.run_id <= ?5), 0) as events,
                (select count(*) from notices n join runs m on m.run_id = n.run_id
                 where m.organization = ?1 and n.run_id > ?4 and n.run_id <= ?5) as notices,
                (select count(*) from attributions t join runs m on m.run_id = t.run_id
                 where m.organization = ?1 and t.run_id > ?4 and t.run_id <= ?5) as attributions,
                max(r.finished_at) filter (where r.run_id <= max(?3, ?5)) as since
         from runs r where r.organization = ?1",
    )
    .bind(organization)
    .bind(before.used)
    .bind(horizons.used)
    .bind(before.events)
    .bind(horizons.events)
    .fetch_one(connection)
    .await
}

/// Reads the history up to the horizon, and gives the inventory there: what does not hold is not thrown away.
async fn read_until(
    connection: &mut SqliteConnection,
    plan: &Plan,
    path: &std::path::Path,
) -> Result<Vec<(InventoryRecord, bool)>, Error> {
    let failed = |source| Error::from_sqlx(path, source);
    let organization = &plan.pruned.organization;
    let run_id = plan.pruned.horizons.newest();
    let acts = load_acts(connection).await.map_err(failed)?;
    // What is older than the chain is held against the act that adopted it, and that comes behind it.
    let adopted =
        acts.iter().filter(|act| act.kind == "adopted" && act.organization == *organization);
    let until = adopted.map(|act| act.after_run_id).fold(run_id, i64::max);
    let mut verifier = Verifier::new(load_origins(connection).await.map_err(failed)?, &|_, _| None);
    verifier.want(organization, run_id);
    read_history(connection, &mut verifier, until).await.map_err(failed)?;
    verifier.into_inventory(organization).map_err(|problem| {
        let of = problem.run_id.map(|run_id| format!("run {run_id}: ")).unwrap_or_default();
        Error::Broken { organization: organization.clone(), what: format!("{of}{}", problem.what) }
    })
}

/// A statement, and which of the horizons it goes by.
type Deletion = (&'static str, fn(Horizons) -> i64);

/// What goes: items, then actors that nothing names, versions that nothing tells of (no event, no key at the horizon or later, nor do they say
/// whose the old value of a later event is), then states of owners that no version and no notice has. The first
/// parameter is the organization, the second the horizon.
const DELETIONS: [Deletion; 7] = [
    (
        "delete from audit where event = 'used'
         and event_id <= (select last_event_id from runs where run_id = ?2)
         and run_id in (select run_id from runs where organization = ?1 and run_id <= ?2)",
        |horizons| horizons.used,
    ),
    (
        "delete from audit where event <> 'used'
         and event_id <= (select last_event_id from runs where run_id = ?2)
         and run_id in (select run_id from runs where organization = ?1 and run_id <= ?2)",
        |horizons| horizons.events,
    ),
    (
        "delete from notices where run_id in (
             select run_id from runs where organization = ?1 and run_id <= ?2)",
        |horizons| horizons.events,
    ),
    (
        "delete from attributions where run_id in (
             select run_id from runs where organization = ?1 and run_id <= ?2)",
        |horizons| horizons.events,
    ),
    (
        "delete from actors where organization = ?1 and ?2 > 0
           and not exists (select 1 from attributions t where t.actor = actors.actor)",
        |horizons| horizons.events,
    ),
    (
        "delete from key_versions
         where key in (select key from keys where organization = ?1) and ?2 > 0
           and version < (select f.version from keyframes f where f.key = key_versions.key)
           and version not in (select version from keys where organization = ?1)
           and not exists (select 1 from audit a where a.version = key_versions.version)
           and version not in (
               select ifnull((select max(b.version) from key_versions b
                              where b.key = v.key and b.version < v.version), 0)
               from audit a
               join key_versions v on v.version = a.version
               join keys k on k.key = v.key and k.organization = ?1
               where a.event <> 'used' and a.event = 'changed'
                 and (a.field = 'owner_name' or a.field like 'owner.%'))",
        Horizons::newest,
    ),
    (
        "delete from owners
         where organization = ?1 and ?2 > 0
           and not exists (select 1 from key_versions v where v.owner = owners.owner)
           and owner not in (
               select ifnull(j.value ->> 2, 0) from notices n
               join runs r on r.run_id = n.run_id, json_each(n.changes) j
               where r.organization = ?1)",
        Horizons::newest,
    ),
];

async fn delete(connection: &mut SqliteConnection, plan: &Plan) -> Result<(), sqlx::Error> {
    for (sql, horizon) in DELETIONS {
        sqlx::query(sql)
            .bind(plan.organization)
            .bind(horizon(plan.pruned.horizons))
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// The detail of the act.
async fn describe(
    connection: &mut SqliteConnection,
    plan: &Plan,
    policy: Policy,
) -> Result<String, sqlx::Error> {
    let Pruned { organization, horizons, used, events, notices, attributions, .. } = &plan.pruned;
    let (last_notice_id, last_attribution_id) = plan.last_ids;
    let run_id = horizons.newest();
    let erased = load_erased(connection).await?;
    let keyframe = load_keyframe(connection, organization, run_id, &erased).await?;
    let horizon = |run_id: i64| (run_id > 0).then_some(run_id);
    Ok(json!({
        "what": plan.pruned.in_words(plan.before),
        "policy": {
            "used_events": policy.used_events.map(render_duration),
            "events": policy.events.map(render_duration),
        },
        "horizons": { "used": horizon(horizons.used), "events": horizon(horizons.events) },
        "removed": {
            "used": used, "events": events, "notices": notices, "attributions": attributions,
        },
        "keyframe": { "run": run_id, "digest": keyframe_digest(&keyframe).to_string() },
        "last_notice_id": last_notice_id,
        "last_attribution_id": last_attribution_id,
    })
    .to_string())
}

impl Pruned {
    /// What it is, in a phrase, given what was thrown away before.
    fn in_words(&self, before: Horizons) -> String {
        let Self { horizons, used, events, notices, attributions, .. } = self;
        let mut words = Vec::new();
        if horizons.used > before.used {
            words.push(format!("{} up to run {}", some(*used, "`used` event"), horizons.used));
        }
        if horizons.events > before.events {
            let run_id = horizons.events;
            let (events, notices) = (some(*events, "other event"), some(*notices, "notice"));
            let things = match attributions {
                0 => format!("{events} and {notices}"),
                of => format!("{events}, {notices} and {}", some(*of, "attribution")),
            };
            words.push(format!("{things} up to run {run_id}"));
        }
        words.join(", ")
    }
}

/// `1 notice`, `2 notices`.
fn some(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
