//! Conflicts: which of several assignments a terminal gets for one component.
//!
//! A terminal has one assignment under way for each component. The greater weight wins; of equals, the newer. Those that
//! lose are superseded, but what the terminal has begun to install runs to its end first: nobody can take it away.

use super::assignment::State;

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
