//! The command line: `run`, `explain`, `batches`, `state`, `replay`.
//!
//! [`main`] is the `waterclock` command, which takes jobs from SQL files. [`main_with`] is the same for a program with a job of its own:
//! the same subcommands, flags, environment variables, exit codes, signals and progress.

mod batches;
mod context;
mod flags;
mod logging;
mod progress;
mod replay;
mod run;
mod signals;
mod state;

pub use context::{JobContext, OutputTable, Table};
pub use flags::{CheckpointFlags, LogFlags, ProgressMode, ReplayFlags, RunFlags, StateFlags};

use clap::{Args, Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use waterclock_core::job::Job;
use waterclock_core::plan::explain;
use waterclock_core::storage::{Storage, StorageBuilder};
use waterclock_core::{Error, ErrorKind, Result, ResultExt};

/// Micro-batch stream processing on one machine, exactly once.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
struct CommandLine<A: Args> {
    #[command(subcommand)]
    command: Command<A>,
    #[command(flatten)]
    log: LogFlags,
}

#[derive(Debug, Subcommand)]
enum Command<A: Args> {
    /// Run the job
    Run {
        #[command(flatten)]
        job: A,
        #[command(flatten)]
        flags: RunFlags,
    },
    /// Show the plan: the optimized query and the stages
    Explain {
        #[command(flatten)]
        job: A,
    },
    /// Show the commit log, the newest batch last
    Batches {
        #[command(flatten)]
        checkpoint: CheckpointFlags,
        /// The records as they are, one JSON object per line
        #[arg(long)]
        json: bool,
    },
    /// Run old batches again, from the recorded state, into another place
    Replay {
        #[command(flatten)]
        job: A,
        #[command(flatten)]
        flags: ReplayFlags,
    },
    /// Show what operators and sources remember
    State {
        #[command(flatten)]
        checkpoint: CheckpointFlags,
        #[command(flatten)]
        flags: StateFlags,
    },
}

/// A job in SQL.
#[derive(Debug, Args)]
struct SqlFile {
    /// A file with CREATE [UNBOUNDED] EXTERNAL TABLE and INSERT INTO ... SELECT
    #[arg(value_name = "JOB.sql")]
    job: PathBuf,
}

/// The `waterclock` command: runs SQL files.
pub fn main() -> ExitCode {
    Program::new().run_sql(std::env::args_os())
}

/// The command of a program with a job of its own. `A` are the program's own arguments, in a struct that derives [`clap::Args`] (or `()`);
/// `build` makes the job from them.
pub fn main_with<A: Args>(build: impl FnOnce(&A, &JobContext) -> Result<Job>) -> ExitCode {
    Program::new().run(std::env::args_os(), build)
}

/// A command with a storage of one's own choice: for tests that put faults, delays or locks around the stores.
pub struct Program {
    storage: StorageBuilder,
}

impl Default for Program {
    fn default() -> Self {
        Self::new()
    }
}

impl Program {
    /// The command as users have it.
    pub fn new() -> Self {
        Self { storage: Storage::builder() }
    }

    /// The command on this storage.
    #[must_use]
    pub fn with_storage(mut self, storage: StorageBuilder) -> Self {
        self.storage = storage;
        self
    }

    /// Runs the command on SQL files, with these arguments, of which the first is the program's name.
    pub fn run_sql(self, arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
        self.run(arguments, |file: &SqlFile, context| {
            let text = std::fs::read_to_string(&file.job).or_error(ErrorKind::Config, || format!("can't read {}", file.job.display()))?;
            // Some editors begin a file with a byte order mark.
            context.sql_job(text.trim_start_matches('\u{feff}')).map_err(|error| error.within(file.job.display()))
        })
    }

    /// Runs the command on a job of one's own, with these arguments, of which the first is the program's name.
    pub fn run<A: Args>(
        self,
        arguments: impl IntoIterator<Item = OsString>,
        build: impl FnOnce(&A, &JobContext) -> Result<Job>,
    ) -> ExitCode {
        let line = match CommandLine::<A>::try_parse_from(arguments) {
            Ok(line) => line,
            Err(error) => {
                // Where help or a usage error can't be printed there is nothing left to tell it to.
                let _ = error.print();
                return ExitCode::from(if error.use_stderr() { ErrorKind::Config.exit_code() } else { 0 });
            }
        };
        match logging::start(&line.log.log).and_then(|()| self.dispatch(line.command, build)) {
            Ok(code) => code,
            Err(error) => report(&error),
        }
    }

    fn dispatch<A: Args>(self, command: Command<A>, build: impl FnOnce(&A, &JobContext) -> Result<Job>) -> Result<ExitCode> {
        let done = match command {
            Command::Replay { job, flags } => return replay::replay(self.storage, &flags, |context| build(&job, context)),
            Command::Run { job, flags } => run::run(self.storage, &flags, |context| build(&job, context)),
            Command::Explain { job } => {
                let context = JobContext::new(self.storage.start()?, None)?;
                let job = build(&job, &context)?;
                print(&explain(&job.plan))
            }
            Command::Batches { checkpoint, json } => batches::show(&self.storage.start()?, &checkpoint.checkpoint, json),
            Command::State { checkpoint, flags } => state::show(&self.storage.start()?, &checkpoint.checkpoint, &flags),
        };
        done.map(|()| ExitCode::SUCCESS)
    }
}

/// Writes a result to standard output. A reader that has seen enough is no failure.
fn print(text: &str) -> Result<()> {
    use std::io::Write;
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::unavailable("can't write to standard output").caused_by(error))
        }
        _ => Ok(()),
    }
}

#[expect(clippy::print_stderr, reason = "this is where errors reach the user")]
fn report(error: &Error) -> ExitCode {
    eprintln!("error ({}): {error}", error.kind());
    ExitCode::from(error.kind().exit_code())
}
