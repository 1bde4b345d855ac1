//! What the terminal says when the server asks: logs, certificates, registrations, proofs.

use super::action::Held;
use super::conversation::Conversation;
use super::{Agent, AgentError};
use tms_proto::code::{ActionKind, RegisterIntent, ResultCode, Stage};
use tms_proto::credential::PROOF_DOMAIN;
use tms_proto::machine::Instant;
use tms_proto::message::{CertificateGrant, CertificateRequest, LogPart, Proof, Register, RegisterAnswer, Reject};
use tms_proto::session::TerminalSession;
use tracing::{info, warn};

/// The most of a log that is sent, in bytes: its end.
const MAX_LOG: usize = 64 * 1024;
/// In pieces of so many bytes.
const LOG_PIECE: usize = 4096;

/// The tag of the message that asks for a live proof, as a reject names it.
const PROOF_REQUEST: u8 = 0x76;

impl Conversation<'_, '_> {
    pub(super) fn ask_for_certificate(&mut self, session: &mut TerminalSession, now: Instant) {
        if std::mem::replace(&mut self.registered, true) {
            return;
        }
        let Some(rsa) = &self.agent.identity.rsa else {
            return;
        };
        let key = rsa.signer.public_key().id().0;
        if self.send(session, now, CertificateRequest { key }) {
            self.awaited += 1;
        }
    }

    pub(super) async fn send_log(&mut self, session: &mut TerminalSession, now: Instant) {
        let log = match self.agent.device.components.log().await {
            Ok(log) => log,
            Err(error) => {
                warn!(%error, "log cannot be read");
                return;
            }
        };
        let log = log.slice(log.len().saturating_sub(MAX_LOG)..);
        let mut offset = 0;
        let pieces = log.chunks(LOG_PIECE).count().max(1);
        for number in 1..=pieces {
            let end = log.len().min(offset + LOG_PIECE);
            let bytes = log.slice(offset..end);
            let last = (number == pieces).then_some(true);
            let part = LogPart {
                name: "agent".into(),
                offset: u64::try_from(offset).unwrap_or_default(),
                bytes,
                last,
            };
            self.send(session, now, part);
            offset = end;
        }
    }

    /// A certificate was renewed, or not (§10.6).
    pub(super) async fn granted(&mut self, grant: &CertificateGrant) -> Result<(), AgentError> {
        self.awaited = self.awaited.saturating_sub(1);
        let agent = &mut *self.agent;
        let now = agent.now();
        let journal = &mut agent.notebook.journal;
        match &grant.certificate {
            Some(certificate) if grant.code == ResultCode::Success => {
                match agent.identity.renew(journal, certificate, now.stamp()) {
                    Ok(()) => {
                        info!("certificate renewed");
                        self.report.remarks.push("certificate renewed".into());
                        // Now the terminal can do what it could not: it calls again at once.
                        journal.urgent = true;
                    }
                    Err(error) => {
                        warn!(%error, "renewed certificate is not taken");
                        journal.error(now.stamp(), error.code(), &error.to_string());
                    }
                }
            }
            _ => self.report.remarks.push(format!("no certificate: {}", grant.code)),
        }
        Ok(agent.notebook.save().await?)
    }

    pub(super) async fn registered(&mut self, answer: RegisterAnswer) -> Result<(), AgentError> {
        self.awaited = self.awaited.saturating_sub(1);
        let now = self.agent.now();
        let journal = &mut self.agent.notebook.journal;
        journal.registration = None;
        // Whoever has the actions done by it is answered with it.
        let bound = |held: &&Held| held.action.kind == ActionKind::Bind && self.passed.contains(&held.action.id);
        let stage = match answer.code {
            ResultCode::Success => Stage::RunningConfirmed,
            _ => Stage::Rejected,
        };
        let bound: Vec<_> = journal
            .actions
            .iter()
            .filter(bound)
            .map(|held| held.result(stage, answer.code, "", now.stamp()))
            .collect();
        for result in bound {
            journal.finish(result);
        }
        let words = answer.text.unwrap_or_default();
        self.report
            .remarks
            .push(format!("registration: {} {words}", answer.code).trim_end().to_owned());
        Ok(self.agent.notebook.save().await?)
    }

    /// Signs the handshake hash: only an authenticated server can ask for it (§10.7).
    pub(super) async fn prove(&mut self, session: &mut TerminalSession, now: Instant, hash: &[u8; 32]) {
        let Some(rsa) = &self.agent.identity.rsa else {
            let refused = Reject {
                code: ResultCode::NotSupported,
                message: Some(PROOF_REQUEST),
                text: None,
                retry_after: None,
            };
            self.send(session, now, refused);
            return;
        };
        match rsa.signer.sign(PROOF_DOMAIN, hash).await {
            Ok(signature) => {
                self.send(
                    session,
                    now,
                    Proof {
                        signature: signature.into(),
                    },
                );
            }
            Err(error) => {
                warn!(%error, "live proof cannot be given");
                let refused = Reject {
                    code: ResultCode::HardwareError,
                    message: Some(PROOF_REQUEST),
                    text: None,
                    retry_after: None,
                };
                self.send(session, now, refused);
            }
        }
    }
}

impl Agent {
    /// The server wants the terminal to register again: it says what it is and where it believes to be. A registration that
    /// waits to be sent already says more.
    pub(super) async fn register_again(&mut self) -> Result<(), AgentError> {
        if self.notebook.journal.registration.is_some() {
            return Ok(());
        }
        let components = &self.device.components;
        // What the device does not tell it does not know.
        let location = components.location().await.ok().flatten();
        let logical = components.logical().await.ok();
        self.notebook.journal.registration = Some(Register {
            intent: RegisterIntent::Again,
            code: None,
            replaces: None,
            installer: None,
            location,
            logical: logical.and_then(|logical| logical.into_iter().next()),
        });
        Ok(self.notebook.save().await?)
    }
}
