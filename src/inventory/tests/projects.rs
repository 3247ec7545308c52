//! Projects' lists beside the admin list: one key an id, and nothing from a list that was not to be had.

use super::*;

pub(crate) fn project(id: &str) -> Project {
    let name = Some(Arc::from(format!("name of {id}")));
    Project { id: Arc::from(id), name, archived_at: None, status: None }
}

fn archived(id: &str) -> Project {
    Project { archived_at: Timestamp::from_unix(1_000), ..project(id) }
}

/// A key as a project's list shows it.
pub(crate) fn of_project(project: &Project, key_id: &str, item: &Value) -> Sighting {
    let mut seen = sighting(key_id, item);
    seen.key.scope = Scope::Project;
    seen.prefix_scope = Some(Scope::Project);
    seen.key.project_id = Some(Arc::clone(&project.id));
    seen.key.project_name.clone_from(&project.name);
    let archived_at = project.archived_at.map(|time| Value::from(time.to_string()));
    seen.key.set_other("project_archived_at", archived_at);
    let mut shape = Shape::clone(&seen.shape);
    for field in ["project_id", "project_name", "project_archived_at"] {
        shape.leaves.insert(field.to_owned());
    }
    seen.shape = Arc::new(shape);
    seen
}

/// What the lists of one run show: the admin list, and each project with its keys or what kept them away.
#[derive(Clone, Debug, Default)]
struct Lists {
    admin: World,
    projects: Vec<(Project, Result<World, String>)>,
}

impl Lists {
    fn of(admin: World, projects: impl IntoIterator<Item = (Project, World)>) -> Self {
        let projects = projects.into_iter().map(|(project, keys)| (project, Ok(keys)));
        Self { admin, projects: projects.collect() }
    }

    fn failing(mut self, id: &str) -> Self {
        for (_, keys) in self.projects.iter_mut().filter(|(project, _)| *project.id == *id) {
            *keys = Err("forbidden".to_owned());
        }
        self
    }
}

fn observe<'a>(snapshot: &Snapshot, lists: &Lists) -> Comparison<'a> {
    observe_all(Comparison::new(in_outline(snapshot), is_own), snapshot, lists)
}

fn observe_all<'a>(
    mut comparison: Comparison<'a>,
    snapshot: &Snapshot,
    lists: &Lists,
) -> Comparison<'a> {
    for (key_id, item) in &lists.admin {
        comparison.observe(sighting(key_id, item));
    }
    let mut seen = Vec::new();
    for (project, keys) in &lists.projects {
        if let Ok(keys) = keys {
            let keys = keys.iter().map(|(key_id, item)| of_project(project, key_id, item));
            comparison.observe_project(project, keys.collect());
        }
        seen.push((project.clone(), keys.clone().err()));
    }
    comparison.conclude_projects(SeenProjects::Listed(seen));
    resolve(&mut comparison, snapshot);
    comparison
}

/// What comes of these lists, found by the outline of the snapshot and by its keys.
fn changes_by(snapshot: &Snapshot, lists: &Lists, gone: &HashSet<KeyId>) -> Changes {
    let changes = observe(snapshot, lists).finish(gone, &HashSet::new());
    let by_keys = observe_all(Comparison::new(copy(snapshot), is_own), snapshot, lists);
    assert_eq!(changes, by_keys.finish(gone, &HashSet::new()), "by the keys themselves");
    changes
}

fn step(snapshot: &Snapshot, lists: &Lists, gone: &[&str]) -> (Snapshot, Changes) {
    let gone = gone.iter().map(|text| id(text)).collect();
    let changes = changes_by(snapshot, lists, &gone);
    (advance(snapshot, &changes), changes)
}

fn appearances(changes: &Changes) -> Vec<String> {
    let told = changes.appeared.all().into_iter().map(|appearance| match appearance {
        Appearance::Baseline(key) => format!("baseline {}", key.id),
        Appearance::Added(key) => format!("added {}", key.id),
        Appearance::Restored(key) => format!("restored {}", key.id),
    });
    told.collect()
}

fn user(name: &str) -> Value {
    json!({"redacted_value": "sk-proj-x", "name": name, "owner": {"type": "user", "id": "u1"},
           "owner_project_access": "active"})
}

fn admin() -> Value {
    json!({"redacted_value": "sk-admin-own", "expires_at": null})
}

/// A project's key as the admin list shows it.
fn mislabelled(name: &str) -> Value {
    json!({"redacted_value": "sk-proj-x", "name": name, "expires_at": 5_000,
           "owner": {"type": "service_account", "id": "u1", "role": "member"}})
}

#[test]
fn the_first_complete_list_of_a_source_is_a_baseline() {
    let one = Lists::of(world([("k0", admin())]), [(project("a"), world([("k1", user("1"))]))]);
    let (known, changes) = step(&Snapshot::default(), &one, &[]);
    assert_eq!(appearances(&changes), ["baseline k0", "baseline k1"]);
    // `b` was there all along and could not be read; `c` is seen to appear, and cannot be read either.
    let mut two = one.clone();
    two.projects.push((project("b"), Err("forbidden".to_owned())));
    let (first, _) = step(&Snapshot::default(), &two, &[]);
    let (known_c, _) = {
        let mut lists = one.clone();
        lists.projects.push((project("c"), Err("late".to_owned())));
        step(&known, &lists, &[])
    };
    let with = |id: &str, key: &str| {
        let mut lists = one.clone();
        lists.projects.push((project(id), Ok(world([(key, user(key))]))));
        lists
    };
    assert_eq!(appearances(&step(&first, &with("b", "k2"), &[]).1), ["baseline k2"]);
    assert_eq!(appearances(&step(&known, &with("c", "k3"), &[]).1), ["added k3"]);
    assert_eq!(appearances(&step(&known_c, &with("c", "k3"), &[]).1), ["added k3"]);
    let (_, changes) = step(&known, &with("a", "k4"), &[]);
    assert_eq!(appearances(&changes), ["added k4"]);
    // An organization whose projects nobody could list until now.
    let plain = first_of(&one.admin);
    assert_eq!(appearances(&step(&plain, &one, &[]).1), ["baseline k1"]);
}

fn first_of(admin: &World) -> Snapshot {
    super::first(admin)
}

#[test]
fn an_id_in_both_lists_is_one_key_of_its_project() {
    let lists = Lists::of(
        world([("k0", admin()), ("k1", mislabelled("n"))]),
        [(project("a"), world([("k1", user("n"))]))],
    );
    let (known, changes) = step(&Snapshot::default(), &lists, &[]);
    assert_eq!(appearances(&changes), ["baseline k0", "baseline k1"]);
    let key = &known.keys[&id("k1")];
    assert_eq!((key.scope, key.project_id.as_deref()), (Scope::Project, Some("a")));
    // What only the admin list tells is kept, and what both tell is the project's word.
    assert_eq!(key.expires_at.map(Timestamp::unix), Some(5_000));
    assert_eq!(
        (key.owner_type.as_deref(), key.owner_role.as_deref()),
        (Some("user"), Some("member"))
    );
    assert_eq!(observe(&known, &lists).keys_seen(), 2);
    let (known, changes) = step(&known, &lists, &[]);
    assert_eq!(told_by(&changes), (vec![], vec![]));
    // Where one of the lists no longer shows it, nothing is known to have changed.
    let mut only_project = lists.clone();
    only_project.admin.remove("k1");
    let mut only_admin = lists.clone();
    only_admin.projects[0].1 = Ok(World::new());
    for lists in [only_project, only_admin, lists.failing("a")] {
        let comparison = observe(&known, &lists);
        assert!(comparison.missing().is_empty());
        let changes = comparison.finish(&HashSet::new(), &HashSet::new());
        assert_eq!((told_by(&changes), changes.unconfirmed), ((vec![], vec![]), vec![]));
    }
}

#[test]
fn an_admin_label_and_an_admin_prefix_do_not_make_an_admin_key() {
    let sloppy =
        json!({"redacted_value": "sk-admin-x", "name": "n", "owner_project_access": "active"});
    let lists = Lists::of(
        world([("k0", admin()), ("k1", sloppy.clone())]),
        [(project("a"), world([("k1", sloppy)]))],
    );
    let known = first_of(&lists.admin);
    assert_eq!(known.keys[&id("k1")].scope, Scope::Admin);
    let (known, changes) = step(&known, &lists, &[]);
    assert_eq!(known.keys[&id("k1")].scope, Scope::Project);
    assert_eq!(told_by(&changes).0, Vec::<String>::new());
    assert_eq!(step(&Snapshot::default(), &lists, &[]).0.keys[&id("k1")].scope, Scope::Project);
}

#[test]
fn what_a_projects_list_tells_of_a_known_key_is_no_drift_but_its_changes_are() {
    let known = first_of(&world([("k0", admin()), ("k1", mislabelled("n"))]));
    let lists = Lists::of(
        world([("k0", admin()), ("k1", mislabelled("m"))]),
        [(project("a"), world([("k1", user("m"))]))],
    );
    let (known, changes) = step(&known, &lists, &[]);
    let (events, notices) = told_by(&changes);
    assert_eq!(events, ["k1 name: n > m"]);
    assert_eq!(
        notices,
        [
            "project_learned owner_project_access k1=active",
            "project_learned owner_type k1=user",
            "project_learned project_id k1=a",
            "project_learned project_name k1=name of a",
        ]
    );
    assert_eq!(told_by(&step(&known, &lists, &[]).1), (vec![], vec![]));
    let renamed = Lists::of(lists.admin, [(project("a"), world([("k1", user("o"))]))]);
    assert_eq!(told_by(&step(&known, &renamed, &[]).1).0, ["k1 name: m > o"]);
}

#[test]
fn a_list_that_was_not_to_be_had_leaves_its_keys_as_they_were() {
    let all = world([("k1", user("1")), ("k2", user("2"))]);
    let lists =
        Lists::of(world([("k0", admin())]), [(project("a"), all), (project("b"), World::new())]);
    let (known, _) = step(&Snapshot::default(), &lists, &[]);
    let mut disappeared = lists.clone();
    disappeared.projects.retain(|(project, _)| *project.id != *"a");
    let mut emptied = lists.clone();
    emptied.projects[0] = (archived("a"), Ok(World::new()));
    for (lists, why) in [
        (lists.clone().failing("a"), "forbidden"),
        (disappeared, "no longer in the list of projects"),
        (emptied, "archived, and its list is empty"),
    ] {
        let comparison = observe(&known, &lists);
        assert_eq!((comparison.missing(), comparison.common_keys()), (vec![], (1, 1)));
        let notices = comparison.project_notices();
        let notice =
            format!("2 keys, which were not listed, stay as they were, of project `a` ({why})");
        assert_eq!(notices, [notice]);
        let (later, changes) = step(&known, &lists, &["k1", "k2"].map(|_| "k9"));
        assert_eq!((told_by(&changes).0.len(), changes.removed.len()), (0, 0));
        assert_eq!((changes.unconfirmed, later.keys.len()), (vec![id("k1"), id("k2")], 3));
    }
    let mut shorter = lists.clone();
    shorter.projects[0].1 = Ok(world([("k1", user("1"))]));
    let comparison = observe(&known, &shorter);
    assert_eq!(comparison.missing(), [id("k2")]);
    assert_eq!(comparison.project_of(&id("k2")).as_deref(), Some("a"));
    assert_eq!(comparison.listed_in("a").first(), Some(&id("k1")));
    // What only a project's list shows says nothing of the admin keys' endpoint.
    assert!(comparison.some_listed(Scope::Project, 3).is_empty());
    let (later, changes) = step(&known, &shorter, &["k2"]);
    assert_eq!((changes.removed.len(), later.keys.len()), (1, 2));
}

#[test]
fn a_project_that_is_listed_again_says_since_when_it_was_not() {
    let lists = Lists::of(world([("k0", admin())]), [(project("a"), world([("k1", user("1"))]))]);
    let (known, _) = step(&Snapshot::default(), &lists, &[]);
    let (known, _) = step(&known, &lists.clone().failing("a"), &[]);
    let (known, _) = step(&known, &lists.clone().failing("a"), &[]);
    let notices = observe(&known, &lists).project_notices();
    assert_eq!(
        notices,
        [
            "what differs may have happened at any time since then, in project `a` (not listed since run 1)"
        ]
    );
    let (known, _) = step(&known, &lists, &[]);
    assert_eq!(observe(&known, &lists).project_notices(), Vec::<String>::new());
}

#[test]
fn what_may_not_be_listed_is_said_once_and_again_when_it_is_something_else() {
    let refused = SeenProjects::Unlisted { problem: "no".to_owned(), is_forbidden: true };
    let failed = SeenProjects::Unlisted { problem: "503".to_owned(), is_forbidden: false };
    let kept = BTreeMap::new();
    let known = KnownProjects::default();
    assert_eq!(known.notices(&refused, &kept).len(), 1);
    let known = known.after(&refused, None);
    assert_eq!(known.notices(&refused, &kept), Vec::<String>::new());
    assert_eq!(known.notices(&failed, &kept).len(), 1);
    let known = known.after(&failed, Some(1));
    assert_eq!(known.notices(&refused, &kept), Vec::<String>::new());
    let other = SeenProjects::Unlisted { problem: "never".to_owned(), is_forbidden: true };
    assert_eq!(known.notices(&other, &kept).len(), 1);
    let known = known.after(&other, Some(1));
    assert_eq!(known.notices(&other, &kept), Vec::<String>::new());
    assert_eq!(known.notices(&refused, &kept).len(), 1);
    let listed = SeenProjects::Listed(Vec::new());
    assert_eq!(known.notices(&listed, &kept), ["the projects can be listed again"]);
    assert_eq!(known.after(&listed, Some(2)).notices(&refused, &kept).len(), 1);
}

#[test]
fn a_key_in_the_lists_of_two_projects_does_not_move_to_and_fro() {
    let keys = || world([("k1", user("1"))]);
    let orders = [["a", "b"], ["b", "a"]];
    let lists = |[one, two]: [&str; 2]| {
        Lists::of(world([("k0", admin())]), [(project(one), keys()), (project(two), keys())])
    };
    let only_b = Lists::of(world([("k0", admin())]), [(project("b"), keys())]);
    let (of_b, _) = step(&Snapshot::default(), &only_b, &[]);
    for order in orders {
        let (known, changes) = step(&Snapshot::default(), &lists(order), &[]);
        assert_eq!(known.keys[&id("k1")].project_id.as_deref(), Some("a"));
        assert_eq!(changes.appeared.len(), 2);
        for later in orders {
            assert_eq!(told_by(&step(&known, &lists(later), &[]).1), (vec![], vec![]));
        }
        assert_eq!(told_by(&step(&of_b, &lists(order), &[]).1), (vec![], vec![]));
    }
}

#[test]
fn a_field_that_projects_start_to_send_is_a_notice_of_theirs() {
    let with = |value: &str| {
        let mut item = user("n");
        item["tier"] = Value::from(value);
        item
    };
    let lists = |one: Value, two: Value| {
        let keys = world([("k1", one), ("k2", two)]);
        Lists::of(world([("k0", admin())]), [(project("a"), keys)])
    };
    let (known, _) = step(&Snapshot::default(), &lists(user("n"), user("n")), &[]);
    let (known, changes) = step(&known, &lists(with("one"), with("two")), &[]);
    assert_eq!(told_by(&changes), (vec![], vec!["field_started tier k1=one k2=two".to_owned()]));
    let (_, changes) = step(&known, &lists(user("n"), user("n")), &[]);
    assert_eq!(told_by(&changes), (vec![], vec!["field_stopped tier".to_owned()]));
}

/// Which lists of a project show a key, if it is there at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Nowhere,
    InProject,
    InBoth,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever lists fail: a key of a list that was had is as that list shows it, one of a list that was not is
    /// as it was, and nothing goes that is not gone.
    #[test]
    fn only_what_was_listed_changes(
        steps in prop::collection::vec(
            (
                prop::collection::vec((0..3_usize, 0..3_u8), 9),
                prop::collection::vec(prop::bool::weighted(0.25), 3),
            ),
            1..6,
        ),
    ) {
        let mut known = Snapshot::default();
        for (keys, failing) in steps {
            let mut admin = world([("k0", admin())]);
            let mut projects = Vec::new();
            let mut truth = BTreeMap::new();
            for (place, name) in ["a", "b", "c"].into_iter().enumerate() {
                let mut items = World::new();
                for (at, (shown, value)) in keys.iter().skip(place * 3).take(3).enumerate() {
                    let shown = [Shown::Nowhere, Shown::InProject, Shown::InBoth][*shown];
                    let key_id = format!("{name}{at}");
                    if shown == Shown::InBoth {
                        admin.insert(key_id.clone(), mislabelled(&format!("v{value}")));
                    }
                    if shown != Shown::Nowhere {
                        items.insert(key_id.clone(), user(&format!("v{value}")));
                        truth.insert(key_id, (*value, shown));
                    }
                }
                let keys = if failing[place] { Err("x".to_owned()) } else { Ok(items) };
                projects.push((project(name), keys));
            }
            let lists = Lists { admin, projects };
            let comparison = observe(&known, &lists);
            // Everything that is missing was deleted: the lists of this run were right.
            let gone: HashSet<KeyId> = comparison.missing().into_iter().collect();
            for id in &gone {
                prop_assert!(!truth.contains_key(id.as_str()), "{id} is there");
            }
            let changes = comparison.finish(&gone, &HashSet::new());
            prop_assert_eq!(&changes, &changes_by(&known, &lists, &gone));
            let after = advance(&known, &changes);
            for (place, name) in ["a", "b", "c"].into_iter().enumerate() {
                for key_id in (0..3).map(|at| format!("{name}{at}")) {
                    let (now, before) = (after.keys.get(&id(&key_id)), known.keys.get(&id(&key_id)));
                    let was_listed = known.projects.by_id.get(name).is_some_and(|p| p.was_listed);
                    let told = |key: Option<&Key>| key.is_some_and(|key| key.project_id.is_some());
                    match truth.get(&key_id) {
                        _ if failing[place] && was_listed && told(before) => {
                            prop_assert_eq!(now, before);
                        }
                        Some((value, _)) if !failing[place] => {
                            let key = now.unwrap();
                            prop_assert_eq!(key.name.as_deref(), Some(&*format!("v{value}")));
                            prop_assert_eq!(key.scope, Scope::Project);
                            prop_assert_eq!(key.project_id.as_deref(), Some(name));
                        }
                        None if !failing[place] => {
                            // Of a key that no project told of, another project may know.
                            let elsewhere = !told(before) && failing.contains(&true);
                            // That no key of a project is left has to be seen twice.
                            let emptied = !truth.keys().any(|key_id| key_id.starts_with(name));
                            let is_first = !known.unconfirmed.contains(&id(&key_id));
                            prop_assert!(now.is_none() || elsewhere || (emptied && is_first));
                        }
                        _ => {}
                    }
                }
            }
            // The same again is no news.
            let again = observe(&after, &lists);
            let emptied = |id: &KeyId| !truth.keys().any(|key| key[..1] == id.as_str()[..1]);
            prop_assert!(again.missing().iter().all(emptied));
            let again = again.finish(&HashSet::new(), &HashSet::new());
            prop_assert_eq!(told_by(&again), (vec![], vec![]));
            prop_assert!(again.appeared.is_empty());
            known = after;
        }
    }
}

#[test]
fn that_no_key_of_a_project_is_left_has_to_be_seen_twice() {
    let lists = Lists::of(world([("k0", admin())]), [(project("a"), world([("k1", user("1"))]))]);
    let (known, _) = step(&Snapshot::default(), &lists, &[]);
    let empty = Lists::of(world([("k0", admin())]), [(project("a"), World::new())]);
    let comparison = observe(&known, &empty);
    assert_eq!(comparison.missing(), Vec::<KeyId>::new());
    assert_eq!(
        comparison.project_notices(),
        [
            "1 key, which was not listed, stays as it was, of project `a` (its list is empty: the next run looks \
          them up)"
        ]
    );
    let (known, _) = step(&known, &empty, &[]);
    assert_eq!(observe(&known, &empty).missing(), [id("k1")]);
    let (known, _) = step(&known, &lists, &[]);
    assert_eq!(observe(&known, &empty).missing(), Vec::<KeyId>::new());
}

#[test]
fn a_key_of_an_unknown_project_is_not_missed_unless_another_can_vouch() {
    let rows = world([("k0", admin()), ("k1", mislabelled("1")), ("k2", mislabelled("2"))]);
    let known = first_of(&rows);
    let missing = |rows: World, seen: SeenProjects| {
        let mut comparison = Comparison::new(copy(&known), |_: &str| false);
        for (key_id, item) in &rows {
            comparison.observe(sighting(key_id, item));
        }
        comparison.conclude_projects(seen);
        comparison.missing()
    };
    let refused = || SeenProjects::Unlisted { problem: "no".to_owned(), is_forbidden: true };
    let (one, none) =
        (|| world([("k0", admin()), ("k2", mislabelled("2"))]), || world([("k0", admin())]));
    for seen in [refused(), SeenProjects::NotAsked] {
        assert_eq!(missing(one(), seen.clone()), [id("k1")]);
        assert_eq!(missing(none(), seen), Vec::<KeyId>::new());
    }
    // In no list of any project either.
    assert_eq!(missing(none(), SeenProjects::Listed(Vec::new())), [id("k1"), id("k2")]);
}

#[test]
fn a_refusal_that_differs_in_its_number_alone_is_the_same() {
    let refused = |problem: &str| SeenProjects::Unlisted {
        problem: format!("refused with status {problem}"),
        is_forbidden: true,
    };
    let known = KnownProjects::default().after(&refused("403: no access, request req_8f3a1"), None);
    let said = |problem: &str| known.notices(&refused(problem), &BTreeMap::new()).len();
    assert_eq!(said("403: no access, request req_77b2c"), 0);
    assert_eq!(said("401: no access, request req_77b2c"), 1);
    assert_eq!(said("403: no entry, request req_77b2c"), 1);
}
