//! Values of users' types as a column of state.
//!
//! A type whose columns can be told from it is a column of that type, which every reader of the checkpoint can show. Any other is JSON
//! text, which is readable too.

use super::finite;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_arrow::schema::{SchemaLike, TracingOptions};
use serde_arrow::utils::{Item, Items};
use std::sync::Arc;

/// The column's name while serde_arrow has it.
const ITEM: &str = "item";

/// How values of one type are written.
#[derive(Debug, Clone)]
pub(super) struct Codec {
    /// None is JSON text.
    field: Option<FieldRef>,
}

impl Codec {
    pub(super) fn of<T: DeserializeOwned>() -> Self {
        let options = TracingOptions::default().strings_as_large_utf8(false).sequence_as_large_list(false);
        let traced = Vec::<FieldRef>::from_type::<Item<T>>(options).ok();
        let field = traced.and_then(|fields| fields.into_iter().next()).filter(|field| is_plain(field.data_type()));
        Self { field: field.map(|field| Arc::new(field.as_ref().clone().with_name(ITEM).with_nullable(true))) }
    }

    /// What the column means, for a fingerprint.
    pub(super) fn shape(&self) -> String {
        self.field.as_ref().map_or_else(|| "JSON".to_owned(), |field| field.data_type().to_string())
    }

    pub(super) fn data_type(&self) -> DataType {
        self.field.as_ref().map_or(DataType::Utf8, |field| field.data_type().clone())
    }

    /// A column of values; null where there is none.
    pub(super) fn encode<T: Serialize>(&self, values: &[Option<&T>]) -> Result<ArrayRef> {
        let failed = || format!("a value of the type {} can't be stored", std::any::type_name::<T>());
        let Some(field) = &self.field else {
            let texts = values.iter().map(|value| value.map(text).transpose()).collect::<Result<StringArray>>()?;
            return Ok(Arc::new(texts));
        };
        let rows = serde_arrow::to_record_batch(std::slice::from_ref(field), &Items(values)).or_error(ErrorKind::Internal, failed)?;
        Ok(Arc::clone(rows.column(0)))
    }

    /// The values of a column.
    pub(super) fn decode<T: DeserializeOwned>(&self, column: &ArrayRef) -> Result<Vec<T>> {
        let failed = || format!("what is stored is no {}", std::any::type_name::<T>());
        if *column.data_type() != self.data_type() {
            return Err(Error::corrupt(format!("{}: it is a column of {}", failed(), column.data_type())));
        }
        if self.field.is_none() {
            let value = |text: Option<&str>| serde_json::from_str(text.unwrap_or("null"));
            // JSON says nothing of the type that wrote it, so a type that changed is seen here first.
            let wrong = || format!("{}; run the program that made the checkpoint, or give the state another name", failed());
            return column.as_string::<i32>().iter().map(value).collect::<Result<_, _>>().or_error(ErrorKind::Config, wrong);
        }
        items(column, ErrorKind::Corrupt, failed)
    }
}

/// A value as JSON text.
fn text<T: Serialize>(value: &T) -> Result<String> {
    let failed = || format!("a value of the type {} can't be stored", std::any::type_name::<T>());
    let way_out = || format!("{}; keep NaN and infinity out of it, or make it a struct or a list of plain numbers", failed());
    finite::check(value).or_error(ErrorKind::BadData, way_out)?;
    serde_json::to_string(value).or_error(ErrorKind::Internal, failed)
}

/// The values of a column that is of a type's own; the error's kind and message if they are not.
pub(super) fn items<T: DeserializeOwned>(column: &ArrayRef, kind: ErrorKind, failed: impl Fn() -> String) -> Result<Vec<T>> {
    let schema = Arc::new(Schema::new(vec![Field::new(ITEM, column.data_type().clone(), true)]));
    let rows = RecordBatch::try_new(schema, vec![Arc::clone(column)]).or_error(ErrorKind::Internal, &failed)?;
    let Items(values) = serde_arrow::from_record_batch::<Items<Vec<T>>>(&rows).or_error(kind, &failed)?;
    Ok(values)
}

/// Whether every reader of a checkpoint knows what to do with a type.
fn is_plain(data_type: &DataType) -> bool {
    match data_type {
        DataType::Boolean | DataType::Utf8 => true,
        DataType::List(item) => is_plain(item.data_type()),
        DataType::Struct(fields) => !fields.is_empty() && fields.iter().all(|field| is_plain(field.data_type())),
        other => other.is_numeric() && !matches!(other, DataType::Float16),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::Deserialize;
    use std::collections::BTreeMap;
    use std::fmt::Debug;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Visit {
        page: String,
        times: Vec<Option<i64>>,
        share: Option<f64>,
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    enum Phase {
        Open,
        Closed { at: u64 },
    }

    /// What is written is read back, and says what it is in so many words.
    fn survives<T: Serialize + DeserializeOwned + PartialEq + Debug>(shape: &str, values: Vec<T>) {
        let codec = Codec::of::<T>();
        assert!(codec.shape().contains(shape), "{}", codec.shape());
        let column = codec.encode(&values.iter().map(Some).collect::<Vec<_>>()).unwrap();
        assert_eq!(*column.data_type(), codec.data_type());
        assert_eq!(codec.decode::<T>(&column).unwrap(), values);
    }

    proptest! {
        // Each case is long columns of every shape.
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn values_survive_their_column(
            numbers: Vec<i64>, words: Vec<String>, shares: Vec<Option<i32>>, named: Vec<BTreeMap<String, u64>>, pairs: Vec<(bool, u8)>,
            pages: Vec<String>,
        ) {
            let visit = |page: &String| Visit { page: page.clone(), times: shares.iter().map(|t| t.map(i64::from)).collect(), share: None };
            survives("Struct", pages.iter().map(visit).collect());
            survives("Int64", numbers.clone());
            survives("Utf8", words);
            survives("Int32", shares.clone());
            survives("JSON", named);
            survives("Struct", pairs);
            survives("List", vec![numbers]);
        }
    }

    #[test]
    fn types_that_columns_cannot_tell_are_json() {
        survives("JSON", vec![Phase::Open, Phase::Closed { at: 7 }]);
        survives("JSON", vec![chrono::NaiveDate::MIN, chrono::NaiveDate::MAX]);
        survives("JSON", vec![i128::from(i64::MAX), -1]);
        let column = Codec::of::<Phase>().encode(&[Some(&Phase::Closed { at: 7 }), None]).unwrap();
        assert_eq!(column.as_string::<i32>().value(0), r#"{"Closed":{"at":7}}"#);
    }

    #[test]
    fn numbers_that_json_has_not_are_refused_before_they_are_stored() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        enum Reading {
            None,
            One(f64),
            Two(f64, f32),
            Named { low: Option<f64>, all: Vec<(u8, f64)> },
            By(BTreeMap<String, f32>),
        }
        let refused = |value: Reading| {
            let error = Codec::of::<Reading>().encode(&[Some(&Reading::None), Some(&value)]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BadData, "{value:?}: {error}");
            assert!(error.to_string().contains("keep NaN and infinity out"), "{error}");
        };
        for wrong in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            refused(Reading::One(wrong));
            refused(Reading::Two(0.0, wrong as f32));
            refused(Reading::Named { low: Some(wrong), all: vec![] });
            refused(Reading::Named { low: None, all: vec![(1, 0.5), (2, wrong)] });
            refused(Reading::By(BTreeMap::from([("a".into(), wrong as f32)])));
        }
        let named = Reading::Named { low: None, all: vec![(1, f64::MAX), (2, -0.0)] };
        survives("JSON", vec![Reading::None, Reading::One(0.1), Reading::Two(f64::MIN_POSITIVE, f32::MIN), named]);
    }

    #[test]
    fn a_column_of_its_own_holds_every_number() {
        let column = Codec::of::<Vec<f64>>().encode(&[Some(&vec![f64::NAN, f64::NEG_INFINITY])]).unwrap();
        let numbers = Codec::of::<Vec<f64>>().decode::<Vec<f64>>(&column).unwrap().remove(0);
        assert!(numbers[0].is_nan() && numbers[1] == f64::NEG_INFINITY);
    }

    #[test]
    fn a_type_that_changed_is_said() {
        let stored = Codec::of::<Phase>().encode(&[Some(&Phase::Open)]).unwrap();
        let error = Codec::of::<BTreeMap<String, u64>>().decode::<BTreeMap<String, u64>>(&stored).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    }
}
