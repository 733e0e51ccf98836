//! A bench in a process of its own: with nothing in its memory yet, and if wanted on one core.

use std::io;
use std::process::{Command, Stdio};

/// On how many cores a process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cores {
    /// On the first one, with one thread.
    One,
    /// On all that this process has.
    All,
}

/// This bench once more, with the same arguments and environment.
///
/// # Errors
/// If it is not known where its executable is.
pub fn again(cores: Cores) -> io::Result<Command> {
    let this = std::env::current_exe()?;
    let mut command = match cores {
        Cores::One if can_pin() => {
            let mut command = Command::new("taskset");
            command.args(["-c", "0"]).arg(this);
            command
        }
        _ => Command::new(this),
    };
    command.args(std::env::args_os().skip(1));
    if cores == Cores::One {
        command.env("WATERCLOCK_BENCH_THREADS", "1");
    }
    Ok(command)
}

/// Whether one core means one: else it is one thread, which the storage thread and the committer run beside.
pub fn can_pin() -> bool {
    let probe = Command::new("taskset").args(["-c", "0", "true"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    probe.is_ok_and(|status| status.success())
}

/// Runs a command to its end.
///
/// # Errors
/// If it can't be started, or fails.
pub fn finish(mut command: Command) -> io::Result<()> {
    let status = command.status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("the bench's own child ended with {status}"))) }
}

/// Runs a command to its end. Returns what it wrote.
///
/// # Errors
/// If it can't be started, or fails, or writes something else than text.
pub fn output(mut command: Command) -> io::Result<String> {
    let done = command.stderr(Stdio::inherit()).output()?;
    if !done.status.success() {
        return Err(io::Error::other(format!("the bench's own child ended with {}", done.status)));
    }
    String::from_utf8(done.stdout).map_err(io::Error::other)
}
