//! The status report (§7.2): what the terminal is, has and did.

use super::result::ActionResult;
use crate::code::{ComponentKind, ComponentStatus, Representation, ResultCode, TriggerKind};
use crate::digest::Digest;
use crate::tlv;
use crate::tlv::Structure;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;

tlv! {
    /// Terminal to server: why it calls, what it has by digest, and what it has not yet had acknowledged.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct StatusReport {
        /// Why this check-in happens.
        pub trigger: Trigger = 0xA0,
        /// Counts the terminal's calls; it is stored before each, so that it never repeats. A clone is found by it.
        pub contact: u32 = 0x81,
        /// The terminal's clock, in seconds since 1970 UTC. The server computes the skew and believes nothing.
        pub time: u64 = 0x82,
        /// The terminal's time zone: minutes east of UTC.
        pub zone: Option<i16> = 0x83,
        /// Digest of the encoded [`Inventory`].
        pub inventory_digest: Digest = 0x84,
        /// The inventory itself, where the server asked for it or cannot know it.
        pub inventory: Option<Inventory> = 0xA5,
        /// Logical terminals, where they changed or the server asked.
        pub logical: Vec<LogicalTerminal> = 0xA6,
        /// Objects held, whole or in part.
        pub held: Vec<HeldObject> = 0xA7,
        /// Where the terminal believes to be.
        pub location: Option<Location> = 0xA8,
        /// What state it is in, where that is worth a word.
        pub state: Option<DeviceState> = 0xA9,
        /// Results that were not acknowledged yet.
        pub results: Vec<ActionResult> = 0xAA,
        /// Errors since the last report that was acknowledged.
        pub errors: Vec<ErrorEntry> = 0xAB,
        /// Sequence number of the plan that the terminal holds.
        pub plan: Option<u64> = 0x8C,
        /// The next contact that the terminal holds, in seconds since 1970 UTC.
        pub next_contact: Option<u64> = 0x8D,
    }

    /// Why a check-in happens, and at whose wish.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Trigger {
        /// The kind.
        pub kind: TriggerKind = 0x80,
        /// Which application, host or person.
        pub source: Option<String> = 0x81,
        /// The task that a transaction notice named.
        pub task: Option<u32> = 0x82,
        /// The check code that came with the notice.
        pub check_code: Option<Bytes> = 0x83,
        /// The number of the retry, from 1.
        pub retry: Option<u16> = 0x84,
    }

    /// Everything that changes seldom, reported by its digest.
    #[derive(Debug, Clone, PartialEq, Eq, Default)]
    #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
    pub struct Inventory {
        /// Components.
        pub components: Vec<Component> = 0xA0,
        /// Parameter sets.
        pub parameters: Vec<ParameterSet> = 0xA1,
        /// Keys, by their check values.
        pub keys: Vec<KeySlot> = 0xA2,
        /// What the hardware can do.
        pub capabilities: Option<Capabilities> = 0xA3,
        /// Hardware version.
        pub hardware: Option<String> = 0x84,
    }

    /// One component of the terminal.
    #[derive(Debug, Clone, PartialEq, Eq)]
    #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
    pub struct Component {
        /// Its id, unique on the terminal.
        pub id: String = 0x80,
        /// What it is.
        pub kind: ComponentKind = 0x81,
        /// Version, as people read it.
        pub version: String = 0x82,
        /// Security counter of the installed package.
        pub counter: Option<u32> = 0x83,
        /// Its status.
        pub status: ComponentStatus = 0x84,
        /// Digest of the content that runs.
        pub digest: Option<Digest> = 0x85,
        /// Serial number, of hardware components.
        pub serial: Option<String> = 0x86,
        /// When its approval or certificate ends, in seconds since 1970 UTC.
        pub expiry: Option<u64> = 0x87,
        /// Who provides it.
        pub provider: Option<String> = 0x88,
    }

    /// One set of parameters, by digest.
    #[derive(Debug, Clone, PartialEq, Eq)]
    #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
    pub struct ParameterSet {
        /// Its name.
        pub name: String = 0x80,
        /// What it configures.
        pub kind: ComponentKind = 0x81,
        /// Its version.
        pub version: String = 0x82,
        /// Digest of what is in force.
        pub digest: Digest = 0x83,
        /// Whether it was changed at the terminal.
        pub changed_on_site: Option<bool> = 0x84,
        /// When, in seconds since 1970 UTC.
        pub changed_at: Option<u64> = 0x85,
    }

    /// A key slot of the PIN pad. Never the key.
    #[derive(Debug, Clone, PartialEq, Eq)]
    #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
    pub struct KeySlot {
        /// Slot number.
        pub slot: u16 = 0x80,
        /// Key version.
        pub version: u8 = 0x81,
        /// Usage, as the two characters of a TR-31 header.
        pub usage: String = 0x82,
        /// Key check value.
        pub check_value: Bytes = 0x83,
        /// When it ends, in seconds since 1970 UTC.
        pub expiry: Option<u64> = 0x84,
    }

    /// What the terminal can do.
    #[derive(Debug, Clone, PartialEq, Eq, Default)]
    #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
    pub struct Capabilities {
        /// The representations that it can decode, one code a byte.
        pub representations: Option<Bytes> = 0x80,
        /// Display: columns.
        pub display_columns: Option<u16> = 0x81,
        /// Display: rows.
        pub display_rows: Option<u16> = 0x82,
        /// Printer: columns; zero or absent without one.
        pub printer_columns: Option<u16> = 0x83,
        /// Character sets, by their IANA names.
        pub charsets: Vec<String> = 0x84,
        /// Ways to communicate: `modem`, `tcp`, `gprs`, `wifi` and so on.
        pub links: Vec<String> = 0x85,
        /// Nobody attends it.
        pub unattended: Option<bool> = 0x86,
        /// The largest object that it can take, in bytes.
        pub max_object: Option<u64> = 0x87,
    }

    /// A merchant's terminal, as the acquirer sees it.
    #[derive(Debug, Clone, PartialEq, Eq)]
    #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
    pub struct LogicalTerminal {
        /// Merchant number, up to 15 characters.
        pub merchant: String = 0x80,
        /// Terminal number, up to 8 characters.
        pub terminal: String = 0x81,
        /// The application that uses it.
        pub application: Option<String> = 0x82,
    }

    /// An object that the terminal holds, whole or in part.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct HeldObject {
        /// Its name.
        pub digest: Digest = 0x80,
        /// How many bytes from the start are there and sound.
        pub held: u64 = 0x81,
        /// In what form.
        pub representation: Option<Representation> = 0x82,
    }

    /// Where the terminal believes to be. What the access side observed is kept apart from this.
    #[derive(Debug, Clone, PartialEq, Eq, Default)]
    #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
    pub struct Location {
        /// The number that it calls from, as configured.
        pub caller: Option<String> = 0x80,
        /// The number that it called.
        pub called: Option<String> = 0x81,
        /// Its own address.
        pub address: Option<String> = 0x82,
        /// SIM card number.
        pub iccid: Option<String> = 0x83,
        /// Radio module number.
        pub imei: Option<String> = 0x84,
        /// Radio cell.
        pub cell: Option<String> = 0x85,
    }

    /// The state of the device.
    #[derive(Debug, Clone, PartialEq, Eq, Default)]
    #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
    pub struct DeviceState {
        /// Transactions that are not settled.
        pub unsettled: Option<u32> = 0x80,
        /// In use.
        pub busy: Option<bool> = 0x81,
        /// Charge, 0 to 100.
        pub battery: Option<u8> = 0x82,
        /// On external power.
        pub charging: Option<bool> = 0x83,
        /// Memory for programs.
        pub flash: Option<Memory> = 0xA4,
        /// Working memory.
        pub ram: Option<Memory> = 0xA5,
        /// Tampering was detected.
        pub tampered: Option<bool> = 0x86,
        /// Restarts since manufacture.
        pub boots: Option<u32> = 0x87,
        /// Why it last restarted.
        pub boot_reason: Option<String> = 0x88,
    }

    /// A memory's size, in bytes.
    #[derive(Debug, Clone, PartialEq, Eq)]
    #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
    pub struct Memory {
        /// All of it.
        pub total: u64 = 0x80,
        /// What is free.
        pub free: u64 = 0x81,
    }

    /// One line of the terminal's error log.
    #[derive(Debug, Clone, PartialEq, Eq)]
    #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
    pub struct ErrorEntry {
        /// When, in seconds since 1970 UTC by the terminal's clock.
        pub time: u64 = 0x80,
        /// What.
        pub code: ResultCode = 0x81,
        /// The vendor's own code.
        pub vendor_code: Option<u32> = 0x82,
        /// In words.
        pub text: Option<String> = 0x83,
    }
}

impl Trigger {
    /// A trigger that says no more than its kind.
    #[must_use]
    pub const fn of(kind: TriggerKind) -> Self {
        Self {
            kind,
            source: None,
            task: None,
            check_code: None,
            retry: None,
        }
    }
}

impl StatusReport {
    /// A report with nothing but what must be in it, for an empty inventory.
    #[must_use]
    pub fn new(trigger: Trigger, contact: u32, time: u64) -> Self {
        Self {
            trigger,
            contact,
            time,
            zone: None,
            inventory_digest: Inventory::default().digest(),
            inventory: None,
            logical: Vec::new(),
            held: Vec::new(),
            location: None,
            state: None,
            results: Vec::new(),
            errors: Vec::new(),
            plan: None,
            next_contact: None,
        }
    }
}

impl Inventory {
    /// Digest of the encoded fields: what [`StatusReport::inventory_digest`] states.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_vec())
    }
}
