//! Refusing a message, and ending a session on purpose (§7.11).

use super::plan::NextContact;
use crate::code::ResultCode;
use crate::tlv;
use alloc::string::String;

tlv! {
    /// Either way: a message was refused.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Reject {
        /// Why.
        pub code: ResultCode = 0x80,
        /// Tag of the message that was refused.
        pub message: Option<u8> = 0x81,
        /// A sentence for the terminal's printer, up to 70 characters.
        pub text: Option<String> = 0x82,
        /// Seconds before it is worth trying again.
        pub retry_after: Option<u32> = 0x83,
    }

    /// Either way: the end, on purpose. The server says it only when everything that the terminal sent is recorded.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Bye {
        /// How the call went.
        pub code: ResultCode = 0x80,
        /// A new next contact, where it changed.
        pub next_contact: Option<NextContact> = 0xA1,
    }
}
