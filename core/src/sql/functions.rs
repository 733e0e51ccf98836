//! The functions of the language: DataFusion's, one of them [quicker](super::string_to_array), and those that read the batch's clock.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{Result as PlanResult, ScalarValue};
use datafusion_expr::{ColumnarValue, Expr, HigherOrderUDF, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use std::collections::BTreeMap;
use std::sync::Arc;

use super::string_to_array::StringToArray;
use crate::time::Timestamp;
use crate::window::window_functions;

/// What of the batch's trigger time a function gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Part {
    Time,
    Date,
    TimeOfDay,
}

/// A function whose value is the batch's trigger time: `now()`, `proc_time()` and their kin. It is replaced by that value once per batch,
/// before any row is looked at.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct BatchTime {
    name: &'static str,
    part: Part,
    signature: Signature,
}

const BATCH_TIME: [(&str, Part); 8] = [
    ("now", Part::Time),
    ("proc_time", Part::Time),
    ("current_timestamp", Part::Time),
    ("localtimestamp", Part::Time),
    ("current_date", Part::Date),
    ("today", Part::Date),
    ("current_time", Part::TimeOfDay),
    ("localtime", Part::TimeOfDay),
];

impl BatchTime {
    /// Volatile as far as the optimizer is concerned, or it would fold the value of planning time into the plan.
    fn function(name: &'static str, part: Part) -> ScalarUDF {
        ScalarUDF::from(Self { name, part, signature: Signature::nullary(Volatility::Volatile) })
    }

    /// The value in a batch.
    pub(crate) fn value(&self, trigger_time: Timestamp) -> ScalarValue {
        const DAY_US: i64 = 86_400_000_000;
        match self.part {
            Part::Time => ScalarValue::TimestampMicrosecond(Some(trigger_time.0), None),
            Part::Date => ScalarValue::Date32(Some(trigger_time.0.div_euclid(DAY_US) as i32)),
            Part::TimeOfDay => ScalarValue::Time64Microsecond(Some(trigger_time.0.rem_euclid(DAY_US))),
        }
    }
}

impl ScalarUDFImpl for BatchTime {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> PlanResult<DataType> {
        Ok(match self.part {
            Part::Time => Timestamp::DATA_TYPE,
            Part::Date => DataType::Date32,
            Part::TimeOfDay => DataType::Time64(TimeUnit::Microsecond),
        })
    }

    fn invoke_with_args(&self, _arguments: ScalarFunctionArgs) -> PlanResult<ColumnarValue> {
        datafusion_common::internal_err!("{}() was not replaced by the batch's time", self.name)
    }
}

/// The expression with the library's functions of the clock replaced by the batch's: those of a program in Rust are DataFusion's own.
pub(crate) fn on_batch_time(expression: Expr) -> Expr {
    let original = expression.clone();
    let replace = |part: Expr| {
        Ok(match &part {
            Expr::ScalarFunction(call) if call.func.inner().downcast_ref::<BatchTime>().is_none() => {
                match BATCH_TIME.iter().find(|(name, _)| *name == call.func.name()) {
                    Some((name, part)) => Transformed::yes(BatchTime::function(name, *part).call(Vec::new())),
                    None => Transformed::no(part),
                }
            }
            _ => Transformed::no(part),
        })
    };
    expression.transform(replace).map_or(original, |replaced| replaced.data)
}

/// The batch's trigger time: the processing time of all its rows.
pub fn proc_time() -> Expr {
    BatchTime::function("proc_time", Part::Time).call(Vec::new())
}

/// Whether an expression is the batch's trigger time.
pub(crate) fn is_batch_time(expression: &Expr) -> bool {
    let Expr::ScalarFunction(call) = expression else { return false };
    call.func.inner().downcast_ref::<BatchTime>().is_some_and(|function| function.part == Part::Time)
}

/// Whether a function gives the same value for the same arguments within a batch, and again when the batch is replayed.
pub(crate) fn is_repeatable(function: &ScalarUDF) -> bool {
    function.signature().volatility != Volatility::Volatile || function.inner().downcast_ref::<BatchTime>().is_some()
}

/// All scalar functions by name, aliases included.
pub(crate) fn scalar_functions() -> BTreeMap<String, Arc<ScalarUDF>> {
    let mut functions = BTreeMap::new();
    let library = datafusion_functions::all_default_functions().into_iter();
    let library = library.chain(datafusion_functions_nested::all_default_nested_functions());
    let own = StringToArray::function(datafusion_functions_nested::string::string_to_array_udf());
    for function in library.chain([Arc::new(own)]) {
        for alias in function.aliases() {
            functions.insert(alias.clone(), Arc::clone(&function));
        }
        functions.insert(function.name().to_owned(), function);
    }
    for function in window_functions() {
        functions.insert(function.name().to_owned(), Arc::new(function));
    }
    for (name, part) in BATCH_TIME {
        functions.insert(name.to_owned(), Arc::new(BatchTime::function(name, part)));
    }
    functions
}

/// All functions that take functions, by name.
pub(crate) fn higher_order_functions() -> BTreeMap<String, Arc<HigherOrderUDF>> {
    let named = |function: Arc<HigherOrderUDF>| (function.name().to_owned(), function);
    datafusion_functions_nested::all_default_higher_order_functions().into_iter().map(named).collect()
}
