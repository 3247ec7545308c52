//! The audit log as it is asked for: filtered, newest first, in pages.

use super::access;
use super::audit_log::{AuditEntry, AuditLogging};
use super::endpoints::{View, parse_boolean};
use super::listing::parse_limit;
use super::organization::Organization;
use super::reply::{Item, Page, Problem, Refusal};
use super::request::ApiRequest;

/// The types of events, those of tenants apart.
const EVENT_TYPES: [&str; 59] = [
    "api_key.created",
    "api_key.updated",
    "api_key.deleted",
    "certificate.created",
    "certificate.updated",
    "certificate.deleted",
    "certificates.activated",
    "certificates.deactivated",
    "checkpoint.permission.created",
    "checkpoint.permission.deleted",
    "external_key.registered",
    "external_key.removed",
    "group.created",
    "group.updated",
    "group.deleted",
    "invite.sent",
    "invite.accepted",
    "invite.deleted",
    "ip_allowlist.created",
    "ip_allowlist.updated",
    "ip_allowlist.deleted",
    "ip_allowlist.config.activated",
    "ip_allowlist.config.deactivated",
    "login.succeeded",
    "login.failed",
    "logout.succeeded",
    "logout.failed",
    "organization.updated",
    "project.created",
    "project.updated",
    "project.archived",
    "project.deleted",
    "rate_limit.updated",
    "rate_limit.deleted",
    "resource.deleted",
    "tunnel.created",
    "tunnel.updated",
    "tunnel.deleted",
    "workload_identity_provider.created",
    "workload_identity_provider.updated",
    "workload_identity_provider.deleted",
    "workload_identity_provider_mapping.created",
    "workload_identity_provider_mapping.updated",
    "workload_identity_provider_mapping.deleted",
    "role.created",
    "role.updated",
    "role.deleted",
    "role.assignment.created",
    "role.assignment.deleted",
    "role.bound_to_resource",
    "role.unbound_from_resource",
    "scim.enabled",
    "scim.disabled",
    "service_account.created",
    "service_account.updated",
    "service_account.deleted",
    "user.added",
    "user.updated",
    "user.deleted",
];
const TENANT: &str = "tenant.";
/// A server that ignores what it was asked for sends these as well.
const FOREIGN_TYPES: [&str; 2] = ["api_key.deleted", "login.succeeded"];

/// The page of the log that the request asks for.
pub(super) fn list(
    organization: &Organization,
    request: &ApiRequest,
    view: &View,
) -> Result<Page, Refusal> {
    if let AuditLogging::Refused { status } = organization.audit_logging {
        return Err(Refusal::bare(status, access::MISSING_AUDIT_SCOPES));
    }
    let limit = parse_limit(organization.paging, request.limit.as_deref())?;
    let filter = Filter::parse(request)?;
    let mut entries: Vec<&AuditEntry> = organization
        .visible_audit_entries()
        .filter(|entry| !view.hides(&entry.id))
        .filter(|entry| view.ignore_filters || filter.admits(entry))
        .collect();
    // Newest first; of one second, the one written last.
    entries.reverse();
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.effective_at));
    if view.descending {
        entries.reverse();
    }
    let mut page = cut(&entries, request, view, limit)?;
    if view.foreign_entries {
        for kind in FOREIGN_TYPES {
            let entry =
                Organization::foreign_entry(kind, "key_of_somebody_else", organization.now());
            page.items.insert(0, Item { id: None, json: entry.to_string() });
        }
    }
    Ok(page)
}

fn cut(
    entries: &[&AuditEntry],
    request: &ApiRequest,
    view: &View,
    limit: usize,
) -> Result<Page, Refusal> {
    let place = |name: &'static str, id: &str| {
        entries.iter().position(|entry| entry.id == id).ok_or_else(|| {
            let message = format!("No audit log found with ID '{id}'.");
            Refusal::new(404, &Problem::invalid_request(&message).param(name))
        })
    };
    let cursor = |name| request.parameter(name).filter(|id| !id.is_empty() && !view.ignore_cursor);
    let mut start = cursor("after").map_or(Ok(0), |id| place("after", &id).map(|at| at + 1))?;
    if start > 0 {
        start = start.saturating_sub(if view.repeat_page { limit } else { view.overlap });
    }
    start += view.skip_ahead;
    let mut end = start.saturating_add(limit).min(entries.len());
    let mut has_more = end < entries.len();
    if let Some(id) = cursor("before") {
        // The page that ends right before that entry.
        end = place("before", &id)?;
        let floor = start.min(end);
        start = end.saturating_sub(limit).max(floor);
        has_more = start > floor;
    }
    let shown = entries.get(start..end).unwrap_or_default();
    Ok(Page::new(shown.iter().copied().map(Item::from).collect(), has_more))
}

impl From<&AuditEntry> for Item {
    fn from(entry: &AuditEntry) -> Self {
        Self { id: Some(entry.id.as_str().into()), json: entry.json.to_string() }
    }
}

/// Which entries are asked for; an empty list asks for all.
struct Filter {
    projects: Vec<String>,
    types: Vec<String>,
    actors: Vec<String>,
    emails: Vec<String>,
    resources: Vec<String>,
    above: Option<i64>,
    from: Option<i64>,
    below: Option<i64>,
    until: Option<i64>,
}

impl Filter {
    fn parse(request: &ApiRequest) -> Result<Self, Refusal> {
        let types = request.parameters("event_types[]");
        check_types(&types, parse_boolean(request, "tenant_only")?)?;
        Ok(Self {
            projects: request.parameters("project_ids[]"),
            types,
            actors: request.parameters("actor_ids[]"),
            emails: request.parameters("actor_emails[]"),
            resources: request.parameters("resource_ids[]"),
            above: parse_time(request, "effective_at[gt]")?,
            from: parse_time(request, "effective_at[gte]")?,
            below: parse_time(request, "effective_at[lt]")?,
            until: parse_time(request, "effective_at[lte]")?,
        })
    }

    fn admits(&self, entry: &AuditEntry) -> bool {
        let among = |wanted: &[String], is: &[&str]| {
            wanted.is_empty() || wanted.iter().any(|wanted| is.contains(&wanted.as_str()))
        };
        let at = entry.effective_at;
        among(&self.projects, entry.project.as_deref().as_slice())
            && among(&self.types, &[&entry.kind])
            && among(&self.actors, &entry.actor.ids())
            && among(&self.emails, entry.actor.email().as_slice())
            && among(&self.resources, &[&entry.resource])
            && self.above.is_none_or(|time| at > time)
            && self.from.is_none_or(|time| at >= time)
            && self.below.is_none_or(|time| at < time)
            && self.until.is_none_or(|time| at <= time)
    }
}

fn check_types(types: &[String], tenant_only: bool) -> Result<(), Refusal> {
    let refused = |text: &str| {
        if text.starts_with(TENANT) { !tenant_only } else { !EVENT_TYPES.contains(&text) }
    };
    match types.iter().find(|text| refused(text)) {
        None => Ok(()),
        Some(text) => {
            let message =
                format!("Invalid value: '{text}' is no event type that can be asked for.");
            Err(Refusal::new(400, &Problem::invalid_request(&message).param("event_types")))
        }
    }
}

fn parse_time(request: &ApiRequest, name: &str) -> Result<Option<i64>, Refusal> {
    let Some(text) = request.parameter(name) else {
        return Ok(None);
    };
    text.parse().map(Some).map_err(|_| {
        let message = format!("Invalid type for '{name}': expected an integer.");
        Refusal::new(400, &Problem::invalid_request(&message).param(name))
    })
}
