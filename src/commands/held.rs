//! What `keydrift verify` makes of the checkpoints that it is given.

use std::collections::BTreeMap;

use super::{Context, Misuse};
use crate::audit::{Acceptance, Problem, Verdict, VerifyingKey};
use crate::checkpoint::{self, Proof, Source, Tally};
use crate::cli::{EvidenceVerify, Verify};
use crate::config::Settings;
use crate::evidence::CHECKPOINTS;
use crate::evidence::check::Links;
use crate::output::count;
use crate::store::Reader;

/// What the checkpoints say of each organization, and what is left to be said of them.
#[derive(Debug, Default)]
pub(super) struct Held {
    tallies: BTreeMap<String, Tally>,
    pub(super) ignored: u64,
    damaged: u64,
    by_keys: bool,
}

/// The verdicts where there is no database, though there should be one: nothing else is left to be said.
pub(super) fn without_database(
    context: &mut Context,
    settings: &Settings,
    wanted: Option<&str>,
    missing: &checkpoint::Error,
) -> Result<Vec<Verdict>, Misuse> {
    let names = settings.organizations.iter().map(|organization| organization.name.to_string());
    if let Some(name) = wanted.filter(|name| settings.organization(name).is_none()) {
        return Err(Misuse::UnknownOrganization { name: name.to_owned(), known: names.collect() });
    }
    if let Some(hint) = missing.hint() {
        context.printer.note(&hint);
    }
    let wanted = names.filter(|name| wanted.is_none_or(|wanted| wanted == name));
    Ok(wanted.map(|name| Verdict::broken(&name, &missing.to_string())).collect())
}

/// Reads the checkpoints, and holds each history against them. The first link that is not what its checkpoint
/// says is the problem of its organization, unless there is an earlier one.
pub(super) async fn hold(
    context: &mut Context,
    settings: &Settings,
    arguments: &Verify,
    reader: &mut Reader,
    verdicts: &mut Vec<Verdict>,
) -> anyhow::Result<Held> {
    let keys = keys(&arguments.public_key)?;
    let by_keys = !keys.is_empty();
    let mut sources = vec![Source::Own(settings.checkpoint.path.clone())];
    sources.extend(arguments.checkpoints.iter().cloned().map(Source::File));
    sources.extend(arguments.journal.then_some(Source::Journal));
    let database = reader.installation().await?;
    let proof = Proof::read(&database, &sources, keys)?;
    if let Some((path, error)) = &proof.unreadable {
        let path = path.display();
        context.printer.warning(&format!("the checkpoint file `{path}` was left aside: {error}"));
    }
    let mut held = Held { by_keys, ..Held::default() };
    (held.ignored, held.damaged) = (proof.ignored, proof.damaged);
    // Of a history that is not there at all, nothing else would tell.
    for origin in proof.origins() {
        if !verdicts.iter().any(|verdict| verdict.origin == origin) {
            verdicts.push(Verdict::unread(origin, "it is not in the database"));
        }
    }
    for verdict in verdicts {
        let name = &verdict.organization;
        let accepted: Vec<Acceptance> = verdict.acts.iter().filter_map(Acceptance::of).collect();
        let tally = proof.hold(reader, &verdict.origin, &accepted).await?;
        held.tallies.insert(name.clone(), tally.clone());
        blame(verdict, tally);
    }
    Ok(held)
}

/// The same of the history in an evidence pack.
pub(super) fn hold_pack(
    arguments: &EvidenceVerify,
    files: &BTreeMap<String, Vec<u8>>,
    links: &Links,
    verdicts: &mut Vec<Verdict>,
    keys: Vec<VerifyingKey>,
) -> anyhow::Result<Held> {
    let by_keys = !keys.is_empty();
    let text = files.get(CHECKPOINTS).map(Vec::as_slice).unwrap_or_default();
    let mut proof = Proof::of_text(&links.database, text, keys);
    for file in &arguments.checkpoints {
        proof.add_file(file)?;
    }
    proof.retain(|origin, place| links.covers(origin, place));
    for origin in proof.origins() {
        if !links.chains.values().any(|(name, _)| name == origin) {
            verdicts.push(Verdict::unread(origin, "it is not in the pack"));
        }
    }
    let mut held = Held { by_keys, ..Held::default() };
    (held.ignored, held.damaged) = (proof.ignored, proof.damaged);
    for verdict in verdicts {
        let accepted: Vec<Acceptance> = verdict.acts.iter().filter_map(Acceptance::of).collect();
        let Some((origin, chain)) = links.chains.get(&verdict.organization) else { continue };
        let tally = proof.hold_links(origin, chain, &accepted);
        held.tallies.insert(verdict.organization.clone(), tally.clone());
        blame(verdict, tally);
    }
    Ok(held)
}

pub(super) fn keys(texts: &[String]) -> Result<Vec<VerifyingKey>, Misuse> {
    let parse = |text: &String| {
        text.parse().map_err(|fault| Misuse::Other {
            what: format!("`--public-key`: `{text}` cannot be used: {fault}"),
            hint: "`keydrift checkpoint keygen` printed it".to_owned(),
        })
    };
    texts.iter().map(parse).collect()
}

fn blame(verdict: &mut Verdict, tally: Tally) {
    let Some((place, what)) = tally.bad else { return };
    // What is of no run is of all of them.
    let is_first = verdict
        .problem
        .as_ref()
        .is_none_or(|problem| problem.run_id.is_some_and(|run_id| place.run_id < run_id));
    if is_first {
        verdict.problem = Some(Problem { run_id: Some(place.run_id), what });
        verdict.good_until = tally.good_until;
    }
}

impl Held {
    /// How many checkpoints of an organization agree, are signed, and are given up.
    pub(super) fn counts(&self, organization: &str) -> [u64; 3] {
        let tally = self.tallies.get(organization);
        tally.map_or([0; 3], |tally| [tally.agree, tally.signed, tally.abandoned])
    }

    /// What people should know of an organization's checkpoints.
    pub(super) fn explain(&self, organization: &str) -> Vec<String> {
        let Some(tally) = self.tallies.get(organization) else { return Vec::new() };
        let mut lines = Vec::new();
        let mut say = |what: String| lines.push(format!("{organization}: {what}"));
        match &tally.newest {
            Some((place, signature)) => {
                let verb = if tally.agree == 1 { "agrees" } else { "agree" };
                say(format!(
                    "{} {verb}, the newest of {place} ({signature})",
                    count(tally.agree, "checkpoint")
                ));
            }
            None if self.by_keys => say("no checkpoint signed by a key that was given".to_owned()),
            None => say("no checkpoint to hold it against".to_owned()),
        }
        if tally.unproven > 0 {
            let unproven = count(tally.unproven, "checkpoint");
            say(format!(
                "{unproven} without a signature by a key that was given: no proof of anything"
            ));
        }
        if tally.abandoned > 0 {
            let abandoned = count(tally.abandoned, "checkpoint");
            say(format!("{abandoned} given up when a restored database was accepted"));
        }
        lines
    }

    /// What they should know of the checkpoints as such.
    pub(super) fn remarks(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.ignored > 0 {
            lines.push(format!("{} of other databases ignored", count(self.ignored, "checkpoint")));
        }
        if self.damaged > 0 {
            lines.push(format!("{} could not be read", count(self.damaged, "checkpoint")));
        }
        lines
    }
}
