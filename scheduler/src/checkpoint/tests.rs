//! Tables against a model: a map that is changed by the same changes.

use super::*;
use crate::log::{Appended, Log};
use crate::protocol::samples;
use crate::seams::Merging;
use crate::testing::{Effect, Fault, FaultStore, Faults};
use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use proptest::prelude::*;
use std::sync::Arc;
use waterclock_core::ErrorKind;
use waterclock_core::id::{Epoch, Nonce};
use waterclock_core::storage::{Access, Location, Storage, Store, StoreOptions};

/// A change of some keys; none means that the key goes.
type Change = BTreeMap<i64, Option<String>>;

fn layer(change: &Change) -> StateLayer {
    let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(change.keys().copied()));
    let values: ArrayRef = Arc::new(change.values().cloned().collect::<StringArray>());
    let rows = RecordBatch::try_from_iter_with_nullable([("k", keys, false), ("v", values, true)]).unwrap();
    let removed = change.values().map(|value| Some(value.is_none())).collect::<BooleanArray>();
    StateLayer { table: StateTable::new("t", 1), rows, removed }
}

fn content(layers: &[StateLayer]) -> BTreeMap<i64, String> {
    let mut content = BTreeMap::new();
    for layer in layers {
        let (keys, values) = (layer.rows.column(0).as_primitive::<Int64Type>(), layer.rows.column(1).as_string::<i32>());
        for row in 0..layer.rows.num_rows() {
            match layer.removed.value(row) {
                true => drop(content.remove(&keys.value(row))),
                false => drop(content.insert(keys.value(row), values.value(row).to_owned())),
            }
        }
    }
    content
}

/// The keys as they come.
fn in_order(layers: &[StateLayer]) -> Vec<i64> {
    layers.iter().flat_map(|layer| layer.rows.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
}

/// Values of up to 2,000 bytes, so that some batches stand inline and some do not.
fn changes() -> impl Strategy<Value = Vec<Vec<Change>>> {
    let value = prop::option::weighted(0.7, (0usize..2_000).prop_map(|length| "x".repeat(length)));
    let change = prop::collection::btree_map(0i64..12, value, 0..6);
    prop::collection::vec(prop::collection::vec(change, 0..3), 1..20)
}

/// A record of these tables, committed.
fn commit(log: &Log, records: &[crate::protocol::record::Record], tables: &Tables, owner: &Owner, seq: Seq) -> BatchRecord {
    let mut record = records[1].clone();
    record.seq = seq;
    let crate::protocol::record::Body::Batch(batch) = &mut record.body else { panic!("the sample is a batch") };
    batch.sources.clear();
    let Owner::Operator(id) = owner else { panic!("the owner is an operator") };
    batch.operators.get_mut(id).unwrap().layers = tables.references(owner);
    let batch = batch.as_ref().clone();
    assert!(matches!(log.append(&record).unwrap(), Appended::Mine(_)));
    batch
}

/// Where layers are merged.
fn mergings() -> impl Strategy<Value = Merging> {
    (prop::sample::select(vec![0, 3_000, u64::MAX]), any::<bool>()).prop_map(|(beside_from, on_a_thread)| Merging {
        beside_from,
        on_a_thread,
        ..Merging::default()
    })
}

/// After every batch, from memory and from a fresh reading of the record: the state is the model's, in a short chain.
fn assert_loaded(batches: &[Vec<Change>], forget: u32, whole: u32, merging: Merging) {
    let storage = Storage::builder().start().unwrap();
    let store = storage.open(&Location::parse("memory://c").unwrap(), &StoreOptions::default(), Access::Write).unwrap();
    let log = Log::new(store.clone());
    let loader = Loader::new(log.clone());
    let records = samples::log(1);
    let owner = Owner::Operator("counts".into());
    let (mut tables, mut model) = (Tables::default(), BTreeMap::new());
    let mut merger = Merger::new(loader.clone(), merging);
    for (index, batch) in batches.iter().enumerate() {
        for (key, value) in batch.iter().flatten() {
            match value {
                Some(value) => drop(model.insert(*key, value.clone())),
                None => drop(model.remove(key)),
            }
        }
        let writer = Writer { seq: Seq(index as u64), epoch: Epoch(0), nonce: Nonce::from("n") };
        let is_whole = whole >> (index % 32) & 1 == 1 && !model.is_empty();
        let change = |change: &Change| StateChange { owner: owner.clone(), part: layer(change), is_whole };
        let all: Change = model.iter().map(|(key, value)| (*key, Some(value.clone()))).collect();
        let mut parts = vec![if is_whole { all } else { batch.iter().flatten().map(|(key, value)| (*key, value.clone())).collect() }];
        let later = parts[0].split_off(&5);
        parts.push(later);
        let changes = parts.iter().map(change).collect();
        let staged = tables.stage(changes, &BTreeMap::new(), &writer, &loader, &mut merger).unwrap();
        store.begin_puts(staged.objects).into_iter().for_each(|put| put.wait().unwrap());
        staged.useless.iter().for_each(|path| store.delete(path).unwrap());
        tables = staged.tables;
        let record = commit(&log, &records, &tables, &owner, writer.seq);
        tables.commit(writer.seq);
        assert_eq!(content(&tables.load(&owner, &loader).unwrap()), model.clone());
        let fresh = Tables::of(writer.seq, &record);
        // On the threads of a pool, which look shares of the keys up side by side.
        let (loaded, ()) = rayon::join(|| fresh.load(&owner, &loader).unwrap(), || ());
        assert_eq!(content(&loaded), model.clone());
        for chain in fresh.chains.values() {
            let merged = merge(&load_all(chain, &owner, &loader).unwrap(), true, Watermark::Unknown).unwrap();
            assert_eq!(in_order(&loaded), in_order(&[merged]), "rows come in the order in which they were written");
        }
        assert!(fresh.references(&owner).len() < if is_whole { 2 } else { 20 });
        if forget >> (index % 32) & 1 == 1 {
            tables = fresh;
            merger = Merger::new(loader.clone(), merging);
        }
        tables.merge_beside(&BTreeMap::new(), &writer, &mut merger);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_loaded_is_what_was_changed(batches in changes(), forget in any::<u32>(), whole in any::<u32>(), merging in mergings()) {
        assert_loaded(&batches, forget, whole & whole >> 8, merging);
    }
}

#[test]
fn the_same_change_in_several_batches_is_found_in_each() {
    let change = Change::from([(1, Some("x".to_owned()))]);
    for (forget, beside_from) in [(0, 0), (0, u64::MAX), (u32::MAX, 0), (u32::MAX, u64::MAX)] {
        assert_loaded(&vec![vec![change.clone()]; 6], forget, 0, Merging { beside_from, on_a_thread: false, ..Merging::default() });
    }
}

/// A chain of objects, committed, and what it was made with.
struct Chain {
    store: Store,
    loader: Loader,
    tables: Tables,
    merger: Merger,
    batches: u64,
}

impl Chain {
    fn new(merging: Merging) -> Self {
        Self::within(&Storage::builder().start().unwrap(), merging)
    }

    fn within(storage: &Storage, merging: Merging) -> Self {
        Self::of(storage.open(&Location::parse("memory://c").unwrap(), &StoreOptions::default(), Access::Write).unwrap(), merging)
    }

    fn of(store: Store, merging: Merging) -> Self {
        let loader = Loader::new(Log::new(store.clone()));
        Self { store, merger: Merger::new(loader.clone(), merging), loader, tables: Tables::default(), batches: 0 }
    }

    fn writer(&self) -> Writer {
        Writer { seq: Seq(self.batches), epoch: Epoch(0), nonce: Nonce::from("n") }
    }

    /// A batch that changes one key. Returns what is of no use.
    fn batch(&mut self, key: i64, bytes: usize) -> Vec<Path> {
        self.try_batch(key, bytes, Watermark::Unknown).unwrap()
    }

    fn try_batch(&mut self, key: i64, bytes: usize, watermark: Watermark) -> Result<Vec<Path>> {
        self.try_change(&Change::from([(key, Some("x".repeat(bytes)))]), watermark)
    }

    fn try_change(&mut self, change: &Change, watermark: Watermark) -> Result<Vec<Path>> {
        let owner = Owner::Operator("counts".into());
        let change = layer(change);
        let writer = self.writer();
        let watermarks = BTreeMap::from([(owner.clone(), watermark)]);
        let change = StateChange { owner, part: change, is_whole: false };
        let staged = self.tables.stage(vec![change], &watermarks, &writer, &self.loader, &mut self.merger)?;
        self.store.begin_puts(staged.objects).into_iter().for_each(|put| put.wait().unwrap());
        self.tables = staged.tables;
        self.tables.commit(writer.seq);
        self.batches += 1;
        Ok(staged.useless)
    }

    /// The layers of the only table.
    fn chain(&mut self) -> &mut Vec<LiveLayer> {
        self.tables.chains.values_mut().next().unwrap()
    }

    fn begin(&mut self) {
        self.tables.merge_beside(&BTreeMap::new(), &self.writer(), &mut self.merger);
    }

    fn layers(&self) -> usize {
        self.tables.chains.values().map(Vec::len).sum()
    }

    /// How many rows each layer has.
    fn rows(&mut self) -> Vec<u64> {
        self.chain().iter().map(|layer| layer.reference.rows).collect()
    }

    fn merged_objects(&self) -> usize {
        let objects = self.store.list(Some(&paths::states())).unwrap();
        objects.iter().filter(|object| paths::parse_merged(&object.location).is_some()).count()
    }

    fn keys(&self) -> Vec<i64> {
        content(&self.tables.load(&Owner::Operator("counts".into()), &self.loader).unwrap()).into_keys().collect()
    }
}

#[test]
fn a_large_merge_is_put_in_place_by_a_later_batch() {
    let mut chain = Chain::new(Merging { beside_from: 1, on_a_thread: false, ..Merging::default() });
    (0..4).for_each(|key| assert!(chain.batch(key, 5_000).is_empty()));
    assert_eq!(chain.layers(), 4);
    chain.begin();
    assert_eq!(chain.layers(), 4, "the record's layers stand as they are");
    assert!(chain.batch(4, 5_000).is_empty());
    assert_eq!((chain.layers(), chain.keys()), (2, vec![0, 1, 2, 3, 4]));
}

/// Layers of local files, whose keys do not all fit: they are read several times.
#[test]
fn a_merge_that_takes_its_keys_share_by_share_takes_them_all() {
    let directory = tempfile::tempdir().unwrap();
    let location = Location::from_path(directory.path()).unwrap();
    let storage = Storage::builder().fsync(false).start().unwrap();
    for keys_at_once in [0, 2, u64::MAX] {
        let store = storage.open(&location.join(&keys_at_once.to_string()).unwrap(), &StoreOptions::default(), Access::Write).unwrap();
        let mut chain = Chain::of(store, Merging { beside_from: 1, on_a_thread: false, keys_at_once });
        let changes: Vec<Change> = (0..4).map(|layer| (layer..layer + 9).map(|key| (key, Some("x".repeat(900)))).collect()).collect();
        changes.iter().for_each(|change| assert!(chain.try_change(change, Watermark::Unknown).unwrap().is_empty()));
        let before = content(&chain.tables.load(&Owner::Operator("counts".into()), &chain.loader).unwrap());
        chain.begin();
        assert!(chain.batch(12, 5_000).is_empty());
        assert_eq!((chain.layers(), chain.rows()), (2, vec![12, 1]));
        assert_eq!(chain.keys(), before.into_keys().chain([12]).collect::<Vec<_>>());
    }
}

#[test]
fn a_commit_that_merges_reads_nothing() {
    let faults = Faults::default();
    let wrap = faults.clone();
    let storage = Storage::builder().wrap(move |_, store| Arc::new(FaultStore::new(store, wrap.clone()))).start().unwrap();
    let mut chain = Chain::within(&storage, Merging::default());
    let lengths: Vec<usize> = (0..60)
        .map(|key| {
            assert!(chain.batch(key, 40_000).is_empty());
            chain.layers()
        })
        .collect();
    assert!(lengths.windows(2).any(|pair| pair[1] < pair[0]), "nothing was merged: {lengths:?}");
    let reads = |operations: Vec<String>| operations.into_iter().filter(|operation| !operation.starts_with("put")).collect::<Vec<_>>();
    assert_eq!(reads(faults.operations()), Vec::<String>::new());
    assert_eq!(chain.keys(), (0..60).collect::<Vec<_>>());
    assert!(!reads(faults.operations()).is_empty(), "older layers are not kept in memory");
}

/// Four layers that are merged beside the batches, behind which nothing has happened yet.
fn four_layers_merged() -> Chain {
    let mut chain = Chain::new(Merging { beside_from: 1, on_a_thread: false, ..Merging::default() });
    (0..4).for_each(|key| assert!(chain.batch(key, 5_000).is_empty()));
    chain.begin();
    chain
}

#[test]
fn a_merge_whose_layers_are_gone_is_useless() {
    let mut chain = four_layers_merged();
    chain.chain().remove(1);
    let useless = chain.batch(4, 5_000);
    assert_eq!(useless.len(), 1);
    assert!(chain.store.get(&useless[0]).unwrap().is_some());
    assert_eq!((chain.layers(), chain.keys()), (4, vec![0, 2, 3, 4]));
}

#[test]
fn a_merge_stands_for_the_layers_that_have_not_expired_meanwhile() {
    let mut chain = Chain::new(Merging { beside_from: 1, on_a_thread: false, ..Merging::default() });
    (0..4).for_each(|key| assert!(chain.batch(key, 5_000).is_empty()));
    chain.chain()[0].reference.expires_at = Some(Timestamp(10));
    chain.begin();
    assert!(chain.try_batch(4, 5_000, Watermark::At(Timestamp(10))).unwrap().is_empty());
    assert_eq!(chain.layers(), 2);
}

#[test]
fn what_is_merged_anew_in_the_batch_that_puts_it_in_place_is_useless() {
    let mut chain = four_layers_merged();
    // So much that the chain is overdue with the merged layer, too.
    let newest = chain.chain()[3].clone();
    chain.chain().extend(vec![newest; 40]);
    let useless = chain.batch(4, 5_000);
    assert_eq!((useless.len(), chain.layers(), chain.keys()), (1, 2, vec![0, 1, 2, 3, 4]));
}

/// Large layers that nobody has merged beside the batches, because that failed, or took too long.
#[test]
fn an_overdue_chain_is_merged_before_the_next_commit() {
    let faults = Faults::default();
    let wrap = faults.clone();
    let storage = Storage::builder().wrap(move |_, store| Arc::new(FaultStore::new(store, wrap.clone()))).start().unwrap();
    let mut chain = Chain::within(&storage, Merging { beside_from: 1, on_a_thread: false, ..Merging::default() });
    (0..10).for_each(|key| assert!(chain.batch(key, 5_000).is_empty()));
    assert_eq!((chain.layers(), chain.merged_objects()), (10, 0));
    for at in [0, 5, 11] {
        faults.arm(Some(Fault { at, effect: Effect::Before, dead: false }));
        assert_eq!(chain.try_batch(10, 5_000, Watermark::Unknown).unwrap_err().kind(), ErrorKind::Unavailable, "step {at}");
        faults.arm(None);
        assert_eq!((chain.layers(), chain.merged_objects()), (10, 0));
    }
    assert!(chain.batch(10, 5_000).is_empty());
    assert_eq!((chain.layers(), chain.merged_objects(), chain.keys()), (2, 1, (0..11).collect()));
}

/// The layers above those that are being merged are not a table of their own, and however long it takes, no commit merges much.
#[test]
fn a_commit_does_not_merge_what_is_large_while_a_merge_is_under_way() {
    let faults = Faults::default();
    let wrap = faults.clone();
    let storage = Storage::builder().wrap(move |_, store| Arc::new(FaultStore::new(store, wrap.clone()))).start().unwrap();
    let mut chain = Chain::within(&storage, Merging { beside_from: 100_000, on_a_thread: true, ..Merging::default() });
    (0..4).for_each(|key| assert!(chain.batch(key, 60_000).is_empty()));
    faults.hold("get state", "put end");
    chain.begin();
    let layers: Vec<usize> = (4..14)
        .map(|key| {
            assert!(chain.batch(key, 30_000).is_empty());
            chain.layers()
        })
        .collect();
    assert_eq!(layers, (5..15).collect::<Vec<_>>());
    chain.store.put(&Path::from("end"), Bytes::new()).unwrap();
    assert!(chain.merger.wait().unwrap().unwrap().merged.is_ok());
    assert_eq!(chain.keys(), (0..14).collect::<Vec<_>>());
}

#[test]
fn a_layer_that_is_missing_and_no_longer_needed_is_no_damage() {
    let mut chain = Chain::new(Merging { beside_from: 1, on_a_thread: false, ..Merging::default() });
    (0..4).for_each(|key| assert!(chain.batch(key, 5_000).is_empty()));
    let path = chain.store.list(Some(&paths::states())).unwrap()[0].location.clone();
    chain.store.delete(&path).unwrap();
    chain.begin();
    chain.chain().remove(0);
    assert!(chain.batch(4, 5_000).is_empty());
    assert_eq!(chain.keys(), [1, 2, 3, 4]);
}

#[test]
fn a_layer_that_has_expired_and_was_removed_meanwhile_is_no_damage() {
    let mut chain = Chain::new(Merging { beside_from: 1, on_a_thread: false, ..Merging::default() });
    (0..4).for_each(|key| assert!(chain.batch(key, 5_000).is_empty()));
    chain.chain()[0].reference.expires_at = Some(Timestamp(10));
    let path = chain.store.list(Some(&paths::states())).unwrap()[0].location.clone();
    chain.store.delete(&path).unwrap();
    chain.begin();
    assert!(chain.try_batch(4, 5_000, Watermark::At(Timestamp(10))).unwrap().is_empty());
    assert_eq!(chain.keys(), [1, 2, 3, 4]);
    chain.begin();
    chain.batch(5, 5_000);
    assert_eq!((chain.layers(), chain.keys()), (2, vec![1, 2, 3, 4, 5]), "it is tried again");
}

#[test]
fn a_merge_that_is_overdue_is_waited_for() {
    let mut chain = Chain::new(Merging { beside_from: 1, on_a_thread: true, ..Merging::default() });
    for key in 0..400 {
        // What comes so late that the chain is overdue with it, too, is merged anew at once.
        let useless = chain.batch(key, 5_000);
        useless.iter().for_each(|path| chain.store.delete(path).unwrap());
        chain.begin();
        let sizes = sizes(chain.chain());
        assert!(sizes.len() <= 101 && sizes.iter().sum::<u64>() <= 10 * sizes[0], "{sizes:?}");
    }
    assert_eq!(chain.keys(), (0..400).collect::<Vec<_>>());
}

#[test]
fn a_layer_that_is_damaged_fails_the_next_batch() {
    for on_a_thread in [false, true] {
        let mut chain = Chain::new(Merging { beside_from: 1, on_a_thread, ..Merging::default() });
        (0..4).for_each(|key| assert!(chain.batch(key, 5_000).is_empty()));
        let path = chain.store.list(Some(&paths::states())).unwrap()[2].location.clone();
        chain.store.put(&path, Bytes::from_static(b"something else")).unwrap();
        chain.begin();
        if on_a_thread {
            let outcome = chain.merger.wait().unwrap().unwrap();
            assert_eq!(outcome.merged.map(drop).unwrap_err().kind(), ErrorKind::Corrupt);
        } else {
            assert_eq!(chain.try_batch(4, 5_000, Watermark::Unknown).unwrap_err().kind(), ErrorKind::Corrupt);
        }
        assert!(!chain.merger.is_busy());
    }
}

#[test]
fn a_layer_of_which_a_byte_is_wrong_fails_the_next_batch() {
    for (damaged, at) in [(0, 0), (0, 400), (1, 1_000), (2, 2_500), (3, 5_000)] {
        let mut chain = Chain::new(Merging { beside_from: 1, on_a_thread: false, ..Merging::default() });
        (0..4).for_each(|key| assert!(chain.batch(key, 5_000).is_empty()));
        let path = chain.store.list(Some(&paths::states())).unwrap()[damaged].location.clone();
        let mut bytes = chain.store.get(&path).unwrap().unwrap().to_vec();
        bytes[at] ^= 0x55;
        chain.store.put(&path, bytes.into()).unwrap();
        chain.begin();
        let error = chain.try_batch(4, 5_000, Watermark::Unknown).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains(path.as_ref()), "{error}");
        assert_eq!(chain.merged_objects(), 0);
    }
}

/// Whatever damage makes of names, types and lengths.
#[test]
fn damage_anywhere_in_a_layer_is_told_as_such() {
    let mut chain = Chain::new(Merging { beside_from: 1, on_a_thread: false, ..Merging::default() });
    (0..4).for_each(|key| assert!(chain.batch(key, 5_000).is_empty()));
    let objects = chain.store.list(Some(&paths::states())).unwrap();
    for path in [&objects[0].location, &objects[3].location] {
        let whole = chain.store.get(path).unwrap().unwrap();
        let ends = (0..1_200).chain(whole.len() - 1_200..whole.len());
        for (at, mask) in ends.flat_map(|at| [(at, 0x01), (at, 0x40)]) {
            let mut bytes = whole.to_vec();
            bytes[at] ^= mask;
            chain.store.put(path, bytes.into()).unwrap();
            chain.begin();
            let failed = chain.merger.take().unwrap().unwrap().merged.map(drop).unwrap_err();
            assert_eq!(failed.kind(), ErrorKind::Corrupt, "byte {at} of {path}, {mask:#x}: {failed}");
        }
        chain.store.put(path, whole).unwrap();
    }
    assert_eq!(chain.merged_objects(), 0);
}

/// Layers large enough to be stored in parts.
#[test]
fn a_merge_that_fails_at_any_step_leaves_nothing_and_is_tried_again() {
    let faults = Faults::default();
    let wrap = faults.clone();
    let storage = Storage::builder().wrap(move |_, store| Arc::new(FaultStore::new(store, wrap.clone()))).start().unwrap();
    let mut chain = Chain::within(&storage, Merging { beside_from: 1, on_a_thread: false, ..Merging::default() });
    (0..4).for_each(|key| assert!(chain.batch(key, 1_400_000).is_empty()));
    for at in 0.. {
        faults.arm(Some(Fault { at, effect: Effect::Before, dead: false }));
        chain.begin();
        if !faults.hit() {
            assert!(at > 8, "a merge takes only {at} steps");
            break;
        }
        faults.arm(None);
        let failed = chain.merger.take().unwrap().unwrap();
        assert_eq!(failed.merged.map(drop).unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(chain.merged_objects(), 0, "step {at}");
    }
    faults.arm(None);
    assert!(chain.batch(4, 5_000).is_empty());
    assert_eq!((chain.layers(), chain.keys()), (2, vec![0, 1, 2, 3, 4]));
}
