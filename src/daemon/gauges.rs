//! What the metrics show of the database. It is looked up when somebody asks for them: others write too, by
//! hand or by a timer, and where nobody asks it costs nothing.

use crate::clock::Timestamp;
use crate::metrics::Metrics;
use crate::store::{self, Reader};

pub(super) struct Gauges {
    metrics: Metrics,
    shown: Option<Shown>,
}

/// What is shown now.
#[derive(Clone, Copy)]
struct Shown {
    /// Of the database, as the reader sees it.
    version: i64,
    /// When the next key expires, and is no longer the next one.
    until: Timestamp,
}

impl Gauges {
    pub(super) const fn new(metrics: Metrics) -> Self {
        Self { metrics, shown: None }
    }

    /// Another reader or other organizations: what is shown says nothing any more.
    pub(super) const fn forget(&mut self) {
        self.shown = None;
    }

    /// Shows the state of each organization, if it can have changed.
    pub(super) async fn refresh(
        &mut self,
        reader: &mut Reader,
        organizations: impl Iterator<Item = &String>,
        now: Timestamp,
    ) -> Result<(), store::Error> {
        let version = reader.version().await?;
        if self.shown.is_some_and(|shown| shown.version == version && now < shown.until) {
            return Ok(());
        }
        let mut until = Timestamp::MAX;
        for organization in organizations {
            let health = reader.load_health(organization, now).await?;
            self.metrics.show(organization, &health);
            until = health.next_expiry_at.map_or(until, |expiry| expiry.min(until));
        }
        reader.rest().await?;
        self.shown = Some(Shown { version, until });
        Ok(())
    }
}
