//! Text messages published to terminals (§7.7).

use crate::code::TextStatus;
use crate::tlv;
use alloc::string::String;

tlv! {
    /// Server to terminal: a text for the display or the printer.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Text {
        /// Its id.
        pub id: u64 = 0x80,
        /// Title, up to 64 characters.
        pub title: String = 0x81,
        /// Body, up to 256 characters.
        pub body: String = 0x82,
        /// Print it; otherwise display it.
        pub print: Option<bool> = 0x83,
        /// Shown until then, in seconds since 1970 UTC.
        pub until: Option<u64> = 0x84,
        /// The merchant has to confirm with a key.
        pub confirm: Option<bool> = 0x85,
    }

    /// Terminal to server: what became of a text.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct TextReceipt {
        /// The text's id.
        pub id: u64 = 0x80,
        /// What became of it.
        pub status: TextStatus = 0x81,
        /// When, in seconds since 1970 UTC by the terminal's clock.
        pub time: u64 = 0x82,
    }
}
