//! The crate from outside: server, agent, and both together.

mod agent;
mod application;
mod call_notice;
mod case;
mod drift;
mod estate;
mod fleet;
mod install;
#[cfg(unix)]
mod limit;
mod parameters;
mod release;
mod replacement;
mod report;
mod represent;
mod retention;
mod scoped;
mod serial;
mod server;
mod simulation;
mod slot;
mod task;
mod text;
mod trigger;
mod world;
