//! Bytes on the wire of a payment-terminal management system, for both ends of the line.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod code;
pub mod digest;
pub mod identity;
pub mod machine;
pub mod message;
pub mod secret;
pub mod tlv;
