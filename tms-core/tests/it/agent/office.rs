//! A server that does what the test says: one terminal, in memory, without a store.

use super::terminal::{ID, MAIN_KEY, Seeded, Terminal};
use crate::world::{DAY, NOW, anchors, certify, manifest};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tms_core::agent::{Call, CallReport};
use tms_core::entropy::Entropy;
use tms_core::pump::Pump;
use tms_core::signer::{PemSigner, Signer};
use tms_core::transport::{Transport, memory};
use tms_proto::certificate::Subject;
use tms_proto::code::{ActionKind, Representation, ResultCode, Role};
use tms_proto::credential::{
    CHANNEL_DOMAIN, ChannelCertificate, Checks, Credentials, Remembered, VerifiedPeer, statement,
};
use tms_proto::derive::terminal_psk;
use tms_proto::digest::Digest;
use tms_proto::handshake::{Hello, Mode, StaticKey};
use tms_proto::machine::Instant;
use tms_proto::message::{
    Action, ActionResult, Bye, CertificateGrant, Message, NextContact, ObjectGet, Plan, PlanAck, ProofRequest,
    RegisterAnswer, Reject, ResultAck, StatusReport, Ticket, Wanted,
};
use tms_proto::package::{BlockMap, KeySignature, Manifest, Signable, Signed};
use tms_proto::secret::{Psk, Secret};
use tms_proto::session::{End, Presented, ServerConfig, ServerEvent, ServerIdentity, ServerSession};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What the server does that it should not, or does not that it should.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Quirk {
    #[default]
    None,
    /// Is busy.
    Busy(u32),
    /// Refuses every handshake, or somebody in between does.
    Refuse,
    /// Refuses the terminal after its handshake.
    Reject(ResultCode),
    /// Cannot record check-ins.
    NoStore,
    /// Has forgotten the terminal's credentials.
    Forgets,
    /// Has another byte at this offset of contents.
    WrongByte(u64),
    /// Says that objects have this size.
    WrongSize(u64),
    /// Has no object, and says so.
    NoObject(ResultCode),
    /// Gives downloads up at this offset.
    Aborts(u64, ResultCode),
    /// Wants a live proof.
    WantsProof,
}

/// What was heard in a call.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) mode: Option<Mode>,
    pub(super) remembered: Option<bool>,
    pub(super) report: Option<StatusReport>,
    pub(super) ack: Option<PlanAck>,
    pub(super) gets: Vec<ObjectGet>,
    pub(super) results: Vec<ActionResult>,
    pub(super) messages: Vec<Message>,
    pub(super) recorded: bool,
    pub(super) end: Option<End>,
}

pub(super) struct Office {
    pub(super) time: u64,
    pub(super) plan: Plan,
    pub(super) objects: BTreeMap<Digest, Vec<u8>>,
    pub(super) tickets: Vec<Ticket>,
    pub(super) quirk: Quirk,
    pub(super) heard: Vec<Heard>,
    pub(super) identity: ServerIdentity,
    pub(super) renewed: Option<Bytes>,
    pub(super) config: ServerConfig,
    known: Option<Remembered>,
    entropy: Seeded,
    used: Option<[u8; 16]>,
    offered: Option<Ticket>,
}

impl Office {
    pub(super) async fn new() -> Self {
        let entropy = Seeded::new(99);
        Self {
            time: NOW,
            plan: blank_plan(1),
            objects: BTreeMap::new(),
            tickets: Vec::new(),
            quirk: Quirk::None,
            heard: Vec::new(),
            identity: server_identity(20_000, "server", NOW).await,
            renewed: None,
            config: ServerConfig::default(),
            known: None,
            entropy,
            used: None,
            offered: None,
        }
    }

    /// The last call.
    pub(super) fn last(&self) -> &Heard {
        self.heard.last().unwrap()
    }

    /// All results of all calls, each once, by number.
    pub(super) fn results(&self) -> BTreeMap<u32, ActionResult> {
        let sent = self.heard.iter().filter(|heard| heard.recorded).flat_map(|heard| {
            heard
                .report
                .iter()
                .flat_map(|report| report.results.iter())
                .chain(&heard.results)
        });
        sent.map(|result| (result.number, result.clone())).collect()
    }

    /// Publishes a package and plans it, as the only action, under the next sequence number.
    pub(super) async fn assign(&mut self, id: u64, content: &[u8], change: impl FnOnce(&mut Manifest)) -> Action {
        let action = self.publish(id, content, change).await;
        self.plan = Plan {
            actions: vec![action.clone()],
            ..blank_plan(self.plan.sequence + 1)
        };
        action
    }

    /// Publishes a package, and gives the action that installs it.
    pub(super) async fn publish(&mut self, id: u64, content: &[u8], change: impl FnOnce(&mut Manifest)) -> Action {
        let (mut manifest, map) = manifest(content, 2);
        change(&mut manifest);
        let signed = sign(&manifest, "vendor").await;
        self.objects.insert(signed.digest(), signed.encode().to_vec());
        self.objects.insert(Digest::of(content), content.to_vec());
        if let Some(map) = &map {
            self.objects
                .insert(map.reference().digest, BlockMap::encode(map).to_vec());
        }
        Action {
            manifest: Some(signed.digest()),
            manifest_size: Some(signed.encode().len() as u32),
            object: Some(Digest::of(content)),
            size: Some(content.len() as u64),
            ..blank_action(id, ActionKind::Install)
        }
    }

    /// Gives the content of the plan's one action in another form, against this base where it is a delta.
    pub(super) fn give(&mut self, form: Representation, base: Digest, object: Vec<u8>) -> Digest {
        let digest = Digest::of(&object);
        let action = &mut self.plan.actions[0];
        action.object = Some(digest);
        action.size = Some(object.len() as u64);
        action.representation = Some(form);
        action.base = Some(base).filter(|_| form == Representation::Delta);
        self.objects.insert(digest, object);
        digest
    }

    /// Answers one call.
    pub(super) async fn serve(&mut self, transport: impl Transport) {
        let mut pump = Pump::new(transport);
        let mut session = ServerSession::new(&self.config, pump.now());
        self.heard.push(Heard::default());
        (self.used, self.offered) = (None, None);
        while let Ok(Some(event)) = pump.next(&mut session).await {
            self.on(&mut session, pump.now(), event);
        }
    }

    fn on(&mut self, session: &mut ServerSession, now: Instant, event: ServerEvent) {
        match event {
            ServerEvent::Hello(hello) => self.hello(session, now, &hello),
            ServerEvent::Identify { presented, static_key } => self.identify(session, now, &presented, static_key),
            ServerEvent::Report(report) => {
                let unchanged = report.plan == Some(self.plan.sequence);
                self.hear().report = Some(*report);
                if let Quirk::Reject(code) = self.quirk {
                    let text = Some("call your helpdesk".to_owned());
                    session
                        .reject(
                            now,
                            Reject {
                                code,
                                message: None,
                                text,
                                retry_after: None,
                            },
                        )
                        .unwrap();
                    return;
                }
                let mut id = [0; 16];
                id[..8].copy_from_slice(&ID.0.to_be_bytes());
                self.entropy.fill(&mut id[8..]);
                let mut key = [0; 32];
                self.entropy.fill(&mut key);
                let ticket = Ticket {
                    id,
                    key: Psk::new(key),
                    lifetime: 30 * DAY as u32,
                };
                self.offered = Some(ticket.clone());
                let recovery = self
                    .plan
                    .wanted
                    .is_some_and(|wanted| wanted & Wanted::CERTIFICATE_REQUEST != 0);
                let mut plan = Plan {
                    ticket: Some(ticket).filter(|_| !recovery),
                    ..self.plan.clone()
                };
                if unchanged {
                    (plan.unchanged, plan.actions) = (Some(true), Vec::new());
                }
                session.plan(now, plan).unwrap();
            }
            ServerEvent::PlanAck(ack) => {
                self.hear().ack = Some(ack);
                if self.quirk == Quirk::NoStore {
                    let code = ResultCode::StorageUnavailable;
                    session
                        .reject(
                            now,
                            Reject {
                                code,
                                message: None,
                                text: None,
                                retry_after: Some(60),
                            },
                        )
                        .unwrap();
                    return;
                }
                self.hear().recorded = true;
                // The used ticket lives until its successor is used.
                let used = self.used;
                self.tickets.retain(|ticket| Some(ticket.id) == used);
                self.tickets.extend(self.offered.take());
                let results = &self.hear().report.as_ref().unwrap().results;
                let numbers: Vec<u32> = results.iter().map(|result| result.number).collect();
                if !numbers.is_empty() {
                    session
                        .send(
                            now,
                            ResultAck {
                                numbers,
                                next_contact: None,
                            },
                        )
                        .unwrap();
                }
                if self.quirk == Quirk::WantsProof {
                    session.send(now, ProofRequest { reason: None }).unwrap();
                }
            }
            ServerEvent::Get(get) => {
                let size = self.objects.get(&get.digest).map(|object| object.len() as u64);
                self.hear().gets.push(get);
                match (&self.quirk, size) {
                    (Quirk::NoObject(code), _) => session.start(now, 0, Some(*code)).unwrap(),
                    (Quirk::WrongSize(size), _) => session.start(now, *size, None).unwrap(),
                    (_, Some(size)) => session.start(now, size, None).unwrap(),
                    (_, None) => session.start(now, 0, Some(ResultCode::Gone)).unwrap(),
                }
            }
            ServerEvent::Part { digest, offset, max } => {
                if let Quirk::Aborts(at, code) = self.quirk
                    && offset >= at
                {
                    session.abort(now, code).unwrap();
                    return;
                }
                let mut object = self.objects[&digest].clone();
                if let Quirk::WrongByte(at) = self.quirk
                    && let Some(byte) = object.get_mut(at as usize)
                {
                    *byte ^= 1;
                }
                object.resize(object.len().max(offset as usize + max), 0);
                session
                    .part(now, &object[offset as usize..offset as usize + max])
                    .unwrap();
            }
            ServerEvent::Message(message) => self.message(session, now, message),
            ServerEvent::Ended(end) => self.hear().end = Some(end),
        }
    }

    fn hello(&mut self, session: &mut ServerSession, now: Instant, hello: &Hello) {
        self.hear().mode = Some(hello.mode);
        match self.quirk {
            Quirk::Busy(seconds) => return session.busy(now, seconds, None).unwrap(),
            Quirk::Refuse => return session.refuse(now, ResultCode::SecurityError).unwrap(),
            _ => {}
        }
        let psk = match hello.mode {
            Mode::Rsa => None,
            Mode::MainKey | Mode::Both => Some(terminal_psk(&Secret::new(MAIN_KEY), ID.0, 1)),
            Mode::Ticket => {
                let id = hello.ticket().unwrap();
                let Some(ticket) = self.tickets.iter().find(|ticket| ticket.id == id) else {
                    return session.refuse(now, ResultCode::SecurityError).unwrap();
                };
                self.used = Some(id);
                Some(ticket.key.clone())
            }
        };
        let identity = hello.mode.has_static().then_some(&self.identity);
        let mut ephemeral = [0; 32];
        self.entropy.fill(&mut ephemeral);
        session
            .admit(now, identity, psk.as_ref(), self.time, ephemeral)
            .unwrap();
    }

    fn identify(&mut self, session: &mut ServerSession, now: Instant, presented: &Presented, static_key: [u8; 32]) {
        let checks = Checks::of_terminal(self.time, 0);
        self.hear().remembered = Some(matches!(presented, Presented::Remembered(_)));
        let peer = match presented {
            Presented::Full(credentials) => {
                let credentials = Credentials::decode(credentials).unwrap();
                credentials
                    .verify(&anchors(), Role::Terminal, static_key, &checks)
                    .unwrap()
            }
            Presented::Remembered(id) => {
                let known = self.known.clone().filter(|known| known.credential == *id);
                let Some(known) = known.filter(|_| self.quirk != Quirk::Forgets) else {
                    let code = ResultCode::CredentialUnknown;
                    session
                        .reject(
                            now,
                            Reject {
                                code,
                                message: None,
                                text: None,
                                retry_after: None,
                            },
                        )
                        .unwrap();
                    return;
                };
                VerifiedPeer::remembered(known, static_key, &checks).unwrap()
            }
        };
        self.known = Some(peer.remember().clone());
        session.accept(now, &peer).unwrap();
    }

    fn message(&mut self, session: &mut ServerSession, now: Instant, message: Message) {
        match &message {
            Message::ActionResult(result) => {
                let (result, numbers) = ((**result).clone(), vec![result.number]);
                self.hear().results.push(result);
                session
                    .send(
                        now,
                        ResultAck {
                            numbers,
                            next_contact: None,
                        },
                    )
                    .unwrap();
            }
            Message::CertificateRequest(_) => {
                let code = if self.renewed.is_some() {
                    ResultCode::Success
                } else {
                    ResultCode::Missing
                };
                session
                    .send(
                        now,
                        CertificateGrant {
                            code,
                            certificate: self.renewed.clone(),
                        },
                    )
                    .unwrap();
            }
            Message::Register(_) => {
                session
                    .send(
                        now,
                        RegisterAnswer {
                            code: ResultCode::Success,
                            logical: None,
                            text: None,
                        },
                    )
                    .unwrap();
            }
            Message::Bye(_) => session
                .bye(
                    now,
                    Bye {
                        code: ResultCode::Success,
                        next_contact: None,
                    },
                )
                .unwrap(),
            _ => {}
        }
        self.hear().messages.push(message);
    }

    fn hear(&mut self) -> &mut Heard {
        self.heard.last_mut().unwrap()
    }
}

/// A call, over a line that is cut after so many bytes.
pub(super) async fn call_cut(
    terminal: &mut Terminal,
    office: &mut Office,
    call: impl Into<Call<'_>>,
    cut: u64,
) -> CallReport {
    let (near, far) = memory::pair();
    let near = Cut {
        line: Some(near),
        left: cut,
    };
    tokio::join!(terminal.agent.call(near, call), office.serve(far)).0
}

/// A call.
pub(super) async fn call(terminal: &mut Terminal, office: &mut Office, call: impl Into<Call<'_>>) -> CallReport {
    call_cut(terminal, office, call, u64::MAX).await
}

/// A line that is cut after so many bytes, both ways together.
pub(super) struct Cut<T> {
    pub(super) line: Option<T>,
    pub(super) left: u64,
}

impl<T> Cut<T> {
    fn spend(&mut self, bytes: usize) {
        self.left -= bytes as u64;
        if self.left == 0 {
            self.line = None;
        }
    }

    fn most(&self, bytes: usize) -> usize {
        usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Cut<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let most = self.most(buf.remaining());
        let Some(line) = &mut self.line else {
            return Poll::Ready(Ok(()));
        };
        let mut part = buf.take(most);
        std::task::ready!(Pin::new(line).poll_read(cx, &mut part))?;
        let read = part.filled().len();
        // What is filled in `part` is initialised in `buf`: it is the same memory.
        let bytes = part.filled().to_vec();
        buf.put_slice(&bytes);
        self.spend(read);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Cut<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let most = self.most(bytes.len());
        let Some(line) = &mut self.line else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let written = std::task::ready!(Pin::new(line).poll_write(cx, &bytes[..most]))?;
        self.spend(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.line
            .as_mut()
            .map_or(Poll::Ready(Ok(())), |line| Pin::new(line).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.line
            .as_mut()
            .map_or(Poll::Ready(Ok(())), |line| Pin::new(line).poll_shutdown(cx))
    }
}

pub(super) fn blank_action(id: u64, kind: ActionKind) -> Action {
    Action {
        id,
        kind,
        manifest: None,
        manifest_size: None,
        object: None,
        size: None,
        representation: None,
        base: None,
        depends_on: Vec::new(),
        download: None,
        install: None,
        preconditions: None,
        min_battery: None,
        restart: None,
        forced: None,
        prompt: None,
        on_error: None,
        priority: None,
        retry_delay: None,
        max_attempts: None,
        grant: None,
        component: None,
        target: None,
        max_postponed: None,
    }
}

pub(super) fn blank_plan(sequence: u64) -> Plan {
    let from = NOW + DAY;
    Plan {
        sequence,
        unchanged: None,
        actions: Vec::new(),
        texts: Vec::new(),
        wanted: None,
        next_contact: NextContact {
            redial_delay: Some(30),
            redial_max: Some(4),
            ..NextContact::at(from, 600)
        },
        ticket: None,
        not_after: None,
        withdrawn_texts: Vec::new(),
    }
}

/// Signs with the test key of this name.
pub(super) async fn sign<T: Signable>(body: &T, key: &str) -> Signed<T> {
    let element = Signed::to_be_signed(body);
    let signer = key_named(key);
    let signature = signer.sign(T::DOMAIN, &element).await.unwrap().into();
    Signed::assemble(
        &element,
        &[KeySignature {
            key: signer.public_key().id(),
            signature,
        }],
    )
    .unwrap()
}

pub(super) fn key_named(name: &str) -> PemSigner {
    let path = format!("{}/../tms-proto/tests/keys/{name}.pem", env!("CARGO_MANIFEST_DIR"));
    PemSigner::from_pem(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// A server's identity with this epoch, certified by the root for the key of this name, at `time`.
pub(super) async fn server_identity(epoch: u32, key: &str, time: u64) -> ServerIdentity {
    let subject = Subject::Server {
        organisation: "Test Bank".into(),
        group: "tms".into(),
    };
    let signer = key_named(key);
    let certificate = certify(&signer, subject, time - 400 * DAY, time + 400 * DAY).await;
    identity_of(&signer, certificate, epoch, time).await
}

/// A server's identity under this certificate.
pub(super) async fn identity_of(
    signer: &PemSigner,
    certificate: tms_proto::certificate::Certificate,
    epoch: u32,
    time: u64,
) -> ServerIdentity {
    let static_key = StaticKey::from_secret([epoch as u8 ^ 0x5A; 32]);
    let (not_before, not_after) = (time - DAY, time + 6 * DAY);
    let message = statement(
        Role::Server,
        epoch,
        not_before,
        not_after,
        static_key.public(),
        &certificate,
    );
    let signature = signer.sign(CHANNEL_DOMAIN, &message).await.unwrap().into();
    let credentials = Credentials::new(
        certificate,
        ChannelCertificate {
            epoch,
            not_before,
            not_after,
            signature,
        },
    );
    ServerIdentity {
        static_key,
        id: credentials.id(),
        credentials: credentials.encode().clone(),
    }
}
