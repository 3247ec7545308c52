//! A whole listing of anything: its pages, first to last, or the reason why there is none.

use std::sync::Arc;

use tokio::time::Instant;
use tracing::instrument;
use url::Url;

use super::address::Endpoints;
use super::client::{Answer, Found, Refusal};
use super::error::Error;
use super::fields::Warnings;
use super::scan::{Scan, ScanProgress};
use super::session::Session;
use super::subject::{Origin, Subject};
use super::walk::{Item, MAX_ITEMS, Stuck, Verdict, Walk};
use super::wire::{Body, Malformed, Page};

/// What is tried one after the other where the API refuses the page size; then none is sent.
const SMALLER_PAGES: [u32; 2] = [50, 20];

/// A list of the API: where its pages are, and how they are read.
pub(super) trait List: Send {
    type Item: Send;

    /// The most items that a page may hold, whatever is configured.
    const MOST_PER_PAGE: u32;
    /// Where a page is that no list of its kind reaches.
    const MOST_PAGES: u64 = u64::MAX;
    /// Whether its pages count as pages of keys.
    const IS_OF_KEYS: bool;
    /// Whether a first page that is refused is asked for again, smaller.
    const TRIES_SMALLER_PAGES: bool = true;

    /// The page of at most `limit` items after `after`, if that can be written as a URL.
    fn url(&self, endpoints: &Endpoints, limit: Option<u32>, after: Option<&str>) -> Option<Url>;

    /// The page with this number.
    fn subject(&self, page: u64) -> Subject;

    fn parse(&mut self, body: &Body) -> Result<Page<Self::Item>, Malformed>;

    /// What the walk through the pages has to know. The time only where the API promises to list the
    /// oldest first.
    fn place(&self, item: &Self::Item) -> Item;

    /// What came that should not have.
    fn warnings(self) -> Warnings;
}

/// Takes the new items of each page as it comes, in the API's order. Each item comes once.
pub(super) type OnItems<'a, T> = dyn FnMut(Vec<T>, ScanProgress) + Send + 'a;

impl Session {
    /// Lists everything in `list`. Only `Ok` is a listing; items handed over before an error are not one.
    pub(super) async fn list<L: List>(
        &self,
        list: L,
        on_items: &mut OnItems<'_, L::Item>,
    ) -> Result<Scan, Error> {
        let mut listing = Listing::new(self, list);
        self.list_rest(&mut listing, on_items).await?;
        Ok(listing.conclude())
    }

    /// Lists what a listing has not come to yet, page by page.
    pub(super) async fn list_rest<L: List>(
        &self,
        listing: &mut Listing<'_, L>,
        on_items: &mut OnItems<'_, L::Item>,
    ) -> Result<(), Error> {
        loop {
            let subject = listing.list.subject(listing.pages + 1);
            if listing.pages == L::MOST_PAGES {
                let at = Origin::new(&subject, None);
                return Err(Error::TooManyPages { at, limit: L::MOST_PAGES });
            }
            let end = match self.list_page(listing, &subject).await? {
                Answer::Found(found) => listing.take(found, &subject, on_items)?,
                Answer::Refused(refusal) => {
                    listing.take_refusal(refusal, &subject)?;
                    false
                }
            };
            if end {
                return Ok(());
            }
        }
    }

    #[instrument(name = "openai.list_page", level = "debug", skip_all, fields(page.index = listing.pages + 1))]
    pub(super) async fn list_page<L: List>(
        &self,
        listing: &Listing<'_, L>,
        subject: &Subject,
    ) -> Result<Answer, Error> {
        let started = Instant::now();
        let after = listing.walk.cursor();
        let url = listing.list.url(&self.client.endpoints, listing.limit, after);
        let url = url.ok_or_else(|| Error::InvalidRequest { at: Origin::new(subject, None) })?;
        let answer = self.fetch(url, subject).await?;
        let (status, keys, request_id) = match &answer {
            Answer::Found(found) => {
                let counted = tracing::enabled!(tracing::Level::DEBUG);
                let items = counted.then(|| found.body.count_items()).flatten();
                (200, items, &found.request_id)
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

/// A listing under way.
pub(super) struct Listing<'a, L: List> {
    session: &'a Session,
    pub(super) list: L,
    pub(super) walk: Walk,
    pub(super) pages: u64,
    /// Items handed over that `walk` has not seen.
    pub(super) others: usize,
    /// The page size that is asked for.
    pub(super) limit: Option<u32>,
    /// The first refusal of a page size.
    limit_refused: Option<Error>,
    pub(super) organization: Option<String>,
}

/// A page that was read.
pub(super) struct Read<T> {
    pub(super) items: Vec<T>,
    pub(super) places: Vec<Item>,
    pub(super) has_more: Option<bool>,
    pub(super) request_id: Option<String>,
}

impl<'a, L: List> Listing<'a, L> {
    pub(super) fn new(session: &'a Session, list: L) -> Self {
        let page_size = session.client.options.page_size.min(L::MOST_PER_PAGE);
        Self {
            session,
            list,
            walk: Walk::default(),
            pages: 0,
            others: 0,
            limit: (page_size > 0).then_some(page_size),
            limit_refused: None,
            organization: None,
        }
    }

    /// Reads a page.
    pub(super) fn read(&mut self, found: Found, subject: &Subject) -> Result<Read<L::Item>, Error> {
        let request_id = found.request_id;
        let at = || Origin::new(subject, request_id.as_deref());
        self.check_organization(found.organization, &at)?;
        let Page { items, has_more } =
            self.list.parse(&found.body).map_err(|malformed| malformed.explain(at()))?;
        self.pages += 1;
        if L::IS_OF_KEYS {
            self.session.count_page();
        }
        let places = items.iter().map(|item| self.list.place(item)).collect();
        Ok(Read { items, places, has_more, request_id })
    }

    /// Reads a page and hands over its new items. Tells whether it is the last.
    fn take(
        &mut self,
        found: Found,
        subject: &Subject,
        on_items: &mut OnItems<'_, L::Item>,
    ) -> Result<bool, Error> {
        let read = self.read(found, subject)?;
        self.take_read(read, subject, on_items)
    }

    /// The same with a page that was read.
    pub(super) fn take_read(
        &mut self,
        read: Read<L::Item>,
        subject: &Subject,
        on_items: &mut OnItems<'_, L::Item>,
    ) -> Result<bool, Error> {
        let Read { items, places, has_more, request_id } = read;
        let at = || Origin::new(subject, request_id.as_deref());
        let cursor = self.walk.cursor().map(Arc::from);
        let verdict = self.walk.accept(&places, has_more);
        match verdict.map_err(|stuck| explain_stuck(stuck, at(), cursor))? {
            Verdict::Taken { fresh, end } => {
                let new =
                    items.into_iter().zip(fresh).filter_map(|(item, new)| new.then_some(item));
                let progress = ScanProgress { pages: self.pages, keys: self.keys() };
                on_items(new.collect(), progress);
                Ok(end)
            }
            Verdict::SteppedBack(lost) => {
                if let Some(lost) = lost {
                    tracing::warn!(
                        page.index = self.pages,
                        http.request_id = request_id.as_deref(),
                        "lost the place in the list: {}; going back",
                        lost.describe(subject),
                    );
                }
                Ok(false)
            }
        }
    }

    /// How many items were handed over.
    pub(super) fn keys(&self) -> usize {
        self.walk.len() + self.others
    }

    /// Goes on after a refusal, if it was the cursor or the page size that was refused.
    pub(super) fn take_refusal(
        &mut self,
        refusal: Refusal,
        subject: &Subject,
    ) -> Result<(), Error> {
        let status = refusal.status;
        if let Some(cursor) = self.walk.cursor().map(Arc::from) {
            if !is_about_cursor(&refusal) {
                return Err(self.session.explain_refusal(refusal, subject));
            }
            let at = Origin::new(subject, refusal.request_id.as_deref());
            let verdict = self.walk.refuse(status);
            verdict.map_err(|stuck| explain_stuck(stuck, at, Some(cursor)))?;
            tracing::warn!(
                page.index = self.pages + 1,
                http.status = status,
                http.request_id = refusal.request_id.as_deref(),
                "the cursor was refused, as if its {} were gone; going back",
                subject.item(),
            );
            return Ok(());
        }
        let about_request =
            self.pages == 0 && matches!(status, 400 | 422) && refusal.error.scopes.is_empty();
        let about_filter = about_request && refusal.error.is_about_access_filter;
        let error = self.session.explain_refusal(refusal, subject);
        match self.limit {
            Some(limit) if about_request && !about_filter && L::TRIES_SMALLER_PAGES => {
                self.limit = SMALLER_PAGES.into_iter().find(|smaller| *smaller < limit);
                self.limit_refused.get_or_insert(error);
                tracing::warn!(
                    http.status = status,
                    "the first page with limit {limit} was refused; trying {}",
                    self.limit.map_or("without one".to_owned(), |limit| format!("limit {limit}")),
                );
                Ok(())
            }
            _ if about_filter => Err(blame_filter(error)),
            _ if about_request => Err(blame_filter(self.limit_refused.take().unwrap_or(error))),
            _ => Err(error),
        }
    }

    fn check_organization(
        &mut self,
        found: Option<String>,
        at: &dyn Fn() -> Box<Origin>,
    ) -> Result<(), Error> {
        let Some(found) = found else { return Ok(()) };
        if let Some(first) = self.session.other_organization(&found) {
            return Err(Error::MixedOrganizations { at: at(), first, found });
        }
        self.organization = Some(found);
        Ok(())
    }

    pub(super) fn conclude(self) -> Scan {
        Scan {
            keys: self.keys(),
            pages: self.pages,
            shifts: self.walk.shifts,
            lost_cursors: self.walk.lost_cursors,
            restarts: self.walk.restarts,
            organization: self.organization,
            warnings: self.list.warnings(),
        }
    }
}

/// Whether a request with a cursor may have been refused for it.
pub(super) fn is_about_cursor(refusal: &Refusal) -> bool {
    matches!(refusal.status, 400 | 404 | 410 | 422) && refusal.error.scopes.is_empty()
}

pub(super) fn explain_stuck(stuck: Stuck, at: Box<Origin>, cursor: Option<Arc<str>>) -> Error {
    match stuck {
        Stuck::Lost(lost) => Error::LostCursor { at, cursor, lost },
        Stuck::WrongOrder => Error::WrongOrder { at },
        Stuck::TooManyItems => Error::TooManyItems { at, limit: MAX_ITEMS },
    }
}

/// A first page that is refused for what was asked. Of the keys of a project, the parameter without which
/// they may not be all is never left out: whoever reads the error must know about it.
fn blame_filter(error: Error) -> Error {
    match error {
        Error::Refused { at, status, message }
            if matches!(at.subject, Subject::ProjectKeys { .. }) =>
        {
            Error::AccessFilterRefused { at, status, message }
        }
        other => other,
    }
}
