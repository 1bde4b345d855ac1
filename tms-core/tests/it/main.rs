//! The crate from outside: server, agent, and both together.

mod agent;
mod estate;
#[cfg(unix)]
mod limit;
mod release;
mod report;
mod represent;
mod scoped;
mod serial;
mod server;
mod simulation;
mod slot;
mod world;
