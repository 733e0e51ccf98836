//! Newtypes for everything that has a number or a name, so that none of them is mistaken for another.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The first one.
            pub const FIRST: Self = Self(0);

            /// The one after this.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl<T: AsRef<str>> From<T> for $name {
            fn from(text: T) -> Self {
                Self(Arc::from(text.as_ref()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

number! {
    /// The number of a data batch: dense, from 0. It names output files and is what users see.
    BatchId
}
number! {
    /// The number of a record in the commit log: dense over all records, from 0, never reused.
    Seq
}
number! {
    /// How often the job has been opened. A driver of a lower epoch can commit nothing.
    Epoch
}
name! {
    /// A random word that one process writes into everything it stages, to know its own writes again.
    Nonce
}
name! {
    /// A job's identity, made when its checkpoint is created.
    JobId
}
name! {
    /// A source's name: the table's name.
    SourceId
}
name! {
    /// A sink's name: the table's name.
    SinkId
}
name! {
    /// An operator's name: given by the user, or derived from the query. State is found by it, never by position.
    OperatorId
}
name! {
    /// A partition of a source, by the source's own naming.
    PartitionId
}

/// SHA-256 of an object's bytes as `sha256:<hex>`, as `sha256sum` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Checksum(String);

impl Checksum {
    /// The checksum of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let mut all = Checksummer::default();
        all.update(bytes);
        all.finish()
    }
}

/// The checksum of bytes that come piece by piece.
#[derive(Debug, Default)]
pub struct Checksummer(sha2::Sha256);

impl Checksummer {
    /// Takes the next piece.
    pub fn update(&mut self, piece: &[u8]) {
        sha2::Digest::update(&mut self.0, piece);
    }

    /// The checksum of all pieces together.
    pub fn finish(self) -> Checksum {
        let mut text = String::with_capacity(71);
        text.push_str("sha256:");
        for byte in sha2::Digest::finalize(self.0) {
            text.push_str(&format!("{byte:02x}"));
        }
        Checksum(text)
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_is_what_sha256sum_prints() {
        let expected = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Checksum::of(b"").to_string(), expected);
        let expected = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Checksum::of(b"abc").to_string(), expected);
        let mut pieces = Checksummer::default();
        ["a", "", "bc"].iter().for_each(|piece| pieces.update(piece.as_bytes()));
        assert_eq!(pieces.finish().to_string(), expected);
    }
}
