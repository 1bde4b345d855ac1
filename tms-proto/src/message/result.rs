//! Results of actions and their acknowledgement (§7.6).

use super::plan::NextContact;
use crate::code::{ResultCode, Stage};
use crate::digest::Digest;
use crate::tlv;
use alloc::string::String;
use alloc::vec::Vec;

tlv! {
    /// Terminal to server: how far an action has come. Kept by the terminal until it is acknowledged.
    #[derive(Debug, Clone, PartialEq, Eq)]
    #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
    pub struct ActionResult {
        /// Names this result: grows with each result of the terminal.
        pub number: u32 = 0x80,
        /// The action.
        pub action: u64 = 0x81,
        /// The attempt, from 1.
        pub attempt: u16 = 0x82,
        /// How far.
        pub stage: Stage = 0x83,
        /// How it went.
        pub code: ResultCode = 0x84,
        /// The vendor's own code.
        pub vendor_code: Option<u32> = 0x85,
        /// In words, up to 70 characters.
        pub text: Option<String> = 0x86,
        /// When, in seconds since 1970 UTC by the terminal's clock.
        pub time: u64 = 0x87,
        /// Bytes downloaded for it.
        pub bytes: Option<u64> = 0x88,
        /// Digest of the component's content that runs now.
        pub running: Option<Digest> = 0x89,
    }

    /// Server to terminal: these results are recorded and may be forgotten.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct ResultAck {
        /// Their numbers.
        pub numbers: Vec<u32> = 0x80,
        /// A new next contact, where it changed.
        pub next_contact: Option<NextContact> = 0xA1,
    }
}
