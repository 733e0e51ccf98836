//! How a run is shown: a bar on a terminal, JSON lines for programs.

use super::flags::ProgressMode;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use waterclock_core::id::{BatchId, Epoch};
use waterclock_scheduler::{BatchProgress, Observer, Unobserved};

/// The observer that the flags ask for.
pub(super) fn observer(mode: ProgressMode, has_end: bool) -> Arc<dyn Observer> {
    match mode {
        ProgressMode::Json => Arc::new(JsonLines),
        // Results on the same terminal would be torn by a bar.
        ProgressMode::Auto if has_end && std::io::stderr().is_terminal() && !std::io::stdout().is_terminal() => Arc::new(Bar::new()),
        ProgressMode::Auto | ProgressMode::None => Arc::new(Unobserved),
    }
}

/// One JSON object per batch, on standard error.
struct JsonLines;

impl Observer for JsonLines {
    fn batch(&self, progress: &BatchProgress) {
        if let Ok(line) = serde_json::to_string(progress) {
            // A run does not fail because nobody reads its progress.
            let _ = writeln!(std::io::stderr().lock(), "{line}");
        }
    }
}

/// Batches, rows and what is left, where the sources know.
struct Bar {
    bar: ProgressBar,
    rows: Mutex<(u64, u64)>,
}

impl Bar {
    fn new() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{elapsed_precise} {wide_bar} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar, rows: Mutex::default() }
    }
}

impl Observer for Bar {
    fn opened(&self, epoch: Epoch, last: Option<BatchId>) {
        let behind = last.map_or_else(|| "from the beginning".to_owned(), |last| format!("behind batch {last}"));
        self.bar.set_message(format!("epoch {epoch}, {behind}"));
    }

    fn batch(&self, progress: &BatchProgress) {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.0 += progress.rows_in;
        rows.1 += progress.rows_out;
        let lag: Option<u64> = progress.sources.values().map(|source| source.lag).sum();
        if let Some(lag) = lag {
            self.bar.set_length(rows.0 + lag);
            self.bar.set_position(rows.0);
        }
        self.bar
            .set_message(format!("batch {}, {} rows in, {} out, {:.0} rows/s", progress.batch, rows.0, rows.1, progress.rows_per_second));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish();
    }
}
