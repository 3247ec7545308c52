//! What the credential of one organization opens.

use std::sync::Arc;
use std::time::Duration;

use super::row::{Check, Outcome, Row};
use crate::clock::Clock;
use crate::config::{OrganizationSettings, Settings};
use crate::inventory::{KeyId, Project};
use crate::openai::{self, Client, Error, Probe, Session};
use crate::output::duration;
use crate::secret::{self, Credential, CredentialSource};
use crate::store::Remembered;
use crate::sync;

/// A first failure may be chance; somebody is waiting.
const MAX_ATTEMPTS: u32 = 2;
const DEADLINE: Duration = Duration::from_mins(1);
/// So many projects are tried for one whose keys are listed.
const PROJECTS_TRIED: u32 = 3;
const TRY_LATER: &str = "try again later: the API has a bad time";
const NO_API: &str = "check the base URL: what answers there does not answer as the API does; if it is the API \
                      itself, look for a newer keydrift";
/// A clock that is off by more is told of, and by more than the second fails.
const SKEW_TOLD: u64 = 30;
const SKEW_MAX: u64 = 300;
/// What is tried after the credential.
const BY_THE_API: [Check; 6] = [
    Check::Permission,
    Check::AdminKeys,
    Check::ProjectKeys,
    Check::AuditLogs,
    Check::OrganizationId,
    Check::Clock,
];

/// An organization, and what is known of it.
pub(super) struct Target<'a> {
    pub(super) settings: &'a Settings,
    pub(super) organization: &'a OrganizationSettings,
    /// `None`: the database cannot tell.
    pub(super) remembered: Option<Remembered>,
}

type Probed<T> = Result<Probe<T>, Error>;

/// Tries all that needs the credential.
pub(super) async fn examine(target: &Target<'_>, clock: &Arc<dyn Clock>) -> Vec<Row> {
    let mut rows = Vec::new();
    match read_credential(target) {
        Err(error) => {
            rows.push(credential_failed(&error));
            rows.extend(
                BY_THE_API.map(|check| Row::skipped(check, "there is no credential to ask with")),
            );
        }
        Ok((source, credential)) => {
            rows.push(Row::ok(Check::Credential, format!("read from the {source}")));
            match client(target, &credential, clock) {
                Ok(client) => ask(target, &source, client, &mut rows).await,
                Err(error) => {
                    rows.push(failed(Check::AdminKeys, &error));
                    let rest = BY_THE_API.into_iter().filter(|check| *check != Check::AdminKeys);
                    rows.extend(rest.map(|check| Row::skipped(check, "the API cannot be asked")));
                }
            }
        }
    }
    let name = target.organization.name.as_str();
    rows.into_iter().map(|row| row.of(name)).collect()
}

fn read_credential(target: &Target<'_>) -> Result<(CredentialSource, Credential), secret::Error> {
    let source = target.settings.credential_source(&target.organization.name)?;
    let credential = source.read()?;
    Ok((source, credential))
}

fn credential_failed(error: &secret::Error) -> Row {
    let mut detail = error.to_string();
    if let Some(cause) = std::error::Error::source(error) {
        detail = format!("{detail}: {cause}");
    }
    with_hint(Row::failed(Check::Credential, detail), error.hint())
}

fn client(
    target: &Target<'_>,
    credential: &Credential,
    clock: &Arc<dyn Clock>,
) -> Result<Client, Error> {
    let mut options = sync::options(target.organization, &target.settings.api);
    options.max_attempts = options.max_attempts.min(MAX_ATTEMPTS);
    options.run_deadline = options.run_deadline.min(DEADLINE);
    Client::new(options, credential.expose(), Arc::clone(clock))
}

async fn ask(target: &Target<'_>, source: &CredentialSource, client: Client, rows: &mut Vec<Row>) {
    let session = Session::new(Arc::new(client));
    let admin = session.probe_admin_keys().await;
    rows.push(permission(&admin, source));
    rows.push(admin_keys(&admin));
    // Who lacks one permission may have another; else all would fail in the same way.
    if admin.as_ref().err().is_none_or(Error::is_missing_permission) {
        rows.push(project_keys(target, &session).await);
        rows.push(audit_logs(target, &session).await);
    } else {
        let not_tried = "not tried, as the API could not be asked for the admin keys";
        rows.push(Row::skipped(Check::ProjectKeys, not_tried));
        rows.push(Row::skipped(Check::AuditLogs, not_tried));
    }
    rows.push(organization_id(target, &admin));
    rows.push(clock_skew(session.clock_skew()));
}

fn permission(admin: &Probed<KeyId>, source: &CredentialSource) -> Row {
    match admin {
        Err(error) if error.is_about_credential() => {
            let row = failed(Check::Permission, error);
            match row.mend.clone() {
                Some(mend) if source.is_systemd() && matches!(error, Error::Unauthorized { .. }) => {
                    row.mend(format!(
                        "{mend}; if it was replaced, `systemctl restart` the service, whose {source} is a \
                         copy made at start"
                    ))
                }
                _ => row,
            }
        }
        Err(_) => Row::skipped(Check::Permission, "the API did not say"),
        Ok(_) => Row::ok(Check::Permission, "the credential may list the admin keys"),
    }
}

fn admin_keys(admin: &Probed<KeyId>) -> Row {
    match admin {
        Err(error) if error.is_about_credential() => {
            Row::skipped(Check::AdminKeys, "not to be had without that permission")
        }
        Err(error) => failed(Check::AdminKeys, error),
        Ok(Probe { items, .. }) if items.is_empty() => Row::warning(
            Check::AdminKeys,
            "the list is empty, though the credential itself should be in it",
        )
        .costing("a run that finds the list empty confirms each missing key, or is held")
        .mend("see at the provider's console whether the organization is the right one"),
        Ok(_) => Row::ok(Check::AdminKeys, "listed"),
    }
}

async fn project_keys(target: &Target<'_>, session: &Session) -> Row {
    let wanted = target.organization.project_keys;
    let worked = target.remembered.as_ref().is_some_and(|known| known.has_project_keys);
    let is_set = target.settings.is_set(&target.organization.name, "project_keys");
    let tried = match session.probe_projects(PROJECTS_TRIED).await {
        Err(error) => Err(error),
        Ok(Probe { items, .. }) if items.is_empty() => Ok("there are no projects".to_owned()),
        Ok(Probe { items, .. }) => match try_each(session, items).await {
            (Some(project), None) => {
                Ok(format!("listed, those of project `{}` as a trial", project.id))
            }
            // One project of many that is closed to us is not all of them.
            (Some(_), Some(error)) if wanted => {
                return Row::warning(Check::ProjectKeys, format!("not of each project: {error}"))
                    .costing("the keys of such a project stay as they were last seen")
                    .mend(advise(&error));
            }
            (_, Some(error)) => Err(error),
            (None, None) => Ok("there are no projects".to_owned()),
        },
    };
    optional(Check::ProjectKeys, tried, "project_keys", wanted, is_set || worked)
}

/// The first project whose keys are listed, and why those of the ones before it are not.
async fn try_each(session: &Session, projects: Vec<Project>) -> (Option<Project>, Option<Error>) {
    let mut first = None;
    for project in projects {
        match session.probe_project_keys(&project).await {
            Ok(_) => return (Some(project), first),
            Err(error) => first = first.or(Some(error)),
        }
    }
    (None, first)
}

async fn audit_logs(target: &Target<'_>, session: &Session) -> Row {
    let wanted = target.organization.audit_logs;
    let tried = match session.probe_audit_log().await {
        Ok(Probe { items, .. }) if wanted && items.is_empty() => {
            return Row::warning(Check::AuditLogs, "the audit log has no entry about any key")
                .mend(
                    "if keys were made or deleted lately, an owner has to turn on audit logging in the \
                     organization's data controls settings",
                );
        }
        Ok(Probe { items, .. }) if items.is_empty() => Ok("has no entry about any key".to_owned()),
        Ok(_) => Ok("listed".to_owned()),
        Err(error) => Err(error),
    };
    optional(Check::AuditLogs, tried, "audit_logs", wanted, true)
}

/// Something that a setting turns on. What nobody wants cannot fail.
fn optional(
    check: Check,
    tried: Result<String, Error>,
    setting: &str,
    wanted: bool,
    needed: bool,
) -> Row {
    let row = match tried {
        Ok(detail) if wanted => Row::ok(check, detail),
        Ok(detail) => Row::ok(check, format!("{detail}; not used, as `{setting}` is false")),
        Err(error) if !wanted => {
            Row::skipped(check, format!("not used, as `{setting}` is false; {error}"))
        }
        Err(error) => {
            let outcome = if needed { Outcome::Failed } else { Outcome::Warning };
            let row = Row::new(check, outcome, error.to_string());
            row.mend(format!("{}; or set `{setting} = false`", advise(&error)))
        }
    };
    row.needed(wanted && needed)
}

fn organization_id(target: &Target<'_>, admin: &Probed<KeyId>) -> Row {
    const CHECK: Check = Check::OrganizationId;
    let Ok(Probe { organization: found, .. }) = admin else {
        return Row::skipped(CHECK, "the API did not say");
    };
    let set = target.organization.organization_id.as_deref();
    let remembered = target.remembered.as_ref().and_then(|known| known.header.as_deref());
    let row = match (found.as_deref(), set, remembered) {
        (Some(found), Some(set), _) if found != set => {
            Row::failed(CHECK, format!("the answers come from `{found}`, and `organization_id` is `{set}`"))
                .mend("correct the setting, or use a credential of that organization")
        }
        (Some(found), _, Some(remembered)) if found != remembered => {
            Row::failed(CHECK, format!("the answers come from `{found}`, those of earlier runs from `{remembered}`"))
                .mend("use a credential of the organization that was watched so far, or give this one a name of its own")
        }
        (None, _, Some(remembered)) => {
            Row::warning(CHECK, format!("the answers do not say it; those of earlier runs said `{remembered}`"))
                .mend("see that nothing between here and the API takes the header `openai-organization` away")
        }
        (None, ..) => Row::skipped(CHECK, "the answers do not say it"),
        (Some(found), _, Some(_)) => Row::ok(CHECK, format!("`{found}`, as before")),
        (Some(found), _, None) => Row::ok(CHECK, format!("`{found}`; no earlier run to compare it with")),
    };
    // A run would rather fail than take another organization's keys for this one's.
    row.needed(true)
}

fn clock_skew(ahead: Option<i64>) -> Row {
    let Some(ahead) = ahead else {
        return Row::skipped(Check::Clock, "no answer of the API told the time");
    };
    let seconds = ahead.unsigned_abs();
    let off = duration(Duration::from_secs(seconds));
    let than = if ahead > 0 { "behind" } else { "ahead of" };
    let outcome = match seconds {
        0..=SKEW_TOLD => {
            return Row::ok(Check::Clock, format!("within {SKEW_TOLD} s of the API's"));
        }
        _ if seconds <= SKEW_MAX => Outcome::Warning,
        _ => Outcome::Failed,
    };
    Row::new(Check::Clock, outcome, format!("this machine's clock is {off} {than} the API's"))
        .mend("let a time service (`systemd-timesyncd`, `chrony`) set the clock; `timedatectl` tells how it is")
}

fn failed(check: Check, error: &openai::Error) -> Row {
    Row::failed(check, error.to_string()).mend(advise(error))
}

/// What to do about what the API said, or did not say.
fn advise(error: &Error) -> String {
    match error {
        // The time was this command's, and not that of a run.
        Error::DeadlineExceeded { source, .. } => source.as_deref().and_then(Error::hint),
        error => error.hint(),
    }
    .unwrap_or_else(|| if error.is_retryable() { TRY_LATER } else { NO_API }.to_owned())
}

fn with_hint(row: Row, hint: Option<String>) -> Row {
    match hint {
        Some(hint) => row.mend(hint),
        None => row,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_judged_by_how_far_it_is_off_in_either_direction() {
        let outcome = |ahead| clock_skew(ahead).outcome;
        assert_eq!(outcome(None), Outcome::Skipped);
        for sign in [1, -1] {
            assert_eq!(outcome(Some(0)), Outcome::Ok);
            assert_eq!(outcome(Some(30 * sign)), Outcome::Ok);
            assert_eq!(outcome(Some(31 * sign)), Outcome::Warning);
            assert_eq!(outcome(Some(300 * sign)), Outcome::Warning);
            assert_eq!(outcome(Some(301 * sign)), Outcome::Failed);
        }
        assert!(clock_skew(Some(120)).detail.contains("2 min 0 s behind the API's"));
        assert!(clock_skew(Some(-120)).detail.contains("2 min 0 s ahead of the API's"));
        assert!(!clock_skew(Some(i64::MIN)).is_fatal(), "a wrong clock stops no run");
    }

    #[test]
    fn advice_is_a_sentence_whatever_failed() {
        let page = |problem| Error::Setup { problem: String::from(problem) };
        let row = optional(Check::AuditLogs, Err(page("x")), "audit_logs", true, true);
        assert_eq!(row.mend.unwrap(), format!("{NO_API}; or set `audit_logs = false`"));
        assert_eq!(failed(Check::AdminKeys, &page("x")).mend.unwrap(), NO_API);
    }

    #[test]
    fn what_nobody_wants_cannot_fail() {
        let failing = || Err(Error::NoCertificates);
        let row =
            |wanted, needed| optional(Check::AuditLogs, failing(), "audit_logs", wanted, needed);
        assert_eq!(
            (row(false, true).outcome, row(false, true).is_fatal()),
            (Outcome::Skipped, false)
        );
        assert_eq!(
            (row(true, false).outcome, row(true, false).is_fatal()),
            (Outcome::Warning, false)
        );
        assert_eq!((row(true, true).outcome, row(true, true).is_fatal()), (Outcome::Failed, true));
        assert!(row(true, true).mend.unwrap().ends_with("; or set `audit_logs = false`"));
    }
}
