//! The rules of an estate: pure functions over plain data, without a store, a clock or chance of their own.

pub mod drift;
pub mod name;
pub mod policy;
pub mod template;
