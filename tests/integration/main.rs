//! Tests through the real binary, real HTTP and real SQLite files.

#![expect(
    unreachable_pub,
    reason = "a test binary has no outside; `pub` says what a module offers"
)]

mod support;

mod clock;
mod concurrency;
mod crashes;
mod credentials;
mod database;
mod faults;
mod full_disk;
mod histories;
mod hostile;
mod listing;
mod messages;
mod organizations;
mod removals;
