//! DataFusion's errors in planning, in the words of this project.

use crate::error::{Error, plain};
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
    let text = root_words(cause);
    no_such_call(&text).unwrap_or(text)
}

fn root_words(cause: &DataFusionError) -> String {
    match cause.find_root() {
        DataFusionError::SchemaError(cause, _) => schema_error(cause),
        DataFusionError::SQL(cause, _) => match cause.as_ref() {
            ParserError::TokenizerError(message) | ParserError::ParserError(message) => message.clone(),
            ParserError::RecursionLimitExceeded => "an expression is nested too deeply; take it apart with subqueries in FROM".into(),
        },
        DataFusionError::Plan(message) | DataFusionError::Execution(message) | DataFusionError::NotImplemented(message) => message.clone(),
        DataFusionError::Collection(causes) => causes.iter().map(words).collect::<Vec<_>>().join("; "),
        other => plain(&other.strip_backtrace()),
    }
}

/// Signatures that are listed of a function.
const SIGNATURES: usize = 5;

/// What is said of a call whose arguments fit no signature: DataFusion tells how it has tried each.
fn no_such_call(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("No function matches the given name and argument types '")?;
    let (call, rest) = rest.split_once("'. ")?;
    let (_, candidates) = rest.split_once("Candidate functions:")?;
    let known: Vec<&str> = candidates.lines().map(str::trim).filter(|known| !known.is_empty() && !known.contains("UserDefined")).collect();
    if known.is_empty() {
        return Some(format!("{call}: {}", refused_by_the_function(text)));
    }
    let more = if known.len() > SIGNATURES { " ..." } else { "" };
    let shown = known[..known.len().min(SIGNATURES)].join(", ");
    Some(format!("there is no {call}; there are: {shown}{more}; CAST the arguments"))
}

/// What a function says that judges its arguments by itself.
fn refused_by_the_function(text: &str) -> &str {
    let said = text.split_once("user-defined coercion failed with: ").and_then(|(_, said)| said.split_once(". No function matches"));
    let Some((said, _)) = said else { return "it takes no arguments of these types; CAST them" };
    ["Error during planning: ", "Execution error: "].iter().fold(said, |said, kind| said.strip_prefix(kind).unwrap_or(said))
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
