//! Which leftovers may go.
//!
//! An object of state is written just before the one record that names it first, and carries that record's number, and the writer's
//! epoch and nonce. So it is garbage if and only if another writer's record, or none, stands at that number, and nobody can put one
//! there any more. The last is true for epochs below that of an opening which is committed.

use super::paths::Writer;
use super::record::Record;
use waterclock_core::id::Epoch;

/// Whether an object of state may be removed. `record` is the one at the object's number, if there is one.
///
/// IMPORTANT: only asked by a driver whose opening, of epoch `current`, is committed.
pub fn is_garbage(object: &Writer, record: Option<&Record>, current: Epoch) -> bool {
    let named = record.is_some_and(|record| record.epoch == object.epoch && record.nonce == object.nonce && record.batch().is_some());
    object.epoch < current && !named
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;
    use waterclock_core::id::{Nonce, Seq};

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
}
