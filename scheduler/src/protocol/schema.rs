//! A source's columns as a record keeps them: readable for people, exact for the program.

use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::io::Cursor;
use waterclock_core::{ErrorKind, Result, ResultExt};

/// A schema in a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredSchema {
    /// The columns in words: name and type.
    pub columns: Vec<String>,
    /// The schema as an Arrow IPC stream without rows, as base64. This is what counts.
    pub arrow: String,
}

impl StoredSchema {
    /// The schema in the form of a record.
    pub fn of(schema: &Schema) -> Result<Self> {
        let failed = || "encoding a schema".to_owned();
        let mut bytes = Vec::new();
        StreamWriter::try_new(&mut bytes, schema).and_then(|mut writer| writer.finish()).or_error(ErrorKind::Internal, failed)?;
        let columns = schema.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect();
        Ok(Self { columns, arrow: STANDARD.encode(bytes) })
    }

    /// The schema.
    ///
    /// # Errors
    /// `Corrupt` if it can't be read.
    pub fn schema(&self) -> Result<SchemaRef> {
        let failed = || "reading a stored schema".to_owned();
        let bytes = STANDARD.decode(&self.arrow).or_error(ErrorKind::Corrupt, failed)?;
        Ok(StreamReader::try_new(Cursor::new(bytes), None).or_error(ErrorKind::Corrupt, failed)?.schema())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{DataType, Field, TimeUnit};
    use std::sync::Arc;

    #[test]
    fn a_nested_schema_survives_being_stored() {
        let item = Arc::new(Field::new("item", DataType::Timestamp(TimeUnit::Microsecond, None), true));
        let nested = DataType::Struct(vec![Field::new("x", DataType::List(item), false)].into());
        let schema = Schema::new(vec![Field::new("a", DataType::Int64, true), Field::new("n", nested, true)]);
        let stored = StoredSchema::of(&schema).unwrap();
        assert_eq!(stored.schema().unwrap().as_ref(), &schema);
        assert_eq!(stored.columns[0], "a Int64");
    }
}
