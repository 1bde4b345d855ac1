//! What happened in a branch on one day, in numbers.

use crate::store::{BranchPath, CheckInSummary, Day, Entity, EventKind, Kind, RosterEntry};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tms_proto::code::{ResultCode, Stage};

/// The seconds within which check-ins are counted; the last count is of those that took longer.
pub const WITHIN: [u32; 6] = [1, 2, 5, 10, 30, 60];

/// From this many seconds on, a terminal's clock counts as wrong.
const SKEW: u64 = 120;

/// What happened in a branch and those below it on one day (UTC): counts that only grow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Daily {
    /// The branch; a terminal counts where it belonged when its events were entered.
    pub branch: BranchPath,
    /// The day.
    pub day: Day,
    /// Check-ins.
    pub check_ins: u64,
    /// Terminals that checked in: each counts on a day once, and on no day before one on which it counted already.
    pub terminals: u64,
    /// Terminals that checked in for the first time ever.
    pub first: u64,
    /// Check-ins by handshake mode.
    pub modes: BTreeMap<u8, u64>,
    /// Check-ins by what made the terminal call, by its name on the wire.
    pub triggers: BTreeMap<String, u64>,
    /// Check-ins by how long they took: those within each of [`WITHIN`] and not within the one before, then the longer ones.
    pub took: [u64; 7],
    /// Check-ins of terminals whose clock was two minutes wrong or more.
    pub skewed: u64,
    /// Results, by stage and then by code, by their names on the wire.
    pub results: BTreeMap<String, BTreeMap<String, u64>>,
    /// Downloads that terminals completed.
    pub downloads: u64,
    /// Bytes of content of these, as it is when unpacked.
    pub downloaded: u64,
    /// Times that a clone was suspected.
    pub clones: u64,
    /// What terminals reported of their own accord, by its name.
    pub reported: BTreeMap<String, u64>,
    /// Terminals that were enrolled.
    pub enrolled: u64,
}

impl Default for Daily {
    fn default() -> Self {
        Self::of(BranchPath::head_office(), 0)
    }
}

impl Entity for Daily {
    const KIND: Kind = Kind::named("daily");

    fn id(&self) -> String {
        Self::id_of(&self.branch, self.day)
    }
}

impl Daily {
    /// A day on which nothing has happened yet.
    #[must_use]
    pub const fn of(branch: BranchPath, day: Day) -> Self {
        Self {
            branch,
            day,
            check_ins: 0,
            terminals: 0,
            first: 0,
            modes: BTreeMap::new(),
            triggers: BTreeMap::new(),
            took: [0; 7],
            skewed: 0,
            results: BTreeMap::new(),
            downloads: 0,
            downloaded: 0,
            clones: 0,
            reported: BTreeMap::new(),
            enrolled: 0,
        }
    }

    /// How the ids of a branch's days begin. No name of a branch has this sign, so that none begins with another's.
    pub(super) fn ids_of(branch: &BranchPath) -> String {
        format!("{branch}@")
    }

    pub(super) fn id_of(branch: &BranchPath, day: Day) -> String {
        format!("{}{day:010}", Self::ids_of(branch))
    }

    /// Counts what happened. `entry` is the terminal's line in the roster, which a check-in changes; `size` is that of the
    /// content of which a result speaks.
    pub(super) fn count(&mut self, event: &EventKind, entry: Option<&mut RosterEntry>, size: Option<u64>) {
        match event {
            EventKind::CheckedIn(summary) => self.count_check_in(summary, entry),
            EventKind::Result { stage, code, .. } => {
                let codes = self.results.entry(stage.to_string()).or_default();
                add(codes.entry(code.to_string()).or_default(), 1);
                if (*stage, *code) == (Stage::Downloaded, ResultCode::Success) {
                    add(&mut self.downloads, 1);
                    add(&mut self.downloaded, size.unwrap_or_default());
                }
            }
            EventKind::CloneSuspected { .. } => add(&mut self.clones, 1),
            EventKind::Terminal { what, .. } => add(self.reported.entry(what.clone()).or_default(), 1),
            EventKind::Enrolled => add(&mut self.enrolled, 1),
            _ => {}
        }
    }

    fn count_check_in(&mut self, summary: &CheckInSummary, entry: Option<&mut RosterEntry>) {
        add(&mut self.check_ins, 1);
        add(self.modes.entry(summary.mode).or_default(), 1);
        add(self.triggers.entry(summary.trigger.to_string()).or_default(), 1);
        if summary.skew.unsigned_abs() >= SKEW {
            add(&mut self.skewed, 1);
        }
        if let Some(elapsed) = summary.elapsed {
            let slot = WITHIN
                .iter()
                .take_while(|limit| elapsed > limit.saturating_mul(1000))
                .count();
            if let Some(count) = self.took.get_mut(slot) {
                add(count, 1);
            }
        }
        let Some(entry) = entry else { return };
        if entry.seen.is_none() {
            add(&mut self.first, 1);
        }
        if entry.seen.is_none_or(|seen| seen < self.day) {
            add(&mut self.terminals, 1);
            entry.seen = Some(self.day);
        }
    }

    /// Adds what another counted.
    pub(super) fn merge(&mut self, other: &Self) {
        let Self {
            branch: _,
            day: _,
            check_ins,
            terminals,
            first,
            modes,
            triggers,
            took,
            skewed,
            results,
            downloads,
            downloaded,
            clones,
            reported,
            enrolled,
        } = other;
        add(&mut self.check_ins, *check_ins);
        add(&mut self.terminals, *terminals);
        add(&mut self.first, *first);
        merge(&mut self.modes, modes);
        merge(&mut self.triggers, triggers);
        for (count, more) in self.took.iter_mut().zip(took) {
            add(count, *more);
        }
        add(&mut self.skewed, *skewed);
        for (stage, codes) in results {
            merge(self.results.entry(stage.clone()).or_default(), codes);
        }
        add(&mut self.downloads, *downloads);
        add(&mut self.downloaded, *downloaded);
        add(&mut self.clones, *clones);
        merge(&mut self.reported, reported);
        add(&mut self.enrolled, *enrolled);
    }

    /// All results.
    #[must_use]
    pub fn all_results(&self) -> u64 {
        let codes = self.results.values().flat_map(BTreeMap::values);
        codes.fold(0, |sum, count| sum.saturating_add(*count))
    }
}

fn add(count: &mut u64, more: u64) {
    *count = count.saturating_add(more);
}

fn merge<K: Ord + Clone>(counts: &mut BTreeMap<K, u64>, more: &BTreeMap<K, u64>) {
    for (name, count) in more {
        add(counts.entry(name.clone()).or_default(), *count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::sample;

    #[test]
    fn a_check_in_counts_by_how_long_it_took() {
        let mut daily = Daily::of(BranchPath::head_office(), 7);
        let EventKind::CheckedIn(summary) = sample::checked_in(1, 0).kind else {
            panic!()
        };
        for elapsed in [
            Some(0),
            Some(1000),
            Some(1001),
            Some(60_000),
            Some(60_001),
            Some(u32::MAX),
            None,
        ] {
            let summary = CheckInSummary {
                elapsed,
                ..summary.clone()
            };
            daily.count(&EventKind::CheckedIn(summary), None, None);
        }
        assert_eq!((daily.took, daily.check_ins), ([2, 1, 0, 0, 0, 1, 2], 7));
    }

    #[test]
    fn a_terminal_counts_once_a_day_and_never_for_a_day_that_is_past() {
        let mut entry = RosterEntry {
            seen: None,
            ..sample::roster(1)
        };
        let mut days = [6, 7, 8].map(|day| Daily::of(BranchPath::head_office(), day));
        for at in [1, 1, 0, 2, 2] {
            days[at].count(&sample::checked_in(1, 0).kind, Some(&mut entry), None);
        }
        assert_eq!(
            days.each_ref().map(|day| (day.check_ins, day.terminals, day.first)),
            [(1, 0, 0), (2, 1, 1), (2, 1, 0)]
        );
        assert_eq!(entry.seen, Some(8));
    }

    #[test]
    fn what_an_earlier_program_wrote_is_read() {
        let daily: Daily = serde_json::from_str("{\"branch\":\"/east/\",\"day\":7,\"check_ins\":3}").unwrap();
        let mut right = Daily::of("/east".parse().unwrap(), 7);
        right.check_ins = 3;
        assert_eq!(daily, right);
        assert_eq!(daily.id(), "/east/@0000000007");
    }
}
