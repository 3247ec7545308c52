//! The triggers that keep the history as it is: lifted only inside the one transaction that says so, so that
//! whatever ends it early leaves them in force.

use sqlx::SqliteConnection;

/// A trigger: what it refuses, of which table, and what it says.
pub(super) struct Guard {
    name: &'static str,
    action: &'static str,
    table: &'static str,
    says: &'static str,
}

const fn guard(
    name: &'static str,
    action: &'static str,
    table: &'static str,
    says: &'static str,
) -> Guard {
    Guard { name, action, table, says }
}

const HISTORY: &str = "the audit history is append-only";
const VERSIONS: &str = "versions of keys are append-only";
const OWNERS: &str = "states of owners are append-only";
const NOTICES: &str = "notices are append-only";
const ATTRIBUTIONS: &str = "attributions are append-only";
const ACTORS: &str = "states of actors are append-only";
const KEYFRAMES: &str = "the history at the horizon is kept as it was";

/// What pruning has to do with.
pub(super) const PRUNING: [Guard; 7] = [
    guard("audit_no_delete", "delete", "audit", HISTORY),
    guard("notices_no_delete", "delete", "notices", NOTICES),
    guard("key_versions_no_delete", "delete", "key_versions", VERSIONS),
    guard("owners_no_delete", "delete", "owners", OWNERS),
    guard("attributions_no_delete", "delete", "attributions", ATTRIBUTIONS),
    guard("actors_no_delete", "delete", "actors", ACTORS),
    guard("keyframes_no_update", "update", "keyframes", KEYFRAMES),
];

/// What forgetting has to do with.
pub(super) const FORGETTING: [Guard; 5] = [
    guard("audit_no_update", "update", "audit", HISTORY),
    guard("notices_no_update", "update", "notices", NOTICES),
    guard("owners_no_update", "update", "owners", OWNERS),
    guard("attributions_no_update", "update", "attributions", ATTRIBUTIONS),
    guard("actors_no_update", "update", "actors", ACTORS),
];

/// Lifts triggers, inside a transaction.
pub(super) async fn lift(
    connection: &mut SqliteConnection,
    guards: &[Guard],
) -> Result<(), sqlx::Error> {
    for Guard { name, .. } in guards {
        // Put together from the texts above: no part of it comes from outside.
        let sql = sqlx::AssertSqlSafe(format!("drop trigger if exists {name}"));
        sqlx::raw_sql(sql).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Puts them back, word for word as the migrations made them.
pub(super) async fn put_back(
    connection: &mut SqliteConnection,
    guards: &[Guard],
) -> Result<(), sqlx::Error> {
    for Guard { name, action, table, says } in guards {
        let sql = sqlx::AssertSqlSafe(format!(
            "create trigger {name} before {action} on {table}\nbegin select raise(abort, '{says}'); end"
        ));
        sqlx::raw_sql(sql).execute(&mut *connection).await?;
    }
    Ok(())
}
