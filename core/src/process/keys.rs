//! Keys: columns of the rows, bytes that compare as the columns do, and values of the function's type.

use super::codec::items;
use crate::error::{ErrorKind, Result, ResultExt};
use crate::state::canonical_key;
use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::row::{RowConverter, Rows, SortField};
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// A key's columns as bytes, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct KeyRef<'a>(pub(super) &'a [u8]);

/// A key that is kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key(Arc<[u8]>);

impl Key {
    pub(super) fn as_key(&self) -> KeyRef<'_> {
        KeyRef(&self.0)
    }
}

impl From<KeyRef<'_>> for Key {
    fn from(key: KeyRef<'_>) -> Self {
        Self(Arc::from(key.0))
    }
}

/// The keys of rows; those that are equal are one.
pub(super) struct EncodedKeys(Rows);

impl EncodedKeys {
    pub(super) fn iter(&self) -> impl Iterator<Item = KeyRef<'_>> {
        self.0.iter().map(|row| KeyRef(row.data()))
    }
}

/// Turns keys from one form into another.
pub(super) struct Keys {
    converter: RowConverter,
    schema: SchemaRef,
    stored: SchemaRef,
}

impl Keys {
    /// Keys of these columns, of which there is at least one, and which have other names in the state.
    pub(super) fn new(columns: &[Field], stored: &[&str]) -> Result<Self> {
        let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
        let converter = RowConverter::new(fields).or_error(ErrorKind::Config, || "a column of this type can't be a key".into())?;
        let nullable: Vec<Field> = columns.iter().map(|column| column.clone().with_nullable(true)).collect();
        let renamed = nullable.iter().zip(stored).map(|(field, name)| field.clone().with_name(*name));
        let stored = Arc::new(Schema::new(renamed.collect::<Vec<_>>()));
        Ok(Self { converter, schema: Arc::new(Schema::new(nullable)), stored })
    }

    /// The columns of the state.
    pub(super) fn stored(&self) -> &SchemaRef {
        &self.stored
    }

    /// The keys of rows.
    pub(super) fn encode(&self, columns: &[ArrayRef]) -> Result<EncodedKeys> {
        let columns = columns.iter().map(canonical_key).collect::<Result<Vec<_>>>()?;
        let rows = self.converter.convert_columns(&columns).or_error(ErrorKind::Internal, || "encoding keys".into())?;
        Ok(EncodedKeys(rows))
    }

    pub(super) fn columns<'a>(&self, keys: impl IntoIterator<Item = KeyRef<'a>>) -> Result<Vec<ArrayRef>> {
        let parser = self.converter.parser();
        let rows = keys.into_iter().map(|key| parser.parse(key.0));
        self.converter.convert_rows(rows).or_error(ErrorKind::Internal, || "decoding keys".into())
    }

    /// The keys of rows as the function has them.
    pub(super) fn typed<K: DeserializeOwned>(&self, columns: Vec<ArrayRef>) -> Result<Vec<K>> {
        let failed = || {
            let shown: Vec<String> = self.schema.fields().iter().map(|field| format!("'{}' {}", field.name(), field.data_type())).collect();
            format!("reading the key {} as {}; a key that can be null is an Option", shown.join(", "), std::any::type_name::<K>())
        };
        match columns.as_slice() {
            [column] => items(column, ErrorKind::BadData, failed),
            _ => {
                let rows = RecordBatch::try_new(Arc::clone(&self.schema), columns).or_error(ErrorKind::Internal, failed)?;
                serde_arrow::from_record_batch(&rows).or_error(ErrorKind::BadData, failed)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Float64Array;
    use arrow::datatypes::DataType;

    #[test]
    fn zeros_are_one_key_and_so_are_all_nans() {
        let keys = Keys::new(&[Field::new("k", DataType::Float64, true)], &["k"]).unwrap();
        let column: ArrayRef = Arc::new(Float64Array::from(vec![0.0, -0.0, f64::NAN, -f64::NAN]));
        let keys = keys.encode(&[column]).unwrap();
        let keys: Vec<KeyRef<'_>> = keys.iter().collect();
        assert!(keys[0] == keys[1] && keys[2] == keys[3] && keys[0] != keys[2]);
    }
}
