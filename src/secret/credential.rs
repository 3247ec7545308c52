//! The credential itself: what one can look like, and what is shown of it.

use std::fmt;

use zeroize::Zeroizing;

use super::Error;

/// What keys of another kind begin with, and what they are.
const OTHER_KINDS: [(&str, &str); 2] =
    [("sk-proj-", "a project API key"), ("sk-svcacct-", "a service account's API key")];

/// An admin key that is fit to be sent in a header.
#[derive(Clone)]
pub struct Credential {
    text: Zeroizing<String>,
    is_copy: bool,
}

impl Credential {
    /// Of a systemd credential, which was copied when the service started.
    pub(super) fn copied(self) -> Self {
        Self { is_copy: true, ..self }
    }

    /// Whether what it was copied from may be another one by now.
    #[must_use]
    pub fn is_copy(&self) -> bool {
        self.is_copy
    }

    /// Takes the key out of what a source holds; `place` names the source in errors.
    ///
    /// The shape is checked for what cannot be right only, and never the length: what the
    /// provider's keys look like is the provider's to change.
    pub(super) fn parse(bytes: &[u8], place: &str) -> Result<Self, Error> {
        let malformed = |fault| Error::Malformed { place: place.to_owned(), fault };
        let text = std::str::from_utf8(bytes).map_err(|_| malformed("is not UTF-8 text"))?;
        let text = text.trim_end_matches(['\n', '\r']);
        if text.is_empty() {
            return Err(malformed("is empty"));
        }
        if text.contains(['\n', '\r']) {
            return Err(malformed("has more than one line"));
        }
        if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(malformed("has white space or control characters in it"));
        }
        if !text.is_ascii() {
            return Err(malformed("has characters outside ASCII in it"));
        }
        if let Some((_, kind)) = OTHER_KINDS.iter().find(|(prefix, _)| text.starts_with(prefix)) {
            return Err(Error::WrongKind { place: place.to_owned(), kind });
        }
        Ok(Self { text: Zeroizing::new(text.to_owned()), is_copy: false })
    }

    /// The key itself: for the authorization header alone.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// Whether this redacted value (`sk-admin...def`, `sk-admin-****abcd`) is that of this key.
    ///
    /// What stands before the mask must begin the key, with `sk-` at least, and what follows it,
    /// three characters at least, must end it, without the two overlapping.
    #[must_use]
    pub fn matches_redacted(&self, redacted: &str) -> bool {
        let is_mask = |c: char| matches!(c, '.' | '*' | '…' | '•' | '·' | '●');
        let Some((start, _)) = redacted.split_once(is_mask) else {
            return false;
        };
        let Some((_, end)) = redacted.rsplit_once(is_mask) else {
            return false;
        };
        start.starts_with("sk-")
            && end.len() >= 3
            && start.len() + end.len() < self.text.len()
            && self.text.starts_with(start)
            && self.text.ends_with(end)
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(***)")
    }
}
