//! Whose signatures the estate demands of packages.
//!
//! An estate begins with the trust store that it is given: the one built into its terminals. Newer ones, signed by the present
//! root and by the new one, are taken in by two operators and kept as a record; of both the one of the higher version counts.

use super::{Estate, EstateError};
use crate::store::{Change, Entity, Kind, StoreError};
use serde::{Deserialize, Serialize};
use tms_proto::package::{SignedTrust, TrustStore};

/// The trust store that was taken in last.
#[derive(Serialize, Deserialize)]
struct TrustRecord {
    version: u64,
    /// As it was signed, encoded, in hexadecimal.
    signed: String,
}

impl TrustRecord {
    const ID: &'static str = "estate";

    fn trust(&self) -> Result<TrustStore, StoreError> {
        let corrupt = || StoreError::Corrupt("the estate's trust store".to_owned());
        let signed = decode(&self.signed).map_err(|_| corrupt())?;
        // its signatures were verified when it was taken in
        let trust = signed.unverified();
        (trust.version == self.version)
            .then(|| trust.clone())
            .ok_or_else(corrupt)
    }
}

impl Entity for TrustRecord {
    const KIND: Kind = Kind::named("trust");

    fn id(&self) -> String {
        Self::ID.to_owned()
    }
}

impl Estate {
    /// Whose signatures packages need: of the trust store that was given and the one that was taken in, the newer.
    ///
    /// # Errors
    /// [`EstateError::Store`].
    pub async fn trust(&self) -> Result<TrustStore, EstateError> {
        Ok(self.versioned_trust().await?.1)
    }

    /// That a signed trust store takes the place of the present one.
    pub(super) async fn trust_changes(&self, signed: &str) -> Result<Vec<Change>, EstateError> {
        let (version, present) = self.versioned_trust().await?;
        let new = present.update(&decode(signed)?)?;
        let record = TrustRecord {
            version: new.version,
            signed: signed.to_owned(),
        };
        Ok(vec![super::rollup::put(version, &record)?])
    }

    async fn versioned_trust(&self) -> Result<(Option<u64>, TrustStore), EstateError> {
        let Some(found) = self.versioned::<TrustRecord>(TrustRecord::ID).await? else {
            return Ok((None, self.trust.clone()));
        };
        let taken_in = found.record.trust()?;
        let newer = if taken_in.version > self.trust.version {
            taken_in
        } else {
            self.trust.clone()
        };
        Ok((Some(found.version), newer))
    }
}

fn decode(text: &str) -> Result<SignedTrust, EstateError> {
    let bytes = hex::decode(text).map_err(|_| EstateError::Invalid("trust store", "must be hexadecimal"))?;
    Ok(SignedTrust::decode(&bytes)?)
}
