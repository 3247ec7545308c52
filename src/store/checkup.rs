//! What `doctor` asks of the database: whether the file looks sound, and what is
//! remembered of an organization that the API's answers can be held against.

use super::Reader;
use super::error::Error;

/// What is remembered of an organization.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remembered {
    /// The `openai-organization` header of its answers.
    pub header: Option<String>,
    /// Whether a project's list ever showed a key.
    pub has_project_keys: bool,
}

impl Reader {
    /// What is remembered of an organization; nothing of one that is not known.
    pub async fn load_remembered(&mut self, organization: &str) -> Result<Remembered, Error> {
        let row: Option<(Option<String>, bool)> = sqlx::query_as(
            "select o.header,
                    exists (select 1 from keys k join key_versions v on v.version = k.version
                            where k.organization = o.organization and v.project_id is not null)
             from organizations o where o.name = ?1",
        )
        .bind(organization)
        .fetch_optional(&mut self.connection)
        .await
        .map_err(|source| self.failed(source))?;
        let remembered = |(header, has_project_keys)| Remembered { header, has_project_keys };
        Ok(row.map(remembered).unwrap_or_default())
    }

    /// What `SQLite` says at a quick look, if the file is not sound: each page is read, but no index is
    /// held against its table. [`Reader::find_damage`] does that too.
    pub async fn glance(&mut self) -> Result<Option<String>, Error> {
        let told: Result<String, sqlx::Error> =
            sqlx::query_scalar("pragma quick_check(1)").fetch_one(&mut self.connection).await;
        match told.map_err(|source| self.failed(source)) {
            Ok(told) if told == "ok" => Ok(None),
            Ok(told) => Ok(Some(told)),
            Err(Error::Corrupt { source, .. }) => Ok(Some(source.to_string())),
            Err(error) => Err(error),
        }
    }
}
