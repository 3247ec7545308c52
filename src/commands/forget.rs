//! `keydrift forget`: erase what is known of a person.

use super::{Context, Exit};
use crate::actor;
use crate::cli::Forget;
use crate::output;
use crate::store::{Forgetting, Reader};

/// Nobody of this id was ever seen.
#[derive(Debug, thiserror::Error)]
#[error("nobody with the id `{owner_id}` is known")]
pub(super) struct Unknown {
    owner_id: String,
}

impl Unknown {
    pub(super) fn hint() -> String {
        "`keydrift keys --format json` has the ids of owners (`owner_id`), `keydrift log --format json` of those who \
         did something (`actor_id`); names and e-mail addresses are none, and nobody without an id can be forgotten"
            .to_owned()
    }
}

pub(super) async fn run(context: &mut Context, arguments: &Forget) -> anyhow::Result<Exit> {
    let settings = context.settings()?;
    let owner_id = arguments.owner_id.as_str();
    let (mut writer, mut checkpoints) = context.writer(&settings).await?;
    let mut reader = Reader::open(&settings.database.path).await?;
    let wanted = arguments.organization.name.as_deref();
    let names = Context::organizations(&mut reader, wanted).await?;
    reader.close().await?;
    let actor = actor::system_user();
    let mut lines = Vec::new();
    for name in names {
        match writer.forget(&name, owner_id, context.clock.now(), &actor).await? {
            Forgetting::Unknown => {}
            Forgetting::Before => lines.push(format!("{name}: `{owner_id}` was forgotten before")),
            Forgetting::Done { places } => {
                let values = output::count(places, "value");
                lines.push(format!("{name}: `{owner_id}` is forgotten: {values} erased"));
            }
        }
    }
    checkpoints.keep(&mut writer).await;
    if lines.is_empty() {
        writer.close().await?;
        return Err(Unknown { owner_id: owner_id.to_owned() }.into());
    }
    for line in lines {
        context.printer.line(&line)?;
    }
    // Also of one who was forgotten before: it may have failed then.
    writer.scrub().await?;
    writer.close().await?;
    context.printer.note("backups and copies of the database still have what was erased");
    Ok(Exit::Done)
}
