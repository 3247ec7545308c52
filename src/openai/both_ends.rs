//! Where a list that is read from both its ends has been read as a whole. Pure.
//!
//! Two walks that have seen one key have not always seen everything between the ends: of keys made in one second, a
//! server may list the same one first in either order, and then each walk stops short of a key that only the other
//! direction would have come to. So the ends meet where they have a key in common, and the walk from the oldest on has
//! come to a later second than the walk from the newest on: every lasting key is before the one or behind the other.

use super::walk::{Item, Walk};
use crate::clock::Timestamp;

/// How far two walks towards each other have come.
#[derive(Debug, Default)]
pub(super) struct Meeting {
    have_met: bool,
    oldest_until: Option<Timestamp>,
    newest_until: Option<Timestamp>,
}

impl Meeting {
    /// After a page for the walk from the oldest key on.
    pub(super) fn take_oldest(&mut self, page: &[Item], oldest: &Walk, newest: &Walk) {
        let accepted = page.iter().filter(|(id, _)| oldest.has_seen(id));
        self.oldest_until = self.oldest_until.max(accepted.filter_map(|item| item.1).max());
        self.have_met |= page.iter().any(|(id, _)| newest.has_seen(id));
    }

    /// After a page for the walk from the newest key on.
    pub(super) fn take_newest(&mut self, page: &[Item], oldest: &Walk, newest: &Walk) {
        let accepted = page.iter().filter(|(id, _)| newest.has_seen(id));
        let reached = accepted.filter_map(|item| item.1).chain(self.newest_until).min();
        self.newest_until = reached;
        self.have_met |= page.iter().any(|(id, _)| oldest.has_seen(id));
    }

    /// Whether everything lasting has been seen by one walk or the other.
    pub(super) fn is_complete(&self) -> bool {
        self.have_met && self.newest_until.is_some() && self.oldest_until > self.newest_until
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    fn items(keys: &[(i64, usize)], with_times: bool) -> Vec<Item> {
        let item = |(second, id): &(i64, usize)| {
            let time = Timestamp::from_unix(*second).filter(|_| with_times);
            (Arc::from(id.to_string()), time)
        };
        keys.iter().map(item).collect()
    }

    proptest! {
        /// However the server lists the keys of one second, in either order.
        #[test]
        fn where_the_ends_meet_all_has_been_seen(
            mut seconds in prop::collection::vec(0..12_i64, 1..40),
            limit in 1..6_usize,
            ties_stay in any::<bool>(),
            turns in prop::collection::vec(any::<bool>(), 1..12),
        ) {
            seconds.sort_unstable();
            let rising: Vec<(i64, usize)> = seconds.into_iter().zip(0..).collect();
            let mut falling = rising.clone();
            if ties_stay {
                falling.sort_by_key(|(second, _)| -second);
            } else {
                falling.reverse();
            }
            let (mut meeting, mut oldest, mut newest) =
                (Meeting::default(), Walk::default(), Walk::default());
            let (mut up, mut down) = (rising.chunks(limit), falling.chunks(limit));
            let mut seen = BTreeSet::new();
            for turn in turns.iter().cycle() {
                let Some(page) = (if *turn { up.next() } else { down.next() }) else { break };
                seen.extend(page.iter().copied());
                if *turn {
                    oldest.accept(&items(page, true), Some(up.len() > 0)).unwrap();
                    meeting.take_oldest(&items(page, true), &oldest, &newest);
                } else {
                    newest.accept(&items(page, false), Some(down.len() > 0)).unwrap();
                    meeting.take_newest(&items(page, true), &oldest, &newest);
                }
                if meeting.is_complete() {
                    prop_assert_eq!(seen.len(), rising.len());
                    break;
                }
            }
        }
    }

    #[test]
    fn keys_of_one_second_that_stand_the_same_in_either_order_are_no_meeting() {
        // 1 2 | 3 3' 4 and 4 3 | 3' 2 1: both have seen the first key of second 3, and nobody the second.
        let (mut meeting, mut oldest, mut newest) =
            (Meeting::default(), Walk::default(), Walk::default());
        let rising = [(1, 1), (2, 2), (3, 3)];
        oldest.accept(&items(&rising, true), Some(true)).unwrap();
        meeting.take_oldest(&items(&rising, true), &oldest, &newest);
        let falling = [(4, 5), (3, 3)];
        newest.accept(&items(&falling, false), Some(true)).unwrap();
        meeting.take_newest(&items(&falling, true), &oldest, &newest);
        assert!(!meeting.is_complete());
        let next = [(3, 4), (2, 2)];
        newest.accept(&items(&next, false), Some(true)).unwrap();
        meeting.take_newest(&items(&next, true), &oldest, &newest);
        assert!(meeting.is_complete());
    }
}
