//! A snapshot of environment variables, passed to whoever needs one.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use zeroize::Zeroizing;

/// Environment variables, taken once at start.
///
/// One of them may be a credential, so that every value is wiped when the snapshot goes, and
/// `Debug` shows names only.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<OsString, Zeroizing<Vec<u8>>>);

impl Environment {
    /// The variables of this process.
    #[must_use]
    pub fn of_process() -> Self {
        std::env::vars_os().collect()
    }

    /// The value of a variable. An empty one counts as unset.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        let value = self.0.get(OsStr::new(name))?;
        (!value.is_empty()).then(|| OsStr::from_bytes(value))
    }

    /// Every variable with its value, empty ones too, by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.0.iter().map(|(name, value)| (name.as_os_str(), OsStr::from_bytes(value)))
    }
}

impl<K: Into<OsString>, V: Into<OsString>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        let wiped = |value: V| Zeroizing::new(value.into().into_vec());
        Self(variables.into_iter().map(|(name, value)| (name.into(), wiped(value))).collect())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Environment").field(&self.0.keys().collect::<Vec<_>>()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_variable_counts_as_unset() {
        let environment = Environment::from_iter([("A", "1"), ("B", "")]);
        assert_eq!(environment.get("A"), Some(OsStr::new("1")));
        assert_eq!(environment.get("B"), None);
        assert_eq!(environment.get("C"), None);
    }

    #[test]
    fn debug_shows_no_value() {
        let environment = Environment::from_iter([("OPENAI_ADMIN_KEY", "sk-admin-secret")]);
        insta::assert_debug_snapshot!(environment, @r#"
        Environment(
            [
                "OPENAI_ADMIN_KEY",
            ],
        )
        "#);
    }
}
