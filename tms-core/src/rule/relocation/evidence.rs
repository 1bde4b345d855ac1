//! Evidence, how it is weighed, and the case that it makes.

use crate::store::{Holder, KeyId, TerminalId};
use crate::transport::Trust;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// The most pieces of evidence of a case: the strongest.
pub const MAX_EVIDENCE: usize = 32;

/// How evidence is weighed, and from when on it is a case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Policy {
    /// Points that make a case.
    pub threshold: u32,
    /// For how long evidence must have been there without a break, in seconds …
    pub age: u64,
    /// … and in how many check-ins in a row, at least 1.
    pub sightings: u32,
    /// Points that make a case at once, whatever its age.
    pub certain: u32,
    /// The caller's number is another one, in another area.
    pub other_area: u32,
    /// The caller's number is another one, in the same area or in none.
    pub other_number: u32,
    /// Of the points for a number that the network does not vouch for, the percentage that counts.
    pub unscreened_percent: u32,
    /// The caller does not want to be known, or the network does not know it, though a number was recorded.
    pub withheld: u32,
    /// The terminal is configured with another number than the recorded one.
    pub claimed_number: u32,
    /// The terminal says another number than the network.
    pub contradiction: u32,
    /// The address is in another network.
    pub other_network: u32,
    /// The radio cell is another one.
    pub other_cell: u32,
    /// The SIM card is another one.
    pub other_sim: u32,
    /// The radio module is another one.
    pub other_module: u32,
    /// Two terminals say that they have one serial number.
    pub same_serial: u32,
    /// Two terminals have one key.
    pub same_key: u32,
    /// One terminal called from two places in less time than a person needs.
    pub two_places: u32,
    /// That time, in seconds.
    pub travel: u64,
    /// The call counter stood still or went back.
    pub counter_back: u32,
    /// The server saw something that one terminal alone does not do.
    pub suspected: u32,
}

impl Default for Policy {
    /// Another number is a case when it lasts for a day and three check-ins; another SIM card or cell alone is none.
    fn default() -> Self {
        Self {
            threshold: 60,
            age: 86_400,
            sightings: 3,
            certain: 150,
            other_area: 100,
            other_number: 60,
            unscreened_percent: 50,
            withheld: 20,
            claimed_number: 40,
            contradiction: 30,
            other_network: 30,
            other_cell: 40,
            other_sim: 40,
            other_module: 40,
            same_serial: 100,
            same_key: 150,
            two_places: 100,
            travel: 1_800,
            counter_back: 80,
            suspected: 80,
        }
    }
}

/// One piece of evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "evidence", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Evidence {
    /// It called from another number, which the access side observed.
    OtherNumber {
        /// That number.
        number: String,
        /// How far the network vouches for it.
        trust: Trust,
        /// It is in another area.
        other_area: bool,
    },
    /// Its number was withheld, or not known to the network.
    NoNumber,
    /// It is configured with another number.
    ClaimedNumber {
        /// That number.
        number: String,
    },
    /// It says another number than the network.
    Contradiction {
        /// What it says.
        claimed: String,
        /// What the network says.
        observed: String,
    },
    /// It called from another network.
    OtherNetwork {
        /// The address.
        address: IpAddr,
    },
    /// It says that it is in another radio cell.
    OtherCell {
        /// That cell.
        cell: String,
    },
    /// It says that it has another SIM card.
    OtherSim {
        /// That card's number.
        iccid: String,
    },
    /// It says that it has another radio module.
    OtherModule {
        /// That module's number.
        imei: String,
    },
    /// Two terminals have one serial number.
    SameSerial {
        /// The number, in its one form, with vendor and model.
        holder: Holder,
        /// The terminals, in ascending order.
        terminals: Vec<TerminalId>,
    },
    /// Two terminals have one key.
    SameKey {
        /// The key.
        key: KeyId,
        /// The terminals, in ascending order.
        terminals: Vec<TerminalId>,
    },
    /// It called from two places.
    TwoPlaces {
        /// The one.
        first: String,
        /// The other.
        second: String,
        /// Seconds between the calls.
        seconds: u64,
    },
    /// Its call counter stood still or went back.
    CounterBack {
        /// What it was.
        recorded: u32,
        /// What it is.
        reported: u32,
    },
    /// The server saw something that one terminal alone does not do: two calls at once, a counter that went back, another key.
    Suspected {
        /// What.
        what: String,
    },
}

/// Evidence with its points.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weighed {
    /// The evidence, as it was seen last.
    #[serde(flatten)]
    pub evidence: Evidence,
    /// What it counts.
    pub points: u32,
    /// Since when it is there without a break, in seconds since 1970 UTC.
    pub since: u64,
    /// In how many check-ins in a row.
    pub sightings: u32,
}

/// What a case is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaseKind {
    /// A terminal stands where it should not.
    Relocation,
    /// There seem to be two terminals with one identity.
    Clone,
}

/// What a case says. Who owns it and what became of it is the store's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaseData {
    /// What it is about.
    pub kind: CaseKind,
    /// The sum of the points.
    pub score: u32,
    /// The evidence, the strongest first.
    pub evidence: Vec<Weighed>,
    /// The check-in that it was last seen at, in seconds since 1970 UTC.
    pub seen: u64,
}

impl CaseData {
    /// What the server's suspicion of a clone comes to; `None` where the policy gives nothing for it.
    #[must_use]
    pub fn suspected(what: &str, now: u64, policy: &Policy) -> Option<Self> {
        let what = what.chars().filter(|letter| !letter.is_control()).take(200).collect();
        let weighed = Weighed {
            evidence: Evidence::Suspected { what },
            points: policy.suspected,
            since: now,
            sightings: 1,
        };
        Self::of(CaseKind::Clone, vec![weighed], now)
    }

    /// Without what the server says of it in words already: a counter that went back is in its own suspicion too.
    #[must_use]
    pub fn without_counter(self) -> Option<Self> {
        let mut evidence = self.evidence;
        evidence.retain(|weighed| !matches!(weighed.evidence, Evidence::CounterBack { .. }));
        Self::of(self.kind, evidence, self.seen)
    }

    /// `None` where nothing has points.
    pub(super) fn of(kind: CaseKind, mut evidence: Vec<Weighed>, seen: u64) -> Option<Self> {
        evidence.retain(|weighed| weighed.points > 0);
        evidence.sort_by(|one, other| other.points.cmp(&one.points).then(one.since.cmp(&other.since)));
        evidence.truncate(MAX_EVIDENCE);
        let score = evidence
            .iter()
            .map(|weighed| weighed.points)
            .fold(0, u32::saturating_add);
        (score > 0).then_some(Self {
            kind,
            score,
            evidence,
            seen,
        })
    }

    /// The open case, with what was seen since: the newer evidence in the place of the older of its sort, and the older
    /// where there is none.
    #[must_use]
    pub fn joined(&self, newer: &Self) -> Self {
        let same = |one: &Evidence, other: &Evidence| std::mem::discriminant(one) == std::mem::discriminant(other);
        let replaced = |old: &&Weighed| !newer.evidence.iter().any(|new| same(&new.evidence, &old.evidence));
        let kept = self.evidence.iter().filter(replaced).cloned();
        let newest = newer.evidence.iter().map(|new| {
            let old = self.evidence.iter().find(|old| same(&old.evidence, &new.evidence));
            Weighed {
                since: old.map_or(new.since, |old| old.since.min(new.since)),
                ..new.clone()
            }
        });
        let seen = self.seen.max(newer.seen);
        Self::of(self.kind, kept.chain(newest).collect(), seen).unwrap_or_else(|| self.clone())
    }
}
