//! The binary while it runs: its lines as they come, a signal, its end.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::Keydrift;

/// Nothing that a test waits for takes as long.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Running {
    child: Child,
    lines: Receiver<String>,
    /// The lines so far.
    pub seen: Vec<String>,
}

impl Running {
    pub fn start(mut keydrift: Keydrift) -> Self {
        let child = keydrift.command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn();
        let mut child = child.expect("the binary can be started");
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines() {
                if line.is_err() || send.send(line.expect("checked")).is_err() {
                    return;
                }
            }
        });
        Self { child, lines, seen: Vec::new() }
    }

    /// The first line from now on for which `holds`.
    #[track_caller]
    pub fn wait_for(&mut self, holds: impl Fn(&str) -> bool) -> String {
        let until = Instant::now() + PATIENCE;
        while let Ok(line) = self.lines.recv_timeout(until.duration_since(Instant::now())) {
            self.seen.push(line.clone());
            if holds(&line) {
                return line;
            }
        }
        panic!("the line never came; these did:\n{}", self.seen.join("\n"));
    }

    pub fn interrupt(&self) {
        let pid =
            i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, Signal::INT).expect("a running process");
    }

    /// Waits for the end: the exit code, and the lines that had not been waited for.
    #[track_caller]
    pub fn end(mut self) -> (Option<i32>, Vec<String>) {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return (status.code(), self.lines.iter().collect());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("it does not end; it said:\n{}", self.seen.join("\n"));
    }
}

/// Nothing is left running behind a test that failed.
impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
