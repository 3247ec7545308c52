//! Organizations of every size, and the same world twice.

use crate::support::{World, sql};

#[test]
fn organizations_of_every_size_are_listed_whole() {
    for keys in [0, 1, 20, 99, 100, 101, 250] {
        let world = World::new(keys);
        world.sync();
        let found = sql::integer(&world.database(), "select count(*) from current_keys");
        assert_eq!(found, i64::try_from(keys).unwrap());
    }
}

#[test]
fn the_same_world_twice_adds_no_events() {
    let world = World::new(250);
    world.sync();
    let before = sql::rows(&world.database(), "select * from audit_history");
    world.sync();
    assert_eq!(sql::rows(&world.database(), "select * from audit_history"), before);
    assert_eq!(sql::integer(&world.database(), "select count(*) from run_history"), 2);
}
