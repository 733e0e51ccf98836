//! The command as users have it, with a hook by which a test makes the process die at a chosen storage operation: `WATERCLOCK_TEST_ABORT`,
//! as `before:17` or `after:17`. And programs with jobs of their own, with state and timers: `counter`, behind the traits of operators, and
//! `visits`, a process function.

mod abort;
mod counter;
mod counter_job;
mod visits;

use abort::{Abort, AbortingStore};
use std::process::ExitCode;
use std::sync::Arc;
use waterclock::command::Program;
use waterclock_core::storage::{Storage, StorageBuilder};

fn main() -> ExitCode {
    let program = Program::new().with_storage(storage());
    let mut arguments: Vec<_> = std::env::args_os().collect();
    let word = arguments.get(1).and_then(|word| word.to_str()).map(str::to_owned);
    match word.as_deref() {
        Some("counter") => {
            arguments.remove(1);
            program.run(arguments, counter_job::counter_job)
        }
        Some("visits") => {
            arguments.remove(1);
            program.run(arguments, visits::visits_job)
        }
        _ => program.run_sql(arguments),
    }
}

fn storage() -> StorageBuilder {
    let chosen = std::env::var("WATERCLOCK_TEST_ABORT").ok().and_then(|text| Abort::parse(&text));
    match chosen {
        Some(abort) => Storage::builder().wrap(move |_, store| Arc::new(AbortingStore::new(store, Arc::clone(&abort)))),
        None => Storage::builder(),
    }
}
