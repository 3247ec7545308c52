//! Organization names.

use std::fmt;

/// The operator's name for an organization: `[a-z0-9][a-z0-9_-]{0,62}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrgName(String);

impl OrgName {
    const LONGEST: usize = 63;

    /// `None` if it is not such a name.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        let (first, rest) = name.as_bytes().split_first()?;
        let valid = name.len() <= Self::LONGEST
            && plain(*first)
            && rest.iter().all(|c| plain(*c) || matches!(c, b'_' | b'-'));
        valid.then(|| Self(name.to_owned()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of the only organization where none is configured.
impl Default for OrgName {
    fn default() -> Self {
        Self("default".to_owned())
    }
}

impl fmt::Display for OrgName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_default_name_is_a_name() {
        assert_eq!(OrgName::new("default"), Some(OrgName::default()));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = "a".repeat(64);
        for name in ["", "-a", "_a", "Acme", "acme.eu", "a b", "ä", "a\n", long.as_str()] {
            assert_eq!(OrgName::new(name), None, "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn every_name_of_the_pattern_is_taken(name in "[a-z0-9][a-z0-9_-]{0,62}") {
            let taken = OrgName::new(&name).unwrap();
            prop_assert_eq!(taken.as_str(), name);
        }

        #[test]
        fn a_foreign_character_anywhere_is_refused(start in "[a-z0-9][a-z0-9_-]{0,20}", bad in "[^a-z0-9_-]", end in "[a-z0-9_-]{0,20}") {
            prop_assert_eq!(OrgName::new(&format!("{start}{bad}{end}")), None);
        }
    }
}
