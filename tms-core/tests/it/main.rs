//! The crate from outside: server, agent, and both together.

mod agent;
mod case;
mod estate;
mod install;
#[cfg(unix)]
mod limit;
mod replacement;
mod report;
mod represent;
mod serial;
mod server;
mod simulation;
mod text;
mod world;
