//! What is known of an organization's projects, and what a run found out about them.
//!
//! Each project's list of keys is a source of its own, beside the list of the admin keys. What a source holds when
//! it is first listed completely was there before, and is a baseline; what it holds later and did not hold then
//! is new. A project that is seen to appear held nothing before.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::key::{Key, Scope};
use super::project::Project;

/// So many projects are named in one notice.
const MOST_NAMED: usize = 5;

/// The projects of an organization as the last `ok` run left them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownProjects {
    /// Whether the projects were listed completely once: one that comes later is seen to appear.
    pub were_listed: bool,
    /// Why they could not be listed, if that was so, and was said.
    pub problem: Option<String>,
    pub by_id: BTreeMap<Arc<str>, KnownProject>,
}

/// One of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownProject {
    pub name: Option<Arc<str>>,
    /// Whether its keys were listed completely once.
    pub was_listed: bool,
    /// Whether it was seen to appear: whatever it holds came after it.
    pub appeared: bool,
    /// Where its keys were not listed by the last `ok` run: the last one that did.
    pub last_listed_run: Option<i64>,
}

/// What one run found out about the projects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SeenProjects {
    /// Nobody asked: the configuration says so.
    #[default]
    NotAsked,
    /// They could not be listed.
    Unlisted { problem: String, is_forbidden: bool },
    /// Each with what kept its keys from being listed, if something did.
    Listed(Vec<(Project, Option<String>)>),
}

impl SeenProjects {
    /// Whether a key that is in no list which was read is not in one that was not either. Where nobody asks for
    /// projects, or never could, the admin list alone has to do.
    pub(super) fn are_told(&self, were_listed: bool) -> bool {
        match self {
            Self::NotAsked => true,
            Self::Unlisted { is_forbidden, .. } => *is_forbidden && !were_listed,
            Self::Listed(projects) => projects.iter().all(|(_, problem)| problem.is_none()),
        }
    }
}

impl KnownProjects {
    /// Whether a key that this project's list holds, and the inventory does not, was there before.
    pub(super) fn finds_baseline(&self, id: &str) -> bool {
        match self.by_id.get(id) {
            Some(known) => !known.was_listed && !known.appeared,
            None => !self.were_listed,
        }
    }

    /// The project whose list told of the key.
    pub(super) fn project_of<'k>(&self, key: &'k Key) -> Option<&'k Arc<str>> {
        let project = key.project_id.as_ref().filter(|_| key.scope == Scope::Project)?;
        self.by_id.get(project).is_some_and(|known| known.was_listed).then_some(project)
    }

    /// What is known after a run. `last_run` is the `ok` run before it.
    #[must_use]
    pub fn after(&self, seen: &SeenProjects, last_run: Option<i64>) -> Self {
        let mut after = self.clone();
        after.problem = match seen {
            SeenProjects::Unlisted { problem, is_forbidden: true } => {
                let known = self.problem.clone().filter(|known| is_alike(known, problem));
                known.or_else(|| Some(problem.clone()))
            }
            // One that passes says nothing of what was said before.
            SeenProjects::Unlisted { .. } => self.problem.clone(),
            SeenProjects::NotAsked | SeenProjects::Listed(_) => None,
        };
        for known in after.by_id.values_mut().filter(|known| known.was_listed || known.appeared) {
            known.last_listed_run = known.last_listed_run.or(last_run);
        }
        let SeenProjects::Listed(projects) = seen else { return after };
        for (project, problem) in projects {
            let appears = self.were_listed && !self.by_id.contains_key(&project.id);
            let known = after.by_id.entry(Arc::clone(&project.id)).or_default();
            known.name.clone_from(&project.name);
            known.appeared |= appears;
            if problem.is_none() {
                known.was_listed = true;
                known.last_listed_run = None;
            } else if appears {
                // Whatever it holds may have come at any time since.
                known.last_listed_run = last_run;
            }
        }
        after.were_listed = true;
        after
    }

    /// What a run has to say of it. `kept` are how many keys stay as they were, by project.
    #[must_use]
    pub fn notices(&self, seen: &SeenProjects, kept: &BTreeMap<Arc<str>, usize>) -> Vec<String> {
        let mut notices = Vec::new();
        match seen {
            SeenProjects::NotAsked => {}
            SeenProjects::Unlisted { problem, is_forbidden } => {
                // What lasts is said once, and again when it is something else.
                let is_known = self.problem.as_ref().is_some_and(|known| is_alike(known, problem));
                if !is_forbidden || !is_known {
                    notices.push(format!(
                        "the projects could not be listed, nor their keys: {problem}"
                    ));
                }
            }
            SeenProjects::Listed(projects) => {
                if self.problem.is_some() {
                    notices.push("the projects can be listed again".to_owned());
                }
                self.tell_of_returns(projects, &mut notices);
            }
        }
        self.tell_of_kept(seen, kept, &mut notices);
        notices
    }

    /// The observation window of a run begins with the `ok` run before it: where that did not list a project's
    /// keys, what differs may have happened earlier.
    fn tell_of_returns(&self, projects: &[(Project, Option<String>)], notices: &mut Vec<String>) {
        let listed = projects.iter().filter(|(_, problem)| problem.is_none());
        let returned = listed.filter_map(|(project, _)| {
            let since = self.by_id.get(&project.id)?.last_listed_run?;
            Some(format!("`{}` (not listed since run {since})", project.id))
        });
        let returned: Vec<String> = returned.collect();
        if !returned.is_empty() {
            notices.push(format!(
                "what differs may have happened at any time since then, in project {}",
                named(&returned)
            ));
        }
    }

    fn tell_of_kept(
        &self,
        seen: &SeenProjects,
        kept: &BTreeMap<Arc<str>, usize>,
        notices: &mut Vec<String>,
    ) {
        let total: usize = kept.values().sum();
        let unlisted = match seen {
            SeenProjects::NotAsked | SeenProjects::Unlisted { .. } => {
                let is_new =
                    |known: &KnownProject| known.was_listed && known.last_listed_run.is_none();
                let is_news = self.by_id.values().any(is_new);
                if total > 0 && is_news {
                    notices.push(match total {
                        1 => "1 key of a project, which was not listed, stays as it was".to_owned(),
                        many => format!(
                            "{many} keys of projects, which were not listed, stay as they were"
                        ),
                    });
                }
                return;
            }
            SeenProjects::Listed(projects) => projects,
        };
        let failed = unlisted.iter().filter_map(|(project, problem)| {
            Some(format!("`{}` ({})", project.id, problem.as_deref()?))
        });
        let is_listed = |id: &Arc<str>| unlisted.iter().any(|(project, _)| project.id == *id);
        let lost = kept.keys().filter(|id| !is_listed(id));
        let lost = lost.map(|id| format!("`{id}` (no longer in the list of projects)"));
        let of_emptied = unlisted
            .iter()
            .filter(|(project, problem)| problem.is_none() && kept.contains_key(&project.id));
        let of_emptied = of_emptied.map(|(project, _)| {
            let why = if project.is_archived() {
                "archived, and its list is empty"
            } else {
                "its list is empty: the next run looks them up"
            };
            format!("`{}` ({why})", project.id)
        });
        let projects: Vec<String> = failed.chain(lost).chain(of_emptied).collect();
        if !projects.is_empty() {
            let projects = named(&projects);
            notices.push(match total {
                0 => format!("keys were not listed of project {projects}"),
                1 => format!("1 key, which was not listed, stays as it was, of project {projects}"),
                many => {
                    format!("{many} keys, which were not listed, stay as they were, of project {projects}")
                }
            });
        }
    }
}

/// Whether two refusals are the same but for what is of one answer alone, such as the id of a request.
fn is_alike(one: &str, other: &str) -> bool {
    let is_lasting = |word: &&str| {
        let digits = word.chars().filter(char::is_ascii_digit).count();
        digits == 0 || (digits < 4 && !word.contains(|c: char| c.is_ascii_alphabetic()))
    };
    let lasting = |text: &str| -> Vec<String> {
        text.split_whitespace().filter(is_lasting).map(str::to_owned).collect()
    };
    lasting(one) == lasting(other)
}

fn named(projects: &[String]) -> String {
    let more = projects.len().saturating_sub(MOST_NAMED);
    let named: Vec<&str> = projects.iter().take(MOST_NAMED).map(String::as_str).collect();
    let named = named.join(", ");
    if more > 0 { format!("{named} and {more} more") } else { named }
}
