//! What a vendor implements to put the agent on a terminal: three small traits.
//!
//! # Contract
//!
//! 1. Power may fail during any call, and any future may be dropped: the call is then made again, and does what is left to
//!    do. A call that finds its work done succeeds.
//! 2. [`Installer::install`] writes beside the running version and never touches it.
//! 3. [`Installer::activate`] is atomic: after a loss of power the old version starts or the new one, whole.
//! 4. The old version stays until the new one has confirmed itself. A new version that does not confirm itself is given up
//!    by the terminal at a restart, or by [`Installer::roll_back`]; then the old one runs again.
//! 5. [`Installer::set_parameters`] is atomic and durable: after a loss of power the old parameters hold or the new ones,
//!    whole. When it has returned, the inventory lists the set with the digest of its content.
//! 6. Nothing here decides whether a package may be installed: the agent has verified it. What is read through [`Content`]
//!    may still be damaged by the memory; an installer checks what it has written against [`Manifest::content`].
//!
//! Together: **at every instant the terminal has a whole version that it can start.**

use super::flash::{Flash, FlashError};
use async_trait::async_trait;
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;
use thiserror::Error;
use tms_proto::code::{ResultCode, TextStatus};
use tms_proto::digest::Digest;
use tms_proto::message::{DeviceState, Inventory, Location, LogicalTerminal, Text};
use tms_proto::package::Manifest;

/// A terminal, as the agent sees it.
#[derive(Clone)]
pub struct Device {
    /// What it has.
    pub components: Arc<dyn Components>,
    /// How it is changed.
    pub installer: Arc<dyn Installer>,
    /// How it speaks to the merchant.
    pub screen: Arc<dyn Screen>,
}

/// What a terminal has, and how it is.
#[async_trait]
pub trait Components: Send + Sync + 'static {
    /// Components, parameter sets, keys by their check values, capabilities. In a stable order: it is reported by digest.
    async fn inventory(&self) -> Result<Inventory, DeviceError>;

    /// The state that is worth a word; the default where there is nothing to say.
    async fn state(&self) -> Result<DeviceState, DeviceError>;

    /// The terminal as its acquirers see it.
    async fn logical(&self) -> Result<Vec<LogicalTerminal>, DeviceError>;

    /// Where it believes to be: what is configured, and what its modules say.
    async fn location(&self) -> Result<Option<Location>, DeviceError>;

    /// The newest part of its log, for the server that asks for it. The agent cuts it at 64 KiB.
    async fn log(&self) -> Result<Bytes, DeviceError>;
}

/// Installs, activates and rolls back components.
#[async_trait]
pub trait Installer: Send + Sync + 'static {
    /// Whether a component may be changed now.
    async fn readiness(&self, component: &str) -> Result<Readiness, DeviceError>;

    /// How many bytes of the agent's own flash memory it takes to install a content of `size` bytes beside the running
    /// version: zero where the terminal keeps programs elsewhere and has room there.
    ///
    /// # Errors
    /// [`ResultCode::NoSpace`] where there is no room elsewhere.
    async fn space(&self, component: &str, size: u64) -> Result<u64, DeviceError>;

    /// Puts a verified content beside the running version.
    async fn install(&self, manifest: &Manifest, content: &Content) -> Result<(), DeviceError>;

    /// Chooses the installed version whose content is named: at once, or for the next start.
    ///
    /// # Errors
    /// [`ResultCode::UnknownReference`] where it is not installed.
    async fn activate(&self, component: &str, content: &Digest) -> Result<Activation, DeviceError>;

    /// At most `max` bytes, one at least, of the content that runs, from `offset` on; none behind its end. A delta is decoded
    /// with it: a device that can do this lists [`Representation::Delta`](tms_proto::code::Representation::Delta), and
    /// `Zstd`, among the [representations](tms_proto::message::Capabilities::representations) of its inventory; without
    /// a list the agent decodes compressed content only.
    ///
    /// # Errors
    /// [`ResultCode::NotSupported`] where what runs cannot be read back.
    async fn read(&self, component: &str, offset: u64, max: usize) -> Result<Bytes, DeviceError>;

    /// What runs now.
    async fn running(&self, component: &str) -> Result<Running, DeviceError>;

    /// Goes back to the version before the one that has not confirmed itself: at once, or at the next start.
    async fn roll_back(&self, component: &str) -> Result<(), DeviceError>;

    /// Puts a parameter set in force, in the place of the one of this name: whole or not at all. The content is a
    /// [`Document`](crate::rule::template::Document), verified, of at most
    /// [`MAX_PARAMETER_SET`](tms_proto::message::MAX_PARAMETER_SET) bytes; there may be secrets in it.
    ///
    /// # Errors
    /// [`ResultCode::NotSupported`] where the terminal has no such parameters; then the old ones hold.
    async fn set_parameters(&self, name: &str, content: &Content) -> Result<(), DeviceError>;

    /// Removes a component for good, with all versions of it; the inventory does not list it any more. One that is not there
    /// is removed already.
    async fn remove(&self, component: &str) -> Result<(), DeviceError>;
}

/// Speaks to the merchant.
#[async_trait]
pub trait Screen: Send + Sync + 'static {
    /// Shows or prints a text, and says what became of it.
    async fn show(&self, text: &Text) -> TextStatus;

    /// Asks whether an update may begin. Does not wait for long: [`Answer::Silent`].
    async fn ask(&self, prompt: &str) -> Answer;
}

/// Whether a component may be changed now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readiness {
    /// A transaction is running, or something else that must not be broken off.
    pub busy: bool,
    /// Seconds until it is worth asking again, where the terminal knows.
    pub busy_for: Option<u64>,
    /// Transactions are not settled.
    pub unsettled: bool,
    /// Charge, 0 to 100, of a terminal that has a battery.
    pub battery: Option<u8>,
    /// On external power.
    pub charging: bool,
    /// On a network that costs nothing.
    pub unmetered: bool,
}

impl Readiness {
    /// Nothing is in the way.
    pub const FREE: Self = Self {
        busy: false,
        busy_for: None,
        unsettled: false,
        battery: None,
        charging: true,
        unmetered: true,
    };
}

/// What activating has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// The new version runs.
    Running,
    /// It runs after the next start.
    AfterRestart,
}

/// What runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Running {
    /// Digest of the content that runs; none where nothing is installed.
    pub content: Option<Digest>,
    /// Digest of the content that was activated and runs after the next start.
    pub pending: Option<Digest>,
    /// What is known of the version that runs.
    pub trial: Trial,
}

/// How a version proves itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trial {
    /// It has said that it works.
    Confirmed,
    /// It has been started and has said nothing yet.
    Trying,
    /// It has said that it does not work, or it cannot say anything any more.
    Failed,
}

/// What the merchant answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Go on.
    Yes,
    /// Not before so many seconds.
    Later(u64),
    /// Nobody answered.
    Silent,
}

/// What a device could not do, as it is reported.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{code}{}{text}", if text.is_empty() { "" } else { ": " })]
pub struct DeviceError {
    /// How it is reported, and whether it is tried again.
    pub code: ResultCode,
    /// The vendor's own code.
    pub vendor_code: Option<u32>,
    /// In words, up to 70 characters.
    pub text: String,
}

impl DeviceError {
    /// An error with this code.
    #[must_use]
    pub fn new(code: ResultCode, text: impl fmt::Display) -> Self {
        Self {
            code,
            vendor_code: None,
            text: text.to_string(),
        }
    }
}

impl From<FlashError> for DeviceError {
    fn from(error: FlashError) -> Self {
        let code = match error {
            FlashError::Full => ResultCode::NoSpace,
            _ => ResultCode::HardwareError,
        };
        Self::new(code, error)
    }
}

/// A verified content, to be read by an installer.
#[derive(Clone)]
pub struct Content {
    flash: Arc<dyn Flash>,
    name: String,
    size: u64,
}

impl Content {
    pub(super) const fn new(flash: Arc<dyn Flash>, name: String, size: u64) -> Self {
        Self { flash, name, size }
    }

    /// Its size, in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// At most `max` bytes from `offset` on; none at its end.
    ///
    /// # Errors
    /// Where the memory fails.
    pub async fn read(&self, offset: u64, max: usize) -> Result<Bytes, FlashError> {
        self.flash.read(&self.name, offset, max).await
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Content({} bytes)", self.size)
    }
}
