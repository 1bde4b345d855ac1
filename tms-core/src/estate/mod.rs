//! The estate: the operator's side. Each use case takes who acts, checks whether they may and what it is given, and commits
//! its effect together with the event and the audit entry that tell of it.

mod access;
mod asset;
mod audit;
mod binding;
mod branch;
mod call_notice;
mod case;
mod consumer;
mod contact;
mod daily;
mod drift;
mod enrol;
mod expiry;
mod follow;
mod install;
mod key_load;
mod moving;
mod notice;
mod operator;
mod parameter_key;
mod parameters;
mod preview;
mod proposal;
mod publish;
mod queue;
mod registration;
mod release;
mod replacement;
pub mod report;
mod represent;
mod retention;
mod rollup;
mod task;
mod template;
mod text;
mod trust;
mod whereabouts;

pub use crate::server::contact::{AccessPoint, ClassPolicy};
pub use access::{Actor, Denied, Permission};
pub use asset::{MAX_FINDINGS, Stocktaking};
pub use audit::{AuditBroken, AuditEntry, AuditHead};
pub use binding::{Binding, Relation};
pub use branch::{Branch, Merchant, Site};
pub use call_notice::CallNotice;
pub use case::{Case, CaseNote, CaseState, Disposition};
pub use consumer::{Consumer, Delivery};
pub use daily::{Daily, WITHIN};
pub use drift::{Drift, DriftItem, DriftPolicy, First};
pub use enrol::Enrolment;
pub use expiry::{Expiring, Expiry};
pub use follow::{AsOf, Progress};
pub use install::{
    Contradiction, Finding, InstallOperation, InstallState, Installation, InstallationFact, InstallationMessage,
    NotAllowed, Received, Signed,
};
pub use key_load::{KeyLoad, LoadedKey};
pub use notice::notice;
pub use operator::{Account, Grant, NewToken, Operator, Role, SignInError, Verifier};
pub use parameter_key::ParameterKeyUse;
pub use parameters::{LayerVersion, ParameterError, ParameterSetRef, Parameters, TemplateVersion};
pub use preview::{Affected, AffectedPage, Preview, PreviewLine};
pub use proposal::{Act, MAX_RETIRED, Proposal, Standing};
pub(crate) use registration::{Decided, Desk};
pub use release::Unfit;
pub(crate) use release::{Withdrawn, floors, order_of};
pub use replacement::{Cause, MAX_WRONG_CODES, Replacement, ReplacementState};
pub use retention::Retention;
pub use rollup::RollUp;
pub use task::{StageProgress, TaskCommand, TaskProgress};
pub use template::{LayerDraft, LayerView};
pub use text::{Audience, DeliveryStatus, Publication, Recall, TextDelivery, TextRecord, TextState};
pub use whereabouts::{CaseSettings, Registered, Whereabouts};

use crate::blob::{BlobError, BlobStore};
use crate::clock::Clock;
use crate::custody::SecretKeeper;
use crate::entropy::Entropy;
use crate::representation::EncodeError;
use crate::rule::asset::ListError;
use crate::rule::policy::PolicyError;
use crate::rule::template::TemplateError;
use crate::rule::text::TextError;
use crate::store::{
    BranchPath, Caller, CheckIn, Document, Entity, Event, EventKind, Holder, Key, Query, Record, Sequence, Store,
    StoreError, TerminalId, Versioned,
};
use std::sync::Arc;
use thiserror::Error;
use tms_proto::package::{PackageError, TrustError, TrustStore};
use tms_proto::tlv::DecodeError;
use tokio::sync::{Mutex, Semaphore};

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
    /// Seals secret parameters, where there is a key for that.
    secrets: Option<Arc<dyn SecretKeeper>>,
    /// Verifying a password takes time and memory on purpose; this is how many may at once.
    sign_ins: Arc<Semaphore>,
    /// One representation is made at a time: each takes much memory.
    encoding: Arc<Mutex<()>>,
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
    /// A trust store does not follow the present one.
    #[error("trust store refused: {0}")]
    Trust(#[from] TrustError),
    /// A package file, a trust store or a certificate cannot be read.
    #[error("malformed: {0}")]
    Malformed(#[from] DecodeError),
    /// Reading a package file failed.
    #[error("reading failed: {0}")]
    Io(#[from] std::io::Error),
    /// The content is not what the manifest says.
    #[error("content does not match its manifest: {0}")]
    Content(&'static str),
    /// A representation could not be made.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// A package would have more than [`MAX_REPRESENTATIONS`](crate::store::MAX_REPRESENTATIONS).
    #[error("package has too many representations")]
    TooManyRepresentations,
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
    /// The package does not fit the terminal now.
    #[error("package does not fit: {0}")]
    Unfit(#[from] Unfit),
    /// Only released packages are queued.
    #[error("package {0} is {1}, not released")]
    NotReleased(String, &'static str),
    /// What it stands at does not allow that.
    #[error("{0} is {1}: it is not there to {2}")]
    State(String, &'static str, &'static str),
    /// The actor may not.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// There is no such thing.
    #[error("no {0} {1}")]
    Unknown(&'static str, String),
    /// There is one already.
    #[error("{0} {1} is there already")]
    There(&'static str, String),
    /// Something that is written is not as it must be.
    #[error("{0} {1}")]
    Invalid(&'static str, &'static str),
    /// Whoever proposed it cannot approve it.
    #[error("it takes another operator than the one who proposed it")]
    SecondOperator,
    /// It is done, dismissed or expired.
    #[error("{0} {1} is over")]
    Over(&'static str, String),
    /// It cannot go while something is in it.
    #[error("{0} still has {1}")]
    InUse(String, &'static str),
    /// A task cannot be carried out as it is written.
    #[error("task: {0}")]
    Task(#[from] crate::rule::task::Invalid),
    /// A task's state does not allow it.
    #[error(transparent)]
    NotAllowed(#[from] crate::rule::task::state::NotAllowed),
    /// A check-in policy is not as it must be.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The audit log was tampered with.
    #[error(transparent)]
    Audit(#[from] AuditBroken),
    /// Where an installation stands, that cannot be done with it.
    #[error(transparent)]
    Install(#[from] NotAllowed),
    /// A text that may not be shown to people at a terminal.
    #[error(transparent)]
    Text(#[from] TextError),
    /// A list of assets that cannot be read.
    #[error(transparent)]
    List(#[from] ListError),
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
    /// A template or a layer is not as it must be.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// There are no parameters for a terminal, or for any.
    #[error(transparent)]
    Parameters(ParameterError),
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
            secrets: None,
            sign_ins: Arc::new(Semaphore::new(operator::SIGN_INS)),
            encoding: Arc::default(),
        }
    }

    /// The estate with a keeper of secret parameters: without one there are none.
    #[must_use]
    pub fn with_secrets(mut self, keeper: Arc<dyn SecretKeeper>) -> Self {
        self.secrets = Some(keeper);
        self
    }

    /// An entity and its version, if it is there.
    async fn entity<E: Entity>(&self, id: &str) -> Result<Option<(u64, E)>, StoreError> {
        let found = self.store.get(&Key::Document(E::KIND, id.to_owned())).await?;
        found.map(entity_of).transpose()
    }

    /// The same, as the store gives records.
    async fn versioned<E: Entity>(&self, id: &str) -> Result<Option<Versioned<E>>, StoreError> {
        read(&*self.store, id).await
    }

    /// The entities of a page.
    async fn documents<E: Entity>(&self, query: &Query, limit: u32) -> Result<Vec<E>, StoreError> {
        let page = self.store.list(query, limit).await?;
        let documents = page.into_iter().filter_map(|found| match found.record {
            Record::Document(document) => Some(document),
            _ => None,
        });
        documents.map(|document: Box<Document>| document.read()).collect()
    }

    /// The branch of a terminal: head office's, where it stands in no roster.
    async fn branch_of(&self, terminal: TerminalId) -> Result<BranchPath, StoreError> {
        Ok(match self.store.get(&Key::Roster(terminal)).await? {
            Some(Versioned {
                record: Record::Roster(entry),
                ..
            }) => entry.branch,
            _ => BranchPath::head_office(),
        })
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

    fn event(&self, actor: &Actor, terminal: Option<TerminalId>, kind: EventKind) -> Event {
        Event {
            time: self.clock.now(),
            terminal,
            actor: actor.name().to_owned(),
            kind,
        }
    }
}

impl From<ParameterError> for EstateError {
    fn from(error: ParameterError) -> Self {
        match error {
            ParameterError::Store(error) => Self::Store(error),
            ParameterError::UnknownTerminal(id) => Self::UnknownTerminal(id.to_string()),
            other => Self::Parameters(other),
        }
    }
}

/// Does a step of a use case: reads, decides, commits. It is decided again where another commit came between.
async fn decided<T, F>(step: impl Fn() -> F) -> Result<T, EstateError>
where
    F: Future<Output = Result<T, EstateError>>,
{
    for _ in 0..ATTEMPTS {
        match step().await {
            Err(EstateError::Store(StoreError::Conflict)) => {}
            done => return done,
        }
    }
    Err(StoreError::Conflict.into())
}

/// An entity, as the store has it now.
pub(crate) async fn read<E: Entity>(store: &dyn Store, id: &str) -> Result<Option<Versioned<E>>, StoreError> {
    let found = store.get(&Key::Document(E::KIND, id.to_owned())).await?;
    found.map(versioned_of).transpose()
}

/// The entities of a page, as the store has them now.
pub(crate) async fn list<E: Entity>(
    store: &dyn Store,
    query: &Query,
    limit: u32,
) -> Result<Vec<Versioned<E>>, StoreError> {
    let page = store.list(query, limit).await?;
    page.into_iter().map(versioned_of).collect()
}

fn versioned_of<E: Entity>(found: Versioned<Record>) -> Result<Versioned<E>, StoreError> {
    let (version, record) = entity_of(found)?;
    Ok(Versioned { version, record })
}

/// The entity that a record keeps, and its version.
fn entity_of<E: Entity>(found: Versioned<Record>) -> Result<(u64, E), StoreError> {
    match found.record {
        Record::Document(document) => Ok((found.version, document.read()?)),
        other => Err(StoreError::Corrupt(format!("{:?} is no document", other.key()))),
    }
}
