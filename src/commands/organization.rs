//! `keydrift organization rename`: another name for an organization, and the same history.

use super::{Context, Exit, Misuse};
use crate::actor;
use crate::cli::OrganizationRename;
use crate::config::{OrgName, Settings};
use crate::store::{Reader, Renaming, Writer};

pub(super) async fn rename(
    context: &mut Context,
    arguments: &OrganizationRename,
) -> anyhow::Result<Exit> {
    let OrganizationRename { old, new } = arguments;
    if OrgName::new(new).is_none() {
        return Err(misuse(
            format!("`{new}` cannot be the name of an organization"),
            "use small letters, digits, `_` and `-`, up to 63, with a letter or digit first",
        ));
    }
    if old == new {
        return Err(misuse(
            format!("`{old}` and `{new}` are the same name"),
            "name the organization, and then the name that it is to get",
        ));
    }
    let settings = context.settings()?;
    let (mut writer, mut checkpoints) = context.writer(&settings).await?;
    let renamed = in_database(context, &settings, &mut writer, arguments).await;
    if renamed.is_ok() {
        checkpoints.keep(&mut writer).await;
    }
    let closed = writer.close().await;
    renamed?;
    context.printer.line(&format!("`{old}` is called `{new}` now, and so is all of its past"))?;
    compare_with_configuration(context, &settings, arguments);
    closed?;
    Ok(Exit::Done)
}

fn misuse(what: String, hint: &str) -> anyhow::Error {
    Misuse::Other { what, hint: hint.to_owned() }.into()
}

async fn in_database(
    context: &mut Context,
    settings: &Settings,
    writer: &mut Writer,
    OrganizationRename { old, new }: &OrganizationRename,
) -> anyhow::Result<()> {
    // A run under the old name comes before.
    while let Some(run) = writer.settle_run(context.clock.now()).await? {
        context.printer.warning(&format!(
            "an earlier run of `{}` had no end yet; it is in the run history now",
            run.organization
        ));
    }
    let actor = actor::system_user();
    match writer.rename(old, new, context.clock.now(), &actor).await? {
        Renaming::Done => Ok(()),
        Renaming::Unknown => {
            let mut reader = Reader::open(&settings.database.path).await?;
            let (known, now) =
                (reader.list_organizations().await?, reader.find_renamed(old).await?);
            reader.close().await?;
            Err(match now {
                Some(now) => misuse(
                    format!("`{old}` was renamed before: it is called `{now}` now"),
                    &format!("`keydrift organization rename {now} {new}` gives it another name"),
                ),
                None => Misuse::UnknownOrganization { name: old.clone(), known }.into(),
            })
        }
        Renaming::Taken { by } if by == *new => Err(misuse(
            format!("there is an organization `{new}` already"),
            "choose a name that none has or had: two histories never become one",
        )),
        Renaming::Taken { by } => Err(misuse(
            format!("`{new}` was the name of the organization that is called `{by}` now"),
            "choose another one: a name stays with the organization that had it first",
        )),
    }
}

/// The configuration has names, too.
fn compare_with_configuration(
    context: &mut Context,
    settings: &Settings,
    OrganizationRename { old, new }: &OrganizationRename,
) {
    let printer = &mut context.printer;
    match (settings.organization(old).is_some(), settings.organization(new).is_some()) {
        (true, _) => printer.warning(&format!(
            "`{old}` is still configured, and a sync under that name is refused: rename it in the configuration to \
             `{new}`, with its credential, and reload the daemon"
        )),
        (false, false) => printer.warning(&format!(
            "`{new}` is not configured: it is not watched until the configuration has `[organizations.{new}]`"
        )),
        (false, true) => printer.note("the daemon takes the new name when it reads the configuration anew"),
    }
}
