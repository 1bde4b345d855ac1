//! Tasks: how a change comes to many terminals.
//!
//! An operator writes a [`Definition`]: what to do, for whom, in which stages, how fast, when, and when to stop. Each
//! terminal of the task has an *assignment* for each action; its [`Standing`] moves by [`Event`]s: offers, the
//! terminal's own reports, the operator's cancels, time. What the assignments stand at is counted in [`Counts`], by
//! differences, so that the [`gates`](gate) that let a stage go on or stop the task never look at an assignment.
//!
//! ```text
//! Definition ── split into stages ──► Assignment (pending)
//!                                        │  admitted by rates and windows, not in conflict
//!                                        ▼
//!                                     Standing ── moved ──► Counts ── evaluated ──► Verdict
//! ```

pub mod action;
pub mod assignment;
pub mod combined;
pub mod conflict;
pub mod count;
pub mod definition;
pub mod failure;
pub mod filter;
pub mod gate;
mod hash;
#[cfg(test)]
mod model;
pub mod rate;
pub mod report;
pub mod retry;
pub mod stage;
pub mod state;
pub mod window;

pub use action::{Action, OnFailure, Work};
pub use assignment::{Answer, Change, Event, Reached, Refused, Standing, State, Wait};
pub use combined::combine;
pub use count::{Counts, Miscount, Slot};
pub use definition::{Definition, Invalid, Schedule, Timeouts};
pub use failure::FailureClass;
pub use filter::{Filter, Installed, Subject};
pub use gate::{Gates, Verdict};
pub use rate::Rates;
pub use report::Report;
pub use retry::{Breaker, Retries};
pub use stage::{Selection, Stage};
pub use state::{Operation, PauseReason, TaskState};
pub use window::{Window, Windows};
