//! Reads the history in a pack as [`crate::store`] reads that in a database.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::audit::lines::{
    ActLine, AttributionLine, AttributionSaltLine, AttributionSalts, ChainLine, ErasedLine,
    EventLine, InventoryLine, NoticeLine, NoticeSaltLine, NoticeSalts, PartLine, RunLine,
    SaltsLine, Unreadable, read_lines,
};
use crate::audit::{
    ActRecord, AttributionRecord, Digest, Erased, Feed, Inventories, NoticeRecord, PartDigest,
    Place, RunRecord, Salt, Start, Told, Verdict, Verifier,
};

const ATTRIBUTIONS: &str = "attribution_history.ndjson";
const ATTRIBUTION_SALTS: &str = "attribution_salts.ndjson";

type Files = BTreeMap<String, Vec<u8>>;

/// Why the history in a pack could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("`{0}` is missing")]
    Missing(&'static str),
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    #[error("`start.json` is not what it must be: {0}")]
    Start(String),
    #[error("`{0}` is not in `chains.ndjson`")]
    Stranger(String),
}

/// The verdicts on a pack's history and its inventories, by organization.
pub fn verify(files: &Files) -> Result<Vec<Verdict>, Error> {
    let mut chains = Vec::new();
    each(files, "chains.ndjson", |line: ChainLine| {
        chains.push((line.organization, line.origin));
        Ok(())
    })?;
    let start: Start = serde_json::from_slice(content(files, "start.json")?)
        .map_err(|error| Error::Start(error.to_string()))?;
    let mut inventories = Inventories::new();
    each(files, "keys_before.ndjson", |line: InventoryLine| {
        let (name, unconfirmed) = (line.organization.clone(), line.unconfirmed == 1);
        inventories.entry(name).or_default().push((line.read()?, unconfirmed));
        Ok(())
    })?;
    let never_overdue = |_: &str, _| None;
    let verifier = Verifier::new(chains, &never_overdue);
    let mut verifier = verifier.resume(&start, inventories).map_err(Error::Start)?;
    feed(files, &mut verifier)?;
    each(files, "all_keys.ndjson", |line: InventoryLine| {
        let name = line.organization.clone();
        verifier.inventory(&name, line.read());
        Ok(())
    })?;
    Ok(verifier.finish())
}

/// The links in a pack, and the ones before them.
#[derive(Debug, Default)]
pub struct Links {
    pub database: String,
    start: Start,
    last_run_id: i64,
    /// By the name of the organization: the one under which its chain began, and its links.
    pub chains: BTreeMap<String, (String, HashMap<Place, Digest>)>,
}

impl Links {
    pub fn read(files: &Files) -> Result<Self, Error> {
        let start: Start = serde_json::from_slice(content(files, "start.json")?)
            .map_err(|error| Error::Start(error.to_string()))?;
        let mut links = Self { last_run_id: start.run_id, start, ..Self::default() };
        each(files, "chains.ndjson", |line: ChainLine| {
            links.database = line.database_id;
            links.chains.insert(line.organization, (line.origin, HashMap::new()));
            Ok(())
        })?;
        for run in read_runs(files)? {
            links.last_run_id = links.last_run_id.max(run.run_id);
            links.put(&run.organization, Place { run_id: run.run_id, act_id: None }, run.digest);
        }
        each(files, "act_history.ndjson", |line: ActLine| {
            let act = line.read()?;
            let place = Place { run_id: act.after_run_id, act_id: Some(act.act_id) };
            links.put(&act.organization, place, act.digest);
            Ok(())
        })?;
        Ok(links)
    }

    fn put(&mut self, organization: &str, place: Place, digest: Option<Digest>) {
        if let (Some((_, chain)), Some(digest)) = (self.chains.get_mut(organization), digest) {
            chain.insert(place, digest);
        }
    }

    /// Whether a checkpoint is of a link in the pack, or of one that should be.
    #[must_use]
    pub fn covers(&self, origin: &str, place: Place) -> bool {
        let chain = self.chains.values().find(|(name, _)| name == origin);
        if chain.is_some_and(|(_, chain)| chain.contains_key(&place)) {
            return true;
        }
        // An act behind the last run may have been done when the period was over.
        let last = self.last_run_id - i64::from(place.act_id.is_some());
        place.run_id > self.start.run_id && place.run_id <= last
    }
}

/// The names of the organizations in a pack, or a dash.
#[must_use]
pub fn organizations(files: &Files) -> Vec<String> {
    let mut names = Vec::new();
    let read = each(files, "chains.ndjson", |line: ChainLine| {
        names.push(line.organization);
        Ok(())
    });
    if read.is_err() || names.is_empty() {
        names = vec!["-".to_owned()];
    }
    names
}

fn feed(files: &Files, verifier: &mut Verifier<'_>) -> Result<(), Error> {
    let erased = read_erased(files)?;
    let mut runs = read_runs(files)?;
    runs.sort_by_key(|run| run.run_id);
    let mut notices = read_notices(files, &erased)?;
    notices.sort_by_key(|(_, notice)| (notice.run_id, notice.notice_id));
    let mut acts = Vec::new();
    each(files, "act_history.ndjson", |line: ActLine| {
        acts.push(line.read()?);
        Ok(())
    })?;
    acts.sort_by_key(|act: &ActRecord| (act.after_run_id, act.act_id));
    let of_acts = acts.iter().map(|act: &ActRecord| &act.organization);
    let mut organizations = runs.iter().map(|run| &run.organization).chain(of_acts);
    if let Some(stranger) = organizations.find(|name| !verifier.knows(name)) {
        return Err(Error::Stranger(stranger.clone()));
    }
    let salts = read_salts(files)?;
    let before = verifier.last_event_id();
    let said = runs.iter().map(RunRecord::events).fold(0_i64, i64::saturating_add);
    let room = before.saturating_add(1)..=before.saturating_add(said);
    let event = |line: EventLine| {
        let of_event = salts.get(&line.event_id).copied().unwrap_or_default();
        line.read(of_event, &erased)
    };
    let mut events: Vec<EventLine> = Vec::new();
    each(files, "audit_history.ndjson", |line| {
        events.push(line);
        Ok(())
    })?;
    events.sort_by_key(|line| line.event_id);
    let mut attributions = read_attributions(files, &erased, &events)?;
    attributions.sort_by_key(|(_, of)| (of.run_id, of.attribution_id));
    // What no run has room for is known before the runs.
    let (events, strays): (Vec<_>, Vec<_>) =
        events.into_iter().partition(|line| room.contains(&line.event_id));
    for line in strays {
        verifier.stray_event(&event(line));
    }
    let mut acts = VecDeque::from(acts);
    let told = Told { notices, attributions };
    let mut feed = Feed::new(verifier, runs, told, &mut acts, None);
    for line in events {
        feed.event(&event(line));
    }
    feed.end();
    for act in acts {
        verifier.act(act);
    }
    Ok(())
}

fn read_runs(files: &Files) -> Result<Vec<RunRecord>, Error> {
    let mut parts: HashMap<i64, Vec<PartDigest>> = HashMap::new();
    each(files, "run_parts.ndjson", |line: PartLine| {
        let (run_id, part) = line.read()?;
        parts.entry(run_id).or_default().push(part);
        Ok(())
    })?;
    let mut runs = Vec::new();
    each(files, "run_history.ndjson", |line: RunLine| {
        runs.push(line.read(&parts)?);
        Ok(())
    })?;
    Ok(runs)
}

fn read_erased(files: &Files) -> Result<Erased, Error> {
    let mut erased = Erased::new();
    each(files, "erased_values.ndjson", |line: ErasedLine| line.put(&mut erased))?;
    Ok(erased)
}

fn read_notices(files: &Files, erased: &Erased) -> Result<Vec<(String, NoticeRecord)>, Error> {
    let mut salts = NoticeSalts::new();
    each(files, "notice_salts.ndjson", |line: NoticeSaltLine| line.put(&mut salts))?;
    let mut told = Vec::new();
    each(files, "notice_history.ndjson", |line: NoticeLine| {
        told.push(line.read(&salts, erased)?);
        Ok(())
    })?;
    Ok(told)
}

/// Those of a pack from before there were any are none.
fn read_attributions(
    files: &Files,
    erased: &Erased,
    events: &[EventLine],
) -> Result<Vec<(String, AttributionRecord)>, Error> {
    let mut attributions = Vec::new();
    if !files.contains_key(ATTRIBUTIONS) && !files.contains_key(ATTRIBUTION_SALTS) {
        return Ok(attributions);
    }
    let mut salts = AttributionSalts::new();
    each(files, ATTRIBUTION_SALTS, |line: AttributionSaltLine| line.put(&mut salts))?;
    let events = events.iter().map(|line| (line.event_id, line.explained())).collect();
    each(files, ATTRIBUTIONS, |line: AttributionLine| {
        attributions.push(line.read(&salts, erased, &events));
        Ok(())
    })?;
    Ok(attributions)
}

/// Of events, by their ids: those of the old side and of the new one.
type Salts = HashMap<i64, (Option<Salt>, Option<Salt>)>;

fn read_salts(files: &Files) -> Result<Salts, Error> {
    let mut salts = HashMap::new();
    each(files, "audit_salts.ndjson", |line: SaltsLine| {
        salts.insert(line.event_id, line.read()?);
        Ok(())
    })?;
    Ok(salts)
}

fn content<'a>(files: &'a Files, name: &'static str) -> Result<&'a [u8], Error> {
    files.get(name).map(Vec::as_slice).ok_or(Error::Missing(name))
}

fn each<'a, T: serde::Deserialize<'a>>(
    files: &'a Files,
    name: &'static str,
    each: impl FnMut(T) -> Result<(), String>,
) -> Result<(), Error> {
    Ok(read_lines(name, content(files, name)?, each)?)
}
