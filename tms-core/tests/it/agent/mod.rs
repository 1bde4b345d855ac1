//! The terminal's agent, against a server that does what the test says, and against the real one.

mod call;
mod download;
mod office;
mod package;
mod power;
mod ready;
mod real;
mod representation;
mod rogue;
pub(crate) mod terminal;
mod ticket;
mod time;
