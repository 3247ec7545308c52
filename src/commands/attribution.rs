//! Who did what an event tells, in words.

use crate::inventory::ERASED;
use crate::store::EventRow;

/// `deleted by ana@example.com from 198.51.100.7 at 2026-11-23T12:41:30Z`, where that is known.
pub(super) fn who(event: &EventRow) -> Option<String> {
    let at = event.acted_at.as_deref()?;
    Some(format!("{} at {at}{}", deed(event), more(event)))
}

/// `removed between 12:00:07 and 13:00:04; deleted by ana@example.com from 198.51.100.7 at 12:41:30`, with
/// dates unless all of it is of one day.
pub(super) fn in_full(event: &EventRow) -> Option<String> {
    let at = event.acted_at.as_deref()?;
    let times = [Some(event.observed_at.as_str()), event.previous_observed_at.as_deref(), Some(at)];
    let day = event.observed_at.get(..DAY);
    let of_one_day =
        day.is_some() && times.into_iter().flatten().all(|time| time.get(..DAY) == day);
    let short = |time: &str| match time.get(DAY..) {
        Some(rest) if of_one_day => rest.trim_matches(['T', 'Z']).to_owned(),
        _ => time.to_owned(),
    };
    let observed = short(&event.observed_at);
    let window = match &event.previous_observed_at {
        Some(previous) => format!("between {} and {observed}", short(previous)),
        None => format!("before {observed}"),
    };
    Some(format!("{} {window}; {} at {}{}", event.event, deed(event), short(at), more(event)))
}

/// That the newest of several entries is shown.
fn more(event: &EventRow) -> String {
    match event.entries {
        ..=1 => String::new(),
        2 => ", and 1 more entry".to_owned(),
        entries => format!(", and {} more entries", entries - 1),
    }
}

/// The characters of a date.
const DAY: usize = "2026-11-23".len();

fn deed(event: &EventRow) -> String {
    let verb = match event.event.as_str() {
        "removed" => "deleted",
        "changed" => "updated",
        _ => "created",
    };
    let mut text = format!("{verb} by {}", actor(event));
    // An erased one says nothing.
    let address = event.actor_ip_address.as_ref();
    if let Some(address) = address.filter(|address| *address != ERASED) {
        text.push_str(" from ");
        text.push_str(address);
    }
    text
}

fn actor(event: &EventRow) -> String {
    let kind = event.actor_type.as_deref();
    let key = event.actor_key_id.as_deref();
    let who = match (&event.actor_email, &event.actor_id) {
        // Of somebody who was forgotten, the id alone says something.
        (Some(email), id) if email != ERASED || id.is_none() => email.clone(),
        (_, Some(id)) if kind == Some("service_account") => format!("service account {id}"),
        (_, Some(id)) => id.clone(),
        (_, None) => {
            let kind = kind.map(|kind| format!(" ({kind})")).unwrap_or_default();
            let unknown = || format!("somebody unknown{kind}");
            return key.map_or_else(unknown, |key| format!("key {key}"));
        }
    };
    match key {
        Some(key) => format!("{who} with key {key}"),
        None => who,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> EventRow {
        let text = |text: &str| Some(text.to_owned());
        EventRow {
            event_id: 7,
            run_id: 3,
            observed_at: "2026-11-23T13:00:04Z".to_owned(),
            previous_observed_at: text("2026-11-23T12:00:07Z"),
            organization: "acme".to_owned(),
            scope: "admin".to_owned(),
            key_id: "key_1".to_owned(),
            key_name: None,
            event: "removed".to_owned(),
            field: None,
            old_value: text("{}"),
            new_value: None,
            notes: "[]".to_owned(),
            entries: 1,
            actor_type: text("user"),
            actor_id: text("user-ana"),
            actor_email: text("ana@example.com"),
            actor_key_id: None,
            actor_ip_address: text("198.51.100.7"),
            acted_at: text("2026-11-23T12:41:30Z"),
            actor_scopes: None,
        }
    }

    #[test]
    fn it_says_who_from_where_and_when() {
        assert_eq!(
            in_full(&event()).unwrap(),
            "removed between 12:00:07 and 13:00:04; deleted by ana@example.com from 198.51.100.7 at 12:41:30"
        );
        assert_eq!(
            who(&event()).unwrap(),
            "deleted by ana@example.com from 198.51.100.7 at 2026-11-23T12:41:30Z"
        );
        let unknown = EventRow { acted_at: None, ..event() };
        assert_eq!((in_full(&unknown), who(&unknown)), (None, None));
    }

    #[test]
    fn times_have_their_dates_unless_all_are_of_one_day() {
        let early = Some("2026-11-22T23:59:59Z".to_owned());
        let event = EventRow { previous_observed_at: early.clone(), acted_at: early, ..event() };
        assert_eq!(
            in_full(&event).unwrap(),
            "removed between 2026-11-22T23:59:59Z and 2026-11-23T13:00:04Z; deleted by \
             ana@example.com from 198.51.100.7 at 2026-11-22T23:59:59Z"
        );
        let event = EventRow { acted_at: Some("2026-11-23T00:00:00Z".to_owned()), ..event };
        assert!(in_full(&event).unwrap().ends_with(" at 2026-11-23T00:00:00Z"));
    }

    #[test]
    fn that_there_are_more_entries_is_said() {
        let said = |entries| who(&EventRow { entries, ..event() }).unwrap();
        assert!(said(1).ends_with("12:41:30Z"));
        assert!(said(2).ends_with(" at 2026-11-23T12:41:30Z, and 1 more entry"));
        let full = in_full(&EventRow { entries: 3, ..event() }).unwrap();
        assert!(full.ends_with(" at 12:41:30, and 2 more entries"));
    }

    #[test]
    fn whoever_it_was_is_named_by_what_is_known() {
        let text = |text: &str| Some(text.to_owned());
        let nobody = EventRow {
            actor_type: None,
            actor_id: None,
            actor_email: None,
            actor_ip_address: None,
            event: "changed".to_owned(),
            ..event()
        };
        let said = |event: &EventRow| who(event).unwrap().replace(" at 2026-11-23T12:41:30Z", "");
        assert_eq!(said(&nobody), "updated by somebody unknown");
        let robot = EventRow { actor_type: text("robot"), ..nobody.clone() };
        assert_eq!(said(&robot), "updated by somebody unknown (robot)");
        let keyed = EventRow { actor_key_id: text("key_9"), ..nobody.clone() };
        assert_eq!(said(&keyed), "updated by key key_9");
        let service = EventRow {
            actor_type: text("service_account"),
            actor_id: text("svc-1"),
            event: "restored".to_owned(),
            ..keyed
        };
        assert_eq!(said(&service), "created by service account svc-1 with key key_9");
        let erased = text("erased");
        let forgotten =
            EventRow { actor_email: erased.clone(), actor_ip_address: erased, ..event() };
        assert_eq!(said(&forgotten), "deleted by user-ana");
    }
}
