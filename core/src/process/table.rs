//! One state of a function: for each key the entries that it has, each at a place of its own. A value has one place, a list has numbers, a
//! map its keys. [`Tracked`] has them; here is what they mean: how long they live, and what they are in a checkpoint.
//!
//! What the checkpoint holds: the key's columns, the place, the value, and when the entry expires if the state has a time to live. An entry
//! never expires earlier for being written again by an older row. It can for being removed and made anew, so a row may expire before one
//! that it hides: what has expired is therefore removed from the checkpoint too, and not left to the watermark ([`StateTable::expires`]).

use super::codec::Codec;
use super::entries::Entries;
use super::keys::{KeyRef, Keys};
use super::tracked::{Entry, Slot, Tracked};
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
use std::collections::BTreeSet;
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

/// See the [module](self).
pub(super) struct Table<P, T> {
    spec: Arc<Spec>,
    places: Places<P>,
    codec: Codec,
    entries: Tracked<P, T>,
    /// Entries by when they expire.
    by_expiry: BTreeSet<(i64, Slot, P)>,
}

impl<P: Stored + Ord + Clone, T: Stored> Table<P, T> {
    pub(super) fn new(spec: Arc<Spec>, places: Places<P>) -> Self {
        let codec = Codec::of::<T>();
        Self { spec, places, codec, entries: Tracked::new(), by_expiry: BTreeSet::new() }
    }

    fn is_live(&self, entry: &Entry<T>, now: &Moment) -> bool {
        let now = self.spec.ttl.and_then(|ttl| now.of(ttl.domain));
        !matches!((now, entry.expires), (Some(now), Some(expires)) if expires <= now)
    }

    /// All entries of a key, expired ones included.
    fn of_key(&self, key: KeyRef<'_>) -> Option<&Entries<P, Entry<T>>> {
        self.entries.find(key).map(|slot| self.entries.of(slot))
    }

    /// The live entries of a key, in the order of their places.
    pub(super) fn entries<'a>(&'a self, key: KeyRef<'_>, now: &'a Moment) -> impl Iterator<Item = (&'a P, &'a T)> + use<'a, P, T> {
        let of_key = self.of_key(key).into_iter().flat_map(Entries::iter);
        of_key.filter(|(_, entry)| self.is_live(entry, now)).map(|(place, entry)| (place, &entry.value))
    }

    pub(super) fn get(&self, key: KeyRef<'_>, place: &P, now: &Moment) -> Option<&T> {
        let entry = self.of_key(key)?.get(place)?;
        self.is_live(entry, now).then_some(&entry.value)
    }

    /// The last place of a key, expired ones included.
    pub(super) fn last_place(&self, key: KeyRef<'_>) -> Option<&P> {
        self.of_key(key)?.last_place()
    }

    pub(super) fn insert(&mut self, key: KeyRef<'_>, place: P, value: T, now: &Moment) -> Result<()> {
        let expiry = match self.spec.ttl {
            None => None,
            Some(ttl) => Some(now.of(ttl.domain).ok_or_else(|| self.no_time())?.saturating_add(ttl.micros)),
        };
        let slot = self.entries.slot(key)?;
        let expires = expiry.map(|expiry| self.prolong(slot, &place, expiry));
        self.entries.set(slot, place, value, expires);
        Ok(())
    }

    fn no_time(&self) -> Error {
        Error::bad_data(format!(
            "the state '{}' has a time to live by event time, and is written where none is known; give the row an event time",
            self.spec.name
        ))
    }

    /// When a place expires that is written now: never earlier than it would have without.
    fn prolong(&mut self, slot: Slot, place: &P, expiry: i64) -> i64 {
        let before = self.entries.of(slot).get(place).and_then(|entry| entry.expires);
        if before.is_some_and(|before| before >= expiry) {
            return before.unwrap_or(expiry);
        }
        if let Some(before) = before {
            self.by_expiry.remove(&(before, slot, place.clone()));
        }
        self.by_expiry.insert((expiry, slot, place.clone()));
        expiry
    }

    /// Removes an entry; returns its value if it was live.
    pub(super) fn remove(&mut self, key: KeyRef<'_>, place: &P, now: &Moment) -> Option<T> {
        let slot = self.entries.find(key)?;
        self.remove_of(slot, place).filter(|entry| self.is_live(entry, now)).map(|entry| entry.value)
    }

    fn remove_of(&mut self, slot: Slot, place: &P) -> Option<Entry<T>> {
        let entry = self.entries.remove(slot, place)?;
        if let Some(expires) = entry.expires {
            self.by_expiry.remove(&(expires, slot, place.clone()));
        }
        Some(entry)
    }

    pub(super) fn clear(&mut self, key: KeyRef<'_>) {
        let Some(slot) = self.entries.find(key) else { return };
        let places: Vec<P> = self.entries.of(slot).iter().map(|(place, _)| place.clone()).collect();
        for place in places {
            self.remove_of(slot, &place);
        }
    }

    fn table(&self, keys: &Keys) -> StateTable {
        let key_columns = keys.stored().fields().len() + usize::from(matches!(self.places, Places::Column(..)));
        StateTable::new(&self.spec.name, key_columns)
    }

    fn layer(&self, keys: &Keys, changed: &[(Slot, P)]) -> Result<StateLayer> {
        let is_removed = |(slot, place): &(Slot, P)| Some(self.entries.of(*slot).get(place).is_none());
        let removed = changed.iter().map(is_removed).collect::<BooleanArray>();
        Ok(StateLayer { table: self.table(keys), rows: self.rows(keys, changed)?, removed })
    }

    fn rows(&self, keys: &Keys, changed: &[(Slot, P)]) -> Result<RecordBatch> {
        let mut columns = keys.columns(changed.iter().map(|(slot, _)| self.entries.key(*slot)))?;
        let mut fields: Vec<Field> = keys.stored().fields().iter().map(|field| field.as_ref().clone()).collect();
        let mut add = |name: &str, column: ArrayRef| {
            fields.push(Field::new(free_name(keys, name), column.data_type().clone(), true));
            columns.push(column);
        };
        if let Places::Column(name, codec) = &self.places {
            add(name, codec.encode(&changed.iter().map(|(_, place)| Some(place)).collect::<Vec<_>>())?);
        }
        let entries: Vec<Option<&Entry<T>>> = changed.iter().map(|(slot, place)| self.entries.of(*slot).get(place)).collect();
        let values: Vec<Option<&T>> = entries.iter().map(|entry| entry.map(|entry| &entry.value)).collect();
        add("value", self.codec.encode(&values)?);
        if self.spec.ttl.is_some() {
            let expires = entries.iter().map(|entry| entry.and_then(|entry| entry.expires));
            add("expires", Arc::new(expires.collect::<TimestampMicrosecondArray>()));
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
            let slot = self.entries.restore(key, place.clone(), value, expires)?;
            self.by_expiry.extend(expires.map(|expires| (expires, slot, place)));
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
        while let Some((_, slot, place)) = self.by_expiry.first().filter(|(expires, ..)| has_expired(*expires)).cloned() {
            self.remove_of(slot, &place);
        }
    }

    fn next_timer(&self) -> Option<Timestamp> {
        self.spec.ttl.filter(|ttl| ttl.domain == TimeDomain::ProcessingTime)?;
        self.by_expiry.first().map(|(expires, ..)| Timestamp(*expires))
    }

    fn checkpoint(&mut self, keys: &Keys) -> Result<Option<StateLayer>> {
        let changed = self.entries.changed();
        let layer = if changed.is_empty() { None } else { Some(self.layer(keys, &changed)?) };
        self.entries.forget_changes();
        Ok(layer)
    }

    fn restore(&mut self, layer: &StateLayer, keys: &Keys) -> Result<()> {
        if layer.table != self.table(keys) {
            return Err(Error::corrupt(format!("the state '{}' is of another shape", self.spec.name)));
        }
        self.restore_rows(&layer.rows, keys).map_err(|error| error.within(self.context("reading")))
    }
}
