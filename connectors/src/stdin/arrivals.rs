//! A reader on a thread of its own, and a buffer of what has arrived: so that a cut can take it without waiting.

use bytes::BytesMut;
use std::io::{ErrorKind as Io, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use waterclock_core::{ErrorKind, Result, ResultExt};

/// Bytes that are read at once: what a pipe holds.
const READ: usize = 64 << 10;

/// Whoever waits for input looks up after this time, to see whether it is still wanted.
const LONGEST_WAIT: Duration = Duration::from_millis(100);

/// What a reader gave so far. When dropped, the thread ends after the read that it is in.
pub(super) struct Arrivals(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    bytes: BytesMut,
    ended: bool,
    failed: Option<std::io::Error>,
    abandoned: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while a condition holds, but not for long.
    fn wait_a_little<'a>(&self, state: MutexGuard<'a, State>, holds: impl FnMut(&mut State) -> bool) -> MutexGuard<'a, State> {
        self.changed.wait_timeout_while(state, LONGEST_WAIT, holds).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Waits while a condition holds.
    fn wait_while<'a>(&self, state: MutexGuard<'a, State>, holds: impl FnMut(&mut State) -> bool) -> MutexGuard<'a, State> {
        self.changed.wait_while(state, holds).unwrap_or_else(PoisonError::into_inner)
    }
}

impl Arrivals {
    /// Begins to read, and to hold up to about `limit` bytes that nobody has taken yet.
    pub(super) fn start(reader: Box<dyn Read + Send>, limit: usize) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let ours = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("waterclock-stdin".into()).spawn(move || read(reader, limit, &ours));
        thread.or_error(ErrorKind::Internal, || "can't start to read stdin".into())?;
        Ok(Self(shared))
    }

    /// Moves what has arrived behind `text`, and says whether it was the last. With `wait`, waits a little for something to
    /// come.
    ///
    /// # Errors
    /// `Unavailable` if the input broke off, once everything before that was taken.
    pub(super) fn take(&self, text: &mut BytesMut, wait: bool) -> Result<bool> {
        let mut state = self.0.lock();
        if wait {
            state = self.0.wait_a_little(state, |state| state.bytes.is_empty() && !state.ended);
        }
        if state.bytes.is_empty()
            && let Some(cause) = state.failed.take()
        {
            return Err(cause).or_error(ErrorKind::Unavailable, || "can't read stdin".into());
        }
        if text.is_empty() {
            *text = std::mem::take(&mut state.bytes);
        } else {
            text.extend_from_slice(&state.bytes);
            state.bytes.clear();
        }
        self.0.changed.notify_all();
        Ok(state.ended && state.failed.is_none())
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        self.0.lock().abandoned = true;
        self.0.changed.notify_all();
    }
}

fn read(mut reader: Box<dyn Read + Send>, limit: usize, shared: &Shared) {
    let mut piece = vec![0; READ];
    loop {
        let outcome = reader.read(&mut piece);
        let mut state = shared.wait_while(shared.lock(), |state| state.bytes.len() >= limit && !state.abandoned);
        match outcome {
            Ok(0) => state.ended = true,
            Ok(count) => state.bytes.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == Io::Interrupted => {}
            Err(error) => (state.ended, state.failed) = (true, Some(error)),
        }
        shared.changed.notify_all();
        if state.ended || state.abandoned {
            return;
        }
    }
}
