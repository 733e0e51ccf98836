//! DataFusion's errors in planning, in the words of this project.

use crate::error::Error;
use datafusion_common::{Column, DataFusionError, SchemaError};
use datafusion_sql::sqlparser::parser::ParserError;

/// An error of planning.
pub(crate) fn config_error(cause: DataFusionError) -> Error {
    Error::config(words(&cause))
}

/// Whether two columns have one name.
pub(super) fn is_about_names(cause: &DataFusionError) -> bool {
    let DataFusionError::SchemaError(cause, _) = cause.find_root() else { return false };
    !matches!(cause.as_ref(), SchemaError::FieldNotFound { .. })
}

fn words(cause: &DataFusionError) -> String {
    match cause.find_root() {
        DataFusionError::SchemaError(cause, _) => schema_error(cause),
        DataFusionError::SQL(cause, _) => match cause.as_ref() {
            ParserError::TokenizerError(message) | ParserError::ParserError(message) => message.clone(),
            ParserError::RecursionLimitExceeded => "an expression is nested too deeply; take it apart with subqueries in FROM".into(),
        },
        DataFusionError::Plan(message) | DataFusionError::Execution(message) | DataFusionError::NotImplemented(message) => message.clone(),
        DataFusionError::Collection(causes) => causes.iter().map(words).collect::<Vec<_>>().join("; "),
        other => other.strip_backtrace(),
    }
}

fn schema_error(cause: &SchemaError) -> String {
    match cause {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let known: Vec<String> = valid_fields.iter().map(Column::quoted_flat_name).collect();
            let cased = valid_fields.iter().find(|known| known.name != field.name && known.name.eq_ignore_ascii_case(&field.name));
            let hint = cased.map_or_else(String::new, |known| format!(" (in double quotes a name keeps its case: \"{}\")", known.name));
            format!("there is no column '{}'{hint}; there are: {}", field.flat_name(), known.join(", "))
        }
        SchemaError::AmbiguousReference { field } if field.relation.is_none() => {
            format!("'{}' is a column of several tables; put the table's name before it", field.name)
        }
        SchemaError::AmbiguousReference { field } => twice(&field.name),
        SchemaError::DuplicateQualifiedField { name, .. } | SchemaError::DuplicateUnqualifiedField { name } => twice(name),
    }
}

/// What is said of two columns of one name.
pub(super) fn twice(name: &str) -> String {
    format!("two columns are called '{name}'; give one another name with AS")
}
