//! A join of a stream with static rows.
//!
//! The static rows lie in a table by their key, made before the first batch; each row of the stream is looked up in it. So the join has
//! no memory, and is fused with its neighbours. Rows come out in the order of the stream, and for each of its rows in the order of the
//! static rows.

use super::clock;
use super::filter_project::{Sql, columns_of, moved};
use super::join_table::JoinTable;
use super::static_query::StaticQuery;
use crate::batch::BatchContext;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::id::OperatorId;
use crate::operator::Transform;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion_common::DataFusionError;
use datafusion_physical_expr::PhysicalExpr;
use std::sync::{Arc, OnceLock};

/// How many pairs of rows are held against the condition at once: a join without keys has far more candidates than results.
const CANDIDATES: usize = 1 << 16;

/// What a join of a stream with static rows is made of.
#[derive(Debug, Clone)]
pub struct StaticJoinSpec {
    /// The stream's columns.
    pub stream: SchemaRef,
    /// The static rows.
    pub query: StaticQuery,
    /// Whether a row of the stream without a partner is kept, with nulls beside it.
    pub keeps_stream: bool,
    /// Pairs of expressions, over the stream's columns and the static columns, of one type, that are equal in rows that are joined.
    pub keys: Vec<(Arc<dyn PhysicalExpr>, Arc<dyn PhysicalExpr>)>,
    /// Whether null equals null in keys.
    pub nulls_equal: bool,
    /// What else must be true of a pair of rows, over the stream's columns with the static columns behind them.
    pub condition: Option<Arc<dyn PhysicalExpr>>,
    /// The columns that come out, as positions among the stream's columns with the static columns behind them.
    pub columns: Vec<usize>,
    /// What they are called.
    pub schema: SchemaRef,
}

/// See the [module](self).
#[derive(Debug, Clone)]
pub struct StaticJoin {
    id: OperatorId,
    spec: StaticJoinSpec,
    condition: Option<Condition>,
    /// The static rows by their key, from the first batch on.
    table: OnceLock<Arc<JoinTable>>,
}

/// A condition on pairs of rows, over the columns that it reads.
#[derive(Debug, Clone)]
struct Condition {
    expression: Arc<dyn PhysicalExpr>,
    columns: Vec<usize>,
    schema: SchemaRef,
}

/// Rows of both sides that belong together, as positions.
#[derive(Debug, Default)]
struct Pairs {
    stream: Vec<u32>,
    table: Vec<u32>,
}

impl StaticJoin {
    /// A join under a name for messages.
    ///
    /// # Errors
    /// `Internal` if the expressions don't fit the columns.
    pub fn try_new(id: OperatorId, spec: StaticJoinSpec) -> Result<Self> {
        let table = spec.query.schema();
        for (stream, of_table) in &spec.keys {
            let types = stream.data_type(&spec.stream).and_then(|stream| Ok((stream, of_table.data_type(&table)?)));
            let (left, right) = types.or_error(ErrorKind::Internal, || "the keys of a join".into())?;
            if left != right {
                return Err(Error::internal(format!("a join compares {left} with {right}")));
            }
        }
        let both = Schema::new(spec.stream.fields().iter().chain(table.fields()).cloned().collect::<Vec<_>>());
        let condition = spec.condition.clone().map(|condition| Condition::try_new(condition, &both)).transpose()?;
        Ok(Self { id, spec, condition, table: OnceLock::new() })
    }

    fn failed(&self, what: &str, cause: &DataFusionError) -> Error {
        Error::bad_data(format!("operator '{}' can't compute {what}", self.id)).caused_by(cause.find_root().strip_backtrace())
    }

    fn key(&self, key: &Arc<dyn PhysicalExpr>, rows: &RecordBatch) -> Result<ArrayRef> {
        let value = key.evaluate(rows).and_then(|value| value.into_array(rows.num_rows()));
        value.map_err(|cause| self.failed(&format!("the key {}", Sql(key)), &cause))
    }

    /// The static rows by their key.
    fn table_of(&self, query: &StaticQuery) -> Result<Arc<JoinTable>> {
        let rows = query.rows()?;
        let keys = self.spec.keys.iter().map(|(_, key)| self.key(key, &rows)).collect::<Result<Vec<_>>>()?;
        let table = JoinTable::try_new(rows, &keys, self.spec.nulls_equal);
        table.map(Arc::new).map_err(|error| error.within(format!("operator '{}'", self.id)))
    }

    /// The pairs of rows that belong together, in order.
    fn pairs(&self, rows: &RecordBatch, table: &JoinTable) -> Result<Pairs> {
        let keys = self.spec.keys.iter().map(|(key, _)| self.key(key, rows)).collect::<Result<Vec<_>>>()?;
        let probe = table.probe(&keys)?;
        let count = u32::try_from(rows.num_rows()).or_error(ErrorKind::Internal, || "too many rows at once for a join".into())?;
        let (mut pairs, mut candidates) = (Pairs::default(), Pairs::default());
        for row in 0..count {
            let mut found = probe.find(row as usize);
            while !found.is_empty() {
                let (now, later) = found.split_at(found.len().min(CANDIDATES - candidates.len()));
                candidates.stream.extend(std::iter::repeat_n(row, now.len()));
                candidates.table.extend_from_slice(now);
                found = later;
                if candidates.len() == CANDIDATES {
                    self.accept(&mut candidates, rows, table, &mut pairs)?;
                }
            }
        }
        self.accept(&mut candidates, rows, table, &mut pairs)?;
        Ok(pairs)
    }

    /// Moves those candidates to the pairs for which the condition is true.
    fn accept(&self, candidates: &mut Pairs, rows: &RecordBatch, table: &JoinTable, pairs: &mut Pairs) -> Result<()> {
        let candidates = std::mem::take(candidates);
        let Some(condition) = &self.condition else {
            pairs.append(candidates);
            return Ok(());
        };
        if candidates.len() == 0 {
            return Ok(());
        }
        let count = candidates.len();
        let (stream, of_table) = (UInt32Array::from(candidates.stream), UInt32Array::from(candidates.table));
        let width = rows.num_columns();
        let column = |&column: &usize| match column.checked_sub(width) {
            None => take(rows.column(column), &stream, None),
            Some(column) => take(table.rows().column(column), &of_table, None),
        };
        let columns = condition.columns.iter().map(column).collect::<Result<Vec<_>, _>>();
        let columns = columns.or_error(ErrorKind::Internal, || "the rows that a join compares".into())?;
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let both = RecordBatch::try_new_with_options(Arc::clone(&condition.schema), columns, &options)
            .or_error(ErrorKind::Internal, || "the rows that a join compares".into())?;
        let value = condition.expression.evaluate(&both).and_then(|value| value.into_array(count));
        let value = value.map_err(|cause| self.failed(&format!("the condition {}", Sql(&condition.expression)), &cause))?;
        // A condition that is null everywhere can be of the type of null.
        if value.data_type() == &DataType::Null {
            return Ok(());
        }
        let accepted = value.as_boolean_opt().ok_or_else(|| Error::internal("a condition is not a boolean"))?;
        for pair in (0..count).filter(|&pair| accepted.is_valid(pair) && accepted.value(pair)) {
            pairs.stream.push(stream.value(pair));
            pairs.table.push(of_table.value(pair));
        }
        Ok(())
    }
}

impl Condition {
    fn try_new(expression: Arc<dyn PhysicalExpr>, both: &Schema) -> Result<Self> {
        let columns = columns_of(std::slice::from_ref(&expression));
        let fields = columns.iter().map(|&column| both.field(column).clone().with_nullable(true)).collect::<Vec<_>>();
        Ok(Self { expression: moved(expression, &columns)?, columns, schema: Arc::new(Schema::new(fields)) })
    }
}

impl Pairs {
    fn len(&self) -> usize {
        self.stream.len()
    }

    fn append(&mut self, mut other: Self) {
        if self.len() == 0 {
            *self = other;
        } else {
            self.stream.append(&mut other.stream);
            self.table.append(&mut other.table);
        }
    }

    /// The pairs, and between them the rows of the stream that have none.
    fn with_unpaired(self, count: usize) -> (Vec<u32>, Vec<Option<u32>>) {
        let (mut stream, mut table) = (Vec::with_capacity(count), Vec::with_capacity(count));
        let mut pairs = self.stream.into_iter().zip(self.table).peekable();
        for row in (0u32..).take(count) {
            let before = stream.len();
            while let Some((_, partner)) = pairs.next_if(|(paired, _)| *paired == row) {
                stream.push(row);
                table.push(Some(partner));
            }
            if stream.len() == before {
                stream.push(row);
                table.push(None);
            }
        }
        (stream, table)
    }
}

impl Transform for StaticJoin {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.spec.schema)
    }

    fn for_batch(self: Arc<Self>, batch: &BatchContext) -> Result<Arc<dyn Transform>> {
        let keys = |at: &dyn Fn(&Arc<dyn PhysicalExpr>) -> bool| self.spec.keys.iter().any(|(stream, table)| at(stream) || at(table));
        let reads_clock = keys(&clock::reads_clock) || self.spec.condition.as_ref().is_some_and(clock::reads_clock);
        let (query, is_of_batch) = self.spec.query.for_batch(batch)?;
        if !reads_clock && !is_of_batch {
            if self.table.get().is_none() {
                // Whoever comes second made the same.
                let _ = self.table.set(self.table_of(&query)?);
            }
            return Ok(self);
        }
        let mut bound = self.as_ref().clone();
        for (stream, table) in &mut bound.spec.keys {
            (*stream, *table) = (clock::at(stream, batch.trigger_time)?, clock::at(table, batch.trigger_time)?);
        }
        if let Some(condition) = &mut bound.condition {
            condition.expression = clock::at(&condition.expression, batch.trigger_time)?;
        }
        bound.table = OnceLock::from(bound.table_of(&query)?);
        Ok(Arc::new(bound))
    }

    fn apply(&self, rows: RecordBatch) -> Result<RecordBatch> {
        let table = self.table.get().ok_or_else(|| Error::internal(format!("operator '{}' has no static rows yet", self.id)))?;
        let pairs = self.pairs(&rows, table)?;
        let (stream, of_table): (Vec<u32>, UInt32Array) = if self.spec.keeps_stream {
            let (stream, of_table) = pairs.with_unpaired(rows.num_rows());
            (stream, of_table.into())
        } else {
            (pairs.stream, pairs.table.into())
        };
        let count = stream.len();
        let is_whole = count == rows.num_rows() && stream.iter().copied().eq((0u32..).take(count));
        let stream = UInt32Array::from(stream);
        let width = rows.num_columns();
        let column = |&column: &usize| match column.checked_sub(width) {
            None if is_whole => Ok(Arc::clone(rows.column(column))),
            None => take(rows.column(column), &stream, None),
            Some(column) if table.rows().num_rows() == 0 => Ok(new_null_array(table.rows().column(column).data_type(), count)),
            Some(column) => take(table.rows().column(column), &of_table, None),
        };
        let place = || format!("the output of operator '{}'", self.id);
        let columns = self.spec.columns.iter().map(column).collect::<Result<Vec<_>, _>>().or_error(ErrorKind::Internal, place)?;
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        RecordBatch::try_new_with_options(Arc::clone(&self.spec.schema), columns, &options).or_error(ErrorKind::Internal, place)
    }

    fn describe(&self) -> String {
        let kind = if self.spec.keeps_stream { "left join" } else { "inner join" };
        let equals = if self.spec.nulls_equal { "IS NOT DISTINCT FROM" } else { "=" };
        let keys = self.spec.keys.iter().map(|(stream, table)| format!("{} {equals} {}", Sql(stream), Sql(table)));
        let all: Vec<String> = keys.chain(self.spec.condition.iter().map(|condition| Sql(condition).to_string())).collect();
        let on = if all.is_empty() { "every row".to_owned() } else { all.join(" AND ") };
        format!("{kind} on {on} with [{}]", self.spec.query)
    }
}
