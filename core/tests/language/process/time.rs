//! Timers and time to live by either clock, and what a function may not do with them.

use super::machine::{Machine, Row, built, source};
use crate::support::{assert_says, timestamp};
use datafusion_expr::cast;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use waterclock_core::expressions::{col, count_all, tumbling};
use waterclock_core::process::{ProcessContext, ProcessFunction, States, TimeDomain, Timer, Ttl, ValueState};
use waterclock_core::time::{Timestamp, Watermark};
use waterclock_core::{ErrorKind, Result};

#[derive(Debug, Serialize, Deserialize)]
struct Said {
    k: i64,
    what: String,
}

/// Does what a closure says.
struct Closure<P, T> {
    process: P,
    on_timer: T,
}

impl<P, T> ProcessFunction for Closure<P, T>
where
    P: Fn(Row, &mut ProcessContext<'_, Said>) -> Result<()> + Send + Sync + 'static,
    T: Fn(i64, Timer, &mut ProcessContext<'_, Said>) -> Result<()> + Send + Sync + 'static,
{
    type Key = i64;
    type Input = Row;
    type Output = Said;

    fn process(&self, _key: &i64, row: Row, context: &mut ProcessContext<'_, Said>) -> Result<()> {
        (self.process)(row, context)
    }

    fn on_timer(&self, key: &i64, timer: Timer, context: &mut ProcessContext<'_, Said>) -> Result<()> {
        (self.on_timer)(*key, timer, context)
    }
}

fn closure<P, T>(process: P, on_timer: T) -> Closure<P, T>
where
    P: Fn(Row, &mut ProcessContext<'_, Said>) -> Result<()> + Send + Sync + 'static,
    T: Fn(i64, Timer, &mut ProcessContext<'_, Said>) -> Result<()> + Send + Sync + 'static,
{
    Closure { process, on_timer }
}

/// Says that a timer fired.
fn report(k: i64, timer: Timer, context: &mut ProcessContext<'_, Said>) -> Result<()> {
    context.emit(Said { k, what: format!("{} {}", timer.domain, timer.time.0) });
    Ok(())
}

fn row(k: i64, ts: i64, v: i64) -> Row {
    Row { k, ts, v }
}

fn at(time: i64) -> Watermark {
    Watermark::At(Timestamp(time))
}

fn fired(k: i64, domain: TimeDomain, time: i64) -> String {
    format!(r#"{{"k":{k},"what":"{domain} {time}"}}"#)
}

#[test]
fn timers_fire_in_the_order_of_time_then_key_once_the_watermark_is_there() {
    let mut machine = Machine::of(|_| closure(|row, context| context.set_timer(Timer::event_time(row.v)), report));
    let event = |k, time| fired(k, TimeDomain::EventTime, time);
    let rows = [row(2, 0, 20), row(1, 0, 20), row(1, 0, 30), row(3, 0, 10), row(-1, 0, 20), row(2, 0, 20)];
    assert_eq!(machine.run(&rows, 0, at(9)), [] as [String; 0]);
    machine.restart();
    assert_eq!(machine.run(&[], 0, at(20)), [event(3, 10), event(-1, 20), event(1, 20), event(2, 20)]);
    assert_eq!(machine.run(&[], 0, at(20)), [] as [String; 0], "each once");
    assert_eq!(machine.run(&[row(4, 25, 5)], 0, at(25)), [event(4, 5)], "one whose time has come fires behind the rows");
    assert_eq!(machine.run(&[], 0, Watermark::End), [event(1, 30)]);
    assert!(machine.state().is_empty());
}

#[test]
fn a_deleted_timer_does_not_fire() {
    let process = |row: Row, context: &mut ProcessContext<'_, Said>| {
        let timer = Timer::event_time(row.v);
        if row.ts == 0 {
            return context.set_timer(timer);
        }
        context.delete_timer(timer);
        Ok(())
    };
    let mut machine = Machine::of(|_| closure(process, report));
    machine.run(&[row(1, 0, 10), row(1, 0, 11), row(2, 0, 10)], 0, at(0));
    machine.run(&[row(1, 1, 10), row(2, 1, 99)], 0, at(1));
    machine.restart();
    assert_eq!(machine.run(&[], 0, Watermark::End), [fired(2, TimeDomain::EventTime, 10), fired(1, TimeDomain::EventTime, 11)]);
}

#[test]
fn timers_of_processing_time_ask_for_a_batch_and_wait_for_it() {
    let process =
        |row: Row, context: &mut ProcessContext<'_, Said>| context.set_timer(Timer::processing_time(context.trigger_time().0 + row.v));
    let again = |k, timer: Timer, context: &mut ProcessContext<'_, Said>| {
        context.set_timer(Timer::processing_time(timer.time.0))?;
        report(k, timer, context)
    };
    let mut machine = Machine::of(|_| closure(process, again));
    let processing = |k, time| fired(k, TimeDomain::ProcessingTime, time);
    assert_eq!(machine.next_timer(), None);
    machine.run(&[row(1, 0, 7), row(2, 0, 5)], 100, at(0));
    assert_eq!(machine.next_timer(), Some(105));
    machine.restart();
    assert_eq!(machine.next_timer(), Some(105));
    assert_eq!(machine.run(&[], 106, at(0)), [processing(2, 105)]);
    assert_eq!(machine.run(&[], 107, Watermark::End), [processing(2, 105), processing(1, 107)], "what a timer sets for now waits");
}

/// Says the state's value before a row, and writes the row's.
fn remembering(states: &mut States, ttl: Ttl) -> impl ProcessFunction<Key = i64, Input = Row, Output = Said> + use<> {
    let last: ValueState<i64> = states.ttl(ttl).value("last");
    let process = move |row: Row, context: &mut ProcessContext<'_, Said>| {
        let what = format!("{:?}", last.get(context));
        context.emit(Said { k: row.k, what });
        last.set(context, row.v)
    };
    closure(process, report)
}

fn said(k: i64, what: &str) -> String {
    format!(r#"{{"k":{k},"what":"{what}"}}"#)
}

#[test]
fn a_life_by_processing_time_ends_with_a_batch_of_its_own() {
    let mut machine = Machine::of(|states| remembering(states, Ttl::processing_time(Duration::from_micros(10))));
    assert_eq!(machine.run(&[row(1, 0, 7)], 100, at(0)), [said(1, "None")]);
    assert_eq!(machine.next_timer(), Some(110));
    machine.restart();
    assert_eq!(machine.run(&[row(1, 0, 8)], 109, at(0)), [said(1, "Some(7)")]);
    assert_eq!(machine.next_timer(), Some(119), "a life begins with the last write");
    assert_eq!(machine.run(&[row(1, 0, 9)], 119, at(0)), [said(1, "None")]);
    machine.restart();
    assert_eq!(machine.state().len(), 1);
    assert_eq!(machine.run(&[], 129, at(0)), [] as [String; 0]);
    assert!(machine.state().is_empty() && machine.next_timer().is_none());
}

#[test]
fn a_life_by_event_time_goes_by_the_rows_and_ends_with_the_watermark() {
    let mut machine = Machine::of(|states| remembering(states, Ttl::event_time(Duration::from_micros(10))));
    let rows = [row(1, 100, 1), row(1, 109, 2), row(1, 119, 3), row(1, 105, 4), row(1, 128, 5)];
    assert_eq!(machine.run(&rows, 0, at(137)), ["None", "Some(1)", "None", "Some(3)", "Some(4)"].map(|what| said(1, what)));
    assert_eq!(machine.state().len(), 1);
    machine.restart();
    machine.run(&[], 0, at(138));
    assert!(machine.state().is_empty());
    assert_eq!(machine.run(&[row(1, 138, 0)], 0, at(138)), [said(1, "None")]);
}

/// An entry that was made anew by an older row lived as long as the one that was removed before it.
#[test]
fn an_entry_that_is_made_anew_has_a_life_of_its_own() {
    let ttl = Ttl::event_time(Duration::from_micros(10));
    let make = |states: &mut States| {
        let last: ValueState<i64> = states.ttl(ttl).value("last");
        closure(
            move |row, context| {
                context.emit(Said { k: row.k, what: format!("{:?}", last.get(context)) });
                last.clear(context);
                if row.v == 0 { Ok(()) } else { last.set(context, row.v) }
            },
            report,
        )
    };
    let rows = [row(1, 100, 1), row(1, 101, 0), row(1, 90, 2), row(1, 102, 3)];
    let expected = ["None", "Some(1)", "None", "None"].map(|what| said(1, what));
    let mut machine = Machine::of(make);
    assert_eq!(machine.run(&rows, 0, at(0)), expected);
    let mut cut = Machine::of(make);
    let one_by_one = rows.iter().flat_map(|row| {
        let out = cut.run(&[*row], 0, at(0));
        cut.restart();
        out
    });
    assert_eq!(one_by_one.collect::<Vec<_>>(), expected);
}

#[test]
fn late_rows_are_the_functions_to_judge() {
    let process = |row: Row, context: &mut ProcessContext<'_, Said>| {
        if context.is_late() {
            context.count_late();
            return Ok(());
        }
        context.emit(Said { k: row.k, what: format!("{:?}", context.watermark()) });
        Ok(())
    };
    let mut machine = Machine::of(|_| closure(process, report));
    assert_eq!(machine.run(&[row(1, 5, 0)], 0, at(50)), [said(1, "Unknown")]);
    assert_eq!(machine.run(&[row(1, 49, 0), row(1, 50, 0)], 0, at(60)), [said(1, "At(Timestamp(50))")]);
    assert_eq!(machine.late_rows, 1);
}

#[test]
fn timers_that_set_timers_for_ever_are_stopped() {
    let again = |_: i64, timer: Timer, context: &mut ProcessContext<'_, Said>| context.set_timer(Timer::event_time(timer.time.0 + 1));
    let mut machine = Machine::of(|_| closure(|row, context| context.set_timer(Timer::event_time(row.ts)), again));
    assert_eq!(machine.run(&[row(1, 0, 0)], 0, at(1_000)), [] as [String; 0], "up to the watermark is no harm");
    let error = machine.try_run(&[], 0, Watermark::End).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert_says(&error.to_string(), &["never end", "Watermark::End"]);
}

#[test]
fn event_time_where_there_is_none_is_refused() {
    let (pipeline, stream) = source(false);
    let stream = stream.key_by([col("k")]).process("f", |_| closure(|_, context| context.set_timer(Timer::event_time(1)), report));
    let error = Machine::new(&built(pipeline, stream.unwrap()).unwrap()).try_run(&[row(1, 0, 0)], 0, Watermark::Unknown).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert_says(&error.to_string(), &["no event time", "Stream::watermark"]);
    let (pipeline, stream) = source(false);
    let ttl = Ttl::event_time(Duration::from_secs(1));
    let stream = stream.key_by([col("k")]).process("f", |states| remembering(states, ttl)).unwrap();
    let error = built(pipeline, stream).expect_err("refused when it is planned");
    assert_says(&error.to_string(), &["operator 'f'", "'last'", "no event time"]);
}

#[test]
fn a_window_over_what_a_function_gives_says_where_it_can_stand() {
    let (pipeline, stream) = source(true);
    let said = stream.key_by([col("k")]).process("f", |_| closure(|_, _| Ok(()), report)).unwrap();
    let window = tumbling(cast(col("k"), timestamp()), Duration::from_secs(1));
    let windows = said.group_by([window]).aggregate([count_all()]).unwrap();
    let error = built(pipeline, windows).expect_err("nothing closes it");
    assert_eq!(error.kind(), ErrorKind::Config);
    assert_says(&error.to_string(), &["'append'", "the function 'f' carries no event time", "a timer", "'update'"]);
}
