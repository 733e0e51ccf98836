//! SIGTERM and SIGINT end a run after the batch at hand; a second one ends the process at once.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use waterclock_core::{ErrorKind, Result, ResultExt};

/// Calls `stop` at the first signal.
///
/// # Errors
/// `Internal` if the handlers can't be installed.
pub(super) fn on_stop(stop: impl Fn() + Send + 'static) -> Result<()> {
    let failed = || "can't listen to signals".to_owned();
    let mut signals = Signals::new([SIGINT, SIGTERM]).or_error(ErrorKind::Internal, failed)?;
    let listen = move || {
        for (count, signal) in signals.forever().enumerate() {
            if count > 0 {
                // Whatever is under way is repaired at the next start: that is what the commit protocol is for.
                std::process::exit(128 + signal);
            }
            tracing::info!(signal, "stopping after the batch at hand");
            stop();
        }
    };
    std::thread::Builder::new().name("waterclock-signals".into()).spawn(listen).or_error(ErrorKind::Internal, failed)?;
    Ok(())
}
