//! The heartbeat: says each time that a run may be due, and does nothing else.
//!
//! The cron job is in UTC and fires at fixed seconds of each minute. What is due then is decided by the
//! wall clock and the planner, so that it does not matter whether the job knows zones (it freezes their
//! offset), whether it fires late or twice, or forgets a time that has passed. A job that stays silent
//! for too long, after the clock went back for instance, is made anew.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};

const MINUTE: u64 = 60;
/// What a loaded machine may be late by. The scheduler itself looks twice a second.
const SLACK: Duration = Duration::from_secs(2);

pub(super) struct Ticker {
    scheduler: JobScheduler,
    seconds: BTreeSet<u8>,
    /// The longest time between two ticks.
    period: Duration,
    ticks: mpsc::Receiver<()>,
    /// When the last tick came, or the job was made.
    last: Instant,
}

/// What made [`Ticker::tick`] return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tick {
    OnTime,
    /// None came for too long: the clock was set, the machine was suspended, or the scheduler is dead.
    Overdue,
}

impl Ticker {
    /// Ticks at these seconds of each minute, at least one.
    pub(super) async fn start(seconds: BTreeSet<u8>) -> Result<Self, JobSchedulerError> {
        // One tick that waits is as good as many.
        let (say, ticks) = mpsc::channel(1);
        let scheduler = JobScheduler::new().await?;
        let job = Job::new(cron(&seconds), move |_, _| {
            say.try_send(()).ok();
        })?;
        scheduler.add(job).await?;
        scheduler.start().await?;
        let period = longest_gap(&seconds);
        Ok(Self { scheduler, seconds, period, ticks, last: Instant::now() })
    }

    /// Ticks at these seconds from now on.
    pub(super) async fn set(&mut self, seconds: BTreeSet<u8>) -> Result<(), JobSchedulerError> {
        if seconds != self.seconds {
            self.begin_anew(seconds).await?;
        }
        Ok(())
    }

    async fn begin_anew(&mut self, seconds: BTreeSet<u8>) -> Result<(), JobSchedulerError> {
        let mut old = std::mem::replace(self, Self::start(seconds).await?);
        old.scheduler.shutdown().await
    }

    /// Waits for the next tick. May be dropped and called again: no tick is lost.
    pub(super) async fn tick(&mut self) -> Result<Tick, JobSchedulerError> {
        let overdue_at = self.last + self.period + self.period / 2 + SLACK;
        let tick = tokio::select! {
            biased;
            Some(()) = self.ticks.recv() => Tick::OnTime,
            () = sleep_until(overdue_at) => Tick::Overdue,
        };
        if tick == Tick::Overdue {
            let seconds = self.seconds.clone();
            self.begin_anew(seconds).await?;
        }
        self.last = Instant::now();
        Ok(tick)
    }
}

/// Seconds so close together that a service manager with this patience sees each period twice.
pub(super) fn often_enough(watchdog: Duration) -> BTreeSet<u8> {
    let step = usize::try_from(watchdog.as_secs() / 2).unwrap_or(usize::MAX).clamp(1, 60);
    (0..60).step_by(step).collect()
}

fn cron(seconds: &BTreeSet<u8>) -> String {
    let seconds: Vec<String> = seconds.iter().map(ToString::to_string).collect();
    format!("{} * * * * *", seconds.join(","))
}

fn longest_gap(seconds: &BTreeSet<u8>) -> Duration {
    let (Some(first), Some(last)) = (seconds.first(), seconds.last()) else {
        return Duration::from_secs(MINUTE);
    };
    let around = MINUTE + u64::from(*first) - u64::from(*last);
    let between = seconds.iter().zip(seconds.iter().skip(1)).map(|(a, b)| u64::from(b - a));
    Duration::from_secs(between.max().unwrap_or(0).max(around))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gap(seconds: &[u8]) -> u64 {
        longest_gap(&seconds.iter().copied().collect()).as_secs()
    }

    #[test]
    fn the_longest_gap_goes_round_the_minute() {
        assert_eq!(gap(&[0]), 60);
        assert_eq!(gap(&[7]), 60);
        assert_eq!(gap(&[7, 9]), 58);
        assert_eq!(gap(&[0, 30]), 30);
        assert_eq!(gap(&[10, 50]), 40);
        assert_eq!(gap(&(0..60).collect::<Vec<u8>>()), 1);
    }

    #[test]
    fn a_watchdog_sees_two_ticks_in_its_time() {
        for seconds in 1..600 {
            let watchdog = Duration::from_secs(seconds);
            let gap = longest_gap(&often_enough(watchdog));
            assert!(gap * 2 <= watchdog.max(Duration::from_secs(2)), "{seconds} s: {gap:?}");
        }
    }

    #[tokio::test]
    async fn it_ticks_each_second_and_again_after_a_change() {
        let every: BTreeSet<u8> = (0..60).collect();
        let mut ticker = Ticker::start(every.clone()).await.unwrap();
        assert_eq!(ticker.tick().await.unwrap(), Tick::OnTime);
        ticker.set(every.iter().copied().filter(|second| second % 2 == 0).collect()).await.unwrap();
        assert_eq!(ticker.tick().await.unwrap(), Tick::OnTime);
        assert_eq!(ticker.period, Duration::from_secs(2));
    }
}
