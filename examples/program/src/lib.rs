//! What the example programs have in common: how they begin and end, how they log, how they read what they are told.

pub mod file;
pub mod log;
mod run;
mod say;
pub mod signals;
pub mod watch;

pub use run::run;
pub use say::say;
