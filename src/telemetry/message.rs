//! The kinds of log lines that people search for, as the journal's `MESSAGE_ID`s. They never change.

/// A run succeeded.
pub const RUN_OK: &str = "21aa60cb1f51433da18d8cec5dbebd0f";
/// A run failed and changed nothing.
pub const RUN_FAILED: &str = "6f4413394dd847baab441657066fd372";
/// A run is held: somebody has to look.
pub const RUN_HELD: &str = "7dd861c39d9346c18350a74146690c59";
/// A key appeared.
pub const KEY_ADDED: &str = "90c94fe1d14b4a5ea3fc9a4700ef9667";
/// A key is gone.
pub const KEY_REMOVED: &str = "9938f65f13bc41eb8fee18ef86edae49";
/// A key that was gone is back.
pub const KEY_RESTORED: &str = "1fce77ef44c948f7b89e76a33879a0e4";
/// A key was used for the first time.
pub const FIRST_USE: &str = "767b0e3c3d754040b6a44073af0409b0";
/// Nobody was there to run when the schedule said so.
pub const SLOT_MISSED: &str = "da914beaf6e24481a144370b3e4bea05";
/// A checkpoint of the newest link of a history.
pub const CHECKPOINT: &str = "3f6d0c8e5b7a4e0f9a1c7d2b64e85f13";

/// All of them, by name.
pub const ALL: [(&str, &str); 9] = [
    ("RUN_OK", RUN_OK),
    ("RUN_FAILED", RUN_FAILED),
    ("RUN_HELD", RUN_HELD),
    ("KEY_ADDED", KEY_ADDED),
    ("KEY_REMOVED", KEY_REMOVED),
    ("KEY_RESTORED", KEY_RESTORED),
    ("FIRST_USE", FIRST_USE),
    ("SLOT_MISSED", SLOT_MISSED),
    ("CHECKPOINT", CHECKPOINT),
];
