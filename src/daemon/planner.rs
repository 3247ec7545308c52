//! When each organization is to run, and why. Pure: the time is passed in, nothing waits.
//!
//! Every slot of a schedule is accounted for once: a run began for it, or it passed while a run was under
//! way or had to wait (`skipped` of that run), or nobody was there (`missed`, told by the run that follows).
//! So all that has to be kept is up to when slots are dealt with. It never lies in the future for long, so
//! that a clock that is set, either way, cannot stop the schedule.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::run::{Status, Trigger};
use crate::schedule::Schedule;
use crate::store::Past;

/// A slot that nobody took for longer was missed. A loaded machine or a coarse tick is no reason.
const LATE: Duration = Duration::from_secs(30);
/// A clock that goes back by more was set; by less, it is waited for.
const SET_BACK: Duration = Duration::from_mins(1);
/// The first retry comes after this, each further one after twice as long.
const FIRST_RETRY: Duration = Duration::from_mins(1);
/// However long the API asks to be left alone.
const LONGEST_DEFERRAL: Duration = Duration::from_hours(24);
/// However often the process was killed in a run.
const LONGEST_CRASH_DELAY: Duration = Duration::from_hours(1);

/// The plans of all organizations.
#[derive(Debug)]
pub struct Planner {
    plans: BTreeMap<String, Plan>,
}

/// What is planned for one organization.
#[derive(Debug, Clone)]
pub struct Plan {
    schedule: Schedule,
    /// Every slot up to here is dealt with.
    handled: Timestamp,
    /// A run that the start of the daemon asks for.
    opening: Option<Trigger>,
    manual: bool,
    /// Failed runs since the last slot.
    failures: u32,
    retry_at: Option<Timestamp>,
    /// Until when the API asked to be left alone.
    deferred_until: Option<Timestamp>,
    /// Until when a process that is killed again and again keeps still.
    not_before: Option<Timestamp>,
    /// When the last run ended.
    busy_until: Option<Timestamp>,
}

/// A run that is to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    pub organization: String,
    pub schedule: Schedule,
    pub trigger: Trigger,
    /// Slots that nobody was there for.
    pub missed: u64,
    /// Up to when slots had been dealt with before.
    pub since: Timestamp,
    /// Slots that passed while the run had to wait.
    pub skipped: u64,
    /// When it begins: every slot up to here is dealt with by what this says.
    pub at: Timestamp,
}

/// A run that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
    pub status: Status,
    pub deferred_until: Option<Timestamp>,
}

impl Plan {
    /// The plan at the start of the daemon: slots since the last run were missed.
    #[must_use]
    pub fn new(schedule: Schedule, run_at_start: bool, past: Past, now: Timestamp) -> Self {
        // A run that seems to end in the future was recorded with another clock, or behind one that was.
        let handled = past.handled.map_or(now, |(started_at, finished_at)| {
            if finished_at > now { started_at.min(now) } else { finished_at }
        });
        let opening = if schedule.slots_between(handled, now) > 0 {
            Some(Trigger::Missed)
        } else if run_at_start {
            Some(Trigger::Start)
        } else {
            past.cut_short.then_some(Trigger::Retry)
        };
        let crash_delay = |(started_at, _): (Timestamp, Timestamp)| {
            let delay =
                (past.killed >= 2).then(|| doubled(past.killed - 2).min(LONGEST_CRASH_DELAY));
            delay.map(|delay| started_at.saturating_add(delay))
        };
        let mut plan = Self {
            schedule,
            handled,
            opening,
            manual: false,
            failures: past.failures,
            retry_at: None,
            deferred_until: past.deferred_until,
            not_before: past.last.and_then(crash_delay),
            busy_until: None,
        };
        if let Some((_, finished_at)) = past.last.filter(|_| past.failures > 0) {
            plan.plan_retry(finished_at);
        }
        plan
    }

    fn plan_retry(&mut self, failed_at: Timestamp) {
        let at = failed_at.saturating_add(doubled(self.failures.saturating_sub(1)));
        let slot = self.schedule.next_after(failed_at);
        self.retry_at = Some(at).filter(|at| slot.is_none_or(|slot| *at < slot));
    }

    /// Where the clock was set back, nothing waits longer than it would from now on.
    fn follow_clock(&mut self, now: Timestamp) {
        if now.saturating_add(SET_BACK) < self.handled {
            self.handled = now;
        }
        let clamp = |time: &mut Option<Timestamp>, most: Duration| {
            *time = time.map(|time| time.min(now.saturating_add(most)));
        };
        clamp(&mut self.retry_at, doubled(self.failures.saturating_sub(1)));
        clamp(&mut self.deferred_until, LONGEST_DEFERRAL);
        clamp(&mut self.not_before, LONGEST_CRASH_DELAY);
        self.busy_until = self.busy_until.filter(|until| *until <= now.saturating_add(SET_BACK));
    }

    /// From when on it may run, by itself.
    fn free_at(&self) -> Timestamp {
        let free = self.deferred_until.max(self.not_before);
        free.unwrap_or(Timestamp::MIN)
    }

    /// When it is to run, or was to.
    fn due_at(&self) -> Option<Timestamp> {
        if self.manual {
            return Some(Timestamp::MIN);
        }
        let slot = self.schedule.next_after(self.handled);
        let opening = self.opening.map(|_| self.handled);
        let due = [slot, opening, self.retry_at, self.deferred_until].into_iter().flatten().min();
        due.map(|due| due.max(self.free_at()))
    }

    /// Begins the run: what was waiting is dealt with by it.
    fn start(&mut self, organization: &str, now: Timestamp) -> Start {
        let slots = self.schedule.slots_between(self.handled, now);
        let first = self.schedule.next_after(self.handled).filter(|first| *first <= now);
        // Since when it could have been taken.
        let open_since = first.max(self.busy_until).max(self.deferred_until).max(self.not_before);
        let late =
            first.is_some() && open_since.is_some_and(|since| since.saturating_add(LATE) < now);
        let missed = late || self.opening == Some(Trigger::Missed) && slots > 0;
        let trigger = if self.manual {
            Trigger::Manual
        } else if self.deferred_until.is_some() {
            Trigger::Retry
        } else if missed {
            Trigger::Missed
        } else if slots > 0 {
            Trigger::Schedule
        } else {
            self.opening.unwrap_or(Trigger::Retry)
        };
        let taken = u64::from(trigger == Trigger::Schedule);
        let start = Start {
            organization: organization.to_owned(),
            schedule: self.schedule.clone(),
            trigger,
            missed: if missed { slots } else { 0 },
            since: self.handled,
            skipped: if missed { 0 } else { slots - taken },
            at: now,
        };
        if trigger != Trigger::Retry {
            self.failures = 0;
        }
        self.handled = now;
        self.opening = None;
        self.manual = false;
        self.retry_at = None;
        self.deferred_until = None;
        self.not_before = None;
        start
    }
}

impl Planner {
    #[must_use]
    pub fn new(plans: impl IntoIterator<Item = (String, Plan)>) -> Self {
        Self { plans: plans.into_iter().collect() }
    }

    /// A run that is to begin now, if there is one: asked for by somebody, or else waiting longest. None of
    /// an organization of which a run is under way.
    pub fn next(&mut self, now: Timestamp, under_way: &BTreeSet<String>) -> Option<Start> {
        for plan in self.plans.values_mut() {
            plan.follow_clock(now);
        }
        let free = self.plans.iter().filter(|(name, _)| !under_way.contains(*name));
        let due = free.filter_map(|(name, plan)| Some((plan.due_at()?, name.clone())));
        let (_, name) = due.filter(|(at, _)| *at <= now).min()?;
        self.plans.get_mut(&name).map(|plan| plan.start(&name, now))
    }

    /// Takes note of the end of a run. Slots during it were counted on it.
    pub fn ended(&mut self, organization: &str, ended: &Ended) {
        let Some(plan) = self.plans.get_mut(organization) else { return };
        plan.busy_until = Some(ended.finished_at);
        plan.handled = ended.finished_at;
        plan.failures = if ended.status == Status::Failed { plan.failures + 1 } else { 0 };
        // Never sooner than another retry would come, whatever the API says.
        let retry_at = ended.finished_at.saturating_add(doubled(plan.failures.saturating_sub(1)));
        plan.deferred_until = ended.deferred_until.map(|until| until.max(retry_at));
        if ended.status == Status::Failed {
            plan.plan_retry(ended.finished_at);
        }
    }

    /// Every organization is to run now, because somebody says so.
    pub fn request_all(&mut self) {
        for plan in self.plans.values_mut() {
            plan.manual = true;
        }
    }

    /// Replaces the plans. What is waiting stays so; a schedule that is new counts from now.
    pub fn reload(&mut self, plans: impl IntoIterator<Item = (String, Plan)>, now: Timestamp) {
        let mut known = std::mem::take(&mut self.plans);
        let renew = |(name, plan): (String, Plan)| {
            let Some(mut old) = known.remove(&name) else { return (name, plan) };
            if old.schedule != plan.schedule {
                old.schedule = plan.schedule;
                old.handled = old.handled.max(now);
            }
            (name, old)
        };
        self.plans = plans.into_iter().map(renew).collect();
    }

    /// When each organization runs next, as far as is known now.
    #[must_use]
    pub fn next_of(&self, organization: &str, now: Timestamp) -> Option<Timestamp> {
        self.plans.get(organization)?.due_at().map(|at| at.max(now))
    }

    /// When any of them does, but those of which a run is under way.
    #[must_use]
    pub fn next_at(&self, now: Timestamp, under_way: &BTreeSet<String>) -> Option<Timestamp> {
        let free = self.plans.iter().filter(|(name, _)| !under_way.contains(*name));
        free.filter_map(|(_, plan)| plan.due_at()).min().map(|at| at.max(now))
    }

    /// The seconds of a minute in which something may become due.
    #[must_use]
    pub fn seconds(&self) -> BTreeSet<u8> {
        let of_plan = |plan: &Plan| {
            let times = [plan.retry_at, plan.deferred_until, plan.not_before];
            let second = |time: Timestamp| u8::try_from(time.unix().rem_euclid(60)).ok();
            let mut seconds = plan.schedule.seconds();
            seconds.extend(times.into_iter().flatten().filter_map(second));
            seconds
        };
        self.plans.values().flat_map(of_plan).collect()
    }
}

/// The first delay, doubled so many times.
fn doubled(times: u32) -> Duration {
    FIRST_RETRY.saturating_mul(1_u32.checked_shl(times.min(16)).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests;
