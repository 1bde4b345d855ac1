//! Online registration (§7.8): records where the terminal stands.

use super::report::{Location, LogicalTerminal};
use crate::code::{RegisterIntent, ResultCode};
use crate::tlv;
use alloc::string::String;

tlv! {
    /// Terminal to server: it stands here now.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Register {
        /// Why.
        pub intent: RegisterIntent = 0x80,
        /// One-time code that an operator gave out.
        pub code: Option<String> = 0x81,
        /// Serial number of the terminal that it replaces.
        pub replaces: Option<String> = 0x82,
        /// Who installed it.
        pub installer: Option<String> = 0x83,
        /// Where it believes to be.
        pub location: Option<Location> = 0xA4,
        /// What it takes itself to be.
        pub logical: Option<LogicalTerminal> = 0xA5,
    }

    /// Server to terminal: registered, or why not.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct RegisterAnswer {
        /// The decision.
        pub code: ResultCode = 0x80,
        /// What it is from now on.
        pub logical: Option<LogicalTerminal> = 0xA1,
        /// A sentence for the printer.
        pub text: Option<String> = 0x82,
    }
}
