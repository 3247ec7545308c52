//! What there is to say of one run: the attempt to sync one organization.

use serde::{Deserialize, Serialize};

/// Why a run was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trigger {
    Schedule,
    Manual,
    Start,
    Missed,
    Retry,
}

impl Trigger {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::Manual => "manual",
            Self::Start => "start",
            Self::Missed => "missed",
            Self::Retry => "retry",
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The snapshot and its events are written.
    Ok,
    /// Nothing is written but the run itself.
    Failed,
    /// Nothing is written but the run itself, and somebody has to look.
    Held,
}

impl Status {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Held => "held",
        }
    }
}

/// What a run cost and met, whether or not it succeeded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    pub keys_seen: u64,
    /// Keys that were missing and are not believed gone.
    pub unconfirmed: u64,
    /// Ticks of the schedule that came while the run was under way.
    pub skipped: u64,
    pub pages: u64,
    pub requests: u64,
    pub retries: u64,
}

impl Tally {
    /// Of two runs together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            keys_seen: self.keys_seen.saturating_add(other.keys_seen),
            unconfirmed: self.unconfirmed.saturating_add(other.unconfirmed),
            skipped: self.skipped.saturating_add(other.skipped),
            pages: self.pages.saturating_add(other.pages),
            requests: self.requests.saturating_add(other.requests),
            retries: self.retries.saturating_add(other.retries),
        }
    }
}

/// How many events of each kind a run recorded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EventCounts {
    pub baseline: u64,
    pub added: u64,
    pub restored: u64,
    pub removed: u64,
    pub used: u64,
    pub changed: u64,
}

impl EventCounts {
    /// Whether anything but a baseline was recorded.
    #[must_use]
    pub const fn is_drift(&self) -> bool {
        self.added + self.restored + self.removed + self.used + self.changed > 0
    }
}
