//! Signed checkpoints: the key, and what it proves.

use std::fs;

use super::*;

/// Makes a key, and gives its file and its public half.
fn keygen(world: &World, name: &str) -> (String, String) {
    let file = world.path().join(name).display().to_string();
    let made = world.keydrift(&["checkpoint", "keygen", &file, "--name", name]).succeeds();
    (file, made.stdout.trim_end().to_owned())
}

fn sync_with(world: &World, key: &str) -> Ran {
    world.keydrift(&["sync"]).env("KEYDRIFT__CHECKPOINT__KEY_FILE", key).succeeds()
}

#[test]
fn a_key_is_made_once_for_its_owner_alone() {
    let world = World::new(1);
    let (file, public) = keygen(&world, "acme");
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let secret = fs::read_to_string(&file).unwrap();
    assert!(secret.starts_with("PRIVATE+KEY+acme+") && public.starts_with("acme+"));
    let again = world.keydrift(&["checkpoint", "keygen", &file]).exits(1);
    insta::assert_snapshot!(said(&world, &again.stderr), @"
    error: `DIR/acme` is there already
    hint: name a file that is not there yet: a key never takes the place of another
    ");
    assert_eq!(fs::read_to_string(&file).unwrap(), secret);
    let named = world.keydrift(&["checkpoint", "keygen", "other", "--name", "a b"]).exits(1);
    insta::assert_snapshot!(named.stderr, @"
    error: the key name `a b` cannot be used: its name is empty, or has white space or a `+` in it
    hint: leave out white space and `+`
    ");
    assert!(!world.path().join("other").exists());
}

#[test]
fn signed_checkpoints_prove_what_unsigned_ones_do_not() {
    let world = World::new(3);
    world.sync();
    let (key, public) = keygen(&world, "acme");
    let (_, stranger) = keygen(&world, "stranger");
    sync_with(&world, &key);
    sync_with(&world, &key);
    let verified = verify(&world, &["--public-key", &public]);
    assert_eq!(verified.code, Some(0), "{verified}");
    let told = "default: 3 checkpoints agree, the newest of run 3 (signed by `acme`)\n";
    assert!(verified.stdout.contains(told), "{verified}");
    // The first was not signed when it was made; the first run with a key had it signed.
    let rows = verify(&world, &["--public-key", &public, "--format=json"]).json();
    assert_eq!((&rows[0]["checkpoints"], &rows[0]["signed"]), (&3.into(), &3.into()));
    let verified = verify(&world, &[]);
    assert!(verified.stdout.contains("run 3 (its signature was not checked)"), "{verified}");
    let verified = verify(&world, &["--public-key", &stranger]);
    assert_eq!(verified.code, Some(0), "{verified}");
    assert!(verified.stdout.contains("no checkpoint signed by a key that was given"), "{verified}");
    assert!(verified.stdout.contains("3 checkpoints without a signature by"), "{verified}");

    // Whoever can write the file, but not sign.
    let text = fs::read_to_string(file(&world)).unwrap();
    let digest = value(&blocks(&world)[2], "digest").to_owned();
    fs::write(file(&world), text.replace(&digest, &"ab".repeat(32))).unwrap();
    let forged = verify(&world, &["--public-key", &public, "--format=json"]);
    assert_eq!(forged.code, Some(3), "{forged}");
    let problem = forged.json()[0]["problem"].clone();
    assert_eq!(problem, "a checkpoint of run 2 has a forged signature of `acme`");
    let wrong = verify(&world, &["--public-key", "acme+0+AQ=="]);
    assert_eq!(wrong.code, Some(2), "{wrong}");
}

#[test]
fn the_key_may_be_a_systemd_credential() {
    let world = World::new(3);
    let (key, public) = keygen(&world, "acme");
    fs::create_dir(world.path().join("credentials")).unwrap();
    let credential = world.path().join("credentials/checkpoint-key");
    fs::copy(&key, &credential).unwrap();
    // systemd gives its files modes of its own.
    fs::set_permissions(&credential, fs::Permissions::from_mode(0o444)).unwrap();
    let directory = world.path().join("credentials");
    world.keydrift(&["sync"]).env("CREDENTIALS_DIRECTORY", directory).succeeds();
    let verified = verify(&world, &["--public-key", &public]);
    assert!(verified.stdout.contains("(signed by `acme`)"), "{verified}");
}

#[test]
fn a_key_that_cannot_be_used_fails_no_run_and_is_never_said() {
    let world = World::new(3);
    let (key, public) = keygen(&world, "acme");
    let secret = fs::read_to_string(&key).unwrap();
    let secret = secret.trim_end().rsplit('+').next().unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let ran = sync_with(&world, &key);
    assert!(ran.stderr.contains("can be read by every user (mode 644)"), "{ran}");
    assert_eq!(blocks(&world).len(), 0);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    for mangled in [format!("{secret}\n"), String::new(), "PRIVATE+KEY+acme".to_owned()] {
        let file = world.path().join("mangled");
        fs::write(&file, mangled).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let ran = sync_with(&world, file.to_str().unwrap());
        assert!(ran.stderr.contains("no checkpoint was made"), "{ran}");
        assert!(!ran.stderr.contains(secret), "{ran}");
    }
    let ran =
        world.keydrift(&["sync", "-vvv"]).env("KEYDRIFT__CHECKPOINT__KEY_FILE", &key).succeeds();
    assert!(!ran.stderr.contains(secret) && !ran.stdout.contains(secret), "it was said");
    // That of the newest run before, which covers the others, and that of this one.
    let verified = verify(&world, &["--public-key", &public]);
    assert!(verified.stdout.contains("2 checkpoints agree, the newest of run 5"), "{verified}");
}
