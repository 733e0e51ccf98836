//! What must hold between a record and those before it: checked before a commit, when a defect of the program can still be stopped, and
//! again on load, when it is damage.

use super::envelope::Stored;
use super::record::{BatchRecord, Body, Record};
use waterclock_core::id::{Epoch, Seq};
use waterclock_core::time::Timestamp;

/// A record, and what it follows.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    /// The record before; none for the first one, or where the log is read from its middle.
    pub parent: Option<&'a Stored>,
    /// The newest batch's record before, if it is at hand.
    pub last: Option<&'a Record>,
    /// The record.
    pub next: &'a Record,
}

/// A predicate with its reason.
#[derive(Debug)]
pub struct Invariant {
    /// What must hold.
    pub name: &'static str,
    /// Why.
    pub reason: &'static str,
    holds: fn(&Step<'_>) -> bool,
}

/// All of them.
pub const INVARIANTS: &[Invariant] = &[
    Invariant { name: "the first record is an opening", reason: "a batch belongs to a driver that took over the job", holds: begins },
    Invariant { name: "numbers are dense", reason: "the newest record is found by its number", holds: dense },
    Invariant { name: "the parent's checksum fits", reason: "a record is only true of the history it was made for", holds: parent },
    Invariant {
        name: "an opening takes the next epoch, and a batch keeps its driver's",
        reason: "a driver of a lower epoch must not commit",
        holds: epoch,
    },
    Invariant { name: "time does not go back", reason: "now() is the trigger time, and jobs rely on its order", holds: time },
    Invariant { name: "batch numbers are dense", reason: "they name output files", holds: batches },
    Invariant { name: "nothing follows a drained batch", reason: "its watermarks are at their end", holds: drained },
    Invariant { name: "offsets are contiguous", reason: "a gap loses rows, an overlap doubles them", holds: offsets },
    Invariant { name: "no partition is forgotten", reason: "it would be read again from its start", holds: partitions },
    Invariant { name: "watermarks do not go back", reason: "what was closed would open again", holds: watermarks },
    Invariant { name: "latest event times do not go back", reason: "the watermark goes by them", holds: latest_times },
    Invariant { name: "state that was given up stays given up", reason: "its objects may be gone", holds: retained },
    Invariant { name: "publication is not ahead of the log", reason: "what is visible must be committed", holds: publication },
];

/// Checks all of them.
///
/// # Errors
/// The first that does not hold.
pub fn check(step: &Step<'_>) -> Result<(), &'static Invariant> {
    match INVARIANTS.iter().find(|invariant| !(invariant.holds)(step)) {
        Some(broken) => Err(broken),
        None => Ok(()),
    }
}

/// The batch before and the batch, where both are known.
fn batches_of<'a>(step: &Step<'a>) -> Option<(&'a BatchRecord, &'a BatchRecord)> {
    Some((step.last?.batch()?, step.next.batch()?))
}

fn begins(step: &Step<'_>) -> bool {
    step.next.seq != Seq::FIRST || (step.next.open().is_some() && step.next.epoch == Epoch::FIRST)
}

fn dense(step: &Step<'_>) -> bool {
    step.parent.is_none_or(|parent| step.next.seq == parent.record.seq.next())
}

fn parent(step: &Step<'_>) -> bool {
    let names_one = step.next.parent.is_some() == (step.next.seq != Seq::FIRST);
    names_one && step.parent.is_none_or(|parent| step.next.parent.as_ref() == Some(&parent.checksum))
}

fn epoch(step: &Step<'_>) -> bool {
    let Some(Stored { record: parent, .. }) = step.parent else { return true };
    match &step.next.body {
        Body::Open(_) => step.next.epoch == parent.epoch.next(),
        Body::Batch(batch) => step.next.epoch == parent.epoch && step.next.nonce == parent.nonce && batch.opened == parent.opened(),
    }
}

fn time(step: &Step<'_>) -> bool {
    step.parent.is_none_or(|parent| parent.record.time <= step.next.time)
}

fn batches(step: &Step<'_>) -> bool {
    let follows = match &step.next.body {
        Body::Open(open) => open.last,
        Body::Batch(batch) => batch.previous,
    };
    let numbered = step.next.batch().is_none_or(|batch| {
        let expected = batch.previous.map_or(0, |previous| previous.batch.0 + 1);
        batch.batch.0 == expected
    });
    numbered && step.parent.is_none_or(|parent| parent.record.last_batch() == follows)
}

fn drained(step: &Step<'_>) -> bool {
    batches_of(step).is_none_or(|(last, _)| !last.drained)
}

fn offsets(step: &Step<'_>) -> bool {
    let Some((last, next)) = batches_of(step) else { return true };
    next.sources.iter().all(|(id, source)| {
        let Some(before) = last.sources.get(id) else { return true };
        let reads = source.partitions.iter().all(|read| before.end_of(&read.cut.partition).is_none_or(|end| *end == read.cut.start));
        reads && source.standing.iter().all(|(partition, standing)| before.end_of(partition) == Some(&standing.end))
    })
}

fn partitions(step: &Step<'_>) -> bool {
    let Some((last, next)) = batches_of(step) else { return true };
    last.sources.iter().all(|(id, before)| {
        let Some(source) = next.sources.get(id) else { return false };
        let read = before.partitions.iter().map(|read| &read.cut.partition);
        read.chain(before.standing.keys()).all(|partition| source.end_of(partition).is_some())
    })
}

fn watermarks(step: &Step<'_>) -> bool {
    let Some((last, next)) = batches_of(step) else { return true };
    let sources = last.sources.iter().all(|(id, before)| next.sources.get(id).is_none_or(|after| before.watermark <= after.watermark));
    let operators =
        |(id, before): (_, &super::record::OperatorRecord)| next.operators.get(id).is_none_or(|after| before.watermark <= after.watermark);
    sources && last.operators.iter().all(operators)
}

fn latest_times(step: &Step<'_>) -> bool {
    let Some((last, next)) = batches_of(step) else { return true };
    next.sources.iter().all(|(id, next)| {
        let Some(last) = last.sources.get(id) else { return true };
        let goes_back = |(partition, before): (_, &Timestamp)| next.latest.get(partition).is_none_or(|after| after < before);
        // An earlier version keeps none.
        next.latest.is_empty() || !last.latest.iter().any(goes_back)
    })
}

fn retained(step: &Step<'_>) -> bool {
    let own = step.next.batch().is_none_or(|next| next.retained <= next.batch);
    own && batches_of(step).is_none_or(|(last, next)| last.retained <= next.retained)
}

fn publication(step: &Step<'_>) -> bool {
    let Some(next) = step.next.batch() else { return true };
    let behind = next.sinks.values().all(|sink| sink.published.is_none_or(|published| published < next.batch));
    let forward = batches_of(step).is_none_or(|(last, next)| {
        last.sinks.iter().all(|(id, before)| next.sinks.get(id).is_none_or(|after| before.published <= after.published))
    });
    behind && forward
}

#[cfg(test)]
mod tests {
    use super::super::{envelope, samples};
    use super::*;
    use std::collections::BTreeMap;
    use waterclock_core::id::{BatchId, Checksum, Nonce, SinkId, SourceId};
    use waterclock_core::source::Offset;
    use waterclock_core::time::Watermark;

    fn broken(log: &[Record], at: usize) -> Option<&'static str> {
        let stored = |record: &Record| envelope::decode(&envelope::encode(record).unwrap()).unwrap();
        let parent = at.checked_sub(1).map(|before| stored(&log[before]));
        let last = log[..at].iter().rev().find(|record| record.batch().is_some());
        check(&Step { parent: parent.as_ref(), last, next: &log[at] }).err().map(|invariant| invariant.name)
    }

    /// Breaks one thing in the last record of a good log of four batches with an opening in between.
    fn after(change: impl FnOnce(&mut Record)) -> Option<&'static str> {
        let mut log = samples::log(4);
        let at = log.len() - 1;
        change(&mut log[at]);
        broken(&log, at)
    }

    fn batch(record: &mut Record) -> &mut BatchRecord {
        match &mut record.body {
            Body::Batch(batch) => batch,
            Body::Open(_) => panic!("the sample ends with a batch"),
        }
    }

    #[test]
    fn a_good_log_breaks_none() {
        let log = samples::log(6);
        for at in 0..log.len() {
            assert_eq!(broken(&log, at), None, "record {at}");
        }
    }

    #[test]
    fn each_damage_breaks_its_invariant() {
        let bid = || SourceId::from("bid");
        type Damage = Box<dyn FnOnce(&mut Record)>;
        let cases: Vec<(&str, Damage)> = vec![
            ("numbers are dense", Box::new(|record| record.seq.0 += 1)),
            ("the parent's checksum fits", Box::new(|record| record.parent = Some(Checksum::of(b"other")))),
            ("an opening takes", Box::new(|record| record.epoch.0 += 1)),
            ("an opening takes", Box::new(|record| record.nonce = Nonce::from("other"))),
            ("time does not", Box::new(|record| record.time = Timestamp(0))),
            ("batch numbers", Box::new(|record| batch(record).batch.0 += 1)),
            (
                "offsets are",
                Box::new(move |record| {
                    batch(record).sources.get_mut(&bid()).unwrap().partitions[0].cut.start = Offset(0.into());
                }),
            ),
            ("no partition", Box::new(move |record| batch(record).sources.get_mut(&bid()).unwrap().partitions.clear())),
            ("no partition", Box::new(|record| batch(record).sources.clear())),
            ("watermarks", Box::new(move |record| batch(record).sources.get_mut(&bid()).unwrap().watermark = Watermark::Unknown)),
            (
                "latest event times",
                Box::new(move |record| {
                    batch(record).sources.get_mut(&bid()).unwrap().latest = BTreeMap::from([("p".into(), Timestamp(1))])
                }),
            ),
            (
                "latest event times",
                Box::new(move |record| {
                    batch(record).sources.get_mut(&bid()).unwrap().latest = BTreeMap::from([("q".into(), Timestamp(9))])
                }),
            ),
            ("state that was given up", Box::new(|record| batch(record).retained = BatchId(4))),
            (
                "publication",
                Box::new(|record| {
                    let own = batch(record).batch;
                    batch(record).sinks.get_mut(&SinkId::from("out")).unwrap().published = Some(own);
                }),
            ),
            ("publication", Box::new(|record| batch(record).sinks.get_mut(&SinkId::from("out")).unwrap().published = Some(BatchId(0)))),
        ];
        for (name, damage) in cases {
            let broken = after(damage);
            assert!(broken.is_some_and(|broken| broken.starts_with(name)), "{name}: {broken:?}");
        }
    }

    #[test]
    fn a_log_begins_with_an_opening() {
        let mut log = samples::log(1);
        let mut first = log.remove(1);
        (first.seq, first.parent) = (Seq(0), None);
        assert_eq!(broken(&[first], 0), Some("the first record is an opening"));
    }

    #[test]
    fn nothing_follows_a_drained_batch() {
        let mut log = samples::log(2);
        let at = log.len() - 1;
        batch(&mut log[at - 1]).drained = true;
        let stored = envelope::decode(&envelope::encode(&log[at - 1]).unwrap()).unwrap();
        log[at].parent = Some(stored.checksum);
        assert_eq!(broken(&log, at), Some("nothing follows a drained batch"));
    }
}
