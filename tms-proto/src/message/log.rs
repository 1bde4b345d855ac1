//! Logs and events from the terminal (§7.10).

use crate::code::EventKind;
use crate::tlv;
use alloc::string::String;
use bytes::Bytes;

tlv! {
    /// Terminal to server: a piece of a log.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct LogPart {
        /// Which log.
        pub name: String = 0x80,
        /// Where the piece begins, in bytes.
        pub offset: u64 = 0x81,
        /// The piece.
        pub bytes: Bytes = 0x82,
        /// Nothing follows.
        pub last: Option<bool> = 0x83,
    }

    /// Terminal to server: something happened.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Event {
        /// What.
        pub kind: EventKind = 0x80,
        /// When, in seconds since 1970 UTC by the terminal's clock.
        pub time: u64 = 0x81,
        /// In words.
        pub text: Option<String> = 0x82,
    }
}
