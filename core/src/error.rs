//! One error type for every crate of the project.
//!
//! The [`ErrorKind`] tells a caller what to do; the message says what happened, where (batch, operator, path, offset) and what to
//! try; the cause is in [`std::error::Error::source`]. Messages never hold credentials: locations are printed through
//! [`Location`](crate::storage::Location), which has none.

use std::fmt;

/// What a caller can do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The job, an option or a flag is wrong: change it and start again.
    Config,
    /// The input holds something that the job does not accept: mend the data, or send bad rows to a dead-letter place.
    BadData,
    /// A store or a source can't be reached, or refuses: nothing was lost; start again when it is back.
    Unavailable,
    /// Another driver has taken over the job: stop this one.
    Fenced,
    /// A committed object is damaged or missing: restore it; nothing is silently started from zero.
    Corrupt,
    /// A defect of the program, or of a function that the user gave.
    Internal,
}

impl ErrorKind {
    /// The exit code of the command: 2 configuration, 3 bad data, 4 unavailable, 5 fenced, 6 corrupt, 1 anything else.
    pub fn exit_code(self) -> u8 {
        match self {
            ErrorKind::Config => 2,
            ErrorKind::BadData => 3,
            ErrorKind::Unavailable => 4,
            ErrorKind::Fenced => 5,
            ErrorKind::Corrupt => 6,
            ErrorKind::Internal => 1,
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ErrorKind::Config => "configuration",
            ErrorKind::BadData => "bad data",
            ErrorKind::Unavailable => "unavailable",
            ErrorKind::Fenced => "fenced",
            ErrorKind::Corrupt => "corrupt",
            ErrorKind::Internal => "internal",
        })
    }
}

type Cause = Box<dyn std::error::Error + Send + Sync + 'static>;

/// An error of the project. See the [module](self).
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    cause: Option<Cause>,
}

/// The project's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of a kind, with a message that says what, where and what to do.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), cause: None }
    }

    /// See [`ErrorKind::Config`].
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Config, message)
    }

    /// See [`ErrorKind::BadData`].
    pub fn bad_data(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::BadData, message)
    }

    /// See [`ErrorKind::Unavailable`].
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, message)
    }

    /// See [`ErrorKind::Fenced`].
    pub fn fenced(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Fenced, message)
    }

    /// See [`ErrorKind::Corrupt`].
    pub fn corrupt(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, message)
    }

    /// See [`ErrorKind::Internal`].
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// The same error with its cause.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Cause>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// The same error, with where it happened put before its message.
    #[must_use]
    pub fn within(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The message without the causes.
    pub fn message(&self) -> &str {
        &self.message
    }
}

/// The message, then each cause that says something new, separated by colons.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let mut shown = self.message.clone();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let text = plain(&error.to_string());
            if !shown.contains(&text) {
                write!(f, ": {text}")?;
                shown.push_str(&text);
            }
            cause = error.source();
        }
        Ok(())
    }
}

/// A text of DataFusion without its plea for a bug report: what it did not foresee is mostly a mistake in the SQL, or in the data.
pub(crate) fn plain(text: &str) -> String {
    let Some((before, plea)) = text.split_once(".\nThis issue was likely caused by a bug in DataFusion's code.") else {
        return text.to_owned();
    };
    let behind = plea.split_once("datafusion/issues").map_or("", |(_, behind)| behind);
    let (place, what) = before.split_once("Internal error: ").unwrap_or(("", before));
    let what = match what.strip_prefix("Assertion failed: ").and_then(|assertion| assertion.split_once(": ")) {
        Some((_, reason)) => reason,
        None => what,
    };
    format!("{place}{}{behind}", what.trim_end_matches('.'))
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as &(dyn std::error::Error + 'static))
    }
}

/// Puts a kind and a place on an error of another library.
pub trait ResultExt<T> {
    /// The value, or an error of this kind with the message and the cause.
    fn or_error(self, kind: ErrorKind, message: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Cause>> ResultExt<T> for std::result::Result<T, E> {
    fn or_error(self, kind: ErrorKind, message: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|cause| Error::new(kind, message()).caused_by(cause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion_common::DataFusionError;

    #[test]
    fn a_message_shows_each_cause_once() {
        let io = std::io::Error::other("disk on fire");
        let error = Error::unavailable("can't read a.json").caused_by(io);
        assert_eq!(error.to_string(), "can't read a.json: disk on fire");
        let outer = Error::unavailable("batch 3: disk on fire").caused_by(error);
        assert_eq!(outer.to_string(), "batch 3: disk on fire: can't read a.json: disk on fire");
    }

    #[test]
    fn users_are_not_asked_to_report_their_mistakes_to_datafusion() {
        let plea = DataFusionError::Internal("Assertion failed: n != 0: indices begin at 1.".into());
        let error = Error::config("computing nth_value(v, 0)").caused_by(plea.context("planning"));
        assert_eq!(error.to_string(), "computing nth_value(v, 0): planning\ncaused by\nindices begin at 1");
        assert_eq!(plain("Execution error: no such unit"), "Execution error: no such unit");
    }

    #[test]
    fn kinds_have_the_documented_exit_codes() {
        use ErrorKind::*;
        let codes = [Internal, Config, BadData, Unavailable, Fenced, Corrupt].map(ErrorKind::exit_code);
        assert_eq!(codes, [1, 2, 3, 4, 5, 6]);
    }
}
