//! Which columns a type of rows reads, asked of its `Deserialize`: a struct names its fields before it takes any.

use serde::de::{self, DeserializeOwned, Deserializer, Visitor};
use serde::forward_to_deserialize_any;
use std::fmt;

/// The names that a type reads its fields by, aliases included; none if it may read whatever there is.
pub(super) fn fields_of<T: DeserializeOwned>() -> Option<&'static [&'static str]> {
    T::deserialize(Ask).err().and_then(|Asked(fields)| fields)
}

/// Holds nothing: it fails with what it was asked for.
struct Ask;

#[derive(Debug)]
struct Asked(Option<&'static [&'static str]>);

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("there is no value, only the question which fields it has")
    }
}

impl std::error::Error for Asked {}

impl de::Error for Asked {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self(None)
    }
}

impl<'de> Deserializer<'de> for Ask {
    type Error = Asked;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Asked> {
        Err(Asked(None))
    }

    fn deserialize_struct<V: Visitor<'de>>(self, _: &'static str, fields: &'static [&'static str], _: V) -> Result<V::Value, Asked> {
        Err(Asked(Some(fields)))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Asked> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct seq tuple tuple_struct
        map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::collections::BTreeMap;

    #[derive(Deserialize)]
    struct Bid {
        #[serde(rename = "price", alias = "cost")]
        _price: i64,
        #[serde(default)]
        _note: Option<String>,
        #[serde(skip)]
        _seen: bool,
    }

    #[derive(Deserialize)]
    struct Wrapped(#[expect(dead_code)] Bid);

    #[derive(Deserialize)]
    struct Rest {
        #[serde(flatten)]
        _rest: BTreeMap<String, i64>,
    }

    #[test]
    fn a_struct_names_its_fields_and_their_aliases() {
        let sorted = |fields: Option<&[&'static str]>| {
            let mut fields = fields.unwrap().to_vec();
            fields.sort_unstable();
            fields
        };
        assert_eq!(sorted(fields_of::<Bid>()), ["_note", "cost", "price"]);
        assert_eq!(sorted(fields_of::<Wrapped>()), ["_note", "cost", "price"]);
    }

    #[test]
    fn what_may_read_any_column_says_so() {
        assert_eq!(fields_of::<Rest>(), None);
        assert_eq!(fields_of::<BTreeMap<String, i64>>(), None);
        assert_eq!(fields_of::<(i64, String)>(), None);
        assert_eq!(fields_of::<Option<Bid>>(), None);
        assert_eq!(fields_of::<serde_json::Value>(), None);
    }
}
