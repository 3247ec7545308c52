//! What `doctor` says.

use keydrift::clock::{Clock as _, SystemClock};
use keydrift::sim::{Area, Organization};

use super::stable;
use crate::support::{Ran, World};

/// What differs with the machine and the hour is hidden.
#[track_caller]
fn told(world: &World, ran: &Ran) -> String {
    let text = stable(world, &format!("{}--- stderr\n{}", ran.stdout, ran.stderr));
    let mut lines = Vec::new();
    for line in text.lines() {
        lines.push(match (line.split_once("due next at "), line.contains(" MiB free in ")) {
            (Some((head, _)), _) => format!("{head}due next at TIME"),
            (None, true) => "-             disk space       (how much there is)".to_owned(),
            (None, false) => line.to_owned(),
        });
    }
    lines.join("\n")
}

fn world() -> World {
    let world = World::of(Organization::generate(7, 12).with_projects_of(1, 3..=3));
    world.organization().with(|organization| organization.set_now(SystemClock.now().unix()));
    world
}

#[test]
fn doctor_of_an_organization_that_is_well() {
    let world = world();
    let ran = world.keydrift(&["doctor"]).succeeds();
    insta::assert_snapshot!(told(&world, &ran), @"
    ORGANIZATION  CHECK            RESULT  DETAIL
    default       credential       ok      read from the variable `OPENAI_ADMIN_KEY`
    default       permission       ok      the credential may list the admin keys
    default       admin keys       ok      listed
    default       project keys     ok      listed, those of project `proj_ZwEtLlZgty40R84gSEhxqzuT` as a trial
    default       audit logs       ok      has no entry about any key; not used, as `audit_logs` is false
    default       organization id  ok      `org-vNsdHKxFIbmB90eexaga5zRT`; no earlier run to compare it with
    default       clock            ok      within 30 s of the API's
    default       schedule         ok      there was no run yet; due next at TIME
    -             database         ok      `DIR/keys.db` is not there yet: the first sync makes it
    -             disk space       (how much there is)
    -             checkpoint       ok      `DIR/keys.db.checkpoints` is not there yet: the first run makes it; not signed: there is no `checkpoint.key_file`
    all is well
    --- stderr
    ");
}

#[test]
fn doctor_tells_what_fails_what_it_costs_and_how_to_mend_it() {
    let world = world();
    let secret = world.organization().credential();
    world.organization().with(|organization| {
        organization.refuse(&secret, Area::Projects, Some(403));
        organization.refuse(&secret, Area::AuditLogs, Some(401));
        organization.set_organization_id(None);
    });
    let wanted = "KEYDRIFT__ORGANIZATIONS__DEFAULT__AUDIT_LOGS";
    let ran = world.keydrift(&["doctor"]).env(wanted, "true").exits(3);
    insta::assert_snapshot!(told(&world, &ran), @"
    ORGANIZATION  CHECK            RESULT   DETAIL
    default       credential       ok       read from the variable `OPENAI_ADMIN_KEY`
    default       permission       ok       the credential may list the admin keys
    default       admin keys       ok       listed
    default       project keys     warning  page 1 of the projects was refused with status 403 (request req_00000000000000000000000000000002): the credential lacks the scope `api.management.read`
         what it costs: the keys of projects are not watched, but for those that the admin listing shows too. To mend it: reading projects and their keys needs `api.management.read`: create a new admin key with read-only permission and use that: editing the scopes of an existing key often does not take; or set `project_keys = false`
    default       audit logs       failed   page 1 of the audit log was refused with status 401 (request req_00000000000000000000000000000003): the credential lacks the scope `api.audit_logs.read`
         what it costs: no event says who did it, and from where. To mend it: reading the audit log needs `api.audit_logs.read`: create a new admin key with read-only permission and use that: editing the scopes of an existing key often does not take; or set `audit_logs = false`
    default       organization id  skipped  the answers do not say it
    default       clock            ok       within 30 s of the API's
    default       schedule         ok       there was no run yet; due next at TIME
    -             database         ok       `DIR/keys.db` is not there yet: the first sync makes it
    -             disk space       (how much there is)
    -             checkpoint       ok       `DIR/keys.db.checkpoints` is not there yet: the first run makes it; not signed: there is no `checkpoint.key_file`
    not all that is needed works: 1 failure, and 1 more thing may cost something
    --- stderr
    ");
}

#[test]
fn doctor_without_a_credential() {
    let world = world();
    let ran = world.keydrift(&["doctor"]).without_env("OPENAI_ADMIN_KEY").exits(3);
    insta::assert_snapshot!(told(&world, &ran), @"
    ORGANIZATION  CHECK            RESULT   DETAIL
    default       credential       failed   there is no credential for organization `default`
         what it costs: every run of this organization fails, and nothing is recorded. To mend it: set `organizations.default.admin_key_file`, OPENAI_ADMIN_KEY_FILE or OPENAI_ADMIN_KEY, or give the systemd credential `openai-admin-key.default` or `openai-admin-key`
    default       permission       skipped  there is no credential to ask with
    default       admin keys       skipped  there is no credential to ask with
    default       project keys     skipped  there is no credential to ask with
    default       audit logs       skipped  there is no credential to ask with
    default       organization id  skipped  there is no credential to ask with
    default       clock            skipped  there is no credential to ask with
    default       schedule         ok       there was no run yet; due next at TIME
    -             database         ok       `DIR/keys.db` is not there yet: the first sync makes it
    -             disk space       (how much there is)
    -             checkpoint       ok       `DIR/keys.db.checkpoints` is not there yet: the first run makes it; not signed: there is no `checkpoint.key_file`
    not all that is needed works: 1 failure
    --- stderr
    ");
}
