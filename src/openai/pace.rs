//! How many requests are under way at once: as many as is configured, and fewer where the API has enough.
//!
//! A refusal as too many (429) and an answer that takes much longer than the fastest ones halve the number at once; it
//! rises again by one after each round of good answers. Who asks first has the first turn, whatever it asks for.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

/// An answer is slow if it takes so many times as long as a fast one, and longer than a moment.
const SLOW: u32 = 8;
const MOMENT: Duration = Duration::from_millis(500);

/// The number, and what moves it. Pure.
#[derive(Debug)]
struct Pace {
    most: usize,
    limit: usize,
    /// Good answers since the number last changed.
    good: usize,
    /// The fastest answer so far.
    fastest: Option<Duration>,
}

impl Pace {
    fn new(most: usize) -> Self {
        let most = most.max(1);
        Self { most, limit: most, good: 0, fastest: None }
    }

    /// Takes in how an answer came. `None`: it was a refusal for too many requests.
    fn note(&mut self, took: Option<Duration>) {
        let is_good = took.is_some_and(|took| {
            let fastest = self.fastest.map_or(took, |fastest| fastest.min(took));
            self.fastest = Some(fastest);
            took <= MOMENT.max(fastest.saturating_mul(SLOW))
        });
        if !is_good {
            self.limit = (self.limit / 2).max(1);
            self.good = 0;
        } else if self.limit < self.most {
            self.good += 1;
            if self.good >= self.limit * 2 {
                self.limit += 1;
                self.good = 0;
            }
        }
    }
}

/// Where every request waits for its turn.
#[derive(Debug)]
pub(super) struct Gate {
    state: Mutex<State>,
    turns: Semaphore,
}

#[derive(Debug)]
struct State {
    pace: Pace,
    /// Turns that are too many by now: so many of those under way are the last of theirs.
    owed: usize,
}

/// A request under way, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    gate: &'a Gate,
    permit: Option<SemaphorePermit<'a>>,
}

impl Gate {
    pub(super) fn new(most: usize) -> Self {
        let pace = Pace::new(most);
        Self { turns: Semaphore::new(pace.limit), state: Mutex::new(State { pace, owed: 0 }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many requests may be under way now.
    pub(super) fn limit(&self) -> usize {
        self.state().pace.limit
    }

    /// Waits for a turn: first come, first served.
    pub(super) async fn enter(&self) -> Turn<'_> {
        // It is never closed.
        Turn { gate: self, permit: self.turns.acquire().await.ok() }
    }

    /// Takes in how an answer came. `None`: it was a refusal for too many requests.
    pub(super) fn note(&self, took: Option<Duration>) {
        let mut state = self.state();
        let before = state.pace.limit;
        state.pace.note(took);
        let now = state.pace.limit;
        if now < before {
            let fewer = before - now;
            state.owed += fewer - self.turns.forget_permits(fewer);
            drop(state);
            tracing::info!(requests.at_once = now, "the API has enough: fewer requests at once");
        } else if now > before {
            let kept = state.owed.min(now - before);
            state.owed -= kept;
            self.turns.add_permits(now - before - kept);
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.state();
        if state.owed > 0
            && let Some(permit) = self.permit.take()
        {
            state.owed -= 1;
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use proptest::prelude::*;

    use super::*;

    const FAST: Option<Duration> = Some(Duration::from_millis(40));

    #[test]
    fn too_many_requests_halve_it_and_good_answers_raise_it_slowly() {
        let mut pace = Pace::new(8);
        pace.note(FAST);
        pace.note(None);
        assert_eq!(pace.limit, 4);
        pace.note(None);
        pace.note(None);
        pace.note(None);
        assert_eq!(pace.limit, 1, "one always may");
        let mut rises = Vec::new();
        for answer in 1..100 {
            let before = pace.limit;
            pace.note(FAST);
            if pace.limit > before {
                rises.push(answer);
            }
        }
        assert_eq!(pace.limit, 8);
        assert_eq!(rises, [2, 6, 12, 20, 30, 42, 56]);
    }

    #[test]
    fn an_answer_that_takes_much_longer_than_the_fastest_halves_it() {
        let mut pace = Pace::new(8);
        for millis in [40, 200, 500] {
            pace.note(Some(Duration::from_millis(millis)));
        }
        assert_eq!(pace.limit, 8, "a moment is nothing");
        pace.note(Some(Duration::from_millis(501)));
        assert_eq!(pace.limit, 4);
        // Where all answers take long, none is slow.
        let mut pace = Pace::new(8);
        for millis in [900, 2_000, 7_200] {
            pace.note(Some(Duration::from_millis(millis)));
        }
        assert_eq!(pace.limit, 8);
    }

    proptest! {
        #[test]
        fn it_stays_between_one_and_the_most(
            most in 0..70_usize,
            answers in prop::collection::vec(prop::option::of(0..20_000_u64), 0..200),
        ) {
            let mut pace = Pace::new(most);
            for millis in answers {
                pace.note(millis.map(Duration::from_millis));
                prop_assert!((1..=most.max(1)).contains(&pace.limit));
            }
        }
    }

    #[tokio::test]
    async fn no_more_than_the_limit_are_under_way_and_who_waits_gets_the_next_turn() {
        let gate = Gate::new(2);
        let first = gate.enter().await;
        let second = gate.enter().await;
        let mut third = Box::pin(gate.enter());
        assert!(third.as_mut().now_or_never().is_none());
        drop(first);
        assert!(gate.enter().now_or_never().is_none(), "the third waits, and was there before");
        let third = third.await;
        gate.note(None);
        drop(second);
        assert!(gate.enter().now_or_never().is_none(), "one is under way, and one may be");
        drop(third);
        assert!(gate.enter().now_or_never().is_some());
    }

    #[tokio::test]
    async fn turns_that_are_too_many_are_kept_where_more_are_allowed_before_they_end() {
        let gate = Gate::new(4);
        let under_way = [gate.enter().await, gate.enter().await, gate.enter().await];
        // One is free, and one is too many.
        gate.note(None);
        for _ in 0..4 {
            gate.note(FAST);
        }
        assert_eq!(gate.limit(), 3);
        assert!(gate.enter().now_or_never().is_none());
        drop(under_way);
        let again = [gate.enter().await, gate.enter().await, gate.enter().await];
        assert!(gate.enter().now_or_never().is_none());
        drop(again);
    }
}
