//! A machine whose clock goes back. Nobody can set it from outside, so that these run the library.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use keydrift::clock::{Clock, ManualClock, Timestamp};
use keydrift::config::{self, Environment, Inputs, Settings};
use keydrift::run::{Status, Trigger};
use keydrift::sim::{ANY_PORT, Organization, Server};
use keydrift::stop::Stop;
use keydrift::store::{SharedWriter, Writer};
use keydrift::sync::{self, Report, Request, Ticks};
use serde_json::json;
use tempfile::TempDir;

use crate::support::{oracle, sql};

struct Machine {
    directory: TempDir,
    server: Server,
    clock: Arc<ManualClock>,
    settings: Settings,
}

const NOON: i64 = 1_790_000_000;

impl Machine {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let server = Server::start_blocking(Organization::generate(7, 20), ANY_PORT).unwrap();
        let environment: Environment = [
            ("OPENAI_ADMIN_KEY", server.organization().credential()),
            ("OPENAI_BASE_URL", server.base_url()),
        ]
        .into_iter()
        .collect();
        let database = directory.path().join("keys.db");
        let inputs =
            Inputs { config_path: None, database: Some(&database), environment: &environment };
        let settings = config::load_apart(&inputs).unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::from_unix(NOON).unwrap()));
        Self { directory, server, clock, settings }
    }

    fn database(&self) -> PathBuf {
        self.directory.path().join("keys.db")
    }

    /// A sync that begins so many seconds after noon, and during which so many seconds pass.
    fn sync(&self, after_noon: i64, takes: i64) -> Report {
        let set = |clock: &ManualClock, after_noon: i64| {
            clock.set(Timestamp::from_unix(NOON + after_noon).unwrap());
        };
        set(&self.clock, after_noon);
        let clock: Arc<dyn Clock> = self.clock.clone();
        let organization = &self.settings.organizations[0];
        let credential = self.settings.credential_source(&organization.name).unwrap();
        let request = Request {
            organization,
            credential: &|| credential.read(),
            api: &self.settings.api,
            removal: self.settings.removal,
            rules: &self.settings.findings,
            trigger: Trigger::Schedule,
            accept: false,
            ticks: Ticks::default(),
            stop: &Stop::never(),
            progress: &|_| set(&self.clock, after_noon + takes),
        };
        let report = sql::block_on(async {
            let wait = Duration::ZERO;
            let writer = Writer::open(&self.database(), wait, |_| {}).await.unwrap();
            let writer = SharedWriter::from(writer);
            let report = sync::run(&writer, &clock, &request).await.unwrap();
            writer.close().await.unwrap();
            report
        });
        oracle::check_consistent(&self.database());
        report
    }

    /// When the runs began and ended, in seconds after noon, and what they say of the clock.
    fn runs(&self) -> serde_json::Value {
        let statement = format!(
            "select strftime('%s', started_at) - {NOON} as started,
                 strftime('%s', finished_at) - {NOON} as finished, notice
             from run_history order by run_id"
        );
        json!(sql::rows(&self.database(), &statement))
    }
}

#[test]
fn a_run_never_ends_before_the_one_before_it_and_says_why() {
    let machine = Machine::new();
    machine.sync(0, 10);
    let added = machine.server.organization().with(Organization::add);
    let report = machine.sync(-3600, 10);
    assert_eq!(report.status, Status::Ok);
    let back = "the clock went back by 3600 s; the latest time before is kept";
    assert_eq!(
        machine.runs(),
        json!([
            {"started": 0, "finished": 10, "notice": null},
            {"started": -3600, "finished": 10, "notice": back},
        ])
    );
    let events = "select key_id, strftime('%s', observed_at) - strftime('%s', previous_observed_at)
                  as width from audit_history where event = 'added'";
    assert_eq!(
        json!(sql::rows(&machine.database(), events)),
        json!([{"key_id": added, "width": 10}])
    );
    // Until the clock has caught up again.
    machine.sync(5, 3);
    machine.sync(60, 2);
    let runs = machine.runs();
    assert_eq!(
        runs[2],
        json!({
            "started": 5, "finished": 10,
            "notice": "the clock went back by 2 s; the latest time before is kept"
        })
    );
    assert_eq!(runs[3], json!({"started": 60, "finished": 62, "notice": null}));
}

#[test]
fn a_failed_run_keeps_the_order_too() {
    let machine = Machine::new();
    machine.sync(0, 10);
    machine.server.organization().with(|organization| {
        let secret = organization.credential().to_owned();
        organization.set_access(&secret, keydrift::sim::Access::Revoked);
    });
    assert_eq!(machine.sync(-100, 1).status, Status::Failed);
    let runs = machine.runs();
    assert_eq!(runs[1]["finished"], 10);
    assert!(runs[1]["notice"].as_str().unwrap().starts_with("the clock went back by "), "{runs}");
}

#[test]
fn a_clock_that_goes_back_in_the_middle_of_a_run_ends_it_when_it_began() {
    let machine = Machine::new();
    machine.sync(0, 10);
    machine.server.organization().with(Organization::add);
    machine.sync(100, -50);
    let runs = machine.runs();
    assert_eq!((&runs[1]["started"], &runs[1]["finished"]), (&json!(100), &json!(100)));
    let notice = runs[1]["notice"].as_str().unwrap();
    assert!(notice.starts_with("the clock went back by 50 s"), "{notice}");
    assert!(!notice.contains("the run before"), "{notice}");
}
