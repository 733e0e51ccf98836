//! SQL: a file of CREATE EXTERNAL TABLE and INSERT INTO ... SELECT, into a job.
//!
//! What flows in: text, and the connectors that the locations may name. What flows out: a [`Job`]. Parsing, name resolution, type coercion
//! and optimization are DataFusion's; [`language`] tells it what there is, [`tables`] turns definitions into sources and sinks, and the
//! [pipeline](crate::pipeline) plans the rest, as it does for programs in Rust. Everything wrong is a `Config` error that names the
//! statement, and nothing has been read or written when it is reported, except files from which undeclared columns are inferred.

pub(crate) mod functions;
mod insert;
pub(crate) mod language;
mod not_null;
mod statements;
mod string_to_array;
pub(crate) mod syntax;
mod tables;

use crate::connector::{ConnectorContext, Connectors};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::id::SourceId;
use crate::job::Job;
use crate::pipeline::Pipeline;
use arrow::datatypes::SchemaRef;
use std::collections::BTreeMap;

/// What SQL is planned against.
#[derive(Debug, Clone)]
pub struct SqlContext {
    /// The connectors that locations may name.
    pub connectors: Connectors,
    /// What connectors need.
    pub connector_context: ConnectorContext,
    /// Columns that an earlier run of the job inferred: they stay as they are.
    pub known_schemas: BTreeMap<SourceId, SchemaRef>,
}

/// Plans a file of SQL.
///
/// # Errors
/// `Config` for anything wrong in the text; `Unavailable` if columns can't be inferred.
pub fn plan_sql(text: &str, context: &SqlContext) -> Result<Job> {
    let planner = std::thread::Builder::new().name("waterclock-planner".into()).stack_size(STACK_BYTES);
    std::thread::scope(|scope| {
        let planner =
            planner.spawn_scoped(scope, || plan(text, context)).or_error(ErrorKind::Internal, || "can't start planning".into())?;
        planner.join().unwrap_or_else(|_| Err(Error::internal("the planner panicked; please report the SQL that it was given")))
    })
}

/// Parser, planner and optimizer descend into an expression as deep as it is. Written by a program, a condition with a thousand ORs is
/// not rare, and a stack overflow is no error but an abort. Only what is used of it is memory.
const STACK_BYTES: usize = 256 << 20;

fn plan(text: &str, context: &SqlContext) -> Result<Job> {
    let script = statements::parse(text)?;
    if script.inserts.is_empty() {
        return Err(Error::config("the file has no INSERT INTO ... SELECT: nothing would be computed"));
    }
    let mut pipeline = Pipeline::new();
    tables::add_sources(&script, context, &mut pipeline)?;
    for insert in &script.inserts {
        insert::add_sink(insert, &script, context, &mut pipeline)?;
    }
    tables::check_places(&script)?;
    pipeline.build()
}
