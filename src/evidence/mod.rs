//! Evidence packs: a period of the history in one file, to be checked anywhere.

pub mod archive;
pub mod check;

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::audit::{Gap, SigningKey, Verdict, sign_note};
use crate::clock::Timestamp;
use crate::store::Period;
use archive::{Builder, Entry};

const FORMAT: &str = "keydrift/evidence/1";
pub const MANIFEST: &str = "manifest.json";
/// A signed note over it, if there is a key.
pub const NOTE: &str = "manifest.note";
/// Those of the links of the period.
pub const CHECKPOINTS: &str = "checkpoints.txt";
/// The verifier that shares no code with this program: of histories, and of what vouches for them.
const SCRIPTS: [(&str, &str); 2] = [
    ("verify_keydrift.py", include_str!("../../docs/verify_keydrift.py")),
    ("verify_signatures.py", include_str!("../../docs/verify_signatures.py")),
];
/// What the manifest of every pack lists beside the files of the history, which are missed when they are read.
const FIXED: [&str; 6] =
    ["README.md", "coverage.json", "configuration.json", CHECKPOINTS, SCRIPTS[0].0, SCRIPTS[1].0];

/// What a pack says of itself.
#[derive(Debug, Serialize, Deserialize)]
pub struct Manifest {
    pub format: String,
    /// The version that made it.
    pub keydrift: String,
    pub from: String,
    pub to: String,
    pub files: Vec<Entry>,
}

impl Manifest {
    /// `None` if it is of another format.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok().filter(|manifest: &Self| manifest.format == FORMAT)
    }

    /// What is not as it says, or that it does not list what every pack has.
    #[must_use]
    pub fn find_difference(&self, files: &BTreeMap<String, Vec<u8>>) -> Option<String> {
        let listed = |name: &str| self.files.iter().any(|entry| entry.name == name);
        let unlisted = FIXED.into_iter().find(|name| !listed(name));
        archive::find_difference(files, &self.files)
            .or_else(|| unlisted.map(|name| format!("`{name}` is missing from the manifest")))
    }
}

/// What goes into a pack beside the history.
pub struct Context<'a> {
    pub from: Timestamp,
    pub to: Timestamp,
    /// Settings and values, without secrets.
    pub configuration: BTreeMap<String, String>,
    /// Those of the period, one note after the other.
    pub checkpoints: String,
    /// Signs the manifest.
    pub key: Option<&'a SigningKey>,
}

/// Writes a pack. The same history, period and configuration give the same bytes.
pub fn write<W: Write>(writer: W, context: &Context<'_>, period: &Period) -> io::Result<W> {
    let (from, to) = (context.from.to_string(), context.to.to_string());
    let mut builder = Builder::new(writer, u64::try_from(context.to.unix()).unwrap_or(0));
    let readme = include_str!("README.md").replace("{from}", &from).replace("{to}", &to);
    builder.add("README.md", readme.as_bytes())?;
    builder.add("start.json", &pretty(&period.start)?)?;
    builder.add("coverage.json", &pretty(&coverage(&period.verdicts))?)?;
    builder.add("configuration.json", &pretty(&context.configuration)?)?;
    builder.add(CHECKPOINTS, context.checkpoints.as_bytes())?;
    for (name, content) in &period.files {
        builder.add(name, content.as_bytes())?;
    }
    for (name, content) in SCRIPTS {
        builder.add(name, content.as_bytes())?;
    }
    let manifest = Manifest {
        format: FORMAT.to_owned(),
        keydrift: env!("CARGO_PKG_VERSION").to_owned(),
        from,
        to,
        files: builder.entries().to_vec(),
    };
    let manifest = pretty(&manifest)?;
    builder.add(MANIFEST, &manifest)?;
    if let Some(key) = context.key {
        let note = sign_note(&signed_text(&manifest), key);
        let note = note.ok_or_else(|| io::Error::other("the manifest could not be signed"))?;
        builder.add(NOTE, note.as_bytes())?;
    }
    builder.finish()
}

/// What the note over a manifest signs.
#[must_use]
pub fn signed_text(manifest: &[u8]) -> String {
    format!("keydrift evidence v1\nmanifest {}\n", archive::sha256(manifest))
}

fn pretty(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(value)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// When each organization was looked at, and when for too long it was not.
fn coverage(verdicts: &[Verdict]) -> serde_json::Value {
    let of = |verdict: &Verdict| {
        let gaps = verdict.gaps.iter();
        let gaps: Vec<_> = gaps.map(|Gap { from, to }| json!({ "from": from, "to": to })).collect();
        let run = |run: &Option<(i64, String)>| {
            let run = run.as_ref();
            run.map(|(run_id, at)| json!({ "run_id": run_id, "finished_at": at }))
        };
        json!({
            "organization": verdict.organization,
            "first_run": run(&verdict.first),
            "last_run": run(&verdict.last),
            "gaps": gaps,
        })
    };
    verdicts.iter().map(of).collect()
}
