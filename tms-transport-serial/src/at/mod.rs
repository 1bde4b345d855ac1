//! The language of modems: lines, results, caller identification, and the [`Engine`] that speaks it.
//!
//! Nothing in here does I/O or reads a clock. What a modem says is hostile input: a caller writes into caller identification,
//! and noise into everything. No input makes an engine take memory or panic; at worst it finds the modem silent and brings
//! it into its known state again.

pub mod caller;
mod connect;
mod engine;
mod event;
mod line;
mod prepare;
mod profile;
mod reply;

pub use caller::Told;
pub use connect::Connect;
pub use engine::Engine;
pub use event::{Event, Failure, Fault, NotNow, Phase};
pub use line::{Lines, MAX_LINE};
pub use profile::{Command, DialString, Profile, TextError, Timing};
pub use reply::{Reply, read};
