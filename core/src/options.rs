//! A table's OPTIONS: taken out one by one by whoever knows them, so that what is left over is unknown.

use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::storage::StoreOptions;
use crate::time::parse_duration;
use std::collections::BTreeMap;
use std::time::Duration;

/// The options of one table. Keys are compared without case. Values are never printed, for they may be credentials.
#[derive(Clone)]
pub struct Options {
    table: String,
    values: BTreeMap<String, String>,
    known: Vec<&'static str>,
}

impl Options {
    /// The options of a table.
    pub fn new<I: IntoIterator<Item = (String, String)>>(table: impl Into<String>, values: I) -> Self {
        let values = values.into_iter().map(|(key, value)| (key.to_ascii_lowercase(), value)).collect();
        Self { table: table.into(), values, known: Vec::new() }
    }

    /// Takes an option, if it is given, and notes that it is known.
    pub fn take(&mut self, key: &'static str) -> Option<String> {
        self.known.push(key);
        self.values.remove(key)
    }

    /// Takes an option and reads it with a function that says what is wrong with it.
    pub fn take_with<T>(&mut self, key: &'static str, read: impl FnOnce(&str) -> Result<T>) -> Result<Option<T>> {
        let table = self.table.clone();
        self.take(key).map(|value| read(&value).map_err(|error| error.within(format!("table '{table}', option '{key}'")))).transpose()
    }

    /// Takes a count, at least 1.
    pub fn take_count(&mut self, key: &'static str) -> Result<Option<u64>> {
        self.take_with(key, |value| match value.trim().parse() {
            Ok(0) | Err(_) => Err(Error::config(format!("'{value}' is not a number of at least 1"))),
            Ok(count) => Ok(count),
        })
    }

    /// Takes any number that is not negative.
    pub fn take_number(&mut self, key: &'static str) -> Result<Option<u64>> {
        self.take_with(key, |value| value.trim().parse().or_error(ErrorKind::Config, || format!("'{value}' is not a number")))
    }

    /// Takes a duration.
    pub fn take_duration(&mut self, key: &'static str) -> Result<Option<Duration>> {
        self.take_with(key, parse_duration)
    }

    /// Takes `true` or `false`.
    pub fn take_bool(&mut self, key: &'static str) -> Result<Option<bool>> {
        self.take_with(key, |value| match value.to_ascii_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(Error::config(format!("'{value}' is neither true nor false"))),
        })
    }

    /// Takes the options of an object store (`aws_...`, `google_...`, `azure_...`), over those of the environment.
    pub fn take_store_options(&mut self) -> StoreOptions {
        let (store, rest) = std::mem::take(&mut self.values).into_iter().partition(|(key, _)| StoreOptions::is_store_option(key));
        self.values = rest;
        let store: BTreeMap<String, String> = store;
        StoreOptions::from_environment().with(store)
    }

    /// # Errors
    /// `Config` if an option is left that nobody took; the message lists the known ones.
    pub fn finish(mut self) -> Result<()> {
        let Some(key) = self.values.keys().next() else { return Ok(()) };
        self.known.sort_unstable();
        self.known.dedup();
        Err(Error::config(format!("table '{}' has no option '{key}'; it knows: {}", self.table, self.known.join(", "))))
    }
}

/// Names without values.
impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("table", &self.table).field("keys", &self.values.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> Options {
        Options::new("bid", pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn what_nobody_takes_is_an_error_that_lists_the_known() {
        let mut options = options(&[("mdoe", "append")]);
        assert_eq!(options.take("mode"), None);
        let error = options.finish().unwrap_err().to_string();
        assert!(error.contains("'mdoe'") && error.contains("mode") && error.contains("bid"), "{error}");
    }

    #[test]
    fn values_are_checked_and_named() {
        let error = options(&[("max_rows", "-1")]).take_count("max_rows").unwrap_err().to_string();
        assert!(error.contains("'bid'") && error.contains("'max_rows'") && error.contains("'-1'"), "{error}");
        assert_eq!(options(&[("Delay", "5 seconds")]).take_duration("delay").unwrap(), Some(Duration::from_secs(5)));
    }

    #[test]
    fn credentials_are_not_printed() {
        let mut options = options(&[("aws_secret_access_key", "hunter2")]);
        assert!(!format!("{options:?}").contains("hunter2"));
        assert!(!format!("{:?}", options.take_store_options()).contains("hunter2"));
        assert!(options.finish().is_ok());
    }
}
