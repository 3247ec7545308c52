//! `keydrift note`: say something of an event or a key, for good.

use super::show::the_key;
use super::{Context, Exit, Misuse};
use crate::actor;
use crate::cli::Note;
use crate::inventory::mask_secrets;
use crate::store::{Noted, Reader};

/// The longest text, in characters.
const MOST: usize = 2_000;

/// There is no such event.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoEvent {
    #[error("there is no event {event_id}")]
    Unknown { event_id: String },
    #[error("event {event_id} is of `{organization}`")]
    Elsewhere { event_id: i64, organization: String },
}

impl NoEvent {
    pub(super) fn hint(&self) -> String {
        match self {
            Self::Unknown { .. } => {
                "`keydrift log --format json` has the numbers (`event_id`); a key whose name is a number is noted \
                 by its id"
                    .to_owned()
            }
            Self::Elsewhere { organization, .. } => {
                format!("leave `--organization` out, or write `--organization {organization}`")
            }
        }
    }
}

pub(super) async fn run(context: &mut Context, arguments: &Note) -> anyhow::Result<Exit> {
    check(&arguments.text)?;
    let settings = context.settings()?;
    let (mut writer, mut checkpoints) = context.writer(&settings).await?;
    let mut reader = Reader::open(&settings.database.path).await?;
    let wanted = arguments.organization.name.as_deref();
    let meant = meant(&mut reader, wanted, &arguments.subject).await;
    reader.close().await?;
    let (organization, noted, told) = match meant {
        Ok(meant) => meant,
        Err(error) => {
            writer.close().await?;
            return Err(error);
        }
    };
    let (now, actor) = (context.clock.now(), actor::system_user());
    let recorded = writer.note(&organization, &noted, &arguments.text, now, &actor).await;
    checkpoints.keep(&mut writer).await;
    writer.close().await?;
    recorded?;
    context.printer.line(&format!("noted of {told}"))?;
    Ok(Exit::Done)
}

/// What the note is of: the organization, the event or key, and the same for people.
async fn meant(
    reader: &mut Reader,
    wanted: Option<&str>,
    subject: &str,
) -> anyhow::Result<(String, Noted, String)> {
    // An organization that nobody knows is told first.
    Context::organizations(reader, wanted).await?;
    if subject.is_empty() || !subject.bytes().all(|c| c.is_ascii_digit()) {
        let key = the_key(reader, wanted, subject).await?;
        let told = format!("key {} of `{}`", key.key_id, key.organization);
        return Ok((key.organization, Noted::Key(key.key_id), told));
    }
    let unknown = || NoEvent::Unknown { event_id: subject.to_owned() };
    let event_id: i64 = subject.parse().map_err(|_| unknown())?;
    let event = reader.load_event(event_id).await?.ok_or_else(unknown)?;
    if wanted.is_some_and(|wanted| wanted != event.organization) {
        return Err(NoEvent::Elsewhere { event_id, organization: event.organization }.into());
    }
    let told =
        format!("event {event_id} of `{}`: {} {}", event.organization, event.event, event.key_id);
    Ok((event.organization, Noted::Event(event_id), told))
}

/// A text that is kept for ever should be one.
fn check(text: &str) -> Result<(), Misuse> {
    let control = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    let misuse = |what: &str, hint: &str| {
        Err(Misuse::Other { what: what.to_owned(), hint: hint.to_owned() })
    };
    if mask_secrets(text).is_some() {
        return misuse(
            "the text holds what looks like a whole API key",
            "a note can never be erased: name the key by its id",
        );
    }
    if text.trim().is_empty() || text.chars().count() > MOST || text.contains(control) {
        return misuse(
            "the text cannot be a note",
            "a note has 1 to 2000 characters, and no control characters but line breaks and tabs",
        );
    }
    Ok(())
}
