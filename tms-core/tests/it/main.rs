//! The crate from outside: server, agent, and both together.

mod agent;
mod server;
mod simulation;
mod world;
