//! The messages of a session (protocol §7), named after ISO 20022 `catm`.
//!
//! ```
//! use tms_proto::message::{Message, StatusReport, Trigger};
//! use tms_proto::code::TriggerKind;
//!
//! let report = StatusReport::new(Trigger::of(TriggerKind::Manual), 7, 1_790_000_000);
//! let bytes = Message::from(report.clone()).to_vec();
//! assert_eq!(Message::from_slice(&bytes).unwrap().message, report);
//! ```

mod key;
mod log;
mod object;
mod plan;
mod register;
mod reject;
mod report;
mod result;
mod text;

pub use key::{CertificateGrant, CertificateRequest, KeyBlock, KeyConfirm, KeyRequest, Proof, ProofRequest};
pub use log::{Event, LogPart};
pub use object::{Credit, ObjectGet, ObjectStart};
pub use plan::{
    Action, MAX_ACTIONS, MAX_PARAMETER_SET, NextContact, Plan, PlanAck, Precondition, Refusal, Ticket, Wanted, Window,
};
pub use register::{Register, RegisterAnswer};
pub use reject::{Bye, Reject};
pub use report::{
    Capabilities, Component, DeviceState, ErrorEntry, HeldObject, Inventory, KeySlot, Location, LogicalTerminal,
    Memory, ParameterSet, StatusReport, Trigger,
};
pub use result::{ActionResult, ResultAck};
pub use text::{Text, TextReceipt};

use crate::tlv::{DecodeError, DecodeErrorKind, Tag, Value, Writer, split};
use alloc::boxed::Box;
use alloc::vec::Vec;

/// The largest encoded message, in bytes (§7.1).
pub const MAX_MESSAGE: usize = 64 * 1024;

/// A message and how much of it this version did not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// The message.
    pub message: Message,
    /// How many elements were skipped because their tags are unknown.
    pub unknown: usize,
}

macro_rules! messages {
    ($( $(#[$doc:meta])* $name:ident = $tag:literal $way:literal ),* $(,)?) => {
        /// Any message.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Message {
            $( $(#[$doc])* $name(Box<$name>), )*
        }

        impl Message {
            /// The messages' names, tags and directions (`T` terminal to server, `S` server to terminal, `B` both).
            pub const TABLE: &'static [(&'static str, Tag, char)] = &[$( (stringify!($name), Tag($tag), $way) ),*];

            /// The message's tag.
            #[must_use]
            pub const fn tag(&self) -> Tag {
                match self { $( Self::$name(_) => Tag($tag), )* }
            }

            /// The message's name.
            #[must_use]
            pub const fn name(&self) -> &'static str {
                match self { $( Self::$name(_) => stringify!($name), )* }
            }

            /// The encoding. A peer refuses one that is longer than [`MAX_MESSAGE`].
            #[must_use]
            pub fn to_vec(&self) -> Vec<u8> {
                let mut out = Writer::new();
                match self { $( Self::$name(body) => body.write(Tag($tag), &mut out), )* }
                out.into_vec()
            }

            /// Reads one whole message.
            ///
            /// # Errors
            /// Where `bytes` is not exactly one message that this version knows, is longer than [`MAX_MESSAGE`], or one of
            /// its fields is malformed.
            pub fn from_slice(bytes: &[u8]) -> Result<Decoded, DecodeError> {
                if bytes.len() > MAX_MESSAGE {
                    return Err(DecodeError::new(DecodeErrorKind::TooLong, MAX_MESSAGE));
                }
                let (element, rest) = split(bytes, 0)?;
                if !rest.is_empty() {
                    return Err(DecodeError::new(DecodeErrorKind::Trailing, bytes.len() - rest.len()));
                }
                let mut unknown = 0;
                let message = match element.tag {
                    $( Tag($tag) => Self::$name(Box::new($name::read(element, &mut unknown)?)), )*
                    other => return Err(DecodeError::new(DecodeErrorKind::Unexpected(other), 0)),
                };
                Ok(Decoded { message, unknown })
            }
        }

        $( impl From<$name> for Message {
            fn from(body: $name) -> Self {
                Self::$name(Box::new(body))
            }
        } )*

        $( impl PartialEq<$name> for Message {
            fn eq(&self, other: &$name) -> bool {
                matches!(self, Self::$name(body) if **body == *other)
            }
        } )*
    };
}

messages! {
    /// What the terminal is, has and did.
    StatusReport = 0x61 'T',
    /// What the terminal shall do, and when to call next.
    Plan = 0x62 'S',
    /// The terminal has the plan, and is alive.
    PlanAck = 0x63 'T',
    /// Asks for an object from an offset on.
    ObjectGet = 0x64 'T',
    /// Lets the server send up to an offset.
    Credit = 0x65 'T',
    /// What the server is about to send, or why not.
    ObjectStart = 0x66 'S',
    /// How far an action has come.
    ActionResult = 0x67 'T',
    /// These results are recorded.
    ResultAck = 0x68 'S',
    /// A text for the display or the printer.
    Text = 0x69 'S',
    /// What became of a text.
    TextReceipt = 0x6A 'T',
    /// Registers the terminal at a place.
    Register = 0x6B 'T',
    /// Answers a registration.
    RegisterAnswer = 0x6C 'S',
    /// Asks for a key block.
    KeyRequest = 0x6D 'T',
    /// A key block.
    KeyBlock = 0x6E 'S',
    /// The key is in the PIN pad, or not.
    KeyConfirm = 0x6F 'T',
    /// A piece of a log.
    LogPart = 0x70 'T',
    /// Something happened.
    Event = 0x71 'T',
    /// A message was refused.
    Reject = 0x72 'B',
    /// The end, on purpose.
    Bye = 0x73 'B',
    /// Asks for a new certificate.
    CertificateRequest = 0x74 'T',
    /// A new certificate.
    CertificateGrant = 0x75 'S',
    /// Asks for a live proof of the RSA identity.
    ProofRequest = 0x76 'S',
    /// The live proof.
    Proof = 0x77 'T',
}
