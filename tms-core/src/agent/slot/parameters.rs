//! Parameter sets: each in a file that its digest names, and in force when the record says so.

use super::SlotDevice;
use super::record::{ParameterVersion, Record};
use crate::agent::device::{Content, DeviceError};
use crate::rule::template::Document;
use tms_proto::code::{ComponentKind, ResultCode};
use tms_proto::digest::Digest;
use tms_proto::message::{MAX_PARAMETER_SET, ParameterSet};
use tms_proto::tlv::Structure;
use zeroize::Zeroizing;

impl SlotDevice {
    /// The parameters of this name that are in force.
    ///
    /// # Errors
    /// Where the memory fails, or what is in it is damaged.
    pub async fn parameters(&self, name: &str) -> Result<Option<Document>, DeviceError> {
        let record = self.record.lock().await;
        match record.parameters.get(name) {
            Some(version) => self.document(version).await.map(Some),
            None => Ok(None),
        }
    }

    /// Somebody changes a parameter at the terminal, at `time` by its clock, in seconds since 1970 UTC.
    ///
    /// # Errors
    /// [`ResultCode::UnknownReference`] where there is no such parameter, or where the memory fails.
    pub async fn change_on_site(&self, name: &str, parameter: &str, value: &str, time: u64) -> Result<(), DeviceError> {
        let unknown = || DeviceError::new(ResultCode::UnknownReference, "no such parameter");
        let mut record = self.record.lock().await;
        let version = record.parameters.get(name).ok_or_else(unknown)?;
        let mut document = self.document(version).await?;
        let changed = document.parameters.iter_mut().find(|other| other.name == parameter);
        changed.ok_or_else(unknown)?.value = value.to_owned();
        let content = Zeroizing::new(document.to_vec());
        self.put(&mut record, name, &content, Some(time)).await
    }

    pub(super) async fn put_parameters(&self, name: &str, content: &Content) -> Result<(), DeviceError> {
        let most = usize::try_from(MAX_PARAMETER_SET).unwrap_or(usize::MAX);
        let mut read = Zeroizing::new(Vec::new());
        while read.len() < most {
            let offset = u64::try_from(read.len()).unwrap_or(u64::MAX);
            let bytes = content.read(offset, most.saturating_sub(read.len())).await?;
            if bytes.is_empty() {
                break;
            }
            read.extend_from_slice(&bytes);
        }
        if Document::decode(&read).is_err() {
            return Err(DeviceError::new(
                ResultCode::HardwareError,
                "what was read is no parameter set",
            ));
        }
        let mut record = self.record.lock().await;
        self.put(&mut record, name, &read, None).await
    }

    /// Writes the file, and then the record that names it: the parameters change in that moment.
    async fn put(
        &self,
        record: &mut Record,
        name: &str,
        content: &[u8],
        changed: Option<u64>,
    ) -> Result<(), DeviceError> {
        let version = ParameterVersion {
            digest: Digest::of(content),
            size: u64::try_from(content.len()).unwrap_or(u64::MAX),
            changed,
        };
        self.flash.replace(&file(&version.digest), content).await?;
        let before = record.parameters.insert(name.to_owned(), version);
        if let Err(error) = self.save(record).await {
            // The flash still says what was in force before.
            match before {
                Some(before) => record.parameters.insert(name.to_owned(), before),
                None => record.parameters.remove(name),
            };
            return Err(error);
        }
        let named: Vec<String> = record.parameters.values().map(|other| file(&other.digest)).collect();
        for other in self.flash.names().await? {
            if other.starts_with(PREFIX) && !named.contains(&other) {
                self.flash.remove(&other).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn broken_parameters(&self, record: &Record) -> Result<Vec<String>, DeviceError> {
        let mut broken = Vec::new();
        for (name, version) in &record.parameters {
            if self.document(version).await.is_err() {
                broken.push(name.clone());
            }
        }
        Ok(broken)
    }

    async fn document(&self, version: &ParameterVersion) -> Result<Document, DeviceError> {
        let damaged = || DeviceError::new(ResultCode::HardwareError, "parameters are damaged in memory");
        let most = usize::try_from(version.size).unwrap_or(usize::MAX);
        let content = self.flash.read(&file(&version.digest), 0, most).await?;
        if Digest::of(&content) != version.digest {
            return Err(damaged());
        }
        Document::decode(&content).map_err(|_| damaged())
    }
}

/// The sets that are in force, as the inventory lists them. A set has no version but its digest.
pub(super) fn listed(record: &Record) -> Vec<ParameterSet> {
    let sets = record.parameters.iter().map(|(name, version)| ParameterSet {
        name: name.clone(),
        kind: ComponentKind::ApplicationParameters,
        version: version.digest.short().to_string(),
        digest: version.digest,
        changed_on_site: version.changed.map(|_| true),
        changed_at: version.changed,
    });
    sets.collect()
}

const PREFIX: &str = "param.";

fn file(digest: &Digest) -> String {
    format!("{PREFIX}{digest}")
}
