//! Trying what a credential opens: the first items of a list, and nothing more.

use url::Url;

use super::client::Answer;
use super::error::Error;
use super::fields::Warnings;
use super::projects::read_project;
use super::session::Session;
use super::subject::{Origin, Subject};
use super::wire::{Body, Malformed, Page, PageParser, parse_page, read_id};
use crate::inventory::{KeyAction, KeyId, Project};

const ONE: u32 = 1;

/// What asking for the first items of a list tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe<T> {
    /// The `openai-organization` header of the answer.
    pub organization: Option<String>,
    /// As many as were asked for, if there are as many.
    pub items: Vec<T>,
}

impl Session {
    /// Asks for the oldest admin key.
    pub async fn probe_admin_keys(&self) -> Result<Probe<KeyId>, Error> {
        let url = self.client.endpoints.list_url(Some(ONE), None);
        let read = |body: &Body| {
            let Page { items, has_more } = PageParser::new(&self.client.mask, None).parse(body)?;
            let items = items.into_iter().map(|seen| seen.key.id.clone()).collect();
            Ok(Page { items, has_more })
        };
        self.probe(url, Subject::Page(1), ONE, read).await
    }

    /// Asks for so many projects, archived ones included.
    pub async fn probe_projects(&self, limit: u32) -> Result<Probe<Project>, Error> {
        let url = self.client.endpoints.projects_url(Some(limit), None);
        let mut warnings = Warnings::default();
        let read = |body: &Body| {
            parse_page(body, |item| read_project(item, &self.client.mask, &mut warnings).map(Some))
        };
        self.probe(url, Subject::Projects(1), limit, read).await
    }

    /// Asks for one key of the project.
    pub async fn probe_project_keys(&self, project: &Project) -> Result<Probe<KeyId>, Error> {
        let subject = Subject::ProjectKeys { project: project.id.clone(), page: 1 };
        let url = self.client.endpoints.project_keys_url(&project.id, Some(ONE), None);
        let url = url.ok_or_else(|| Error::InvalidRequest { at: Origin::new(&subject, None) })?;
        let read = |body: &Body| {
            let mut parser = PageParser::new(&self.client.mask, Some(project));
            let Page { items, has_more } = parser.parse(body)?;
            let items = items.into_iter().map(|seen| seen.key.id.clone()).collect();
            Ok(Page { items, has_more })
        };
        self.probe(url, subject, ONE, read).await
    }

    /// Asks for the newest entry of the audit log about any key, and tells its id.
    pub async fn probe_audit_log(&self) -> Result<Probe<String>, Error> {
        let types =
            KeyAction::ALL.map(|action| format!("event_types%5B%5D={}", action.event_type()));
        let url = self.client.endpoints.audit_log_url(&types.join("&"), Some(ONE), None);
        let read = |body: &Body| {
            parse_page(body, |item| {
                let members = item.as_object().ok_or("it is not an object")?;
                read_id(members, &self.client.mask).map(|id| Some(id.to_owned()))
            })
        };
        self.probe(url, Subject::AuditLog(1), ONE, read).await
    }

    async fn probe<T>(
        &self,
        url: Url,
        subject: Subject,
        limit: u32,
        read: impl FnOnce(&Body) -> Result<Page<T>, Malformed>,
    ) -> Result<Probe<T>, Error> {
        let found = match self.fetch(url, &subject).await? {
            Answer::Found(found) => found,
            Answer::Refused(refusal) => return Err(self.explain_refusal(refusal, &subject)),
        };
        let at = || Origin::new(&subject, found.request_id.as_deref());
        let page = read(&found.body).map_err(|malformed| malformed.explain(at()))?;
        self.count_page();
        // A server may send more than was asked for.
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let items = page.items.into_iter().take(limit).collect();
        Ok(Probe { organization: found.organization, items })
    }
}

#[cfg(test)]
#[path = "probe_tests.rs"]
mod tests;
