//! Where something is: a URL without credentials, or a local path.

use crate::error::{Error, ErrorKind, Result, ResultExt};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::path::{Component, Path, PathBuf};
use url::Url;

/// A URL such as `s3://bucket/bids/`, `file:///data/bids/` or `nexmark://bid?events=1000`. A text without a scheme is a local
/// path, relative to the working directory. It holds no user, no password and no token, and is printed as it is.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Location {
    url: Url,
}

/// Schemes whose locations are directories of an object store.
const STORES: [&str; 9] = ["file", "memory", "s3", "s3a", "gs", "az", "azure", "abfs", "abfss"];

impl Location {
    /// Reads a URL or a local path.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        if text.is_empty() {
            return Err(Error::config("an empty location; write a URL such as file:///data/in/ or a path"));
        }
        if !text.contains("://") && !text.starts_with("file:/") {
            return Self::from_path(Path::new(text));
        }
        let url = Url::parse(text).or_error(ErrorKind::Config, || "a location is not a valid URL".to_string())?;
        let location = Self { url };
        location.check()?;
        Ok(location)
    }

    /// The location of a local path, made absolute.
    pub fn from_path(path: &Path) -> Result<Self> {
        let absolute = std::path::absolute(path).or_error(ErrorKind::Config, || format!("'{}' is not a path", path.display()))?;
        let url = Url::from_file_path(&absolute).map_err(|()| Error::config(format!("'{}' is not a path", path.display())))?;
        Ok(Self { url })
    }

    /// Credentials in a URL would end up in logs and records.
    fn check(&self) -> Result<()> {
        if !self.url.username().is_empty() || self.url.password().is_some() {
            let scheme = self.url.scheme();
            return Err(Error::config(format!(
                "a location ({scheme}://...) holds a user or a password; give credentials in the environment or in OPTIONS"
            )));
        }
        if self.is_store() && (self.url.query().is_some() || self.url.fragment().is_some()) {
            return Err(Error::config(format!(
                "the location {} has a '?' or '#'; give options in OPTIONS, and write %3F or %23 where the name has one",
                self.without_query()
            )));
        }
        if self.scheme() == "file" && self.url.host().is_some() {
            return Err(Error::config(format!("the location {self} has a host; a local file is written file:///path")));
        }
        Ok(())
    }

    fn without_query(&self) -> String {
        let mut url = self.url.clone();
        url.set_query(None);
        url.set_fragment(None);
        url.to_string()
    }

    /// `file`, `s3`, `nexmark` ...
    pub fn scheme(&self) -> &str {
        self.url.scheme()
    }

    /// Whether it is a directory or an object of an object store.
    pub fn is_store(&self) -> bool {
        STORES.contains(&self.scheme())
    }

    /// The part between `://` and the first slash: a bucket, a table of a generator.
    pub fn host(&self) -> &str {
        self.url.host_str().unwrap_or("")
    }

    /// What stands behind the `?`, decoded.
    pub fn parameters(&self) -> Vec<(String, String)> {
        self.url.query_pairs().map(|(key, value)| (key.into_owned(), value.into_owned())).collect()
    }

    /// The path on the local file system, of a `file` location.
    pub fn local_path(&self) -> Option<PathBuf> {
        (self.scheme() == "file").then(|| self.url.to_file_path().ok()).flatten()
    }

    /// The location of a name below this one. The name may have several segments, but none that leads out.
    pub fn join(&self, name: &str) -> Result<Self> {
        let mut url = self.url.clone();
        {
            let mut segments = url.path_segments_mut().map_err(|()| Error::config(format!("nothing lies below {self}")))?;
            segments.pop_if_empty();
            for segment in name.split('/').filter(|segment| !segment.is_empty()) {
                if segment == "." || segment == ".." {
                    return Err(Error::config(format!("'{name}' leads out of {self}")));
                }
                segments.push(segment);
            }
        }
        Ok(Self { url })
    }

    /// Whether one location is the other or lies below it, or the other way round; of local ones by what links and `..` lead to.
    pub fn overlaps(&self, other: &Location) -> bool {
        let segments = |location: &Location| -> Vec<String> {
            let local = location.local_path().map(|path| real(&path).to_string_lossy().into_owned());
            let path = local.as_deref().unwrap_or(location.url.path());
            path.split('/').filter(|segment| !segment.is_empty()).map(str::to_owned).collect()
        };
        let (ours, theirs) = (segments(self), segments(other));
        let shared = ours.len().min(theirs.len());
        self.scheme() == other.scheme() && self.host() == other.host() && ours[..shared] == theirs[..shared]
    }

    pub(crate) fn url(&self) -> &Url {
        &self.url
    }
}

/// The path without links and `..`, as far as it exists; what does not can be no link.
fn real(path: &Path) -> PathBuf {
    let mut real = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(real.pop()),
            other => real.push(other),
        }
        real = real.canonicalize().unwrap_or(real);
    }
    real
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}

impl Serialize for Location {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Location {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_refused_and_not_repeated() {
        for text in ["s3://AKIA:secret@bucket/x", "s3://bucket/x?token=secret"] {
            let error = Location::parse(text).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_plain_path_is_a_local_location() {
        let location = Location::parse("some dir/in").unwrap();
        assert_eq!(location.scheme(), "file");
        assert!(location.local_path().unwrap().ends_with("some dir/in"));
    }

    #[test]
    fn names_cannot_lead_out() {
        let root = Location::parse("file:///data/out/").unwrap();
        assert_eq!(root.join("_staged/1").unwrap().to_string(), "file:///data/out/_staged/1");
        assert!(root.join("../other").is_err());
    }

    #[test]
    fn locations_overlap_when_one_holds_the_other() {
        let parse = |text| Location::parse(text).unwrap();
        assert!(parse("file:///a/b").overlaps(&parse("file:///a/b/c/")));
        assert!(parse("file:///a/b/").overlaps(&parse("file:///a/b")));
        assert!(!parse("file:///a/b").overlaps(&parse("file:///a/bc")));
        assert!(!parse("s3://x/a").overlaps(&parse("s3://y/a")));
        assert!(parse("/nowhere/b/../c").overlaps(&parse("file:///nowhere/c/d")));
        assert!(!parse("/nowhere/b/../c").overlaps(&parse("file:///nowhere/b")));
    }
}
