//! The flags, shared by the `waterclock` command and by users' own binaries. Flags go over `WATERCLOCK_*` in the environment, those over
//! the defaults.

use clap::{Args, ValueEnum};
use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;
use waterclock_core::id::BatchId;
use waterclock_core::storage::Location;
use waterclock_core::time::parse_duration;

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| error.to_string())
}

/// Far more than one machine has: a slip of the finger would start them all.
const MAX_THREADS: usize = 1_024;

fn threads(text: &str) -> Result<NonZeroUsize, String> {
    let number = text.parse().ok().filter(|number: &NonZeroUsize| number.get() <= MAX_THREADS);
    number.ok_or_else(|| format!("'{text}' is no number of workers from 1 to {MAX_THREADS}"))
}

fn location(text: &str) -> Result<Location, String> {
    Location::parse(text).map_err(|error| error.to_string())
}

fn bytes(text: &str) -> Result<usize, String> {
    let wrong = || format!("'{text}' is not a size; write a number and a unit, such as 512MiB or 2GiB");
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let number: usize = text[..split].parse().map_err(|_| wrong())?;
    let unit = match text[split..].trim().to_ascii_lowercase().as_str() {
        "kib" | "k" => 1 << 10,
        "mib" | "m" => 1 << 20,
        "gib" | "g" => 1 << 30,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit).filter(|&bytes| bytes > 0).ok_or_else(wrong)
}

/// Where the job's log and state are.
#[derive(Debug, Args)]
pub struct CheckpointFlags {
    /// Where the commit log and the state are: a URL such as s3://bucket/job/ or a local directory
    #[arg(long, value_name = "URI", value_parser = location, env = "WATERCLOCK_CHECKPOINT")]
    pub checkpoint: Location,
}

/// How a job is run.
#[derive(Debug, Args)]
pub struct RunFlags {
    /// Where the log and the state are.
    #[command(flatten)]
    pub checkpoint: CheckpointFlags,

    /// Time between the starts of two batches, unless the run has an end
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration, env = "WATERCLOCK_INTERVAL")]
    pub interval: Duration,

    /// Run one batch, within the limits, and end
    #[arg(long, conflicts_with_all = ["until_caught_up", "drain"])]
    pub once: bool,

    /// Run up to what the sources hold now, in as many batches as the limits make, and end
    #[arg(long)]
    pub until_caught_up: bool,

    /// End the stream: as --until-caught-up, then a last batch takes every watermark to its end. The job can't be resumed
    #[arg(long)]
    pub drain: bool,

    /// End after so many batches
    #[arg(long, value_name = "N", env = "WATERCLOCK_MAX_BATCHES")]
    pub max_batches: Option<NonZeroU64>,

    /// Keep the state of so many of the newest batches, to look at and to replay from
    #[arg(long, value_name = "N", default_value = "100", env = "WATERCLOCK_RETAIN")]
    pub retain: NonZeroU64,

    /// Workers. The output does not depend on it [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = threads, env = "WATERCLOCK_THREADS")]
    pub threads: Option<NonZeroUsize>,

    /// Memory for data between two steps of a batch; what each worker holds of its own rows comes on top
    #[arg(long, value_name = "SIZE", default_value = "512MiB", value_parser = bytes, env = "WATERCLOCK_MEMORY_BUDGET")]
    pub memory_budget: usize,

    /// Don't wait for local disks: a power failure, unlike a crash, may then lose or damage committed batches
    #[arg(long, env = "WATERCLOCK_NO_FSYNC")]
    pub no_fsync: bool,

    /// How progress is shown, on stderr
    #[arg(long, value_name = "HOW", default_value = "auto", env = "WATERCLOCK_PROGRESS")]
    pub progress: ProgressMode,
}

/// Some batches, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchRange {
    /// The first.
    pub first: BatchId,
    /// The last.
    pub last: BatchId,
}

fn batch_range(text: &str) -> Result<BatchRange, String> {
    let wrong = || format!("'{text}' is no range of batches; write the first and the last one, as in 3..5");
    let (first, last) = text.split_once("..").ok_or_else(wrong)?;
    let batch = |number: &str| number.trim().parse().map(BatchId).map_err(|_| wrong());
    let range = BatchRange { first: batch(first)?, last: batch(last)? };
    if range.first <= range.last { Ok(range) } else { Err(wrong()) }
}

/// Which batches are run again, and where their output goes.
#[derive(Debug, Args)]
pub struct ReplayFlags {
    /// Where the log and the state are.
    #[command(flatten)]
    pub checkpoint: CheckpointFlags,

    /// The batches, both ends included
    #[arg(long, value_name = "A..B", value_parser = batch_range)]
    pub batches: BatchRange,

    /// Where the output goes: for each sink a directory by its name, with files of JSON. It must be empty
    #[arg(long, value_name = "URI", value_parser = location)]
    pub output: Location,

    /// Compare with what was committed: print the first rows that differ ('-' was committed, '+' was replayed), and end with 1 if any do,
    /// with 2 if no sink's rows could be compared
    #[arg(long)]
    pub diff: bool,

    /// Workers. The output does not depend on it [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = threads, env = "WATERCLOCK_THREADS")]
    pub threads: Option<NonZeroUsize>,

    /// Memory for data between two steps of a batch; what each worker holds of its own rows comes on top
    #[arg(long, value_name = "SIZE", default_value = "512MiB", value_parser = bytes, env = "WATERCLOCK_MEMORY_BUDGET")]
    pub memory_budget: usize,
}

/// Which state is shown.
#[derive(Debug, Args)]
pub struct StateFlags {
    /// Print the tables of this operator, or of a source as 'source NAME' [default: list all]
    #[arg(long, value_name = "ID")]
    pub operator: Option<String>,

    /// The state behind this batch [default: the newest]
    #[arg(long, value_name = "N")]
    pub batch: Option<u64>,

    /// One JSON object per table, or per row of the operator's tables
    #[arg(long)]
    pub json: bool,
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProgressMode {
    /// A bar if stderr is a terminal and the run has an end, else nothing
    Auto,
    /// One JSON object per batch and line
    Json,
    /// Nothing
    None,
}

/// What is logged.
#[derive(Debug, Args)]
pub struct LogFlags {
    /// What is logged, on stderr: error, warn, info, debug, trace, or a filter such as waterclock_scheduler=debug
    #[arg(long, global = true, value_name = "FILTER", default_value = "warn", env = "WATERCLOCK_LOG")]
    pub log: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_two_ends() {
        assert_eq!(batch_range("3..5"), Ok(BatchRange { first: BatchId(3), last: BatchId(5) }));
        assert!(batch_range("4..4").is_ok());
        for wrong in ["", "3", "..", "5..3", "3..", "..3", "a..b", "-1..2", "1...2"] {
            assert!(batch_range(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_need_a_unit() {
        assert_eq!(bytes("64MiB"), Ok(64 << 20));
        assert_eq!(bytes("2g"), Ok(2 << 30));
        for wrong in ["", "64", "MiB", "-1MiB", "0MiB", "99999999999999GiB"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }
}
