//! Downloading (§9): asking for an object, granting credit, and what the server says before the first byte.
//! The bytes themselves travel as object parts, a content type of their own (§5.3).

use crate::code::ResultCode;
use crate::digest::Digest;
use crate::tlv;

tlv! {
    /// Terminal to server: send this object from here on. It takes the place of any transfer that is running.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct ObjectGet {
        /// The object's name.
        pub digest: Digest = 0x80,
        /// The first byte wanted.
        pub offset: u64 = 0x81,
        /// The server may send the bytes before this offset.
        pub until: u64 = 0x82,
    }

    /// Terminal to server: the server may send further.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Credit {
        /// The server may send the bytes before this offset. Lower than before changes nothing.
        pub until: u64 = 0x80,
    }

    /// Server to terminal: what comes now.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct ObjectStart {
        /// The object's name.
        pub digest: Digest = 0x80,
        /// The first byte that comes.
        pub offset: u64 = 0x81,
        /// The object's size in bytes; zero where it does not come.
        pub total: u64 = 0x82,
        /// Why it does not come: `CHANGED` or `GONE` (drop what is held), `BUSY` (ask again later).
        pub code: Option<ResultCode> = 0x83,
    }
}
