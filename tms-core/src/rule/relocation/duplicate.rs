//! More than one of a terminal: two with one serial number or one key, one from two places.

use super::evidence::{CaseData, CaseKind, Evidence, Policy, Weighed};
use super::{Observed, ObservedCaller, Sighting, WhiteList};
use crate::rule::number::{DialPlan, Number};
use crate::store::{Holder, KeyId, TerminalId};
use crate::transport::Trust;
use std::collections::BTreeMap;

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

/// A number that somebody vouches for and that is nobody's by a white list.
fn firm_number(observed: &Observed, white: &WhiteList, plan: &DialPlan) -> Option<Number> {
    let Some(ObservedCaller::Known { number, trust }) = &observed.caller else {
        return None;
    };
    let number = plan.number(number).ok().filter(|_| *trust >= Trust::Screened)?;
    (!white.numbers.iter().any(|range| range.contains(&number))).then_some(number)
}
