//! Who calls: what a hello names, and what the handshake proves.

use super::{Call, Known, Pending, reject};
use crate::admission::Decision;
use crate::server::online::Arrival;
use crate::server::record::CallError;
use crate::server::seal::split_ticket_id;
use crate::store::{Caller, CheckIn, CredentialId, EventKind, StoreError, Terminal, TerminalId};
use tms_proto::code::{ResultCode, Role};
use tms_proto::credential::{Checks, CredentialError, Credentials, Remembered, VerifiedPeer};
use tms_proto::handshake::{Hello, Mode};
use tms_proto::secret::Psk;
use tms_proto::session::{Presented, ServerSession};
use tms_proto::tlv::Structure;
use tracing::{debug, warn};

impl Call<'_> {
    /// A call comes in. What costs little is asked first, and public-key work is last.
    pub(super) async fn hello(
        &mut self,
        session: &mut ServerSession,
        now: tms_proto::machine::Instant,
        hello: &Hello,
    ) -> Result<(), CallError> {
        let inner = self.inner;
        match inner.admission.handshake(&self.peer, now) {
            Decision::Admit(permit) => self.permit = Some(permit),
            Decision::Busy { retry_after } => {
                let retry_after = self.retry_after(retry_after);
                debug!(retry_after, "handshake limit, caller turned away");
                session.busy(now, retry_after, Some(ResultCode::Busy))?;
                return Ok(());
            }
        }
        let time = inner.services.clock.now();
        let mut ephemeral = [0; 32];
        inner.services.entropy.fill(&mut ephemeral);
        let secret = match self.secret(hello, time).await? {
            Ok(secret) => secret,
            Err(why) => {
                // One constant answer for everything that concerns keys; only the log knows more.
                warn!(mode = hello.mode.code(), why, "caller refused");
                self.failed();
                session.refuse(now, ResultCode::SecurityError)?;
                return Ok(());
            }
        };
        let identity = if hello.mode.has_static() {
            match inner
                .node
                .identity(hello.remembered, time, &*inner.services.entropy)
                .await
            {
                Ok(identity) => Some(identity),
                Err(error) => {
                    warn!(%error, "no identity to show");
                    session.busy(now, inner.options.retry_after, Some(ResultCode::HardwareError))?;
                    return Ok(());
                }
            }
        } else {
            None
        };
        session.admit(now, identity.as_deref(), secret.as_ref(), time, ephemeral)?;
        Ok(())
    }

    /// The pre-shared key of the call's mode, and with it the caller that it names; or why there is none.
    async fn secret(&mut self, hello: &Hello, time: u64) -> Result<Result<Option<Psk>, &'static str>, StoreError> {
        let inner = self.inner;
        let id = hello.id.as_deref().unwrap_or_default();
        match hello.mode {
            Mode::Rsa => Ok(Ok(None)),
            Mode::Ticket => {
                let Some((id, random)) = split_ticket_id(id) else {
                    return Ok(Err("malformed ticket id"));
                };
                let Some(known) = inner.services.store.check_in(&Caller::Id(id)).await? else {
                    return Ok(Err("ticket of an unknown terminal"));
                };
                let tickets = &known.terminal.record.tickets;
                let Some(ticket) = tickets
                    .iter()
                    .find(|ticket| ticket.id == random && time < ticket.expires)
                else {
                    return Ok(Err("unknown or expired ticket"));
                };
                let Some(psk) = inner.tickets.open(id, ticket) else {
                    return Ok(Err("ticket sealed under another key"));
                };
                self.meet(hello.mode, known, Some(random), None);
                Ok(Ok(Some(psk)))
            }
            Mode::MainKey | Mode::Both => {
                let (Ok(id), Some(epoch)) = (id.try_into().map(u64::from_be_bytes), hello.epoch) else {
                    return Ok(Err("malformed terminal id"));
                };
                let Some(known) = inner.services.store.check_in(&Caller::Id(TerminalId(id))).await? else {
                    return Ok(Err("unknown terminal"));
                };
                // Rotation keeps two generations valid (§10.8).
                let current = known.terminal.record.main_key_epoch;
                if !current.is_some_and(|current| epoch == current || epoch.checked_add(1) == Some(current)) {
                    return Ok(Err("main-control key of another epoch"));
                }
                let psk = match inner.services.main_keys.psk(TerminalId(id), epoch).await {
                    Ok(Some(psk)) => psk,
                    Ok(None) => return Ok(Err("no main-control key")),
                    Err(error) => return Err(StoreError::Unavailable(error.to_string())),
                };
                self.meet(hello.mode, known, None, None);
                Ok(Ok(Some(psk)))
            }
        }
    }

    /// Modes 1 and 4: who is it?
    pub(super) async fn identify(
        &mut self,
        session: &mut ServerSession,
        now: tms_proto::machine::Instant,
        presented: Presented,
        static_key: [u8; 32],
    ) -> Result<(), CallError> {
        let found = match presented {
            Presented::Remembered(id) => self.recall(id, static_key).await?,
            Presented::Full(credentials) => self.verify(&credentials, static_key).await?,
        };
        let (peer, known) = match found {
            Ok(found) => found,
            Err((code, why)) => {
                warn!(%code, why, "terminal refused");
                self.failed();
                session.reject(now, reject(code, "call your helpdesk", None))?;
                return Ok(());
            }
        };
        if self
            .caller
            .as_ref()
            .is_some_and(|caller| caller.id != known.terminal.record.id)
        {
            warn!("certificate and main-control key are of two terminals");
            session.reject(now, reject(ResultCode::PartyMismatch, "call your helpdesk", None))?;
            return Ok(());
        }
        session.accept(now, &peer)?;
        let mode = self.caller.take().map_or(Mode::Rsa, |caller| caller.mode);
        self.meet(mode, known, None, Some(peer));
        Ok(())
    }

    async fn recall(
        &self,
        id: CredentialId,
        static_key: [u8; 32],
    ) -> Result<Result<(VerifiedPeer, CheckIn), (ResultCode, &'static str)>, StoreError> {
        const UNKNOWN: (ResultCode, &str) = (ResultCode::CredentialUnknown, "credential not remembered");
        let Some(known) = self.inner.services.store.check_in(&Caller::Credential(id)).await? else {
            return Ok(Err(UNKNOWN));
        };
        let Some(remembered) = remembered(&known.terminal.record) else {
            return Ok(Err(UNKNOWN));
        };
        let checks = Checks::of_terminal(self.inner.services.clock.now(), 0);
        match VerifiedPeer::remembered(remembered, static_key, &checks) {
            Ok(peer) => Ok(Ok((peer, known))),
            Err(CredentialError::ChannelExpired) => Ok(Err(UNKNOWN)),
            Err(_) => Ok(Err((ResultCode::SecurityError, "remembered credential does not hold"))),
        }
    }

    async fn verify(
        &self,
        credentials: &[u8],
        static_key: [u8; 32],
    ) -> Result<Result<(VerifiedPeer, CheckIn), (ResultCode, &'static str)>, StoreError> {
        let Ok(credentials) = Credentials::decode(credentials) else {
            return Ok(Err((ResultCode::FormatError, "malformed credentials")));
        };
        let checks = Checks::of_terminal(self.inner.services.clock.now(), 0);
        let peer = match credentials.verify(&self.inner.anchors, Role::Terminal, static_key, &checks) {
            Ok(peer) => peer,
            Err(error) => {
                warn!(%error, "credentials refused");
                // An expired channel certificate is no secret: the terminal's clock is wrong, and it can sign anew.
                let code = match error {
                    CredentialError::ChannelExpired | CredentialError::NotYetValid => ResultCode::Expired,
                    _ => ResultCode::SecurityError,
                };
                return Ok(Err((code, "credentials do not verify")));
            }
        };
        let Some(holder) = peer.subject().terminal() else {
            return Ok(Err((ResultCode::NotPermitted, "certificate is not a terminal's")));
        };
        let Some(known) = self
            .inner
            .services
            .store
            .check_in(&Caller::Holder(holder.clone()))
            .await?
        else {
            return Ok(Err((ResultCode::UnknownReference, "terminal is not enrolled")));
        };
        let terminal = &known.terminal.record;
        if terminal.revoked {
            return Ok(Err((ResultCode::SecurityError, "identity is revoked")));
        }
        if terminal.key.is_some_and(|pinned| pinned != peer.key()) {
            let evidence = format!("certified key {} is not the pinned one", peer.key());
            let kind = EventKind::CloneSuspected { evidence };
            self.inner.record_event(terminal.id, &holder.to_string(), kind).await?;
            return Ok(Err((ResultCode::SecurityError, "another key than the pinned one")));
        }
        if remembered(terminal).is_some_and(|remembered| remembered.epoch > peer.epoch()) {
            return Ok(Err((
                ResultCode::SecurityError,
                "epoch of the channel certificate goes back",
            )));
        }
        Ok(Ok((peer, known)))
    }

    fn meet(&mut self, mode: Mode, known: CheckIn, used_ticket: Option<[u8; 8]>, peer: Option<VerifiedPeer>) {
        let terminal = &known.terminal.record;
        let (id, actor) = (terminal.id, terminal.holder.to_string());
        let recovery = peer.as_ref().is_some_and(VerifiedPeer::expired);
        let arrival = Arrival {
            displaced: tokio_util::sync::CancellationToken::new(),
            elsewhere: None,
        };
        let pending = Some(Box::new(Pending {
            known,
            used_ticket,
            peer,
            facts: None,
        }));
        self.caller = Some(Box::new(Known {
            mode,
            id,
            actor,
            arrival,
            pending,
            objects: Vec::new(),
            sets: Vec::new(),
            made: None,
            recovery,
        }));
    }
}

fn remembered(terminal: &Terminal) -> Option<Remembered> {
    let known = hex::decode(&terminal.credential.as_ref()?.known).ok()?;
    Remembered::from_slice(&known).ok()
}
