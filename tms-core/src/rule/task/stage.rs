//! Stages: in which order the terminals of a task have their turn.

use super::filter::Filter;
use super::gate::Gates;
use super::hash::stable;
use crate::store::TerminalId;
use serde::{Deserialize, Serialize};

/// A part of the terminals, which has its turn when the part before it has done well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// What operators call it.
    pub name: String,
    /// Which terminals.
    pub selection: Selection,
    /// When it is done, and when it stops the task.
    #[serde(default)]
    pub gates: Gates,
    /// What comes when it is done. Nothing does after the last.
    #[serde(default)]
    pub then: Then,
}

/// Which of the terminals that are in no earlier stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "select", rename_all = "snake_case")]
pub enum Selection {
    /// So many per cent, 1 to 100, rounded up.
    Remaining {
        /// Per cent.
        percent: u8,
    },
    /// So many.
    Count {
        /// At least 1.
        count: u32,
    },
    /// Those that meet a filter.
    Filter {
        /// Which.
        filter: Filter,
    },
    /// Those whose stable number is below a share of all numbers: a greater share has the same terminals and more.
    Hash {
        /// The share in hundredths of a per cent, 1 to 10,000.
        hundredths: u16,
    },
    /// All that are left. Only the last stage can be this, and only to such a stage can terminals come later.
    Rest,
}

/// What comes when a stage is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// The next stage.
    #[default]
    Next,
    /// A pause, until an operator resumes the task.
    Pause,
    /// A second operator's approval.
    Approve,
}

impl Stage {
    /// One terminal first, and all others when that has worked: whatever breaks, breaks once.
    #[must_use]
    pub fn first_alone() -> Vec<Self> {
        let first = Self {
            name: "first".to_owned(),
            selection: Selection::Count { count: 1 },
            gates: Gates {
                success_percent: 100,
                ..Gates::default()
            },
            then: Then::Next,
        };
        let rest = Self {
            name: "rest".to_owned(),
            selection: Selection::Rest,
            gates: Gates::default(),
            then: Then::Next,
        };
        vec![first, rest]
    }
}

/// The stage of each of `terminals`, from 0, in their order; none where a terminal is in no stage. `matches` says whether
/// a terminal meets a filter.
///
/// Who comes first is chance, but the same chance each time for the same `salt`: a task has one of its own.
#[must_use]
pub fn split(
    stages: &[Stage],
    salt: u64,
    terminals: &[TerminalId],
    mut matches: impl FnMut(&Filter, TerminalId) -> bool,
) -> Vec<Option<u16>> {
    let mut placed = vec![None; terminals.len()];
    let mut waiting: Vec<(u64, TerminalId, &mut Option<u16>)> = terminals
        .iter()
        .zip(&mut placed)
        .map(|(terminal, place)| (stable(salt, *terminal), *terminal, place))
        .collect();
    waiting.sort_unstable_by_key(|(number, terminal, _)| (*number, *terminal));
    for (stage, index) in stages.iter().zip(0_u16..) {
        let mut quota = match &stage.selection {
            Selection::Remaining { percent } => waiting.len().saturating_mul(usize::from(*percent)).div_ceil(100),
            Selection::Count { count } => usize::try_from(*count).unwrap_or(usize::MAX),
            Selection::Filter { .. } | Selection::Hash { .. } | Selection::Rest => usize::MAX,
        };
        waiting.retain_mut(|(number, terminal, place)| {
            let chosen = quota > 0
                && match &stage.selection {
                    Selection::Filter { filter } => matches(filter, *terminal),
                    Selection::Hash { hundredths } => *number % 10_000 < u64::from(*hundredths),
                    Selection::Remaining { .. } | Selection::Count { .. } | Selection::Rest => true,
                };
            if chosen {
                quota = quota.saturating_sub(1);
                **place = Some(index);
            }
            !chosen
        });
    }
    placed
}

/// The stage of a terminal that comes to a task later: the last, where that takes all that are left.
#[must_use]
pub fn late_comer(stages: &[Stage]) -> Option<u16> {
    let (last, index) = stages.iter().zip(0..).last()?;
    (last.selection == Selection::Rest).then_some(index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stage(selection: Selection) -> Stage {
        Stage {
            name: "stage".to_owned(),
            selection,
            gates: Gates::default(),
            then: Then::Next,
        }
    }

    fn terminals(count: u64) -> Vec<TerminalId> {
        (0..count).map(TerminalId).collect()
    }

    fn count(placed: &[Option<u16>], stage: Option<u16>) -> usize {
        placed.iter().filter(|place| **place == stage).count()
    }

    #[test]
    fn each_stage_takes_of_what_is_left() {
        let odd = Filter {
            terminals: vec![TerminalId(1)],
            ..Filter::default()
        };
        let stages = [
            stage(Selection::Filter { filter: odd }),
            stage(Selection::Count { count: 10 }),
            stage(Selection::Remaining { percent: 10 }),
            stage(Selection::Rest),
        ];
        let placed = split(&stages, 1, &terminals(1_000), |filter, terminal| {
            filter.terminals.contains(&terminal)
        });
        let counts: Vec<_> = (0..4).map(|stage| count(&placed, Some(stage))).collect();
        assert_eq!(counts, [1, 10, 99, 890]);
        assert_eq!(placed[1], Some(0));
    }

    #[test]
    fn what_no_stage_takes_is_not_in_the_task() {
        let placed = split(&[stage(Selection::Count { count: 3 })], 1, &terminals(10), |_, _| false);
        assert_eq!(count(&placed, None), 7);
    }

    #[test]
    fn the_first_is_alone() {
        let placed = split(&Stage::first_alone(), 1, &terminals(50), |_, _| false);
        assert_eq!((count(&placed, Some(0)), count(&placed, Some(1))), (1, 49));
        assert_eq!(late_comer(&Stage::first_alone()), Some(1));
        assert_eq!(late_comer(&[stage(Selection::Count { count: 1 })]), None);
    }

    #[test]
    fn a_share_by_hash_is_about_that_share() {
        let placed = split(
            &[stage(Selection::Hash { hundredths: 2_500 })],
            7,
            &terminals(20_000),
            |_, _| false,
        );
        assert!((4_700..5_300).contains(&count(&placed, Some(0))));
    }

    proptest! {
        #[test]
        fn a_greater_share_only_adds(salt: u64, small in 1_u16..=10_000, large in 1_u16..=10_000, count in 0_u64..300) {
            let (small, large) = (small.min(large), small.max(large));
            let of = |hundredths| {
                let stages = [stage(Selection::Hash { hundredths })];
                split(&stages, salt, &terminals(count), |_, _| false)
            };
            for (before, after) in of(small).into_iter().zip(of(large)) {
                prop_assert!(before.is_none() || after == before);
            }
        }

        #[test]
        fn the_order_of_the_list_decides_nothing(salt: u64, count in 0_u64..100, percent in 1_u8..=100) {
            let stages = [stage(Selection::Remaining { percent }), stage(Selection::Rest)];
            let list = terminals(count);
            let reversed: Vec<_> = list.iter().rev().copied().collect();
            let mut placed = split(&stages, salt, &reversed, |_, _| false);
            placed.reverse();
            prop_assert_eq!(&placed, &split(&stages, salt, &list, |_, _| false));
            prop_assert!(placed.iter().all(Option::is_some));
        }
    }
}
