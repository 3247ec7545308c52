//! A history of years, written into a database straight: runs in which keys were used, and now and then one changed or
//! went. Its chain does not hold, which no question asks for.

use std::path::Path;

use rusqlite::{Connection, params};

/// A long history, and what to ask it.
pub(crate) struct Long {
    pub(crate) events: u32,
    /// A key in the middle of the listing.
    pub(crate) key: String,
    /// A span of one run in the middle.
    pub(crate) since: String,
    pub(crate) until: String,
    /// The last tenth and hundredth of the events were observed from then on.
    pub(crate) tenth: String,
    pub(crate) hundredth: String,
}

/// Runs an hour apart.
const RUNS: u32 = 1_000;

/// Adds so many events to a database that was synced.
pub(crate) fn lengthen(database: &Path, events: u32) -> anyhow::Result<Long> {
    let connection = Connection::open(database)?;
    // Room for the index that is made anew, and no waiting for the disk: what is measured comes later.
    connection
        .execute_batch("pragma synchronous = off; pragma cache_size = -400000; begin immediate")?;
    let guards = take_away(&connection)?;
    let each = events / RUNS;
    add_runs(&connection, each)?;
    add_events(&connection, each)?;
    for sql in guards {
        connection.execute_batch(&sql)?;
    }
    connection.execute_batch("commit; pragma wal_checkpoint(truncate)")?;
    let at = |part: f64| -> rusqlite::Result<String> {
        let skipped = (f64::from(RUNS) * (1.0 - part)).round();
        connection.query_row(
            "select strftime('%Y-%m-%dT%H:%M:%SZ', finished_at, 'unixepoch') from runs
             where run_id = (select max(run_id) from runs) - ?1 + ?2",
            params![RUNS, skipped],
            |row| row.get(0),
        )
    };
    let key = connection.query_row(
        "select key_id from keys where removed_run is null order by key limit 1
         offset (select count(*) / 2 from keys)",
        [],
        |row| row.get(0),
    )?;
    Ok(Long {
        events: each * RUNS,
        key,
        since: at(0.5)?,
        until: at(0.499)?,
        tenth: at(0.1)?,
        hundredth: at(0.01)?,
    })
}

/// Takes the triggers of the two tables and the index of one away, and gives back how they are made.
fn take_away(connection: &Connection) -> anyhow::Result<Vec<String>> {
    let mut select = connection.prepare(
        "select type, name, sql from sqlite_schema
         where tbl_name in ('audit', 'runs') and sql is not null
           and (type = 'trigger' or (type = 'index' and tbl_name = 'audit')) order by type",
    )?;
    let found = select.query_map([], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?]))?;
    let found: Vec<[String; 3]> = found.collect::<Result<_, _>>()?;
    drop(select);
    for [kind, name, _] in &found {
        connection.execute_batch(&format!("drop {kind} {name}"))?;
    }
    Ok(found.into_iter().map(|[_, _, sql]| sql).collect())
}

/// Runs like the newest one, but for what makes them runs of their own.
fn add_runs(connection: &Connection, each: u32) -> anyhow::Result<()> {
    let mut select = connection.prepare("select name from pragma_table_info('runs')")?;
    let columns = select.query_map([], |row| row.get(0))?;
    let columns: Vec<String> = columns.collect::<Result<_, _>>()?;
    let value = |column: &String| match column.as_str() {
        "run_id" => "r.run_id + n.value".to_owned(),
        "token" => "r.token / 2 + n.value".to_owned(),
        "started_at" | "finished_at" => format!("r.{column} + n.value * 3600"),
        "previous_started_at" => "r.started_at + (n.value - 1) * 3600".to_owned(),
        "last_event_id" => "r.last_event_id + n.value * ?2".to_owned(),
        "used" => "?2 - 1".to_owned(),
        "changed" => "1".to_owned(),
        "baseline" | "added" | "restored" | "removed" => "0".to_owned(),
        _ => format!("r.{column}"),
    };
    let values: Vec<String> = columns.iter().map(value).collect();
    let sql = format!(
        "with recursive n (value) as (select 1 union all select value + 1 from n where value < ?1)
         insert into runs ({}) select {} from runs r, n
         where r.run_id = (select max(run_id) from runs) order by n.value",
        columns.join(", "),
        values.join(", ")
    );
    connection.execute(&sql, params![RUNS, each])?;
    Ok(())
}

/// In each run as many events: all but the last are uses, which is a change, and in every tenth run a removal.
fn add_events(connection: &Connection, each: u32) -> anyhow::Result<()> {
    connection.execute(
        "with recursive
             b (event_id, run_id, versions, time) as (
                 select (select max(event_id) from audit), (select max(run_id) from runs) - ?1,
                     (select max(version) from key_versions), 1793491200),
             n (value) as (select 0 union all select value + 1 from n where value < ?1 * ?2 - 1),
             e (event_id, run_id, version, event, time) as (
                 select b.event_id + 1 + n.value, b.run_id + 1 + n.value / ?2,
                     -- A large prime, so that they come in no order.
                     1 + (n.value * 7919) % b.versions,
                     case when n.value % ?2 < ?2 - 1 then 'used'
                         when n.value / ?2 % 10 = 0 then 'removed' else 'changed' end,
                     b.time + n.value / ?2 * 3600
                 from n, b)
         insert into audit (event_id, run_id, version, event, field, old_value, new_value)
         select event_id, run_id, version, event, case event when 'changed' then 'name' end,
             case event when 'changed' then 'before' else time end,
             case event when 'changed' then 'now' when 'used' then time + 1800 end
         from e",
        params![RUNS, each],
    )?;
    Ok(())
}
