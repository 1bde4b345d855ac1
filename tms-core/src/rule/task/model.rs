//! A model check of the machine: every state that small worlds can come to is visited, and what must hold is asked of
//! each. The worlds have real terminals in them, which know a truth of their own and whose words come late, twice or in
//! the middle of an operator's decisions.

mod check;
mod step;
mod world;

use super::assignment::{Change, Event, Refused, Standing, State};
use super::conflict::{Rival, Settlement, settle};
use super::count::{Counts, Miscount};
use super::report::Report;
use check::{Found, explore};
use world::{Budget, World};

/// The rules that are checked: ours, or ours with a mistake put in.
#[derive(Clone, Copy)]
struct Rules {
    after: fn(&Standing, Event) -> Result<Change, Refused>,
    settle: fn(&[Rival]) -> Settlement,
    moved: fn(&mut Counts, State, State) -> Result<(), Miscount>,
}

const OURS: Rules = Rules {
    after: Standing::after,
    settle,
    moved: Counts::moved,
};

const ONE_TERMINAL: Budget = Budget {
    all: 2,
    losses: 2,
    failures: 1,
    cancels: 2,
    silences: 1,
    retries: 1,
    pauses: 1,
    stops: 1,
    removals: 1,
    prompt: false,
};

const THREE_TERMINALS: Budget = Budget {
    all: 1,
    losses: 1,
    failures: 1,
    cancels: 1,
    silences: 1,
    retries: 0,
    pauses: 1,
    stops: 1,
    removals: 0,
    prompt: true,
};

fn check(rules: Rules, terminals: usize, budget: Budget) -> Result<Found, String> {
    explore(&rules, World::new(terminals, budget))
}

#[test]
fn one_terminal_and_much_that_goes_wrong() {
    let found = check(OURS, 1, ONE_TERMINAL).unwrap_or_else(|trace| panic!("{trace}"));
    println!("one terminal, two tasks: {found}");
    assert!(found.states > 10_000, "{found}");
}

/// The same with one more of all that goes wrong. Takes ten times as long.
#[test]
#[ignore = "takes half a minute"]
fn one_terminal_and_more_that_goes_wrong() {
    let more = Budget { all: 3, ..ONE_TERMINAL };
    let found = check(OURS, 1, more).unwrap_or_else(|trace| panic!("{trace}"));
    println!("one terminal, two tasks, more: {found}");
}

#[test]
fn three_terminals_and_little_that_goes_wrong() {
    let found = check(OURS, 3, THREE_TERMINALS).unwrap_or_else(|trace| panic!("{trace}"));
    println!("three terminals, two tasks: {found}");
    assert!(found.states > 10_000, "{found}");
}

/// Each mistake is found, and by the invariant that it breaks.
#[test]
fn the_check_finds_mistakes() {
    for (name, invariant, rules) in MISTAKES {
        let trace = match check(rules, 1, ONE_TERMINAL) {
            Ok(found) => panic!("{name}: not found in {found}"),
            Err(trace) => trace,
        };
        assert!(trace.starts_with(invariant), "{name}: {trace}");
    }
}

const MISTAKES: [(&str, &str, Rules); 10] = [
    (
        "a version that is seen has succeeded",
        "unconfirmed success",
        after(|standing, event| {
            let mut change = standing.after(event)?;
            if event == Event::Seen && change.after.state.is_in_flight() {
                change.after.state = State::Succeeded;
            }
            Ok(change)
        }),
    ),
    (
        "a late success is not heard",
        "lost success",
        after(|standing, event| match event {
            Event::Report { .. } if standing.state == State::TimedOut => unchanged(standing),
            event => standing.after(event),
        }),
    ),
    (
        "force forgets what was confirmed",
        "lost success",
        after(|standing, event| {
            let mut change = standing.after(event)?;
            if matches!(event, Event::Cancel { force: true, .. }) {
                change.after.late = None;
            }
            Ok(change)
        }),
    ),
    (
        "a late truth opens the assignment again",
        "two active",
        after(|standing, event| {
            let mut change = standing.after(event)?;
            let late = standing.state != State::Succeeded
                && standing.state.is_final()
                && change.after.state == State::Succeeded;
            if late && matches!(event, Event::Report { hold: true, .. }) {
                change.after.state = State::Trial { confirmed: true };
            }
            Ok(change)
        }),
    ),
    (
        "a cancel is answered each time",
        "answered twice",
        after(|standing, event| {
            let mut change = standing.after(event)?;
            if let Event::CancelAnswer { id, taken } = event
                && change.answered.is_empty()
            {
                change.answered.push(super::Answer { id, taken });
            }
            Ok(change)
        }),
    ),
    (
        "an end leaves the question open",
        "open question",
        after(|standing, event| {
            let mut change = standing.after(event)?;
            if event == Event::TimeOut && standing.cancel.is_some() {
                change.after.cancel = standing.cancel;
                change.answered.clear();
            }
            Ok(change)
        }),
    ),
    (
        "a refused cancel is cancelling for ever",
        "stuck",
        after(|standing, event| match event {
            Event::CancelAnswer { taken: false, .. } => unchanged(standing),
            // While it is cancelling, no failure is heard.
            Event::Report { report, .. } if standing.cancel.is_some() && report != Report::Confirmed => {
                unchanged(standing)
            }
            event => standing.after(event),
        }),
    ),
    (
        "old numbers are heard again",
        "went back",
        after(|standing, event| standing_without_numbers(standing).after(event)),
    ),
    (
        "nobody waits for what is being installed",
        "two active",
        Rules {
            settle: |rivals| Settlement {
                wait: false,
                ..settle(rivals)
            },
            ..OURS
        },
    ),
    (
        "late truths are not counted back",
        "miscount",
        Rules {
            moved: |counts, from, to| match (from, to) {
                (State::TimedOut, State::Succeeded) => Ok(()),
                (from, to) => counts.moved(from, to),
            },
            ..OURS
        },
    ),
];

const fn after(after: fn(&Standing, Event) -> Result<Change, Refused>) -> Rules {
    Rules { after, ..OURS }
}

fn unchanged(standing: &Standing) -> Result<Change, Refused> {
    Ok(Change {
        after: *standing,
        answered: Vec::new(),
    })
}

fn standing_without_numbers(standing: &Standing) -> Standing {
    Standing {
        reported: 0,
        ..*standing
    }
}
