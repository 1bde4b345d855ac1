//! Representations: a package is made smaller for the terminals that can decode it.

use super::access::{Actor, Permission};
use super::audit::Deed;
use super::{Estate, EstateError, decided};
use crate::blob::BlobError;
use crate::representation::{self, EncodeError, MAX_CONTENT};
use crate::store::{
    BranchPath, Change, EventKind, Expect, Key, MAX_REPRESENTATIONS, Package, Record, RepresentationRef, Versioned,
};
use bytes::Bytes;
use serde_json::json;
use std::sync::Arc;
use tms_proto::code::Representation;
use tms_proto::digest::Digest;

/// How much of a content is read at a time.
const CHUNK: usize = 1 << 20;

impl Estate {
    /// Makes representations of a package: compressed, and as the difference to each of these earlier contents. They are for
    /// what is queued from then on; assignments that are there stay as they are, so that nothing changes under a download.
    ///
    /// Each is decoded as a terminal does it and compared with the content before it is offered. One that would save nothing
    /// is left out: a delta that is not smaller than the compressed content, whatever is not smaller than the content. Those
    /// that the package has already stay.
    ///
    /// Gives all that the package has now. It takes about eight times as much memory as the larger of both contents has bytes,
    /// and is done for one package at a time.
    ///
    /// # Errors
    /// [`EstateError::UnknownPackage`]; [`EstateError::Blob`] where the package's or an earlier content is not there;
    /// [`EstateError::Encode`] where one is larger than [`MAX_CONTENT`]; [`EstateError::TooManyRepresentations`].
    pub async fn represent(
        &self,
        actor: &Actor,
        manifest: &Digest,
        bases: &[Digest],
    ) -> Result<Vec<RepresentationRef>, EstateError> {
        actor.demand(Permission::Publish, &BranchPath::head_office())?;
        let _one_at_a_time = self.encoding.lock().await;
        let known = self.package(manifest).await?.record.package;
        let content = Arc::new(self.content(&known.content).await?);
        let mut made: Vec<RepresentationRef> = known.representations.clone();
        if !has(&made, Representation::Zstd, None) {
            made.extend(self.make(&known.content, &content, None).await?);
        }
        for base in bases {
            if has(&made, Representation::Delta, Some(*base)) || *base == known.content {
                continue;
            }
            if made.len() >= MAX_REPRESENTATIONS {
                return Err(EstateError::TooManyRepresentations);
            }
            let old = Arc::new(self.content(base).await?);
            let delta = self.make(&known.content, &content, Some((*base, old))).await?;
            let compressed = made.iter().find(|made| made.form == Representation::Zstd);
            made.extend(delta.filter(|delta| compressed.is_none_or(|compressed| delta.size < compressed.size)));
        }
        self.record(actor, manifest, made).await
    }

    /// Makes one, checks it, and stores it; `None` where it would save nothing.
    async fn make(
        &self,
        digest: &Digest,
        content: &Arc<Vec<u8>>,
        base: Option<(Digest, Arc<Vec<u8>>)>,
    ) -> Result<Option<RepresentationRef>, EstateError> {
        let (name, old) = base.unzip();
        let content = Arc::clone(content);
        let size = u64::try_from(content.len()).unwrap_or(u64::MAX);
        let work = move || -> Result<(Vec<u8>, Digest), EncodeError> {
            let old = old.as_deref().map(Vec::as_slice);
            let object = match old {
                Some(old) => representation::delta(old, &content)?,
                None => representation::zstd(&content)?,
            };
            let gives = representation::decode(&object, old, size)?;
            Ok((object, gives))
        };
        let (object, gives) = tokio::task::spawn_blocking(work)
            .await
            .map_err(|_| EstateError::Content("no representation can be made of it"))??;
        if gives != *digest {
            return Err(EstateError::Content("its representation gives another"));
        }
        if u64::try_from(object.len()).is_ok_and(|length| length >= size) {
            return Ok(None);
        }
        let (object, size) = self.blobs.put(&mut &object[..], None).await?;
        let form = if name.is_some() {
            Representation::Delta
        } else {
            Representation::Zstd
        };
        Ok(Some(RepresentationRef {
            form,
            object,
            size,
            base: name,
        }))
    }

    /// A content, whole.
    async fn content(&self, digest: &Digest) -> Result<Vec<u8>, EstateError> {
        let size = self.blobs.open(digest).await?;
        let length = usize::try_from(size).unwrap_or(usize::MAX);
        if size > MAX_CONTENT {
            return Err(EncodeError::Size(length).into());
        }
        let mut content = Vec::with_capacity(length);
        while content.len() < length {
            let offset = u64::try_from(content.len()).unwrap_or(u64::MAX);
            let bytes: Bytes = self.blobs.read(digest, offset, CHUNK).await?;
            if bytes.is_empty() {
                return Err(BlobError::Changed.into());
            }
            content.extend_from_slice(&bytes);
        }
        Ok(content)
    }

    /// Adds representations to a package's record.
    async fn record(
        &self,
        actor: &Actor,
        manifest: &Digest,
        made: Vec<RepresentationRef>,
    ) -> Result<Vec<RepresentationRef>, EstateError> {
        decided(|| async {
            let Versioned { version, mut record } = self.package(manifest).await?;
            let there = &mut record.package.representations;
            // Somebody else may have made some meanwhile.
            let new = made.iter().filter(|made| !has(there, made.form, made.base));
            let new: Vec<_> = new.cloned().collect();
            if new.is_empty() {
                return Ok(there.clone());
            }
            there.extend(new);
            if there.len() > MAX_REPRESENTATIONS {
                return Err(EstateError::TooManyRepresentations);
            }
            let there = there.clone();
            let kind = EventKind::Represented { manifest: *manifest };
            let deed = Deed {
                act: "package.represent",
                subject: manifest.to_string(),
                branch: BranchPath::head_office(),
                detail: json!({ "representations": there }),
            };
            let changes = vec![
                Change::Put(Expect::Version(version), record.into()),
                Change::Append(self.event(actor, None, kind)),
            ];
            self.commit(actor, &deed, changes).await?;
            Ok(there)
        })
        .await
    }

    pub(super) async fn package(&self, manifest: &Digest) -> Result<Versioned<Package>, EstateError> {
        match self.store.get(&Key::Package(*manifest)).await? {
            Some(Versioned {
                version,
                record: Record::Package(package),
            }) => Ok(Versioned {
                version,
                record: *package,
            }),
            _ => Err(EstateError::UnknownPackage(manifest.to_string())),
        }
    }
}

fn has(representations: &[RepresentationRef], form: Representation, base: Option<Digest>) -> bool {
    let same = |other: &RepresentationRef| other.form == form && other.base == base;
    representations.iter().any(same)
}
