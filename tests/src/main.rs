//! The command as users have it, with hooks by which a test makes it fail at a chosen step.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::SUCCESS
}
