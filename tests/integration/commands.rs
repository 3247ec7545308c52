//! Every command with every format and filter, its values held against raw SQL of the views.

mod ends;
mod health;
mod history;
mod listings;
mod one_key;
