//! The kinds of windows, and their arithmetic.

use super::reach::LONGEST;
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

/// The most panes that a window may have: it adds all of them up when it closes.
const MOST_PANES: i64 = 100_000;
/// The most windows that a row may be in, where each is kept by itself.
pub(crate) const MOST_WINDOWS: i64 = 10_000;

impl WindowSpec {
    /// # Errors
    /// `Config` if a length is not above zero or too long, if lengths don't fit each other, or if they make too many windows of a row.
    pub fn check(self) -> Result<Self> {
        let (lengths, offset) = match self {
            Self::Tumble { size, offset } => ([size, size], offset),
            Self::Hop { slide, size, offset } => ([slide, size], offset),
            Self::Cumulate { step, size, offset } => ([step, size], offset),
            Self::Session { gap } => ([gap, gap], 0),
        };
        let wrong = |what: &str| Err(Error::config(format!("{self}: {what}")));
        if lengths.iter().any(|length| *length <= 0) {
            return wrong("a window's lengths must be above zero");
        }
        if lengths.iter().any(|length| *length > LONGEST) || !(-LONGEST..=LONGEST).contains(&offset) {
            return wrong("a window's lengths and offset must be within ten thousand years, which are 3652425 days");
        }
        match self {
            Self::Cumulate { step, size, .. } if size % step != 0 => wrong("the size must be a multiple of the step, which comes first"),
            Self::Cumulate { .. } if self.windows_of_a_row() > MOST_WINDOWS => wrong(&format!(
                "a row would be in up to {} windows, and {MOST_WINDOWS} are the most; use a longer step or a shorter size",
                self.windows_of_a_row()
            )),
            Self::Hop { slide, size, .. } if size / gcd(slide, size) > MOST_PANES => wrong(&format!(
                "slide and size have so small a common divisor that a window would have more than {MOST_PANES} panes; round them"
            )),
            _ => Ok(self),
        }
    }

    /// The most windows that a row can be in.
    pub(crate) fn windows_of_a_row(self) -> i64 {
        match self {
            Self::Tumble { .. } | Self::Session { .. } => 1,
            Self::Hop { slide, size, .. } => (size - 1) / slide + 1,
            Self::Cumulate { step, size, .. } => size / step,
        }
    }

    /// How long each window is, if all are of one length.
    pub fn size(self) -> Option<i64> {
        match self {
            Self::Tumble { size, .. } | Self::Hop { size, .. } => Some(size),
            Self::Cumulate { .. } | Self::Session { .. } => None,
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
            prop_assert!(found.len() as i64 <= spec.windows_of_a_row());
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
        assert!(WindowSpec::Session { gap: LONGEST }.check().is_ok());
        assert!(WindowSpec::Session { gap: LONGEST + 1 }.check().is_err());
        assert!(WindowSpec::Tumble { size: 1, offset: i64::MIN }.check().is_err());
    }

    #[test]
    fn a_row_is_not_in_more_windows_than_can_be_kept() {
        const DAY: i64 = 86_400_000_000;
        assert!(WindowSpec::Cumulate { step: 1_000, size: DAY, offset: 0 }.check().is_err());
        assert!(WindowSpec::Cumulate { step: 1, size: MOST_WINDOWS, offset: 0 }.check().is_ok());
        assert!(WindowSpec::Cumulate { step: 1, size: MOST_WINDOWS + 1, offset: 0 }.check().is_err());
        assert_eq!(WindowSpec::Hop { slide: 3, size: 7, offset: 0 }.windows_of_a_row(), 3);
    }

    #[test]
    fn a_window_between_wide_gaps_has_few_panes() {
        let spec = WindowSpec::Hop { slide: 7 * 86_400_000_000, size: 1_000_000, offset: 0 }.check().unwrap();
        assert_eq!((spec.pane(), spec.windows_of_a_row()), (Some(1_000_000), 1));
        assert_eq!(spec.windows_of(spec.pane_of(999_999)).collect::<Vec<_>>(), [Window { start: 0, end: 1_000_000 }]);
        assert_eq!(spec.windows_of(spec.pane_of(1_000_000)).count(), 0);
    }
}
