//! What the example programs have in common: how they begin and end, how they log, how they read what they are told.

pub mod file;
pub mod log;
pub mod place;
mod run;
pub mod sample;
mod say;
pub mod signals;
pub mod table;
pub mod watch;

pub use run::run;
pub use say::say;
