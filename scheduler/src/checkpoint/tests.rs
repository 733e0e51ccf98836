//! Tables against a model: a map that is changed by the same changes.

use super::*;
use crate::log::{Appended, Log};
use crate::protocol::samples;
use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use proptest::prelude::*;
use std::sync::Arc;
use waterclock_core::id::{Epoch, Nonce};
use waterclock_core::storage::{Access, Location, Storage, StoreOptions};

/// A change of some keys; none means that the key goes.
type Change = BTreeMap<i64, Option<String>>;

fn layer(change: &Change) -> StateChange {
    let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(change.keys().copied()));
    let values: ArrayRef = Arc::new(change.values().cloned().collect::<StringArray>());
    let rows = RecordBatch::try_from_iter_with_nullable([("k", keys, false), ("v", values, true)]).unwrap();
    let removed = change.values().map(|value| Some(value.is_none())).collect::<BooleanArray>();
    StateChange { table: StateTable::new("t", 1), rows, removed }
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

/// After every batch, from memory and from a fresh reading of the record: the state is the model's, in a short chain.
fn assert_loaded(batches: &[Vec<Change>], forget: u32) {
    let storage = Storage::builder().start().unwrap();
    let store = storage.open(&Location::parse("memory://c").unwrap(), &StoreOptions::default(), Access::Write).unwrap();
    let log = Log::new(store.clone());
    let loader = Loader::new(log.clone());
    let records = samples::log(1);
    let owner = Owner::Operator("counts".into());
    let (mut tables, mut model) = (Tables::default(), BTreeMap::new());
    for (index, batch) in batches.iter().enumerate() {
        for (key, value) in batch.iter().flatten() {
            match value {
                Some(value) => drop(model.insert(*key, value.clone())),
                None => drop(model.remove(key)),
            }
        }
        let writer = Writer { seq: Seq(index as u64), epoch: Epoch(0), nonce: Nonce::from("n") };
        let changes = batch.iter().map(|change| (owner.clone(), layer(change))).collect();
        let staged = tables.stage(changes, &BTreeMap::new(), &writer, &loader).unwrap();
        store.put_all(staged.objects).unwrap();
        tables = staged.tables;
        let record = commit(&log, &records, &tables, &owner, writer.seq);
        tables.commit(writer.seq);
        assert_eq!(content(&tables.load(&owner, &loader).unwrap()), model.clone());
        let fresh = Tables::of(writer.seq, &record);
        assert_eq!(content(&fresh.load(&owner, &loader).unwrap()), model.clone());
        assert!(fresh.references(&owner).len() < 20);
        if forget >> (index % 32) & 1 == 1 {
            tables = fresh;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_loaded_is_what_was_changed(batches in changes(), forget in any::<u32>()) {
        assert_loaded(&batches, forget);
    }
}

#[test]
fn the_same_change_in_several_batches_is_found_in_each() {
    let change = Change::from([(1, Some("x".to_owned()))]);
    for forget in [0, u32::MAX] {
        assert_loaded(&vec![vec![change.clone()]; 6], forget);
    }
}
