//! The crate from outside: server, agent, and both together.

mod agent;
mod drift;
mod estate;
#[cfg(unix)]
mod limit;
mod parameters;
mod report;
mod represent;
mod serial;
mod server;
mod simulation;
mod world;
