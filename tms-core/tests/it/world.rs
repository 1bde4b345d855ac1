//! An estate in memory with a real server, and terminals that do on the line what the test says.

use std::any::Any;
use std::sync::{Arc, LazyLock};
use tms_core::blob::MemoryBlobs;
use tms_core::clock::ManualClock;
use tms_core::custody::{MainKey, MemoryKeys};
use tms_core::entropy::{Entropy, OsEntropy};
use tms_core::estate::{Actor, Enrolment, Estate};
use tms_core::pump::Pump;
use tms_core::server::{Node, Options, Server, Services, TicketKey};
use tms_core::signer::{PemSigner, Signer};
use tms_core::store::{ActionId, Assignment, Caller, CheckIn, Event, Holder, Key, Record, Store, TerminalId};
use tms_core::transport::{Incoming, LinkProfile, PeerInfo, Transport, memory};
use tms_proto::certificate::{Anchors, Authority, CERTIFICATE_DOMAIN, Certificate, CertificateBody, Date, Subject};
use tms_proto::code::{ComponentKind, ResultCode, Role, TriggerKind};
use tms_proto::credential::{CHANNEL_DOMAIN, ChannelCertificate, Checks, Credentials, VerifiedPeer, statement};
use tms_proto::digest::Digest;
use tms_proto::handshake::StaticKey;
use tms_proto::message::{Plan, PlanAck, Reject, StatusReport, Ticket, Trigger};
use tms_proto::package::{
    BlockMap, BlockMapBuilder, Hints, KeySet, KeySignature, Manifest, PackageFile, RoleKeys, Signable, Signed,
    TrustStore,
};
use tms_proto::secret::{Psk, Secret};
use tms_proto::session::{End, Opening, Presented, TerminalConfig, TerminalEvent, TerminalSession};
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;

pub(crate) const NOW: u64 = 1_790_000_000;
pub(crate) const DAY: u64 = 86_400;

/// A test key. Reading one checks it, which takes longer than all else in a simulated world: each is read once.
macro_rules! key {
    ($name:literal) => {{
        static KEY: LazyLock<Arc<PemSigner>> = LazyLock::new(|| {
            let pem = include_str!(concat!("../../../tms-proto/tests/keys/", $name, ".pem"));
            Arc::new(PemSigner::from_pem(pem).unwrap())
        });
        Arc::<PemSigner>::clone(&KEY)
    }};
}

/// The first terminal's key.
pub(crate) fn terminal_key() -> Arc<PemSigner> {
    key!("terminal-1")
}

pub(crate) struct World {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) blobs: Arc<MemoryBlobs>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) keys: Arc<MemoryKeys>,
    pub(crate) server: Server,
    pub(crate) estate: Estate,
    place: Option<Place>,
}

/// What must stay as long as a store is used.
pub(crate) type Place = Box<dyn Any + Send + Sync>;

/// What a world has beside its store.
#[derive(Clone)]
pub(crate) struct Lasting {
    blobs: Arc<MemoryBlobs>,
    clock: Arc<ManualClock>,
    keys: Arc<MemoryKeys>,
}

impl World {
    /// A world on the store that these tests are for.
    pub(crate) async fn new() -> Self {
        let (store, place) = crate::store();
        let mut world = Self::with(store, Options::default()).await;
        world.place = Some(place);
        world
    }

    pub(crate) async fn with(store: Arc<dyn Store>, options: Options) -> Self {
        Self::of(store, options, Arc::new(OsEntropy)).await
    }

    /// The world whose tests look into `store`, while its server and its operators work on what they were given.
    pub(crate) fn seen_through(self, store: Arc<dyn Store>) -> Self {
        Self { store, ..self }
    }

    pub(crate) async fn of(store: Arc<dyn Store>, options: Options, entropy: Arc<dyn Entropy>) -> Self {
        let lasting = Lasting {
            blobs: Arc::new(MemoryBlobs::new()),
            clock: Arc::new(ManualClock::new(NOW)),
            keys: Arc::new(MemoryKeys::new()),
        };
        Self::over(store, lasting, options, entropy).await
    }

    /// What stays of the world when its processes end.
    #[allow(dead_code, reason = "for stores that can be opened again")]
    pub(crate) fn lasting(&self) -> Lasting {
        let Self { blobs, clock, keys, .. } = self;
        Lasting {
            blobs: Arc::clone(blobs),
            clock: Arc::clone(clock),
            keys: Arc::clone(keys),
        }
    }

    /// New processes on `store`, with what is left of others.
    pub(crate) async fn over(
        store: Arc<dyn Store>,
        lasting: Lasting,
        options: Options,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        let Lasting { blobs, clock, keys } = lasting;
        let services = Services {
            store: Arc::clone(&store),
            blobs: Arc::clone(&blobs) as _,
            main_keys: Arc::clone(&keys) as _,
            clock: Arc::clone(&clock) as _,
            entropy: Arc::clone(&entropy),
            secrets: None,
        };
        let node = Node::new(key!("server"), server_certificate().await).unwrap();
        let server = Server::new(services.clone(), node, anchors(), TicketKey::new([5; 32]), options);
        let estate = Estate::new(Arc::clone(&store), services.blobs, services.clock, entropy, trust());
        Self {
            store,
            blobs,
            clock,
            keys,
            server,
            estate,
            place: None,
        }
    }

    /// Enrols a terminal that has a main-control key of epoch 1.
    pub(crate) async fn enrol(&self, serial: &str) -> TerminalId {
        let enrolment = Enrolment {
            main_key_epoch: Some(1),
            ..Enrolment::of(holder(serial))
        };
        let id = self.estate.enrol(&operator(), enrolment).await.unwrap();
        self.keys.insert(id, 1, MainKey::Aes128(Secret::new([0x11; 16])));
        id
    }

    pub(crate) async fn known(&self, id: TerminalId) -> CheckIn {
        self.store.check_in(&Caller::Id(id)).await.unwrap().unwrap()
    }

    pub(crate) async fn assignment(&self, id: TerminalId, action: u64) -> Assignment {
        let found = self
            .store
            .get(&Key::Assignment(id, ActionId(action)))
            .await
            .unwrap()
            .unwrap();
        match found.record {
            Record::Assignment(assignment) => *assignment,
            other => panic!("unexpected {other:?}"),
        }
    }

    pub(crate) async fn events(&self) -> Vec<Event> {
        self.store
            .events(0, 10_000)
            .await
            .unwrap()
            .into_iter()
            .map(|(_, event)| event)
            .collect()
    }

    /// A line to the server, which answers it in a task of its own.
    pub(crate) fn line(&self, peer: &str) -> tokio::io::DuplexStream {
        let (here, there) = memory::pair();
        self.answer(there, peer, LinkProfile::TCP);
        here
    }

    /// The server answers a call, in a task of its own.
    pub(crate) fn answer(
        &self,
        transport: impl Transport + 'static,
        peer: &str,
        profile: LinkProfile,
    ) -> JoinHandle<()> {
        let server = self.server.clone();
        let incoming = Incoming {
            transport: Box::new(transport),
            peer: PeerInfo::on_line(peer),
            profile,
        };
        tokio::spawn(async move { server.session(incoming).await })
    }

    /// Publishes a package of `content` for the test terminals' model.
    pub(crate) async fn publish(&self, content: &[u8], counter: u32) -> Digest {
        self.publish_file(&package(content, counter).await).await
    }

    pub(crate) async fn publish_file(&self, mut file: &[u8]) -> Digest {
        self.estate.publish(&operator(), &mut file).await.unwrap().manifest
    }

    pub(crate) async fn queue(&self, id: TerminalId, manifest: &Digest) -> u64 {
        self.estate
            .queue(&operator(), &Caller::Id(id), manifest)
            .await
            .unwrap()
            .0
    }
}

/// An operator who may do everything.
pub(crate) fn operator() -> Actor {
    Actor::trusted("test")
}

async fn server_certificate() -> Certificate {
    static CERTIFICATE: OnceCell<Certificate> = OnceCell::const_new();
    let made = CERTIFICATE.get_or_init(|| async {
        let subject = Subject::Server {
            organisation: "Test Bank".to_owned(),
            group: "tms".to_owned(),
        };
        certify(&*key!("server"), subject, NOW - DAY, NOW + 3_650 * DAY).await
    });
    made.await.clone()
}

pub(crate) fn holder(serial: &str) -> Holder {
    Holder {
        vendor: "PAX".to_owned(),
        model: "P80".to_owned(),
        serial: serial.to_owned(),
    }
}

pub(crate) fn anchors() -> Anchors {
    Anchors::root(key!("root").public_key().clone())
}

pub(crate) fn trust() -> TrustStore {
    let root = KeySet {
        threshold: 1,
        keys: vec![key!("root").public_key().clone()],
    };
    let vendor = RoleKeys {
        role: Role::VendorSigner,
        threshold: 1,
        keys: vec![key!("vendor").public_key().clone()],
    };
    TrustStore {
        version: 1,
        root,
        roles: vec![vendor],
    }
}

pub(crate) async fn certify(signer: &PemSigner, subject: Subject, from: u64, until: u64) -> Certificate {
    let root = key!("root");
    let body = CertificateBody {
        authority: Authority::from(root.public_key().id()),
        key: signer.public_key().clone(),
        subject,
        effective: Date::of_unix(from).unwrap(),
        expiry: Date::of_unix(until).unwrap(),
    };
    let signature = root.sign(CERTIFICATE_DOMAIN, &body.to_be_signed()).await.unwrap();
    Certificate::assemble(&body, &signature).unwrap()
}

pub(crate) fn manifest(content: &[u8], counter: u32) -> (Manifest, Option<BlockMap>) {
    let size = content.len() as u64;
    let map = (size >= BlockMap::NOT_BELOW).then(|| {
        let mut builder = BlockMapBuilder::new(BlockMap::wanted_log2(size));
        builder.update(content);
        builder.finish().unwrap()
    });
    let manifest = Manifest {
        component: "bank".to_owned(),
        kind: ComponentKind::Application,
        version: format!("{counter}.0"),
        order: u64::from(counter),
        counter,
        min_from: None,
        vendor: "PAX".to_owned(),
        models: vec!["P80".to_owned()],
        hardware: Vec::new(),
        dependencies: Vec::new(),
        size,
        digest: Digest::of(content),
        block_map: map.as_ref().map(BlockMap::reference),
        files: Vec::new(),
        hints: Hints {
            settle_first: None,
            restart: None,
        },
        not_before: None,
        expiry: None,
        signers: vec![key!("vendor").public_key().id()],
    };
    (manifest, map)
}

pub(crate) async fn package(content: &[u8], counter: u32) -> Vec<u8> {
    let (manifest, map) = manifest(content, counter);
    package_of(&manifest, map.as_ref(), content).await
}

/// The package file of a manifest, signed by the vendor.
pub(crate) async fn package_of(manifest: &Manifest, map: Option<&BlockMap>, content: &[u8]) -> Vec<u8> {
    let vendor = key!("vendor");
    let signed = sign(manifest, &vendor).await;
    [PackageFile::head(&signed, map).unwrap(), content.to_vec()].concat()
}

/// A trust store, signed by `root` or by `vendor`, encoded.
pub(crate) async fn sign_trust(trust: &TrustStore, signer: &str) -> Vec<u8> {
    let signer = if signer == "root" { key!("root") } else { key!("vendor") };
    sign(trust, &signer).await.encode().to_vec()
}

async fn sign<T: Signable>(what: &T, signer: &PemSigner) -> Signed<T> {
    let element = Signed::to_be_signed(what);
    let signature = signer.sign(T::DOMAIN, &element).await.unwrap().into();
    let key = signer.public_key().id();
    Signed::assemble(&element, &[KeySignature { key, signature }]).unwrap()
}

/// A terminal that knows how to call, and nothing else.
pub(crate) struct Terminal {
    pub(crate) id: TerminalId,
    pub(crate) contact: u32,
    pub(crate) plan: Option<u64>,
    pub(crate) ticket: Option<Ticket>,
    pub(crate) key: Psk,
}

/// An open call.
pub(crate) struct Call {
    pub(crate) pump: Pump<tokio::io::DuplexStream, TerminalEvent>,
    pub(crate) session: TerminalSession,
}

impl Terminal {
    pub(crate) fn new(id: TerminalId) -> Self {
        let key = tms_proto::derive::terminal_psk(&Secret::new([0x11; 16]), id.0, 1);
        Self {
            id,
            contact: 0,
            plan: None,
            ticket: None,
            key,
        }
    }

    pub(crate) fn report(&mut self) -> StatusReport {
        self.contact += 1;
        let mut report = StatusReport::new(Trigger::of(TriggerKind::Manual), self.contact, NOW);
        report.plan = self.plan;
        report
    }

    /// Begins a call with the ticket, or with the main-control key where there is none.
    pub(crate) fn begin(&mut self, line: tokio::io::DuplexStream, report: &StatusReport) -> Call {
        let pump = Pump::new(line);
        let opening = match &self.ticket {
            Some(ticket) => Opening::Ticket {
                id: ticket.id,
                psk: &ticket.key,
                report,
            },
            None => Opening::MainKey {
                terminal: self.id.0,
                epoch: 1,
                psk: &self.key,
                report,
            },
        };
        let mut ephemeral = [0; 32];
        OsEntropy.fill(&mut ephemeral);
        let session = TerminalSession::new(&TerminalConfig::default(), &opening, ephemeral, pump.now()).unwrap();
        Call { pump, session }
    }

    /// A call up to and including the acknowledgement of its plan.
    pub(crate) async fn open(&mut self, line: tokio::io::DuplexStream) -> Result<(Call, Plan), Refused> {
        let report = self.report();
        self.open_with(line, &report).await
    }

    pub(crate) async fn open_with(
        &mut self,
        line: tokio::io::DuplexStream,
        report: &StatusReport,
    ) -> Result<(Call, Plan), Refused> {
        let mut call = self.begin(line, report);
        let plan = call.plan().await?;
        self.plan = Some(plan.sequence);
        call.send(PlanAck {
            sequence: plan.sequence,
            refused: Vec::new(),
        });
        Ok((call, plan))
    }

    /// A whole check-in with nothing to do.
    pub(crate) async fn check_in(&mut self, world: &World) -> Result<Plan, Refused> {
        let (mut call, plan) = self.open(world.line("modem 1")).await?;
        call.bye().await;
        self.ticket.clone_from(&plan.ticket);
        Ok(plan)
    }
}

/// Why there was no plan.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) reject: Option<Reject>,
    pub(crate) end: Option<End>,
}

impl Call {
    pub(crate) async fn next(&mut self) -> Option<TerminalEvent> {
        self.pump.next(&mut self.session).await.unwrap()
    }

    pub(crate) fn send(&mut self, message: impl Into<tms_proto::message::Message>) {
        self.session.send(self.pump.now(), message).unwrap();
    }

    pub(crate) async fn plan(&mut self) -> Result<Plan, Refused> {
        let mut refused = Refused {
            reject: None,
            end: None,
        };
        while let Some(event) = self.next().await {
            match event {
                TerminalEvent::Plan { plan, .. } => return Ok(*plan),
                TerminalEvent::Reject(reject) => refused.reject = Some(reject),
                TerminalEvent::Ended(end) => refused.end = Some(end),
                other => panic!("unexpected {other:?}"),
            }
        }
        Err(refused)
    }

    /// Waits for the next event that is not the word that the check-in is recorded.
    pub(crate) async fn event(&mut self) -> TerminalEvent {
        loop {
            match self.next().await {
                Some(TerminalEvent::Recorded) => {}
                Some(event) => return event,
                None => panic!("the session has ended"),
            }
        }
    }

    /// Says goodbye and expects the server's.
    pub(crate) async fn bye(&mut self) {
        self.session.bye(self.pump.now(), ResultCode::Success).unwrap();
        let event = self.event().await;
        assert!(matches!(event, TerminalEvent::Ended(End::Bye(_))), "{event:?}");
    }

    /// The session's end, whatever comes before it.
    pub(crate) async fn end(&mut self) -> End {
        loop {
            if let TerminalEvent::Ended(end) = self.event().await {
                return end;
            }
        }
    }

    /// Downloads an object from `offset` on; gives its bytes, or why it did not come.
    pub(crate) async fn download(&mut self, digest: Digest, offset: u64) -> Result<Vec<u8>, ResultCode> {
        self.session
            .download(self.pump.now(), digest, offset, u64::MAX)
            .unwrap();
        let mut content = Vec::new();
        loop {
            match self.event().await {
                TerminalEvent::ObjectStart(start) => match start.code {
                    Some(code) => return Err(code),
                    None if start.total == offset => return Ok(content),
                    None => {}
                },
                TerminalEvent::ObjectPart { bytes, last, .. } => {
                    content.extend_from_slice(&bytes);
                    if last {
                        return Ok(content);
                    }
                }
                TerminalEvent::Reject(reject) => return Err(reject.code),
                other => panic!("unexpected {other:?}"),
            }
        }
    }
}

/// A terminal with an RSA identity.
pub(crate) struct Identity {
    pub(crate) signer: Arc<PemSigner>,
    pub(crate) certificate: Certificate,
    static_key: [u8; 32],
}

impl Identity {
    pub(crate) async fn new(serial: &str, expiry: u64) -> Self {
        let signer = key!("terminal-1");
        Self::of(signer, serial, expiry).await
    }

    pub(crate) async fn other_key(serial: &str) -> Self {
        Self::of(key!("terminal-2"), serial, NOW + 365 * DAY).await
    }

    async fn of(signer: Arc<PemSigner>, serial: &str, expiry: u64) -> Self {
        let certificate = certify(&signer, Subject::Terminal(holder(serial)), NOW - 400 * DAY, expiry).await;
        Self {
            signer,
            certificate,
            static_key: [0x44; 32],
        }
    }

    pub(crate) async fn credentials(&self, epoch: u32) -> Credentials {
        let (not_before, not_after) = (NOW - DAY, NOW + 20 * DAY);
        let public = StaticKey::from_secret(self.static_key).public();
        let signed = statement(Role::Terminal, epoch, not_before, not_after, public, &self.certificate);
        let signature = self.signer.sign(CHANNEL_DOMAIN, &signed).await.unwrap().into();
        let channel = ChannelCertificate {
            epoch,
            not_before,
            not_after,
            signature,
        };
        Credentials::new(self.certificate.clone(), channel)
    }

    /// A mode-1 call up to the plan, showing `presented`.
    pub(crate) async fn call(
        &self,
        line: tokio::io::DuplexStream,
        presented: Presented,
        report: &StatusReport,
    ) -> (Call, Result<Plan, Refused>) {
        let pump = Pump::new(line);
        let static_key = StaticKey::from_secret(self.static_key);
        let opening = Opening::Rsa {
            static_key: &static_key,
            remembered: None,
        };
        let session = TerminalSession::new(&TerminalConfig::default(), &opening, rand(), pump.now()).unwrap();
        let mut call = Call { pump, session };
        match call.next().await {
            Some(TerminalEvent::Server {
                presented: Presented::Full(shown),
                static_key,
                ..
            }) => {
                let credentials = Credentials::decode(&shown).unwrap();
                let checks = Checks::of_server(Some(NOW), 0);
                let server: VerifiedPeer = credentials
                    .verify(&anchors(), Role::Server, static_key, &checks)
                    .unwrap();
                call.session
                    .identify(call.pump.now(), &server, &presented, report)
                    .unwrap();
            }
            Some(TerminalEvent::Ended(end)) => {
                return (
                    call,
                    Err(Refused {
                        reject: None,
                        end: Some(end),
                    }),
                );
            }
            other => panic!("unexpected {other:?}"),
        }
        let plan = call.plan().await;
        (call, plan)
    }
}

fn rand() -> [u8; 32] {
    let mut bytes = [0; 32];
    OsEntropy.fill(&mut bytes);
    bytes
}
