//! Running the real binary: clean environment, checked exit code, and everything said on a failure.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// A command line of keydrift's, with nothing of the environment but what is given.
pub struct Keydrift {
    pub command: Command,
}

/// How a process ended.
#[derive(Debug, Clone)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub(super) line: String,
}

impl Keydrift {
    /// `home` is the home and temporary directory of the process.
    pub fn new(home: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keydrift"));
        command
            .env_clear()
            .env("HOME", home)
            .env("TMPDIR", home)
            .current_dir(home)
            .stdin(Stdio::null());
        Self { command }
    }

    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub fn without_env(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Runs it to its end, whatever that is.
    pub fn run(mut self) -> Ran {
        let line = format!("{:?}", self.command);
        let output: Output = self.command.output().expect("the binary can be started");
        Ran {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("stdout is UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("stderr is UTF-8"),
            line,
        }
    }

    /// Runs it and insists on the exit code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Ran {
        let ran = self.run();
        assert_eq!(ran.code, Some(code), "{ran}");
        ran
    }

    #[track_caller]
    pub fn succeeds(self) -> Ran {
        self.exits(0)
    }
}

impl Ran {
    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}\n{self}"))
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { code, stdout, stderr, line } = self;
        write!(f, "{line}\nexit code {code:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}")
    }
}
