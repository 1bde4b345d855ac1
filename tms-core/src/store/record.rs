//! The records that a store keeps.

use super::{Assignment, BranchPath, Document, Kind, RosterEntry};
use crate::rule::release::ReleaseState;
use crate::rule::relocation::Observed;
use crate::rule::slot::Booking;
use crate::rule::task::TaskState;
use serde::{Deserialize, Serialize};
use std::fmt;
use tms_proto::code::{ComponentKind, RegisterIntent, Representation, ResultCode, Stage, TriggerKind};
use tms_proto::digest::Digest;
use tms_proto::message::{Inventory, Location, LogicalTerminal, NextContact};

pub use tms_proto::identity::{CredentialId, Holder, KeyId};

/// A terminal's id: random, given at enrolment, never used again. It is the first half of every ticket id, so that a
/// call finds its terminal by the primary key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TerminalId(pub u64);

impl fmt::Display for TerminalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// An action's id: grows for each terminal, never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ActionId(pub u64);

impl fmt::Display for ActionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Where a terminal stands in its life, and with that what it may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TerminalState {
    /// Known, never seen.
    Enrolled,
    /// Has checked in.
    Active,
    /// Switched off by an operator: it may call, and is told so.
    Deactivated,
    /// Lost, stolen or cloned: it is told nothing but that.
    Blacklisted,
}

impl TerminalState {
    /// The name, as it is stored.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enrolled => "enrolled",
            Self::Active => "active",
            Self::Deactivated => "deactivated",
            Self::Blacklisted => "blacklisted",
        }
    }
}

/// A physical terminal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminal {
    /// Its id.
    pub id: TerminalId,
    /// Vendor, model and serial number, unique in the estate.
    pub holder: Holder,
    /// Its state.
    pub state: TerminalState,
    /// The RSA identity that it must prove in modes 1 and 4; pinned at enrolment or on first contact.
    pub key: Option<KeyId>,
    /// A renewed certificate that waits for the terminal, encoded, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewed_certificate: Option<String>,
    /// The credential that the server remembers, so that the terminal need not send it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<Credential>,
    /// The epoch of its terminal main-control key, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub main_key_epoch: Option<u32>,
    /// The live tickets, the newest last: at most two.
    #[serde(default)]
    pub tickets: Vec<SealedTicket>,
    /// The contact counter of the last recorded check-in.
    #[serde(default)]
    pub contact: u32,
    /// The plan that it was given last.
    #[serde(default)]
    pub plan: PlanStanding,
    /// The highest action id given to it.
    #[serde(default)]
    pub last_action: u64,
    /// Digest of its inventory, as the store has it whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inventory: Option<Digest>,
    /// What it can make of representations, as its inventory says.
    #[serde(default, skip_serializing_if = "Decoding::is_none")]
    pub decoding: Decoding,
    /// The last recorded check-in, in seconds since 1970 UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_check_in: Option<u64>,
    /// When it was told to call next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_contact: Option<NextContact>,
    /// What its next contact has booked of an access, where its policy names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<BookedSlot>,
    /// Logical terminals that it reported.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logical: Vec<LogicalTerminal>,
    /// Its identity was revoked: no certificate is believed, whoever shows it, until two operators give it an identity again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub revoked: bool,
    /// The check-in policy that it was given, by name; else that of its class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// It took the place of another: its parameters are wanted again even where their versions and digests are the right ones.
    /// Whoever plans them takes this back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resend_parameters: bool,
    /// Texts that wait for it, at most [`MAX_WAITING_TEXTS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub texts: Vec<WaitingText>,
    /// Texts that it has and that are to be taken back, at most [`MAX_WITHDRAWN_TEXTS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub withdrawn_texts: Vec<u64>,
}

impl Terminal {
    /// Has a text taken back with the terminal's next call.
    pub(crate) fn withdraw_text(&mut self, id: u64) {
        let told = &mut self.withdrawn_texts;
        told.retain(|other| *other != id);
        told.push(id);
        let excess = told.len().saturating_sub(MAX_WITHDRAWN_TEXTS);
        told.drain(..excess);
    }
}

/// The most texts that wait for a terminal: each is read and written with it at every check-in.
pub const MAX_WAITING_TEXTS: usize = 4;

/// The most texts that a terminal is told to be taken back; of more, the newest.
pub const MAX_WITHDRAWN_TEXTS: usize = 16;

/// A text that waits for a terminal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingText {
    /// Its id.
    pub id: u64,
    /// Title.
    pub title: String,
    /// Body.
    pub body: String,
    /// Print it; otherwise display it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub print: bool,
    /// The merchant has to confirm it with a key.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub confirm: bool,
    /// Not delivered before, in seconds since 1970 UTC.
    pub from: u64,
    /// Shown until then.
    pub until: u64,
}

/// In what forms content can come to a terminal, besides as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Decoding {
    /// The representations that it decodes.
    #[serde(default)]
    pub forms: Vec<Representation>,
    /// Digests of the contents that run on it, where it decodes deltas: what a delta may be against.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bases: Vec<Digest>,
}

impl Decoding {
    /// Whether there are none.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.forms.is_empty()
    }
}

/// What a terminal's next contact has booked of an access.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BookedSlot {
    /// The access.
    pub access: String,
    /// What is booked of it, in ascending order of quarters.
    pub bookings: Vec<Booking>,
}

/// A credential that was verified and is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// Its name: a terminal shows only this.
    pub id: CredentialId,
    /// What was verified, as [`Remembered`](tms_proto::credential::Remembered) encodes it, in hexadecimal.
    pub known: String,
}

/// A ticket that a terminal may use. The key is sealed by the server's own key and bound to terminal and ticket.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedTicket {
    /// The second half of the ticket id.
    #[serde(with = "hex::serde")]
    pub id: [u8; 8],
    /// The pre-shared key, sealed: nonce, then ciphertext and tag, in hexadecimal.
    pub sealed: String,
    /// When it ends, in seconds since 1970 UTC.
    pub expires: u64,
}

impl fmt::Debug for SealedTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedTicket")
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// The plan that a terminal was given last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PlanStanding {
    /// Its sequence number; zero for none.
    pub sequence: u64,
    /// Digest of its actions; a plan with other actions gets the next number.
    pub digest: Option<Digest>,
}

/// A terminal's inventory, whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InventoryRecord {
    /// Whose.
    pub terminal: TerminalId,
    /// What it reported.
    pub inventory: Inventory,
    /// When, in seconds since 1970 UTC.
    pub reported: u64,
}

/// A published package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// What assignments need to know of it.
    #[serde(flatten)]
    pub package: PackageRef,
    /// What kind of component it is.
    pub kind: ComponentKind,
    /// Security counter.
    pub counter: u32,
    /// The vendor whose terminals it is for.
    pub vendor: String,
    /// The models that it is for.
    pub models: Vec<String>,
    /// When it was published, in seconds since 1970 UTC.
    pub published: u64,
    /// By whom.
    pub actor: String,
    /// Where it stands in the order of its component's releases: higher is newer. Zero where an earlier version of this
    /// library took it in.
    #[serde(default)]
    pub order: u64,
    /// The least release from which a terminal can go to it, where something is installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_from: Option<u64>,
    /// What else must be installed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dependencies: Vec<NeededRelease>,
    /// Whether it may be queued.
    #[serde(default)]
    pub state: ReleaseState,
    /// Who approved it, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approver: Option<String>,
}

/// A component that a package needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeededRelease {
    /// The component.
    pub component: String,
    /// Its least release.
    pub order: u64,
}

/// A package by name: all that a plan says of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageRef {
    /// Digest of the signed manifest: the package's name, and the name of a blob.
    pub manifest: Digest,
    /// The signed manifest's size, in bytes.
    pub manifest_size: u32,
    /// The component that it installs.
    pub component: String,
    /// Its version, as people read it.
    pub version: String,
    /// Digest of the content: the name of a blob.
    pub content: Digest,
    /// The content's size, in bytes.
    pub size: u64,
    /// Digest of the content's block map, the name of a blob, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_map: Option<Digest>,
    /// Other forms in which the content can be downloaded, at most [`MAX_REPRESENTATIONS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub representations: Vec<RepresentationRef>,
}

/// The most representations of one package, besides the content itself: it is compressed, and against so many contents less
/// one. Every assignment of the package holds those that its terminal may be given.
pub const MAX_REPRESENTATIONS: usize = 8;

/// A form in which a package's content can be downloaded (§9.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepresentationRef {
    /// Which.
    pub form: Representation,
    /// Digest of the object: the name of a blob.
    pub object: Digest,
    /// The object's size, in bytes.
    pub size: u64,
    /// With a delta: digest of the content that it is against.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Digest>,
}

/// Something that happened, kept for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, in seconds since 1970 UTC by the server's clock.
    pub time: u64,
    /// The terminal that it is about.
    pub terminal: Option<TerminalId>,
    /// Who did it: an operator, or the terminal's own holder reference.
    pub actor: String,
    /// What.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventKind {
    /// A terminal was enrolled.
    Enrolled,
    /// A terminal's state was changed.
    StateChanged {
        /// The new state.
        state: TerminalState,
    },
    /// A terminal's certificate was renewed.
    CertificateRenewed,
    /// What a terminal must prove was changed.
    KeysChanged,
    /// A terminal was removed.
    Retired,
    /// A terminal was moved to another branch.
    Moved {
        /// Where it belonged.
        from: BranchPath,
        /// Where it belongs now.
        to: BranchPath,
    },
    /// A package was published.
    Published {
        /// Its name.
        manifest: Digest,
    },
    /// Representations of a package were made.
    Represented {
        /// The package.
        manifest: Digest,
    },
    /// A package's release state was changed.
    ReleaseChanged {
        /// The package.
        manifest: Digest,
        /// The new state.
        state: ReleaseState,
    },
    /// A package was queued for a terminal.
    Queued {
        /// The action.
        action: ActionId,
        /// The package.
        manifest: Digest,
    },
    /// A terminal was not as it shall be, and is put right without a task.
    Restored {
        /// The action.
        action: ActionId,
        /// The component or the parameter set.
        what: String,
    },
    /// An action was withdrawn.
    Cancelled {
        /// The action.
        action: ActionId,
    },
    /// A terminal checked in.
    CheckedIn(CheckInSummary),
    /// A terminal sent the whole inventory that it was asked for.
    InventoryReported,
    /// A consumer of events was added, or asks for other kinds.
    Subscribed {
        /// Its name.
        consumer: String,
    },
    /// A consumer of events was removed.
    Unsubscribed {
        /// Its name.
        consumer: String,
    },
    /// A terminal reported a result.
    Result {
        /// The action.
        action: ActionId,
        /// How far.
        stage: Stage,
        /// How it went.
        code: ResultCode,
        /// The attempt.
        attempt: u16,
    },
    /// A task stands somewhere else.
    TaskMoved {
        /// The task.
        task: u64,
        /// Where it stands now.
        to: TaskState,
        /// The stage that it has come to, from 0.
        stage: u16,
    },
    /// A terminal registered on line.
    Registered(RegistrationSummary),
    /// A terminal was refused its registration.
    RegistrationRefused {
        /// Why it registered.
        intent: RegisterIntent,
        /// Why it was refused.
        code: ResultCode,
    },
    /// Another terminal took the place of this one.
    Replaced {
        /// Which.
        by: TerminalId,
    },
    /// Something points to a terminal that was moved or cloned: a case was opened.
    CaseOpened {
        /// Its id.
        case: String,
        /// What it is about: `relocation` or `clone`.
        about: String,
        /// The sum of its points.
        score: u32,
    },
    /// A case was decided.
    CaseClosed {
        /// Its id.
        case: String,
        /// What was decided.
        disposition: String,
    },
    /// Two terminals seem to have one identity.
    CloneSuspected {
        /// What points to it.
        evidence: String,
    },
    /// A terminal reported something.
    Terminal {
        /// What, by its short name.
        what: String,
        /// In words.
        text: Option<String>,
    },
}

impl EventKind {
    /// The kind's name, as it is stored: for backends that index events by it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Enrolled => "enrolled",
            Self::StateChanged { .. } => "state_changed",
            Self::CertificateRenewed => "certificate_renewed",
            Self::KeysChanged => "keys_changed",
            Self::Retired => "retired",
            Self::Moved { .. } => "moved",
            Self::Published { .. } => "published",
            Self::Represented { .. } => "represented",
            Self::ReleaseChanged { .. } => "release_changed",
            Self::Queued { .. } => "queued",
            Self::Restored { .. } => "restored",
            Self::Cancelled { .. } => "cancelled",
            Self::CheckedIn(_) => "checked_in",
            Self::InventoryReported => "inventory_reported",
            Self::Subscribed { .. } => "subscribed",
            Self::Unsubscribed { .. } => "unsubscribed",
            Self::Result { .. } => "result",
            Self::TaskMoved { .. } => "task_moved",
            Self::Registered(_) => "registered",
            Self::RegistrationRefused { .. } => "registration_refused",
            Self::Replaced { .. } => "replaced",
            Self::CaseOpened { .. } => "case_opened",
            Self::CaseClosed { .. } => "case_closed",
            Self::CloneSuspected { .. } => "clone_suspected",
            Self::Terminal { .. } => "terminal",
        }
    }
}

/// The facts of one check-in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckInSummary {
    /// Handshake mode, 1 to 4.
    pub mode: u8,
    /// Why the terminal called.
    pub trigger: TriggerKind,
    /// Seconds that the terminal's clock is ahead of the server's.
    pub skew: i64,
    /// What the access side observed: address, line or caller number.
    pub peer: String,
    /// The number that the terminal claims to call from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claimed: Option<String>,
    /// Milliseconds from the call's beginning until the plan was acknowledged; what was downloaded after that is not in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elapsed: Option<u32>,
    /// Whether it brought a whole inventory.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub inventory: bool,
    /// The terminal's count of its calls; zero in records of earlier versions.
    #[serde(default)]
    pub contact: u32,
    /// What the access side observed, in parts.
    #[serde(default, skip_serializing_if = "Observed::is_none")]
    pub observed: Observed,
    /// Where the terminal says that it is, where it said so: it does when that has changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Box<Location>>,
}

/// The facts of one registration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistrationSummary {
    /// Why the terminal registered.
    pub intent: RegisterIntent,
    /// Merchant number of what it was told to be.
    pub merchant: String,
    /// Terminal number of what it was told to be.
    pub number: String,
    /// It was registered at another place before, and that counts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub elsewhere: bool,
    /// What the access side observed.
    #[serde(default, skip_serializing_if = "Observed::is_none")]
    pub observed: Observed,
    /// Where the terminal says that it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Box<Location>>,
}

/// The key of a record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Key {
    /// A terminal.
    Terminal(TerminalId),
    /// A terminal's inventory.
    Inventory(TerminalId),
    /// A package, by its manifest's digest.
    Package(Digest),
    /// An assignment.
    Assignment(TerminalId, ActionId),
    /// A terminal's line in the roster.
    Roster(TerminalId),
    /// A document, by its kind and id.
    Document(Kind, String),
}

/// Any record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// A terminal.
    Terminal(Box<Terminal>),
    /// A terminal's inventory.
    Inventory(Box<InventoryRecord>),
    /// A package.
    Package(Box<Package>),
    /// An assignment.
    Assignment(Box<Assignment>),
    /// A terminal's line in the roster.
    Roster(Box<RosterEntry>),
    /// A record of the operator's side.
    Document(Box<Document>),
}

impl Record {
    /// The record's key.
    #[must_use]
    pub fn key(&self) -> Key {
        match self {
            Self::Terminal(terminal) => Key::Terminal(terminal.id),
            Self::Inventory(inventory) => Key::Inventory(inventory.terminal),
            Self::Package(package) => Key::Package(package.package.manifest),
            Self::Assignment(assignment) => Key::Assignment(assignment.terminal, assignment.action),
            Self::Roster(entry) => Key::Roster(entry.terminal),
            Self::Document(document) => Key::Document(document.kind.clone(), document.id.clone()),
        }
    }
}

impl From<Terminal> for Record {
    fn from(record: Terminal) -> Self {
        Self::Terminal(Box::new(record))
    }
}

impl From<InventoryRecord> for Record {
    fn from(record: InventoryRecord) -> Self {
        Self::Inventory(Box::new(record))
    }
}

impl From<Package> for Record {
    fn from(record: Package) -> Self {
        Self::Package(Box::new(record))
    }
}

impl From<Assignment> for Record {
    fn from(record: Assignment) -> Self {
        Self::Assignment(Box::new(record))
    }
}

impl From<RosterEntry> for Record {
    fn from(record: RosterEntry) -> Self {
        Self::Roster(Box::new(record))
    }
}

impl From<Document> for Record {
    fn from(record: Document) -> Self {
        Self::Document(Box::new(record))
    }
}
