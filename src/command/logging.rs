//! Logs go to stderr; results go to stdout.

use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;
use waterclock_core::{Error, Result};

/// Starts logging with a filter.
///
/// # Errors
/// `Config` if the filter can't be read.
pub(super) fn start(filter: &str) -> Result<()> {
    let filter = EnvFilter::try_new(filter).map_err(|cause| Error::config("--log").caused_by(cause))?;
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    // A program that set up its own logging keeps it.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours).try_init();
    Ok(())
}
