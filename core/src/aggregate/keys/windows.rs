//! Keys of one window. Rows of a window mostly follow each other, so that few of them are looked up.

use super::fixed::{FixedKey, FixedKeys};
use super::{KeyTable, missing};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::window::window_fields;
use arrow::array::{Array, ArrayRef, AsArray, StructArray, TimestampMicrosecondArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::TimestampMicrosecondType;
use std::sync::Arc;

/// The bits of a tag: that there is no window, no start, no end. Where there is none, its word is zero.
const NO_WINDOW: u8 = 1;
const NO_START: u8 = 2;
const NO_END: u8 = 4;

/// Windows without a bound can't be made by the functions of SQL, but read from a column.
type Bounds = (Option<i64>, Option<i64>);

#[derive(Default)]
pub(super) struct Windows(FixedKeys<2>);

impl Windows {
    fn get(&self, slot: u32) -> Option<Option<Bounds>> {
        let FixedKey { tag, words: [start, end] } = self.0.get(slot)?;
        let bound = |missing: u8, word: u64| (tag & missing == 0).then_some(word as i64);
        Some((tag & NO_WINDOW == 0).then(|| (bound(NO_START, start), bound(NO_END, end))))
    }
}

/// The key of each row.
fn keys(windows: &StructArray) -> Result<impl Iterator<Item = FixedKey<2>>> {
    let bounds = |index: usize| windows.columns().get(index).and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>());
    let (Some(starts), Some(ends)) = (bounds(0), bounds(1)) else { return Err(Error::internal("a window came without its bounds")) };
    let bound = |bounds: &TimestampMicrosecondArray, row: usize, missing: u8| match bounds.is_null(row) {
        true => (missing, 0),
        false => (0, bounds.value(row) as u64),
    };
    Ok((0..windows.len()).map(move |row| {
        if windows.is_null(row) {
            return FixedKey { tag: NO_WINDOW, words: [0; 2] };
        }
        let ((no_start, start), (no_end, end)) = (bound(starts, row, NO_START), bound(ends, row, NO_END));
        FixedKey { tag: no_start | no_end, words: [start, end] }
    }))
}

impl KeyTable for Windows {
    fn intern(&mut self, columns: &[ArrayRef], rows: usize, allocate: &mut dyn FnMut() -> u32) -> Result<Vec<u32>> {
        let windows = columns[0].as_struct_opt().ok_or_else(|| Error::internal("a window is no struct"))?;
        let mut slots = Vec::with_capacity(rows);
        let mut before = None;
        for key in keys(windows)? {
            let slot = match before {
                Some((same, slot)) if same == key => slot,
                _ => self.0.intern(key, allocate),
            };
            before = Some((key, slot));
            slots.push(slot);
        }
        Ok(slots)
    }

    fn remove(&mut self, slot: u32) {
        self.0.remove(slot);
    }

    fn clear(&mut self) {
        self.0.clear();
    }

    fn contains(&self, slot: u32) -> bool {
        self.0.get(slot).is_some()
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn slots(&self) -> Vec<u32> {
        self.0.slots()
    }

    fn sort(&self, slots: &mut [u32]) {
        slots.sort_unstable_by_key(|slot| self.get(*slot));
    }

    fn columns(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let windows = slots.iter().map(|slot| self.get(*slot).ok_or_else(missing)).collect::<Result<Vec<_>>>()?;
        let column = |bound: fn(Bounds) -> Option<i64>| {
            Arc::new(windows.iter().map(|window| window.and_then(bound)).collect::<TimestampMicrosecondArray>()) as ArrayRef
        };
        let columns = vec![column(|(start, _)| start), column(|(_, end)| end)];
        let nulls = NullBuffer::from_iter(windows.iter().map(Option::is_some));
        let nulls = Some(nulls).filter(|nulls| nulls.null_count() > 0);
        let windows = StructArray::try_new(window_fields(), columns, nulls);
        Ok(vec![Arc::new(windows.or_error(ErrorKind::Internal, || "decoding windows".into())?)])
    }
}
