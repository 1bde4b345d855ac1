//! Key loads: which keys were put into a PIN pad, by their check values. Never a key.

use super::access::{Actor, Permission};
use super::audit::Deed;
use super::rollup::put;
use super::{Estate, EstateError, decided, list};
use crate::store::{BranchPath, Caller, Entity, Kind, Query, Terminal, TerminalId};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The most keys of one load.
const MAX_KEYS: usize = 64;

/// The most bytes of a check value: what is longer could be a key.
const MAX_CHECK_VALUE: usize = 5;

/// The most loads that are given of one terminal.
const MAX_LOADS: u32 = 1_000;

/// A key that was loaded, by all that may be known of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadedKey {
    /// Slot number.
    pub slot: u16,
    /// Key version.
    pub version: u8,
    /// Usage, as the two characters of a TR-31 header.
    pub usage: String,
    /// Key check value, 2 to 5 bytes in hexadecimal.
    pub check_value: String,
}

/// That keys were loaded into a terminal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyLoad {
    /// Which terminal.
    pub terminal: TerminalId,
    /// How many loads of it were recorded before.
    pub number: u32,
    /// The branch that it belonged to.
    pub branch: BranchPath,
    /// When it was recorded, in seconds since 1970 UTC.
    pub time: u64,
    /// Who recorded it.
    pub operator: String,
    /// Who loaded the keys, and where: a key room, a device, a protocol of two people.
    pub custodian: String,
    /// The epoch of the main-control key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u32>,
    /// The keys.
    pub keys: Vec<LoadedKey>,
}

impl KeyLoad {
    /// What a person says of a load: the rest is found out when it is recorded.
    #[must_use]
    pub fn of(custodian: String, epoch: Option<u32>, keys: Vec<LoadedKey>) -> Self {
        Self {
            terminal: TerminalId(0),
            number: 0,
            branch: BranchPath::head_office(),
            time: 0,
            operator: String::new(),
            custodian,
            epoch,
            keys,
        }
    }

    fn prefix(terminal: TerminalId) -> String {
        format!("{terminal}/")
    }
}

impl Entity for KeyLoad {
    const KIND: Kind = Kind::named("key_load");

    fn id(&self) -> String {
        // the newest first
        let place = u32::MAX.saturating_sub(self.number);
        format!("{}{place:010}", Self::prefix(self.terminal))
    }
}

impl Estate {
    /// Records that keys were loaded into a terminal.
    ///
    /// # Errors
    /// [`EstateError::Denied`]; [`EstateError::UnknownTerminal`]; [`EstateError::Invalid`] where the load is none of this terminal.
    pub async fn record_key_load(
        &self,
        actor: &Actor,
        terminal: &Caller,
        load: KeyLoad,
    ) -> Result<KeyLoad, EstateError> {
        decided(|| async {
            let terminal = self.known(terminal).await?.terminal.record;
            let branch = self.branch_of(terminal.id).await?;
            actor.demand(Permission::Enrol, &branch)?;
            let load = self.key_load(actor, &terminal, branch, load.clone()).await?;
            let deed = Deed {
                act: "terminal.key_load",
                subject: terminal.id.to_string(),
                branch: load.branch.clone(),
                detail: json!(load),
            };
            self.commit(actor, &deed, vec![put(None, &load)?]).await?;
            Ok(load)
        })
        .await
    }

    /// The key loads of a terminal that the actor may see, the newest first and at most 1,000.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn key_loads(&self, actor: &Actor, terminal: TerminalId) -> Result<Vec<KeyLoad>, EstateError> {
        let query = Query::Documents {
            kind: KeyLoad::KIND,
            prefix: KeyLoad::prefix(terminal),
            after: None,
        };
        let mut found: Vec<KeyLoad> = self.documents(&query, MAX_LOADS).await?;
        found.retain(|load| actor.may(Permission::View, &load.branch));
        Ok(found)
    }

    /// The record of a load, checked and numbered.
    pub(super) async fn key_load(
        &self,
        actor: &Actor,
        terminal: &Terminal,
        branch: BranchPath,
        load: KeyLoad,
    ) -> Result<KeyLoad, EstateError> {
        super::branch::text("custodian", &load.custodian, 200)?;
        if load.epoch != terminal.main_key_epoch {
            return Err(EstateError::Invalid("epoch", "is not that of the terminal"));
        }
        if !(1..=MAX_KEYS).contains(&load.keys.len()) {
            return Err(EstateError::Invalid("keys", "must be 1 to 64"));
        }
        for key in &load.keys {
            let usage = key.usage.len() == 2 && key.usage.bytes().all(|byte| byte.is_ascii_alphanumeric());
            if !usage {
                return Err(EstateError::Invalid("usage", "must be two letters or digits"));
            }
            let check_value = hex::decode(&key.check_value).unwrap_or_default();
            if !(2..=MAX_CHECK_VALUE).contains(&check_value.len()) {
                return Err(EstateError::Invalid(
                    "check value",
                    "must be 2 to 5 bytes in hexadecimal",
                ));
            }
        }
        let query = Query::Documents {
            kind: KeyLoad::KIND,
            prefix: KeyLoad::prefix(terminal.id),
            after: None,
        };
        let last = list::<KeyLoad>(&*self.store, &query, 1).await?;
        Ok(KeyLoad {
            terminal: terminal.id,
            number: last.first().map_or(0, |last| last.record.number.saturating_add(1)),
            branch,
            time: self.clock.now(),
            operator: actor.name().to_owned(),
            ..load
        })
    }
}
