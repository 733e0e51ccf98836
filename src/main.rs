//! The `waterclock` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    waterclock::command::main()
}
