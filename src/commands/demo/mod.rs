//! `keydrift demo`: all of it against a simulated organization, with no account and no network.
//!
//! The story is told by the real client over HTTP into a real file; only the organization and the
//! clock are simulated. Nothing of the user's own configuration or database is touched.

mod story;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::events::{EventListing, Of};
use super::{Context, Exit, Misuse};
use crate::checkpoint;
use crate::cli::Demo;
use crate::clock::{Clock as _, ManualClock, Timestamp};
use crate::config::{self, Environment, Inputs, Settings};
use crate::inventory::EventKind;
use crate::output::Format;
use crate::sim::{ANY_PORT, Handle, MutationKind, Server};
use crate::stop::Stop;
use crate::store::{EventFilter, EventRow, Reader};

/// How often something happens in an organization that is kept up.
const HEARTBEAT: Duration = Duration::from_secs(5);

pub(super) async fn run(context: &mut Context, arguments: &Demo) -> anyhow::Result<Exit> {
    let database = new_database_path(context)?;
    let end = context.clock.now();
    let begin = end.saturating_sub(story::LENGTH);
    let server = start(arguments.serve, begin)?;
    let settings = settings(&server, &database)?;

    let stop = arguments.serve.is_some().then(Stop::on_signals).transpose()?;
    let story = story::tell(&server.organization());
    play(context, &settings, &server.organization(), &story, begin).await?;
    show(context, &database, &story.hero).await?;
    suggest(context, &database)?;
    if let Some(stop) = stop {
        server.organization().with(|organization| {
            organization.add_old(arguments.keys.unwrap_or(0) as usize);
        });
        keep_up(context, &server, &database, &stop).await?;
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
    let organization = story::organization(begin);
    let wanted = addr.unwrap_or(ANY_PORT);
    if !wanted.ip().is_loopback() {
        return Err(Misuse::Other {
            what: format!("`{wanted}` is not an address of this machine alone"),
            hint: "the simulated organization listens on loopback only, such as `127.0.0.1:8080`"
                .to_owned(),
        }
        .into());
    }
    Server::start(organization, wanted).map_err(|source| Occupied { addr: wanted, source }.into())
}

/// The simulated organization has nowhere to listen.
#[derive(Debug, thiserror::Error)]
#[error("could not listen on `{addr}` for the simulated organization")]
pub(super) struct Occupied {
    addr: SocketAddr,
    source: std::io::Error,
}

impl Occupied {
    pub(super) fn hint(&self) -> String {
        format!("name another port, or let one be found: `--serve {}:0`", self.addr.ip())
    }
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
    story: &story::Story,
    begin: Timestamp,
) -> anyhow::Result<()> {
    let clock = Arc::new(ManualClock::new(begin));
    let wait = settings.database.lock_timeout;
    let opened = checkpoint::Shared::from(checkpoint::open(settings, wait, |_| {}).await?);
    context.printer.heading("A fortnight of a simulated organization, one sync a day")?;
    context
        .printer
        .line("Client, HTTP, database and commands are the real ones; the organization is not.")?;
    context.printer.line("")?;
    for day in &story.days {
        clock.set(day.time(begin));
        organization.with(|organization| organization.set_now(clock.now().unix()));
        (day.happens)(organization);
        let report = story::sync(opened.writer(), &clock, settings).await?;
        opened.keep().await;
        organization.clear_faults();
        context.printer.line(&format!("day {:>2}  {}", day.number, day.tells))?;
        let (status, outcome) = story::outcome(&report);
        context.printer.outcome(status, &outcome)?;
    }
    opened.close().await?;
    Ok(())
}

/// The inventory, the history and one key's story, as the commands show them.
async fn show(context: &mut Context, database: &Path, hero: &str) -> anyhow::Result<()> {
    let mut reader = Reader::open(database).await?;
    context.printer.line("")?;
    context.printer.heading("The inventory, as `keydrift keys` shows it")?;
    super::keys::list_present(context, &mut reader).await?;

    context.printer.line("")?;
    context.printer.heading("What changed, as `keydrift log` shows it (the baseline left out)")?;
    let drift = EventKind::ALL.into_iter().filter(|kind| *kind != EventKind::Baseline);
    let filter = EventFilter { kinds: drift.collect(), ..EventFilter::default() };
    let of = Of::Organization;
    let mut listing = EventListing::begin(&mut context.printer, Format::Table, of, "nothing")?;
    reader
        .list_events(&filter, |event: EventRow| listing.row(event).map_err(anyhow::Error::from))
        .await?;
    listing.finish()?;

    context.printer.line("")?;
    context.printer.heading(&format!("One key's story, as `keydrift show {hero}` tells it"))?;
    let key = super::show::the_key(&mut reader, None, hero).await?;
    super::show::tell(context, &mut reader, key).await?;
    reader.close().await?;
    Ok(())
}

/// Three questions to the file that is left.
fn suggest(context: &mut Context, database: &Path) -> anyhow::Result<()> {
    let quoted = quote(&database.display().to_string());
    context.printer.line("")?;
    context.printer.heading("Now ask it yourself")?;
    context.printer.line(&format!("database: {}", database.display()))?;
    for query in &story::QUERIES {
        context.printer.line("")?;
        context.printer.line(&format!("# {}", query.asks))?;
        context.printer.line(&format!("sqlite3 -box {quoted} \"{}\"", query.sql))?;
    }
    context.printer.line("")?;
    context.printer.line("# Which syncs failed or were held, and why?")?;
    context.printer.line(&format!("{} runs --database {quoted}", program()))?;
    Ok(())
}

/// How this program was called, so that what is suggested can be copied.
fn program() -> String {
    let called = std::env::args_os().next().unwrap_or_else(|| "keydrift".into());
    quote(&called.to_string_lossy())
}

/// A word for a shell.
fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Keeps the organization's API up, and its life going on, until interrupted.
async fn keep_up(
    context: &mut Context,
    server: &Server,
    database: &Path,
    stop: &Stop,
) -> anyhow::Result<()> {
    let organization = server.organization();
    context.printer.line("")?;
    context
        .printer
        .heading("The simulated API is up: try the other commands on it in another shell, after")?;
    context.printer.line("")?;
    context.printer.verbatim(&exports(context, server, database))?;
    context.printer.line("")?;
    context.printer.line(&format!("Then, for instance: {} sync", program()))?;
    context
        .printer
        .line("Something happens there every few seconds. Ctrl-C ends it; the database stays.")?;
    context.printer.flush()?;
    let mut chance = fastrand::Rng::with_seed(story::SEED);
    let kinds = [MutationKind::USUAL, MutationKind::PROJECT_MEMBERSHIP].concat();
    loop {
        tokio::select! {
            _ = stop.requested() => return Ok(()),
            () = tokio::time::sleep(HEARTBEAT) => {}
        }
        let now = context.clock.now().unix();
        organization.with(|organization| {
            organization.set_now(now);
            organization.mutate_among(&mut chance, &kinds);
        });
    }
}

/// What points the other commands at the simulation, and at nothing of the user's own.
fn exports(context: &Context, server: &Server, database: &Path) -> String {
    let mut lines = String::new();
    let mut line = |text: &str| writeln!(lines, "{text}").unwrap_or_default();
    for other in ["CREDENTIALS_DIRECTORY", "OPENAI_ADMIN_KEY_FILE", "OPENAI_ORG_ID"] {
        if context.environment.get(other).is_some() {
            line(&format!("unset {other}"));
        }
    }
    let credential = server.organization().credential();
    for (name, value) in [
        // Empty: another configuration could name other organizations.
        ("KEYDRIFT_CONFIG", "/dev/null"),
        ("KEYDRIFT__DATABASE__PATH", &database.display().to_string()),
        ("OPENAI_ADMIN_KEY", &credential),
        ("OPENAI_BASE_URL", &server.base_url()),
    ] {
        line(&format!("export {name}={}", quote(value)));
    }
    lines
}
