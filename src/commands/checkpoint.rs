//! `keydrift checkpoint`: the key that signs checkpoints, and what to do when a backup was restored.

use super::{Context, Exit, Misuse};
use crate::actor;
use crate::checkpoint;
use crate::cli::{Checkpoint, CheckpointAccept, CheckpointKeygen};

pub(super) async fn run(context: &mut Context, arguments: &Checkpoint) -> anyhow::Result<Exit> {
    match arguments {
        Checkpoint::Keygen(arguments) => keygen(context, arguments),
        Checkpoint::Accept(arguments) => accept(context, arguments).await,
    }
}

fn keygen(context: &mut Context, arguments: &CheckpointKeygen) -> anyhow::Result<Exit> {
    let public = checkpoint::generate(&arguments.file, &arguments.name)?;
    context.printer.line(&public.to_string())?;
    context.printer.note(&format!(
        "`{}` holds the signing key; keep the line above, the public key, for `keydrift verify --public-key`",
        arguments.file.display()
    ));
    Ok(Exit::Done)
}

async fn accept(context: &mut Context, arguments: &CheckpointAccept) -> anyhow::Result<Exit> {
    let reason = arguments.reason.trim();
    if reason.is_empty() {
        return Err(Misuse::Other {
            what: "`--reason`: a reason has to be given".to_owned(),
            hint: "say what was restored, from when, and why: it is kept for ever".to_owned(),
        }
        .into());
    }
    let settings = context.settings()?;
    let organization = arguments.organization.name.as_deref();
    let (now, actor) = (context.clock.now(), actor::system_user());
    let printer = &mut context.printer;
    let accepted = checkpoint::accept(&settings, organization, reason, (now, &actor), |holder| {
        printer.note(&format!("waiting for {holder}"));
    });
    let accepted = accepted.await.map_err(|error| match error {
        checkpoint::Error::Unknown { name, known } => {
            anyhow::Error::from(Misuse::UnknownOrganization { name, known })
        }
        error => error.into(),
    })?;
    for checkpoint in accepted {
        context.printer.line(&format!(
            "{}: accepted that it departs from the checkpoint of {}, {}",
            checkpoint.origin, checkpoint.place, checkpoint.time
        ))?;
    }
    Ok(Exit::Done)
}
