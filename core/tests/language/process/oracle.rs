//! What functions give is what a plain computation over all rows gives, however the input is cut, and wherever the operator starts again
//! from its checkpoints.

use super::machine::{Machine, Planned, Row};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use std::time::Duration;
use waterclock_core::Result;
use waterclock_core::process::{ListState, MapState, ProcessContext, ProcessFunction, States, Timer, Ttl, ValueState};
use waterclock_core::time::{Timestamp, Watermark};

const WINDOW: i64 = 10;
/// By how much rows may be out of order, and how far the watermark stays behind.
const DELAY: i64 = 15;
const LIFE: i64 = 12;

#[derive(Debug, Serialize, Deserialize)]
struct Counted {
    k: i64,
    start: i64,
    rows: u32,
    values: Vec<i64>,
    /// How many windows of the key had closed before.
    before: u32,
}

/// For each key and window how many rows there were, and what they held; a timer at each window's end.
struct Windows {
    rows: MapState<i64, u32>,
    values: ListState<(i64, i64)>,
    closed: ValueState<u32>,
}

impl Windows {
    fn new(states: &mut States) -> Self {
        Self { rows: states.map("rows"), values: states.list("values"), closed: states.value("closed") }
    }
}

impl ProcessFunction for Windows {
    type Key = i64;
    type Input = Row;
    type Output = Counted;

    fn process(&self, _key: &i64, row: Row, context: &mut ProcessContext<'_, Counted>) -> Result<()> {
        assert_eq!(context.event_time()?, Timestamp(row.ts));
        assert!(!context.is_late());
        let start = row.ts - row.ts.rem_euclid(WINDOW);
        let rows = self.rows.get(context, &start).copied().unwrap_or(0);
        self.rows.insert(context, start, rows + 1)?;
        self.values.push(context, (start, row.v))?;
        context.set_timer(Timer::event_time(start + WINDOW))
    }

    fn on_timer(&self, key: &i64, timer: Timer, context: &mut ProcessContext<'_, Counted>) -> Result<()> {
        assert!(Watermark::At(timer.time) <= context.watermark());
        let start = timer.time.0 - WINDOW;
        let all: Vec<(i64, i64)> = self.values.iter(context).copied().collect();
        let (mut values, left): (Vec<_>, Vec<_>) = all.into_iter().partition(|(of, _)| *of == start);
        values.sort_unstable();
        self.values.clear(context);
        for value in left {
            self.values.push(context, value)?;
        }
        let rows = self.rows.remove(context, &start).unwrap_or(0);
        let before = self.closed.get(context).copied().unwrap_or(0);
        self.closed.set(context, before + 1)?;
        context.emit(Counted { k: *key, start, rows, values: values.into_iter().map(|(_, value)| value).collect(), before });
        Ok(())
    }
}

fn windows_of(rows: &[Row]) -> BTreeSet<String> {
    let mut windows: BTreeMap<(i64, i64), Vec<i64>> = BTreeMap::new();
    for row in rows {
        windows.entry((row.k, row.ts.div_euclid(WINDOW) * WINDOW)).or_default().push(row.v);
    }
    let mut closed: BTreeMap<i64, u32> = BTreeMap::new();
    let line = |((k, start), mut values): ((i64, i64), Vec<i64>)| {
        values.sort_unstable();
        let before = closed.entry(k).or_default();
        *before += 1;
        let counted = Counted { k, start, rows: values.len() as u32, values, before: *before - 1 };
        serde_json::to_string(&counted).unwrap()
    };
    windows.into_iter().map(line).collect()
}

#[derive(Debug, Serialize, Deserialize)]
struct Fresh {
    k: i64,
    ts: i64,
}

/// Rows of keys that were not seen for a while: a state that expires by event time.
struct Deduplicate {
    seen: ValueState<i64>,
}

impl Deduplicate {
    fn new(states: &mut States) -> Self {
        Self { seen: states.ttl(Ttl::event_time(Duration::from_micros(LIFE as u64))).value("seen") }
    }
}

impl ProcessFunction for Deduplicate {
    type Key = i64;
    type Input = Row;
    type Output = Fresh;

    fn process(&self, key: &i64, row: Row, context: &mut ProcessContext<'_, Fresh>) -> Result<()> {
        if self.seen.get(context).is_none() {
            context.emit(Fresh { k: *key, ts: row.ts });
        }
        if row.v == 0 {
            self.seen.clear(context);
            return Ok(());
        }
        self.seen.set(context, row.ts)
    }
}

fn fresh_of(rows: &[Row]) -> Vec<String> {
    let mut expiry: BTreeMap<i64, i64> = BTreeMap::new();
    let mut fresh = Vec::new();
    for row in rows {
        if expiry.get(&row.k).is_none_or(|until| *until <= row.ts) {
            fresh.push(serde_json::to_string(&Fresh { k: row.k, ts: row.ts }).unwrap());
        }
        if row.v == 0 {
            expiry.remove(&row.k);
        } else {
            let until = expiry.get(&row.k).copied().unwrap_or(i64::MIN).max(row.ts + LIFE);
            expiry.insert(row.k, until);
        }
    }
    fresh
}

/// Rows out of order by up to [`DELAY`], and after how many each batch ends, and whether the operator starts again behind it.
fn inputs() -> impl Strategy<Value = (Vec<Row>, Vec<(usize, bool)>)> {
    let row = (0..4i64, 0..6i64, 0..=DELAY, 0..5i64);
    let rows = prop::collection::vec(row, 0..120).prop_map(|steps| {
        let mut time = -40;
        let row = |(k, step, jitter, v): (i64, i64, i64, i64)| {
            time += step;
            Row { k, ts: time - jitter, v }
        };
        steps.into_iter().map(row).collect::<Vec<_>>()
    });
    (rows, prop::collection::vec((1..20usize, any::<bool>()), 1..40))
}

/// Runs all rows, and to the end of the stream.
fn run(machine: &mut Machine, rows: &[Row], cuts: &[(usize, bool)]) -> Vec<String> {
    let (mut output, mut left, mut latest) = (Vec::new(), rows, i64::MIN);
    for (trigger_time, (length, restart)) in (0i64..).zip(cuts.iter().cycle()) {
        let (batch, rest) = left.split_at((*length).min(left.len()));
        latest = batch.iter().map(|row| row.ts).fold(latest, i64::max);
        let watermark = if latest == i64::MIN { Watermark::Unknown } else { Watermark::At(Timestamp(latest - DELAY)) };
        output.extend(machine.run(batch, trigger_time, watermark));
        if *restart {
            machine.restart();
        }
        left = rest;
        if left.is_empty() {
            output.extend(machine.run(&[], trigger_time + 1, Watermark::End));
            return output;
        }
    }
    output
}

/// Planned once: that takes longer than all the rows of a case.
fn windows() -> Machine {
    static PLANNED: LazyLock<Planned> = LazyLock::new(|| Planned::of(Windows::new));
    PLANNED.start()
}

fn deduplicate() -> Machine {
    static PLANNED: LazyLock<Planned> = LazyLock::new(|| Planned::of(Deduplicate::new));
    PLANNED.start()
}

proptest! {
    #[test]
    fn windows_by_timers_are_those_of_a_plain_count((rows, cuts) in inputs()) {
        let mut machine = windows();
        let output = run(&mut machine, &rows, &cuts);
        let distinct: BTreeSet<String> = output.iter().cloned().collect();
        prop_assert_eq!(distinct.len(), output.len(), "each window once");
        prop_assert_eq!(distinct, windows_of(&rows));
        let left: Vec<String> = machine.state().iter().map(|layer| layer.table.name.clone()).collect();
        let expected: &[&str] = if rows.is_empty() { &[] } else { &["closed"] };
        prop_assert_eq!(left, expected, "only what is kept for ever is left");
    }

    #[test]
    fn a_life_by_event_time_does_not_depend_on_the_cuts((rows, cuts) in inputs()) {
        let mut machine = deduplicate();
        prop_assert_eq!(run(&mut machine, &rows, &cuts), fresh_of(&rows));
        prop_assert!(machine.state().is_empty());
    }

    #[test]
    fn the_order_of_rows_and_timers_does_not_depend_on_restarts((rows, cuts) in inputs()) {
        let undisturbed: Vec<(usize, bool)> = cuts.iter().map(|(length, _)| (*length, false)).collect();
        let truth = run(&mut windows(), &rows, &undisturbed);
        prop_assert_eq!(run(&mut windows(), &rows, &cuts), truth);
    }
}
