//! A whole scan: the complete listing, first page to last, or the reason why there is none.

use tokio::time::Instant;
use tracing::instrument;

use super::client::{Answer, Found, Refusal};
use super::error::{Error, Origin, Subject};
use super::fields::Warnings;
use super::session::Session;
use super::walk::{Item, MAX_KEYS, Stuck, Verdict, Walk};
use super::wire::{Malformed, Page, PageParser};
use crate::inventory::{KeyId, Sighting};

/// What is tried one after the other where the API refuses the page size; then none is sent.
const SMALLER_PAGES: [u32; 2] = [50, 20];

/// What a complete scan found, beside the keys that it handed over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scan {
    /// How many keys were handed over.
    pub keys: usize,
    /// How many pages were read, those of recoveries included.
    pub pages: u64,
    /// Pages that held both seen and new keys: the list was shifting.
    pub shifts: u64,
    /// How often the place in the list was lost, and found again.
    pub lost_cursors: u64,
    /// How often that took beginning again.
    pub restarts: u32,
    /// The organization that the answers say they come from.
    pub organization: Option<String>,
    /// What the API sent that it should not have.
    pub warnings: Warnings,
}

/// How far a scan has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScanProgress {
    /// Pages read so far.
    pub pages: u64,
    /// Keys handed over so far, those of this page included.
    pub keys: usize,
}

/// Takes the new keys of each page as it comes, in the API's order. Each key comes once.
pub type OnPage<'a> = dyn FnMut(Vec<Sighting>, ScanProgress) + Send + 'a;

impl Session {
    /// Lists every key.
    ///
    /// What it promises: every key that existed from its first request to its last is handed over, and
    /// none that existed at no moment of it. Only `Ok` is a scan; keys handed over before an error are
    /// not one.
    pub async fn scan(&self, on_page: &mut OnPage<'_>) -> Result<Scan, Error> {
        let mut listing = Listing::new(self);
        loop {
            let cursor = listing.walk.cursor().cloned();
            let subject = Subject::Page(listing.pages + 1);
            let end = match self.list_page(&listing, cursor.as_ref(), &subject).await? {
                Answer::Found(found) => listing.take(found, &subject, on_page)?,
                Answer::Refused(refusal) => {
                    listing.take_refusal(refusal, &subject)?;
                    false
                }
            };
            if end {
                return Ok(listing.conclude());
            }
        }
    }

    #[instrument(name = "openai.list_page", level = "debug", skip_all, fields(page.index = listing.pages + 1))]
    async fn list_page(
        &self,
        listing: &Listing<'_>,
        cursor: Option<&KeyId>,
        subject: &Subject,
    ) -> Result<Answer, Error> {
        let started = Instant::now();
        let url = self.client.endpoints.list_url(listing.limit, cursor);
        let answer = self.fetch(url, subject).await?;
        let (status, keys, request_id) = match &answer {
            Answer::Found(found) => {
                let items = found.json.get("data").and_then(|data| data.as_array());
                (200, items.map(Vec::len), &found.request_id)
            }
            Answer::Refused(refusal) => (refusal.status, None, &refusal.request_id),
        };
        tracing::debug!(
            page.index = listing.pages + 1,
            page.keys = keys,
            http.status = status,
            http.request_id = request_id.as_deref(),
            duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            "{subject} answered",
        );
        Ok(answer)
    }
}

/// A scan under way.
struct Listing<'a> {
    session: &'a Session,
    walk: Walk,
    parser: PageParser<'a>,
    pages: u64,
    /// The page size that is asked for.
    limit: Option<u32>,
    /// The first refusal of a page size.
    limit_refused: Option<Error>,
    organization: Option<String>,
}

impl<'a> Listing<'a> {
    fn new(session: &'a Session) -> Self {
        let page_size = session.client.options.page_size;
        Self {
            session,
            walk: Walk::default(),
            parser: PageParser::new(&session.client.mask),
            pages: 0,
            limit: (page_size > 0).then_some(page_size),
            limit_refused: None,
            organization: None,
        }
    }

    /// Reads a page and hands over its new keys. Tells whether it is the last.
    fn take(
        &mut self,
        found: Found,
        subject: &Subject,
        on_page: &mut OnPage<'_>,
    ) -> Result<bool, Error> {
        let request_id = found.request_id;
        let at = || Origin::new(subject, request_id.as_deref());
        self.check_organization(found.organization, &at)?;
        let Page { keys, has_more } =
            self.parser.parse(found.json).map_err(|malformed| match malformed {
                Malformed::Page(problem) => Error::WrongPage { at: at(), problem },
                Malformed::Item(item, problem) => Error::WrongItem { at: at(), item, problem },
            })?;
        self.pages += 1;
        self.session.count_page();
        let items: Vec<Item> =
            keys.iter().map(|seen| (seen.key.id.clone(), seen.key.created_at)).collect();
        let cursor = self.walk.cursor().cloned();
        let verdict = self.walk.accept(&items, has_more);
        match verdict.map_err(|stuck| explain_stuck(stuck, at(), cursor))? {
            Verdict::Taken { fresh, end } => {
                let new = keys.into_iter().zip(fresh).filter_map(|(key, new)| new.then_some(key));
                let progress = ScanProgress { pages: self.pages, keys: self.walk.len() };
                on_page(new.collect(), progress);
                Ok(end)
            }
            Verdict::SteppedBack(lost) => {
                if let Some(lost) = lost {
                    tracing::warn!(
                        page.index = self.pages,
                        http.request_id = request_id.as_deref(),
                        "lost the place in the list: {lost}; going back",
                    );
                }
                Ok(false)
            }
        }
    }

    /// Goes on after a refusal, if it was the cursor or the page size that was refused.
    fn take_refusal(&mut self, refusal: Refusal, subject: &Subject) -> Result<(), Error> {
        let status = refusal.status;
        if let Some(cursor) = self.walk.cursor().cloned() {
            if !matches!(status, 400 | 404 | 410 | 422) || !refusal.error.scopes.is_empty() {
                return Err(self.session.explain_refusal(refusal, subject));
            }
            let at = Origin::new(subject, refusal.request_id.as_deref());
            let verdict = self.walk.refuse(status);
            verdict.map_err(|stuck| explain_stuck(stuck, at, Some(cursor)))?;
            tracing::warn!(
                page.index = self.pages + 1,
                http.status = status,
                http.request_id = refusal.request_id.as_deref(),
                "the cursor was refused, as if its key were gone; going back",
            );
            return Ok(());
        }
        let about_limit =
            self.pages == 0 && matches!(status, 400 | 422) && refusal.error.scopes.is_empty();
        let error = self.session.explain_refusal(refusal, subject);
        match self.limit {
            Some(limit) if about_limit => {
                self.limit = SMALLER_PAGES.into_iter().find(|smaller| *smaller < limit);
                self.limit_refused.get_or_insert(error);
                tracing::warn!(
                    http.status = status,
                    "the first page with limit {limit} was refused; trying {}",
                    self.limit.map_or("without one".to_owned(), |limit| format!("limit {limit}")),
                );
                Ok(())
            }
            _ if about_limit => Err(self.limit_refused.take().unwrap_or(error)),
            _ => Err(error),
        }
    }

    fn check_organization(
        &mut self,
        found: Option<String>,
        at: &dyn Fn() -> Box<Origin>,
    ) -> Result<(), Error> {
        match (&self.organization, found) {
            (Some(first), Some(found)) if *first != found => {
                Err(Error::MixedOrganizations { at: at(), first: first.clone(), found })
            }
            (None, found) => {
                self.organization = found;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn conclude(self) -> Scan {
        Scan {
            keys: self.walk.len(),
            pages: self.pages,
            shifts: self.walk.shifts,
            lost_cursors: self.walk.lost_cursors,
            restarts: self.walk.restarts,
            organization: self.organization,
            warnings: self.parser.warnings,
        }
    }
}

fn explain_stuck(stuck: Stuck, at: Box<Origin>, cursor: Option<KeyId>) -> Error {
    match stuck {
        Stuck::Lost(lost) => Error::LostCursor { at, cursor, lost },
        Stuck::WrongOrder => Error::WrongOrder { at },
        Stuck::TooManyKeys => Error::TooManyKeys { limit: MAX_KEYS },
    }
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
