//! Laws of digests: what differs in anything has another one; and the example in the document, byte by byte.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::Value;

use super::bytes::Bytes;
use super::*;

/// Texts that lie close together, or nothing.
fn maybe() -> impl Strategy<Value = Option<String>> {
    let close = prop_oneof![
        3 => "[ab]{0,2}".prop_map(Some),
        1 => proptest::sample::select(vec!["null", "1", "{}", "\0"]).prop_map(|t| Some(t.to_owned())),
        1 => any::<String>().prop_map(Some),
    ];
    prop_oneof![4 => close, 1 => Just(None)]
}

/// What an event, a run or an act consists of, by place: texts and numbers.
type Fields = (Vec<Option<String>>, Vec<i64>);

fn fields() -> impl Strategy<Value = Fields> {
    (prop::collection::vec(maybe(), 9), prop::collection::vec(0_i64..1_000, 14))
}

fn required(text: Option<&String>) -> &str {
    text.map_or("none", String::as_str)
}

fn event((texts, numbers): &Fields) -> EventRecord {
    let text = |at: usize| required(texts[at].as_ref()).to_owned();
    EventRecord {
        event_id: numbers[0],
        run_id: numbers[1],
        observed_at: text(0),
        previous_observed_at: texts[1].clone(),
        organization: "default".to_owned(),
        scope: text(2),
        key_id: text(3),
        key_name: texts[4].clone(),
        // Of other kinds, the values are JSON: the same in more than one way.
        event: if text(5).contains('a') { "used" } else { "changed" }.to_owned(),
        field: texts[6].clone(),
        old_value: texts[7].clone(),
        new_value: texts[8].clone(),
        old_salt: None,
        new_salt: None,
        old_erased: BTreeMap::new(),
        new_erased: BTreeMap::new(),
    }
}

fn part(part: Part, events: &[EventRecord]) -> PartDigest {
    let mut hasher = PartHasher::new(part);
    for record in events {
        record.with_event(|event| hasher.event(event));
    }
    hasher.finish().unwrap()
}

fn run((texts, numbers): &Fields) -> RunHeader<'_> {
    let mut counts = [0; 12];
    counts.copy_from_slice(&numbers[..12]);
    RunHeader {
        origin: required(texts[0].as_ref()),
        run_id: numbers[12],
        trigger: required(texts[1].as_ref()),
        started_at: required(texts[2].as_ref()),
        finished_at: required(texts[3].as_ref()),
        status: required(texts[4].as_ref()),
        counts,
        notice: texts[5].as_deref(),
        error: texts[6].as_deref(),
        missing: texts[7].as_deref(),
        deferred_until: texts[8].as_deref(),
    }
}

fn act((texts, numbers): &Fields) -> Act<'_> {
    Act {
        origin: required(texts[0].as_ref()),
        act_id: numbers[0],
        after_run_id: numbers[1],
        kind: required(texts[1].as_ref()),
        acted_at: required(texts[2].as_ref()),
        actor: required(texts[3].as_ref()),
        detail: required(texts[4].as_ref()),
    }
}

/// Another value in one place.
fn change((texts, numbers): &Fields, at: usize, text: Option<&String>) -> Fields {
    let (mut texts, mut numbers) = (texts.clone(), numbers.clone());
    match texts.get_mut(at) {
        Some(place) => *place = text.cloned(),
        None => numbers[at - 9] += 1,
    }
    (texts, numbers)
}

fn same_event(one: &EventRecord, other: &EventRecord) -> bool {
    format!("{one:?}") == format!("{other:?}")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn an_event_that_differs_anywhere_has_another_digest(
        one in fields(), at in 0_usize..11, text in maybe(), other in fields(),
    ) {
        for other in [change(&one, at, text.as_ref()), other] {
            let (one, other) = (event(&one), event(&other));
            let same = part(Part::Events, std::slice::from_ref(&one)).digest
                == part(Part::Events, std::slice::from_ref(&other)).digest;
            prop_assert_eq!(same, same_event(&one, &other));
        }
    }

    #[test]
    fn a_run_that_differs_anywhere_has_another_digest(one in fields(), at in 0_usize..22, text in maybe()) {
        let other = change(&one, at, text.as_ref());
        let same = run(&one).digest(None, &[]) == run(&other).digest(None, &[]);
        prop_assert_eq!(same, format!("{:?}", run(&one)) == format!("{:?}", run(&other)));
    }

    #[test]
    fn an_act_that_differs_anywhere_has_another_digest(one in fields(), at in 0_usize..11, text in maybe()) {
        let other = change(&one, at, text.as_ref());
        let same = act(&one).digest(None) == act(&other).digest(None);
        prop_assert_eq!(same, format!("{:?}", act(&one)) == format!("{:?}", act(&other)));
        prop_assert_ne!(act(&one).digest(None), run(&one).digest(None, &[]));
    }

    #[test]
    fn the_link_before_and_the_parts_are_in_a_link(
        one in fields(), before in any::<[u8; 32]>(), items in 1_u64..9, digest in any::<[u8; 32]>(),
    ) {
        let run = run(&one);
        let part = |part, items| PartDigest { part, items, digest: Digest(digest) };
        let before = Some(Digest(before));
        let links = [
            run.digest(None, &[]),
            run.digest(before, &[]),
            run.digest(None, &[part(Part::Events, items)]),
            run.digest(None, &[part(Part::Used, items)]),
            run.digest(None, &[part(Part::Notices, items)]),
            run.digest(None, &[part(Part::Events, items + 1)]),
            run.digest(None, &[part(Part::Events, items), part(Part::Used, items)]),
            run.digest(before, &[part(Part::Events, items)]),
            act(&one).digest(None),
            act(&one).digest(before),
        ];
        for (at, link) in links.iter().enumerate() {
            prop_assert!(!links[..at].contains(link), "{}", at);
        }
    }

    #[test]
    fn items_have_an_order_and_a_part_its_name(
        all in prop::collection::vec(fields(), 2..5), from in any::<Index>(), to in any::<Index>(),
    ) {
        let events: Vec<EventRecord> = all.iter().map(event).collect();
        let digest = part(Part::Events, &events).digest;
        let (from, to) = (from.index(events.len()), to.index(events.len()));
        let mut swapped = events.clone();
        swapped.swap(from, to);
        let same = part(Part::Events, &swapped).digest == digest;
        prop_assert_eq!(same, same_event(&events[from], &events[to]));
        for other in [Part::Used, Part::Notices, Part::Adopted] {
            prop_assert_ne!(part(other, &events).digest, digest);
        }
        let mut doubled = events.clone();
        doubled.insert(from, events[from].clone());
        prop_assert_ne!(part(Part::Events, &doubled).digest, digest);
        prop_assert_ne!(part(Part::Events, &events[1..]).digest, digest);
    }
}

const DOCUMENT: &str = include_str!("../../docs/audit-log.md");

/// The code blocks of one language in the example.
fn blocks(language: &str) -> Vec<String> {
    let example = DOCUMENT.split("\n## A worked example\n").nth(1).unwrap();
    let example = example.split("\n## ").next().unwrap();
    let fence = format!("```{language}\n");
    let blocks = example.split(&fence).skip(1);
    blocks.map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

#[track_caller]
fn assert_documented(hex: &str) {
    let whole: String = DOCUMENT.split_whitespace().collect();
    assert!(whole.contains(hex), "not in the document: {hex}");
}

#[test]
fn the_example_in_the_document_is_right() {
    let json = blocks("json");
    let (row, run): (Value, Value) =
        (serde_json::from_str(&json[0]).unwrap(), serde_json::from_str(&json[1]).unwrap());
    let text = |row: &Value, name: &str| row[name].as_str().map(str::to_owned);
    let salt: [u8; 16] = std::array::from_fn(|at| u8::try_from(at).unwrap());
    assert_documented(&HEXLOWER.encode(&salt));
    let record = EventRecord {
        event_id: row["event_id"].as_i64().unwrap(),
        run_id: row["run_id"].as_i64().unwrap(),
        observed_at: text(&row, "observed_at").unwrap(),
        previous_observed_at: text(&row, "previous_observed_at"),
        organization: text(&row, "organization").unwrap(),
        scope: text(&row, "scope").unwrap(),
        key_id: text(&row, "key_id").unwrap(),
        key_name: text(&row, "key_name"),
        event: text(&row, "event").unwrap(),
        field: text(&row, "field"),
        old_value: text(&row, "old_value"),
        new_value: text(&row, "new_value"),
        old_salt: None,
        new_salt: Some(Salt(salt)),
        old_erased: BTreeMap::new(),
        new_erased: BTreeMap::new(),
    };
    let mut bytes = Bytes::default();
    record.with_event(|event| event.write(&mut bytes));
    let hex: String = blocks("text")[0].split_whitespace().collect();
    assert_eq!(HEXLOWER.encode(bytes.as_slice()), hex);
    let part = part(Part::Events, &[record]);
    assert_documented(&part.digest.to_string());
    let counts = [
        "keys_seen",
        "baseline",
        "added",
        "restored",
        "removed",
        "used",
        "changed",
        "unconfirmed",
        "skipped",
        "pages",
        "requests",
        "retries",
    ];
    let header = RunHeader {
        origin: run["organization"].as_str().unwrap(),
        run_id: run["run_id"].as_i64().unwrap(),
        trigger: run["trigger"].as_str().unwrap(),
        started_at: run["started_at"].as_str().unwrap(),
        finished_at: run["finished_at"].as_str().unwrap(),
        status: run["status"].as_str().unwrap(),
        counts: counts.map(|name| run[name].as_i64().unwrap()),
        notice: None,
        error: None,
        missing: None,
        deferred_until: None,
    };
    assert_documented(&header.digest(None, &[part]).to_string());
}
