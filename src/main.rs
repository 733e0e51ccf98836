//! The `waterclock` command.

use mimalloc::MiMalloc;
use std::process::ExitCode;

/// Batches are taken by one thread and given back by another. The system's allocator has them wait for each other then, and keeps what was
/// given back.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    waterclock::command::main()
}
