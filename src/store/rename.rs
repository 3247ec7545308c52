//! Giving an organization another name: the history stays, and says so.
//!
//! A name belongs for good to the organization that had it first. So whatever tells of a name, an act, an old
//! evidence pack, a run that was noted before, tells of one organization, and a configuration that still has the
//! old name begins no second history.

use serde_json::json;
use sqlx::{Connection, SqliteConnection};

use super::adopt::chain_on;
use super::chain::append_act;
use super::error::Error;
use super::links::latest_time;
use super::{Reader, Writer};
use crate::audit::ActKind;
use crate::clock::Timestamp;

/// What came of a request to rename an organization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Renaming {
    Done,
    /// There is none of the old name.
    Unknown,
    /// The new name is, or was, that of the organization that is called so now.
    Taken {
        by: String,
    },
}

impl Writer {
    /// Renames an organization, in one transaction.
    pub async fn rename(
        &mut self,
        from: &str,
        to: &str,
        now: Timestamp,
        actor: &str,
    ) -> Result<Renaming, Error> {
        match self.rename_in_transaction(from, to, now, actor).await {
            Ok(renaming) => Ok(renaming),
            Err(source) => {
                let error = self.failed(source);
                self.reconnect().await;
                Err(error)
            }
        }
    }

    async fn rename_in_transaction(
        &mut self,
        from: &str,
        to: &str,
        now: Timestamp,
        actor: &str,
    ) -> Result<Renaming, sqlx::Error> {
        let mut transaction = self.connection.begin_with("begin immediate").await?;
        let organization: Option<i64> =
            sqlx::query_scalar("select organization from organizations where name = ?1")
                .bind(from)
                .fetch_optional(&mut *transaction)
                .await?;
        let Some(organization) = organization else { return Ok(Renaming::Unknown) };
        if let Some((owner, by)) = find_by_any_name(&mut transaction, to).await?
            && (owner != organization || by == to)
        {
            return Ok(Renaming::Taken { by });
        }
        let acted_at = latest_time(&mut transaction, now).await?;
        let mut head = chain_on(&mut transaction, organization, acted_at).await?;
        let detail = json!({ "from": from, "to": to }).to_string();
        let kind = ActKind::Renamed;
        append_act(&mut transaction, organization, &mut head, kind, acted_at, actor, &detail)
            .await?;
        let renamed = sqlx::query("update organizations set name = ?2 where organization = ?1")
            .bind(organization)
            .bind(to)
            .execute(&mut *transaction)
            .await?;
        debug_assert_eq!(renamed.rows_affected(), 1, "one organization is renamed");
        transaction.commit().await?;
        Ok(Renaming::Done)
    }

    /// Refuses a name that an organization had before it was renamed.
    pub async fn refuse_former_name(&mut self, name: &str) -> Result<(), Error> {
        let found = find_by_any_name(&mut self.connection, name).await;
        match found.map_err(|source| self.failed(source))? {
            Some((_, now)) if now != name => Err(Error::FormerName { name: name.to_owned(), now }),
            _ => Ok(()),
        }
    }
}

impl Reader {
    /// What the organization is called now that had this name before it was renamed.
    pub async fn find_renamed(&mut self, name: &str) -> Result<Option<String>, Error> {
        let found = find_by_any_name(&mut self.connection, name).await;
        let found = found.map_err(|source| self.failed(source))?;
        Ok(found.map(|(_, now)| now).filter(|now| now != name))
    }
}

/// The organization that has a name, or had it, and what it is called now.
pub(super) async fn find_by_any_name(
    connection: &mut SqliteConnection,
    name: &str,
) -> Result<Option<(i64, String)>, sqlx::Error> {
    sqlx::query_as(
        "select o.organization, o.name from organizations o
         where o.name = ?1 or o.origin = ?1 or exists (
             select 1 from acts a where a.organization = o.organization and a.kind = 'renamed'
             and a.detail ->> 'from' = ?1)
         order by o.name = ?1 desc limit 1",
    )
    .bind(name)
    .fetch_optional(connection)
    .await
}
