//! Every text that people read, word by word: helps, tables, errors.

mod doctor;
mod errors;
mod help;
mod tables;

use crate::support::{Ran, World};

/// The text with what differs from run to run hidden.
pub(crate) fn stable(world: &World, text: &str) -> String {
    let directory = world.path().display().to_string();
    let port = world.server.addr().to_string();
    text.replace(&directory, "DIR").replace(&port, "ADDR")
}

/// An error is one to three lines on stderr. Lines of the log may come before it.
#[track_caller]
fn error(world: &World, ran: &Ran) -> String {
    let error: Vec<&str> =
        ran.stderr.lines().skip_while(|line| line.contains(" WARN keydrift::")).collect();
    assert!((1..=3).contains(&error.len()), "{} lines\n{ran}", error.len());
    assert!(error[0].starts_with("error: "), "{ran}");
    stable(world, &error.join("\n"))
}
