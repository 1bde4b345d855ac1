//! The server under measurement: the real one, on SQLite, with terminals that have main-control keys.

use anyhow::Result;
use clap::Args;
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;
use tms_core::blob::{BlobStore, MemoryBlobs};
use tms_core::clock::{Clock, SystemClock};
use tms_core::custody::{MainKey, MemoryKeys};
use tms_core::entropy::{Entropy, OsEntropy};
use tms_core::estate::{AccessPoint, ClassPolicy};
use tms_core::rule::policy::{CheckInPolicy, Class};
use tms_core::rule::slot::Access;
use tms_core::server::{ContactPolicy, Node, Options as ServerOptions, Server, Services, TicketKey};
use tms_core::signer::{PemSigner, Signer};
use tms_core::store::{
    ActionId, Assignment, BranchPath, Change, Decoding, Document, Expect, Holder, Order, PackageRef, PlanStanding,
    Store, Terminal, TerminalId, TerminalState,
};
use tms_core::transport::tcp::TcpAccess;
use tms_proto::certificate::{Anchors, Authority, CERTIFICATE_DOMAIN, Certificate, CertificateBody, Date, Subject};
use tms_proto::digest::Digest;
use tms_proto::secret::Secret;
use tms_store_sqlite::SqliteStore;

/// The main-control key of every terminal here, and its epoch.
pub(crate) const MAIN_KEY: [u8; 16] = [0x11; 16];
pub(crate) const EPOCH: u32 = 1;

/// What the server process is told.
#[derive(Args, Clone)]
pub(crate) struct Options {
    /// Terminals that exist.
    #[arg(long, default_value_t = 64)]
    terminals: u64,
    /// Size of the object that each of the first 64 may download, in bytes; zero for none.
    #[arg(long, default_value_t = 0)]
    object: usize,
    /// Each check-in books a slot of an access of 1,000 lines.
    #[arg(long)]
    slots: bool,
    /// A database in which the terminals are already.
    #[arg(long)]
    database: Option<PathBuf>,
}

pub(crate) async fn run(options: &Options) -> Result<()> {
    let object: Vec<u8> = (0..options.object).map(|index| (index % 251) as u8).collect();
    let (server, content, _directory) = match &options.database {
        None => {
            let (server, content, directory) = server(options.terminals, object, options.slots).await?;
            (server, content, Some(directory))
        }
        Some(path) => {
            let store = Arc::new(SqliteStore::open(path, Default::default())?);
            let blobs = Arc::new(MemoryBlobs::new());
            (on(store, blobs, options.terminals).await?, Digest::of(b""), None)
        }
    };
    let mut listener = TcpAccess::bind("127.0.0.1:0", 100_000).await?;
    println!("{} {content}", listener.local_address()?);
    server.serve(&mut listener).await?;
    Ok(())
}

/// A server with so many terminals, of which the first 64 may download this object, with or without slots; the directory is its
/// database's.
pub(crate) async fn server(terminals: u64, object: Vec<u8>, slots: bool) -> Result<(Server, Digest, TempDir)> {
    let directory = tempfile::tempdir()?;
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(directory.path().join("tms.db"), Default::default())?);
    let blobs = Arc::new(MemoryBlobs::new());
    let now = SystemClock.now();
    fill(&*store, terminals).await?;
    let (content, size) = blobs.put(&mut object.as_slice(), None).await?;
    if size > 0 {
        let ids = (1..=terminals.min(64)).map(TerminalId);
        let put = |id| Change::Put(Expect::Absent, assignment(id, content, size, now).into());
        store.commit(ids.map(put).collect()).await?;
    }
    if slots {
        let access = AccessPoint {
            name: "main".to_owned(),
            branch: BranchPath::head_office(),
            addresses: Vec::new(),
            capacity: Access::modems(1_000),
        };
        let policy = ClassPolicy {
            name: "all".to_owned(),
            class: Class::default(),
            policy: CheckInPolicy::default(),
            access: Some(access.name.clone()),
        };
        let documents = [Document::of(&access)?, Document::of(&policy)?];
        let put = |document: Document| Change::Put(Expect::Absent, document.into());
        store.commit(documents.map(put).into()).await?;
    }
    Ok((on(store, blobs, terminals).await?, content, directory))
}

/// Puts so many terminals into a store.
pub(crate) async fn fill(store: &dyn Store, terminals: u64) -> Result<()> {
    for first in (0..terminals).step_by(4_096) {
        let ids = (first + 1..=terminals.min(first + 4_096)).map(TerminalId);
        let changes = ids.map(|id| Change::Put(Expect::Absent, terminal(id).into()));
        store.commit(changes.collect()).await?;
    }
    Ok(())
}

/// A server on a store that has so many terminals.
pub(crate) async fn on(store: Arc<dyn Store>, blobs: Arc<MemoryBlobs>, terminals: u64) -> Result<Server> {
    let keys = MemoryKeys::new();
    for id in (1..=terminals).map(TerminalId) {
        keys.insert(id, EPOCH, MainKey::Aes128(Secret::new(MAIN_KEY)));
    }
    let (node, anchors) = node(SystemClock.now()).await?;
    let services = Services {
        store,
        blobs,
        main_keys: Arc::new(keys),
        clock: Arc::new(SystemClock),
        entropy: Arc::new(OsEntropy),
        secrets: None,
    };
    let mut server_options = ServerOptions {
        contact: ContactPolicy::default(),
        ..ServerOptions::default()
    };
    server_options.idle_timeout = std::time::Duration::from_secs(600);
    server_options.admission = tms_core::admission::AdmissionLimits {
        sessions: 100_000,
        handshakes: 100_000,
        burst: u32::MAX,
        ..Default::default()
    };
    let mut ticket_key = [0; 32];
    OsEntropy.fill(&mut ticket_key);
    let ticket_key = TicketKey::new(ticket_key);
    Ok(Server::new(services, node, anchors, ticket_key, server_options))
}

async fn node(now: u64) -> Result<(Node, Anchors)> {
    let signer = PemSigner::from_pem(&PemSigner::generate(2048)?)?;
    let key = signer.public_key().clone();
    let body = CertificateBody {
        authority: Authority::from(key.id()),
        key: key.clone(),
        subject: Subject::Server {
            organisation: "load".to_owned(),
            group: "one".to_owned(),
        },
        effective: Date::of_unix(now).unwrap_or(Date::MIN),
        expiry: Date::MAX,
    };
    let signature = signer.sign(CERTIFICATE_DOMAIN, &body.to_be_signed()).await?;
    let certificate = Certificate::assemble(&body, &signature)?;
    Ok((Node::new(Arc::new(signer), certificate)?, Anchors::root(key)))
}

fn terminal(id: TerminalId) -> Terminal {
    Terminal {
        id,
        holder: Holder {
            vendor: "PAX".to_owned(),
            model: "P80".to_owned(),
            serial: format!("{:08}", id.0),
        },
        state: TerminalState::Active,
        key: None,
        renewed_certificate: None,
        credential: None,
        main_key_epoch: Some(EPOCH),
        tickets: Vec::new(),
        contact: 0,
        plan: PlanStanding::default(),
        last_action: 1,
        // The clients report an empty inventory: the server has nothing to ask.
        inventory: Some(tms_proto::message::Inventory::default().digest()),
        decoding: Decoding::default(),
        last_check_in: None,
        next_contact: None,
        slot: None,
        logical: Vec::new(),
        revoked: false,
        policy: None,
        resend_parameters: false,
        withdrawn_texts: Vec::new(),
        texts: Vec::new(),
    }
}

fn assignment(terminal: TerminalId, content: Digest, size: u64, now: u64) -> Assignment {
    let package = PackageRef {
        manifest: Digest::of(b"none"),
        manifest_size: 1,
        component: "bank".to_owned(),
        version: "1".to_owned(),
        content,
        size,
        block_map: None,
        representations: Vec::new(),
    };
    Assignment::new(terminal, ActionId(1), Order::Install { package }, now, "load")
}
