//! The rules by name, and how bad it is to break one.

use std::fmt;

/// What a key (or an organization) can be found to break. The names are an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    NeverUsed,
    Unused,
    Old,
    ExpiresSoon,
    Expired,
    NeverExpires,
    NoName,
    OwnerMissing,
    OwnerWithoutAccess,
    AdminServiceAccount,
    UsedAfterArchive,
    WokeUp,
    UseWentBack,
    SameNameAndOwner,
    TooManyAdminKeys,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// To be tidied up.
    Low,
    /// A standing risk: somebody should decide.
    Medium,
    /// It may be an attack, or a key that somebody without a right to it can use: look today.
    High,
}

impl Rule {
    pub const ALL: [Self; 15] = [
        Self::NeverUsed,
        Self::Unused,
        Self::Old,
        Self::ExpiresSoon,
        Self::Expired,
        Self::NeverExpires,
        Self::NoName,
        Self::OwnerMissing,
        Self::OwnerWithoutAccess,
        Self::AdminServiceAccount,
        Self::UsedAfterArchive,
        Self::WokeUp,
        Self::UseWentBack,
        Self::SameNameAndOwner,
        Self::TooManyAdminKeys,
    ];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NeverUsed => "never_used",
            Self::Unused => "unused",
            Self::Old => "old",
            Self::ExpiresSoon => "expires_soon",
            Self::Expired => "expired",
            Self::NeverExpires => "never_expires",
            Self::NoName => "no_name",
            Self::OwnerMissing => "owner_missing",
            Self::OwnerWithoutAccess => "owner_without_access",
            Self::AdminServiceAccount => "admin_service_account",
            Self::UsedAfterArchive => "used_after_archive",
            Self::WokeUp => "woke_up",
            Self::UseWentBack => "use_went_back",
            Self::SameNameAndOwner => "same_name_and_owner",
            Self::TooManyAdminKeys => "too_many_admin_keys",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.as_str() == text)
    }

    /// The rule that is meant by a name that is none.
    #[must_use]
    pub fn nearest(text: &str) -> Option<Self> {
        let score = |rule: &Self| strsim::normalized_damerau_levenshtein(text, rule.as_str());
        let near = Self::ALL.into_iter().filter(|rule| score(rule) >= 0.5);
        near.max_by(|a, b| score(a).total_cmp(&score(b)))
    }

    /// Whether it is of something that happened once, which the key itself does not show later.
    #[must_use]
    pub const fn happens_once(self) -> bool {
        matches!(self, Self::WokeUp | Self::UseWentBack)
    }

    /// Whether only the whole list shows that it is broken.
    pub(super) const fn is_of_the_list(self) -> bool {
        matches!(self, Self::SameNameAndOwner | Self::TooManyAdminKeys)
    }

    /// How bad it is. One rule has one severity, so that nobody has to guess.
    #[must_use]
    pub const fn severity(self) -> Severity {
        match self {
            // Nobody should be able to use them, and somebody does; or a sleeping key is awake.
            Self::OwnerWithoutAccess | Self::UsedAfterArchive | Self::WokeUp => Severity::High,
            // A key too many for an attacker to find, one that nobody answers for, or one about to fail.
            Self::NeverUsed
            | Self::Unused
            | Self::Old
            | Self::ExpiresSoon
            | Self::OwnerMissing
            | Self::AdminServiceAccount
            | Self::UseWentBack
            | Self::TooManyAdminKeys => Severity::Medium,
            Self::Expired | Self::NeverExpires | Self::NoName | Self::SameNameAndOwner => {
                Severity::Low
            }
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Severity {
    pub const ALL: [Self; 3] = [Self::Low, Self::Medium, Self::High];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|severity| severity.as_str() == text)
    }
}
