//! Properties and vectors of the wire.

mod arbitrary;
mod envelope;
mod fixture;
mod message;
mod sample;
mod session;
mod structure;
mod tlv;
mod vector;
