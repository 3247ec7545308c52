//! Telling others of runs.

pub mod heartbeat;
