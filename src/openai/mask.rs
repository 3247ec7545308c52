//! Makes secrets unreadable in whatever the API sends, before anything is kept or said.

use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::inventory::mask_secrets;

/// How many characters of our own credential stay readable, as in a redacted value.
const TAIL: usize = 4;
/// A shorter credential is a dummy for some gateway, and may well be a word that names hold.
const SHORTEST: usize = 16;

/// Knows our own credential and what keys look like.
pub(super) struct Mask {
    credential: Zeroizing<String>,
    replacement: String,
}

impl Mask {
    pub(super) fn new(credential: &str) -> Self {
        let tail = match credential.char_indices().rev().nth(TAIL - 1) {
            Some((at, _)) => &credential[at..],
            None => "",
        };
        let replacement = format!("****{tail}");
        Self { credential: Zeroizing::new(credential.to_owned()), replacement }
    }

    /// `text` without its secrets, or `None` if it holds none.
    pub(super) fn masked(&self, text: &str) -> Option<String> {
        // Most texts are shorter, and looking for something in a text costs more than its length.
        let may_hold = self.credential.len() >= SHORTEST && text.len() >= self.credential.len();
        if may_hold && text.contains(self.credential.as_str()) {
            let without = text.replace(self.credential.as_str(), &self.replacement);
            return Some(mask_secrets(&without).unwrap_or(without));
        }
        mask_secrets(text)
    }

    /// Masks `text` in place and tells whether that was needed.
    pub(super) fn apply(&self, text: &mut String) -> bool {
        match self.masked(text) {
            Some(masked) => {
                *text = masked;
                true
            }
            None => false,
        }
    }

    /// Masks every text in `value`, names of members included.
    pub(super) fn apply_to_value(&self, value: &mut Value) -> bool {
        match value {
            Value::String(text) => self.apply(text),
            Value::Array(items) => {
                // Not `any`: it would stop at the first.
                items.iter_mut().fold(false, |found, item| self.apply_to_value(item) | found)
            }
            Value::Object(members) => self.apply_to_members(members),
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
        }
    }

    fn apply_to_members(&self, members: &mut Map<String, Value>) -> bool {
        let mut found = false;
        for value in members.values_mut() {
            found |= self.apply_to_value(value);
        }
        if members.keys().any(|name| self.masked(name).is_some()) {
            found = true;
            let renamed = std::mem::take(members)
                .into_iter()
                .map(|(name, value)| (self.masked(&name).unwrap_or(name), value));
            *members = renamed.collect();
        }
        found
    }
}
