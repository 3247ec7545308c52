//! Tests through the real binary, real HTTP and real SQLite files.

#![expect(
    unreachable_pub,
    reason = "a test binary has no outside; `pub` says what a module offers"
)]
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "helpers of tests fail as tests do: by a panic that says why"
)]

mod support;

mod attribution;
mod checkpoints;
mod clock;
mod commands;
mod concurrency;
mod crashes;
mod credentials;
mod daemon;
mod database;
mod demo;
mod docs;
mod doctor;
mod evidence;
mod faults;
mod findings;
mod full_disk;
mod histories;
mod hostile;
mod list_in_parts;
mod listing;
mod messages;
mod notes;
mod organizations;
mod pitfalls;
mod projects;
mod removals;
mod renames;
mod retention;
mod side_by_side;
mod soak;
mod verify;
