//! What a conditional put means that did not simply succeed.
//!
//! A retried request can meet its own first write as "already exists", a timeout says nothing, and some stores answer a conflict with
//! other words. So no answer but success is believed: what stands in the store decides.

use super::envelope::Stored;
use waterclock_core::{Error, Result};

/// Whose record stands at a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The one that was to be put: it is committed.
    Mine,
    /// Another driver's: this number is lost.
    Theirs(Box<Stored>),
    /// None. That is no verdict, for a request may still be on its way: it permits only putting the same bytes again.
    Absent,
}

/// Whose record stands there, from what a read shows.
///
/// # Errors
/// `Corrupt` if the same writer's record has another content: no driver writes two records of one number.
pub fn resolve(mine: &Stored, found: Option<Stored>) -> Result<Verdict> {
    let Some(found) = found else { return Ok(Verdict::Absent) };
    if found.checksum == mine.checksum {
        return Ok(Verdict::Mine);
    }
    let same_writer = found.record.nonce == mine.record.nonce && found.record.epoch == mine.record.epoch;
    if same_writer {
        return Err(Error::corrupt(format!("record {} is not what its writer wrote", mine.record.seq)));
    }
    Ok(Verdict::Theirs(Box::new(found)))
}

#[cfg(test)]
mod tests {
    use super::super::{envelope, samples};
    use super::*;
    use waterclock_core::ErrorKind;

    fn stored(record: &super::super::record::Record) -> Stored {
        envelope::decode(&envelope::encode(record).unwrap()).unwrap()
    }

    #[test]
    fn the_nonce_and_the_bytes_decide() {
        let record = samples::log(1).remove(1);
        let mine = stored(&record);
        assert_eq!(resolve(&mine, None).unwrap(), Verdict::Absent);
        assert_eq!(resolve(&mine, Some(mine.clone())).unwrap(), Verdict::Mine);
        let mut other = record.clone();
        other.nonce = "other".into();
        assert_eq!(resolve(&mine, Some(stored(&other))).unwrap(), Verdict::Theirs(Box::new(stored(&other))));
        let mut changed = record;
        changed.time.0 += 1;
        assert_eq!(resolve(&mine, Some(stored(&changed))).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
