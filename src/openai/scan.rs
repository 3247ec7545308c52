//! The scan: the complete listing of admin keys, or the reason why there is none.

use url::Url;

use super::address::Endpoints;
use super::error::Error;
use super::fields::Warnings;
use super::listing::List;
use super::session::Session;
use super::subject::Subject;
use super::walk::Item;
use super::wire::{Body, Malformed, Page, PageParser};
use crate::inventory::Sighting;

/// What a complete listing found, beside the items that it handed over.
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
    /// Lists every key, page by page: the reference.
    ///
    /// What it promises: every key that existed from its first request to its last is handed over, and
    /// none that existed at no moment of it. Only `Ok` is a scan; keys handed over before an error are
    /// not one.
    pub async fn scan(&self, on_page: &mut OnPage<'_>) -> Result<Scan, Error> {
        self.list(self.admin_keys(), on_page).await
    }

    pub(super) fn admin_keys(&self) -> AdminKeys<'_> {
        AdminKeys { parser: PageParser::new(&self.client.mask, None) }
    }
}

/// The listing of admin keys, oldest first.
pub(super) struct AdminKeys<'a> {
    parser: PageParser<'a>,
}

impl List for AdminKeys<'_> {
    type Item = Sighting;

    const MOST_PER_PAGE: u32 = u32::MAX;
    const IS_OF_KEYS: bool = true;

    fn url(&self, endpoints: &Endpoints, limit: Option<u32>, after: Option<&str>) -> Option<Url> {
        Some(endpoints.list_url(limit, after))
    }

    fn subject(&self, page: u64) -> Subject {
        Subject::Page(page)
    }

    fn parse(&mut self, body: &Body) -> Result<Page<Sighting>, Malformed> {
        self.parser.parse(body)
    }

    fn place(&self, seen: &Sighting) -> Item {
        (seen.key.id.clone().into(), seen.key.created_at)
    }

    fn warnings(self) -> Warnings {
        self.parser.warnings
    }
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
