//! NOT NULL of a sink's column: a null on its way there fails the batch.

use arrow::array::Array;
use arrow::datatypes::DataType;
use datafusion_common::{Result as PlanResult, exec_err};
use datafusion_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

/// Gives its argument, which must not be null.
#[derive(Debug, PartialEq, Eq, Hash)]
struct NotNull {
    column: String,
    signature: Signature,
}

/// The expression, as a value for a column that takes no null.
pub(super) fn not_null(value: Expr, column: &str) -> Expr {
    let function = NotNull { column: column.to_owned(), signature: Signature::any(1, Volatility::Immutable) };
    ScalarUDF::from(function).call(vec![value])
}

impl ScalarUDFImpl for NotNull {
    fn name(&self) -> &str {
        "not_null"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> PlanResult<DataType> {
        Ok(arguments[0].clone())
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> PlanResult<ColumnarValue> {
        let values = &arguments.args[0];
        let has_nulls = match values {
            ColumnarValue::Array(array) => array.logical_null_count() > 0,
            ColumnarValue::Scalar(value) => arguments.number_rows > 0 && value.is_null(),
        };
        match has_nulls {
            true => exec_err!(
                "a null for the column '{0}', which is NOT NULL; leave such rows out with WHERE {0} IS NOT NULL, or give them a value with coalesce",
                self.column
            ),
            false => Ok(values.clone()),
        }
    }
}
