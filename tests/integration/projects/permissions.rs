//! What the credential may not read is said once, and the admin keys go on without it.

use keydrift::sim::{Area, Endpoint, ErrorBody, Fault, Matcher, Organization, ProjectAccess};

use super::directed::{notice, project, scopes, sync};
use crate::support::{World, sql};

const LACKS: &str = "the projects could not be listed, nor their keys: the credential lacks \
    `api.management.read`";

fn world() -> World {
    World::of(Organization::generate(7, 6).with_projects_of(4, 3..=6))
}

fn refuse(world: &World, area: Area, status: Option<u16>) {
    world.organization().with(|organization| {
        let secret = organization.credential().to_owned();
        organization.refuse(&secret, area, status);
    });
}

fn projects_keys(world: &World) -> i64 {
    sql::integer(
        &world.database(),
        "select count(*) from current_keys where project_id is not null",
    )
}

#[test]
fn a_missing_permission_is_said_once_and_admin_keys_go_on() {
    for area in [Area::Projects, Area::ProjectKeys] {
        for status in [401, 403] {
            let world = world();
            refuse(&world, area, Some(status));
            sync(&world);
            assert_eq!(notice(&world), LACKS, "{area:?} {status}");
            assert_eq!(projects_keys(&world), 0);
            let id = world.organization().with(Organization::add);
            sync(&world);
            assert_eq!(notice(&world), "", "said before: {area:?} {status}");
            let added = "select key_id from audit_history where event = 'added'";
            assert_eq!(sql::value(&world.database(), added), id);

            // What its projects hold when they can be read at last was there before.
            refuse(&world, area, None);
            sync(&world);
            assert!(
                notice(&world).contains("the projects can be listed again"),
                "{}",
                notice(&world)
            );
            let events = "select group_concat(distinct event) from audit_history
                 where scope = 'project' and run_id = (select max(run_id) from run_history)";
            assert_eq!(sql::value(&world.database(), events), "baseline");
            let truth = world.organization().with(|organization| {
                let ids: Vec<String> = organization.project_ids().map(str::to_owned).collect();
                ids.iter().map(|id| organization.project_keys(id).len()).sum::<usize>()
            });
            assert_eq!(projects_keys(&world), i64::try_from(truth).unwrap());

            // Refused once more, they stay, and it is said once more.
            refuse(&world, area, Some(status));
            sync(&world);
            assert!(notice(&world).starts_with(LACKS), "{}", notice(&world));
            assert!(
                notice(&world).contains("of projects, which were not listed, stay as they were")
            );
            sync(&world);
            assert_eq!(notice(&world), "");
            assert_eq!(projects_keys(&world), i64::try_from(truth).unwrap());
            let removed = "select count(*) from audit_history where event = 'removed'";
            assert_eq!(sql::integer(&world.database(), removed), 0);
        }
    }
}

#[test]
fn a_key_that_the_admin_list_drops_is_not_gone_where_its_project_cannot_be_read() {
    let mut organization = Organization::generate(7, 6).with_projects_of(1, 0..=0);
    let open = organization.project_ids().next().unwrap().to_owned();
    let shut = organization.create_project("shut");
    organization.set_project_access(&shut, ProjectAccess::Forbidden { status: 403 });
    let key = organization.add_project_key(&shut).unwrap();
    organization.mislabel(&key);
    let world = World::of(organization);
    sync(&world);
    let is_there = || {
        let query = format!("select count(*) from current_keys where key_id = '{key}'");
        sql::integer(&world.database(), &query) == 1
    };
    assert!(is_there(), "from the admin list, while `{open}` alone can be read");
    world.organization().with(|organization| assert!(organization.label_rightly(&key)));
    let stays = || {
        sync(&world);
        assert!(is_there());
        assert!(notice(&world).contains("of unknown projects"), "{}", notice(&world));
    };
    stays();
    world.organization().fault(Matcher::projects(), Fault::status(503));
    stays();
    world.organization().clear_faults();
    refuse(&world, Area::Projects, Some(403));
    stays();
    refuse(&world, Area::Projects, None);
    world.organization().with(|organization| {
        organization.set_project_access(&shut, ProjectAccess::Open);
    });
    sync(&world);
    assert!(is_there());
    world.organization().with(|organization| assert!(organization.remove(&key)));
    sync(&world);
    assert!(is_there(), "the last one of its project: that has to be seen twice");
    sync(&world);
    assert!(!is_there());
}

#[test]
fn every_refusal_of_the_projects_is_said_once_and_again_when_it_is_another() {
    let said = |body: &str| ErrorBody::Envelope(body.to_owned());
    let bare = |body: &str| ErrorBody::BareString(body.to_owned());
    let begin = "the projects could not be listed, nor their keys: ";
    let cases = [
        (401, said(scopes()), "the credential lacks `api.management.read`"),
        (403, bare("Not for you."), "refused with status 403: Not for you"),
        (403, said("Not for anybody."), "refused with status 403: Not for anybody"),
        (401, bare("Go away."), "refused with status 401: Go away"),
        (404, said("No such page."), "refused with status 404"),
        (403, bare(scopes()), "the credential lacks `api.management.read`"),
    ];
    let world = world();
    for (status, body, why) in cases {
        world.organization().clear_faults();
        world.organization().fault(Matcher::projects(), Fault::status_with(status, body));
        sync(&world);
        assert_eq!(notice(&world), format!("{begin}{why}"));
        sync(&world);
        assert_eq!(notice(&world), "", "{why}");
    }
    // What may pass is said each time, and does not make the other be said again.
    world.organization().clear_faults();
    for _ in 0..2 {
        world.organization().fault(Matcher::projects().nth(1), Fault::status(503));
        sync(&world);
        assert_eq!(notice(&world), format!("{begin}failed with status 503"));
    }
    world.organization().clear_faults();
    sync(&world);
    assert!(notice(&world).contains("the projects can be listed again"), "{}", notice(&world));
}

#[test]
fn a_project_that_is_refused_alone_is_named_each_time() {
    let world = world();
    sync(&world);
    let id = project(&world, 1);
    let before = projects_keys(&world);
    world.organization().fault(
        Matcher::project_keys().project(&id),
        Fault::status_with(403, ErrorBody::BareString("Not for you.".to_owned())),
    );
    for _ in 0..2 {
        sync(&world);
        let why = format!("of project `{id}` (refused with status 403: Not for you)");
        assert!(notice(&world).contains(&why), "{}", notice(&world));
    }
    assert_eq!(projects_keys(&world), before);
}

#[test]
fn without_project_keys_nobody_asks_for_projects() {
    let world = world();
    let off = |world: &World| {
        let path = world.path().join("off.toml");
        let text = "[organizations.default]\nproject_keys = false\n";
        std::fs::write(&path, text).expect("a file");
        world.keydrift(&["sync"]).arg("--config").arg(path).succeeds();
    };
    off(&world);
    let organization = world.organization();
    assert_eq!(
        organization.count(Endpoint::Projects) + organization.count(Endpoint::ProjectKeys),
        0
    );
    assert_eq!((notice(&world).as_str(), projects_keys(&world)), ("", 0));
    // Turned on, what they hold is a baseline; turned off again, it stays.
    sync(&world);
    let keys = projects_keys(&world);
    assert!(keys > 0);
    let added = "select count(*) from audit_history where event <> 'baseline'";
    assert_eq!(sql::integer(&world.database(), added), 0);
    off(&world);
    assert_eq!(projects_keys(&world), keys);
    assert!(notice(&world).contains("of projects, which were not listed, stay as they were"));
    off(&world);
    assert_eq!((notice(&world).as_str(), projects_keys(&world)), ("", keys));
}
