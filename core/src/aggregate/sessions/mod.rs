//! Sessions: rows of a key that are at most a gap apart. A row can begin a session, lengthen one, or join two.
//!
//! Whether a row is late is judged after merging: a session that was made by this batch alone and has closed before it holds late rows
//! only. So such sessions are kept until the batch's rows are all there.
//!
//! Sessions that close come out in the order of their ends, and then of their keys and starts, whatever slots they were given.
//!
//! - [`session`]: one session, and which of them a row belongs to. [`checkpoint`]: the table in which they are stored.

mod checkpoint;
mod session;

use super::calls::{CallInput, inputs};
use super::keys::{KeyTable, key_table};
use super::slots::Slots;
use super::spec::{Aggregate, Emit, GroupTime, evaluate, times};
use crate::batch::BatchContext;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::operator::{Operator, Output, Port};
use crate::state::StateLayer;
use crate::time::{Timestamp, Watermark};
use crate::window::{Window, check_times};
use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::{filter, filter_record_batch, is_not_null};
use arrow::datatypes::DataType;
use checkpoint::StoredSession;
use session::Session;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

pub(super) struct Sessions {
    spec: Arc<Aggregate>,
    gap: i64,
    key_types: Vec<DataType>,
    keys: Box<dyn KeyTable>,
    free_keys: Vec<u32>,
    /// By key, in the order of time.
    sessions: Vec<Vec<Session>>,
    slots: Slots,
    /// Keys by when one of their sessions expires, or did when it was shorter. Empty where nothing closes.
    by_expiry: BTreeMap<i64, BTreeSet<u32>>,
    /// Keys of the batch at hand.
    changed: BTreeSet<u32>,
    /// Rows of the checkpoint that are no more, with the ends of what they went into.
    gone: Vec<StoredSession>,
    watermark: Watermark,
    sequence: i64,
}

/// A session that ends at the watermark is open still, and its window closes what is built on it then: so that has to wait a microsecond
/// longer.
fn held(watermark: Watermark) -> Watermark {
    match watermark {
        Watermark::At(Timestamp(time)) => Watermark::At(Timestamp(time.saturating_sub(1))),
        other => other,
    }
}

/// The watermark that was [`held`].
fn released(watermark: Watermark) -> Watermark {
    match watermark {
        Watermark::At(Timestamp(time)) => Watermark::At(Timestamp(time.saturating_add(1))),
        other => other,
    }
}

impl Sessions {
    pub(super) fn new(spec: Arc<Aggregate>, gap: i64) -> Result<Self> {
        let key_types = spec.key_types()?;
        Ok(Self {
            keys: key_table(&key_types)?,
            slots: Slots::new(&spec.calls)?,
            spec,
            gap,
            key_types,
            free_keys: Vec::new(),
            sessions: Vec::new(),
            by_expiry: BTreeMap::new(),
            changed: BTreeSet::new(),
            gone: Vec::new(),
            watermark: Watermark::Unknown,
            sequence: 0,
        })
    }

    /// Whether the watermark has reached a session's expiry.
    fn is_closed(&self, expiry: i64) -> bool {
        !self.spec.keeps_all() && Watermark::At(Timestamp(expiry)) <= self.watermark
    }

    /// Notes when sessions of a key expire.
    fn note_expiries(&mut self, key: u32, sessions: &[Session]) {
        if !self.spec.keeps_all() {
            for session in sessions {
                self.by_expiry.entry(session.expiry(self.gap)).or_default().insert(key);
            }
        }
    }

    fn intern(&mut self, keys: &[ArrayRef], rows: usize) -> Result<Vec<u32>> {
        let (free, sessions) = (&mut self.free_keys, &mut self.sessions);
        self.keys.intern(keys, rows, &mut || {
            free.pop().unwrap_or_else(|| {
                sessions.push(Vec::new());
                sessions.len() as u32 - 1
            })
        })
    }

    /// Puts a row's time into the sessions of its key. Returns the slot of its session, and those of sessions that it joined to that one.
    fn place(&mut self, key: u32, time: i64) -> (u32, Vec<u32>) {
        let of_key = &mut self.sessions[key as usize];
        let touched = session::touched(of_key, time, self.gap);
        if touched.is_empty() {
            let slot = self.slots.allocate();
            of_key.insert(touched.start, Session::begun(time, slot));
            return (slot, Vec::new());
        }
        let joined: Vec<Session> = of_key.drain(touched.start + 1..touched.end).collect();
        let session = &mut of_key[touched.start];
        session.extend(time, &joined);
        let (slot, end) = (session.slot, session.window(self.gap).end);
        self.gone.extend(joined.iter().filter_map(|other| Some(StoredSession::gone(key, other.stored?, end))));
        (slot, joined.into_iter().map(|other| other.slot).collect())
    }

    fn inputs(&mut self, rows: &RecordBatch) -> Result<Vec<CallInput>> {
        let sequence = self.sequence;
        self.sequence += rows.num_rows() as i64;
        inputs(&self.spec.calls, rows, sequence)
    }

    /// Drops sessions that hold late rows only; what is left of the batch's sessions stays.
    fn drop_late(&mut self, output: &mut Output) {
        for key in self.changed.clone() {
            let is_late = |session: &&Session| !session.established && self.is_closed(session.expiry(self.gap));
            let (late, mut kept): (Vec<Session>, Vec<Session>) = self.sessions[key as usize].iter().partition(is_late);
            for session in late {
                output.count_late(session.rows);
                self.slots.release(session.slot);
            }
            for session in &mut kept {
                session.established = true;
                session.rows = 0;
            }
            self.note_expiries(key, &kept);
            self.sessions[key as usize] = kept;
            self.forget_key_without_sessions(key);
        }
    }

    fn forget_key_without_sessions(&mut self, key: u32) {
        if self.sessions[key as usize].is_empty() && self.keys.contains(key) {
            self.keys.remove(key);
            self.free_keys.push(key);
        }
    }

    /// Takes out the sessions that have closed, in the order of their ends, keys and starts.
    fn take_closed(&mut self) -> Vec<(u32, Session)> {
        let mut closed = Vec::new();
        while let Some((&expiry, _)) = self.by_expiry.first_key_value()
            && self.is_closed(expiry)
        {
            for key in self.by_expiry.remove(&expiry).unwrap_or_default() {
                let is_closed = |session: &&Session| self.is_closed(session.expiry(self.gap));
                let (ended, kept): (Vec<Session>, Vec<Session>) = self.sessions[key as usize].iter().partition(is_closed);
                closed.extend(ended.into_iter().map(|session| (key, session)));
                self.sessions[key as usize] = kept;
            }
        }
        let mut ordered = self.by_key(closed);
        ordered.sort_by_key(|(_, session)| session.last);
        ordered
    }

    /// Sessions in the order of their keys and starts.
    fn by_key(&self, mut sessions: Vec<(u32, Session)>) -> Vec<(u32, Session)> {
        let mut keys: Vec<u32> = sessions.iter().map(|(key, _)| *key).collect();
        keys.sort_unstable();
        keys.dedup();
        self.keys.sort(&mut keys);
        let places: HashMap<u32, usize> = keys.into_iter().zip(0..).collect();
        sessions.sort_by_key(|(key, session)| (places.get(key).copied(), session.first));
        sessions
    }

    fn emit(&self, sessions: &[(u32, Session)], output: &mut Output) -> Result<()> {
        if sessions.is_empty() {
            return Ok(());
        }
        let (keys, slots): (Vec<u32>, Vec<u32>) = sessions.iter().map(|(key, session)| (*key, session.slot)).unzip();
        let windows: Vec<Window> = sessions.iter().map(|(_, session)| session.window(self.gap)).collect();
        self.spec.emit(self.keys.columns(&keys)?, &windows, self.slots.evaluate(&slots)?, output)
    }

    fn all(&self) -> Vec<(u32, Session)> {
        let of_key = |(key, sessions): (u32, &Vec<Session>)| sessions.iter().map(move |session| (key, *session)).collect::<Vec<_>>();
        self.by_key((0u32..).zip(&self.sessions).flat_map(of_key).collect())
    }
}

/// The rows that have a time. Others belong to no session, and count as late.
fn with_time(rows: RecordBatch, time: ArrayRef, output: &mut Output) -> Result<(RecordBatch, ArrayRef)> {
    if time.null_count() == 0 {
        return Ok((rows, time));
    }
    let failed = || "rows without a time".to_owned();
    let valid = is_not_null(&time).or_error(ErrorKind::Internal, failed)?;
    output.count_late(valid.false_count() as u64);
    let rows = filter_record_batch(&rows, &valid).or_error(ErrorKind::Internal, failed)?;
    Ok((rows, filter(&time, &valid).or_error(ErrorKind::Internal, failed)?))
}

impl Operator for Sessions {
    fn process(&mut self, _port: Port, rows: RecordBatch, output: &mut Output) -> Result<()> {
        let GroupTime::Window { time, .. } = &self.spec.time else { return Err(Error::internal("sessions need a time")) };
        let time = evaluate(time, &rows)?;
        let (rows, time) = with_time(rows, time, output)?;
        check_times(times(&time)?)?;
        let key_columns = self.spec.key_columns(&rows)?;
        let inputs = self.inputs(&rows)?;
        let keys = self.intern(&key_columns, rows.num_rows())?;
        let (mut slots, mut joined) = (Vec::with_capacity(keys.len()), Vec::new());
        for (&key, &time) in keys.iter().zip(times(&time)?.values()) {
            let (slot, others) = self.place(key, time);
            slots.push(slot);
            joined.extend(others.into_iter().map(|other| (slot, other)));
            self.changed.insert(key);
        }
        self.slots.update(&slots, &inputs)?;
        // In their order: what was joined first may have been joined on.
        joined.into_iter().try_for_each(|(into, from)| self.slots.merge_slot(into, from))
    }

    fn advance(&mut self, _port: Port, watermark: Watermark, batch: &BatchContext, output: &mut Output) -> Result<Watermark> {
        self.drop_late(output);
        self.watermark = self.watermark.max(self.spec.clock_of(watermark, batch.trigger_time));
        let closed = self.take_closed();
        match self.spec.emit {
            Emit::All => self.emit(&self.all(), output)?,
            _ => self.emit(&closed, output)?,
        }
        for (key, session) in closed {
            self.slots.release(session.slot);
            self.forget_key_without_sessions(key);
        }
        Ok(held(self.watermark))
    }

    fn next_timer(&self) -> Option<Timestamp> {
        self.spec.timer(self.by_expiry.first_key_value().map(|(expiry, _)| *expiry))
    }

    fn checkpoint(&mut self) -> Result<Vec<StateLayer>> {
        let changes = self.changes()?;
        self.slots.forget_added();
        Ok(changes.into_iter().collect())
    }

    fn restore(&mut self, tables: &[StateLayer], watermark: Watermark) -> Result<()> {
        self.watermark = released(watermark);
        tables.iter().try_for_each(|table| self.restore_table(table))?;
        self.sessions.iter_mut().for_each(|sessions| sessions.sort_by_key(|session| session.first));
        self.sequence = self.slots.latest_arrival() + 1;
        Ok(())
    }
}
