use super::*;
use crate::config::Environment;
use proptest::prelude::*;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

const KEY: &str = "sk-admin-SECRETwxyz";

fn name(text: &str) -> OrgName {
    OrgName::new(text).unwrap()
}

/// A directory for key files, which messages show as `DIR`.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    fn write(&self, file: &str, content: impl AsRef<[u8]>, mode: u32) -> PathBuf {
        let path = self.path(file);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn read(&self, file: &str) -> String {
        self.shown(&source_of(&self.path(file)).read())
    }

    /// Error, cause and hint on a line each; or the key.
    fn shown(&self, result: &Result<Credential, Error>) -> String {
        let text = match result {
            Ok(credential) => return credential.expose().to_owned(),
            Err(error) => {
                let cause = std::error::Error::source(error).map(|cause| format!("\n  {cause}"));
                let hint = error.hint().map(|hint| format!("\nhint: {hint}"));
                format!("{error}{}{}", cause.unwrap_or_default(), hint.unwrap_or_default())
            }
        };
        assert!(!text.contains("SECRET"), "{text}");
        text.replace(self.0.path().to_str().unwrap(), "DIR")
    }
}

fn source_of(path: &Path) -> CredentialSource {
    let file = KeyFile { path: path.to_owned(), origin: "keydrift.toml:3".to_owned() };
    let organizations = vec![(name("acme"), Some(file))];
    CredentialSources::new(organizations, &Environment::default()).resolve(&name("acme")).unwrap()
}

/// Sources of organizations without `admin_key_file`, but for those that name one.
fn sources(
    organizations: &[(&str, Option<&str>)],
    variables: &[(&str, &str)],
) -> CredentialSources {
    let file = |path: &str| KeyFile { path: path.into(), origin: "keydrift.toml:3".to_owned() };
    let organizations = organizations.iter().map(|(org, path)| (name(org), path.map(file)));
    CredentialSources::new(organizations.collect(), &variables.iter().copied().collect())
}

fn resolved(sources: &CredentialSources, organization: &str) -> String {
    match sources.resolve(&name(organization)) {
        Ok(source) => format!("{source} ({})", source.origin()),
        Err(error) => format!("{error}\nhint: {}", error.hint().unwrap()),
    }
}

#[test]
fn sources_are_tried_in_their_order() {
    let files = Files::new();
    let directory = files.0.path().to_str().unwrap();
    let own = files.write("openai-admin-key.acme", KEY, 0o400);
    let any = files.write("openai-admin-key", KEY, 0o400);
    let variables = [
        ("CREDENTIALS_DIRECTORY", directory),
        ("OPENAI_ADMIN_KEY_FILE", "/key"),
        ("OPENAI_ADMIN_KEY", KEY),
    ];
    let with_file = sources(&[("acme", Some("/acme.key"))], &variables);
    assert_eq!(resolved(&with_file, "acme"), "file `/acme.key` (keydrift.toml:3)");
    let acme = sources(&[("acme", None)], &variables);
    let expected = "systemd credential `openai-admin-key.acme` (CREDENTIALS_DIRECTORY)";
    assert_eq!(resolved(&acme, "acme"), expected);
    fs::remove_file(own).unwrap();
    let expected = "systemd credential `openai-admin-key` (CREDENTIALS_DIRECTORY)";
    assert_eq!(resolved(&acme, "acme"), expected);
    fs::remove_file(any).unwrap();
    assert_eq!(resolved(&acme, "acme"), "file `/key` (OPENAI_ADMIN_KEY_FILE)");
    let acme = sources(&[("acme", None)], &variables[2..]);
    assert_eq!(resolved(&acme, "acme"), "variable `OPENAI_ADMIN_KEY` (OPENAI_ADMIN_KEY)");
    assert_eq!(acme.resolve(&name("acme")).unwrap().read().unwrap().expose(), KEY);
    let acme = sources(&[("acme", None)], &[("OPENAI_ADMIN_KEY", "")]);
    insta::assert_snapshot!(resolved(&acme, "acme"), @"
    there is no credential for organization `acme`
    hint: set `organizations.acme.admin_key_file`, OPENAI_ADMIN_KEY_FILE or OPENAI_ADMIN_KEY, or give the systemd credential `openai-admin-key.acme` or `openai-admin-key`
    ");
}

#[test]
fn an_unnamed_source_serves_one_organization_without_its_own() {
    let variables = [("OPENAI_ADMIN_KEY", KEY)];
    let one_lacks = sources(&[("a", Some("/a.key")), ("b", None)], &variables);
    assert_eq!(resolved(&one_lacks, "a"), "file `/a.key` (keydrift.toml:3)");
    assert_eq!(resolved(&one_lacks, "b"), "variable `OPENAI_ADMIN_KEY` (OPENAI_ADMIN_KEY)");
    let two_lack = sources(&[("a", Some("/a.key")), ("b", None), ("c", None)], &variables);
    assert_eq!(resolved(&two_lack, "a"), "file `/a.key` (keydrift.toml:3)");
    insta::assert_snapshot!(resolved(&two_lack, "b"), @"
    variable `OPENAI_ADMIN_KEY` serves a single organization, but `b`, `c` lack a credential of their own
    hint: set `admin_key_file` of each, or name the systemd credentials `openai-admin-key.NAME`
    ");
    let none = sources(&[("b", None), ("c", None)], &[]);
    assert!(resolved(&none, "b").starts_with("there is no credential for organization `b`"));
}

#[test]
fn a_key_where_a_path_belongs_is_not_shown() {
    let acme = sources(&[("acme", None)], &[("OPENAI_ADMIN_KEY_FILE", KEY)]);
    insta::assert_snapshot!(resolved(&acme, "acme"), @"
    `OPENAI_ADMIN_KEY_FILE` holds a credential, not the path of a file
    hint: set OPENAI_ADMIN_KEY to the key, or OPENAI_ADMIN_KEY_FILE to a file that holds it
    ");
    let two = sources(&[("a", None), ("b", None)], &[("OPENAI_ADMIN_KEY_FILE", KEY)]);
    assert!(!resolved(&two, "a").contains("SECRET"));
}

#[test]
fn a_file_is_read_anew_each_time() {
    let files = Files::new();
    let path = files.write("key", format!("{KEY}\n"), 0o600);
    let source = source_of(&path);
    assert_eq!(source.read().unwrap().expose(), KEY);
    fs::write(&path, "sk-admin-rotated\r\n\n").unwrap();
    assert_eq!(source.read().unwrap().expose(), "sk-admin-rotated");
}

#[test]
fn a_link_to_a_file_is_followed() {
    let files = Files::new();
    symlink(files.write("key", KEY, 0o640), files.path("link")).unwrap();
    assert_eq!(files.read("link"), KEY);
}

#[test]
fn a_file_that_every_user_can_read_is_refused_but_not_systemds() {
    let files = Files::new();
    files.write("key", KEY, 0o644);
    insta::assert_snapshot!(files.read("key"), @"
    the credential file `DIR/key` can be read by every user (mode 644)
    hint: run `chmod 600 DIR/key`
    ");
    let directory = files.0.path().to_str().unwrap();
    let path = files.path("key");
    let variables =
        [("CREDENTIALS_DIRECTORY", directory), ("OPENAI_ADMIN_KEY_FILE", path.to_str().unwrap())];
    let source = sources(&[("acme", None)], &variables).resolve(&name("acme")).unwrap();
    assert!(source.is_systemd());
    assert_eq!(source.read().unwrap().expose(), KEY);
    files.write("openai-admin-key", KEY, 0o444);
    let source = sources(&[("acme", None)], &variables[..1]).resolve(&name("acme")).unwrap();
    assert_eq!(source.read().unwrap().expose(), KEY);
}

#[test]
fn what_is_no_key_file_is_a_clear_error() {
    let files = Files::new();
    insta::assert_snapshot!(files.read("missing"), @"
    could not read the credential file `DIR/missing`
      No such file or directory (os error 2)
    hint: write the admin key into it, with mode 600, or correct the path
    ");
    fs::create_dir(files.path("directory")).unwrap();
    insta::assert_snapshot!(files.read("directory"), @"
    the credential file `DIR/directory` is a directory, not a regular file
    hint: name a file that can be read again for each run
    ");
    assert!(files.shown(&source_of(Path::new("/dev/zero")).read()).contains("a device, pipe"));
    files.write("large", vec![b'a'; 64 * 1024 + 1], 0o600);
    insta::assert_snapshot!(files.read("large"), @"
    the credential file `DIR/large` is larger than 64 KiB
    hint: it must be the admin key alone, on one line
    ");
    files.write("largest", vec![b'a'; 64 * 1024], 0o600);
    assert_eq!(files.read("largest").len(), 64 * 1024);
}

#[test]
fn a_pipe_is_refused_without_waiting_for_a_writer() {
    let files = Files::new();
    let path = files.path("pipe");
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    if made.is_ok_and(|status| status.success()) {
        insta::assert_snapshot!(files.read("pipe"), @"
        the credential file `DIR/pipe` is a device, pipe or socket, not a regular file
        hint: name a file that can be read again for each run
        ");
    }
}

#[test]
fn only_what_cannot_be_right_is_refused() {
    let files = Files::new();
    let read = |content: &[u8]| {
        files.write("key", content, 0o600);
        files.read("key").lines().next().unwrap_or_default().to_owned()
    };
    for good in ["sk-admin-x", "x", "sk-plain", "gateway:token/with=signs~"] {
        assert_eq!(read(good.as_bytes()), good);
    }
    insta::assert_snapshot!(read(b""), @"the credential in file `DIR/key` is empty");
    insta::assert_snapshot!(read(b"\n\n"), @"the credential in file `DIR/key` is empty");
    insta::assert_snapshot!(read(b"sk-admin-SECRET \n"), @"the credential in file `DIR/key` has white space or control characters in it");
    insta::assert_snapshot!(read(b"\tsk-admin-SECRET"), @"the credential in file `DIR/key` has white space or control characters in it");
    insta::assert_snapshot!(read(b"sk-admin-SECRET\0"), @"the credential in file `DIR/key` has white space or control characters in it");
    insta::assert_snapshot!(read(b"sk-admin-SECRET\n# of acme\n"), @"the credential in file `DIR/key` has more than one line");
    insta::assert_snapshot!(read("sk-admin-SECRET\u{2026}".as_bytes()), @"the credential in file `DIR/key` has characters outside ASCII in it");
    insta::assert_snapshot!(read(b"sk-admin-SECRET\xff"), @"the credential in file `DIR/key` is not UTF-8 text");
    insta::assert_snapshot!(read(b"sk-proj-SECRET"), @"the credential in file `DIR/key` is a project API key, not an admin key");
    insta::assert_snapshot!(read(b"sk-svcacct-SECRET"), @"the credential in file `DIR/key` is a service account's API key, not an admin key");
    files.write("key", "sk-proj-SECRET", 0o600);
    insta::assert_snapshot!(files.read("key"), @"
    the credential in file `DIR/key` is a project API key, not an admin key
    hint: an owner of the organization can create an admin key, with read-only permission, at https://platform.openai.com/settings/organization/admin-keys
    ");
}

#[test]
fn neither_credential_nor_source_shows_the_key() {
    let acme = sources(&[("acme", None)], &[("OPENAI_ADMIN_KEY", KEY)]);
    let source = acme.resolve(&name("acme")).unwrap();
    let credential = source.read().unwrap();
    let shown = format!("{acme:?} {source:?} {source} {credential:?}");
    assert!(!shown.contains("SECRET"), "{shown}");
    assert_eq!(format!("{credential:?}"), "Credential(***)");
}

#[test]
fn our_own_redacted_value_is_recognised() {
    let credential = Credential::parse(b"sk-admin-0123456789abcd", "test").unwrap();
    for ours in [
        "sk-admin...bcd",
        "sk-admin-****abcd",
        "sk-admin-…abcd",
        "sk-•abcd",
        "sk-admin-01*.*9abcd",
        "sk-...bcd",
    ] {
        assert!(credential.matches_redacted(ours), "{ours}");
    }
    for other in [
        "",
        "...",
        "sk-admin-0123456789abcd",
        "sk-admin...abce",
        "sk-admin...cd",
        "sk-...",
        "...abcd",
        "sk...abcd",
        "sk-proj...abcd",
        "sk-admin-0123456789...789abcd",
        "sk-admin…",
        "sk-admin-0123456789abcd...abcd",
        "SK-admin...abcd",
    ] {
        assert!(!credential.matches_redacted(other), "{other}");
    }
}

#[test]
fn core_dumps_can_be_forbidden() {
    forbid_core_dumps().unwrap();
    let state = rustix::process::dumpable_behavior().unwrap();
    assert_eq!(state, rustix::process::DumpableBehavior::NotDumpable);
    // The other tests share this process.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable).unwrap();
}

proptest! {
    #[test]
    fn every_honest_redaction_is_recognised(secret in "[A-Za-z0-9_-]{12,60}", shown in 0_usize..4, end in 3_usize..5, mask in "[.*…•]{1,6}") {
        let key = format!("sk-admin-{secret}");
        let redacted = format!("{}{mask}{}", &key[..9 + shown], &key[key.len() - end..]);
        prop_assert!(Credential::parse(key.as_bytes(), "test").unwrap().matches_redacted(&redacted));
    }

    #[test]
    fn no_content_makes_the_shape_check_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        if let Ok(credential) = Credential::parse(&bytes, "test") {
            prop_assert!(credential.expose().bytes().all(|c| c.is_ascii_graphic()));
        }
    }

    #[test]
    fn hostile_redacted_values_do_not_panic(redacted in ".{0,30}") {
        let credential = Credential::parse(KEY.as_bytes(), "test").unwrap();
        prop_assert!(!credential.matches_redacted(&redacted) || redacted.starts_with("sk-"));
    }
}
