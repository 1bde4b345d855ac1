//! Objects that a caller downloads: those of the blob store, and parameter sets that are made for it.

use super::Call;
use crate::blob::BlobError;
use crate::estate::{ParameterSetRef, Parameters};
use crate::server::record::CallError;
use std::sync::Arc;
use tms_proto::code::ResultCode;
use tms_proto::digest::Digest;
use tms_proto::message::ObjectGet;
use tms_proto::session::ServerSession;
use tracing::{info, warn};

impl Call<'_> {
    pub(super) async fn get(
        &mut self,
        session: &mut ServerSession,
        now: tms_proto::machine::Instant,
        get: &ObjectGet,
    ) -> Result<(), CallError> {
        let caller = self.caller.as_deref_mut();
        let set = caller.and_then(|caller| caller.sets.iter().find(|set| set.digest == get.digest).cloned());
        if let Some(set) = set {
            return self.make(session, now, &set).await;
        }
        let planned = self
            .caller
            .as_ref()
            .is_some_and(|caller| caller.objects.contains(&get.digest));
        if !planned {
            warn!(object = %get.digest.short(), "object is not in the plan");
            session.start(now, 0, Some(ResultCode::Gone))?;
            return Ok(());
        }
        match self.inner.services.blobs.open(&get.digest).await {
            Ok(total) => {
                info!(object = %get.digest.short(), offset = get.offset, total, "download");
                session.start(now, total, None)?;
            }
            Err(error) => {
                warn!(object = %get.digest.short(), %error, "object cannot be served");
                session.start(now, 0, Some(blob_code(&error)))?;
            }
        }
        Ok(())
    }

    /// Makes a parameter set and serves it.
    async fn make(
        &mut self,
        session: &mut ServerSession,
        now: tms_proto::machine::Instant,
        set: &ParameterSetRef,
    ) -> Result<(), CallError> {
        let services = &self.inner.services;
        let parameters = Parameters::new(Arc::clone(&services.store), services.secrets.clone());
        match parameters.document(set).await {
            Ok(document) => {
                let total = u64::try_from(document.len()).unwrap_or(u64::MAX);
                info!(set = set.template, total, "download");
                if let Some(caller) = &mut self.caller {
                    caller.made = Some((set.digest, document));
                }
                session.start(now, total, None)?;
            }
            Err(error) => {
                warn!(set = set.template, %error, "parameter set cannot be made");
                let code = if error.is_transient() {
                    ResultCode::Busy
                } else {
                    ResultCode::Changed
                };
                session.start(now, 0, Some(code))?;
            }
        }
        Ok(())
    }

    /// A part of the parameter set that was made, if it is that object.
    pub(super) fn made(&self, digest: &Digest, offset: u64, max: usize) -> Option<&[u8]> {
        let (made, document) = self.caller.as_ref()?.made.as_ref()?;
        let from = usize::try_from(offset).ok().filter(|_| made == digest)?;
        let rest = document.get(from..)?;
        rest.get(..max).or(Some(rest))
    }
}

pub(super) fn blob_code(error: &BlobError) -> ResultCode {
    match error {
        BlobError::Missing => ResultCode::Gone,
        BlobError::Changed => ResultCode::Changed,
        _ => ResultCode::Busy,
    }
}
