//! Colour with meaning, for who can see it; every word says the same without.

/// What a text is, as far as its colour goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Good,
    Bad,
    Warning,
    Activity,
    Faint,
    Heading,
    Failure,
}

impl Style {
    /// The style of an event or a status.
    pub(super) fn of_word(word: &str) -> Self {
        match word {
            "added" | "restored" | "ok" => Self::Good,
            "removed" | "failed" => Self::Bad,
            "changed" | "held" | "warning" => Self::Warning,
            "used" => Self::Activity,
            "baseline" | "skipped" => Self::Faint,
            _ => Self::Plain,
        }
    }

    fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Good => Some("32"),
            Self::Bad => Some("31"),
            Self::Warning => Some("33"),
            Self::Activity => Some("36"),
            Self::Faint => Some("2"),
            Self::Heading => Some("1"),
            Self::Failure => Some("1;31"),
        }
    }
}

/// The text in its style; without colour, the text.
pub(super) fn paint(text: &str, style: Style, colour: bool) -> String {
    match style.code() {
        Some(code) if colour && !text.is_empty() => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_colour_is_added() {
        assert_eq!(paint("removed", Style::of_word("removed"), true), "\u{1b}[31mremoved\u{1b}[0m");
        assert_eq!(paint("removed", Style::of_word("removed"), false), "removed");
        assert_eq!(paint("else", Style::of_word("else"), true), "else");
        assert_eq!(paint("", Style::Bad, true), "");
    }
}
