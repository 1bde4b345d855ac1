//! Tasks as they are carried out: their records, and what moves them.
//!
//! [`rule::task`](crate::rule::task) decides; this keeps. An operator's [`Task`] has a [`Member`] for each of its
//! terminals, in a stage. When a stage begins, the [`Runner`] gives each of its members assignments, which the terminal's
//! next check-in brings in its one read. Whatever moves an assignment, the server or the runner, moves its member and
//! the count of its stage in the same commit, so that nothing is ever counted twice or scanned.
//!
//! ```text
//! Task ── build ──► Member (in a stage) ── stage begins ──► Assignment ── offer, reports ──► Member, Cell
//!   ▲                                                                                          │
//!   └────────────── gates: the next stage, a pause, an abort, the end ◄─────── sum of cells ───┘
//! ```

mod assign;
mod build;
mod due;
mod ledger;
mod offer;
mod place;
mod record;
mod runner;
mod stage;
mod withdraw;

pub(crate) use ledger::Ledger;
pub(crate) use offer::Offers;
pub use record::{Cell, Failures, Member, MemberStep, Pace, Share, Sharing, StageRun, Task, Withdrawal};
pub use runner::Runner;
