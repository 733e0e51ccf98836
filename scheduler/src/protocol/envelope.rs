//! A record as bytes: JSON whose last field is the SHA-256 of all bytes before the comma in front of it. So damage shows in the newest
//! record too, which has no child that holds its checksum.

use super::record::Record;
use bytes::Bytes;
use waterclock_core::id::Checksum;
use waterclock_core::{Error, ErrorKind, Result, ResultExt};

const END: &str = "\n}";
const SEAL: &str = ",\n  \"checksum\": \"";

/// A record as it stands in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The record.
    pub record: Record,
    /// The checksum of all of its bytes: what its child names as its parent.
    pub checksum: Checksum,
}

/// The record's bytes.
pub fn encode(record: &Record) -> Result<Bytes> {
    let mut text = serde_json::to_string_pretty(record).or_error(ErrorKind::Internal, || "encoding a record".into())?;
    text.truncate(text.trim_end_matches('}').trim_end().len());
    let seal = Checksum::of(text.as_bytes());
    text.push_str(&format!("{SEAL}{seal}\"{END}\n"));
    Ok(Bytes::from(text))
}

/// Reads a record and verifies that it is whole.
///
/// # Errors
/// `Corrupt` if it is not.
pub fn decode(bytes: &[u8]) -> Result<Stored> {
    let text = std::str::from_utf8(bytes).or_error(ErrorKind::Corrupt, || "it is not text".into())?;
    let (sealed, seal) = text.rsplit_once(SEAL).ok_or_else(|| Error::corrupt("it is cut off, or is not a record"))?;
    let expected = format!("{}\"{END}\n", Checksum::of(sealed.as_bytes()));
    if seal != expected {
        return Err(Error::corrupt("its checksum does not fit its content"));
    }
    let record = serde_json::from_str(text).or_error(ErrorKind::Corrupt, || "it can't be read".into())?;
    Ok(Stored { record, checksum: Checksum::of(bytes) })
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn records_are_json_and_survive_their_encoding() {
        for record in samples::log(3) {
            let bytes = encode(&record).unwrap();
            let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(json["seq"], record.seq.0);
            let stored = decode(&bytes).unwrap();
            assert_eq!((stored.record, stored.checksum), (record, Checksum::of(&bytes)));
        }
    }

    proptest! {
        #[test]
        fn any_flipped_bit_and_any_cut_shows(at in 0usize..10_000, bit in 0u8..8) {
            let bytes = encode(&samples::log(3)[2]).unwrap();
            let at = at % bytes.len();
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 1 << bit;
            prop_assert_eq!(decode(&damaged).unwrap_err().kind(), ErrorKind::Corrupt);
            prop_assert_eq!(decode(&bytes[..at]).unwrap_err().kind(), ErrorKind::Corrupt);
        }
    }
}
