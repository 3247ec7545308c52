//! One process from its start to its end: how long it took, and the most memory that it held.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

/// What one process took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) seconds: f64,
    pub(crate) peak_mib: f64,
}

/// How often the kernel is asked for a process's peak: no more than the last of these is missed.
const LOOK: Duration = Duration::from_millis(2);

/// Runs a process, which must succeed, and gives back what it took.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<Cost> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let began = Instant::now();
    let child = command.spawn().with_context(|| format!("{command:?}"))?;
    // The file tells of this process alone, also once its number belongs to another.
    let status = File::open(format!("/proc/{}/status", child.id())).ok();
    let ended = AtomicBool::new(false);
    let (output, seconds, peak_mib) = std::thread::scope(|scope| {
        let watch = scope.spawn(|| watch(status.as_ref(), &ended));
        let output = child.wait_with_output();
        let seconds = began.elapsed().as_secs_f64();
        ended.store(true, Ordering::Release);
        (output, seconds, watch.join())
    });
    let output = output?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}\n{told}", output.status);
    let peak_mib = peak_mib.ok().context("the thread that watched the memory panicked")?;
    Ok(Cost { seconds, peak_mib })
}

/// How long a process takes that is over in a moment.
pub(crate) fn time(command: &mut Command) -> anyhow::Result<f64> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let began = Instant::now();
    let status = command.status().with_context(|| format!("{command:?}"))?;
    let seconds = began.elapsed().as_secs_f64();
    ensure!(status.success(), "{command:?}: {status}");
    Ok(seconds)
}

fn watch(status: Option<&File>, ended: &AtomicBool) -> f64 {
    let mut peak_kib = 0.0_f64;
    while !ended.load(Ordering::Acquire) {
        peak_kib = peak_kib.max(status.and_then(high_water_mark).unwrap_or(0.0));
        std::thread::sleep(LOOK);
    }
    peak_kib / 1_024.0
}

fn high_water_mark(status: &File) -> Option<f64> {
    let mut text = [0; 4_096];
    let length = status.read_at(&mut text, 0).ok()?;
    let text = std::str::from_utf8(&text[..length]).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}
