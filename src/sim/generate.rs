//! What a generated organization is made of: ids, names, owners, redacted values, all of it from a
//! seed.

use std::sync::Arc;

use serde_json::Value;

const FIRST_NAMES: [&str; 24] = [
    "Ada", "Amara", "Bo", "Chiara", "Daniel", "Elif", "Fatima", "Grace", "Hiro", "Ingrid", "João",
    "Kofi", "Lena", "Mateo", "Nadia", "Olga", "Priya", "Quentin", "Rosa", "Sami", "Tomás", "Uma",
    "Wei", "Zoë",
];
const LAST_NAMES: [&str; 24] = [
    "Abe",
    "Brandt",
    "Castillo",
    "Dubois",
    "Eriksen",
    "Farah",
    "Gupta",
    "Haddad",
    "Ito",
    "Jansen",
    "Kowalski",
    "Lindqvist",
    "Mbeki",
    "Novak",
    "Okafor",
    "Petrov",
    "Quinn",
    "Rossi",
    "Silva",
    "Tanaka",
    "Ueda",
    "Vargas",
    "Weber",
    "Zhang",
];
const TEAMS: [&str; 16] = [
    "audit",
    "backup",
    "billing",
    "ci",
    "compliance",
    "data",
    "deploy",
    "finance",
    "growth",
    "infra",
    "ml",
    "payments",
    "platform",
    "research",
    "search",
    "support",
];
const TASKS: [&str; 16] = [
    "admin",
    "agent",
    "bot",
    "cron",
    "dashboard",
    "export",
    "importer",
    "inventory",
    "limits",
    "monitor",
    "provisioning",
    "report",
    "rotation",
    "sync",
    "terraform",
    "usage",
];
const PLACES: [&str; 6] = ["", " (eu)", " (legacy)", " (prod)", " (staging)", " (us)"];
const ALPHANUMERIC: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// What the listing calls an admin key, and mislabelled project keys too.
pub(super) const KEY_OBJECT: &str = "organization.admin_api_key";

const DAY: i64 = 86_400;

/// `length` random letters and digits.
pub(super) fn alphanumeric(rng: &mut fastrand::Rng, length: usize) -> String {
    (0..length).map(|_| char::from(ALPHANUMERIC[rng.usize(..ALPHANUMERIC.len())])).collect()
}

fn pick<'a>(rng: &mut fastrand::Rng, from: &[&'a str]) -> &'a str {
    from[rng.usize(..from.len())]
}

/// A name as people give their keys: `billing-export (prod)`.
pub(super) fn key_name(rng: &mut fastrand::Rng) -> String {
    format!("{}-{}{}", pick(rng, &TEAMS), pick(rng, &TASKS), pick(rng, &PLACES))
}

/// The redacted value of an admin key's secret: its prefix and its last four characters.
pub(super) fn redacted(secret: &str) -> String {
    let tail: Vec<char> = secret.chars().rev().take(4).collect();
    format!("sk-admin-****{}", tail.into_iter().rev().collect::<String>())
}

/// The e-mail address of a person: `ada.abe@example.com`.
pub(super) fn email(name: &str) -> String {
    let letters = name.to_lowercase().replace(' ', ".");
    let letters: String =
        letters.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '.').collect();
    format!("{letters}@example.com")
}

/// One owner's JSON object: a user, or a service account.
fn owner(rng: &mut fastrand::Rng, service_account: bool, now: i64) -> Value {
    let created_at = now - rng.i64(400 * DAY..1_500 * DAY);
    if service_account {
        serde_json::json!({
            "type": "service_account",
            "object": "organization.service_account",
            "id": format!("svc_acct_{}", alphanumeric(rng, 24)),
            "name": format!("{}-{}", pick(rng, &TEAMS), pick(rng, &TASKS)),
            "created_at": created_at,
            "role": "member",
        })
    } else {
        serde_json::json!({
            "type": "user",
            "object": "organization.user",
            "id": format!("user-{}", alphanumeric(rng, 24)),
            "name": format!("{} {}", pick(rng, &FIRST_NAMES), pick(rng, &LAST_NAMES)),
            "created_at": created_at,
            "role": if rng.u8(..4) == 0 { "member" } else { "owner" },
        })
    }
}

/// The owners of an organization: users at even places, service accounts at odd ones.
pub(super) fn owners(rng: &mut fastrand::Rng, count: usize, now: i64) -> Vec<Arc<str>> {
    (0..count).map(|at| Arc::from(owner(rng, at % 2 == 1, now).to_string())).collect()
}

/// What one generated key says, the owner apart.
pub(super) struct KeyDraft {
    pub(super) id: String,
    pub(super) name: Option<String>,
    pub(super) redacted_value: String,
    pub(super) created_at: i64,
    pub(super) last_used_at: Option<i64>,
    pub(super) expires_at: Option<i64>,
    pub(super) project_key: bool,
}

impl KeyDraft {
    /// A key made at `created_at`, as it stands at `now`.
    pub(super) fn random(rng: &mut fastrand::Rng, created_at: i64, now: i64) -> Self {
        let kind = rng.u8(..100);
        let prefix = match kind {
            0..90 => "sk-admin-",
            90..97 => "sk-proj-",
            _ => "sk-svcacct-",
        };
        let used = created_at < now && rng.u8(..10) < 8;
        Self {
            id: format!("key_{}", alphanumeric(rng, 24)),
            name: (rng.u8(..50) != 0).then(|| key_name(rng)),
            redacted_value: format!("{prefix}****{}", alphanumeric(rng, 4)),
            created_at,
            last_used_at: used.then(|| rng.i64(created_at..now)),
            expires_at: (rng.u8(..4) == 0).then(|| now + rng.i64(-30 * DAY..365 * DAY)),
            project_key: kind >= 90,
        }
    }

    /// The JSON object without the owner.
    pub(super) fn to_json(&self) -> String {
        fn number(value: Option<i64>) -> String {
            value.map_or_else(|| "null".to_owned(), |value| value.to_string())
        }
        format!(
            "{{\"object\":\"{KEY_OBJECT}\",\"id\":{},\"name\":{},\"redacted_value\":{},\
             \"created_at\":{},\"last_used_at\":{},\"expires_at\":{}}}",
            Value::from(self.id.as_str()),
            self.name.as_deref().map_or(Value::Null, Value::from),
            Value::from(self.redacted_value.as_str()),
            self.created_at,
            number(self.last_used_at),
            number(self.expires_at),
        )
    }
}

/// Creation times over the three years before `now`: ascending, now and then the same one twice.
pub(super) fn creation_times(rng: &mut fastrand::Rng, count: usize, now: i64) -> Vec<i64> {
    let mut times: Vec<i64> = Vec::with_capacity(count);
    for _ in 0..count {
        let shared = rng.u8(..12) == 0;
        let time = match times.last() {
            Some(last) if shared => *last,
            _ => now - rng.i64(DAY..1_100 * DAY),
        };
        times.push(time);
    }
    times.sort_unstable();
    times
}
