//! What became of the keys that the lists do not hold.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Ledger, Progress, Request};
use crate::config::RemovalSettings;
use crate::inventory::{
    Acceptance, Comparison, Guards, KeyId, Removals, Scope, Withheld, judge_missing, plan_look_ups,
};
use crate::openai::{Control, Early, Inquiry, Place, Session};

/// How many listed keys may be asked for as a proof that look-ups work.
const CONTROLS: usize = 3;

/// Looks up what is missing, each key where its list is, and judges.
pub(super) async fn find(
    session: &Session,
    comparison: &Comparison<'_>,
    organization: Option<&str>,
    request: &Request<'_>,
    acceptance: Option<&Acceptance>,
    early: &Early,
    ledger: &mut Ledger,
) -> Result<Removals, Withheld> {
    let missing = comparison.missing();
    let snapshot = comparison.snapshot_keys();
    let guards = guards(request.removal);
    ledger.tally.unconfirmed = missing.len() as u64;
    let asked = plan_look_ups(&missing, snapshot, guards, acceptance)?;
    // With more unknown the run is held, whatever the other answers; an accepted one never is.
    let most_unknown = match acceptance {
        Some(_) => usize::MAX,
        None => guards.most_unknown(snapshot),
    };
    if !asked.is_empty() {
        (request.progress)(Progress::LookingUp { missing: asked.len() as u64 });
    }
    let inquiries = inquiries(comparison, asked);
    let answers = session.look_up_all(&inquiries, organization, most_unknown, early).await;
    judge_missing(&missing, &answers, snapshot, guards, acceptance)
}

/// Which keys to ask for where, and what has to vouch there for a *gone*.
fn inquiries(comparison: &Comparison<'_>, missing: &[KeyId]) -> Vec<Inquiry> {
    let mut of_admin: BTreeMap<Scope, Vec<KeyId>> = BTreeMap::new();
    let mut of_projects: BTreeMap<Arc<str>, Vec<KeyId>> = BTreeMap::new();
    for id in missing {
        match (comparison.project_of(id), comparison.scope_of(id)) {
            (Some(project), _) => of_projects.entry(project).or_default().push(id.clone()),
            (None, Some(scope)) => of_admin.entry(scope).or_default().push(id.clone()),
            (None, None) => {}
        }
    }
    let of_admin = of_admin.into_iter().map(|(scope, missing)| {
        // That the endpoint knows one kind of key says little of the other: projects' keys are in this
        // list, and perhaps not behind this endpoint. Where none of the kind is listed any more, the
        // other kind has to vouch.
        let mut controls = comparison.some_listed(scope, CONTROLS);
        if controls.is_empty() {
            let other = if scope == Scope::Admin { Scope::Project } else { Scope::Admin };
            controls = comparison.some_listed(other, CONTROLS);
        }
        let controls = controls.into_iter().map(|id| Control::Key(Place::Admin, id)).collect();
        Inquiry { place: Place::Admin, missing, controls }
    });
    let of_projects = of_projects.into_iter().map(|(project, missing)| {
        let place = Place::Project(Arc::clone(&project));
        let listed = comparison.listed_in(&project).iter().cloned();
        let mut controls: Vec<Control> = listed.map(|id| Control::Key(place.clone(), id)).collect();
        // Its list was whole, and empty: that the project itself is there has to do.
        if controls.is_empty() {
            controls.push(Control::Project(project));
        }
        Inquiry { place, missing, controls }
    });
    of_admin.chain(of_projects).collect()
}

fn guards(removal: RemovalSettings) -> Guards {
    let count = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    Guards {
        keys: count(removal.guard_keys),
        percent: usize::from(removal.guard_percent),
        confirm_limit: count(removal.confirm_limit),
    }
}
