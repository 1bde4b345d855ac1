//! The estate: the operator's side. Each use case takes who acts, checks what it is given, and commits its effect
//! together with the event that tells of it.

mod consumer;
mod daily;
mod enrol;
mod expiry;
mod notice;
mod publish;
mod queue;
pub mod report;
mod rollup;

pub use consumer::{Consumer, Delivery};
pub use daily::{Daily, WITHIN};
pub use enrol::Enrolment;
pub use expiry::{Expiring, Expiry};
pub use notice::notice;
pub use rollup::{AsOf, Progress};

use crate::blob::{BlobError, BlobStore};
use crate::clock::Clock;
use crate::entropy::Entropy;
use crate::store::{Caller, CheckIn, Event, EventKind, Holder, Sequence, Store, StoreError, TerminalId};
use std::sync::Arc;
use thiserror::Error;
use tms_proto::package::{PackageError, TrustStore};
use tms_proto::tlv::DecodeError;

/// How often a use case is decided again after a conflict.
const ATTEMPTS: usize = 8;

/// The operator's side of an estate.
#[derive(Clone)]
pub struct Estate {
    store: Arc<dyn Store>,
    blobs: Arc<dyn BlobStore>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    trust: TrustStore,
}

/// Why a use case was not carried out. Nothing was changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EstateError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The blob store.
    #[error("blob store: {0}")]
    Blob(#[from] BlobError),
    /// A package is not as it should be.
    #[error("package refused: {0}")]
    Package(#[from] PackageError),
    /// A package file or a certificate cannot be read.
    #[error("malformed: {0}")]
    Malformed(#[from] DecodeError),
    /// Reading a package file failed.
    #[error("reading failed: {0}")]
    Io(#[from] std::io::Error),
    /// The content is not what the manifest says.
    #[error("content does not match its manifest: {0}")]
    Content(&'static str),
    /// There is no such terminal.
    #[error("no terminal {0}")]
    UnknownTerminal(String),
    /// There is no such package.
    #[error("no package {0}")]
    UnknownPackage(String),
    /// There is no such action.
    #[error("terminal {0} has no open action {1}")]
    UnknownAction(TerminalId, u64),
    /// A terminal of this vendor, model and serial number is enrolled already.
    #[error("terminal {0} is enrolled already")]
    Enrolled(Holder),
    /// A holder reference with an empty or over-long part.
    #[error("vendor, model and serial number need 1 to 40 printable characters each")]
    BadHolder,
    /// The package is for other terminals.
    #[error("package is for {vendor} {models}, not for {holder}")]
    WrongTarget {
        /// The package's vendor.
        vendor: String,
        /// The package's models.
        models: String,
        /// The terminal.
        holder: Holder,
    },
    /// The same package waits for the terminal already.
    #[error("the package is queued for terminal {0} already, as action {1}")]
    Queued(TerminalId, u64),
    /// A cursor that no page of this list gave.
    #[error("no page of this list ended there")]
    BadCursor,
    /// A consumer's name that is none.
    #[error("a consumer's name has 1 to 64 letters, digits, dots, dashes or underscores")]
    BadConsumer,
    /// There is no such consumer.
    #[error("no consumer {0}")]
    UnknownConsumer(String),
    /// There is no event of this number.
    #[error("there is no event {0} to acknowledge")]
    BadAcknowledgement(Sequence),
    /// A renewed certificate is for another key or another terminal.
    #[error("certificate is not for this terminal: {0}")]
    WrongCertificate(&'static str),
}

impl Estate {
    /// The estate in these stores. `trust` says whose signatures packages need.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        blobs: Arc<dyn BlobStore>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        trust: TrustStore,
    ) -> Self {
        Self {
            store,
            blobs,
            clock,
            entropy,
            trust,
        }
    }

    async fn known(&self, caller: &Caller) -> Result<CheckIn, EstateError> {
        let known = self.store.check_in(caller).await?;
        known.ok_or_else(|| {
            EstateError::UnknownTerminal(match caller {
                Caller::Id(id) => id.to_string(),
                Caller::Holder(holder) => holder.to_string(),
                Caller::Credential(id) => id.to_string(),
            })
        })
    }

    fn event(&self, actor: &str, terminal: Option<TerminalId>, kind: EventKind) -> Event {
        Event {
            time: self.clock.now(),
            terminal,
            actor: actor.to_owned(),
            kind,
        }
    }
}
