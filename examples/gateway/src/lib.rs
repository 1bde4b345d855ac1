//! A gateway for branches, as a library: it ends modem and network calls, and forwards what is inside to the head office.
//!
//! It can read nothing of it: sessions are secured from end to end, and what it adds is a PROXY header with what it has observed
//! of the caller. For the program `tms-gateway`, and for programs that bring listeners of their own.

pub mod config;
pub mod gateway;
pub mod lines;
mod relay;
