//! The command as a process: started, waited for with an end, signalled, killed.

use super::place::Place;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use wait_timeout::ChildExt;

/// The command under test.
pub const WATERCLOCK: &str = env!("CARGO_BIN_EXE_under-test");

/// No run of a test takes this long: one that does hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// A process to be started.
pub struct Invocation {
    command: Command,
    logs: PathBuf,
    input: Stdio,
}

impl Invocation {
    /// The command with these arguments.
    pub fn new<S: AsRef<std::ffi::OsStr>>(place: &Place, arguments: impl IntoIterator<Item = S>) -> Self {
        let mut command = Command::new(WATERCLOCK);
        command.args(arguments);
        Self::of(place, command)
    }

    /// Any program, with the environment that the tests give to all.
    pub fn of(place: &Place, mut command: Command) -> Self {
        for (key, _) in std::env::vars_os() {
            let text = key.to_string_lossy();
            if ["WATERCLOCK_", "AWS_", "GOOGLE_", "AZURE_"].iter().any(|prefix| text.starts_with(prefix)) {
                command.env_remove(&key);
            }
        }
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let logs = place.directory("logs").join(STARTED.fetch_add(1, Ordering::Relaxed).to_string());
        Self { command, logs, input: Stdio::null() }
    }

    /// `run job.sql --checkpoint <place>/checkpoint`.
    pub fn job(place: &Place) -> Self {
        let job = place.path("job.sql").display().to_string();
        Self::new(place, ["run", &job, "--checkpoint", &place.url("checkpoint")])
    }

    /// The same, up to the end of what is there.
    pub fn catch_up(place: &Place) -> Self {
        Self::job(place).arg("--until-caught-up")
    }

    pub fn arg(mut self, argument: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    pub fn threads(self, threads: usize) -> Self {
        self.arg("--threads").arg(threads.to_string())
    }

    pub fn env(mut self, key: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    /// Gives it a file as standard input.
    pub fn input(mut self, path: &Path) -> Self {
        self.input = File::open(path).unwrap().into();
        self
    }

    /// Gives it a pipe as standard input.
    pub fn piped(mut self, reader: std::io::PipeReader) -> Self {
        self.input = reader.into();
        self
    }

    /// Starts it, without input unless it was given some.
    pub fn start(mut self) -> Running {
        let (out, err) = (self.logs.with_extension("out"), self.logs.with_extension("err"));
        self.command.stdin(self.input).stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
        let child = self.command.spawn().unwrap_or_else(|error| panic!("{:?}: {error}", self.command));
        Running { child, out, err, command: format!("{:?}", self.command) }
    }

    /// Starts it and waits for its end.
    pub fn finish(self) -> Exit {
        self.start().finish()
    }
}

/// A process that was started. It is killed when dropped.
pub struct Running {
    child: Child,
    out: PathBuf,
    err: PathBuf,
    command: String,
}

impl Running {
    /// Waits for its end for a time; none if it still runs.
    pub fn ended_within(&mut self, time: Duration) -> Option<ExitStatus> {
        self.child.wait_timeout(time).unwrap()
    }

    /// Waits for its end.
    pub fn finish(mut self) -> Exit {
        let Some(status) = self.ended_within(PATIENCE) else {
            panic!("{} still runs after {PATIENCE:?}; it wrote:\n{}", self.command, self.stderr());
        };
        Exit { status, stdout: fs::read_to_string(&self.out).unwrap(), stderr: self.stderr(), command: self.command.clone() }
    }

    /// SIGKILL. Returns whether that is what ended it, and not its own end.
    pub fn kill(mut self) -> bool {
        self.child.kill().unwrap();
        self.child.wait().unwrap().signal() == Some(9)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// The most memory that it ever had resident, in bytes; none if it is gone.
    pub fn resident_high_water(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1024)
    }

    /// What it wrote to stderr so far.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.err).unwrap()).into_owned()
    }

    /// Waits until a condition holds, looking again every few milliseconds, and fails if the process ends before.
    pub fn until(&mut self, what: &str, mut holds: impl FnMut() -> bool) {
        let step = Duration::from_millis(5);
        let mut waited = Duration::ZERO;
        while !holds() {
            if let Some(status) = self.ended_within(step) {
                assert!(holds(), "{} ended ({status}) before {what}; it wrote:\n{}", self.command, self.stderr());
                return;
            }
            waited += step;
            assert!(waited < PATIENCE, "{}: after {PATIENCE:?} not yet {what}; it wrote:\n{}", self.command, self.stderr());
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a process ended, and what it said.
pub struct Exit {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
    command: String,
}

impl Exit {
    /// Fails unless it ended with this code.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(
            self.status.code(),
            Some(code),
            "{} ended with {}; it wrote:\n{}{}",
            self.command,
            self.status,
            self.stdout,
            self.stderr
        );
        self
    }

    /// Fails unless all of these stand in its messages.
    #[track_caller]
    pub fn says(self, words: &[&str]) -> Self {
        for word in words {
            assert!(self.stderr.contains(word), "{} does not say '{word}' but:\n{}", self.command, self.stderr);
        }
        self
    }
}
