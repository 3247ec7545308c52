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
        let filter =
            KeyFilter { organization: organization.map(str::to_owned), ..KeyFilter::default() };
        let mut found = Vec::new();
        self.fetch_keys(&filter, None, |row| {
            if let Some(likeness) = row.likeness(key) {
                found.push((likeness, row));
            }
            Ok::<_, Error>(())
        })
        .await?;
        if found.iter().any(|(likeness, _)| *likeness == Likeness::Id) {
            found.retain(|(likeness, _)| *likeness == Likeness::Id);
        }
        // Stable: equally good ones stay as they were.
        found.sort_by_key(|(likeness, row)| (*likeness, row.removed_at.is_some()));
        Ok(found.into_iter().map(|(_, row)| row).collect())
    }
}

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
