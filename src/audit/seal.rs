//! What is known of people enters a digest as a keyed hash, so that it can be erased while the chain holds.

use std::collections::BTreeMap;
use std::fmt;

use ring::hmac;
use serde_json::Value;

use super::bytes::Bytes;
pub use crate::inventory::{ERASED, is_personal};

/// The random salt of one person.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Salt(pub [u8; 16]);

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Salt(..)")
    }
}

/// HMAC-SHA256 of a value's canonical bytes under a person's salt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seal(pub [u8; 32]);

/// Seals the personal values of one key as one side of an event shows it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sealer<'a> {
    /// None: the person was forgotten, or nothing is known of one.
    pub salt: Option<Salt>,
    /// The seals of values that were erased since, by field.
    pub erased: Option<&'a BTreeMap<String, Seal>>,
}

impl Sealer<'_> {
    /// Writes the value of `field`, or its seal if the field is personal.
    pub(super) fn write(&self, into: &mut Bytes, field: &str, value: &Value) {
        match self.seal(field, value) {
            Some(seal) => into.seal(&seal.0),
            None => into.json(value),
        }
    }

    pub(super) fn write_text(&self, into: &mut Bytes, field: &str, text: Option<&str>) {
        match text {
            Some(text) if is_personal(field) => self.write(into, field, &Value::from(text)),
            text => into.optional(text),
        }
    }

    /// As [`Self::write_text`], of what is always personal.
    pub(super) fn write_address(&self, into: &mut Bytes, field: &str, text: Option<&str>) {
        match text.and_then(|text| self.seal_address(field, text)) {
            Some(seal) => into.seal(&seal.0),
            None => into.optional(text),
        }
    }

    /// As [`Self::seal`], of what is always personal.
    #[must_use]
    pub fn seal_address(&self, field: &str, text: &str) -> Option<Seal> {
        self.seal_always(field, &Value::from(text))
    }

    /// The seal of a value; none where it is not personal, or the person was forgotten before it was seen.
    #[must_use]
    pub fn seal(&self, field: &str, value: &Value) -> Option<Seal> {
        if value.is_null() || !is_personal(field) {
            return None;
        }
        self.seal_always(field, value)
    }

    fn seal_always(&self, field: &str, value: &Value) -> Option<Seal> {
        // An erased place says so: any other text there is a value of its own, and does not fit.
        let erased = self.erased.and_then(|erased| erased.get(field));
        if let Some(seal) = erased.filter(|_| value.as_str() == Some(ERASED)) {
            return Some(*seal);
        }
        let salt = self.salt?;
        let mut bytes = Bytes::default();
        bytes.json(value);
        let key = hmac::Key::new(hmac::HMAC_SHA256, &salt.0);
        let tag = hmac::sign(&key, bytes.as_slice());
        <[u8; 32]>::try_from(tag.as_ref()).ok().map(Seal)
    }
}
