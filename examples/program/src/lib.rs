//! What the example programs have in common: how they log, how they are stopped, how they read what they are told.

pub mod file;
pub mod log;
mod say;
pub mod signals;
pub mod watch;

pub use say::say;
