//! One capability that was tried, and what came of it.

/// What is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    Credential,
    Permission,
    AdminKeys,
    ProjectKeys,
    AuditLogs,
    OrganizationId,
    Clock,
    Schedule,
    Database,
    DiskSpace,
    Checkpoint,
}

impl Check {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Credential => "credential",
            Self::Permission => "permission",
            Self::AdminKeys => "admin keys",
            Self::ProjectKeys => "project keys",
            Self::AuditLogs => "audit logs",
            Self::OrganizationId => "organization id",
            Self::Clock => "clock",
            Self::Schedule => "schedule",
            Self::Database => "database",
            Self::DiskSpace => "disk space",
            Self::Checkpoint => "checkpoint",
        }
    }

    /// What it costs that this fails, or is not as it should be.
    const fn costs(self) -> &'static str {
        match self {
            Self::Credential | Self::Permission | Self::AdminKeys => {
                "every run of this organization fails, and nothing is recorded"
            }
            Self::ProjectKeys => {
                "the keys of projects are not watched, but for those that the admin listing shows too"
            }
            Self::AuditLogs => "no event says who did it, and from where",
            Self::OrganizationId => {
                "the next run is refused unless keys that are known are in the list"
            }
            Self::Clock => {
                "the times in the history are wrong by as much, and entries of the audit log are looked for \
                 at the wrong time"
            }
            Self::Schedule => "changes are recorded late, or not at all",
            Self::Database => "no run can be recorded",
            Self::DiskSpace => "once it is full, no run can be recorded",
            Self::Checkpoint => "a history that somebody rewrote may look like the right one",
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Ok,
    Warning,
    Failed,
    Skipped,
}

impl Outcome {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// One row of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// `None`: it is the same for all.
    pub(super) organization: Option<String>,
    pub(super) check: Check,
    pub(super) outcome: Outcome,
    /// Whether runs need it to do what they are configured to do.
    pub(super) needed: bool,
    pub(super) detail: String,
    /// What to do about it.
    pub(super) mend: Option<String>,
    /// What it costs, where that is not what it always costs.
    own_costs: Option<&'static str>,
}

impl Row {
    pub(super) fn new(check: Check, outcome: Outcome, detail: impl Into<String>) -> Self {
        let needed = matches!(
            check,
            Check::Credential | Check::Permission | Check::AdminKeys | Check::Database
        );
        let detail = detail.into();
        Self { organization: None, check, outcome, needed, detail, mend: None, own_costs: None }
    }

    pub(super) fn ok(check: Check, detail: impl Into<String>) -> Self {
        Self::new(check, Outcome::Ok, detail)
    }

    pub(super) fn warning(check: Check, detail: impl Into<String>) -> Self {
        Self::new(check, Outcome::Warning, detail)
    }

    pub(super) fn failed(check: Check, detail: impl Into<String>) -> Self {
        Self::new(check, Outcome::Failed, detail)
    }

    pub(super) fn skipped(check: Check, detail: impl Into<String>) -> Self {
        Self::new(check, Outcome::Skipped, detail)
    }

    pub(super) fn mend(self, mend: impl Into<String>) -> Self {
        Self { mend: Some(mend.into()), ..self }
    }

    pub(super) fn needed(self, needed: bool) -> Self {
        Self { needed, ..self }
    }

    pub(super) fn costing(self, costs: &'static str) -> Self {
        Self { own_costs: Some(costs), ..self }
    }

    pub(super) fn of(self, organization: &str) -> Self {
        Self { organization: Some(organization.to_owned()), ..self }
    }

    /// Whether somebody should do something.
    pub(super) fn is_bad(&self) -> bool {
        matches!(self.outcome, Outcome::Warning | Outcome::Failed)
    }

    /// Whether something that is needed fails.
    pub(super) fn is_fatal(&self) -> bool {
        self.needed && self.outcome == Outcome::Failed
    }

    /// What it costs, if it is not as it should be.
    pub(super) fn costs(&self) -> Option<&'static str> {
        self.is_bad().then(|| self.own_costs.unwrap_or(self.check.costs()))
    }

    /// The costs and the way out of them, in one line.
    pub(super) fn remark(&self) -> Option<String> {
        match (self.costs(), &self.mend) {
            (Some(costs), Some(mend)) => {
                Some(format!("what it costs: {costs}. To mend it: {mend}"))
            }
            (Some(costs), None) => Some(format!("what it costs: {costs}")),
            (None, mend) => mend.clone(),
        }
    }
}
