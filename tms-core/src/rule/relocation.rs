//! Relocation and clones: whether a terminal stands where it was registered, and whether there is more than one of it.
//!
//! What the access side observed and what the terminal claims are kept apart, and weigh differently. Nothing here blocks
//! anybody: the result is a [`CaseData`], for a person to look at.

mod duplicate;
mod evidence;

pub use duplicate::{Identity, duplicates, twice};
pub use evidence::{CaseData, CaseKind, Evidence, MAX_EVIDENCE, Policy, Weighed};

use super::number::{DialPlan, Number, NumberRange, TrunkGroup};
use crate::transport::{CallerNumber, PeerInfo, Trust};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use tms_proto::message::Location;

/// The most sightings that are looked at: the newest.
pub const MAX_SIGHTINGS: usize = 64;

/// Where a terminal was at one check-in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    /// When it began, in seconds since 1970 UTC.
    pub time: u64,
    /// Its call counter.
    pub contact: u32,
    /// What the access side observed.
    pub observed: Observed,
    /// What the terminal says of itself.
    #[serde(default)]
    pub claimed: Location,
}

/// What the access side observed of a call.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Observed {
    /// The caller, on a telephone line that tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller: Option<ObservedCaller>,
    /// The number that was called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub called: Option<String>,
    /// The line that it came in on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<String>,
    /// The address that it came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
}

impl Observed {
    /// Whether nothing was.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// What of it says where the caller is. Of the lines of a pool a call takes any.
    #[must_use]
    pub const fn place(&self) -> (Option<&ObservedCaller>, Option<&IpAddr>) {
        (self.caller.as_ref(), self.address.as_ref())
    }
}

/// A caller, as a line tells of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObservedCaller {
    /// Its number, as it was told.
    Known {
        /// The number.
        number: String,
        /// How far the telephone network vouches for it.
        trust: Trust,
    },
    /// It does not want to be known.
    Withheld,
    /// The network does not know it.
    OutOfArea,
}

impl From<&PeerInfo> for Observed {
    fn from(peer: &PeerInfo) -> Self {
        let caller = peer.caller.as_ref().map(|caller| match &caller.number {
            CallerNumber::Known(number) => ObservedCaller::Known {
                number: number.to_string(),
                trust: caller.trust,
            },
            CallerNumber::Withheld => ObservedCaller::Withheld,
            CallerNumber::OutOfArea => ObservedCaller::OutOfArea,
        });
        Self {
            caller,
            called: peer.called.as_ref().map(ToString::to_string),
            line: peer.line.clone(),
            address: peer.address.map(|address| address.ip().to_canonical()),
        }
    }
}

/// Where a terminal may be: what was recorded at its registration, or approved since. What is empty says nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Place {
    /// Its telephone numbers.
    pub numbers: Vec<Number>,
    /// Exchanges and bundles of lines that it may call through.
    pub groups: Vec<TrunkGroup>,
    /// Networks that it may call from.
    pub networks: Vec<IpNet>,
    /// Radio cells.
    pub cells: Vec<String>,
    /// SIM cards, by their numbers.
    pub iccids: Vec<String>,
    /// Radio modules, by their numbers.
    pub imeis: Vec<String>,
}

impl Place {
    /// The place of a terminal that is where it belongs. What it says of its number counts only where the line told none; a number
    /// that cannot be read is none.
    #[must_use]
    pub fn of(observed: &Observed, claimed: &Location, plan: &DialPlan) -> Self {
        let told = match &observed.caller {
            Some(ObservedCaller::Known { number, .. }) => Some(number.as_str()),
            _ => None,
        };
        let number = told.or(claimed.caller.as_deref());
        let word = |word: &Option<String>| word.as_deref().map(short).into_iter().collect();
        Self {
            numbers: number.and_then(|number| plan.number(number).ok()).into_iter().collect(),
            groups: Vec::new(),
            networks: observed.address.map(network_of).into_iter().collect(),
            cells: word(&claimed.cell),
            iccids: word(&claimed.iccid),
            imeis: word(&claimed.imei),
        }
    }

    /// Adds what another place has and this one has not.
    pub fn add(&mut self, other: Self) {
        fn join<T: PartialEq>(known: &mut Vec<T>, more: Vec<T>) {
            for one in more {
                if !known.contains(&one) {
                    known.push(one);
                }
            }
        }
        join(&mut self.numbers, other.numbers);
        join(&mut self.groups, other.groups);
        join(&mut self.networks, other.networks);
        join(&mut self.cells, other.cells);
        join(&mut self.iccids, other.iccids);
        join(&mut self.imeis, other.imeis);
    }
}

/// The network of a subscriber: providers give out other addresses of it from time to time.
fn network_of(address: IpAddr) -> IpNet {
    let address = address.to_canonical();
    let length = if address.is_ipv4() { 24 } else { 64 };
    IpNet::new(address, length).map_or_else(|_| address.into(), |network| network.trunc())
}

/// What is known of where a terminal may be.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Home {
    /// Where it was registered.
    pub place: Place,
    /// When, in seconds since 1970 UTC: what was seen before says nothing.
    pub since: u64,
    /// It goes about with its merchant: numbers, networks and cells say nothing of it. Its SIM card and its radio module do.
    pub mobile: bool,
    /// Moves that were approved.
    pub moves: Vec<Move>,
}

/// An approved move: in its time the terminal may be at the other place too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// From, in seconds since 1970 UTC.
    pub from: u64,
    /// Until: the first second after it.
    pub until: u64,
    /// Where to.
    pub to: Place,
}

/// Numbers and networks that say nothing of any terminal: depots, test benches, shared access.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct WhiteList {
    /// Numbers.
    pub numbers: Vec<NumberRange>,
    /// Networks.
    pub networks: Vec<IpNet>,
}

/// What the sightings of a terminal say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Assessment {
    /// Nothing, or too little.
    Quiet,
    /// Something that is no case yet: it has to last, or to become more.
    Watch(CaseData),
    /// A case: to be opened, or to be added to the one that is open.
    Case(CaseData),
}

/// Weighs where a terminal was seen against where it may be. `sightings` are in the order of time; the newest counts, and
/// the older ones say for how long it has been so. `plan` is that of the place where the numbers were observed.
#[must_use]
pub fn assess(home: &Home, white: &WhiteList, sightings: &[Sighting], plan: &DialPlan, policy: &Policy) -> Assessment {
    let skipped = sightings.len().saturating_sub(MAX_SIGHTINGS);
    let counted = sightings
        .iter()
        .skip(skipped)
        .filter(|sighting| sighting.time >= home.since);
    let look = Look {
        home,
        white,
        plan,
        policy,
    };
    // By the kind of evidence: a second number that is not the recorded one goes on from the first.
    let mut standing: BTreeMap<Feature, Weighed> = BTreeMap::new();
    let mut seen = 0;
    for sighting in counted {
        seen = sighting.time;
        let mut next = BTreeMap::new();
        for (feature, points, evidence) in look.at(sighting) {
            let before = standing.get(&feature);
            let weighed = Weighed {
                evidence,
                points,
                since: before.map_or(sighting.time, |before| before.since),
                sightings: before.map_or(0, |before| before.sightings).saturating_add(1),
            };
            next.insert(feature, weighed);
        }
        // A check-in over another link shows nothing of what the first link showed, and ends nothing of it.
        for (feature, weighed) in standing {
            if !look.can_see(feature, sighting) {
                next.entry(feature).or_insert(weighed);
            }
        }
        standing = next;
    }
    let Some(case) = CaseData::of(CaseKind::Relocation, standing.into_values().collect(), seen) else {
        return Assessment::Quiet;
    };
    let lasting = |weighed: &&Weighed| {
        weighed.sightings >= policy.sightings.max(1) && seen.saturating_sub(weighed.since) >= policy.age
    };
    let lasted = case
        .evidence
        .iter()
        .filter(lasting)
        .map(|weighed| weighed.points)
        .fold(0, u32::saturating_add);
    if case.score >= policy.certain || lasted >= policy.threshold {
        Assessment::Case(case)
    } else {
        Assessment::Watch(case)
    }
}

/// What a piece of evidence is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Feature {
    Caller,
    ClaimedNumber,
    Contradiction,
    Network,
    Cell,
    Sim,
    Module,
}

struct Look<'a> {
    home: &'a Home,
    white: &'a WhiteList,
    plan: &'a DialPlan,
    policy: &'a Policy,
}

impl Look<'_> {
    /// Whether a check-in could have shown anything of this.
    fn can_see(&self, feature: Feature, sighting: &Sighting) -> bool {
        let claimed = &sighting.claimed;
        match feature {
            Feature::Caller => sighting.observed.caller.is_some(),
            Feature::ClaimedNumber => claimed.caller.is_some(),
            Feature::Contradiction => claimed.caller.is_some() && sighting.observed.caller.is_some(),
            Feature::Network => sighting.observed.address.is_some(),
            Feature::Cell => claimed.cell.is_some(),
            Feature::Sim => claimed.iccid.is_some(),
            Feature::Module => claimed.imei.is_some(),
        }
    }

    fn at(&self, sighting: &Sighting) -> Vec<(Feature, u32, Evidence)> {
        let moves = self.home.moves.iter();
        let moves = moves.filter(|approved| (approved.from..approved.until).contains(&sighting.time));
        let places: Vec<&Place> = std::iter::once(&self.home.place)
            .chain(moves.map(|approved| &approved.to))
            .collect();
        let mut found = Vec::new();
        if !self.home.mobile {
            found.extend(self.caller(&sighting.observed, &places));
            found.extend(self.claimed_number(sighting, &places));
            found.extend(self.contradiction(sighting));
            found.extend(self.network(&sighting.observed, &places));
            let cell = other(&places, |place| &place.cells, sighting.claimed.cell.as_deref());
            found.extend(cell.map(|cell| (Feature::Cell, self.policy.other_cell, Evidence::OtherCell { cell })));
        }
        let iccid = other(&places, |place| &place.iccids, sighting.claimed.iccid.as_deref());
        found.extend(iccid.map(|iccid| (Feature::Sim, self.policy.other_sim, Evidence::OtherSim { iccid })));
        let imei = other(&places, |place| &place.imeis, sighting.claimed.imei.as_deref());
        found.extend(imei.map(|imei| {
            (
                Feature::Module,
                self.policy.other_module,
                Evidence::OtherModule { imei },
            )
        }));
        found
    }

    fn caller(&self, observed: &Observed, places: &[&Place]) -> Option<(Feature, u32, Evidence)> {
        if !places.iter().any(|place| has_number(place)) {
            return None;
        }
        let (number, trust) = match observed.caller.as_ref()? {
            ObservedCaller::Known { number, trust } => (number, *trust),
            ObservedCaller::Withheld | ObservedCaller::OutOfArea => {
                return Some((Feature::Caller, self.policy.withheld, Evidence::NoNumber));
            }
        };
        let read = self.plan.number(number).ok();
        let expected = read.as_ref().is_some_and(|number| self.is_expected(number, places));
        if expected {
            return None;
        }
        let area = |number: &Number| self.plan.area(number).map(str::to_owned);
        let areas = || places.iter().flat_map(|place| &place.numbers).map(area);
        let other_area = read.as_ref().is_some_and(|number| {
            let here = area(number);
            areas().next().is_some() && areas().all(|there| there != here)
        });
        let full = if other_area {
            self.policy.other_area
        } else {
            self.policy.other_number
        };
        let points = if trust >= Trust::Screened {
            full
        } else {
            full.saturating_mul(self.policy.unscreened_percent.min(100)) / 100
        };
        let number = read.map_or_else(|| short(number), |number| number.to_string());
        let evidence = Evidence::OtherNumber {
            number,
            trust,
            other_area,
        };
        Some((Feature::Caller, points, evidence))
    }

    fn claimed_number(&self, sighting: &Sighting, places: &[&Place]) -> Option<(Feature, u32, Evidence)> {
        let claimed = sighting.claimed.caller.as_deref()?;
        let number = self.plan.number(claimed).ok()?;
        if !places.iter().any(|place| has_number(place)) || self.is_expected(&number, places) {
            return None;
        }
        let number = number.to_string();
        Some((
            Feature::ClaimedNumber,
            self.policy.claimed_number,
            Evidence::ClaimedNumber { number },
        ))
    }

    /// Of numbers of one exchange the line may tell any, so only those of no known one contradict each other.
    fn contradiction(&self, sighting: &Sighting) -> Option<(Feature, u32, Evidence)> {
        let ObservedCaller::Known { number, trust } = sighting.observed.caller.as_ref()? else {
            return None;
        };
        let observed = self.plan.number(number).ok().filter(|_| *trust >= Trust::Screened)?;
        let claimed = self.plan.number(sighting.claimed.caller.as_deref()?).ok()?;
        let groups = self.home.place.groups.iter();
        let one_group = groups
            .clone()
            .any(|group| group.contains(&observed) && group.contains(&claimed));
        if observed.digits == claimed.digits || one_group {
            return None;
        }
        let evidence = Evidence::Contradiction {
            claimed: claimed.to_string(),
            observed: observed.to_string(),
        };
        Some((Feature::Contradiction, self.policy.contradiction, evidence))
    }

    fn network(&self, observed: &Observed, places: &[&Place]) -> Option<(Feature, u32, Evidence)> {
        let address = observed.address?.to_canonical();
        let mut networks = places.iter().flat_map(|place| &place.networks).peekable();
        networks.peek()?;
        let known = networks
            .chain(&self.white.networks)
            .any(|network| network.contains(&address));
        (!known).then_some((
            Feature::Network,
            self.policy.other_network,
            Evidence::OtherNetwork { address },
        ))
    }

    fn is_expected(&self, number: &Number, places: &[&Place]) -> bool {
        let at = |place: &&Place| {
            place.numbers.iter().any(|known| known.digits == number.digits)
                || place.groups.iter().any(|group| group.contains(number))
        };
        places.iter().any(at) || self.white.numbers.iter().any(|range| range.contains(number))
    }
}

fn has_number(place: &Place) -> bool {
    !place.numbers.is_empty() || !place.groups.is_empty()
}

/// A claimed word that is none of the recorded ones, where there are any.
fn other(places: &[&Place], known: impl Fn(&Place) -> &Vec<String>, claimed: Option<&str>) -> Option<String> {
    let claimed = claimed?;
    let mut words = places.iter().flat_map(|place| known(place)).peekable();
    words.peek()?;
    let same = |word: &String| word.trim().eq_ignore_ascii_case(claimed.trim());
    (!words.any(same)).then(|| short(claimed))
}

/// What a peer wrote, at a length that can be kept.
fn short(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(64).collect()
}

#[cfg(test)]
mod tests;
