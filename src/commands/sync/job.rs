//! One run of a sync by hand, which goes on beside those of other organizations.

use std::sync::Arc;

use crate::checkpoint::Shared;
use crate::clock::Clock;
use crate::config::{OrganizationSettings, Settings};
use crate::output;
use crate::run::Trigger;
use crate::secret::CredentialSource;
use crate::stop::Stop;
use crate::sync::{self, Progress, Report, Request, Ticks};

/// All that one run needs.
pub(super) struct Job {
    pub(super) settings: Arc<Settings>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) opened: Arc<Shared>,
    pub(super) organization: OrganizationSettings,
    pub(super) credential: CredentialSource,
    pub(super) trigger: Trigger,
    pub(super) accept: bool,
    pub(super) stop: Stop,
    pub(super) line: output::Progress,
}

impl Job {
    /// Runs it, and keeps its checkpoint.
    pub(super) async fn run(self) -> Result<Report, sync::Error> {
        let line = &self.line;
        let show = |progress: Progress| match progress {
            Progress::Listed { keys, pages } => line.advance(keys, pages),
            Progress::LookingUp { missing } => {
                line.message(&format!("looking up {}", output::count(missing, "missing key")));
            }
        };
        let request = Request {
            organization: &self.organization,
            credential: &|| self.credential.read(),
            api: &self.settings.api,
            removal: self.settings.removal,
            rules: &self.settings.findings,
            trigger: self.trigger,
            accept: self.accept,
            ticks: Ticks::default(),
            stop: &self.stop,
            progress: &show,
        };
        let report = sync::run(self.opened.writer(), &self.clock, &request).await;
        line.finish();
        self.opened.keep().await;
        report
    }
}
