//! The crate from outside: server, agent, and both together.

mod agent;
#[cfg(unix)]
mod limit;
mod server;
mod simulation;
mod world;
