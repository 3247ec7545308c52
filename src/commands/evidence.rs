//! `keydrift evidence`: a period of the history for an auditor, in one file; and whether such a file holds.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use anyhow::Context as _;

use super::held::Held;
use super::{Context, Exit, Misuse, NothingKnown, verify};
use crate::audit::Verdict;
use crate::cli::{Evidence, EvidenceAction, EvidenceVerify};
use crate::clock::Timestamp;
use crate::config::Settings;
use crate::evidence::{self, MANIFEST, Manifest, archive, check};
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
    let effective = settings.effective().into_iter().map(|setting| (setting.key, setting.value));
    let contents = evidence::Context {
        from,
        to,
        configuration: effective.collect(),
        checkpoints: String::new(),
        sign: None,
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
    let note = files.remove("manifest.note");
    let manifest = Manifest::read(&manifest)
        .ok_or_else(|| no_pack("its manifest is of another format".into()))?;
    drop(note);
    if let Some(difference) = archive::find_difference(&files, &manifest.files) {
        return broken(context, arguments, &files, &difference);
    }
    match check::verify(&files) {
        Ok(verdicts) => {
            verify::print(context, arguments.format.format, &verdicts, &Held::default())
        }
        Err(error) => broken(context, arguments, &files, &error.to_string()),
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
