//! What a payment-terminal management system does.
#![forbid(unsafe_code)]

pub mod store;
