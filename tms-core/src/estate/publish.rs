//! Packages: a signed package is taken in, so that it can be queued.

use super::access::{Actor, Permission};
use super::audit::Deed;
use super::release::Release;
use super::rollup::put;
use super::{Estate, EstateError};
use crate::rule::release::ReleaseState;
use crate::store::{BranchPath, Change, EventKind, Expect, NeededRelease, Package, PackageRef, StoreError};
use serde_json::json;
use tms_proto::digest::Digest;
use tms_proto::package::{PackageError, PackageFile, Parsed};
use tokio::io::{AsyncRead, AsyncReadExt};

impl Estate {
    /// Publishes a package file. Its signatures are verified against the estate's trust store, its content against the
    /// manifest, before it can be queued for anybody. It is released at once, or a draft where the estate demands
    /// [approval](Self::release_approval). Publishing the same file again changes nothing.
    ///
    /// # Errors
    /// [`EstateError::Package`] where the signatures are not those that are demanded, or the package has expired;
    /// [`EstateError::Content`] where the content is not the manifest's; [`EstateError::Io`] where the file cannot be read.
    pub async fn publish(
        &self,
        actor: &Actor,
        file: &mut (dyn AsyncRead + Send + Unpin),
    ) -> Result<PackageRef, EstateError> {
        actor.demand(Permission::Publish, &BranchPath::head_office())?;
        let mut prefix = Vec::new();
        let head = read_head(file, &mut prefix).await?;
        let now = self.clock.now();
        let verified = head.manifest.verify(&self.trust().await?, Some(now))?;
        let manifest = verified.manifest();

        let offset = usize::try_from(head.content_offset).map_err(|_| PackageError::Size)?;
        let begun = prefix.get(offset..).unwrap_or_default();
        // One byte more than there may be shows a file that is too long.
        let mut content = begun.chain(file).take(manifest.size.saturating_add(1));
        let (_, size) = self.blobs.put(&mut content, Some(manifest.digest)).await?;
        if size != manifest.size {
            return Err(EstateError::Content("its size is another"));
        }
        if let Some(map) = &head.block_map {
            self.blobs.put(&mut map.encode(), None).await?;
        }
        let encoded = head.manifest.encode();
        let (name, _) = self.blobs.put(&mut &encoded[..], None).await?;

        let package = PackageRef {
            manifest: name,
            manifest_size: u32::try_from(encoded.len()).map_err(|_| PackageError::Size)?,
            component: manifest.component.clone(),
            version: manifest.version.clone(),
            content: manifest.digest,
            size,
            block_map: manifest.block_map.as_ref().map(|map| map.digest),
            representations: Vec::new(),
        };
        let needed = manifest.dependencies.iter().map(|needed| NeededRelease {
            component: needed.component.clone(),
            order: needed.order,
        });
        let record = Package {
            package: package.clone(),
            kind: manifest.kind,
            counter: manifest.counter,
            vendor: manifest.vendor.clone(),
            models: manifest.models.clone(),
            published: now,
            actor: actor.name().to_owned(),
            order: manifest.order,
            min_from: manifest.min_from,
            dependencies: needed.collect(),
            // nobody waits for an approval that nobody asks for
            state: match self.release_approval().await? {
                true => ReleaseState::Draft,
                false => ReleaseState::Released,
            },
            approver: None,
        };
        let found_by = put(None, &Release::of(&record))?;
        let event = self.event(actor, None, EventKind::Published { manifest: name });
        let deed = Deed {
            act: "package.publish",
            subject: name.to_string(),
            branch: BranchPath::head_office(),
            detail: json!({ "component": package.component, "version": package.version, "content": package.content }),
        };
        let changes = vec![
            Change::Put(Expect::Absent, record.into()),
            found_by,
            Change::Append(event),
        ];
        match self.commit(actor, &deed, changes).await {
            // It was published before, and is the same: its name is the digest of its manifest.
            Ok(()) | Err(StoreError::Conflict) => Ok(package),
            Err(error) => Err(error.into()),
        }
    }

    /// The package whose manifest digest begins with `prefix`, hexadecimal, if there is exactly one.
    ///
    /// # Errors
    /// [`EstateError::UnknownPackage`].
    pub async fn find_package(&self, prefix: &str) -> Result<Digest, EstateError> {
        let mut after = None;
        let mut found = None;
        loop {
            let page = self.store.list(&crate::store::Query::Packages(after), 256).await?;
            for record in &page {
                let crate::store::Key::Package(manifest) = record.record.key() else {
                    continue;
                };
                after = Some(manifest);
                if !prefix.is_empty() && manifest.to_string().starts_with(prefix) && found.replace(manifest).is_some() {
                    return Err(EstateError::UnknownPackage(format!(
                        "{prefix}: more than one begins so"
                    )));
                }
            }
            if page.is_empty() {
                return found.ok_or_else(|| EstateError::UnknownPackage(prefix.to_owned()));
            }
        }
    }
}

async fn read_head(
    file: &mut (dyn AsyncRead + Send + Unpin),
    prefix: &mut Vec<u8>,
) -> Result<PackageFile, EstateError> {
    loop {
        match PackageFile::parse(prefix)? {
            Parsed::Head(head) => return Ok(*head),
            Parsed::More(wanted) => {
                let missing = u64::try_from(wanted.saturating_sub(prefix.len())).map_err(|_| PackageError::Size)?;
                if file.take(missing).read_to_end(prefix).await? == 0 {
                    return Err(EstateError::Content("the file ends early"));
                }
            }
        }
    }
}
