//! `keydrift demo`: all of it against a simulated organization, with no account and no network.
//!
//! The story is told by the real client over HTTP into a real file; only the organization and the
//! clock are simulated. Nothing of the user's own configuration or database is touched.

mod story;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use super::events::EventListing;
use super::{Context, Exit, Misuse};
use crate::cli::Demo;
use crate::clock::{ManualClock, Timestamp};
use crate::config::{self, Environment, Inputs, Settings};
use crate::inventory::EventKind;
use crate::output::Format;
use crate::sim::{ANY_PORT, Handle, Organization, Server};
use crate::store::{EventFilter, EventRow, Reader, Writer};

/// How many keys the simulated organization begins with.
const KEYS: usize = 24;
/// The same organization every time.
const SEED: u64 = 2026;
/// How often something happens in an organization that is kept up.
const HEARTBEAT: Duration = Duration::from_secs(5);

pub(super) async fn run(context: &mut Context, arguments: &Demo) -> anyhow::Result<Exit> {
    let database = new_database_path(context)?;
    let end = context.clock.now();
    let begin = end.saturating_sub(story::LENGTH);
    let server = start(arguments.serve, begin)?;
    let settings = settings(&server, &database)?;

    play(context, &settings, &server.organization(), begin).await?;
    show(context, &database).await?;
    suggest(context, &database)?;
    if arguments.serve.is_some() {
        keep_up(context, &server, &database).await?;
    }
    server.shutdown().await;
    Ok(Exit::Done)
}

/// A file that was not there before.
fn new_database_path(context: &Context) -> anyhow::Result<PathBuf> {
    let directory = std::env::temp_dir();
    let stamp = context.clock.now().unix();
    let name = format!("keydrift-demo-{stamp}-{}.db", std::process::id());
    let path = std::path::absolute(directory.join(name))?;
    anyhow::ensure!(!path.exists(), "`{}` is there already", path.display());
    Ok(path)
}

fn start(addr: Option<SocketAddr>, begin: Timestamp) -> anyhow::Result<Server> {
    let mut organization = Organization::generate(SEED, KEYS);
    organization.set_now(begin.unix());
    let wanted = addr.unwrap_or(ANY_PORT);
    if !wanted.ip().is_loopback() {
        return Err(Misuse::Other {
            what: format!("`{wanted}` is not an address of this machine alone"),
            hint: "the simulated organization listens on loopback only, such as `127.0.0.1:8080`"
                .to_owned(),
        }
        .into());
    }
    Server::start(organization, wanted)
        .with_context(|| format!("could not listen on `{wanted}` for the simulated organization"))
}

fn settings(server: &Server, database: &Path) -> Result<Settings, config::Error> {
    let environment: Environment = [
        ("OPENAI_ADMIN_KEY", server.organization().credential()),
        ("OPENAI_BASE_URL", server.base_url()),
        ("KEYDRIFT__API__MAX_ATTEMPTS", "2".to_owned()),
        // Small enough that a handful of keys can show what the guard is for.
        ("KEYDRIFT__REMOVAL__GUARD_KEYS", "3".to_owned()),
    ]
    .into_iter()
    .collect();
    config::load_apart(&Inputs {
        config_path: None,
        database: Some(database),
        environment: &environment,
    })
}

/// Plays the story: for each day, what happens in the organization, and then a sync.
async fn play(
    context: &mut Context,
    settings: &Settings,
    organization: &Handle,
    begin: Timestamp,
) -> anyhow::Result<()> {
    let clock = Arc::new(ManualClock::new(begin));
    let mut writer =
        Writer::open(&settings.database.path, settings.database.lock_timeout, |_| {}).await?;
    context.printer.heading("a fortnight of a simulated organization")?;
    for day in story::days(organization) {
        clock.set(day.time(begin));
        organization.with(|organization| organization.set_now(clock_unix(&clock)));
        (day.happens)(organization);
        let report = story::sync(&mut writer, &clock, settings).await?;
        organization.clear_faults();
        context.printer.line(&format!("{}  {}", day.time(begin), day.tells))?;
        context.printer.line(&format!("    {}", story::outcome(&report)))?;
    }
    writer.close().await?;
    Ok(())
}

fn clock_unix(clock: &ManualClock) -> i64 {
    crate::clock::Clock::now(clock).unix()
}

/// The inventory, the history and one key's story, as the commands show them.
async fn show(context: &mut Context, database: &Path) -> anyhow::Result<()> {
    let mut reader = Reader::open(database).await?;
    context.printer.line("")?;
    context.printer.heading("the inventory (keydrift keys)")?;
    super::keys::list_present(context, &mut reader).await?;

    context.printer.line("")?;
    context.printer.heading("what changed (keydrift log)")?;
    let drift = EventKind::ALL.into_iter().filter(|kind| *kind != EventKind::Baseline);
    let filter = EventFilter { kinds: drift.collect(), ..EventFilter::default() };
    let mut listing = EventListing::begin(&mut context.printer, Format::Table, false, "nothing")?;
    let mut most_told: std::collections::BTreeMap<String, usize> =
        std::collections::BTreeMap::new();
    reader
        .list_events(&filter, |event: EventRow| {
            *most_told.entry(event.key_id.clone()).or_default() += 1;
            listing.row(event).map_err(anyhow::Error::from)
        })
        .await?;
    listing.finish(None)?;

    if let Some((key_id, _)) = most_told.into_iter().max_by_key(|(_, events)| *events) {
        context.printer.line("")?;
        context.printer.heading(&format!("one key's story (keydrift show {key_id})"))?;
        let key = super::show::the_key(&mut reader, None, &key_id).await?;
        super::show::tell(context, &mut reader, key).await?;
    }
    reader.close().await?;
    Ok(())
}

/// Three questions to the file that is left.
fn suggest(context: &mut Context, database: &Path) -> anyhow::Result<()> {
    let database = database.display();
    context.printer.line("")?;
    context.printer.heading("now ask it yourself")?;
    context.printer.line(&format!("database: {database}"))?;
    for query in story::QUERIES {
        context.printer.verbatim(&format!("  sqlite3 -box '{database}' \"{query}\"\n"))?;
    }
    context.printer.verbatim(&format!("  keydrift --database '{database}' runs\n"))?;
    Ok(())
}

/// Keeps the organization's API up, and its life going on, until interrupted.
async fn keep_up(context: &mut Context, server: &Server, database: &Path) -> anyhow::Result<()> {
    let organization = server.organization();
    context.printer.line("")?;
    context.printer.heading("the simulated API is up; try the other commands on it, with")?;
    context.printer.verbatim(&format!(
        "export OPENAI_ADMIN_KEY='{}'\nexport OPENAI_BASE_URL='{}'\nexport KEYDRIFT__DATABASE__PATH='{}'\n",
        organization.credential(),
        server.base_url(),
        database.display(),
    ))?;
    context.printer.line("something happens there every few seconds; ctrl-c ends it")?;
    context.printer.flush()?;
    let mut chance = fastrand::Rng::with_seed(SEED);
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    loop {
        tokio::select! {
            signal = &mut interrupted => return Ok(signal?),
            () = tokio::time::sleep(HEARTBEAT) => {}
        }
        let now = context.clock.now().unix();
        organization.with(|organization| {
            organization.set_now(now);
            organization.mutate(&mut chance);
        });
    }
}
