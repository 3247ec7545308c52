//! Canonical bytes: typed, length-prefixed values, so that no two different ones share bytes.

use serde_json::Value;

/// Values one after the other, as bytes.
///
/// A tag of one ASCII letter, then: nothing for null (`n`); one byte for a truth value (`b`); the big-endian
/// IEEE 754 double for a number with a fraction or an exponent (`f`); 32 bytes for a digest (`d`) or a seal
/// (`s`); the length as a big-endian u64 and the text for a text (`t`, UTF-8) or a whole number (`i`,
/// decimal); the count as a big-endian u64 and the values for a list (`l`) or a map (`m`, each key as a text
/// before its value, sorted by the keys' bytes).
#[derive(Debug, Default)]
pub(super) struct Bytes(Vec<u8>);

impl Bytes {
    pub(super) fn as_slice(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn null(&mut self) {
        self.0.push(b'n');
    }

    pub(super) fn text(&mut self, text: &str) {
        self.0.push(b't');
        self.counted(text.as_bytes());
    }

    pub(super) fn optional(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.text(text),
            None => self.null(),
        }
    }

    pub(super) fn integer(&mut self, number: i64) {
        self.whole(&number.to_string());
    }

    fn whole(&mut self, decimal: &str) {
        self.0.push(b'i');
        self.counted(decimal.as_bytes());
    }

    pub(super) fn digest(&mut self, digest: &[u8; 32]) {
        self.0.push(b'd');
        self.0.extend_from_slice(digest);
    }

    pub(super) fn seal(&mut self, seal: &[u8; 32]) {
        self.0.push(b's');
        self.0.extend_from_slice(seal);
    }

    /// Followed by so many values.
    pub(super) fn list(&mut self, count: usize) {
        self.0.push(b'l');
        self.count(count);
    }

    /// Followed by so many keys, each a text, and values.
    pub(super) fn map(&mut self, count: usize) {
        self.0.push(b'm');
        self.count(count);
    }

    pub(super) fn json(&mut self, value: &Value) {
        match value {
            Value::Null => self.null(),
            Value::Bool(truth) => self.0.extend([b'b', u8::from(*truth)]),
            Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
                Some(double) => {
                    self.0.push(b'f');
                    self.0.extend_from_slice(&double.to_be_bytes());
                }
                None => self.whole(&number.to_string()),
            },
            Value::String(text) => self.text(text),
            Value::Array(items) => {
                self.list(items.len());
                for item in items {
                    self.json(item);
                }
            }
            Value::Object(members) => {
                let mut members: Vec<(&String, &Value)> = members.iter().collect();
                members.sort_unstable_by_key(|(name, _)| *name);
                self.map(members.len());
                for (name, value) in members {
                    self.text(name);
                    self.json(value);
                }
            }
        }
    }

    fn count(&mut self, count: usize) {
        self.0.extend_from_slice(&(count as u64).to_be_bytes());
    }

    fn counted(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.extend_from_slice(bytes);
    }
}
