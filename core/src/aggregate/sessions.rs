//! Sessions: rows of a key that are at most a gap apart. A row can begin a session, lengthen one, or join two.
//!
//! Whether a row is late is judged after merging: a session that was made by this batch alone and has closed before it holds late rows
//! only. So such sessions are kept until the batch's rows are all there.
//!
//! Sessions that close come out in the order of their ends, and then of their keys and starts, whatever slots they were given.

use super::calls::{CallInput, Slots, inputs};
use super::keys::KeyTable;
use super::spec::{Aggregate, Emit, GroupTime, evaluate, state_rows, times};
use crate::batch::BatchContext;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::operator::{Operator, Output, Port};
use crate::state::{StateChange, StateLayer, StateTable};
use crate::time::{Timestamp, Watermark};
use crate::window::{Window, check_times};
use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, TimestampMicrosecondArray, new_null_array};
use arrow::compute::{concat, filter_record_batch};
use arrow::datatypes::DataType;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

const SESSIONS: &str = "sessions";

/// A session of a key.
#[derive(Debug, Clone, Copy)]
struct Session {
    /// The time of its earliest row.
    first: i64,
    /// The time of its latest row.
    last: i64,
    slot: u32,
    /// Rows that the batch at hand put into it.
    rows: u64,
    /// Whether it was there before the batch at hand, or merged with one that was.
    established: bool,
    /// The earliest row under which it was checkpointed.
    stored: Option<i64>,
    changed: bool,
}

pub(super) struct Sessions {
    spec: Arc<Aggregate>,
    gap: i64,
    key_types: Vec<DataType>,
    keys: KeyTable,
    free_keys: Vec<u32>,
    /// By key, in the order of time.
    sessions: Vec<Vec<Session>>,
    slots: Slots,
    /// Keys by when one of their sessions expires, or did when it was shorter. Empty where nothing closes.
    by_expiry: BTreeMap<i64, BTreeSet<u32>>,
    /// Keys of the batch at hand.
    changed: BTreeSet<u32>,
    /// Rows of the checkpoint that are no more: key, start, and the end of what they went into.
    gone: Vec<(u32, i64, i64)>,
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
            keys: KeyTable::new(&key_types)?,
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

    /// A session's end is still part of it, so it expires a microsecond later.
    fn expiry(&self, session: &Session) -> i64 {
        session.last + self.gap + 1
    }

    fn is_closed(&self, session: &Session, watermark: Watermark) -> bool {
        !self.spec.keeps_all() && Watermark::At(Timestamp(self.expiry(session))) <= watermark
    }

    fn intern(&mut self, keys: &[ArrayRef], rows: usize) -> Result<Vec<u32>> {
        let (free, sessions) = (&mut self.free_keys, &mut self.sessions);
        self.keys.intern(keys, rows, || {
            free.pop().unwrap_or_else(|| {
                sessions.push(Vec::new());
                sessions.len() as u32 - 1
            })
        })
    }

    /// Puts a row's time into the sessions of its key. Returns the slot of its session, and those of sessions that it joined to that one.
    fn place(&mut self, key: u32, time: i64) -> (u32, Vec<u32>) {
        let gap = self.gap;
        let of_key = &mut self.sessions[key as usize];
        let from = of_key.partition_point(|session| session.last + gap < time);
        let to = of_key.partition_point(|session| session.first - gap <= time);
        if from >= to {
            let slot = self.slots.allocate();
            let session = Session { first: time, last: time, slot, rows: 1, established: false, stored: None, changed: true };
            of_key.insert(from, session);
            return (slot, Vec::new());
        }
        let joined: Vec<Session> = of_key.drain(from + 1..to).collect();
        let session = &mut of_key[from];
        session.rows += 1;
        session.changed = true;
        session.first = session.first.min(time);
        session.last = joined.iter().map(|other| other.last).chain([session.last, time]).max().unwrap_or(time);
        session.rows += joined.iter().map(|other| other.rows).sum::<u64>();
        session.established |= joined.iter().any(|other| other.established);
        let (slot, end) = (session.slot, session.last + gap);
        let stale = joined.iter().filter_map(|other| other.stored);
        self.gone.extend(stale.map(|stored| (key, stored, end)));
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
            let (closed, kept): (Vec<Session>, Vec<Session>) =
                self.sessions[key as usize].iter().partition(|session| !session.established && self.is_closed(session, self.watermark));
            for session in closed {
                output.count_late(session.rows);
                self.slots.release(session.slot);
            }
            self.sessions[key as usize] = kept;
            for session in &mut self.sessions[key as usize] {
                session.established = true;
                session.rows = 0;
                if !self.spec.keeps_all() {
                    self.by_expiry.entry(session.last + self.gap + 1).or_default().insert(key);
                }
            }
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
            && Watermark::At(Timestamp(expiry)) <= self.watermark
        {
            for key in self.by_expiry.remove(&expiry).unwrap_or_default() {
                let (gone, kept): (Vec<Session>, Vec<Session>) =
                    self.sessions[key as usize].iter().partition(|session| self.is_closed(session, self.watermark));
                closed.extend(gone.into_iter().map(|session| (key, session)));
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
        let windows: Vec<Window> =
            sessions.iter().map(|(_, session)| Window { start: session.first, end: session.last + self.gap }).collect();
        self.spec.emit(self.keys.columns(&keys)?, &windows, self.slots.evaluate(&slots)?, output)
    }

    fn all(&self) -> Vec<(u32, Session)> {
        let of_key = |(key, sessions): (u32, &Vec<Session>)| sessions.iter().map(move |session| (key, *session)).collect::<Vec<_>>();
        self.by_key((0u32..).zip(&self.sessions).flat_map(of_key).collect())
    }

    /// Stored sessions that have not closed, by the times of their latest rows.
    fn open(&self, rows: &RecordBatch, last: usize) -> Result<RecordBatch> {
        let lasts = times(rows.column(last))?.values().iter();
        let open = lasts.map(|&last| self.spec.keeps_all() || Watermark::At(Timestamp(last + self.gap + 1)) > self.watermark);
        let open = BooleanArray::from(open.collect::<Vec<_>>());
        filter_record_batch(rows, &open).or_error(ErrorKind::Internal, || "restoring sessions".into())
    }

    fn table(&self) -> StateTable {
        let key_columns = self.key_types.len() + 1;
        let table = StateTable::new(SESSIONS, key_columns);
        if self.spec.keeps_all() { table } else { table.expiring(key_columns + 1) }
    }

    /// Sessions that the batch changed, and the rows of those that stand at another place now.
    fn changes(&mut self) -> Result<Option<StateChange>> {
        let mut gone = std::mem::take(&mut self.gone);
        let mut kept = Vec::new();
        for key in std::mem::take(&mut self.changed) {
            for session in self.sessions[key as usize].iter_mut().filter(|session| session.changed) {
                session.changed = false;
                if let Some(stored) = session.stored.replace(session.first).filter(|stored| *stored != session.first) {
                    gone.push((key, stored, session.last + self.gap));
                }
                kept.push((key, *session));
            }
        }
        gone.retain(|(key, ..)| self.keys.contains(*key));
        if kept.is_empty() && gone.is_empty() {
            return Ok(None);
        }
        let keys: Vec<u32> = gone.iter().map(|(key, ..)| *key).chain(kept.iter().map(|(key, _)| *key)).collect();
        let mut columns = self.keys.columns(&keys)?;
        let column = |values: Vec<i64>| Arc::new(TimestampMicrosecondArray::from(values)) as ArrayRef;
        columns.push(column(gone.iter().map(|(_, start, _)| *start).chain(kept.iter().map(|(_, session)| session.first)).collect()));
        columns.push(column(gone.iter().map(|(_, start, _)| *start).chain(kept.iter().map(|(_, session)| session.last)).collect()));
        // Stored rows expire by the watermark as it is recorded, which was held: it reaches a session's end in the batch that closes it.
        let ends = kept.iter().map(|(_, session)| session.last + self.gap);
        columns.push(column(gone.iter().map(|(.., end)| *end).chain(ends).collect()));
        let slots: Vec<u32> = kept.iter().map(|(_, session)| session.slot).collect();
        for state in self.slots.whole_state(&slots)? {
            let nothing = new_null_array(state.data_type(), gone.len());
            columns.push(concat(&[&nothing, &state]).or_error(ErrorKind::Internal, || "gathering changed sessions".into())?);
        }
        let mut names = self.spec.key_names();
        names.extend(["_start", "_last", "_expires"].map(ToOwned::to_owned));
        names.extend((0..columns.len() - names.len()).map(|index| format!("state_{index}")));
        let removed = BooleanArray::from((0..keys.len()).map(|row| row < gone.len()).collect::<Vec<_>>());
        Ok(Some(StateLayer { table: self.table(), rows: state_rows(names, columns)?, removed }))
    }
}

impl Operator for Sessions {
    fn process(&mut self, _port: Port, rows: RecordBatch, output: &mut Output) -> Result<()> {
        let GroupTime::Window { time, .. } = &self.spec.time else { return Err(Error::internal("sessions need a time")) };
        let mut rows = rows;
        let mut time = evaluate(time, &rows)?;
        if time.null_count() > 0 {
            let valid = arrow::compute::is_not_null(&time).or_error(ErrorKind::Internal, || "rows without a time".into())?;
            output.count_late(valid.false_count() as u64);
            rows = arrow::compute::filter_record_batch(&rows, &valid).or_error(ErrorKind::Internal, || "rows without a time".into())?;
            time = arrow::compute::filter(&time, &valid).or_error(ErrorKind::Internal, || "rows without a time".into())?;
        }
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

    fn checkpoint(&mut self) -> Result<Vec<StateChange>> {
        let changes = self.changes()?;
        self.slots.forget_added();
        Ok(changes.into_iter().collect())
    }

    fn restore(&mut self, tables: &[StateLayer], watermark: Watermark) -> Result<()> {
        self.watermark = released(watermark);
        for table in tables {
            if table.table.name != SESSIONS {
                return Err(Error::corrupt(format!("the state table '{}' is not known", table.table.name)));
            }
            let width = self.key_types.len();
            let rows = self.open(&table.rows, width + 1)?;
            let columns = rows.columns();
            let keys = self.intern(&columns[..width], rows.num_rows())?;
            let (firsts, lasts) = (times(&columns[width])?, times(&columns[width + 1])?);
            let slots: Vec<u32> = keys.iter().map(|_| self.slots.allocate()).collect();
            self.slots.restore_whole(&slots, &columns[width + 3..])?;
            for (row, (&key, &slot)) in keys.iter().zip(&slots).enumerate() {
                let (first, last) = (firsts.value(row), lasts.value(row));
                let session = Session { first, last, slot, rows: 0, established: true, stored: Some(first), changed: false };
                if !self.spec.keeps_all() {
                    self.by_expiry.entry(self.expiry(&session)).or_default().insert(key);
                }
                self.sessions[key as usize].push(session);
            }
        }
        self.sessions.iter_mut().for_each(|sessions| sessions.sort_by_key(|session| session.first));
        self.sequence = self.slots.latest_arrival() + 1;
        Ok(())
    }
}
