//! The provider's own audit log: who did what to which key.
//!
//! Only what was asked for is handed over: whatever else an answer holds, of other keys, of other kinds or
//! of other times, is left out, and so is what cannot be read. An audit log is somebody else's testimony,
//! and never the reason why a run fails as a whole.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::{TryStreamExt, stream};
use serde_json::{Map, Value};
use tracing::instrument;
use url::Url;

use super::address::{Endpoints, encode};
use super::error::Error;
use super::fields::{Warnings, parse_time};
use super::listing::List;
use super::mask::Mask;
use super::session::Session;
use super::subject::Subject;
use super::walk::Item;
use super::wire::{Body, Malformed, Page, parse_page, read_id};
use crate::clock::Timestamp;
use crate::inventory::{Actor, AuditEntry, KeyAction, KeyId};

/// Longer URLs are refused by some proxies.
const MOST_URL_BYTES: usize = 2_000;
/// What is kept free of that for the page size and the cursor.
const CURSOR_BYTES: usize = 200;
/// More than anybody does to a few keys within a day.
const MOST_PAGES: u64 = 100;

/// Longer than any e-mail address may be.
const MOST_OF_AN_EMAIL: usize = 320;
/// Longer than any other text of an entry that means something.
const MOST_OF_A_TEXT: usize = 1_000;

/// What to ask the audit log for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditQuery {
    pub key_ids: Vec<KeyId>,
    pub actions: Vec<KeyAction>,
    /// The first and the last second, both included.
    pub from: Timestamp,
    pub until: Timestamp,
}

impl Session {
    /// The entries about these keys, oldest first, each once.
    ///
    /// An error means that there may be more entries than anybody can know of now. Where it
    /// [is about a missing permission](Error::is_missing_permission), the next run fares no better.
    #[instrument(name = "openai.audit_log", level = "debug", skip_all, fields(keys.total = query.key_ids.len()))]
    pub async fn list_audit_entries(&self, query: &AuditQuery) -> Result<Vec<AuditEntry>, Error> {
        let at_once = self.client.options.max_concurrency.max(1);
        let chunks = chunks(query, &self.client.endpoints);
        let listings = stream::iter(chunks.into_iter().map(Ok::<_, Error>))
            .map_ok(|chunk| self.list_chunk(query, chunk))
            .try_buffer_unordered(at_once);
        let mut entries: Vec<AuditEntry> = listings.try_concat().await?;
        entries.sort_by(|a, b| (a.happened_at, &a.log_id).cmp(&(b.happened_at, &b.log_id)));
        let mut seen = HashSet::new();
        entries.retain(|entry| seen.insert(Arc::clone(&entry.log_id)));
        Ok(entries)
    }

    async fn list_chunk(&self, query: &AuditQuery, chunk: Chunk) -> Result<Vec<AuditEntry>, Error> {
        let mut entries = Vec::new();
        let log = Log { mask: &self.client.mask, query, chunk, malformed: 0 };
        self.list(log, &mut |page: Vec<LogItem>, _| {
            entries.extend(page.into_iter().filter_map(|item| item.entry));
        })
        .await?;
        Ok(entries)
    }
}

/// Some keys of a query, as many as a URL can bear.
struct Chunk {
    keys: HashSet<KeyId>,
    /// The URL's query without page size and cursor.
    parameters: String,
}

fn chunks(query: &AuditQuery, endpoints: &Endpoints) -> Vec<Chunk> {
    let mut seen = HashSet::new();
    let unique = query.key_ids.iter().filter(|id| seen.insert(*id));
    if query.actions.is_empty() || query.until < query.from {
        return Vec::new();
    }
    let fixed = fixed_parameters(query);
    let used = endpoints.audit_log_url(&fixed, None, None).as_str().len() + CURSOR_BYTES;
    let room = MOST_URL_BYTES.saturating_sub(used);
    let mut chunks: Vec<Chunk> = Vec::new();
    for id in unique {
        let parameter = format!("&resource_ids%5B%5D={}", encode(id.as_str()));
        match chunks.last_mut() {
            Some(chunk) if chunk.parameters.len() - fixed.len() + parameter.len() <= room => {
                chunk.parameters.push_str(&parameter);
                chunk.keys.insert(id.clone());
            }
            // A single id that is too long is asked for all the same.
            _ => chunks.push(Chunk {
                keys: HashSet::from([id.clone()]),
                parameters: format!("{fixed}{parameter}"),
            }),
        }
    }
    chunks
}

fn fixed_parameters(query: &AuditQuery) -> String {
    // Brackets are encoded, as the official SDK does.
    let mut parameters = format!(
        "effective_at%5Bgte%5D={}&effective_at%5Blte%5D={}",
        query.from.unix(),
        query.until.unix()
    );
    for action in KeyAction::ALL.into_iter().filter(|action| query.actions.contains(action)) {
        parameters.push_str("&event_types%5B%5D=");
        parameters.push_str(action.event_type());
    }
    parameters
}

/// An entry as the walk through the pages needs it: the id of one that was not asked for is a good cursor,
/// too.
struct LogItem {
    id: Arc<str>,
    entry: Option<AuditEntry>,
}

/// The pages of the audit log about one chunk of keys, in an order that nobody tells.
struct Log<'a> {
    mask: &'a Mask,
    query: &'a AuditQuery,
    chunk: Chunk,
    malformed: u64,
}

impl List for Log<'_> {
    type Item = LogItem;

    const MOST_PER_PAGE: u32 = 100;
    const IS_OF_KEYS: bool = false;
    // Whatever it refuses, it is not worth more requests.
    const TRIES_SMALLER_PAGES: bool = false;
    const MOST_PAGES: u64 = MOST_PAGES;

    fn url(&self, endpoints: &Endpoints, limit: Option<u32>, after: Option<&str>) -> Option<Url> {
        Some(endpoints.audit_log_url(&self.chunk.parameters, limit, after))
    }

    fn subject(&self, page: u64) -> Subject {
        Subject::AuditLog(page)
    }

    fn parse(&mut self, body: &Body) -> Result<Page<LogItem>, Malformed> {
        parse_page(body, |item| Ok(self.read(&item)))
    }

    fn place(&self, item: &LogItem) -> Item {
        (Arc::clone(&item.id), None)
    }

    fn warnings(self) -> Warnings {
        if self.malformed > 0 {
            tracing::debug!("left out {} entries of the audit log that are none", self.malformed);
        }
        Warnings::default()
    }
}

impl Log<'_> {
    fn read(&mut self, item: &Value) -> Option<LogItem> {
        let Some((members, id)) = item
            .as_object()
            .and_then(|members| Some((members, Arc::from(read_id(members, self.mask).ok()?))))
        else {
            self.malformed += 1;
            return None;
        };
        let entry = self.read_entry(members, &id);
        self.malformed += u64::from(entry.is_none());
        let entry = entry.filter(|entry| self.is_asked_for(entry));
        Some(LogItem { id, entry })
    }

    fn is_asked_for(&self, entry: &AuditEntry) -> bool {
        let AuditQuery { actions, from, until, .. } = self.query;
        self.chunk.keys.contains(&entry.key_id)
            && actions.contains(&entry.action)
            && (*from..=*until).contains(&entry.happened_at)
    }

    /// The entry, if it is one about a key.
    fn read_entry(&self, members: &Map<String, Value>, id: &Arc<str>) -> Option<AuditEntry> {
        let kind = members.get("type")?.as_str()?;
        let action = KeyAction::ALL.into_iter().find(|action| action.event_type() == kind)?;
        let details = members.get(kind)?.as_object()?;
        let payload = match action {
            KeyAction::Created => details.get("data"),
            KeyAction::Updated => details.get("changes_requested"),
            KeyAction::Deleted => None,
        };
        Some(AuditEntry {
            log_id: Arc::clone(id),
            action,
            key_id: KeyId::new(details.get("id")?.as_str()?)?,
            happened_at: parse_time(members.get("effective_at")?)?,
            actor: members.get("actor").map(|actor| self.read_actor(actor)).unwrap_or_default(),
            scopes: payload.and_then(|payload| self.read_scopes(payload.get("scopes")?)),
        })
    }

    fn read_actor(&self, actor: &Value) -> Actor {
        let text = |value: Option<&Value>| self.read_text(value?);
        let kind = text(actor.get("type"));
        // Of an actor of a kind that nobody knows yet, what is where it always was.
        let (session, api_key) = match kind.as_deref() {
            Some("session") => (actor.get("session"), None),
            Some("api_key") => (None, actor.get("api_key")),
            _ => (actor.get("session"), actor.get("api_key")),
        };
        let either_of = |pointer: &str, most| {
            let found = [session, api_key].into_iter().flatten();
            let mut found = found.filter_map(|value| value.pointer(pointer));
            found.find_map(|value| self.read_short(value, most))
        };
        let either = |pointer: &str| either_of(pointer, MOST_OF_A_TEXT);
        Actor {
            user_id: either("/user/id"),
            email: either_of("/user/email", MOST_OF_AN_EMAIL),
            key_id: text(api_key.and_then(|key| key.get("id"))),
            service_account_id: either("/service_account/id"),
            ip_address: either("/ip_address"),
            kind,
        }
    }

    fn read_scopes(&self, scopes: &Value) -> Option<Vec<String>> {
        let scopes = scopes.as_array()?.iter();
        scopes.map(|scope| self.read_text(scope).map(|text| text.as_ref().to_owned())).collect()
    }

    /// A text that says something, without secrets.
    fn read_text(&self, value: &Value) -> Option<Arc<str>> {
        self.read_short(value, MOST_OF_A_TEXT)
    }

    /// At most so many characters of it, after which `…` stands for the rest.
    fn read_short(&self, value: &Value, most: usize) -> Option<Arc<str>> {
        let text = value.as_str().filter(|text| !text.is_empty())?;
        let text: Arc<str> = self.mask.masked(text).map_or_else(|| Arc::from(text), Arc::from);
        match text.char_indices().nth(most) {
            Some((end, _)) => Some(Arc::from(format!("{}…", &text[..end]))),
            None => Some(text),
        }
    }
}

#[cfg(test)]
#[path = "audit_log_tests.rs"]
mod tests;
