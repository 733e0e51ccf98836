//! UNNEST: a row for each element of a list, columns for the fields of a struct.
//!
//! Semantics are DataFusion's. Lists that are unnested side by side go in step, the shorter ones padded with nulls. A row whose lists are
//! all empty or null vanishes, unless nulls are preserved: then a null list counts as one null. A list of lists that is unnested at depth 2
//! is taken apart level by level, the deepest request first, and joins the others at the level that they share.

use crate::batch::BatchContext;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::id::OperatorId;
use crate::operator::Transform;
use arrow::array::{Array, ArrayRef, AsArray, LargeListArray, RecordBatch, RecordBatchOptions, UInt64Array};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion_common::NullHandling;
use std::sync::Arc;

/// See the [module](self).
#[derive(Debug, Clone)]
pub struct Unnest {
    id: Option<OperatorId>,
    lists: Vec<ListColumn>,
    structs: Vec<usize>,
    nulls: NullHandling,
    schema: SchemaRef,
}

/// A request to unnest a column of the input.
#[derive(Debug, Clone, Copy)]
struct ListColumn {
    input: usize,
    depth: usize,
}

impl Unnest {
    /// The step of a logical node, whose output has this schema.
    ///
    /// # Errors
    /// `Config` if the node asks for nothing.
    pub fn try_new(node: &datafusion_expr::Unnest, schema: SchemaRef) -> Result<Self> {
        let lists: Vec<ListColumn> =
            node.list_type_columns.iter().map(|(input, list)| ListColumn { input: *input, depth: list.depth }).collect();
        if lists.is_empty() && node.struct_type_columns.is_empty() {
            return Err(Error::config("UNNEST of no list and no struct"));
        }
        let structs = node.struct_type_columns.clone();
        Ok(Self { id: None, lists, structs, nulls: node.options.null_handling, schema })
    }

    /// The same step, under a name for messages.
    #[must_use]
    pub fn named(mut self, id: &OperatorId) -> Self {
        self.id = Some(id.clone());
        self
    }

    /// All columns that are still needed after the lists were unnested, and the unnested lists in the order of the requests.
    fn unnest_lists(&self, rows: &RecordBatch) -> Result<(Vec<ArrayRef>, Vec<ArrayRef>)> {
        let mut columns = rows.columns().to_vec();
        let mut unnested: Vec<Option<ArrayRef>> = vec![None; self.lists.len()];
        let deepest = self.lists.iter().map(|list| list.depth).max().unwrap_or(0);
        for level in (1..=deepest).rev() {
            let mut current = Vec::new();
            for (request, list) in self.lists.iter().enumerate().filter(|(_, list)| list.depth >= level) {
                let array = unnested[request].as_ref().unwrap_or(&columns[list.input]);
                current.push((request, large_list(array)?));
            }
            let lengths = self.lengths(&current);
            // Behind the last level a list itself is needed no more.
            let is_needed = |input: usize| level > 1 || self.structs.contains(&input) || self.lists.iter().all(|list| list.input != input);
            for (_, column) in columns.iter_mut().enumerate().filter(|(input, _)| is_needed(*input)) {
                *column = repeat(column, &lengths)?;
            }
            for (request, list) in current {
                unnested[request] = Some(elements(&list, &lengths)?);
            }
        }
        let missing = || Error::internal("a list was not unnested");
        Ok((columns, unnested.into_iter().map(|list| list.ok_or_else(missing)).collect::<Result<_>>()?))
    }

    /// Into how many rows each row turns.
    fn lengths(&self, lists: &[(usize, LargeListArray)]) -> Vec<usize> {
        let rows = lists.first().map_or(0, |(_, list)| list.len());
        let for_null = usize::from(self.nulls != NullHandling::Drop);
        let for_empty = usize::from(self.nulls == NullHandling::PreserveAndExpandEmpty);
        let length = |list: &LargeListArray, row: usize| {
            if list.is_null(row) { for_null } else { (list.value_length(row) as usize).max(for_empty) }
        };
        (0..rows).map(|row| lists.iter().map(|(_, list)| length(list, row)).max().unwrap_or(0)).collect()
    }
}

/// Lists of every kind, with offsets of one width; the elements are not copied.
fn large_list(array: &ArrayRef) -> Result<LargeListArray> {
    let element = match array.data_type() {
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => Arc::clone(field),
        DataType::ListView(field) | DataType::LargeListView(field) => Arc::clone(field),
        other => return Err(Error::internal(format!("UNNEST of {other}"))),
    };
    let element: Arc<Field> = element;
    let list = cast(array, &DataType::LargeList(element)).or_error(ErrorKind::Internal, || "unnesting a list".into())?;
    Ok(list.as_list::<i64>().clone())
}

/// Each value as often as its row is needed.
fn repeat(column: &ArrayRef, lengths: &[usize]) -> Result<ArrayRef> {
    let indices = (0u64..).zip(lengths).flat_map(|(row, &length)| std::iter::repeat_n(row, length));
    take(column, &UInt64Array::from_iter_values(indices), None).or_error(ErrorKind::Internal, || "unnesting a list".into())
}

/// The elements of each list, padded with nulls to its row's length.
fn elements(list: &LargeListArray, lengths: &[usize]) -> Result<ArrayRef> {
    let offsets = list.value_offsets();
    if list.null_count() == 0 && lengths.iter().enumerate().all(|(row, &length)| list.value_length(row) as usize == length) {
        let (first, end) = (offsets[0] as usize, offsets[list.len()] as usize);
        return Ok(list.values().slice(first, end - first));
    }
    let mut indices: Vec<Option<u64>> = Vec::with_capacity(lengths.iter().sum());
    for (row, &length) in lengths.iter().enumerate() {
        let own = if list.is_null(row) { 0 } else { list.value_length(row) as usize };
        let first = offsets[row] as u64;
        indices.extend((0..own as u64).map(|element| Some(first + element)));
        indices.extend(std::iter::repeat_n(None, length - own));
    }
    take(list.values(), &UInt64Array::from(indices), None).or_error(ErrorKind::Internal, || "unnesting a list".into())
}

/// The fields of a struct, null where the struct is.
fn fields(column: &ArrayRef) -> Result<Vec<ArrayRef>> {
    let column = column.as_struct_opt().ok_or_else(|| Error::internal(format!("UNNEST of {}", column.data_type())))?;
    if column.null_count() == 0 {
        return Ok(column.columns().to_vec());
    }
    let indices: UInt64Array = (0..column.len()).map(|row| column.is_valid(row).then_some(row as u64)).collect();
    let masked = |field: &ArrayRef| take(field, &indices, None).or_error(ErrorKind::Internal, || "unnesting a struct".into());
    column.columns().iter().map(masked).collect()
}

impl Transform for Unnest {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn for_batch(self: Arc<Self>, _batch: &BatchContext) -> Result<Arc<dyn Transform>> {
        Ok(self)
    }

    fn apply(&self, rows: RecordBatch) -> Result<RecordBatch> {
        let (columns, lists) = self.unnest_lists(&rows)?;
        let mut output = Vec::with_capacity(self.schema.fields().len());
        for (input, column) in columns.iter().enumerate() {
            let requested = self.lists.iter().zip(&lists).filter(|(list, _)| list.input == input).map(|(_, array)| Arc::clone(array));
            let before = output.len();
            output.extend(requested);
            if self.structs.contains(&input) {
                output.extend(fields(column)?);
            } else if output.len() == before {
                output.push(Arc::clone(column));
            }
        }
        let count = output.first().map_or(0, |column| column.len());
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let id = self.id.as_ref().map_or("unnest", |id| id.as_str());
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), output, &options)
            .or_error(ErrorKind::Internal, || format!("the output of operator '{id}'"))
    }

    fn describe(&self) -> String {
        let columns: Vec<&str> = self.schema.fields().iter().map(|field| field.name().as_str()).collect();
        format!("unnest -> [{}]", columns.join(", "))
    }
}
