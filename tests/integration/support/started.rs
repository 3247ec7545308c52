//! A keydrift that is under way: to wait for, to look at, to signal and to kill.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::process::Child;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use keydrift::sim::{Handle, Matcher};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::binary::{Keydrift, Ran};

/// Longer than anything takes that is not stuck.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `holds` does, and panics where it never comes to that.
#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < give_up, "it never came to this: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Its output goes to files, so that it never waits for us. Killed when dropped.
pub struct Started {
    child: Child,
    streams: TempDir,
    line: String,
}

impl Keydrift {
    pub fn start(mut self) -> Started {
        let streams = tempfile::tempdir().expect("a temporary directory");
        let file = |name| File::create(streams.path().join(name)).expect("a file");
        let line = format!("{:?}", self.command);
        self.command.stdout(file("stdout")).stderr(file("stderr"));
        let child = self.command.spawn().expect("the binary can be started");
        Started { child, streams, line }
    }
}

impl Started {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child of ours").is_none()
    }

    pub fn stderr(&self) -> String {
        self.stream("stderr")
    }

    fn stream(&self, name: &str) -> String {
        std::fs::read_to_string(self.streams.path().join(name)).expect("UTF-8")
    }

    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).expect("it has not been waited for");
    }

    /// SIGKILL, and the end of it. Returns whether that is what ended it.
    pub fn kill(mut self) -> bool {
        self.child.kill().expect("a child of ours");
        self.child.wait().expect("a child of ours").signal().is_some()
    }

    /// Waits for its end.
    #[track_caller]
    pub fn ends(mut self) -> Ran {
        until("the process ends", || !self.is_running());
        Ran {
            code: self.child.wait().expect("a child of ours").code(),
            stdout: self.stream("stdout"),
            stderr: self.stderr(),
            line: self.line.clone(),
        }
    }

    /// Waits for its end and insists on the exit code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Ran {
        let ran = self.ends();
        assert_eq!(ran.code, Some(code), "{ran}");
        ran
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // It may have ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Holds a sync up in the middle of its scan, for as long as is needed and no longer. The simulation
/// answers nobody meanwhile, and its handle waits too.
pub struct Gate {
    reached: mpsc::Receiver<()>,
    open: mpsc::Sender<()>,
}

impl Gate {
    /// Before the `n`th page from now is answered.
    pub fn before_list(organization: &Handle, n: u64) -> Self {
        let (gate, stand) = Self::new();
        organization.before_list(n, move |_| stand());
        gate
    }

    /// Before such a request is answered.
    pub fn before(organization: &Handle, when: Matcher) -> Self {
        let (gate, stand) = Self::new();
        organization.before(when, move |_| stand());
        gate
    }

    fn new() -> (Self, impl FnOnce() + Send + 'static) {
        let (reach, reached) = mpsc::channel();
        let (open, opened) = mpsc::channel::<()>();
        let stand = move || {
            // A test that failed is gone from both ends.
            reach.send(()).ok();
            opened.recv_timeout(PATIENCE).ok();
        };
        (Self { reached, open }, stand)
    }

    /// Waits until the sync is there.
    #[track_caller]
    pub fn is_reached(&self) {
        self.reached.recv_timeout(PATIENCE).expect("the sync asks for the page");
    }

    /// Lets it go on.
    pub fn open(self) {
        drop(self.open);
    }
}
