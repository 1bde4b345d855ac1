//! The crate from outside: server, agent, and both together.

mod agent;
mod estate;
mod fleet;
#[cfg(unix)]
mod limit;
mod report;
mod represent;
mod serial;
mod server;
mod simulation;
mod task;
mod world;
