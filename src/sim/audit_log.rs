//! The audit log: who did what to keys and projects, as far as the organization keeps it.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::generate;
use super::keys::parse_object;
use super::organization::Organization;

/// Whether the organization keeps an audit log. Without one, both answers are seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AuditLogging {
    /// Off: an empty list.
    #[default]
    Empty,
    /// Off: this status.
    Refused {
        /// The HTTP status of the refusal.
        status: u16,
    },
    /// On: what happens from then on is written.
    On,
}

/// When an entry shows in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AuditDelay {
    /// At once.
    #[default]
    None,
    /// So many seconds of the organization's time later.
    Seconds(i64),
    /// Once the log was asked for so many more times.
    Requests(u64),
}

/// How entries are written from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditWriting {
    /// When they show.
    pub delay: AuditDelay,
    /// So often, each time with an id of its own; 0 loses them.
    pub copies: usize,
    /// Whether there are any about admin keys.
    pub admin_keys: bool,
}

impl Default for AuditWriting {
    fn default() -> Self {
        Self { delay: AuditDelay::None, copies: 1, admin_keys: true }
    }
}

/// Who does it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// A person in front of a browser.
    Session {
        /// The user's id.
        user: String,
        /// The user's e-mail address.
        email: String,
        /// From where.
        ip_address: String,
    },
    /// A person's API key.
    UserKey {
        /// The tracking id of the key.
        key: String,
        /// The user's id.
        user: String,
        /// The user's e-mail address.
        email: String,
    },
    /// A service account's API key.
    ServiceAccountKey {
        /// The tracking id of the key.
        key: String,
        /// The service account's id.
        service_account: String,
    },
    /// Nobody that the log tells of: `actor` is null.
    Unknown,
}

impl Actor {
    fn to_json(&self) -> Value {
        match self {
            Self::Session { user, email, ip_address } => json!({
                "type": "session",
                "session": { "user": { "id": user, "email": email }, "ip_address": ip_address },
            }),
            Self::UserKey { key, user, email } => json!({
                "type": "api_key",
                "api_key": { "id": key, "type": "user", "user": { "id": user, "email": email } },
            }),
            Self::ServiceAccountKey { key, service_account } => json!({
                "type": "api_key",
                "api_key": {
                    "id": key,
                    "type": "service_account",
                    "service_account": { "id": service_account },
                },
            }),
            Self::Unknown => Value::Null,
        }
    }

    /// What `actor_ids[]` finds it by.
    pub(super) fn ids(&self) -> Vec<&str> {
        match self {
            Self::Session { user, .. } => vec![user],
            Self::UserKey { key, user, .. } => vec![key, user],
            Self::ServiceAccountKey { key, service_account } => vec![key, service_account],
            Self::Unknown => Vec::new(),
        }
    }

    pub(super) fn email(&self) -> Option<&str> {
        match self {
            Self::Session { email, .. } | Self::UserKey { email, .. } => Some(email),
            Self::ServiceAccountKey { .. } | Self::Unknown => None,
        }
    }
}

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// Its own id.
    pub id: String,
    /// Its type: `api_key.created`.
    pub kind: String,
    /// When it happened.
    pub effective_at: i64,
    /// What it happened to: a key, a project.
    pub resource: String,
    /// The project that it happened in.
    pub project: Option<String>,
    /// Who did it.
    pub actor: Actor,
    pub(super) json: Arc<str>,
    visible_at: i64,
    visible_from_request: u64,
}

/// The log, and the state that writing it needs.
#[derive(Clone)]
pub(super) struct AuditLog {
    pub(super) entries: Vec<AuditEntry>,
    /// How often it was asked for.
    pub(super) asked: u64,
    actor: Option<Actor>,
    rng: fastrand::Rng,
}

impl AuditLog {
    /// It draws from a source of its own: whether a log is kept changes nothing else.
    pub(super) fn new(seed: u64) -> Self {
        let rng = fastrand::Rng::with_seed(seed ^ 0x61_75_64_69_74);
        Self { entries: Vec::new(), asked: 0, actor: None, rng }
    }
}

impl Organization {
    /// The same organization with its audit logging turned on.
    #[must_use]
    pub fn with_audit_logs(mut self) -> Self {
        self.audit_logging = AuditLogging::On;
        self
    }

    /// Lets everything be done by this actor from now on, or by anyone drawn at random again.
    pub fn act_as(&mut self, actor: Option<Actor>) {
        self.audit.actor = actor;
    }

    /// Every entry that was written and not lost, in the order of writing, whether it shows
    /// already or not.
    #[must_use]
    pub fn audit_entries(&self) -> &[AuditEntry] {
        &self.audit.entries
    }

    /// Whether the log shows the entry at its next answer.
    #[must_use]
    pub fn shows(&self, entry: &AuditEntry) -> bool {
        entry.visible_at <= self.now && entry.visible_from_request <= self.audit.asked + 1
    }

    /// The ones that the answer being made shows.
    pub(super) fn visible_audit_entries(&self) -> impl Iterator<Item = &AuditEntry> {
        let (now, asked) = (self.now, self.audit.asked);
        self.audit
            .entries
            .iter()
            .filter(move |entry| entry.visible_at <= now && entry.visible_from_request <= asked)
    }

    /// Writes an entry of any type about anything, with these details.
    pub fn write_audit_entry(
        &mut self,
        kind: &str,
        resource: &str,
        project: Option<&str>,
        details: &Value,
    ) {
        if self.audit_logging != AuditLogging::On {
            return;
        }
        let actor = self.draw_actor();
        for _ in 0..self.audit_writing.copies {
            let entry = self.compose(kind, resource, project, details, actor.clone());
            self.audit.entries.push(entry);
        }
    }

    /// An entry about a resource that nobody asked for: of another key, or of another type.
    pub(super) fn foreign_entry(kind: &str, resource: &str, effective_at: i64) -> Value {
        json!({
            "id": format!("audit_log-foreign-{kind}"),
            "type": kind,
            "effective_at": effective_at,
            "actor": Actor::Session {
                user: "user-foreign".to_owned(),
                email: "foreign@example.com".to_owned(),
                ip_address: "203.0.113.250".to_owned(),
            }
            .to_json(),
            kind: { "id": resource },
        })
    }

    fn compose(
        &mut self,
        kind: &str,
        resource: &str,
        project: Option<&str>,
        details: &Value,
        actor: Actor,
    ) -> AuditEntry {
        let id = format!("audit_log-{}", generate::alphanumeric(&mut self.audit.rng, 24));
        let mut entry = Map::new();
        entry.insert("id".to_owned(), id.as_str().into());
        entry.insert("type".to_owned(), kind.into());
        entry.insert("effective_at".to_owned(), self.now.into());
        if let Some(project) = project {
            let name = self.project(project).and_then(|mut map| map.remove("name"));
            entry.insert("project".to_owned(), json!({ "id": project, "name": name }));
        }
        entry.insert("actor".to_owned(), actor.to_json());
        entry.insert(kind.to_owned(), details.clone());
        let (visible_at, visible_from_request) = match self.audit_writing.delay {
            AuditDelay::None => (i64::MIN, 0),
            AuditDelay::Seconds(seconds) => (self.now.saturating_add(seconds), 0),
            AuditDelay::Requests(requests) => (i64::MIN, self.audit.asked + requests + 1),
        };
        AuditEntry {
            id,
            kind: kind.to_owned(),
            effective_at: self.now,
            resource: resource.to_owned(),
            project: project.map(str::to_owned),
            actor,
            json: Value::Object(entry).to_string().into(),
            visible_at,
            visible_from_request,
        }
    }

    /// The one that was set, or an owner of keys: a person in front of a browser or with a key, or
    /// a service account.
    fn draw_actor(&mut self) -> Actor {
        if let Some(actor) = &self.audit.actor {
            return actor.clone();
        }
        let rng = &mut self.audit.rng;
        let owner = parse_object(&self.owners[rng.usize(..self.owners.len())]);
        let id = owner["id"].as_str().unwrap_or_default().to_owned();
        let key = format!("key_{}", generate::alphanumeric(rng, 24));
        if owner["type"] == "service_account" {
            return Actor::ServiceAccountKey { key, service_account: id };
        }
        let email = generate::email(owner["name"].as_str().unwrap_or_default());
        if rng.u8(..4) == 0 {
            return Actor::UserKey { key, user: id, email };
        }
        Actor::Session { user: id, email, ip_address: format!("198.51.100.{}", rng.u8(1..255)) }
    }

    pub(super) fn write_project_entry(&mut self, kind: &str, id: &str, details: &Value) {
        self.write_audit_entry(kind, id, Some(id), details);
    }

    pub(super) fn write_created(&mut self, id: &str) {
        let scopes = json!({ "scopes": ["api.model.request"] });
        self.write_key_entry("api_key.created", id, &json!({ "id": id, "data": scopes }));
    }

    pub(super) fn write_updated(&mut self, id: &str) {
        let scopes = json!({ "scopes": ["api.model.request", "api.model.read"] });
        self.write_key_entry(
            "api_key.updated",
            id,
            &json!({ "id": id, "changes_requested": scopes }),
        );
    }

    pub(super) fn write_deleted(&mut self, id: &str) {
        self.write_key_entry("api_key.deleted", id, &json!({ "id": id }));
    }

    fn write_key_entry(&mut self, kind: &str, id: &str, details: &Value) {
        let project = self.project_of(id).map(str::to_owned);
        if project.is_some() || self.audit_writing.admin_keys {
            self.write_audit_entry(kind, id, project.as_deref(), details);
        }
    }
}
