//! The rules of an estate: pure functions over plain data, without a store, a clock or chance of their own.

pub mod asset;
pub mod drift;
pub mod name;
pub mod number;
pub mod policy;
pub mod release;
pub mod relocation;
pub mod slot;
pub mod task;
pub mod template;
pub mod text;
