//! `run`: from flags to a driver, and from its end to an exit code.

use super::context::JobContext;
use super::flags::RunFlags;
use super::{progress, signals};
use serde_json::json;
use std::num::NonZeroUsize;
use waterclock_core::Result;
use waterclock_core::job::Job;
use waterclock_core::storage::{Access, StorageBuilder, StoreOptions};
use waterclock_scheduler::exec::ExecutorSettings;
use waterclock_scheduler::{Driver, DriverSettings, Seams, Stop, Trigger};

/// Runs a job until it ends, or until a signal ends it.
pub(super) fn run(storage: StorageBuilder, flags: &RunFlags, build: impl FnOnce(&JobContext) -> Result<Job>) -> Result<()> {
    let storage = storage.fsync(!flags.no_fsync).start()?;
    let location = &flags.checkpoint.checkpoint;
    let job = build(&JobContext::new(storage.clone(), Some(location))?)?;
    let checkpoint = storage.open(location, &StoreOptions::from_environment(), Access::Write)?;
    let stop = Stop::new();
    signals::on_stop({
        let stop = stop.clone();
        move || stop.stop()
    })?;
    let settings = settings(flags);
    let has_end = !matches!(settings.trigger, Trigger::Interval(_)) || settings.drain;
    let observer = progress::observer(flags.progress, has_end);
    let driver = Driver::open(job, settings, checkpoint, Seams::system(), observer)?;
    let summary = driver.run(&stop)?;
    tracing::info!(batches = summary.batches, rows_in = summary.rows_in, rows_out = summary.rows_out, "ended");
    Ok(())
}

/// Workers and memory; by default a worker for each processor.
pub(super) fn executor_settings(threads: Option<NonZeroUsize>, memory_budget_bytes: usize) -> ExecutorSettings {
    let processors = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    ExecutorSettings { threads: threads.unwrap_or_else(processors), memory_budget_bytes }
}

fn settings(flags: &RunFlags) -> DriverSettings {
    let executor = executor_settings(flags.threads, flags.memory_budget);
    let trigger = match (flags.once, flags.until_caught_up || flags.drain) {
        (true, _) => Trigger::Once,
        (false, true) => Trigger::UntilCaughtUp,
        (false, false) => Trigger::Interval(flags.interval),
    };
    // What decides which rows a batch has and where they go is in the plan; this is how it was run.
    let configuration = json!({
        "trigger": match trigger {
            Trigger::Once => json!("once"),
            Trigger::UntilCaughtUp => json!("until caught up"),
            Trigger::Interval(interval) => json!({ "interval_ms": interval.as_secs_f64() * 1_000.0 }),
        },
        "drain": flags.drain,
        "max_batches": flags.max_batches,
        "retain": flags.retain,
        "threads": executor.threads,
        "memory_budget_bytes": flags.memory_budget,
        "fsync": !flags.no_fsync,
    });
    DriverSettings { trigger, drain: flags.drain, max_batches: flags.max_batches, retain: flags.retain, executor, configuration }
}
