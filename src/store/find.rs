//! Which key somebody means.

use super::error::Error;
use super::read::{KeyFilter, KeyRow, Reader};

impl Reader {
    /// The keys that `key` may mean, best match first: the one with this id alone if there is one, else
    /// those whose name it is, those whose id begins with it, and those whose redacted value ends as it
    /// does; keys that are there before keys that are gone.
    pub async fn find_keys(
        &mut self,
        organization: Option<&str>,
        key: &str,
    ) -> Result<Vec<KeyRow>, Error> {
        let mut found = Vec::new();
        let mut look_at = |row: KeyRow| {
            if let Some(likeness) = row.likeness(key) {
                found.push((likeness, row));
            }
            Ok::<_, Error>(())
        };
        // An id is looked up, not looked for.
        let mut candidates = self.list_of_id(organization, key).await?;
        if candidates.is_empty() {
            candidates = self.list_candidates(organization, key).await?;
        }
        if candidates.len() > MOST_CANDIDATES {
            let organization = organization.map(str::to_owned);
            let filter = KeyFilter { organization, ..KeyFilter::default() };
            self.fetch_keys(&filter, None, look_at).await?;
        } else {
            for (organization, key_id) in candidates {
                if let Some(row) = self.load_key(&organization, &key_id).await? {
                    look_at(row)?;
                }
            }
        }
        if found.iter().any(|(likeness, _)| *likeness == Likeness::Id) {
            found.retain(|(likeness, _)| *likeness == Likeness::Id);
        }
        // Stable: equally good ones stay as they were.
        found.sort_by_key(|(likeness, row)| (*likeness, row.removed_at.is_some()));
        Ok(found.into_iter().map(|(_, row)| row).collect())
    }

    /// The keys with this id, of each organization.
    async fn list_of_id(
        &mut self,
        organization: Option<&str>,
        key_id: &str,
    ) -> Result<Vec<(String, String)>, Error> {
        sqlx::query_as(
            "select o.name, k.key_id from organizations o
             cross join keys k on k.organization = o.organization and k.key_id = ?2
             where ?1 is null or o.name = ?1 order by o.name",
        )
        .bind(organization)
        .bind(key_id)
        .fetch_all(&mut self.connection)
        .await
        .map_err(|source| self.failed(source))
    }

    /// All keys that somebody may mean, and perhaps some more: by organization and id.
    async fn list_candidates(
        &mut self,
        organization: Option<&str>,
        key: &str,
    ) -> Result<Vec<(String, String)>, Error> {
        sqlx::query_as(
            "select o.name, k.key_id from keys k
             join organizations o on o.organization = k.organization
             join key_versions v on v.version = k.version
             where (?1 is null or o.name = ?1)
               and (instr(k.key_id, ?2) = 1 or v.name = ?2
                    or substr(v.redacted_value, -3) = substr(?2, -3))
             order by o.name, v.created_at, k.key_id",
        )
        .bind(organization)
        .bind(key)
        .fetch_all(&mut self.connection)
        .await
        .map_err(|source| self.failed(source))
    }
}

/// More are not looked at one by one.
const MOST_CANDIDATES: usize = 500;

/// How a text may stand for a key, the surest way first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Likeness {
    Id,
    Name,
    IdBegins,
    ValueEnds,
}

impl KeyRow {
    /// Whether somebody who writes `text` may mean this key: its id, the beginning of its id, its name,
    /// or the end of its value (longer or shorter than what the redacted value shows).
    #[must_use]
    pub fn is_meant_by(&self, text: &str) -> bool {
        self.likeness(text).is_some()
    }

    fn likeness(&self, text: &str) -> Option<Likeness> {
        if text.is_empty() {
            None
        } else if self.key_id == text {
            Some(Likeness::Id)
        } else if self.name.as_deref() == Some(text) {
            Some(Likeness::Name)
        } else if self.key_id.starts_with(text) {
            Some(Likeness::IdBegins)
        } else {
            self.ends_as(text).then_some(Likeness::ValueEnds)
        }
    }

    fn ends_as(&self, text: &str) -> bool {
        const SHORTEST_END: usize = 3;
        let masks = |c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_');
        let end = self.redacted_value.as_deref().and_then(|redacted| redacted.rsplit(masks).next());
        end.is_some_and(|end| {
            end.len() >= SHORTEST_END
                && text.len() >= SHORTEST_END
                && (end.ends_with(text) || text.ends_with(end))
        })
    }
}
