//! The daemon: decides when, and leaves the rest to [`crate::sync`].
//!
//! One loop waits for whatever comes first (a signal, a tick, the end of a run) and starts what is due: runs of
//! different organizations side by side, never two of one. [`planner`] knows what is due and is pure; [`ticker`]
//! wakes the loop up; [`lifecycle`] knows signals and the service manager; [`work`] is one run, and [`database`]
//! what all of them have open. The loop tells the service
//! manager that it is alive at each tick, so that the watchdog guards ticker and loop both.
//!
//! Nothing is remembered but in the database: what the next life needs to know of this one is in the run
//! history and in the note beside the run lock.

mod books;
mod database;
mod error;
mod gauges;
mod lifecycle;
pub mod planner;
mod sentence;
mod ticker;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle, JoinSet};

use crate::clock::{Clock, Timestamp};
use crate::config::{self, RetentionSettings, Settings};
use crate::metrics::Metrics;
use crate::metrics::ask::{Ask, Asked};
use crate::metrics::server::{self, Source, State};
use crate::notify::heartbeat;
use crate::run::Status;
use crate::schedule::Schedule;
use crate::stop::{Say, Stop};
use crate::store::{self, Policy, Reader};
use crate::telemetry::message;
pub use error::Error;

use books::{prepare, tidy_up};
use database::Database;
use gauges::Gauges;
use lifecycle::{Request, ServiceManager, Signals};
use planner::{Ended, Plan, Planner, Start};
use sentence::{LastRun, Standing, sentence};
use ticker::{Tick, Ticker};
use work::{Done, Job, Outcome, Owed};

/// How long the transaction in hand may take after the word to stop. With what is left to tidy up, the
/// process is gone within five seconds.
const GRACE: Duration = Duration::from_secs(4);
const TIDYING: Duration = Duration::from_millis(500);
const NO_CHECKPOINTS: &str = "checkpoints cannot be made: see the log";

/// Reads the configuration, at the start and at each reload.
pub type Load = Box<dyn Fn() -> Result<Settings, config::Error> + Send + Sync>;

/// Syncs on schedule until told to stop.
pub async fn run(settings: Settings, load: Load, clock: Arc<dyn Clock>) -> Result<(), Error> {
    let mut signals = Signals::catch().map_err(Error::Signals)?;
    let mut manager = ServiceManager::of_process();
    let mut daemon = tokio::select! {
        biased;
        _ = signals.stop() => return Ok(()),
        opened = manager.be_patient(Daemon::open(settings, load, clock)) => opened?,
    };
    let mut ticker = Ticker::start(daemon.seconds(&manager)).await?;
    ServiceManager::ready();
    tracing::info!(
        database = %daemon.settings.database.path.display(),
        organizations = daemon.settings.organizations.len(),
        "ready"
    );
    let by = daemon.turn(&mut signals, &mut manager, &mut ticker).await?;
    ServiceManager::stopping();
    tracing::info!(by, "stopping");
    daemon.wind_down(by, &mut signals).await
}

struct Daemon {
    settings: Arc<Settings>,
    load: Load,
    clock: Arc<dyn Clock>,
    /// Open as long as the daemon lives: so the files of the log stay, and others can read.
    reader: Reader,
    installation: String,
    planner: Planner,
    standings: BTreeMap<String, Standing>,
    /// What is wrong beside the runs.
    remark: Option<&'static str>,
    stop: Stop,
    say: Say,
    database: Arc<Database>,
    runs: JoinSet<Done>,
    /// The organizations of which a run is under way, also of those that are no longer configured. There is no
    /// other bound: organizations that never answer must not keep the others out.
    under_way: BTreeSet<String>,
    /// Runs that could not be recorded, nor noted.
    owed: Vec<Owed>,
    /// When each organization's history was last pruned, in this life.
    pruned_at: BTreeMap<String, Timestamp>,
    metrics: Metrics,
    gauges: Gauges,
    ask: Ask,
    asked: Asked,
    state: watch::Sender<State>,
    /// The server of the metrics, if there is one.
    server: Option<(SocketAddr, JoinHandle<()>)>,
    heartbeats: JoinSet<()>,
}

impl Daemon {
    async fn open(settings: Settings, load: Load, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let (mut reader, owed_until) = prepare(&settings, &*clock).await?;
        let installation = reader.installation().await?;
        let (say, stop) = Stop::new();
        let metrics = Metrics::new()?;
        let mut plans = Vec::new();
        let mut standings = BTreeMap::new();
        for (name, schedule, run_at_start) in schedules(&settings, &installation) {
            let mut past = reader.load_past(&name).await?;
            if let Some(until) = owed_until.get(&name) {
                past.handled = past.handled.max(Some((*until, *until)));
            }
            plans.push((name.clone(), Plan::new(schedule, run_at_start, past, clock.now())));
            let standing = load_standing(&mut reader, &name).await?;
            metrics.watch(&name);
            standings.insert(name, standing);
        }
        let (ask, asked) = Ask::new();
        let mut daemon = Self {
            settings: Arc::new(settings),
            load,
            clock,
            reader,
            installation,
            planner: Planner::new(plans),
            standings,
            remark: None,
            stop,
            say,
            database: Arc::default(),
            runs: JoinSet::new(),
            under_way: BTreeSet::new(),
            owed: Vec::new(),
            gauges: Gauges::new(metrics.clone()),
            pruned_at: BTreeMap::new(),
            metrics,
            ask,
            asked,
            state: watch::channel(State::Ready).0,
            server: None,
            heartbeats: JoinSet::new(),
        };
        daemon.serve_metrics().await?;
        Ok(daemon)
    }

    /// Listens where the configuration says, and no longer where it said before.
    async fn serve_metrics(&mut self) -> Result<(), Error> {
        let wanted = self.settings.metrics.listen;
        if self.server.as_ref().map(|(address, _)| *address) == wanted {
            return Ok(());
        }
        if let Some((_, server)) = self.server.take() {
            server.abort();
            // The address is free once it has ended.
            drop(server.await);
        }
        if let Some(address) = wanted {
            let listener = TcpListener::bind(address).await;
            let listener = listener.map_err(|source| Error::Listen { address, source })?;
            tracing::info!(address = %listener.local_addr().unwrap_or(address), "serving metrics");
            let source = Source {
                metrics: self.metrics.clone(),
                state: self.state.subscribe(),
                ask: self.ask.clone(),
            };
            self.server = Some((address, tokio::spawn(server::serve(listener, source))));
        }
        Ok(())
    }

    /// Waits and starts what is due, until somebody says to stop.
    async fn turn(
        &mut self,
        signals: &mut Signals,
        manager: &mut ServiceManager,
        ticker: &mut Ticker,
    ) -> Result<&'static str, Error> {
        loop {
            self.begin_due();
            ticker.set(self.seconds(manager)).await?;
            manager.status(self.sentence());
            self.show_plans();
            tokio::select! {
                biased;
                request = signals.next() => match request {
                    Request::Stop { by } => return Ok(by),
                    Request::SyncNow => self.planner.request_all(),
                    Request::Reload => {
                        ServiceManager::reloading();
                        self.reload().await;
                        ServiceManager::ready();
                    }
                },
                Some(beaten) = self.heartbeats.join_next() => beaten.map_err(Error::Died)?,
                served = ended_server(&mut self.server) => return Err(Error::Died(served)),
                Some(done) = self.runs.join_next() => self.conclude(done.map_err(Error::Died)?).await,
                tick = ticker.tick() => {
                    manager.alive();
                    if tick? == Tick::Overdue {
                        tracing::warn!("no tick came for too long: the clock was set, or the machine slept");
                    }
                }
                Some(done) = self.asked.recv() => {
                    self.show_gauges().await;
                    // Whoever asked may be gone.
                    done.send(()).ok();
                }
            }
        }
    }

    /// Begins all that is due.
    fn begin_due(&mut self) {
        while let Some(start) = self.planner.next(self.clock.now(), &self.under_way) {
            self.begin(start);
        }
    }

    fn begin(&mut self, start: Start) {
        let gap = explain_gap(&start);
        if let Some(gap) = &gap {
            tracing::warn!(
                message_id = message::SLOT_MISSED,
                org.label = start.organization,
                slots.missed = start.missed,
                "{gap}"
            );
        }
        self.metrics.count_missed(&start.organization, start.missed);
        self.under_way.insert(start.organization.clone());
        let policy = self.policy_due(&start.organization);
        let job = Job {
            settings: Arc::clone(&self.settings),
            database: Arc::clone(&self.database),
            clock: Arc::clone(&self.clock),
            stop: self.stop.clone(),
            organization: start.organization,
            schedule: start.schedule,
            trigger: start.trigger,
            since: start.at,
            skipped: start.skipped,
            gap,
            owed: std::mem::take(&mut self.owed),
            policy,
        };
        // On a thread of its own: comparing many keys must not keep the loop from giving signs of life.
        let runtime = tokio::runtime::Handle::current();
        self.runs.spawn_blocking(move || runtime.block_on(work::run(job)));
    }

    /// What is to be kept of an organization's history, if older events are due to be thrown away: once a day.
    fn policy_due(&mut self, organization: &str) -> Policy {
        const EVERY: Duration = Duration::from_hours(24);
        let RetentionSettings { used_events, events } = self.settings.retention;
        let policy = Policy { used_events, events };
        let now = self.clock.now();
        let last = self.pruned_at.get(organization);
        if !policy.is_set() || last.is_some_and(|last| *last > now.saturating_sub(EVERY)) {
            return Policy::default();
        }
        self.pruned_at.insert(organization.to_owned(), now);
        policy
    }

    /// Takes note of a run that has ended.
    async fn conclude(&mut self, done: Done) {
        let Done { organization, outcome, owed, lacks_checkpoints } = done;
        self.under_way.remove(&organization);
        self.owed.extend(owed);
        if lacks_checkpoints {
            self.remark.get_or_insert(NO_CHECKPOINTS);
        } else {
            self.remark.take_if(|remark| *remark == NO_CHECKPOINTS);
        }
        let (ended, reason) = match &outcome {
            Outcome::NotBegun => return,
            Outcome::Ran(report) => (
                Ended {
                    started_at: report.started_at,
                    finished_at: report.finished_at,
                    status: report.status,
                    deferred_until: report
                        .error
                        .as_ref()
                        .and_then(crate::sync::Error::deferred_until),
                },
                report.explanation(),
            ),
            Outcome::Unrecorded { started_at, finished_at, error } => (
                Ended {
                    started_at: *started_at,
                    finished_at: *finished_at,
                    status: Status::Failed,
                    deferred_until: None,
                },
                Some(error.with_hint(&organization)),
            ),
        };
        if let Outcome::Unrecorded { error, .. } = &outcome {
            tracing::error!(
                message_id = message::RUN_FAILED,
                org.label = organization,
                error = error.in_one_line(),
                "not synced, and not recorded yet"
            );
        }
        match &outcome {
            Outcome::Ran(report) => self.metrics.count_run(report),
            _ => self.metrics.count_unrecorded(&organization),
        }
        self.beat(&organization, ended.status == Status::Ok);
        let last = LastRun { finished_at: ended.finished_at, status: ended.status, reason };
        self.planner.ended(&organization, &ended);
        self.look_again(&organization, last).await;
    }

    /// Brings what is known of an organization up to date after a run.
    async fn look_again(&mut self, organization: &str, last: LastRun) {
        // The file may be another one by now, brought back from a backup for instance.
        match Reader::open(&self.settings.database.path).await {
            Ok(reader) => {
                self.gauges.forget();
                let old = std::mem::replace(&mut self.reader, reader);
                if let Err(error) = old.close().await {
                    tracing::debug!(%error, "the database could not be closed");
                }
            }
            Err(error) => tracing::warn!(%error, "the database could not be opened for reading"),
        }
        let standing = load_standing(&mut self.reader, organization).await;
        let keys = standing.map_or(0, |standing| standing.keys);
        if let Err(error) = self.reader.rest().await {
            tracing::debug!(%error, "the database's cache could not be given back");
        }
        // Where the organization is no longer configured, nobody asks any more.
        if let Some(standing) = self.standings.get_mut(organization) {
            *standing = Standing { keys, last: Some(last) };
        }
    }

    /// A sign of life, sent while the loop goes on.
    fn beat(&mut self, organization: &str, is_good: bool) {
        let configured = self.settings.organization(organization);
        if let Some(url) = configured.and_then(|organization| organization.heartbeat.clone()) {
            self.heartbeats.spawn(heartbeat::beat(url, is_good, self.settings.api.clone()));
        }
    }

    /// Somebody asks for the metrics. Organizations that are no longer configured have none.
    async fn show_gauges(&mut self) {
        let (organizations, now) = (self.standings.keys(), self.clock.now());
        if let Err(error) = self.gauges.refresh(&mut self.reader, organizations, now).await {
            tracing::debug!(%error, "the metrics could not be brought up to date");
        }
    }

    fn show_plans(&self) {
        for name in self.standings.keys() {
            self.metrics.set_next_run(name, self.planner.next_of(name, self.clock.now()));
        }
    }

    /// Reads the configuration anew. Where it is invalid, the old one holds.
    async fn reload(&mut self) {
        let mut settings = match (self.load)() {
            Ok(settings) => settings,
            Err(error) => {
                let problems: Vec<String> =
                    error.problems().iter().map(ToString::to_string).collect();
                let why = if problems.is_empty() { error.to_string() } else { problems.join("; ") };
                tracing::error!(error = why, "the new configuration is invalid, the old one holds");
                self.remark = Some("the new configuration is invalid, the old one holds");
                return;
            }
        };
        self.remark = None;
        if settings.database.path != self.settings.database.path {
            tracing::warn!(
                "another `database.path` takes a restart; the rest of the configuration is in use"
            );
            self.remark = Some("another database takes a restart");
            settings.checkpoint.path.clone_from(&self.settings.checkpoint.path);
        }
        settings.database.path.clone_from(&self.settings.database.path);
        let mut plans = Vec::new();
        let mut standings = BTreeMap::new();
        for (name, schedule, run_at_start) in schedules(&settings, &self.installation) {
            let past = self.reader.load_past(&name).await.unwrap_or_default();
            let known = self.standings.remove(&name);
            let standing = match known {
                Some(standing) => standing,
                None => load_standing(&mut self.reader, &name).await.unwrap_or_default(),
            };
            standings.insert(name.clone(), standing);
            plans.push((name, Plan::new(schedule, run_at_start, past, self.clock.now())));
        }
        for gone in self.standings.keys() {
            self.metrics.forget(gone);
        }
        self.gauges.forget();
        self.standings = standings;
        self.planner.reload(plans, self.clock.now());
        self.settings = Arc::new(settings);
        for name in self.standings.keys() {
            self.metrics.watch(name);
        }
        if let Err(error) = self.serve_metrics().await {
            tracing::error!(error = %error, "metrics are not served");
            self.remark = Some("metrics are not served: see the log");
        }
        tracing::info!(
            organizations = self.settings.organizations.len(),
            "the configuration was read anew"
        );
    }

    /// The seconds of the minute at which something may be due, or the service manager waits for a sign.
    fn seconds(&self, manager: &ServiceManager) -> BTreeSet<u8> {
        let mut seconds = self.planner.seconds();
        seconds.extend(manager.watchdog().into_iter().flat_map(ticker::often_enough));
        if seconds.is_empty() {
            seconds.insert(0);
        }
        seconds
    }

    fn sentence(&self) -> String {
        let next = self.planner.next_at(self.clock.now(), &self.under_way);
        sentence(&self.standings, &self.under_way, next, self.remark)
    }

    /// Lets the transactions in hand end, and leaves the database to its readers.
    async fn wind_down(mut self, by: &'static str, signals: &mut Signals) -> Result<(), Error> {
        self.say.stop(by);
        self.state.send_replace(State::Stopping);
        let is_under_way = !self.runs.is_empty();
        tokio::select! {
            biased;
            by = signals.stop(), if is_under_way => return Err(Error::StoppedAtOnce { by }),
            () = tokio::time::sleep(GRACE), if is_under_way => return Err(Error::Overtime),
            ended = end_all(&mut self.runs) => ended.map_err(Error::Died)?,
        }
        let tidied =
            tokio::time::timeout(TIDYING, tidy_up(self.reader, &self.settings.database.path));
        match tidied.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::info!(%error, "the database could not be tidied up"),
            Err(_) => tracing::info!("there was no time to tidy up the database"),
        }
        Ok(())
    }
}

/// Waits for all runs to end.
async fn end_all(runs: &mut JoinSet<Done>) -> Result<(), JoinError> {
    while let Some(done) = runs.join_next().await {
        if let Done { organization, outcome: Outcome::Unrecorded { error, .. }, .. } = done? {
            let error = error.in_one_line();
            tracing::error!(org.label = organization, error, "the last run could not be recorded");
        }
    }
    Ok(())
}

/// Waits for the server of the metrics to die, which it never should.
async fn ended_server(server: &mut Option<(SocketAddr, JoinHandle<()>)>) -> JoinError {
    loop {
        match server {
            Some((_, task)) => match task.await {
                Err(error) => return error,
                // It returns only when it is dropped.
                Ok(()) => *server = None,
            },
            None => std::future::pending().await,
        }
    }
}

fn schedules(settings: &Settings, installation: &str) -> Vec<(String, Schedule, bool)> {
    let schedule = |organization: &config::OrganizationSettings| {
        let run_at_start = organization.schedule.run_at_start;
        (organization.name.to_string(), organization.schedule(installation), run_at_start)
    };
    settings.organizations.iter().map(schedule).collect()
}

async fn load_standing(reader: &mut Reader, organization: &str) -> Result<Standing, store::Error> {
    let keys = reader.count_keys(organization).await?.unwrap_or(0);
    let last = reader.load_last_run(organization).await?;
    Ok(Standing { keys, last: last.map(LastRun::from) })
}

/// Why there was no run although the schedule wanted one.
fn explain_gap(start: &Start) -> Option<String> {
    if start.missed == 0 {
        return None;
    }
    let (slots, since) = (crate::output::count(start.missed, "slot"), start.since);
    Some(format!("{slots} of the schedule missed since {since}: nobody was there to run"))
}
