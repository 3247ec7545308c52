//! `keydrift evidence`: a period of the history for an auditor, in one file; and whether such a file holds.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use anyhow::Context as _;

use super::held::{self, Held};
use super::{Context, Exit, Misuse, NothingKnown, verify};
use crate::audit::{Checkpoint, Note, Standing, Verdict, VerifyingKey};
use crate::checkpoint;
use crate::cli::{Evidence, EvidenceAction, EvidenceVerify};
use crate::clock::Timestamp;
use crate::config::Settings;
use crate::evidence::check::{self, Links};
use crate::evidence::{self, MANIFEST, Manifest, NOTE, archive};
use crate::new_file::NewFile;
use crate::output;
use crate::store::{Period, Reader};

/// A file that is no evidence pack, or not a whole one.
#[derive(Debug, thiserror::Error)]
#[error("`{file}` is no evidence pack of keydrift's: {why}")]
struct NoPack {
    file: String,
    why: String,
}

pub(super) async fn run(context: &mut Context, arguments: &Evidence) -> anyhow::Result<Exit> {
    match &arguments.action {
        Some(EvidenceAction::Verify(arguments)) => verify_pack(context, arguments),
        None => make(context, arguments).await,
    }
}

async fn make(context: &mut Context, arguments: &Evidence) -> anyhow::Result<Exit> {
    let (from, to) = period(context, arguments)?;
    // The command line asks for it.
    let output = arguments.output.as_deref().unwrap_or_else(|| Path::new("evidence.tar.gz"));
    let settings = context.settings()?;
    let mut reader = Reader::open(&settings.database.path).await?;
    let period = load(&mut reader, &settings, from, to).await;
    reader.close().await?;
    let period = period?;
    if period.verdicts.is_empty() {
        return Err(NothingKnown.into());
    }
    if period.verdicts.iter().any(|verdict| verdict.problem.is_some()) {
        let format = output::Format::Table;
        context.printer.warning("no evidence is made of a history that does not hold");
        return verify::print(context, format, &period.verdicts, &Held::default());
    }
    let key = checkpoint::load_key(&settings.checkpoint).context("the pack cannot be signed")?;
    let effective = settings.effective().into_iter().map(|setting| (setting.key, setting.value));
    let contents = evidence::Context {
        from,
        to,
        configuration: effective.collect(),
        checkpoints: checkpoints(context, &settings, &period)?,
        key: key.as_ref(),
    };
    let failed = || format!("could not write `{}`", output.display());
    let file = NewFile::create(output).with_context(failed)?;
    let written = evidence::write(file, &contents, &period).with_context(failed)?;
    let bytes = written.keep().with_context(failed)?;
    let size = output::count(bytes, "byte");
    context.printer.line(&format!("{}: {size}", output.display()))?;
    Ok(Exit::Done)
}

fn period(context: &Context, arguments: &Evidence) -> Result<(Timestamp, Timestamp), Misuse> {
    let time = |argument, value: &Option<String>| {
        context.time(argument, value.as_deref().unwrap_or_default())
    };
    let (from, to) = (time("--from", &arguments.from)?, time("--to", &arguments.to)?);
    if from > to {
        return Err(Misuse::Backwards { from, to });
    }
    if to > context.clock.now() {
        return Err(Misuse::Other {
            what: format!("`--to`: {to} is yet to come"),
            hint: "evidence is of a time that has passed".to_owned(),
        });
    }
    Ok((from, to))
}

/// Those of the links in the period, from the checkpoint file.
fn checkpoints(
    context: &mut Context,
    settings: &Settings,
    period: &Period,
) -> anyhow::Result<String> {
    let names = ["chains.ndjson", "run_history.ndjson", "run_parts.ndjson", "act_history.ndjson"];
    let of_links = period.files.iter().filter(|(name, _)| names.contains(name));
    let file = |(name, content): &(&str, String)| ((*name).to_owned(), content.clone().into());
    let mut files: BTreeMap<String, Vec<u8>> = of_links.map(file).collect();
    files.insert("start.json".to_owned(), serde_json::to_vec(&period.start)?);
    let links = Links::read(&files)?;
    let is_ours = |checkpoint: &Checkpoint| {
        checkpoint.database == links.database && links.covers(&checkpoint.origin, checkpoint.place)
    };
    match checkpoint::collect(&settings.checkpoint, is_ours) {
        Ok(notes) => Ok(notes.iter().map(Note::with_empty_line).collect()),
        Err(error) => {
            let path = settings.checkpoint.path.display();
            context
                .printer
                .warning(&format!("the checkpoint file `{path}` was left aside: {error}"));
            Ok(String::new())
        }
    }
}

async fn load(
    reader: &mut Reader,
    settings: &Settings,
    from: Timestamp,
    to: Timestamp,
) -> anyhow::Result<Period> {
    let installation = reader.installation().await?;
    let overdue = |name: &str, success: Timestamp| {
        let organization = settings.organization(name)?;
        Some(organization.schedule(&installation).overdue_at(success))
    };
    Ok(reader.load_period(from, to, &overdue).await?)
}

fn verify_pack(context: &mut Context, arguments: &EvidenceVerify) -> anyhow::Result<Exit> {
    let name = arguments.file.display().to_string();
    let no_pack = |why: String| NoPack { file: name.clone(), why };
    let file = File::open(&arguments.file).with_context(|| format!("could not open `{name}`"))?;
    let mut files = archive::read(file).map_err(|error| no_pack(error.to_string()))?;
    let manifest = files.remove(MANIFEST).ok_or_else(|| no_pack("it has no manifest".into()))?;
    let note = files.remove(NOTE);
    let keys = held::keys(&arguments.public_key)?;
    let signed = standing(&manifest, note.as_deref(), &keys);
    let manifest = Manifest::read(&manifest)
        .ok_or_else(|| no_pack("its manifest is of another format".into()))?;
    if let Some(what) = signed.problem.or_else(|| manifest.find_difference(&files)) {
        return broken(context, arguments, &files, &what);
    }
    let checked = check::verify(&files).and_then(|verdicts| Ok((verdicts, Links::read(&files)?)));
    match checked {
        Ok((mut verdicts, links)) => {
            let held = held::hold_pack(arguments, &files, &links, &mut verdicts, keys)?;
            context.printer.note(&signed.remark);
            verify::print(context, arguments.format.format, &verdicts, &held)
        }
        Err(error) => broken(context, arguments, &files, &error.to_string()),
    }
}

/// Whether the manifest is signed by one of the keys that were given.
struct Signed {
    problem: Option<String>,
    remark: String,
}

fn standing(manifest: &[u8], note: Option<&[u8]>, keys: &[VerifyingKey]) -> Signed {
    let text = evidence::signed_text(manifest);
    let note = note.and_then(|note| str::from_utf8(note).ok());
    let said = |remark: &str| Signed { problem: None, remark: remark.to_owned() };
    match note {
        None if keys.is_empty() => said("the manifest is not signed"),
        Some(_) if keys.is_empty() => {
            said("the signature of the manifest was not checked: no public key was given")
        }
        note => match Standing::of_note(note.unwrap_or_default(), &text, keys) {
            Standing::Signed(name) => said(&format!("the manifest is signed by `{name}`")),
            Standing::Unsigned => Signed {
                problem: Some("its manifest is not signed by a key that was given".to_owned()),
                remark: String::new(),
            },
            Standing::Forged(name) => Signed {
                problem: Some(format!("its manifest has a forged signature of `{name}`")),
                remark: String::new(),
            },
        },
    }
}

/// Nothing in a pack is good if it is not as it was packed.
fn broken(
    context: &mut Context,
    arguments: &EvidenceVerify,
    files: &BTreeMap<String, Vec<u8>>,
    what: &str,
) -> anyhow::Result<Exit> {
    let names = check::organizations(files);
    let verdicts: Vec<Verdict> = names.iter().map(|name| Verdict::broken(name, what)).collect();
    verify::print(context, arguments.format.format, &verdicts, &Held::default())
}
