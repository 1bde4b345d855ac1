//! Real terminals.

#[path = "../../../tms-core/tests/it/agent/terminal.rs"]
pub(crate) mod terminal;
