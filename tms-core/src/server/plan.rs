//! What a terminal gets, and what becomes of what it reports: functions of records, without I/O.

use super::representation;
use crate::store::{Assignment, CheckIn, Decoding, Package, PlanStanding, Terminal, Versioned};
use tms_proto::code::{ActionKind, Representation, ResultCode, Stage};
use tms_proto::digest::Digest;
use tms_proto::message::{Action, ActionResult, MAX_ACTIONS, NextContact, Plan, StatusReport, Wanted};
use tms_proto::tlv::{Tag, Value, Writer};

/// When terminals are told to call again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContactPolicy {
    /// Seconds between two calls of a terminal with nothing to do.
    pub period: u32,
    /// Seconds over which the calls of terminals that called at the same time are spread.
    pub spread: u32,
    /// Seconds that a terminal's slot stays open.
    pub window: u32,
}

impl Default for ContactPolicy {
    /// Once a day, spread over an hour, with an hour to get through.
    fn default() -> Self {
        Self {
            period: 86_400,
            spread: 3_600,
            window: 3_600,
        }
    }
}

impl ContactPolicy {
    /// The next contact of a terminal that calls at `now`. `chance` spreads the terminals: any number, evenly random.
    #[must_use]
    pub fn next(&self, now: u64, chance: u64) -> NextContact {
        let offset = chance.checked_rem(u64::from(self.spread)).unwrap_or_default();
        NextContact {
            from: now.saturating_add(u64::from(self.period)).saturating_add(offset),
            window: self.window,
            jitter: None,
            redial_delay: None,
            redial_max: None,
        }
    }
}

/// What a report is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// The plan, without a ticket.
    pub plan: Plan,
    /// What the terminal stands at when it has acknowledged the plan.
    pub standing: PlanStanding,
}

/// Plans for a terminal that sent `report`.
#[must_use]
pub fn plan(known: &CheckIn, report: &StatusReport, next_contact: NextContact) -> Planned {
    let terminal = &known.terminal.record;
    // What does not fit into this plan comes with a later one: each finished action makes room.
    let open = known.assignments.iter().take(MAX_ACTIONS);
    // What the terminal reports now counts before what it reported last.
    let reported = report.inventory.as_ref().map(representation::decoding);
    let decoding = reported.as_ref().unwrap_or(&terminal.decoding);
    let actions: Vec<Action> = open.map(|assignment| action(&assignment.record, decoding)).collect();
    let digest = Some(actions_digest(&actions));
    let standing = if terminal.plan.digest == digest && terminal.plan.sequence > 0 {
        terminal.plan
    } else {
        // A number that the terminal has seen is never given to other actions, even where this server lost count.
        let held = report.plan.unwrap_or_default();
        PlanStanding {
            sequence: terminal.plan.sequence.max(held).saturating_add(1),
            digest,
        }
    };
    let unchanged = report.plan == Some(standing.sequence);
    let wanted = wants_inventory(terminal, report).then_some(Wanted::INVENTORY);
    let plan = Plan {
        sequence: standing.sequence,
        unchanged: unchanged.then_some(true),
        actions: if unchanged { Vec::new() } else { actions },
        texts: Vec::new(),
        wanted,
        next_contact,
        ticket: None,
        not_after: None,
    };
    Planned { plan, standing }
}

/// The plan of a terminal whose certificate has expired: it may ask for a new one, and nothing else (§10.6).
#[must_use]
pub fn recovery(terminal: &Terminal, next_contact: NextContact) -> Plan {
    Plan {
        sequence: terminal.plan.sequence,
        unchanged: Some(true),
        actions: Vec::new(),
        texts: Vec::new(),
        wanted: Some(Wanted::CERTIFICATE_REQUEST),
        next_contact,
        ticket: None,
        not_after: None,
    }
}

/// The objects that a terminal with these assignments may download.
#[must_use]
pub fn objects(assignments: &[Versioned<Assignment>]) -> Vec<Digest> {
    let packages = assignments.iter().map(|assignment| &assignment.record.package);
    let objects = packages.flat_map(|package| {
        let whole = [Some(package.manifest), Some(package.content), package.block_map];
        let others = package
            .representations
            .iter()
            .map(|representation| representation.object);
        whole.into_iter().flatten().chain(others)
    });
    objects.collect()
}

/// What an assignment becomes when the terminal reports `result`, or `None` where that changes nothing: it is old, or
/// known already.
///
/// A late truth replaces what an operator decided meanwhile: a terminal that runs the new version runs it, whether the
/// action was cancelled or not.
#[must_use]
pub fn apply(assignment: &Assignment, result: &ActionResult, now: u64) -> Option<Assignment> {
    if result.number <= assignment.result {
        return None;
    }
    let refused = result.stage == Stage::Rejected;
    let over = if refused {
        result.code.is_permanent()
    } else {
        result.stage.is_final()
    };
    // What was over stays over, unless the terminal says that the new version runs after all.
    let closed = assignment.closed || over;
    let kept = assignment.closed && result.stage != Stage::RunningConfirmed && result.stage != Stage::RolledBack;
    Some(Assignment {
        stage: if kept { assignment.stage } else { result.stage },
        code: if kept { assignment.code } else { result.code },
        attempt: result.attempt,
        text: result
            .text
            .as_deref()
            .map(|text| text.chars().filter(|char| !char.is_control()).take(70).collect()),
        closed,
        whole: assignment.whole || result.code == ResultCode::Undecodable,
        result: result.number,
        updated: now,
        ..assignment.clone()
    })
}

/// Whether `result` claims that the package's own content runs. A terminal that confirms another digest runs something
/// else, and is not believed.
#[must_use]
pub fn is_truthful(assignment: &Assignment, result: &ActionResult) -> bool {
    result.stage != Stage::RunningConfirmed
        || result
            .running
            .is_none_or(|running| running == assignment.package.content)
}

/// Whether a package is meant for terminals of this vendor and model; one that names no model is for all.
#[must_use]
pub fn fits(package: &Package, terminal: &Terminal) -> bool {
    package.vendor == terminal.holder.vendor
        && (package.models.is_empty() || package.models.contains(&terminal.holder.model))
}

fn wants_inventory(terminal: &Terminal, report: &StatusReport) -> bool {
    report.inventory.is_none() && terminal.inventory != Some(report.inventory_digest)
}

fn action(assignment: &Assignment, decoding: &Decoding) -> Action {
    let package = &assignment.package;
    let chosen = representation::smallest(assignment, decoding);
    Action {
        id: assignment.action.0,
        kind: ActionKind::Install,
        manifest: Some(package.manifest),
        manifest_size: Some(package.manifest_size),
        object: Some(chosen.map_or(package.content, |chosen| chosen.object)),
        size: Some(chosen.map_or(package.size, |chosen| chosen.size)),
        representation: Some(chosen.map_or(Representation::Whole, |chosen| chosen.form)),
        base: chosen.and_then(|chosen| chosen.base),
        depends_on: Vec::new(),
        download: None,
        install: None,
        preconditions: None,
        min_battery: None,
        restart: None,
        forced: None,
        prompt: None,
        on_error: None,
        priority: None,
        retry_delay: None,
        max_attempts: None,
        grant: None,
        component: None,
        target: None,
    }
}

fn actions_digest(actions: &[Action]) -> Digest {
    let mut out = Writer::new();
    for action in actions {
        action.write(Tag(0xA2), &mut out);
    }
    Digest::of(&out.into_vec())
}

/// The code under which a terminal in this state is refused, if it is (§8.5).
#[must_use]
pub const fn refusal(terminal: &Terminal) -> Option<ResultCode> {
    use crate::store::TerminalState;
    match terminal.state {
        TerminalState::Enrolled | TerminalState::Active => None,
        TerminalState::Deactivated => Some(ResultCode::Deactivated),
        TerminalState::Blacklisted => Some(ResultCode::Blacklisted),
    }
}
