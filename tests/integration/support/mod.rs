//! What the tests stand on: the binary, the simulated organization, raw SQL, and the oracle.

pub mod binary;
pub mod drills;
pub mod here;
pub mod history;
pub mod oracle;
pub mod running;
pub mod sql;
pub mod started;
pub mod two;
pub mod world;
pub mod wreck;

pub use binary::{Keydrift, Ran};
pub use here::Here;
pub use history::History;
pub use running::Running;
pub use started::{Gate, Started, until};
pub use world::World;
