//! The simulated organization itself: what it holds, who may ask it, and how it lists.

use std::fmt;
use std::sync::Arc;

use super::access::{Access, Area, Credential};
use super::audit_log::{AuditLog, AuditLogging, AuditWriting};
use super::generate::{self, KeyDraft};
use super::keys::Record;
use super::projects::Projects;
use super::request::{ApiRequest, Endpoint};
use super::rows::Rows;

/// When a generated organization's life stands: 2026-11-01T00:00:00Z.
pub const DEFAULT_NOW: i64 = 1_793_491_200;

/// What `after` answers once the key that it names is gone. Nobody knows what the real API does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VanishedCursor {
    /// 404 in the API's error envelope.
    #[default]
    NotFound404,
    /// 400 in the API's error envelope.
    BadRequest400,
    /// 200 with no data and `has_more: false`, as if the list ended there.
    EmptyPage,
    /// As if no cursor had been sent.
    FromTheBeginning,
    /// The list goes on from where the key was; an id that never existed is not found.
    Continues,
}

/// What a `limit` above the maximum answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AboveMaxLimit {
    /// 400 in the API's error envelope, with `param: "limit"`.
    #[default]
    Refuse,
    /// A page of the maximum.
    Clamp,
}

/// How the organization pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paging {
    /// Keys on a page where no `limit` is sent.
    pub default_limit: usize,
    /// The highest `limit`.
    pub max_limit: usize,
    /// What a higher one answers.
    pub above_max: AboveMaxLimit,
    /// What the cursor of a key that is gone answers.
    pub vanished_cursor: VanishedCursor,
}

impl Default for Paging {
    fn default() -> Self {
        Self {
            default_limit: 20,
            max_limit: 100,
            above_max: AboveMaxLimit::default(),
            vanished_cursor: VanishedCursor::default(),
        }
    }
}

/// An organization with its keys, its credentials and its own time.
///
/// Two organizations made from the same seed and put through the same steps are the same.
#[derive(Clone)]
pub struct Organization {
    /// How lists are cut into pages.
    pub paging: Paging,
    /// Whether being asked moves `last_used_at` of the asking credential's own key.
    pub records_own_use: bool,
    /// Whether an audit log is kept.
    pub audit_logging: AuditLogging,
    /// How its entries are written.
    pub audit_writing: AuditWriting,
    /// The admin listing, mislabelled rows included.
    pub(super) admin: Rows,
    pub(super) projects: Projects,
    pub(super) audit: AuditLog,
    pub(super) credentials: Vec<Credential>,
    pub(super) owners: Vec<Arc<str>>,
    pub(super) rng: fastrand::Rng,
    pub(super) tick: u64,
    pub(super) now: i64,
    header: Option<String>,
}

impl fmt::Debug for Organization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Organization")
            .field("id", &self.header)
            .field("keys", &self.admin.table.len())
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

impl Organization {
    /// An organization of `keys` keys. One of them, if there are any, is the key of the credential
    /// that [`Organization::credential`] gives.
    #[must_use]
    pub fn generate(seed: u64, keys: usize) -> Self {
        let mut organization = Self::without_keys(seed);
        organization.populate(keys);
        organization
    }

    fn without_keys(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let header = format!("org-{}", generate::alphanumeric(&mut rng, 24));
        let secret = format!("sk-admin-{}", generate::alphanumeric(&mut rng, 48));
        Self {
            paging: Paging::default(),
            records_own_use: true,
            audit_logging: AuditLogging::default(),
            audit_writing: AuditWriting::default(),
            admin: Rows::default(),
            projects: Projects::default(),
            audit: AuditLog::new(seed),
            credentials: vec![Credential {
                secret,
                access: Access::Admin,
                key_id: None,
                refused: Vec::new(),
            }],
            owners: Vec::new(),
            rng,
            tick: 0,
            now: DEFAULT_NOW,
            header: Some(header),
        }
    }

    fn populate(&mut self, keys: usize) {
        self.owners = generate::owners(&mut self.rng, (keys / 8).clamp(6, 2_000), self.now);
        let own_place = if keys > 0 { self.rng.usize(..keys) } else { 0 };
        self.insert_old(keys, Some(own_place));
    }

    /// Inserts keys of the three years before now; the one at a place is the credential's own.
    fn insert_old(&mut self, keys: usize, own_place: Option<usize>) {
        let own = generate::redacted(&self.credentials[0].secret);
        self.admin.table.reserve(keys);
        for (place, created_at) in
            generate::creation_times(&mut self.rng, keys, self.now).into_iter().enumerate()
        {
            let mut draft = self.draft(created_at);
            if Some(place) == own_place {
                draft.name = Some("keydrift".to_owned());
                draft.redacted_value.clone_from(&own);
                draft.expires_at = None;
                draft.project_key = false;
                self.credentials[0].key_id = Some(Arc::from(draft.id.as_str()));
            }
            self.insert_draft(&draft);
        }
    }

    /// Adds so many keys that were made over the three years before now, of more owners the more they are.
    pub fn add_old(&mut self, keys: usize) {
        self.tick += 1;
        let more = (keys / 8).min(2_000);
        let owners = generate::owners(&mut self.rng, more, self.now);
        self.owners.extend(owners);
        self.insert_old(keys, None);
    }

    /// A random key with an id that was never used before.
    pub(super) fn draft(&mut self, created_at: i64) -> KeyDraft {
        loop {
            let mut draft = KeyDraft::random(&mut self.rng, created_at, self.now);
            // Only one key may look like the credential's own.
            let own = generate::redacted(&self.credentials[0].secret);
            if draft.redacted_value == own {
                draft.redacted_value = format!("{}{}", &own[..own.len() - 1], '-');
            }
            if !self.admin.knows(&draft.id) && self.projects.project_of(&draft.id).is_none() {
                return draft;
            }
        }
    }

    /// Adds the key with an owner drawn at random.
    pub(super) fn insert_draft(&mut self, draft: &KeyDraft) {
        let owner = self.draw_owner(draft.project_key);
        let id = Arc::from(draft.id.as_str());
        let record = Record::sharing_owner(id, draft.to_json(), owner, self.tick);
        self.admin.table.insert(draft.created_at, record);
    }

    /// Mislabelled project keys belong to service accounts, all others to anyone.
    fn draw_owner(&mut self, service_account: bool) -> Arc<str> {
        let mut at = self.rng.usize(..self.owners.len());
        if service_account {
            at = (at | 1).min(self.owners.len() - 1);
        }
        Arc::clone(&self.owners[at])
    }

    /// The organization's present, in Unix seconds.
    #[must_use]
    pub fn now(&self) -> i64 {
        self.now
    }

    /// Sets the organization's present. It may also go back.
    pub fn set_now(&mut self, now: i64) {
        self.now = now;
    }

    /// Moves the organization's present forward.
    pub fn advance(&mut self, seconds: i64) {
        self.now = self.now.saturating_add(seconds);
    }

    /// What the `openai-organization` header says, if it is sent.
    #[must_use]
    pub fn organization_id(&self) -> Option<&str> {
        self.header.as_deref()
    }

    /// Changes what the `openai-organization` header says; `None` leaves it out.
    pub fn set_organization_id(&mut self, id: Option<&str>) {
        self.header = id.map(str::to_owned);
    }

    /// The secret that a generated organization accepts from the start.
    #[must_use]
    pub fn credential(&self) -> &str {
        &self.credentials[0].secret
    }

    /// Makes a secret known, or changes what a known one opens.
    pub fn set_access(&mut self, secret: &str, access: Access) {
        match self.credentials.iter_mut().find(|known| known.secret == secret) {
            Some(known) => known.access = access,
            None => self.credentials.push(Credential {
                secret: secret.to_owned(),
                access,
                key_id: None,
                refused: Vec::new(),
            }),
        }
    }

    /// Refuses a known secret this part of the API with the status (401 and 403 are both seen), as
    /// for scopes that it lacks, or no more.
    pub fn refuse(&mut self, secret: &str, area: Area, status: Option<u16>) {
        if let Some(known) = self.credentials.iter_mut().find(|known| known.secret == secret) {
            known.refused.retain(|(refused, _)| *refused != area);
            known.refused.extend(status.map(|status| (area, status)));
        }
    }

    /// The listed key that belongs to a secret, if the organization lists it.
    #[must_use]
    pub fn own_key(&self, secret: &str) -> Option<&str> {
        self.find_credential(secret)?.key_id.as_deref()
    }

    pub(super) fn find_credential(&self, secret: &str) -> Option<&Credential> {
        self.credentials.iter().find(|known| known.secret == secret)
    }

    /// A request that is let in is a use of its credential's own key.
    pub(super) fn record_use(&mut self, request: &ApiRequest) {
        if request.endpoint == Endpoint::AuditLogs {
            self.audit.asked += 1;
        }
        if !self.records_own_use {
            return;
        }
        let known = request.bearer.as_deref().and_then(|secret| self.find_credential(secret));
        let known = known.filter(|known| known.access == Access::Admin);
        if let Some(id) = known.and_then(|known| known.key_id.clone()) {
            self.touch(&id);
        }
    }

    pub(super) fn is_own_key(&self, id: &str) -> bool {
        self.credentials.iter().any(|known| known.key_id.as_deref() == Some(id))
    }
}
