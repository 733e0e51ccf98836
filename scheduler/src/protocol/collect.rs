//! Which leftovers may go, and which state nobody may ask for any more.
//!
//! An object of state is written just before the one record that names it first, and carries that record's number, and the writer's
//! epoch and nonce. So it is garbage if and only if another writer's record, or none, stands at that number, and nobody can put one
//! there any more. The last is true for epochs below that of an opening which is committed.
//!
//! A merged layer carries the number of the record whose layers it stands for: a later one of the same writer may name it, and which one
//! is not to be seen. So it is given up once the oldest batch that is kept is of a later epoch, and does not name it.
//!
//! Of what was named, the state of the newest batches is kept: each record says from which batch on ([`BatchRecord::retained`]), and that
//! never goes back. A layer that a batch no longer names is named by none behind it. So an object may go if and only if the oldest
//! batch that is kept does not name it, nor could one behind: if it was dropped by this batch or before.

use super::paths::Writer;
use super::record::{BatchRecord, LayerPlace, Record};
use std::collections::{BTreeSet, VecDeque};
use std::num::NonZeroU64;
use waterclock_core::id::{BatchId, Epoch};

/// Whether an object of state may be removed. `record` is the one at the object's number, if there is one.
///
/// IMPORTANT: only asked by a driver whose opening, of epoch `current`, is committed.
pub fn is_garbage(object: &Writer, record: Option<&Record>, current: Epoch) -> bool {
    let named = record.is_some_and(|record| record.epoch == object.epoch && record.nonce == object.nonce && record.batch().is_some());
    object.epoch < current && !named
}

/// The oldest batch whose state is kept once `batch` is committed: so many are, and what was given up before stays given up.
pub fn retained(batch: BatchId, retain: NonZeroU64, before: BatchId) -> BatchId {
    before.max(BatchId((batch.0 + 1).saturating_sub(retain.get())))
}

/// The objects that a batch's record names.
pub fn named(batch: &BatchRecord) -> BTreeSet<String> {
    let path = |place: &LayerPlace| match place {
        LayerPlace::Object(path) => Some(path.clone()),
        LayerPlace::Inline(_) | LayerPlace::Record(_) => None,
    };
    batch.layers().filter_map(|layer| path(&layer.place)).collect()
}

/// Whether an object, which a record of a batch once named, may be removed. `oldest` is the record of the oldest batch that is kept.
pub fn is_given_up(object: &Writer, path: &str, oldest: &Record) -> bool {
    let needed = oldest.batch().is_none_or(|batch| named(batch).contains(path));
    object.seq <= oldest.seq && !needed
}

/// Whether a merged layer may be removed. `oldest` is the record of the oldest batch that is kept.
///
/// IMPORTANT: only asked by a driver whose opening is committed, of an object of an earlier epoch.
pub fn is_merged_given_up(object: &Writer, path: &str, oldest: &Record) -> bool {
    let needed = oldest.batch().is_none_or(|batch| named(batch).contains(path));
    object.epoch < oldest.epoch && !needed
}

/// The objects of state that retained batches name: the newest one, or only earlier ones. Plain data; removes nothing itself.
#[derive(Debug, Clone, Default)]
pub struct RetainedObjects {
    /// By the newest batch.
    named: BTreeSet<String>,
    /// By earlier ones only, with the batch that dropped each, oldest first.
    dropped: VecDeque<(BatchId, String)>,
}

impl RetainedObjects {
    /// Begins behind a batch. `kept` are all objects that are there: when the others were dropped is not known, so it counts as now.
    pub fn behind(last: &BatchRecord, kept: impl IntoIterator<Item = String>) -> Self {
        let named = named(last);
        let dropped = kept.into_iter().filter(|path| !named.contains(path)).map(|path| (last.batch, path)).collect();
        Self { named, dropped }
    }

    /// Takes the record of a batch that is committed. Returns the objects that no batch which is kept names, nor will any to come.
    pub fn commit(&mut self, batch: &BatchRecord) -> Vec<String> {
        let before = std::mem::replace(&mut self.named, named(batch));
        let dropped = before.into_iter().filter(|path| !self.named.contains(path)).map(|path| (batch.batch, path));
        self.dropped.extend(dropped);
        let given_up = self.dropped.iter().take_while(|(dropped, _)| *dropped <= batch.retained).count();
        self.dropped.drain(..given_up).map(|(_, path)| path).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::paths;
    use super::super::samples;
    use super::*;
    use proptest::prelude::*;
    use waterclock_core::id::{Nonce, OperatorId, Seq};

    #[test]
    fn what_a_record_names_or_may_still_name_stays() {
        let log = samples::log(4);
        let record = &log[1];
        let writer = |epoch: u64, nonce: &str| Writer { seq: Seq(1), epoch: Epoch(epoch), nonce: Nonce::from(nonce) };
        assert!(!is_garbage(&writer(0, "n0"), Some(record), Epoch(1)), "named");
        assert!(is_garbage(&writer(0, "lost"), Some(record), Epoch(1)), "another writer won");
        assert!(is_garbage(&writer(0, "lost"), None, Epoch(1)), "never committed");
        assert!(is_garbage(&writer(0, "n0"), Some(&log[0]), Epoch(1)), "an opening names no state");
        for epoch in [1, 2] {
            assert!(!is_garbage(&writer(epoch, "lost"), None, Epoch(1)), "epoch {epoch} may still commit");
        }
    }

    /// A log in which batch `n` drops some of the layers before it, and puts a new object on top; with an opening among the records.
    fn records(drops: &[u64], retain: u64) -> Vec<Record> {
        let mut log = samples::log(drops.len() as u64);
        log.retain(|record| record.batch().is_some());
        let (mut live, mut boundary): (Vec<String>, _) = (Vec::new(), BatchId::FIRST);
        for (record, drop) in log.iter_mut().zip(drops) {
            let writer = Writer { seq: record.seq, epoch: record.epoch, nonce: record.nonce.clone() };
            let super::super::record::Body::Batch(batch) = &mut record.body else { panic!("only batches are left") };
            live.truncate(live.len().saturating_sub(*drop as usize));
            live.push(paths::state(&writer, 0).to_string());
            boundary = retained(batch.batch, NonZeroU64::new(retain).unwrap(), boundary);
            batch.retained = boundary;
            let mut layer = batch.sources.values_mut().next().unwrap();
            let sample = layer.layers.remove(0);
            layer = batch.sources.values_mut().next().unwrap();
            layer.layers.clear();
            let place = |path: &String| LayerPlace::Object(path.clone());
            let layers = live.iter().map(|path| super::super::record::LayerRef { place: place(path), ..sample.clone() }).collect();
            batch.operators.get_mut(&OperatorId::from("counts")).unwrap().layers = layers;
        }
        log
    }

    /// What is kept, by the definition: named by a batch of the newest so many.
    fn needed(log: &[Record]) -> BTreeSet<String> {
        let boundary = log.last().and_then(Record::batch).map_or(BatchId::FIRST, |batch| batch.retained);
        log.iter().filter_map(Record::batch).filter(|batch| batch.batch >= boundary).flat_map(named).collect()
    }

    proptest! {
        /// Never an object that a retained record names, and sooner or later every other one; from any restart on.
        #[test]
        fn what_no_retained_record_names_goes(drops in prop::collection::vec(0u64..4, 1..40), retain in 1u64..8, restart in 0usize..40) {
            let log = records(&drops, retain);
            let mut kept: BTreeSet<String> = BTreeSet::new();
            let mut retained_objects = RetainedObjects::default();
            for at in 0..log.len() {
                let batch = log[at].batch().unwrap();
                kept.extend(named(batch));
                for path in retained_objects.commit(batch) {
                    prop_assert!(kept.remove(&path), "{} goes once", path);
                }
                let needed = needed(&log[..=at]);
                prop_assert!(needed.is_subset(&kept), "batch {}: {:?} is gone", at, needed.difference(&kept));
                if at < restart || at > restart + retain as usize {
                    prop_assert_eq!(&kept, &needed, "batch {}", at);
                }
                if at == restart {
                    let oldest = log.iter().find(|record| record.batch().unwrap().batch == batch.retained).unwrap();
                    let writer = |path: &str| paths::parse_state(&object_store::path::Path::from(path)).unwrap();
                    kept.retain(|path| !is_given_up(&writer(path), path, oldest));
                    prop_assert_eq!(&kept, &needed, "the restart at batch {}", at);
                    retained_objects = RetainedObjects::behind(batch, kept.iter().cloned());
                }
            }
        }

        /// Epochs of so many batches each. A merged layer is made behind one of them, named by so many after a while, or by none.
        #[test]
        fn merged_layers_go_once_no_retained_record_can_name_them(
            epochs in prop::collection::vec(1u64..6, 1..8),
            made in prop::collection::vec((0u64..40, 1u64..4, 0u64..12), 1..6),
            retain in 1u64..8,
        ) {
            let total: u64 = epochs.iter().sum();
            let mut log = records(&vec![0; total as usize], retain);
            let of_batch: Vec<u64> = epochs.iter().enumerate().flat_map(|(epoch, batches)| vec![epoch as u64; *batches as usize]).collect();
            let end_of = |epoch: u64| epochs[..=epoch as usize].iter().sum::<u64>();
            let mut objects = Vec::new();
            for (number, (behind, after, batches)) in made.into_iter().enumerate() {
                let behind = behind % total;
                let epoch = of_batch[behind as usize];
                let path = format!("merged-{number}");
                let first = behind + after;
                // Nobody else puts it in place.
                let named = if first < end_of(epoch) { first..(first + batches).min(total) } else { 0..0 };
                for batch in named {
                    let super::super::record::Body::Batch(batch) = &mut log[batch as usize].body else { panic!("only batches are left") };
                    let layers = &mut batch.operators.get_mut(&OperatorId::from("counts")).unwrap().layers;
                    let layer = super::super::record::LayerRef { place: LayerPlace::Object(path.clone()), ..layers[0].clone() };
                    layers.push(layer);
                }
                objects.push((path, behind, Writer { seq: log[behind as usize].seq, epoch: Epoch(epoch), nonce: Nonce::from("n") }));
            }
            log.iter_mut().zip(&of_batch).for_each(|(record, epoch)| record.epoch = Epoch(*epoch));
            for epoch in 1..epochs.len() as u64 {
                let log = &log[..end_of(epoch - 1) as usize];
                let needed = needed(log);
                let boundary = log.last().and_then(Record::batch).unwrap().retained;
                let oldest = log.iter().find(|record| record.batch().unwrap().batch == boundary).unwrap();
                for (path, behind, writer) in objects.iter().filter(|(_, behind, _)| *behind < log.len() as u64) {
                    let goes = is_merged_given_up(writer, path, oldest);
                    prop_assert!(!goes || !needed.contains(path), "{} is gone", path);
                    prop_assert!(goes || needed.contains(path) || of_batch[*behind as usize] >= oldest.epoch.0, "{} stays", path);
                }
            }
        }

        #[test]
        fn the_boundary_keeps_so_many_batches_and_never_goes_back(retains in prop::collection::vec(1u64..9, 1..30)) {
            let mut boundary = BatchId::FIRST;
            for (batch, retain) in retains.into_iter().enumerate() {
                let batch = BatchId(batch as u64);
                let next = retained(batch, NonZeroU64::new(retain).unwrap(), boundary);
                prop_assert!(boundary <= next && next <= batch);
                prop_assert!(batch.0 - next.0 < retain);
                boundary = next;
            }
        }
    }
}
