//! The terminal's agent, against a server that does what the test says, and against the real one.

mod call;
mod download;
mod office;
mod package;
mod parameters;
mod power;
mod ready;
mod real;
mod removal;
mod representation;
mod rogue;
pub(crate) mod terminal;
mod ticket;
mod time;
