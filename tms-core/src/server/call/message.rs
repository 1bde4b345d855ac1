//! What a terminal says after its check-in.

use super::Call;
use crate::rule::relocation::Observed;
use crate::server::record::CallError;
use crate::store::{Caller, EventKind, StoreError};
use tms_proto::code::ResultCode;
use tms_proto::digest::Digest;
use tms_proto::message::{Bye, CertificateGrant, Message, Reject, ResultAck};
use tms_proto::session::ServerSession;
use tracing::{debug, info, warn};

impl Call<'_> {
    pub(super) async fn message(
        &mut self,
        session: &mut ServerSession,
        now: tms_proto::machine::Instant,
        message: Message,
    ) -> Result<(), CallError> {
        let Some(caller) = &self.caller else { return Ok(()) };
        let inner = self.inner;
        let (id, actor) = (caller.id, caller.actor.as_str());
        if caller.recovery && !matches!(message, Message::CertificateRequest(_) | Message::Bye(_)) {
            session.send(
                now,
                refused(&message, ResultCode::Expired, "only a certificate request is allowed"),
            )?;
            return Ok(());
        }
        match message {
            Message::Bye(bye) => {
                debug!(code = %bye.code, "goodbye");
                session.bye(
                    now,
                    Bye {
                        code: ResultCode::Success,
                        next_contact: None,
                    },
                )?;
            }
            Message::ActionResult(result) => {
                info!(action = result.action, stage = %result.stage, code = %result.code, attempt = result.attempt, "result");
                inner.record_result(id, actor, &result).await?;
                session.send(
                    now,
                    ResultAck {
                        numbers: vec![result.number],
                        next_contact: None,
                    },
                )?;
            }
            Message::StatusReport(report) => match report.inventory {
                Some(inventory) => {
                    inner
                        .record_inventory(id, actor, report.inventory_digest, &inventory)
                        .await?;
                }
                None => session.send(
                    now,
                    refused_tag(0x61, ResultCode::Missing, "no inventory in the report"),
                )?,
            },
            Message::TextReceipt(receipt) => inner.record_receipt(id, actor, &receipt).await?,
            Message::Event(event) => {
                warn!(kind = %event.kind, "terminal reports an event");
                let kind = EventKind::Terminal {
                    what: event.kind.to_string(),
                    text: event.text,
                };
                inner.record_event(id, actor, kind).await?;
            }
            Message::CertificateRequest(request) => {
                let grant = self.renewal(request.key).await?;
                info!(code = %grant.code, "certificate asked for");
                session.send(now, grant)?;
            }
            Message::Register(register) => {
                let observed = Observed::from(&self.peer);
                let answer = inner.register(id, &register, &observed).await?;
                info!(intent = %register.intent, code = %answer.code, "registration");
                session.send(now, answer)?;
            }
            Message::Reject(reject) => warn!(code = %reject.code, "terminal refused a message"),
            other => {
                debug!(message = other.name(), "message not offered");
                session.send(
                    now,
                    refused(&other, ResultCode::NotSupported, "not offered by this server"),
                )?;
            }
        }
        Ok(())
    }

    /// The renewed certificate of a terminal, if an operator had one made for the key that it has (§10.6).
    async fn renewal(&self, key: Digest) -> Result<CertificateGrant, StoreError> {
        let none = |code| CertificateGrant {
            code,
            certificate: None,
        };
        let Some(caller) = &self.caller else {
            return Ok(none(ResultCode::UnknownReference));
        };
        let Some(known) = self.inner.services.store.check_in(&Caller::Id(caller.id)).await? else {
            return Ok(none(ResultCode::UnknownReference));
        };
        let terminal = known.terminal.record;
        if terminal.key.is_some_and(|pinned| pinned.0 != key) {
            return Ok(none(ResultCode::PartyMismatch));
        }
        Ok(
            match terminal
                .renewed_certificate
                .and_then(|certificate| hex::decode(certificate).ok())
            {
                Some(certificate) => CertificateGrant {
                    code: ResultCode::Success,
                    certificate: Some(certificate.into()),
                },
                None => none(ResultCode::Missing),
            },
        )
    }
}

fn refused(message: &Message, code: ResultCode, text: &str) -> Reject {
    refused_tag(u8::try_from(message.tag().0).unwrap_or_default(), code, text)
}

fn refused_tag(tag: u8, code: ResultCode, text: &str) -> Reject {
    Reject {
        code,
        message: Some(tag),
        text: Some(text.to_owned()),
        retry_after: None,
    }
}
