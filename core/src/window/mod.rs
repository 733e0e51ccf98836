//! Windows over time: how time is cut into panes, and panes into windows.
//!
//! A window is `[start, end)`. Its state is kept per pane: the widest stretch of time of which every window holds all or nothing. So a row
//! belongs to one pane, whatever the number of windows that it belongs to, and windows that overlap share panes. All times are
//! microseconds; a pane and a window are named by where they begin.
//!
//! [`spec`] is the arithmetic, [`reach`] what it may be given; [`functions`] are the words of SQL.

mod functions;
mod reach;
mod spec;

pub(crate) use functions::{WindowFunction, WindowPart, is_window_type, window_fields, window_functions, window_part};
pub(crate) use reach::check_times;
pub(crate) use spec::MOST_WINDOWS;
pub use spec::{Window, WindowSpec};
