//! Conflicts: which of several assignments a terminal gets for one component.
//!
//! A terminal has one assignment under way for each component. The greater weight wins; of equals, the newer. Those that
//! lose are superseded, but what the terminal has begun to install runs to its end first: nobody can take it away.

use super::assignment::State;
use serde::{Deserialize, Serialize};
use tms_proto::digest::Digest;

/// An open assignment of a terminal for one component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rival {
    /// Its task.
    pub task: u64,
    /// The weight of its task.
    pub weight: u8,
    /// Which is newer: grows with each assignment of the terminal, and is unique among them.
    pub order: u64,
    /// What it stands at.
    pub state: State,
}

/// What is to become of rivals.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settlement {
    /// Which one, by its place, is the terminal's next or present one. None where there are none.
    pub winner: Option<usize>,
    /// Whether the winner must wait until what is being installed has come to its end.
    pub wait: bool,
    /// Those that are to be superseded by the winner, by their places.
    pub superseded: Vec<usize>,
}

/// Settles a conflict: to be asked when an assignment is made, and again when one is to be offered. Those at an end do
/// not take part.
#[must_use]
pub fn settle(rivals: &[Rival]) -> Settlement {
    let open = || rivals.iter().enumerate().filter(|(_, rival)| !rival.state.is_final());
    let Some((winner, _)) = open().max_by_key(|(_, rival)| (rival.weight, rival.order)) else {
        return Settlement::default();
    };
    let others = || open().filter(|(place, _)| *place != winner);
    Settlement {
        winner: Some(winner),
        wait: others().any(|(_, rival)| rival.state.is_locked()),
        superseded: others()
            .filter(|(_, rival)| !rival.state.is_locked())
            .map(|(place, _)| place)
            .collect(),
    }
}

/// A release that must not be skipped: what is older is brought to it first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Floor {
    /// Where it stands in the order of the component's releases.
    pub order: u64,
    /// Its signed manifest.
    pub manifest: Digest,
    /// Why: for operators who wonder.
    pub reason: String,
}

/// The floor to which a terminal with release `installed` is brought before it gets `target`, if there is one. What has
/// nothing installed has nothing to be converted, and gets its target at once. Goes by what is installed when it is
/// offered, not when the task was written: each floor is one more round.
#[must_use]
pub fn floor(installed: Option<u64>, target: u64, floors: &[Floor]) -> Option<&Floor> {
    let installed = installed?;
    floors
        .iter()
        .filter(|floor| installed < floor.order && floor.order < target)
        .min_by_key(|floor| floor.order)
}

#[cfg(test)]
mod tests {
    use super::super::assignment::{Event, Reached, Standing, Wait};
    use super::*;
    use proptest::prelude::*;

    fn rival(weight: u8, order: u64, state: State) -> Rival {
        let task = order;
        Rival {
            task,
            weight,
            order,
            state,
        }
    }

    #[test]
    fn the_weightier_wins_and_of_equals_the_newer() {
        let settled = settle(&[
            rival(100, 1, State::Downloading),
            rival(100, 2, State::Pending),
            rival(90, 3, State::Pending),
        ]);
        assert_eq!((settled.winner, settled.wait), (Some(1), false));
        assert_eq!(settled.superseded, [0, 2]);
    }

    #[test]
    fn what_is_being_installed_is_waited_for() {
        let settled = settle(&[rival(100, 1, State::Installing), rival(100, 2, State::Pending)]);
        assert_eq!((settled.winner, settled.wait), (Some(1), true));
        assert!(settled.superseded.is_empty());
    }

    #[test]
    fn what_is_over_takes_no_part() {
        let settled = settle(&[rival(200, 1, State::Succeeded), rival(100, 2, State::Pending)]);
        assert_eq!((settled.winner, settled.wait), (Some(1), false));
        assert_eq!(settle(&[rival(1, 1, State::TimedOut)]), Settlement::default());
    }

    #[test]
    fn floors_are_taken_one_by_one() {
        let floors: Vec<Floor> = [30, 20, 50]
            .map(|order| Floor {
                order,
                manifest: Digest([0; 32]),
                reason: "the data base changes its form".to_owned(),
            })
            .into();
        let next = |installed| floor(installed, 40, &floors).map(|floor| floor.order);
        assert_eq!(next(Some(10)), Some(20));
        assert_eq!(next(Some(20)), Some(30));
        assert_eq!(next(Some(30)), None);
        assert_eq!(next(None), None);
        assert_eq!(floor(Some(60), 40, &floors), None, "a step back has no floors");
    }

    fn state() -> impl Strategy<Value = State> {
        let why = Wait::Window;
        proptest::sample::select(vec![
            State::Pending,
            State::Offered,
            State::Downloaded,
            State::Installing,
            State::Trial { confirmed: false },
            State::Waiting {
                why,
                reached: Reached::Downloading,
            },
            State::Waiting {
                why,
                reached: Reached::Installing,
            },
            State::Succeeded,
            State::TimedOut,
        ])
    }

    proptest! {
        /// What is to be superseded can be; then the winner is alone, or waits for what nobody can take away.
        #[test]
        fn one_is_left(mut states in proptest::collection::vec((0_u8..3, state()), 0..6)) {
            let rivals: Vec<Rival> = (0..).zip(&states).map(|(order, (weight, state))| rival(*weight, order, *state)).collect();
            let settled = settle(&rivals);
            for place in &settled.superseded {
                let standing = Standing { state: states[*place].1, ..Standing::NEW };
                states[*place].1 = standing.after(Event::Supersede { by: 1 }).unwrap().after.state;
            }
            let open: Vec<usize> = (0..states.len()).filter(|place| !states[*place].1.is_final()).collect();
            prop_assert_eq!(settled.winner.is_some(), !open.is_empty());
            if let Some(winner) = settled.winner {
                prop_assert!(open.contains(&winner));
                prop_assert_eq!(settled.wait, open.len() > 1);
                prop_assert!(open.iter().all(|place| *place == winner || states[*place].1.is_locked()));
            }
        }
    }
}
