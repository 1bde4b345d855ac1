//! What a terminal stands at in a task of several actions.
//!
//! Each action has an assignment of its own; what is counted are terminals. A terminal that has installed two of three
//! packages has not succeeded, and is one terminal.

use super::action::OnFailure;
use super::assignment::{Reached, State, Wait};

/// What a terminal stands at whose assignments in a task, in the order of its actions, stand at `states`: the state that
/// [`Counts`](super::Counts) count. Of one assignment it is that assignment's. None if there are none.
///
/// As long as one is under way it is the least far of those. When all are at an end, one failure or cancel makes the whole
/// fail, and one success makes it succeed where the others had nothing to do.
#[must_use]
pub fn combine(states: &[State], on_failure: OnFailure) -> Option<State> {
    let all = || states.iter().copied();
    if let Some(removed) = all().find(|state| *state == State::TerminalRemoved) {
        return Some(removed);
    }
    if let Some(flying) = all()
        .filter(|state| state.is_in_flight())
        .min_by_key(|state| distance(*state))
    {
        return Some(flying);
    }
    let failed = all().find(|state| state.failure().is_some());
    // What is pending after a failure that stops the rest is never begun.
    let stopped = failed.filter(|_| on_failure == OnFailure::Stop);
    if stopped.is_none() && all().any(|state| state == State::Pending) {
        let begun = all().any(|state| state != State::Pending);
        return Some(if begun { BETWEEN } else { State::Pending });
    }
    failed.or_else(|| all().max_by_key(|state| weight(*state)))
}

/// Something is done, and the rest is not offered yet.
const BETWEEN: State = State::Waiting {
    why: Wait::Dependency,
    reached: Reached::Offered,
};

/// How far what is under way has come.
const fn distance(state: State) -> u8 {
    match state {
        State::Waiting {
            reached: Reached::Offered,
            ..
        } => 1,
        State::Downloading => 2,
        State::Waiting {
            reached: Reached::Downloading,
            ..
        } => 3,
        State::Downloaded => 4,
        State::Waiting {
            reached: Reached::Downloaded,
            ..
        } => 5,
        State::Installing => 6,
        State::Waiting {
            reached: Reached::Installing,
            ..
        } => 7,
        State::Restarting => 8,
        State::Trial { confirmed: false } => 9,
        State::Trial { confirmed: true } => 10,
        _ => 0,
    }
}

/// Which end counts where none has failed.
const fn weight(state: State) -> u8 {
    match state {
        State::Cancelled { .. } => 4,
        State::Succeeded => 3,
        State::Superseded { .. } => 2,
        State::NotApplicable => 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::task::failure::FailureClass;
    use proptest::prelude::*;
    use tms_proto::code::ResultCode;

    const FAILED: State = State::Failed {
        class: FailureClass::Hardware,
        code: ResultCode::HardwareError,
    };

    fn stopping(states: &[State]) -> Option<State> {
        combine(states, OnFailure::Stop)
    }

    #[test]
    fn two_of_three_is_not_a_success() {
        let done = State::Succeeded;
        assert_eq!(stopping(&[done, done, State::Downloading]), Some(State::Downloading));
        assert_eq!(stopping(&[done, done, State::Pending]), Some(BETWEEN));
        assert_eq!(stopping(&[done, done, FAILED]), Some(FAILED));
        assert_eq!(
            stopping(&[done, done, State::Cancelled { forced: true }]).unwrap(),
            State::Cancelled { forced: true }
        );
        assert_eq!(
            stopping(&[done, State::AlreadyCurrent, State::Superseded { by: None }]),
            Some(done)
        );
        assert_eq!(stopping(&[State::AlreadyCurrent; 2]), Some(State::AlreadyCurrent));
        assert_eq!(stopping(&[]), None);
    }

    #[test]
    fn after_a_failure_the_rest_is_stopped_or_not() {
        let states = [FAILED, State::Pending];
        assert_eq!(stopping(&states), Some(FAILED));
        assert_eq!(combine(&states, OnFailure::Continue), Some(BETWEEN));
        assert_eq!(
            stopping(&[FAILED, State::Installing]),
            Some(State::Installing),
            "it runs to its end"
        );
    }

    fn state() -> impl Strategy<Value = State> {
        proptest::sample::select(vec![
            State::Pending,
            State::Offered,
            BETWEEN,
            State::Downloading,
            State::Restarting,
            State::Trial { confirmed: true },
            State::Succeeded,
            FAILED,
            State::TimedOut,
            State::Cancelled { forced: false },
            State::Superseded { by: Some(1) },
            State::AlreadyCurrent,
            State::NotApplicable,
            State::TerminalRemoved,
        ])
    }

    proptest! {
        #[test]
        fn one_alone_is_itself(state in state(), on_failure in proptest::sample::select(vec![OnFailure::Stop, OnFailure::Continue])) {
            prop_assert_eq!(combine(&[state], on_failure), Some(state));
        }

        #[test]
        fn the_whole_is_no_better_than_its_parts(states in proptest::collection::vec(state(), 1..6), stop: bool) {
            let on_failure = if stop { OnFailure::Stop } else { OnFailure::Continue };
            let whole = combine(&states, on_failure).unwrap();
            let any = |wanted: fn(&State) -> bool| states.iter().any(wanted);
            if whole == State::Succeeded {
                prop_assert!(states.iter().all(|state| state.is_final() && state.failure().is_none()));
                prop_assert!(states.contains(&State::Succeeded));
            }
            let removed = any(|state| *state == State::TerminalRemoved);
            prop_assert_eq!(whole == State::TerminalRemoved, removed);
            if !removed && states.iter().all(|state| state.is_final()) {
                prop_assert!(whole.is_final());
                prop_assert_eq!(whole.failure().is_some(), any(|state| state.failure().is_some()));
            }
            if !removed && any(|state| state.is_in_flight()) {
                prop_assert!(whole.is_in_flight());
            }
        }
    }
}
