//! DataFusion's answer to a query over a whole directory of Parquet files.

use crate::events::Events;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::config::TableParquetOptions;
use datafusion::dataframe::DataFrameWriteOptions;
use datafusion::error::{DataFusionError, Result};
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use futures::TryStreamExt;
use std::path::Path;

/// A session and the threads that it runs on.
pub struct OneShot {
    runtime: tokio::runtime::Runtime,
    session: SessionContext,
}

impl OneShot {
    /// A session with the tables of these directories.
    pub fn open<'a>(tables: impl IntoIterator<Item = &'a Events>, threads: usize) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
        let session = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(threads));
        for events in tables {
            let directory = events.directory();
            let (name, files) = (events.table.name(), directory.to_string_lossy());
            runtime.block_on(session.register_parquet(name, files, ParquetReadOptions::default()))?;
        }
        Ok(Self { runtime, session })
    }

    /// A session with one table: these rows.
    ///
    /// # Errors
    /// If the table's name is not one.
    pub fn over(table: &str, rows: RecordBatch) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let session = SessionContext::new();
        session.register_batch(table, rows)?;
        Ok(Self { runtime, session })
    }

    /// Runs a query, drops its rows and counts them.
    pub fn count(&self, sql: &str) -> Result<usize> {
        self.runtime.block_on(async {
            let mut tasks = tokio::task::JoinSet::new();
            for stream in self.session.sql(sql).await?.execute_stream_partitioned().await? {
                tasks.spawn(stream.try_fold(0, |sum, batch| async move { Ok(sum + batch.num_rows()) }));
            }
            let mut rows = 0;
            while let Some(done) = tasks.join_next().await {
                rows += done.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))??;
            }
            Ok(rows)
        })
    }

    /// Runs a query and writes its rows as Parquet files with this codec.
    pub fn write(&self, sql: &str, directory: &Path, codec: &str) -> Result<()> {
        let mut options = TableParquetOptions::default();
        options.global.compression = Some(codec.to_owned());
        let write = async {
            let rows = self.session.sql(sql).await?;
            rows.write_parquet(&format!("{}/", directory.display()), DataFrameWriteOptions::new(), Some(options)).await
        };
        self.runtime.block_on(write).map(|_| ())
    }

    /// Runs a query and returns its rows.
    pub fn rows(&self, sql: &str) -> Result<Vec<RecordBatch>> {
        self.runtime.block_on(async { self.session.sql(sql).await?.collect().await })
    }
}
