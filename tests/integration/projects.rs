//! Projects' keys: each project's list is a source of its own, and one that is not to be had costs no key.

mod commands;
mod directed;
mod half_way;
mod histories;
mod model;
mod permissions;
