//! The law of reading side by side, on a list that changes between any two answers.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::openai::walk::law::{Case, Vanished, World, any_case};

/// A list that was read once, lived on, and is read again.
#[derive(Debug, Clone)]
struct Plan {
    case: Case,
    /// How many changes come before the first request.
    before: usize,
    /// So many keys lie between two boundaries.
    every: usize,
    at_once: usize,
    /// Which of the requests under way is answered next.
    turns: Vec<u8>,
}

struct Outcome {
    seen: BTreeSet<u32>,
    initial: BTreeSet<u32>,
    world: World,
    requests: usize,
    segments: usize,
    ruled_out: bool,
}

fn number(id: &str) -> u32 {
    id.parse().unwrap()
}

/// Keys of a snapshot that may be boundaries: of those that share their second, nobody knows the order.
fn boundaries(world: &World, every: usize) -> Vec<Boundary> {
    let mut by_second: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
    for (second, id) in &world.keys {
        by_second.entry(*second).or_default().push(*id);
    }
    let mut place = 0;
    let mut boundaries = Vec::new();
    let mut last = 0;
    for (second, ids) in by_second {
        place += ids.len();
        if ids.len() == 1 && place >= last + every && place < world.keys.len() {
            last = place;
            let created_at = Timestamp::from_unix(second).unwrap();
            boundaries.push(Boundary { id: Arc::from(ids[0].to_string()), created_at });
        }
    }
    boundaries
}

/// `None`: the list could not be read, and nothing came of it.
fn simulate(plan: &Plan) -> Option<Outcome> {
    let case = &plan.case;
    let mut world = World::new(&case.seconds);
    let mut segments = Segments::new(boundaries(&world, plan.every));
    let mut changes = case.changes.iter();
    for change in changes.by_ref().take(plan.before).flatten() {
        world.change(*change, None);
    }
    let initial: BTreeSet<u32> = world.keys.iter().map(|key| key.1).collect();
    // What was deleted before is not missed.
    world.deleted.clear();
    let count = segments.len();
    let mut seen = BTreeSet::new();
    let (mut under_way, mut requests) = (Vec::new(), 0);
    let mut turns = plan.turns.iter().cycle();
    let mut begun = false;
    let begins_anew = case.vanished == Vanished::FromTheStart && case.changes.len() > plan.before;
    let walk = loop {
        let most = if begun { plan.at_once } else { 1 };
        while under_way.len() < most {
            let Some(wanted) = segments.next() else { break };
            under_way.push(wanted);
            requests += 1;
        }
        assert!(!under_way.is_empty(), "nothing is asked for, and it is not complete");
        let turn = usize::from(*turns.next().unwrap()) % under_way.len();
        let wanted = under_way.swap_remove(turn);
        let cursor = wanted.after.as_deref().map(number);
        if begun && let Some(changes) = changes.next() {
            for change in changes {
                world.change(*change, cursor);
            }
        }
        begun = true;
        let taken = match world.page(case, cursor) {
            Ok((page, has_more)) => {
                let taken = segments.accept(wanted.segment, &page, has_more);
                if let Ok(Taken::Page(flags)) = &taken {
                    assert!(flags.len() <= page.len());
                    for ((id, _), fresh) in page.iter().zip(flags) {
                        // Of what a server shows anew, not all is remembered.
                        let is_again = *fresh && !seen.insert(number(id));
                        assert!(!is_again || begins_anew, "{id} is handed over twice");
                    }
                }
                taken.map(drop)
            }
            Err(status) => segments.refuse(wanted.segment, status),
        };
        match taken {
            Ok(()) if segments.is_complete() => break None,
            Ok(()) => {}
            Err(Hindrance::Stuck(_)) => return None,
            Err(Hindrance::RuledOut(_)) => break Some(segments.into_first()),
        }
        assert!(requests < 20_000, "it does not end");
    };
    let ruled_out = walk.is_some();
    if let Some(walk) = walk {
        requests += go_on(walk, &mut world, case, &mut seen)?;
    }
    Some(Outcome { seen, initial, world, requests, segments: count, ruled_out })
}

/// Reads the rest page by page.
fn go_on(
    mut walk: Walk,
    world: &mut World,
    case: &Case,
    seen: &mut BTreeSet<u32>,
) -> Option<usize> {
    for request in 1..20_000 {
        let answer = world.page(case, walk.cursor().map(number));
        let verdict = match &answer {
            Ok((page, has_more)) => walk.accept(page, *has_more),
            Err(status) => walk.refuse(*status),
        };
        let verdict = verdict.ok()?;
        if let (Verdict::Taken { end, .. }, Ok((page, _))) = (verdict, answer) {
            seen.extend(page.iter().map(|(id, _)| number(id)));
            if end {
                return Some(request);
            }
        }
    }
    panic!("the walk does not end");
}

fn any_plan() -> impl Strategy<Value = Plan> {
    let turns = prop::collection::vec(any::<u8>(), 1..30);
    (any_case(true), 0..4_usize, 1..8_usize, 1..6_usize, turns).prop_map(
        |(case, before, every, at_once, turns)| Plan { case, before, every, at_once, turns },
    )
}

fn assert_law(plan: &Plan) -> Option<bool> {
    let outcome = simulate(plan)?;
    let lasting: BTreeSet<u32> =
        outcome.initial.difference(&outcome.world.deleted).copied().collect();
    let missed: Vec<_> = lasting.difference(&outcome.seen).collect();
    assert!(missed.is_empty(), "missed {missed:?}");
    let existed: BTreeSet<u32> = outcome.world.ever.clone();
    assert!(outcome.seen.is_subset(&existed), "invented");
    Some(outcome.ruled_out)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_lasting_key_is_handed_over_once_and_none_is_invented(plan in any_plan()) {
        assert_law(&plan);
    }

    /// Whatever was deleted since the snapshot, and however that is answered.
    #[test]
    fn a_segment_costs_no_more_than_one_request_beyond_those_of_a_sequential_scan(mut plan in any_plan()) {
        plan.case.changes.truncate(plan.before);
        plan.case.sends_has_more = true;
        if let Some(outcome) = simulate(&plan) {
            prop_assert!(!outcome.ruled_out);
            let pages = outcome.initial.len().div_ceil(plan.case.limit).max(1);
            prop_assert!(
                outcome.requests <= pages + outcome.segments,
                "{} requests for {pages} pages and {} segments", outcome.requests, outcome.segments
            );
        }
    }
}

/// Keys a second apart.
fn keys(count: i64) -> Vec<i64> {
    (0..count).collect()
}

#[test]
fn an_unchanged_list_takes_as_many_requests_as_it_has_pages() {
    for at_once in [1, 3, 8] {
        let case = Case {
            seconds: keys(97),
            limit: 5,
            vanished: Vanished::Refused,
            sends_has_more: true,
            is_ordered: true,
            changes: Vec::new(),
        };
        let plan = Plan { case, before: 0, every: 5, at_once, turns: vec![0, 200, 7, 31] };
        let outcome = simulate(&plan).unwrap();
        assert_eq!((outcome.requests, outcome.segments), (20, 20));
        assert_eq!(outcome.seen.len(), 97);
    }
}
