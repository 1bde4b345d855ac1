//! The plan (§7.3): what the terminal shall do, and when to call next.

use super::text::Text;
use crate::code::{ActionKind, ErrorAction, Representation, ResultCode};
use crate::digest::Digest;
use crate::secret::Psk;
use crate::tlv;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;

/// The most actions of one plan: bounds what a terminal keeps of it (§7.3).
pub const MAX_ACTIONS: usize = 64;

/// The most bytes of a parameter set: a terminal reads it whole (§9.9).
pub const MAX_PARAMETER_SET: u64 = 65_536;

tlv! {
    /// Server to terminal: the whole list of actions, which replaces the one that the terminal holds, or *unchanged*.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Plan {
        /// Grows whenever the actions change; a lower one than the terminal has seen is refused as stale.
        pub sequence: u64 = 0x80,
        /// The actions are those of the plan with this sequence, which the terminal said that it holds.
        pub unchanged: Option<bool> = 0x81,
        /// The actions, in the order in which they are to be begun.
        pub actions: Vec<Action> = 0xA2,
        /// Texts to show or print.
        pub texts: Vec<Text> = 0xA3,
        /// What the server wants to be told, as a set of [`Wanted`] bits.
        pub wanted: Option<u8> = 0x84,
        /// When to call next.
        pub next_contact: NextContact = 0xA5,
        /// The ticket for the next call.
        pub ticket: Option<Ticket> = 0xA6,
        /// After this time, in seconds since 1970 UTC, actions of this plan that are not begun are not to be begun.
        pub not_after: Option<u64> = 0x87,
        /// Texts that are taken back: what was not shown yet is not to be.
        pub withdrawn_texts: Vec<u64> = 0x88,
    }

    /// One action.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Action {
        /// Its id: stable, never used again; the same id twice is the same action.
        pub id: u64 = 0x80,
        /// What to do.
        pub kind: ActionKind = 0x81,
        /// The signed manifest of the package.
        pub manifest: Option<Digest> = 0x82,
        /// Its size, in bytes.
        pub manifest_size: Option<u32> = 0x83,
        /// The object to download for this terminal.
        pub object: Option<Digest> = 0x84,
        /// Its size, in bytes.
        pub size: Option<u64> = 0x85,
        /// In what form the object is.
        pub representation: Option<Representation> = 0x86,
        /// What a delta is against.
        pub base: Option<Digest> = 0x87,
        /// Actions that must have succeeded before.
        pub depends_on: Vec<u64> = 0x88,
        /// When the download may begin.
        pub download: Option<Window> = 0xA9,
        /// When the installation may begin.
        pub install: Option<Window> = 0xAA,
        /// What must hold before the installation, as a set of [`Precondition`] bits.
        pub preconditions: Option<u16> = 0x8B,
        /// The least battery charge, 0 to 100.
        pub min_battery: Option<u8> = 0x8C,
        /// Restart when done.
        pub restart: Option<bool> = 0x8D,
        /// The merchant may not put it off. Settlement still comes first.
        pub forced: Option<bool> = 0x8E,
        /// What to tell the merchant, up to 30 characters.
        pub prompt: Option<String> = 0x8F,
        /// What happens to the rest when this fails.
        pub on_error: Option<ErrorAction> = 0x90,
        /// Higher is sooner.
        pub priority: Option<u8> = 0x91,
        /// Seconds between attempts.
        pub retry_delay: Option<u32> = 0x92,
        /// The most attempts.
        pub max_attempts: Option<u16> = 0x93,
        /// A signed grant to install a lower security counter on this one terminal.
        pub grant: Option<Bytes> = 0x94,
        /// The component or the parameter set that the action is about, where there is no manifest to say so.
        pub component: Option<String> = 0x95,
        /// For [`ActionKind::Cancel`]: the action that is withdrawn.
        pub target: Option<u64> = 0x96,
        /// How often the merchant may put it off. The terminal's own bound holds where it is lower.
        pub max_postponed: Option<u16> = 0x97,
    }

    /// A time, from and until, in seconds since 1970 UTC: half open.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
    pub struct Window {
        /// The first second.
        pub from: u64 = 0x80,
        /// The first second after it.
        pub until: u64 = 0x81,
    }

    /// When the terminal shall call next. The server has spread the calls already: the terminal adds no randomness of
    /// its own but within `jitter`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
    pub struct NextContact {
        /// Not before this time, in seconds since 1970 UTC.
        pub from: u64 = 0x80,
        /// How long after `from` the slot stays open, in seconds.
        pub window: u32 = 0x81,
        /// The most seconds that the terminal may add by chance.
        pub jitter: Option<u32> = 0x82,
        /// Seconds before it tries again.
        pub redial_delay: Option<u32> = 0x83,
        /// The most tries in the slot.
        pub redial_max: Option<u16> = 0x84,
        /// Call after so many settlements, too.
        #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
        pub after_settlements: Option<u16> = 0x85,
        /// Call when switched on, too: by chance within `window` seconds.
        #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
        pub power_on: Option<bool> = 0x86,
        /// Calls by hand, after settlements and at power-on come no sooner than so many seconds after the last check-in.
        #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
        pub gap: Option<u32> = 0x87,
    }

    /// A ticket for the next handshake (§4.6).
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Ticket {
        /// What the terminal names it by.
        pub id: [u8; 16] = 0x80,
        /// The pre-shared key.
        pub key: Psk = 0x81,
        /// Seconds until it ends.
        pub lifetime: u32 = 0x82,
    }

    /// Terminal to server: it has the plan. The first record of modes 2 and 3, and so the proof that it is alive.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct PlanAck {
        /// The plan's sequence number.
        pub sequence: u64 = 0x80,
        /// Actions that the terminal will not take on.
        pub refused: Vec<Refusal> = 0xA1,
    }

    /// An action that the terminal will not take on.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Refusal {
        /// The action.
        pub action: u64 = 0x80,
        /// Why.
        pub code: ResultCode = 0x81,
    }
}

/// Bits of [`Plan::wanted`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted;

impl Wanted {
    /// The whole inventory, in a status report of its own.
    pub const INVENTORY: u8 = 0x01;
    /// The log.
    pub const LOG: u8 = 0x02;
    /// Online registration.
    pub const REGISTRATION: u8 = 0x04;
    /// A certificate request: the recovery of a terminal whose certificate has expired. Nothing else is allowed then.
    pub const CERTIFICATE_REQUEST: u8 = 0x08;
}

/// Bits of [`Action::preconditions`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Precondition;

impl Precondition {
    /// All transactions are settled (ISO 20022 `RCNC`).
    pub const SETTLED: u16 = 0x01;
    /// The merchant agreed (ISO 20022 `MANC`).
    pub const CONFIRMED: u16 = 0x02;
    /// No transaction is running.
    pub const IDLE: u16 = 0x04;
    /// The terminal is on external power.
    pub const CHARGING: u16 = 0x08;
    /// The terminal is on a network that costs nothing.
    pub const UNMETERED: u16 = 0x10;
}

impl NextContact {
    /// A slot that begins at `from` and stays open for `window` seconds, and nothing else.
    #[must_use]
    pub const fn at(from: u64, window: u32) -> Self {
        Self {
            from,
            window,
            jitter: None,
            redial_delay: None,
            redial_max: None,
            after_settlements: None,
            power_on: None,
            gap: None,
        }
    }
}

impl Window {
    /// Whether `time` lies in it.
    #[must_use]
    pub const fn contains(&self, time: u64) -> bool {
        self.from <= time && time < self.until
    }
}
