//! What a terminal gets: functions of records, without I/O.

use super::representation;
use crate::estate::ParameterSetRef;
use crate::rule::task::assignment::{Reached, State};
use crate::rule::task::window::{Access, Part};
use crate::store::{ActionId, Assignment, Decoding, Order, Package, PlanStanding, Terminal, Versioned};
use tms_proto::code::{ActionKind, Representation, ResultCode};
use tms_proto::digest::Digest;
use tms_proto::message::{Action, MAX_ACTIONS, NextContact, Plan, StatusReport, Wanted, Window};
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
        NextContact::at(
            now.saturating_add(u64::from(self.period)).saturating_add(offset),
            self.window,
        )
    }
}

/// The most texts of tasks that go with one plan.
const MAX_TEXTS: usize = 4;

/// What a report is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// The plan, without a ticket.
    pub plan: Plan,
    /// What the terminal stands at when it has acknowledged the plan.
    pub standing: PlanStanding,
    /// The pending assignments that are offered by it.
    pub offered: Vec<ActionId>,
}

/// Plans for a terminal that sent `report` at `now`. All of `assignments` are in the plan: what is not to be offered now was
/// left out before.
#[must_use]
pub fn plan(
    terminal: &Terminal,
    assignments: &[Versioned<Assignment>],
    report: &StatusReport,
    next_contact: NextContact,
    now: u64,
) -> Planned {
    // What does not fit into this plan comes with a later one: each finished action makes room.
    let open = || assignments.iter().map(|open| &open.record).take(MAX_ACTIONS);
    // What the terminal reports now counts before what it reported last.
    let reported = report.inventory.as_ref().map(representation::decoding);
    let decoding = reported.as_ref().unwrap_or(&terminal.decoding);
    let actions: Vec<Action> = open()
        .filter_map(|assignment| action(assignment, decoding, now))
        .collect();
    let pending = || open().filter(|assignment| assignment.standing.state == State::Pending);
    let texts: Vec<&Assignment> = pending()
        .filter(|pending| is_text_now(pending, now))
        .take(MAX_TEXTS)
        .collect();
    let goes = |pending: &&Assignment| !matches!(pending.order, Order::Text { .. }) || texts.contains(pending);
    let offered = pending().filter(goes).map(|assignment| assignment.action).collect();
    let texts = texts.iter().filter_map(|assignment| match &assignment.order {
        Order::Text { text } => Some(text.as_ref().into()),
        _ => None,
    });
    let texts = texts.collect();
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
        texts,
        wanted,
        next_contact,
        ticket: None,
        not_after: None,
        withdrawn_texts: Vec::new(),
    };
    Planned {
        plan,
        standing,
        offered,
    }
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
        withdrawn_texts: Vec::new(),
    }
}

/// The objects that a terminal with these assignments may download.
#[must_use]
pub fn objects(assignments: &[Versioned<Assignment>]) -> Vec<Digest> {
    let packages = assignments
        .iter()
        .filter_map(|assignment| assignment.record.order.package());
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

/// The parameter sets that a terminal with these assignments may download.
#[must_use]
pub fn sets(assignments: &[Versioned<Assignment>]) -> Vec<ParameterSetRef> {
    let orders = assignments.iter().map(|assignment| &assignment.record.order);
    let sets = orders.filter_map(|order| match order {
        Order::Parameters { set } => Some(set.as_ref().clone()),
        _ => None,
    });
    sets.collect()
}

/// The check-in policy that a terminal with these assignments gets.
#[must_use]
pub fn policy(assignments: &[Versioned<Assignment>]) -> Option<String> {
    let orders = assignments.iter().map(|assignment| &assignment.record.order);
    let mut policies = orders.filter_map(|order| match order {
        Order::CheckInPolicy { policy } => Some(policy.clone()),
        _ => None,
    });
    policies.next_back()
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

/// An assignment as the terminal is told of it; none where there is nothing to tell.
fn action(assignment: &Assignment, decoding: &Decoding, now: u64) -> Option<Action> {
    let kind = kind(&assignment.order)?;
    let terms = &assignment.terms;
    let package = assignment.order.package();
    let chosen = representation::smallest(assignment, decoding);
    let object = chosen.map(|chosen| (chosen.object, chosen.size, chosen.form));
    let object = object.or_else(|| match &assignment.order {
        Order::Parameters { set } => Some((set.digest, set.size, Representation::Whole)),
        _ => package.map(|package| (package.content, package.size, Representation::Whole)),
    });
    Some(Action {
        id: assignment.action.0,
        kind,
        manifest: package.map(|package| package.manifest),
        manifest_size: package.map(|package| package.manifest_size),
        object: object.map(|(object, ..)| object),
        size: object.map(|(_, size, _)| size),
        representation: object.map(|(_, _, form)| form),
        base: chosen.and_then(|chosen| chosen.base),
        depends_on: terms.depends_on.iter().map(|action| action.0).collect(),
        download: window(assignment, Part::Download, now),
        install: window(assignment, Part::Install, now),
        preconditions: terms.preconditions.filter(|bits| *bits != 0),
        min_battery: terms.min_battery,
        restart: terms.restart,
        forced: terms.forced.then_some(true),
        prompt: terms.prompt.clone(),
        on_error: terms.on_error,
        priority: terms.priority,
        retry_delay: None,
        max_attempts: None,
        grant: None,
        component: match &assignment.order {
            Order::Remove { component } => Some(component.clone()),
            Order::Parameters { set } => Some(set.template.clone()),
            _ => None,
        },
        target: match assignment.order {
            Order::Cancel { target } => Some(target.0),
            _ => None,
        },
        max_postponed: terms.max_postponed,
    })
}

const fn kind(order: &Order) -> Option<ActionKind> {
    Some(match order {
        Order::Install { .. } => ActionKind::Install,
        Order::Download { .. } => ActionKind::Download,
        Order::Remove { .. } => ActionKind::Delete,
        Order::Restart => ActionKind::Restart,
        Order::Register => ActionKind::Bind,
        Order::CollectLogs => ActionKind::Upload,
        Order::Parameters { .. } => ActionKind::Update,
        Order::Cancel { .. } => ActionKind::Cancel,
        Order::CheckInPolicy { .. } | Order::Text { .. } => return None,
    })
}

/// Whether a text goes with a plan now: terminals show it at once, so that its window is the server's to keep.
fn is_text_now(assignment: &Assignment, now: u64) -> bool {
    let Order::Text { text } = &assignment.order else {
        return false;
    };
    let open = window(assignment, Part::Install, now);
    (text.from..text.until).contains(&now) && open.is_none_or(|open| (open.from..open.until).contains(&now))
}

/// The window of a part of an action, where it has one: each terminal begins somewhere else in it.
fn window(assignment: &Assignment, part: Part, now: u64) -> Option<Window> {
    let terms = &assignment.terms;
    let state = assignment.standing.state;
    let begun = match (part, state) {
        (Part::Install, state) => state.is_locked(),
        (Part::Download, State::Pending | State::Offered) => false,
        (Part::Download, State::Waiting { reached, .. }) => reached > Reached::Offered,
        (Part::Download, _) => true,
    };
    let salt = assignment.step.map_or(0, |step| step.task);
    match terms
        .windows
        .access(part, begun, assignment.created, now, &terms.zone())
    {
        Access::Free => None,
        Access::Within(opening) => Some(opening.personal(salt, assignment.terminal).into()),
        // It was open once, and will not be again: a window that is over.
        Access::Closed => Some(Window { from: 0, until: 1 }),
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
