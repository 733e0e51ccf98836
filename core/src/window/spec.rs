//! The kinds of windows, and their arithmetic.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A stretch of time: `[start, end)` in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Window {
    /// The first microsecond.
    pub start: i64,
    /// The first microsecond behind it.
    pub end: i64,
}

/// How time is cut into windows. All lengths are microseconds and above zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WindowSpec {
    /// Windows side by side.
    Tumble {
        /// How long a window is.
        size: i64,
        /// Where one of them begins.
        offset: i64,
    },
    /// Windows of one size that begin at a regular distance; they overlap if it is less than the size, and leave gaps if it is more.
    Hop {
        /// From the start of one to the start of the next.
        slide: i64,
        /// How long a window is.
        size: i64,
        /// Where one of them begins.
        offset: i64,
    },
    /// Windows that begin together and grow by a step, up to a size, then again from there.
    Cumulate {
        /// By how much a window is longer than the one before.
        step: i64,
        /// How long the longest is: a multiple of the step.
        size: i64,
        /// Where one of them begins.
        offset: i64,
    },
    /// Rows of a key that are no further than a gap apart from the next one.
    Session {
        /// The most that lies between two rows of a session.
        gap: i64,
    },
}

impl WindowSpec {
    /// # Errors
    /// `Config` if a length is not above zero, or if lengths don't fit each other.
    pub fn check(self) -> Result<Self> {
        let lengths = match self {
            Self::Tumble { size, .. } => [size, size],
            Self::Hop { slide, size, .. } => [slide, size],
            Self::Cumulate { step, size, .. } => [step, size],
            Self::Session { gap } => [gap, gap],
        };
        if lengths.iter().any(|length| *length <= 0) {
            return Err(Error::config(format!("{self}: a window's lengths must be above zero")));
        }
        match self {
            Self::Cumulate { step, size, .. } if size % step != 0 => {
                Err(Error::config(format!("{self}: the size must be a multiple of the step, which comes first")))
            }
            Self::Hop { slide, size, .. } if size.max(slide) / gcd(slide, size) > 100_000 => Err(Error::config(format!(
                "{self}: slide and size have so small a common divisor that a window would have more than 100000 panes; round them"
            ))),
            _ => Ok(self),
        }
    }

    /// How long a pane is; none for sessions, which have no panes.
    pub fn pane(self) -> Option<i64> {
        match self {
            Self::Tumble { size, .. } => Some(size),
            Self::Hop { slide, size, .. } => Some(gcd(slide, size)),
            Self::Cumulate { step, .. } => Some(step),
            Self::Session { .. } => None,
        }
    }

    /// Where the pane of a time begins.
    pub fn pane_of(self, time: i64) -> i64 {
        match self {
            Self::Session { .. } => time,
            Self::Tumble { offset, .. } | Self::Hop { offset, .. } | Self::Cumulate { offset, .. } => {
                floor(time, self.pane().unwrap_or(1), offset)
            }
        }
    }

    /// The windows that hold the pane which begins here, the earliest end first. None of them, if it lies in a gap.
    pub fn windows_of(self, pane: i64) -> impl Iterator<Item = Window> {
        let (first, distance, count, grows) = match self {
            Self::Tumble { size, .. } => (Window { start: pane, end: pane + size }, size, 1, false),
            Self::Hop { slide, size, offset } => {
                let last = floor(pane, slide, offset);
                let count = if last + size > pane { (last + size - pane - 1) / slide + 1 } else { 0 };
                let start = last - (count - 1) * slide;
                (Window { start, end: start + size }, slide, count, false)
            }
            Self::Cumulate { step, size, offset } => {
                let start = floor(pane, size, offset);
                (Window { start, end: pane + step }, step, (start + size - pane) / step, true)
            }
            Self::Session { gap } => (Window { start: pane, end: pane + gap }, gap, 1, false),
        };
        (0..count).map(move |index| Window {
            start: if grows { first.start } else { first.start + index * distance },
            end: first.end + index * distance,
        })
    }
}

/// The latest time of `offset + n * length` that is not behind the time.
fn floor(time: i64, length: i64, offset: i64) -> i64 {
    time - (time - offset).rem_euclid(length)
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl fmt::Display for WindowSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = |micros: i64| match micros {
            micros if micros % 1_000_000 == 0 => format!("{}s", micros / 1_000_000),
            micros if micros % 1_000 == 0 => format!("{}ms", micros / 1_000),
            micros => format!("{micros}us"),
        };
        let offset = match *self {
            Self::Tumble { offset, .. } | Self::Hop { offset, .. } | Self::Cumulate { offset, .. } if offset != 0 => {
                format!(", offset {}", length(offset))
            }
            _ => String::new(),
        };
        match *self {
            Self::Tumble { size, .. } => write!(f, "tumble({}{offset})", length(size)),
            Self::Hop { slide, size, .. } => write!(f, "hop(every {}, {}{offset})", length(slide), length(size)),
            Self::Cumulate { step, size, .. } => write!(f, "cumulate(by {}, up to {}{offset})", length(step), length(size)),
            Self::Session { gap } => write!(f, "session(gap {})", length(gap)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn specs() -> impl Strategy<Value = WindowSpec> {
        prop_oneof![
            (1i64..50, -60i64..60).prop_map(|(size, offset)| WindowSpec::Tumble { size, offset }),
            (1i64..30, 1i64..50, -60i64..60).prop_map(|(slide, size, offset)| WindowSpec::Hop { slide, size, offset }),
            (1i64..10, 1i64..6, -60i64..60).prop_map(|(step, steps, offset)| WindowSpec::Cumulate { step, size: step * steps, offset }),
        ]
    }

    /// By definition, over all windows near the time.
    fn holding(spec: WindowSpec, time: i64) -> Vec<Window> {
        let mut windows: Vec<Window> = Vec::new();
        for n in -400i64..400 {
            match spec {
                WindowSpec::Tumble { size, offset } => windows.push(Window { start: offset + n * size, end: offset + (n + 1) * size }),
                WindowSpec::Hop { slide, size, offset } => {
                    windows.push(Window { start: offset + n * slide, end: offset + n * slide + size })
                }
                WindowSpec::Cumulate { step, size, offset } => {
                    let start = offset + n * size;
                    windows.extend((1..=size / step).map(|steps| Window { start, end: start + steps * step }));
                }
                WindowSpec::Session { .. } => {}
            }
        }
        windows.retain(|window| window.start <= time && time < window.end);
        windows.sort_by_key(|window| window.end);
        windows
    }

    proptest! {
        #[test]
        fn the_windows_of_a_pane_are_those_of_its_times(spec in specs(), time in -100i64..100) {
            let pane = spec.pane_of(time);
            let length = spec.pane().unwrap();
            prop_assert!(pane <= time && time < pane + length);
            let found: Vec<Window> = spec.windows_of(pane).collect();
            prop_assert_eq!(&found, &holding(spec, time));
            for window in found {
                prop_assert!((pane - window.start) % length == 0 && (window.end - pane) % length == 0);
            }
        }
    }

    #[test]
    fn lengths_must_fit() {
        assert!(WindowSpec::Tumble { size: 0, offset: 0 }.check().is_err());
        assert!(WindowSpec::Cumulate { step: 3, size: 10, offset: 0 }.check().is_err());
        assert!(WindowSpec::Hop { slide: 999_999_999_999, size: 1_000_000_000_000, offset: 0 }.check().is_err());
        assert!(WindowSpec::Session { gap: 1 }.check().is_ok());
    }
}
