//! One state of a function: for each key the entries that it has, each at a place of its own. A value has one place, a list has numbers, a
//! map its keys.
//!
//! What the checkpoint holds: the key's columns, the place, the value, and when the entry expires if the state has a time to live. An entry
//! never expires earlier for being written again by an older row. It can for being removed and made anew, so a row may expire before one
//! that it hides: what has expired is therefore removed from the checkpoint too, and not left to the watermark ([`StateTable::expires`]).

use super::codec::Codec;
use super::keys::{Key, Keys};
use super::{TimeDomain, Ttl};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::state::{StateLayer, StateTable};
use crate::time::{Timestamp, Watermark};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{Field, Schema, TimestampMicrosecondType};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::any::Any;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// A type of users that a state can hold.
pub trait Stored: Serialize + DeserializeOwned + Send + 'static {}

impl<T: Serialize + DeserializeOwned + Send + 'static> Stored for T {}

/// What time it is for a row or a timer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    /// The row's or the timer's own; none if it is not known.
    pub(super) event_time: Option<Timestamp>,
    /// The batch's.
    pub(super) trigger_time: Timestamp,
    pub(super) watermark: Watermark,
}

impl Moment {
    fn of(&self, domain: TimeDomain) -> Option<i64> {
        match domain {
            TimeDomain::EventTime => self.event_time.map(|time| time.0),
            TimeDomain::ProcessingTime => Some(self.trigger_time.0),
        }
    }
}

/// The places that a key has in a state.
pub(super) enum Places<P> {
    /// This one.
    One(P),
    /// As many as there are values of a column.
    Column(&'static str, Codec),
}

pub(super) struct Spec {
    pub(super) name: String,
    /// What kind of state it is, for messages and fingerprints.
    pub(super) kind: &'static str,
    pub(super) ttl: Option<Ttl>,
}

struct Entry<T> {
    value: T,
    /// None lives until it is removed.
    expires: Option<i64>,
}

/// See the [module](self).
pub(super) struct Table<P, T> {
    spec: Arc<Spec>,
    places: Places<P>,
    codec: Codec,
    entries: HashMap<Key, BTreeMap<P, Entry<T>>>,
    /// Entries that changed since the last checkpoint, and whether that holds them.
    changed: BTreeMap<(Key, P), bool>,
    /// Entries by when they expire.
    by_expiry: BTreeSet<(i64, Key, P)>,
}

impl<P: Stored + Ord + Clone, T: Stored> Table<P, T> {
    pub(super) fn new(spec: Arc<Spec>, places: Places<P>) -> Self {
        let codec = Codec::of::<T>();
        Self { spec, places, codec, entries: HashMap::new(), changed: BTreeMap::new(), by_expiry: BTreeSet::new() }
    }

    fn is_live(&self, entry: &Entry<T>, now: &Moment) -> bool {
        let now = self.spec.ttl.and_then(|ttl| now.of(ttl.domain));
        !matches!((now, entry.expires), (Some(now), Some(expires)) if expires <= now)
    }

    /// The live entries of a key, in the order of their places.
    pub(super) fn entries<'a>(&'a self, key: &Key, now: &'a Moment) -> impl Iterator<Item = (&'a P, &'a T)> + use<'a, P, T> {
        let of_key = self.entries.get(key).into_iter().flatten();
        of_key.filter(|(_, entry)| self.is_live(entry, now)).map(|(place, entry)| (place, &entry.value))
    }

    pub(super) fn get(&self, key: &Key, place: &P, now: &Moment) -> Option<&T> {
        let entry = self.entries.get(key)?.get(place)?;
        self.is_live(entry, now).then_some(&entry.value)
    }

    /// The last place of a key, expired ones included.
    pub(super) fn last_place(&self, key: &Key) -> Option<&P> {
        self.entries.get(key)?.last_key_value().map(|(place, _)| place)
    }

    pub(super) fn insert(&mut self, key: &Key, place: P, value: T, now: &Moment) -> Result<()> {
        let expiry = match self.spec.ttl {
            None => None,
            Some(ttl) => Some(now.of(ttl.domain).ok_or_else(|| self.no_time())?.saturating_add(ttl.micros)),
        };
        let earlier = self.take(key, &place);
        self.changed.entry((key.clone(), place.clone())).or_insert(earlier.is_some());
        let expires = expiry.max(earlier.and_then(|entry| entry.expires));
        self.put(key, place, Entry { value, expires });
        Ok(())
    }

    fn no_time(&self) -> Error {
        Error::bad_data(format!(
            "the state '{}' has a time to live by event time, and is written where none is known; give the row an event time",
            self.spec.name
        ))
    }

    /// Removes an entry; returns its value if it was live.
    pub(super) fn remove(&mut self, key: &Key, place: &P, now: &Moment) -> Option<T> {
        let entry = self.take(key, place)?;
        self.changed.entry((key.clone(), place.clone())).or_insert(true);
        self.is_live(&entry, now).then_some(entry.value)
    }

    pub(super) fn clear(&mut self, key: &Key, now: &Moment) {
        let places: Vec<P> = self.entries.get(key).into_iter().flat_map(BTreeMap::keys).cloned().collect();
        for place in places {
            self.remove(key, &place, now);
        }
    }

    fn put(&mut self, key: &Key, place: P, entry: Entry<T>) {
        if let Some(expires) = entry.expires {
            self.by_expiry.insert((expires, key.clone(), place.clone()));
        }
        self.entries.entry(key.clone()).or_default().insert(place, entry);
    }

    fn take(&mut self, key: &Key, place: &P) -> Option<Entry<T>> {
        let of_key = self.entries.get_mut(key)?;
        let entry = of_key.remove(place)?;
        if of_key.is_empty() {
            self.entries.remove(key);
        }
        if let Some(expires) = entry.expires {
            self.by_expiry.remove(&(expires, key.clone(), place.clone()));
        }
        Some(entry)
    }

    fn table(&self, keys: &Keys) -> StateTable {
        let key_columns = keys.stored().fields().len() + usize::from(matches!(self.places, Places::Column(..)));
        StateTable::new(&self.spec.name, key_columns)
    }

    fn rows(&self, keys: &Keys, changed: &[(Key, P)]) -> Result<RecordBatch> {
        let mut columns = keys.columns(changed.iter().map(|(key, _)| key))?;
        let mut fields: Vec<Field> = keys.stored().fields().iter().map(|field| field.as_ref().clone()).collect();
        let mut add = |name: &str, column: ArrayRef| {
            fields.push(Field::new(free_name(keys, name), column.data_type().clone(), true));
            columns.push(column);
        };
        if let Places::Column(name, codec) = &self.places {
            add(name, codec.encode(&changed.iter().map(|(_, place)| Some(place)).collect::<Vec<_>>())?);
        }
        let entry = |(key, place): &(Key, P)| self.entries.get(key).and_then(|of_key| of_key.get(place));
        let values: Vec<Option<&T>> = changed.iter().map(|changed| entry(changed).map(|entry| &entry.value)).collect();
        add("value", self.codec.encode(&values)?);
        if self.spec.ttl.is_some() {
            let expires = |changed: &(Key, P)| entry(changed).and_then(|entry| entry.expires);
            add("expires", Arc::new(changed.iter().map(expires).collect::<TimestampMicrosecondArray>()));
        }
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).or_error(ErrorKind::Internal, || self.context("writing"))
    }

    fn context(&self, what: &str) -> String {
        format!("{what} the state '{}'", self.spec.name)
    }

    fn restore_rows(&mut self, rows: &RecordBatch, keys: &Keys) -> Result<()> {
        let width = keys.stored().fields().len();
        let (mut columns, table) = (rows.columns()[width..].iter(), self.table(keys));
        let mut next = || columns.next().ok_or_else(|| Error::corrupt(format!("the state '{}' lacks columns", table.name)));
        let places = match &self.places {
            Places::One(place) => vec![place.clone(); rows.num_rows()],
            Places::Column(_, codec) => codec.decode(next()?)?,
        };
        let values: Vec<T> = self.codec.decode(next()?)?;
        let expires: Vec<Option<i64>> = match self.spec.ttl {
            None => vec![None; rows.num_rows()],
            Some(_) => {
                let times = next()?.as_primitive_opt::<TimestampMicrosecondType>();
                times.ok_or_else(|| Error::corrupt(format!("the state '{}' has no times of expiry", table.name)))?.iter().collect()
            }
        };
        let keys = keys.encode(&rows.columns()[..width])?;
        for (((key, place), value), expires) in keys.iter().zip(places).zip(values).zip(expires) {
            self.put(key, place, Entry { value, expires });
        }
        Ok(())
    }
}

/// A name for a column beside the key's.
pub(super) fn free_name(keys: &Keys, wanted: &str) -> String {
    let mut name = wanted.to_owned();
    while keys.stored().field_with_name(&name).is_ok() {
        name.insert(0, '_');
    }
    name
}

/// A table of whatever types.
pub(super) trait AnyTable: Any + Send {
    fn name(&self) -> &str;

    /// What the stored rows mean, for a fingerprint.
    fn shape(&self) -> serde_json::Value;

    /// Forgets what has expired.
    fn forget(&mut self, now: &Moment);

    /// The processing time at which the next entry expires.
    fn next_timer(&self) -> Option<Timestamp>;

    /// What changed since the last call.
    fn checkpoint(&mut self, keys: &Keys) -> Result<Option<StateLayer>>;

    fn restore(&mut self, layer: &StateLayer, keys: &Keys) -> Result<()>;
}

impl<P: Stored + Ord + Clone, T: Stored> AnyTable for Table<P, T> {
    fn name(&self) -> &str {
        &self.spec.name
    }

    fn shape(&self) -> serde_json::Value {
        let mut shape = json!({ "kind": self.spec.kind, "value": self.codec.shape() });
        if let Places::Column(name, codec) = &self.places {
            shape[name] = json!(codec.shape());
        }
        if let Some(ttl) = self.spec.ttl {
            shape["ttl"] = json!(ttl.domain.to_string());
        }
        shape
    }

    fn forget(&mut self, now: &Moment) {
        let Some(ttl) = self.spec.ttl else { return };
        let has_expired = |expires: i64| match ttl.domain {
            TimeDomain::EventTime => Watermark::At(Timestamp(expires)) <= now.watermark,
            TimeDomain::ProcessingTime => expires <= now.trigger_time.0,
        };
        while let Some((_, key, place)) = self.by_expiry.first().filter(|(expires, ..)| has_expired(*expires)).cloned() {
            self.remove(&key, &place, now);
        }
    }

    fn next_timer(&self) -> Option<Timestamp> {
        self.spec.ttl.filter(|ttl| ttl.domain == TimeDomain::ProcessingTime)?;
        self.by_expiry.first().map(|(expires, ..)| Timestamp(*expires))
    }

    fn checkpoint(&mut self, keys: &Keys) -> Result<Option<StateLayer>> {
        let is_there = |(key, place): &(Key, P)| self.entries.get(key).is_some_and(|of_key| of_key.contains_key(place));
        let worth_saying = |(changed, stored): (&(Key, P), &bool)| (*stored || is_there(changed)).then(|| changed.clone());
        let changed: Vec<(Key, P)> = self.changed.iter().filter_map(worth_saying).collect();
        if changed.is_empty() {
            self.changed.clear();
            return Ok(None);
        }
        let removed: BooleanArray = changed.iter().map(|changed| Some(!is_there(changed))).collect();
        let rows = self.rows(keys, &changed)?;
        self.changed.clear();
        Ok(Some(StateLayer { table: self.table(keys), rows, removed }))
    }

    fn restore(&mut self, layer: &StateLayer, keys: &Keys) -> Result<()> {
        if layer.table != self.table(keys) {
            return Err(Error::corrupt(format!("the state '{}' is of another shape", self.spec.name)));
        }
        self.restore_rows(&layer.rows, keys).map_err(|error| error.within(self.context("reading")))
    }
}
