//! Whether a package may be installed here (§11.4), whatever the server said of it.

use super::Options;
use super::action::{Coded, Held};
use super::device::{Device, DeviceError};
use super::journal::{Notebook, object_name};
use super::timeline::Now;
use bytes::Bytes;
use std::borrow::Cow;
use tms_proto::code::{Representation, ResultCode};
use tms_proto::identity::Holder;
use tms_proto::message::{Action, Inventory};
use tms_proto::package::{
    BlockMap, ContentCheck, Installed, MAX_SIGNED, PackageError, SignedGrant, SignedManifest, Target, TrustStore,
    VerifiedManifest,
};

/// How much is read at a time to hash a content.
const CHUNK: usize = 64 * 1024;

/// Why a package is not installed, and how it is reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) code: ResultCode,
    pub(super) text: String,
    /// It may be installed later: its time has not come, or what it depends on.
    pub(super) later: bool,
}

impl Refused {
    pub(super) fn new(code: ResultCode, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
            later: false,
        }
    }
}

impl From<PackageError> for Refused {
    fn from(error: PackageError) -> Self {
        let later = matches!(error, PackageError::NotYetValid | PackageError::Dependency(_));
        let code = match error {
            PackageError::NotYetValid => ResultCode::WindowClosed,
            other => other.code(),
        };
        Self {
            code,
            text: error.to_string(),
            later,
        }
    }
}

impl From<DeviceError> for Refused {
    fn from(error: DeviceError) -> Self {
        Self::new(error.code, error.text)
    }
}

/// The terminal that packages are checked for.
pub(super) struct Gate<'a> {
    pub(super) trust: &'a TrustStore,
    pub(super) holder: &'a Holder,
    pub(super) inventory: &'a Inventory,
    pub(super) installed: &'a [Installed],
    pub(super) removed: &'a [Installed],
    pub(super) now: Now,
    pub(super) options: &'a Options,
}

impl Gate<'_> {
    /// Checks a signed manifest before its content is downloaded: what may come right meanwhile is passed over.
    pub(super) fn check_for_download(&self, manifest: &[u8], action: &Action) -> Result<VerifiedManifest, Refused> {
        // A package whose time has not come is checked as if it had, and then what it depends on may still be missing.
        match self.check(manifest, action) {
            Err(refused) if refused.later => match self.check_at(manifest, action, None) {
                Err(refused) if refused.later => {
                    let signed = SignedManifest::decode(manifest).map_err(PackageError::from)?;
                    Ok(signed.verify(self.trust, None)?)
                }
                other => other,
            },
            other => other,
        }
    }

    /// Checks a signed manifest against all that is known: signatures, time, target, counter, version, dependencies, and
    /// that the plan names the content that the manifest names.
    pub(super) fn check(&self, manifest: &[u8], action: &Action) -> Result<VerifiedManifest, Refused> {
        self.check_at(manifest, action, self.now.time)
    }

    /// As [`check`](Self::check), with the manifest's validity judged at `time`, or not at all.
    fn check_at(&self, manifest: &[u8], action: &Action, time: Option<u64>) -> Result<VerifiedManifest, Refused> {
        let signed = SignedManifest::decode(manifest).map_err(PackageError::from)?;
        let verified = signed.verify(self.trust, time)?;
        let manifest = verified.manifest();
        // Without the time, what ended before a server last told it has ended (freeze).
        if manifest.expiry.is_some_and(|end| self.now.is_past(end)) {
            return Err(PackageError::Expired.into());
        }
        let whole = action.representation.is_none_or(|form| form == Representation::Whole);
        let another = if whole {
            action.object.is_some_and(|object| object != manifest.digest)
                || action.size.is_some_and(|size| size != manifest.size)
        } else {
            // What comes of a representation is verified when it is decoded. It is there to be smaller.
            action.size.is_none_or(|size| size >= manifest.size)
        };
        if another
            || action
                .component
                .as_ref()
                .is_some_and(|component| *component != manifest.component)
        {
            return Err(Refused::new(ResultCode::InvalidContent, "plan and manifest differ"));
        }
        if manifest.size > self.options.max_object {
            return Err(Refused::new(ResultCode::NoSpace, "content is larger than allowed"));
        }
        if manifest.size > BlockMap::NOT_BELOW && manifest.block_map.is_none() {
            return Err(Refused::new(
                ResultCode::InvalidContent,
                "content of this size needs a block map",
            ));
        }
        // A version that came with the terminal was never installed by the agent: its counter stands in the inventory.
        let known = self
            .installed
            .iter()
            .any(|installed| installed.component == manifest.component);
        let factory = self
            .inventory
            .components
            .iter()
            .find(|component| component.id == manifest.component);
        let factory = factory.and_then(|factory| factory.counter).filter(|_| !known);
        if let Some(installed) = factory.filter(|installed| manifest.counter < *installed) {
            self.granted(
                &verified,
                action,
                PackageError::Counter {
                    offered: manifest.counter,
                    installed,
                },
            )?;
        }
        let installed = self.bound_by(manifest);
        match verified.check(self.trust, &self.target(&installed), None) {
            Err(back @ (PackageError::Counter { .. } | PackageError::Version)) => {
                self.granted(&verified, action, back)?;
            }
            other => other?,
        }
        Ok(verified)
    }

    fn target<'b>(&'b self, installed: &'b [Installed]) -> Target<'b> {
        Target {
            holder: self.holder,
            hardware: self.inventory.hardware.as_deref(),
            installed,
        }
    }

    /// What is installed, and the package's own component where that was removed: of it only the security counter binds, for
    /// removing a version must be no way to a lower one.
    fn bound_by(&self, manifest: &tms_proto::package::Manifest) -> Cow<'_, [Installed]> {
        let own = |installed: &&Installed| installed.component == manifest.component;
        match self.removed.iter().find(own) {
            Some(removed) if !self.installed.iter().any(|installed| own(&installed)) => {
                let order = manifest.order;
                let removed = Installed {
                    order,
                    ..removed.clone()
                };
                let all = self.installed.iter().cloned().chain([removed]);
                Cow::Owned(all.collect())
            }
            _ => Cow::Borrowed(self.installed),
        }
    }

    /// Checks the grant by which a version may go back (§11.5): signed, for this terminal alone, and only by a clock.
    fn granted(&self, verified: &VerifiedManifest, action: &Action, back: PackageError) -> Result<(), Refused> {
        let Some((grant, time)) = action.grant.as_ref().zip(self.now.time) else {
            return Err(back.into());
        };
        let grant = SignedGrant::decode(grant)
            .map_err(PackageError::from)?
            .verify(self.trust, time)?;
        let installed = self.bound_by(verified.manifest());
        verified.check(self.trust, &self.target(&installed), Some(&grant))?;
        // What `check` does not see, because it compares only what the agent installed.
        let given = grant.grant();
        let covered = given.holder == *self.holder
            && given.component == verified.manifest().component
            && verified.manifest().counter >= given.min_counter;
        if covered {
            Ok(())
        } else {
            Err(PackageError::Grant.into())
        }
    }
}

/// The manifest of an action, from the memory.
pub(super) async fn manifest(notebook: &Notebook, held: &Held) -> Result<Option<Bytes>, DeviceError> {
    match held.action.manifest {
        Some(digest) => Ok(notebook.object(&digest, MAX_SIGNED).await?),
        None => Ok(None),
    }
}

/// Reads a content back from the memory, and compares size and digest with its manifest: what was downloaded is not yet
/// what is there.
pub(super) async fn check_content(
    notebook: &Notebook,
    manifest: &tms_proto::package::Manifest,
) -> Result<bool, DeviceError> {
    let name = object_name(&manifest.digest);
    if notebook.flash.size(&name).await? != Some(manifest.size) {
        return Ok(false);
    }
    let mut check = ContentCheck::new(manifest);
    let mut offset = 0;
    while check.left() > 0 {
        let bytes = notebook.flash.read(&name, offset, CHUNK).await?;
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if length == 0 || check.update(&bytes).is_err() {
            return Ok(false);
        }
        offset = offset.saturating_add(length);
    }
    Ok(check.finish().is_ok())
}

/// Checks that there is room for what is still to come of a content, for what it is decoded to, and for its installation
/// beside the running version, before the first byte.
pub(super) async fn check_space(
    notebook: &Notebook,
    device: &Device,
    options: &Options,
    manifest: &tms_proto::package::Manifest,
    coded: Option<&Coded>,
) -> Result<(), DeviceError> {
    let mut held = notebook.flash.size(&object_name(&manifest.digest)).await?.unwrap_or(0);
    let beside = match coded {
        Some(coded) => {
            held = held.saturating_add(notebook.flash.size(&object_name(&coded.object)).await?.unwrap_or(0));
            coded.size
        }
        None => manifest.block_map.map_or(0, |map| u64::from(map.size)),
    };
    let install = device.installer.space(&manifest.component, manifest.size).await?;
    let to_come = manifest.size.saturating_add(beside).saturating_sub(held);
    let needed = to_come.saturating_add(install).saturating_add(options.reserve);
    let free = notebook.flash.free().await?;
    if needed > free {
        return Err(DeviceError::new(
            ResultCode::NoSpace,
            format_args!("{needed} bytes needed, {free} free"),
        ));
    }
    Ok(())
}
