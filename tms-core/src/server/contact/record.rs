//! What is recorded of policies, accesses and what is given out of them.

use crate::rule::policy::{CheckInPolicy, Class};
use crate::rule::slot::{Access, Load};
use crate::store::{BranchPath, Entity, Kind};
use serde::{Deserialize, Serialize};

/// When the terminals of a class check in, and by which access.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassPolicy {
    /// Its name: 1 to 40 letters, digits, dots, dashes or underscores.
    pub name: String,
    /// For whom: of several that cover a terminal the one counts that says most, and of equals the first by name.
    pub class: Class,
    /// When.
    pub policy: CheckInPolicy,
    /// The access that they call, by its name; none where nothing limits them, as on a network: then their calls are only
    /// spread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<String>,
}

/// Where terminals call: an access number with its lines, or an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessPoint {
    /// Its name: 1 to 40 letters, digits, dots, dashes or underscores.
    pub name: String,
    /// The branch that keeps it: who may plan there may change what it carries.
    pub branch: BranchPath,
    /// The numbers to dial, or the endpoints, in the order in which terminals are to try them. They change only by two
    /// operators.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// What it carries.
    pub capacity: Access,
}

/// What was given out of one quarter of an hour of an access: a counter of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct QuarterLoad {
    pub(super) access: String,
    /// Seconds since 1970 UTC divided by 900.
    pub(super) quarter: u64,
    pub(super) load: Load,
}

/// That terminals called by an access, so that it shows when none could.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Alive {
    pub(super) access: String,
    /// When one called last, to within a minute, in seconds since 1970 UTC.
    pub(super) at: u64,
    /// Until then those that an outage kept from calling come back.
    pub(super) catching_up: u64,
}

impl Entity for ClassPolicy {
    const KIND: Kind = Kind::named("check_in_policy");

    fn id(&self) -> String {
        self.name.clone()
    }

    fn marks(&self) -> Vec<(&'static str, String)> {
        vec![("branch", self.class.branch.to_string())]
    }
}

impl Entity for AccessPoint {
    const KIND: Kind = Kind::named("access");

    fn id(&self) -> String {
        self.name.clone()
    }

    fn marks(&self) -> Vec<(&'static str, String)> {
        vec![("branch", self.branch.to_string())]
    }
}

impl QuarterLoad {
    /// How the ids of an access's quarters begin. No name has this sign.
    pub(super) fn ids_of(access: &str) -> String {
        format!("{access}@")
    }

    pub(super) fn id_of(access: &str, quarter: u64) -> String {
        format!("{access}@{quarter:020}")
    }
}

impl Entity for QuarterLoad {
    const KIND: Kind = Kind::named("slot_load");

    fn id(&self) -> String {
        Self::id_of(&self.access, self.quarter)
    }
}

impl Entity for Alive {
    const KIND: Kind = Kind::named("access_alive");

    fn id(&self) -> String {
        self.access.clone()
    }
}
