//! Secrets that the API should not have sent are made unreadable before anything is kept.

/// The shortest run after `sk-` that is taken for a secret. Redacted values are shorter or hold a
/// mask character; real secrets are several times as long.
const SECRET_CHARS: usize = 20;

/// `text` with everything that looks like a full API key masked, or `None` if nothing does.
///
/// What remains is the beginning up to the kind of key (`sk-admin-`) and the last four characters:
/// enough to recognise the key by, and the same for the same secret.
#[must_use]
pub fn mask_secrets(text: &str) -> Option<String> {
    let mut masked = String::new();
    let mut rest = text;
    let mut found = false;
    while let Some(at) = rest.find("sk-") {
        let run_chars = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let len = rest[at..].find(|c| !run_chars(c)).unwrap_or(rest.len() - at);
        let run = &rest[at..at + len];
        if looks_like_secret(run) {
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
/// `sk-team-search-indexer-production` is a name: it has neither a digit nor a capital, and no long
/// part without a hyphen. No random secret is like that.
#[must_use]
pub fn looks_like_secret(run: &str) -> bool {
    let Some(body) = run.strip_prefix("sk-") else {
        return false;
    };
    let random = body.contains(|c: char| c.is_ascii_digit() || c.is_ascii_uppercase());
    let longest = body.split('-').map(str::len).max().unwrap_or(0);
    body.len() >= SECRET_CHARS && (random || longest >= SECRET_CHARS)
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
        assert_eq!(mask_secrets("xsk-aaaaaaaaaaaaaaaaaaaabcde").unwrap(), "xsk-****bcde");
    }

    #[test]
    fn redacted_values_and_names_stay_as_they_are() {
        for text in [
            "sk-admin...def",
            "sk-admin-****abcd",
            "sk-team-search-indexer-production",
            "sk-",
            "task-2026",
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
