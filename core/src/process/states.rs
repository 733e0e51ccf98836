//! States of a key: declared by name when a function is made, used with the context of a row or a timer.

use super::codec::Codec;
use super::context::ProcessContext;
use super::table::{AnyTable, Places, Spec, Stored, Table};
use super::timers::TABLES;
use super::{TimeDomain, Ttl};
use crate::error::{Error, Result};
use std::marker::PhantomData;
use std::sync::Arc;

/// Makes the tables of one state, empty: one for each task.
pub(super) type MakeTable = Arc<dyn Fn() -> Box<dyn AnyTable> + Send + Sync>;

/// The states of a function. Their names are those of their tables in the checkpoint; each name is given once.
#[derive(Default)]
pub struct States {
    tables: Vec<(String, Option<Ttl>, MakeTable)>,
    /// The time to live of the next state.
    ttl: Option<Ttl>,
}

impl States {
    /// The next state that is declared forgets what was not written for so long.
    pub fn ttl(&mut self, ttl: Ttl) -> &mut Self {
        self.ttl = Some(ttl);
        self
    }

    /// At most one value for each key.
    pub fn value<T: Stored>(&mut self, name: &str) -> ValueState<T> {
        ValueState { table: self.add::<(), T>(name, "value", || Places::One(())), of: PhantomData }
    }

    /// Any number of values for each key, in the order in which they were pushed.
    pub fn list<T: Stored>(&mut self, name: &str) -> ListState<T> {
        let places = || Places::Column("index", Codec::of::<i64>());
        ListState { table: self.add::<i64, T>(name, "list", places), of: PhantomData }
    }

    /// Values by keys of their own, for each key of the stream.
    pub fn map<K: Stored + Ord + Clone, V: Stored>(&mut self, name: &str) -> MapState<K, V> {
        let places = || Places::Column("key", Codec::of::<K>());
        MapState { table: self.add::<K, V>(name, "map", places), of: PhantomData }
    }

    fn add<P: Stored + Ord + Clone, T: Stored>(&mut self, name: &str, kind: &'static str, places: fn() -> Places<P>) -> usize {
        let ttl = self.ttl.take();
        let spec = Arc::new(Spec { name: name.to_owned(), kind, ttl });
        let make: MakeTable = Arc::new(move || Box::new(Table::<P, T>::new(Arc::clone(&spec), places())));
        self.tables.push((name.to_owned(), ttl, make));
        self.tables.len() - 1
    }

    /// What was declared.
    pub(super) fn finish(self) -> Result<Vec<MakeTable>> {
        for (index, (name, ttl, _)) in self.tables.iter().enumerate() {
            if name.is_empty() || TABLES.contains(&name.as_str()) {
                return Err(Error::config(format!("a state can't be called '{name}'; that is how timers are stored, or no name")));
            }
            if self.tables[..index].iter().any(|(other, ..)| other == name) {
                return Err(Error::config(format!("two states are called '{name}'; give each its own name")));
            }
            if ttl.is_some_and(|ttl| ttl.micros <= 0) {
                return Err(Error::config(format!("the state '{name}' has a time to live of nothing; give a length above zero")));
            }
        }
        Ok(self.tables.into_iter().map(|(.., make)| make).collect())
    }

    /// A state that lives by event time, if there is one.
    pub(super) fn by_event_time(&self) -> Option<&str> {
        let by_event_time = |ttl: &Option<Ttl>| ttl.is_some_and(|ttl| ttl.domain == TimeDomain::EventTime);
        self.tables.iter().find(|(_, ttl, _)| by_event_time(ttl)).map(|(name, ..)| name.as_str())
    }
}

/// A state of at most one value for each key. See [`States::value`].
pub struct ValueState<T> {
    table: usize,
    of: PhantomData<fn() -> T>,
}

impl<T: Stored> ValueState<T> {
    /// The value, if there is one.
    pub fn get<'c, O>(&self, context: &'c ProcessContext<'_, O>) -> Option<&'c T> {
        let (table, key, now) = context.table::<(), T>(self.table);
        table.get(key, &(), now)
    }

    /// Replaces the value.
    ///
    /// # Errors
    /// `BadData` if the state lives by event time and none is known here.
    pub fn set<O>(&self, context: &mut ProcessContext<'_, O>, value: T) -> Result<()> {
        let (table, key, now) = context.table_mut::<(), T>(self.table);
        table.insert(key, (), value, now)
    }

    /// Removes the value; returns it if there was one.
    pub fn clear<O>(&self, context: &mut ProcessContext<'_, O>) -> Option<T> {
        let (table, key, now) = context.table_mut::<(), T>(self.table);
        table.remove(key, &(), now)
    }
}

/// A state of any number of values for each key, in order. A push stores one row, whatever the length. See [`States::list`].
pub struct ListState<T> {
    table: usize,
    of: PhantomData<fn() -> T>,
}

impl<T: Stored> ListState<T> {
    /// The values, the first that was pushed first.
    pub fn iter<'c, O>(&self, context: &'c ProcessContext<'_, O>) -> impl Iterator<Item = &'c T> + use<'c, T, O> {
        let (table, key, now) = context.table::<i64, T>(self.table);
        table.entries(key, now).map(|(_, value)| value)
    }

    /// Adds a value at the end.
    ///
    /// # Errors
    /// `BadData` if the state lives by event time and none is known here.
    pub fn push<O>(&self, context: &mut ProcessContext<'_, O>, value: T) -> Result<()> {
        let (table, key, now) = context.table_mut::<i64, T>(self.table);
        let place = table.last_place(key).map_or(0, |last| last + 1);
        table.insert(key, place, value, now)
    }

    /// Removes the first value; returns it if there was one.
    pub fn pop_front<O>(&self, context: &mut ProcessContext<'_, O>) -> Option<T> {
        let (table, key, now) = context.table_mut::<i64, T>(self.table);
        let place = table.entries(key, now).map(|(place, _)| *place).next()?;
        table.remove(key, &place, now)
    }

    /// Removes all values.
    pub fn clear<O>(&self, context: &mut ProcessContext<'_, O>) {
        let (table, key, _) = context.table_mut::<i64, T>(self.table);
        table.clear(key);
    }
}

/// A state of values by keys of their own, for each key of the stream. An insertion stores one row, whatever the size. See [`States::map`].
pub struct MapState<K, V> {
    table: usize,
    of: PhantomData<fn() -> (K, V)>,
}

impl<K: Stored + Ord + Clone, V: Stored> MapState<K, V> {
    /// The value of a key, if there is one.
    pub fn get<'c, O>(&self, context: &'c ProcessContext<'_, O>, key: &K) -> Option<&'c V> {
        let (table, of, now) = context.table::<K, V>(self.table);
        table.get(of, key, now)
    }

    /// All keys with their values, in the order of the keys.
    pub fn iter<'c, O>(&self, context: &'c ProcessContext<'_, O>) -> impl Iterator<Item = (&'c K, &'c V)> + use<'c, K, V, O> {
        let (table, of, now) = context.table::<K, V>(self.table);
        table.entries(of, now)
    }

    /// Replaces the value of a key.
    ///
    /// # Errors
    /// `BadData` if the state lives by event time and none is known here.
    pub fn insert<O>(&self, context: &mut ProcessContext<'_, O>, key: K, value: V) -> Result<()> {
        let (table, of, now) = context.table_mut::<K, V>(self.table);
        table.insert(of, key, value, now)
    }

    /// Removes the value of a key; returns it if there was one.
    pub fn remove<O>(&self, context: &mut ProcessContext<'_, O>, key: &K) -> Option<V> {
        let (table, of, now) = context.table_mut::<K, V>(self.table);
        table.remove(of, key, now)
    }

    /// Removes all keys.
    pub fn clear<O>(&self, context: &mut ProcessContext<'_, O>) {
        let (table, of, _) = context.table_mut::<K, V>(self.table);
        table.clear(of);
    }
}
