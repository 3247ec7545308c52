//! A database that departs from a checkpoint, and was taken for good: a backup that was restored.

use serde_json::{Value, json};

use super::checkpoint::{Checkpoint, Place};
use super::link::ActKind;
use super::record::ActRecord;
use crate::clock::Timestamp;

/// Which checkpoints an act of the kind `accepted` gives up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acceptance {
    /// The newest link before those given up that the history still had in common with its checkpoints.
    since: Place,
    /// The last, by its place, of the checkpoints that it departed from.
    until: Place,
    at: Timestamp,
}

impl Acceptance {
    /// The detail of the act.
    #[must_use]
    pub fn detail(reason: &str, checkpoint: &Checkpoint, since: Place) -> String {
        let Checkpoint { place, digest, time, .. } = checkpoint;
        let detail = json!({
            "reason": reason,
            "checkpoint": {
                "run": place.run_id, "act": place.act_id, "digest": digest.to_string(), "time": time,
            },
            "since": { "run": since.run_id, "act": since.act_id },
        });
        detail.to_string()
    }

    /// What an act gives up, if it is such a one. Without a `since` it is what comes behind its own run.
    #[must_use]
    pub fn of(act: &ActRecord) -> Option<Self> {
        if act.kind != ActKind::Accepted.as_str() {
            return None;
        }
        let place = |value: &Value| {
            let run_id = value["run"].as_i64()?;
            Some(Place { run_id, act_id: value["act"].as_i64() })
        };
        let detail = act.detail();
        let behind = Place { run_id: act.after_run_id, act_id: None };
        Some(Self {
            since: place(&detail["since"]).unwrap_or(behind),
            until: place(&detail["checkpoint"])?,
            at: act.acted_at.parse().ok()?,
        })
    }

    /// Behind which place, and until which, checkpoints are given up.
    #[must_use]
    pub fn span(&self) -> (Place, Place) {
        (self.since, self.until)
    }

    /// Whether a checkpoint that does not agree was given up: none that was made later.
    #[must_use]
    pub fn covers(&self, checkpoint: &Checkpoint) -> bool {
        let Checkpoint { place, time, .. } = checkpoint;
        self.since < *place && *place <= self.until && *time <= self.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Digest;

    #[test]
    fn what_was_accepted_is_what_came_behind_until_then() {
        let time = |seconds| Timestamp::from_unix(seconds).unwrap();
        let checkpoint = |run_id, act_id, seconds| Checkpoint {
            database: "c4a1".to_owned(),
            origin: "acme".to_owned(),
            place: Place { run_id, act_id },
            digest: Digest([0; 32]),
            time: time(seconds),
        };
        let newest = checkpoint(10, Some(2), 100);
        let act = |detail: String| ActRecord {
            act_id: 2,
            organization: "acme".to_owned(),
            after_run_id: 8,
            kind: "accepted".to_owned(),
            acted_at: time(200).to_string(),
            actor: "root".to_owned(),
            detail,
            digest: None,
        };
        let since = Place { run_id: 8, act_id: Some(1) };
        let accepted = Acceptance::of(&act(Acceptance::detail("lost", &newest, since))).unwrap();
        assert!(accepted.covers(&newest) && accepted.covers(&checkpoint(9, None, 50)));
        assert!(accepted.covers(&checkpoint(8, Some(2), 50)));
        assert!(!accepted.covers(&checkpoint(8, Some(1), 50)), "it agreed");
        assert!(!accepted.covers(&checkpoint(10, Some(3), 100)), "it is newer");
        assert!(!accepted.covers(&checkpoint(9, None, 201)), "it was made later");
        let plain = r#"{"reason": "lost", "checkpoint": {"run": 10, "act": null}}"#;
        let accepted = Acceptance::of(&act(plain.to_owned())).unwrap();
        assert!(accepted.covers(&checkpoint(9, None, 50)));
        assert!(!accepted.covers(&checkpoint(8, None, 50)));
        let other = ActRecord { kind: "pruned".to_owned(), ..act(plain.to_owned()) };
        assert_eq!(Acceptance::of(&other), None);
    }
}
