//! The `keydrift` binary.
fn main() {}
