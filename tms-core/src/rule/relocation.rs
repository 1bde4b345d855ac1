//! Relocation and clones: whether a terminal stands where it was registered, and whether there is more than one of it.
//!
//! What the access side observed and what the terminal claims are kept apart, and weigh differently. Nothing here blocks
//! anybody: the result is a [`CaseData`], for a person to look at.

use super::number::{DialPlan, Number, NumberRange, TrunkGroup};
use crate::store::{Holder, KeyId, TerminalId};
use crate::transport::{CallerNumber, PeerInfo, Trust};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use tms_proto::message::Location;

/// The most sightings that are looked at: the newest.
pub const MAX_SIGHTINGS: usize = 64;

/// The most pieces of evidence of a case: the strongest.
pub const MAX_EVIDENCE: usize = 32;

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
    pub caller: Option<ObservedCaller>,
    /// The number that was called.
    pub called: Option<String>,
    /// The line that it came in on.
    pub line: Option<String>,
    /// The address that it came from.
    pub address: Option<IpAddr>,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
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

/// What two check-ins of one terminal in a row say of a clone: a call counter that does not grow, and two places within less
/// time than a person needs from the one to the other.
#[must_use]
pub fn twice(
    previous: &Sighting,
    current: &Sighting,
    white: &WhiteList,
    plan: &DialPlan,
    policy: &Policy,
) -> Option<CaseData> {
    let weighed = |evidence, points| Weighed {
        evidence,
        points,
        since: previous.time,
        sightings: 1,
    };
    let mut found = Vec::new();
    if current.contact <= previous.contact {
        let evidence = Evidence::CounterBack {
            recorded: previous.contact,
            reported: current.contact,
        };
        found.push(weighed(evidence, policy.counter_back));
    }
    let seconds = current.time.abs_diff(previous.time);
    let places = [previous, current].map(|sighting| firm_number(&sighting.observed, white, plan));
    if let ([Some(first), Some(second)], true) = (places, seconds < policy.travel) {
        // Of one exchange a call may show any number; the area is what a person has to leave.
        if first.digits != second.digits && plan.area(&first) != plan.area(&second) {
            let evidence = Evidence::TwoPlaces {
                first: first.to_string(),
                second: second.to_string(),
                seconds,
            };
            found.push(weighed(evidence, policy.two_places));
        }
    }
    CaseData::of(CaseKind::Clone, found, current.time)
}

/// A terminal, by what must be its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The terminal.
    pub terminal: TerminalId,
    /// Its holder, in its one form.
    pub holder: Holder,
    /// Its key, where it is known.
    pub key: Option<KeyId>,
}

/// The terminals that share a serial number or a key with another, each a case.
#[must_use]
pub fn duplicates(terminals: impl IntoIterator<Item = Identity>, now: u64, policy: &Policy) -> Vec<CaseData> {
    let mut holders: BTreeMap<Holder, Vec<TerminalId>> = BTreeMap::new();
    let mut keys: BTreeMap<KeyId, Vec<TerminalId>> = BTreeMap::new();
    for identity in terminals {
        holders.entry(identity.holder).or_default().push(identity.terminal);
        if let Some(key) = identity.key {
            keys.entry(key).or_default().push(identity.terminal);
        }
    }
    let several = |mut terminals: Vec<TerminalId>| {
        terminals.sort_unstable();
        terminals.dedup();
        (terminals.len() > 1).then_some(terminals)
    };
    let serials = holders.into_iter().filter_map(|(holder, terminals)| {
        let terminals = several(terminals)?;
        Some((Evidence::SameSerial { holder, terminals }, policy.same_serial))
    });
    let keys = keys.into_iter().filter_map(|(key, terminals)| {
        let terminals = several(terminals)?;
        Some((Evidence::SameKey { key, terminals }, policy.same_key))
    });
    let cases = serials.chain(keys).filter_map(|(evidence, points)| {
        let weighed = Weighed {
            evidence,
            points,
            since: now,
            sightings: 1,
        };
        CaseData::of(CaseKind::Clone, vec![weighed], now)
    });
    cases.collect()
}

impl CaseData {
    /// `None` where nothing has points.
    fn of(kind: CaseKind, mut evidence: Vec<Weighed>, seen: u64) -> Option<Self> {
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

/// A number that somebody vouches for and that is nobody's by a white list.
fn firm_number(observed: &Observed, white: &WhiteList, plan: &DialPlan) -> Option<Number> {
    let Some(ObservedCaller::Known { number, trust }) = &observed.caller else {
        return None;
    };
    let number = plan.number(number).ok().filter(|_| *trust >= Trust::Screened)?;
    (!white.numbers.iter().any(|range| range.contains(&number))).then_some(number)
}

/// What a peer wrote, at a length that can be kept.
fn short(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(64).collect()
}

#[cfg(test)]
mod tests;
