//! The arguments of `keydrift note`.

use clap::Args;

use super::OrganizationArg;

const NOTE_NOTES: &str = "\
A note is a link of the chain: it stays as it is, with the system user who wrote it and the time,
and can be neither edited nor erased. Names and addresses of people do not belong into it. It is
shown beside its event in `log` and `show`. A note on an event explains that event; one on a key
explains all of the key's events up to now: `keydrift log --unexplained` leaves them out.

Examples:
  keydrift note 1204 'rotation, ticket 1234'
  keydrift note key_abc 'the key of the billing export, kept until the move'";

#[derive(Debug, Args)]
#[command(after_help = NOTE_NOTES)]
pub struct Note {
    /// The number of an event, or a key: its id, the beginning of its id, its name, or the end of its value
    #[arg(value_name = "EVENT|KEY")]
    pub subject: String,
    /// What there is to say: 1 to 2000 characters
    #[arg(value_name = "TEXT", allow_hyphen_values = true)]
    pub text: String,
    #[command(flatten)]
    pub organization: OrganizationArg,
}
