//! The key that seals secret parameters, and going over to another version of it.
//!
//! Two operators say which version seals. From then on whatever is written is sealed by it, and what is there already is sealed
//! anew some layers at a time: all versions of all layers, for tasks and assignments may have pinned any of them. What a
//! terminal gets does not change by that. An old version opens what it has sealed for as long as its key is there; when all is
//! sealed anew the key may go.

use super::parameters::{LayerVersion, ParameterError};
use super::rollup::put;
use super::{ATTEMPTS, Estate, EstateError, list};
use crate::custody::SecretPlace;
use crate::rule::template::{Layer, Sealed, Value};
use crate::store::{Change, Entity, Kind, Query, StoreError, Versioned};
use serde::{Deserialize, Serialize};

/// The most layers that are looked at in one commit.
const BATCH: u32 = 256;

/// Which version of the parameter key seals, and how far what is there was sealed anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParameterKeyUse {
    /// The version.
    pub version: u32,
    /// Not everything that is there is sealed by it yet.
    #[serde(default)]
    pub sealing: bool,
    /// The last layer that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// How many layers were sealed anew.
    #[serde(default)]
    pub sealed: u64,
}

impl ParameterKeyUse {
    const ID: &'static str = "estate";
}

impl Default for ParameterKeyUse {
    fn default() -> Self {
        Self {
            version: 1,
            sealing: false,
            after: None,
            sealed: 0,
        }
    }
}

impl Entity for ParameterKeyUse {
    const KIND: Kind = Kind::named("parameter_key");

    fn id(&self) -> String {
        Self::ID.to_owned()
    }
}

impl Estate {
    /// Which version of the parameter key seals, and whether everything is sealed by it: only then may older ones go.
    ///
    /// # Errors
    /// [`EstateError::Store`].
    pub async fn parameter_key(&self) -> Result<ParameterKeyUse, EstateError> {
        Ok(self.key_use().await?.1)
    }

    /// Seals at most `limit` and at most 256 layers anew, in one commit, and gives how many were looked at. To be called from
    /// time to time, by any number of nodes, and again at once while it is not zero.
    ///
    /// # Errors
    /// [`EstateError::Store`]; [`EstateError::Parameters`] where a secret cannot be opened or sealed.
    pub async fn advance_parameter_key(&self, limit: u32) -> Result<u32, EstateError> {
        let limit = limit.clamp(1, BATCH);
        for _ in 0..ATTEMPTS {
            let (version, mut standing) = self.key_use().await?;
            if !standing.sealing {
                return Ok(0);
            }
            let query = Query::Documents {
                kind: LayerVersion::KIND,
                prefix: String::new(),
                after: standing.after.take(),
            };
            let page = list::<LayerVersion>(&*self.store, &query, limit).await?;
            let count = u32::try_from(page.len()).unwrap_or(u32::MAX);
            standing.sealing = count >= limit;
            standing.after = page.last().map(|last| last.record.id()).filter(|_| standing.sealing);
            let mut changes = Vec::new();
            for Versioned { version, mut record } in page {
                let template = record.template.clone();
                if self.seal_anew(&template, &mut record.layer, standing.version).await? {
                    standing.sealed = standing.sealed.saturating_add(1);
                    changes.push(put(Some(version), &record)?);
                }
            }
            changes.push(put(version, &standing)?);
            match self.store.commit(changes).await {
                Err(StoreError::Conflict) => {}
                // the end of it is not the end of all
                done => return Ok(done.map(|()| count.max(1))?),
            }
        }
        Err(StoreError::Conflict.into())
    }

    /// What has the estate seal by another version from now on.
    pub(super) async fn key_changes(&self, version: u32) -> Result<Vec<Change>, EstateError> {
        let (before, standing) = self.key_use().await?;
        if standing.version == version {
            return Err(EstateError::Invalid("version", "seals already"));
        }
        let keeper = self.secrets.as_ref().ok_or(ParameterError::NoKey)?;
        if version == 0 || !keeper.has(version).await.map_err(ParameterError::from)? {
            return Err(EstateError::Unknown(
                "version of the parameter key",
                version.to_string(),
            ));
        }
        let standing = ParameterKeyUse {
            version,
            sealing: true,
            ..ParameterKeyUse::default()
        };
        Ok(vec![put(before, &standing)?])
    }

    /// The version that seals.
    pub(super) async fn sealing_version(&self) -> Result<u32, StoreError> {
        Ok(self.key_use().await?.1.version)
    }

    /// The version that seals a layer that is about to be written, and what the commit says of it: that it is still this one.
    pub(super) async fn key_for(&self, layer: &Layer) -> Result<(u32, Vec<Change>), StoreError> {
        let (version, standing) = self.key_use().await?;
        let secret = layer.values.values().any(|value| matches!(value, Value::Sealed(_)));
        let changes = if secret {
            vec![put(version, &standing)?]
        } else {
            Vec::new()
        };
        Ok((standing.version, changes))
    }

    /// Seals the secrets of a layer by this version where another has sealed them. Whether there were any.
    pub(super) async fn seal_anew(
        &self,
        template: &str,
        layer: &mut Layer,
        version: u32,
    ) -> Result<bool, ParameterError> {
        let mut any = false;
        for (parameter, value) in &mut layer.values {
            let Value::Sealed(sealed) = value else { continue };
            if sealed.key == version {
                continue;
            }
            let scope = &layer.scope;
            let place = SecretPlace {
                template,
                parameter,
                scope,
            };
            *sealed = self.sealed_anew(place, sealed, version).await?;
            any = true;
        }
        Ok(any)
    }

    async fn sealed_anew(
        &self,
        place: SecretPlace<'_>,
        sealed: &Sealed,
        version: u32,
    ) -> Result<Sealed, ParameterError> {
        let keeper = self.secrets.as_ref().ok_or(ParameterError::NoKey)?;
        let opened = keeper.open(place, sealed).await?;
        Ok(keeper.seal(version, place, &opened).await?)
    }

    async fn key_use(&self) -> Result<(Option<u64>, ParameterKeyUse), StoreError> {
        let found = self.versioned::<ParameterKeyUse>(ParameterKeyUse::ID).await?;
        Ok(found.map_or_else(
            || (None, ParameterKeyUse::default()),
            |found| (Some(found.version), found.record),
        ))
    }
}
