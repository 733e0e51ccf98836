//! Waterclock's side: a job in SQL, run in this process until it has caught up.

use crate::events::{BATCHES, Events};
use crate::queries::Query;
use crate::threads;
use std::fmt;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use waterclock_connectors::connectors;
use waterclock_core::connector::ConnectorContext;
use waterclock_core::job::Job;
use waterclock_core::sql::{SqlContext, plan_sql};
use waterclock_core::storage::{Access, Location, Storage, StoreOptions};
use waterclock_core::{ErrorKind, Result, ResultExt};
use waterclock_scheduler::exec::ExecutorSettings;
use waterclock_scheduler::{BatchProgress, Driver, DriverSettings, Observer, Seams, Stop, Trigger};

/// The codec of Parquet output, the same for Waterclock and DataFusion.
pub const CODEC: &str = "zstd(3)";

/// How a job is run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Workers.
    pub threads: NonZeroUsize,
    /// Whether local files are synced before a write counts as done.
    pub fsync: bool,
    /// Memory for data between two steps, in bytes.
    pub memory_budget_bytes: usize,
    /// Whether the stream ends with what is there.
    pub drain: bool,
    /// After how many batches to stop.
    pub max_batches: Option<NonZeroU64>,
    /// When a batch is cut.
    pub trigger: Trigger,
}

impl Default for Settings {
    /// The command's own defaults.
    fn default() -> Self {
        Self {
            threads: threads(),
            fsync: true,
            memory_budget_bytes: 512 << 20,
            drain: false,
            max_batches: None,
            trigger: Trigger::UntilCaughtUp,
        }
    }
}

/// Where a bench's rows go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sink {
    /// They are counted.
    Blackhole,
    /// Files.
    Parquet,
}

impl fmt::Display for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Blackhole => "blackhole",
            Self::Parquet => "parquet",
        })
    }
}

/// Keeps what every batch said of itself.
#[derive(Default)]
struct Keep(Mutex<Vec<BatchProgress>>);

impl Observer for Keep {
    fn batch(&self, progress: &BatchProgress) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(progress.clone());
    }
}

/// A job from SQL.
///
/// # Errors
/// `Config` for anything wrong in the text.
pub fn plan(sql: &str, storage: &Storage) -> Result<Job> {
    let connector_context = ConnectorContext { storage: storage.clone() };
    plan_sql(sql, &SqlContext { connectors: connectors(), connector_context, known_schemas: Default::default() })
}

/// Opens a job on its checkpoint. Only the newest batch's state is retained.
///
/// # Errors
/// Whatever fails.
pub fn open(job: Job, storage: &Storage, checkpoint: &Location, settings: &Settings, observer: Arc<dyn Observer>) -> Result<Driver> {
    let checkpoint = storage.open(checkpoint, &StoreOptions::default(), Access::Write)?;
    let driver_settings = DriverSettings {
        trigger: settings.trigger,
        drain: settings.drain,
        max_batches: settings.max_batches,
        retain: NonZeroU64::MIN,
        executor: ExecutorSettings { threads: settings.threads, memory_budget_bytes: settings.memory_budget_bytes },
        configuration: serde_json::Value::Null,
    };
    Driver::open(job, driver_settings, checkpoint, Seams::system(), observer)
}

/// Runs a job on local files until it has caught up, and returns what its batches said.
///
/// # Errors
/// Whatever fails.
pub fn run(sql: &str, checkpoint: &Path, settings: &Settings) -> Result<Vec<BatchProgress>> {
    let storage = Storage::builder().fsync(settings.fsync).start()?;
    run_job(plan(sql, &storage)?, &storage, &Location::from_path(checkpoint)?, settings)
}

/// Opens a job, runs it until its trigger ends it, and returns what its batches said.
///
/// # Errors
/// Whatever fails.
pub fn run_job(job: Job, storage: &Storage, checkpoint: &Location, settings: &Settings) -> Result<Vec<BatchProgress>> {
    let kept = Arc::new(Keep::default());
    let observer = Arc::clone(&kept);
    open(job, storage, checkpoint, settings, observer)?.run(&Stop::new())?;
    let mut batches = kept.0.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(std::mem::take(&mut *batches))
}

/// Runs a query over its events to the end of the stream, into a sink, with a checkpoint of its own.
///
/// # Errors
/// Whatever fails.
pub fn query(events: &Events, query: &Query, sink: Sink, settings: &Settings) -> Result<Vec<BatchProgress>> {
    let scratch = events.scratch().or_error(ErrorKind::Unavailable, || "can't make a place for the output".into())?;
    let checkpoint = scratch.path().join("checkpoint");
    let (definition, codec) = match sink {
        Sink::Blackhole => ("STORED AS BLACKHOLE LOCATION 'blackhole://'".to_owned(), String::new()),
        Sink::Parquet => (format!("STORED AS PARQUET LOCATION '{}/out/'", scratch.path().display()), format!(", 'compression' '{CODEC}'")),
    };
    let (table, mode, select) = (events.definition(BATCHES), query.mode, query.sql);
    let sql = format!("{table} CREATE EXTERNAL TABLE result {definition} OPTIONS ('mode' '{mode}'{codec}); INSERT INTO result {select};");
    let batches = run(&sql, &checkpoint, &Settings { drain: true, ..settings.clone() })?;
    if sink == Sink::Blackhole {
        // It goes with the events: where many files have just been removed, ext4 looks long for a place for the next one.
        let _ = scratch.keep();
    }
    Ok(batches)
}
