//! Where everything in a checkpoint is. No other place of the crate builds a path.

use object_store::path::{Path, PathPart};
use waterclock_core::id::{Epoch, Nonce, Seq, SinkId, SourceId};

/// The job's identity and the format's version.
pub fn job() -> Path {
    Path::from("job.json")
}

/// The folder of the records.
pub fn commits() -> Path {
    Path::from("commits")
}

/// A record.
pub fn commit(seq: Seq) -> Path {
    commits().join(format!("{seq:020}.json", seq = seq.0))
}

/// The number of the record at a path.
pub fn parse_commit(path: &Path) -> Option<Seq> {
    let number = path.filename()?.strip_suffix(".json")?;
    let seq = Seq(number.parse().ok()?);
    (commit(seq) == *path).then_some(seq)
}

/// The folder of the state.
pub fn states() -> Path {
    Path::from("state")
}

/// The folder of the cuts of sources that can't replay.
pub fn spools() -> Path {
    Path::from("spool")
}

/// A place in which a sink without a store of its own stages.
pub fn scratch(sink: &SinkId) -> Path {
    Path::from("scratch").join(PathPart::from(sink.as_str()))
}

/// An object with which a store's conditional put is tried out.
pub fn trial(nonce: &Nonce) -> Path {
    Path::from("trial").join(PathPart::from(nonce.as_str()))
}

/// Who wrote an object, for which record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Writer {
    /// The number of the record that is to name it.
    pub seq: Seq,
    /// The writer's epoch.
    pub epoch: Epoch,
    /// The writer's nonce.
    pub nonce: Nonce,
}

impl Writer {
    fn name(&self) -> String {
        format!("{:020}-{:010}-{}", self.seq.0, self.epoch.0, self.nonce)
    }

    fn parse(name: &str) -> Option<Self> {
        let mut parts = name.splitn(3, '-');
        let seq = Seq(parts.next()?.parse().ok()?);
        let epoch = Epoch(parts.next()?.parse().ok()?);
        let nonce = Nonce::from(parts.next()?);
        let writer = Self { seq, epoch, nonce };
        (writer.name() == name).then_some(writer)
    }
}

/// A layer of state that a batch wrote, of several numbered from zero.
pub fn state(writer: &Writer, layer: usize) -> Path {
    states().join(format!("{}.{layer}.arrow", writer.name()))
}

/// Who wrote the state at a path.
pub fn parse_state(path: &Path) -> Option<Writer> {
    let (writer, layer) = path.filename()?.strip_suffix(".arrow")?.rsplit_once('.')?;
    let (writer, layer) = (Writer::parse(writer)?, layer.parse().ok()?);
    (state(&writer, layer) == *path).then_some(writer)
}

/// Layers merged into one, made of those that the record of this number, or the one before it, names: the so-many-th of its epoch. A record
/// of the same writer, of this number or a later one, may name it.
pub fn merged(writer: &Writer, merge: u64) -> Path {
    states().join(format!("{}.{merge}{MERGED}", writer.name()))
}

/// Who wrote the merged layer at a path.
pub fn parse_merged(path: &Path) -> Option<Writer> {
    let (writer, merge) = path.filename()?.strip_suffix(MERGED)?.rsplit_once('.')?;
    let (writer, merge) = (Writer::parse(writer)?, merge.parse().ok()?);
    (merged(&writer, merge) == *path).then_some(writer)
}

const MERGED: &str = ".merged.arrow";

/// Who began to write an object of state on a local file system, by the file's name. Until it is finished it has a number behind its own
/// name, and the store hides it.
pub fn parse_unfinished(file: &str) -> Option<Writer> {
    let (name, number) = file.rsplit_once('#')?;
    number.parse::<u64>().ok()?;
    let path = states().join(name);
    parse_state(&path).or_else(|| parse_merged(&path))
}

/// One cut of a source that can't replay.
pub fn spool(writer: &Writer, source: &SourceId) -> Path {
    spools().join(writer.name()).join(PathPart::from(format!("{source}.cut")))
}

/// Who wrote the cut at a path.
pub fn parse_spool(path: &Path) -> Option<Writer> {
    let folder = path.parts().nth(1)?;
    path.filename()?.strip_suffix(".cut")?;
    Writer::parse(folder.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_sort_like_their_numbers() {
        assert_eq!(commit(Seq(42)).as_ref(), "commits/00000000000000000042.json");
        assert!(commit(Seq(9)) < commit(Seq(10)));
    }

    #[test]
    fn a_name_cannot_lead_out() {
        let writer = Writer { seq: Seq(1), epoch: Epoch(0), nonce: "n".into() };
        assert_eq!(spool(&writer, &SourceId::from("../../etc")).parts().count(), 3);
        assert!(scratch(&SinkId::from("..")).as_ref().starts_with("scratch/%2E"));
    }

    proptest! {
        #[test]
        fn what_is_built_can_be_read_again(seq: u64, epoch: u64, layer: usize, nonce in "[a-z0-9]{1,16}", name in "[a-zA-Z0-9_./]{1,12}") {
            let writer = Writer { seq: Seq(seq), epoch: Epoch(epoch), nonce: nonce.as_str().into() };
            prop_assert_eq!(parse_commit(&commit(writer.seq)), Some(writer.seq));
            prop_assert_eq!(parse_state(&state(&writer, layer)), Some(writer.clone()));
            let (state, merged) = (state(&writer, layer), merged(&writer, layer as u64));
            prop_assert_eq!(parse_merged(&merged), Some(writer.clone()));
            prop_assert_eq!((parse_merged(&state), parse_state(&merged)), (None, None));
            for object in [state, merged] {
                let name = object.filename().unwrap();
                prop_assert_eq!((parse_unfinished(name), parse_unfinished(&format!("{name}#1"))), (None, Some(writer.clone())));
            }
            prop_assert_eq!(parse_spool(&spool(&writer, &SourceId::from(name))), Some(writer));
        }
    }

    #[test]
    fn foreign_names_are_no_records() {
        for name in ["commits/1.json", "commits/x.json", "commits/00000000000000000001.json.tmp", "other/00000000000000000001.json"] {
            assert_eq!(parse_commit(&Path::from(name)), None, "{name}");
        }
    }
}
