//! Secrets that the API should not have sent are made unreadable before anything is kept.

/// The shortest part without a hyphen or underscore that is taken for random. Names are made of words; secrets are
/// several times as long.
const RANDOM_CHARS: usize = 16;
/// From this length on, digits and capitals give a secret away though hyphens part it.
const LONG_CHARS: usize = 32;

/// `text` with everything that looks like a full API key masked, or `None` if nothing does.
///
/// What remains is the beginning up to the kind of key (`sk-admin-`) and the last four characters:
/// enough to recognise the key by, and the same for the same secret.
#[must_use]
pub fn mask_secrets(text: &str) -> Option<String> {
    // Nearly every text.
    if !text.as_bytes().windows(3).any(|three| three == b"sk-") {
        return None;
    }
    let mut masked = String::new();
    let mut rest = text;
    let mut found = false;
    while let Some(at) = rest.find("sk-") {
        let run_chars = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let len = rest[at..].find(|c| !run_chars(c)).unwrap_or(rest.len() - at);
        let run = &rest[at..at + len];
        let kept = text.len() - rest.len() + at;
        // Not the end of a word: `task-`, `risk-`, `disk-`.
        let begins = !text[..kept].ends_with(|c: char| c.is_alphanumeric());
        if begins && looks_like_secret(run) {
            found = true;
            masked.push_str(&rest[..at]);
            masked.push_str(kind_prefix(run));
            masked.push_str("****");
            masked.push_str(&run[run.len() - 4..]);
            rest = &rest[at + len..];
        } else {
            masked.push_str(&rest[..at + 3]);
            rest = &rest[at + 3..];
        }
    }
    masked.push_str(rest);
    found.then_some(masked)
}

/// Whether a run of letters, digits, `-` and `_` that begins with `sk-` is a full key rather than words.
///
/// `sk-team-search-indexer-production-2026` is a name: no part of it is long, and it has no capital.
#[must_use]
pub fn looks_like_secret(run: &str) -> bool {
    let Some(body) = run.strip_prefix("sk-") else { return false };
    let longest = body.split(['-', '_']).map(str::len).max().unwrap_or(0);
    let mixed = body.contains(|c: char| c.is_ascii_digit())
        && body.contains(|c: char| c.is_ascii_uppercase());
    longest >= RANDOM_CHARS || (body.len() >= LONG_CHARS && mixed)
}

fn kind_prefix(run: &str) -> &str {
    ["sk-admin-", "sk-proj-", "sk-svcacct-"]
        .into_iter()
        .find(|prefix| run.starts_with(prefix))
        .unwrap_or("sk-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_key_is_masked_wherever_it_stands() {
        let secret = "sk-admin-ABCDefgh0123456789ijklmnopQRST";
        let text = format!("before {secret}, again {secret}!");
        assert_eq!(
            mask_secrets(&text).unwrap(),
            "before sk-admin-****QRST, again sk-admin-****QRST!"
        );
        assert_eq!(mask_secrets("my_sk-aaaaaaaaaaaaaaaaaaaabcde").unwrap(), "my_sk-****bcde");
        assert!(mask_secrets("sk-proj-A1b2-C3d4-E5f6-G7h8-J9k0-L1m2-N3").is_some());
    }

    #[test]
    fn redacted_values_and_names_stay_as_they_are() {
        for text in [
            "sk-admin...def",
            "sk-admin-****abcd",
            "sk-team-search-indexer-production",
            "sk-",
            "task-2026",
            "risk-analysis-pipeline-2025-prod",
            "desk-0123456789abcdef0123456789abcdef",
            "task-550e8400-e29b-41d4-a716-446655440000",
            "sk-analysis-pipeline-2025-prod",
            "",
            "sk-sk-sk-",
        ] {
            assert_eq!(mask_secrets(text), None, "{text}");
        }
    }

    #[test]
    fn masking_twice_changes_nothing_more() {
        let once = mask_secrets("sk-proj-0123456789abcdefghij0123456789").unwrap();
        assert_eq!(mask_secrets(&once), None);
    }
}
