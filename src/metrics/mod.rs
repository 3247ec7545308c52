//! What Prometheus gets to see. No key ids, no names: how many, how often, how long, and when.

pub mod ask;
pub mod server;

use prometheus::{
    GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::clock::Timestamp;
use crate::findings::{Rule, Severity};
use crate::inventory::EventKind;
use crate::run::Status;
use crate::store::Health;
use crate::sync::Report;

/// From a small organization nearby to the run deadline.
const DURATION_BUCKETS: [f64; 11] =
    [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 180.0, 450.0, 900.0];

/// The metrics of one daemon.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    runs: IntCounterVec,
    run_seconds: HistogramVec,
    requests: IntCounterVec,
    retries: IntCounterVec,
    events: IntCounterVec,
    missed: IntCounterVec,
    skipped: IntCounterVec,
    keys: IntGaugeVec,
    findings: IntGaugeVec,
    held: IntGaugeVec,
    last_success: GaugeVec,
    last_run: GaugeVec,
    next_run: GaugeVec,
    next_expiry: GaugeVec,
}

impl Metrics {
    /// An error is a mistake in a name here, and no machine's fault.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str, more: &[&str]| {
            let vec = IntCounterVec::new(Opts::new(name, help), &labels(more))?;
            registry.register(Box::new(vec.clone()))?;
            prometheus::Result::Ok(vec)
        };
        let count = |name: &str, help: &str, more: &[&str]| {
            let vec = IntGaugeVec::new(Opts::new(name, help), &labels(more))?;
            registry.register(Box::new(vec.clone()))?;
            prometheus::Result::Ok(vec)
        };
        let time = |name: &str, help: &str| {
            let vec = GaugeVec::new(Opts::new(name, help), &labels(&[]))?;
            registry.register(Box::new(vec.clone()))?;
            prometheus::Result::Ok(vec)
        };
        let seconds = HistogramOpts::new("keydrift_run_duration_seconds", "How long runs took.")
            .buckets(DURATION_BUCKETS.to_vec());
        let run_seconds = HistogramVec::new(seconds, &labels(&[]))?;
        registry.register(Box::new(run_seconds.clone()))?;
        register_build(&registry)?;
        Ok(Self {
            runs: counter("keydrift_runs_total", "Runs by how they ended.", &["status"])?,
            run_seconds,
            requests: counter(
                "keydrift_api_requests_total",
                "Requests by what came of them.",
                &["code"],
            )?,
            retries: counter(
                "keydrift_api_retries_total",
                "Repeated requests by why.",
                &["reason"],
            )?,
            events: counter("keydrift_events_total", "Events recorded, by kind.", &["event"])?,
            missed: counter(
                "keydrift_missed_slots_total",
                "Slots that nobody was there for.",
                &[],
            )?,
            skipped: counter(
                "keydrift_skipped_ticks_total",
                "Slots that passed during a run.",
                &[],
            )?,
            keys: count("keydrift_keys", "Keys in the inventory.", &["scope"])?,
            findings: count("keydrift_findings", "Open findings, by rule.", &["rule", "severity"])?,
            held: count("keydrift_run_held", "1 while a run is held.", &[])?,
            last_success: time(
                "keydrift_last_success_timestamp_seconds",
                "When the last good run ended.",
            )?,
            last_run: time("keydrift_last_run_timestamp_seconds", "When the last run ended.")?,
            next_run: time("keydrift_next_run_timestamp_seconds", "When the next run is due.")?,
            next_expiry: time(
                "keydrift_next_key_expiry_timestamp_seconds",
                "When the next key expires.",
            )?,
            registry,
        })
    }

    /// Has an organization from the start, with nothing counted yet.
    pub fn watch(&self, organization: &str) {
        for status in [Status::Ok, Status::Failed, Status::Held] {
            self.runs.with_label_values(&[organization, status.as_str()]);
        }
        for kind in EventKind::ALL {
            self.events.with_label_values(&[organization, kind.as_str()]);
        }
        self.run_seconds.with_label_values(&[organization]);
        self.missed.with_label_values(&[organization]);
        self.skipped.with_label_values(&[organization]);
    }

    /// Shows no state any more of an organization that is no longer configured. What was counted stays.
    pub fn forget(&self, organization: &str) {
        for gauge in [&self.last_success, &self.last_run, &self.next_run, &self.next_expiry] {
            set(gauge, organization, None);
        }
        // An error says that it was not there before either.
        drop(self.held.remove_label_values(&[organization]));
        self.forget_findings(organization);
        for scope in ["admin", "project"] {
            drop(self.keys.remove_label_values(&[organization, scope]));
        }
    }

    /// What the database says.
    pub fn show(&self, organization: &str, health: &Health) {
        let count = |keys: u64| i64::try_from(keys).unwrap_or(i64::MAX);
        self.keys.with_label_values(&[organization, "admin"]).set(count(health.admin_keys));
        self.keys.with_label_values(&[organization, "project"]).set(count(health.project_keys));
        self.forget_findings(organization);
        for rule in Rule::ALL {
            let labels = [organization, rule.as_str(), rule.severity().as_str()];
            self.findings.with_label_values(&labels).set(0);
        }
        for (rule, severity, findings) in &health.findings {
            let labels = [organization, rule, severity];
            self.findings.with_label_values(&labels).set(count(*findings));
        }
        self.held.with_label_values(&[organization]).set(health.is_held.into());
        set(&self.last_success, organization, health.last_success_at);
        set(&self.last_run, organization, health.last_run.as_ref().map(|run| run.finished_at));
        set(&self.next_expiry, organization, health.next_expiry_at);
    }

    /// An earlier version of the program may have given a rule another severity.
    fn forget_findings(&self, organization: &str) {
        for rule in Rule::ALL {
            for severity in Severity::ALL {
                let labels = [organization, rule.as_str(), severity.as_str()];
                // An error says that it was not there before either.
                drop(self.findings.remove_label_values(&labels));
            }
        }
    }

    /// A run has ended.
    pub fn count_run(&self, report: &Report) {
        let organization = report.organization.as_str();
        self.runs.with_label_values(&[organization, report.status.as_str()]).inc();
        let seconds = report.duration.as_secs_f64();
        self.run_seconds.with_label_values(&[organization]).observe(seconds);
        self.skipped.with_label_values(&[organization]).inc_by(report.tally.skipped);
        for (code, count) in &report.outcomes.requests {
            self.requests.with_label_values(&[organization, code]).inc_by(*count);
        }
        for (reason, count) in &report.outcomes.retries {
            self.retries.with_label_values(&[organization, reason]).inc_by(*count);
        }
        let counts = report.recorded.as_ref().map(|recorded| recorded.counts).unwrap_or_default();
        for (event, count) in [
            ("baseline", counts.baseline),
            ("added", counts.added),
            ("removed", counts.removed),
            ("restored", counts.restored),
            ("used", counts.used),
            ("changed", counts.changed),
        ] {
            self.events.with_label_values(&[organization, event]).inc_by(count);
        }
    }

    /// A run could not even be recorded.
    pub fn count_unrecorded(&self, organization: &str) {
        self.runs.with_label_values(&[organization, Status::Failed.as_str()]).inc();
    }

    pub fn count_missed(&self, organization: &str, slots: u64) {
        self.missed.with_label_values(&[organization]).inc_by(slots);
    }

    pub fn set_next_run(&self, organization: &str, at: Option<Timestamp>) {
        set(&self.next_run, organization, at);
    }

    /// In the text format of Prometheus.
    pub fn render(&self) -> prometheus::Result<String> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

fn register_build(registry: &Registry) -> prometheus::Result<()> {
    let build = Opts::new("keydrift_build_info", "Which keydrift this is.");
    let build = IntGaugeVec::new(build, &["version"])?;
    build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
    registry.register(Box::new(build))
}

fn labels<'l>(more: &[&'l str]) -> Vec<&'l str> {
    [&["organization"], more].concat()
}

/// A time that is not known is not there.
#[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are exact for a long time")]
fn set(gauge: &GaugeVec, organization: &str, at: Option<Timestamp>) {
    match at {
        Some(at) => gauge.with_label_values(&[organization]).set(at.unix() as f64),
        // An error says that it was not there before either.
        None => drop(gauge.remove_label_values(&[organization])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_organization_that_is_gone_shows_no_state_but_keeps_its_counts() {
        let metrics = Metrics::new().unwrap();
        metrics.watch("acme");
        let health =
            Health { admin_keys: 3, last_success_at: Timestamp::from_unix(7), ..Health::default() };
        metrics.show("acme", &health);
        let text = metrics.render().unwrap();
        assert!(text.contains("keydrift_keys{organization=\"acme\",scope=\"admin\"} 3"), "{text}");
        assert!(text.contains("keydrift_last_success_timestamp_seconds{organization=\"acme\"} 7"));
        metrics.forget("acme");
        let text = metrics.render().unwrap();
        assert!(!text.contains("keydrift_keys{"), "{text}");
        assert!(!text.contains("keydrift_last_success_timestamp_seconds{"), "{text}");
        assert!(
            text.contains("keydrift_runs_total{organization=\"acme\",status=\"ok\"} 0"),
            "{text}"
        );
    }
}
