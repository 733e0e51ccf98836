//! The driver against small sources and sinks, on stores that fail.

mod damage;
mod ends;
mod fencing;
mod looks;
mod overlap;
mod replayed;
mod spooled;
mod support;
mod sweep;
