//! Random changes of an organization: which kinds there are, and how one is drawn.

use super::generate;
use super::organization::Organization;

/// The kinds of a random change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MutationKind {
    /// A new key.
    Add,
    /// A key is deleted.
    Remove,
    /// A key that was deleted is back.
    Restore,
    /// A key is used now.
    Touch,
    /// A key has another name.
    Rename,
    /// A key belongs to another owner.
    ChangeOwner,
    /// A key expires at another time, or never.
    ChangeExpiry,
    /// A new project, without keys.
    CreateProject,
    /// A project has another name.
    RenameProject,
    /// A project is archived.
    ArchiveProject,
    /// An archived project is back.
    UnarchiveProject,
    /// A project is deleted, and its keys with it.
    DeleteProject,
    /// A new key in a project.
    AddProjectKey,
    /// A project's key is deleted.
    RemoveProjectKey,
    /// A project's key that was deleted is back.
    RestoreProjectKey,
    /// A project's key is used now.
    TouchProjectKey,
    /// A project's key has another name.
    RenameProjectKey,
    /// The owner of a project's key has no access to the project any more.
    LoseAccess,
    /// The owner of a project's key has access to the project.
    RegainAccess,
    /// A project's key gets a row in the admin listing, if it has none.
    Mislabel,
}

impl MutationKind {
    /// All of them, the frequent ones more than once: what random changes are drawn from.
    pub const USUAL: &'static [Self] = &[
        Self::Add,
        Self::Add,
        Self::Remove,
        Self::Remove,
        Self::Restore,
        Self::Touch,
        Self::Touch,
        Self::Touch,
        Self::Rename,
        Self::ChangeOwner,
        Self::ChangeExpiry,
    ];
    /// The ones that change which keys there are.
    pub const MEMBERSHIP: &'static [Self] = &[Self::Add, Self::Remove, Self::Restore];
    /// What happens to projects and their keys, the frequent ones more than once.
    pub const PROJECTS: &'static [Self] = &[
        Self::CreateProject,
        Self::RenameProject,
        Self::ArchiveProject,
        Self::UnarchiveProject,
        Self::DeleteProject,
        Self::AddProjectKey,
        Self::AddProjectKey,
        Self::AddProjectKey,
        Self::RemoveProjectKey,
        Self::RemoveProjectKey,
        Self::RestoreProjectKey,
        Self::TouchProjectKey,
        Self::TouchProjectKey,
        Self::TouchProjectKey,
        Self::RenameProjectKey,
        Self::LoseAccess,
        Self::RegainAccess,
        Self::Mislabel,
    ];
    /// The ones that change which keys there are in the projects.
    pub const PROJECT_MEMBERSHIP: &'static [Self] =
        &[Self::AddProjectKey, Self::RemoveProjectKey, Self::RestoreProjectKey];
}

/// A random change that was made: its kind, and to which key or project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mutation {
    /// What happened.
    pub kind: MutationKind,
    /// The key or the project that it happened to.
    pub id: String,
}

impl Organization {
    /// One random change of the [usual](MutationKind::USUAL) kinds.
    pub fn mutate(&mut self, rng: &mut fastrand::Rng) -> Mutation {
        self.mutate_among(rng, MutationKind::USUAL)
    }

    /// One random change of one of the kinds. Where the kind drawn is not possible (nothing to
    /// remove, nothing to restore) a key is added instead, for the kinds about projects to one of
    /// them, or a first project made. The credentials' own keys are left alone; the kinds about
    /// keys leave those of projects to the others.
    pub fn mutate_among(&mut self, rng: &mut fastrand::Rng, kinds: &[MutationKind]) -> Mutation {
        let kind = rng.choice(kinds).copied().unwrap_or(MutationKind::Add);
        if MutationKind::PROJECTS.contains(&kind) {
            return self.mutate_projects(rng, kind);
        }
        let id = match kind {
            MutationKind::Add => None,
            MutationKind::Restore => self.draw_departed(rng),
            _ => self.draw_key(rng),
        };
        let Some(id) = id else {
            return Mutation { kind: MutationKind::Add, id: self.add() };
        };
        match kind {
            MutationKind::Remove => self.remove(&id),
            MutationKind::Restore => self.restore(&id),
            MutationKind::Touch => self.touch(&id),
            MutationKind::Rename => self.rename(&id, &generate::key_name(rng)),
            MutationKind::ChangeOwner => self.change_owner(&id),
            MutationKind::ChangeExpiry => {
                let expires_at = rng.bool().then(|| self.now() + rng.i64(0..90 * 86_400));
                self.set_expiry(&id, expires_at)
            }
            _ => false,
        };
        Mutation { kind, id }
    }

    fn mutate_projects(&mut self, rng: &mut fastrand::Rng, kind: MutationKind) -> Mutation {
        use MutationKind as Kind;
        let id = match kind {
            Kind::CreateProject => None,
            Kind::RestoreProjectKey => self.draw_departed_project_key(rng),
            Kind::AddProjectKey
            | Kind::RenameProject
            | Kind::ArchiveProject
            | Kind::UnarchiveProject
            | Kind::DeleteProject => self.draw_project(rng),
            _ => self.draw_project_key(rng),
        };
        let name = generate::key_name(rng);
        let done = id.filter(|id| match kind {
            Kind::RenameProject => self.rename_project(id, &name),
            Kind::ArchiveProject => self.archive_project(id),
            Kind::UnarchiveProject => self.unarchive_project(id),
            Kind::DeleteProject => self.delete_project(id),
            Kind::RemoveProjectKey => self.remove(id),
            Kind::RestoreProjectKey => self.restore(id),
            Kind::TouchProjectKey => self.touch(id),
            Kind::RenameProjectKey => self.rename(id, &name),
            Kind::LoseAccess => self.set_owner_access(id, false),
            Kind::RegainAccess => self.set_owner_access(id, true),
            Kind::Mislabel => self.mislabel(id),
            _ => false,
        });
        if let Some(id) = done {
            return Mutation { kind, id };
        }
        let project = self.draw_project(rng).filter(|_| kind != Kind::CreateProject);
        match project.and_then(|project| self.add_project_key(&project)) {
            Some(id) => Mutation { kind: Kind::AddProjectKey, id },
            None => Mutation { kind: Kind::CreateProject, id: self.create_project(&name) },
        }
    }

    fn draw_key(&self, rng: &mut fastrand::Rng) -> Option<String> {
        // An own key can come up, but not often; one that is a project's, now and then.
        (0..8).find_map(|_| {
            let id = self.admin.draw(rng)?;
            (!self.is_own_key(id) && self.project_of(id).is_none()).then(|| id.to_owned())
        })
    }

    fn draw_departed(&self, rng: &mut fastrand::Rng) -> Option<String> {
        let id = self.admin.draw_departed(rng)?;
        self.project_of(id).is_none().then(|| id.to_owned())
    }
}
