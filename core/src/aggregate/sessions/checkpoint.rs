//! The table in which sessions are stored: by key and earliest row, with the latest row, when they expire, and the state of the aggregates.
//!
//! A session that has another earliest row than when it was stored, or that was joined to one, leaves its old row behind: that is removed.

use super::super::spec::{state_rows, times};
use super::Sessions;
use super::session::{Session, expiry};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::state::{StateLayer, StateTable};
use crate::window::Window;
use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, TimestampMicrosecondArray, new_null_array};
use arrow::compute::{concat, filter_record_batch};
use std::sync::Arc;

const SESSIONS: &str = "sessions";

/// A row of the table, without the state.
#[derive(Clone)]
pub(super) struct StoredSession {
    key: u32,
    first: i64,
    last: i64,
    end: i64,
}

impl StoredSession {
    /// One that is no more: its key in the table, and the end of what it went into.
    pub(super) fn gone(key: u32, first: i64, end: i64) -> Self {
        Self { key, first, last: first, end }
    }
}

impl Sessions {
    fn table(&self) -> StateTable {
        let key_columns = self.key_types.len() + 1;
        let table = StateTable::new(SESSIONS, key_columns);
        if self.spec.keeps_all() { table } else { table.expiring(key_columns + 1) }
    }

    /// Sessions that the batch changed, and the rows of those that stand at another place now.
    pub(super) fn changes(&mut self) -> Result<Option<StateLayer>> {
        let (mut rows, mut slots) = (Vec::new(), Vec::new());
        for key in std::mem::take(&mut self.changed) {
            for session in self.sessions[key as usize].iter_mut().filter(|session| session.changed) {
                session.changed = false;
                let Window { start, end } = session.window(self.gap);
                if let Some(stored) = session.stored.replace(start).filter(|stored| *stored != start) {
                    self.gone.push(StoredSession::gone(key, stored, end));
                }
                rows.push(StoredSession { key, first: start, last: session.last, end });
                slots.push(session.slot);
            }
        }
        let mut gone = std::mem::take(&mut self.gone);
        gone.retain(|row| self.keys.contains(row.key));
        if rows.is_empty() && gone.is_empty() {
            return Ok(None);
        }
        let removed: BooleanArray = gone.iter().map(|_| Some(true)).chain(rows.iter().map(|_| Some(false))).collect();
        let rows = [gone, rows].concat();
        Ok(Some(StateLayer { table: self.table(), rows: self.rows(&rows, &slots)?, removed }))
    }

    /// Rows of the table. The last of them have a state, that of these slots.
    fn rows(&self, rows: &[StoredSession], slots: &[u32]) -> Result<RecordBatch> {
        let time = |of: fn(&StoredSession) -> i64| Arc::new(rows.iter().map(|row| Some(of(row))).collect::<TimestampMicrosecondArray>());
        let mut columns = self.keys.columns(&rows.iter().map(|row| row.key).collect::<Vec<_>>())?;
        let mut names = self.spec.key_names();
        names.extend(["_start", "_last", "_expires"].map(ToOwned::to_owned));
        // Stored rows expire by the watermark as it is recorded, which was held: it reaches a session's end in the batch that closes it.
        columns.extend([time(|row| row.first) as ArrayRef, time(|row| row.last), time(|row| row.end)]);
        for (index, state) in self.slots.whole_state(slots)?.into_iter().enumerate() {
            let nothing = new_null_array(state.data_type(), rows.len() - slots.len());
            columns.push(concat(&[&nothing, &state]).or_error(ErrorKind::Internal, || "gathering changed sessions".into())?);
            names.push(format!("state_{index}"));
        }
        state_rows(names, columns)
    }

    /// # Errors
    /// `Corrupt` if it is not the table of sessions.
    pub(super) fn restore_table(&mut self, table: &StateLayer) -> Result<()> {
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
            let session = Session::restored(firsts.value(row), lasts.value(row), slot);
            self.note_expiries(key, &[session]);
            self.sessions[key as usize].push(session);
        }
        Ok(())
    }

    /// Stored sessions that have not closed, by the times of their latest rows.
    fn open(&self, rows: &RecordBatch, last: usize) -> Result<RecordBatch> {
        let lasts = times(rows.column(last))?.values().iter();
        let open: BooleanArray = lasts.map(|&last| Some(!self.is_closed(expiry(last, self.gap)))).collect();
        filter_record_batch(rows, &open).or_error(ErrorKind::Internal, || "restoring sessions".into())
    }
}
