//! When a stage begins: each of its members gets its assignments.

use super::ledger::Ledger;
use super::place::{Place, members};
use super::record::{Failures, Member, MemberStep, Share, Task};
use crate::estate::{
    ParameterError, ParameterSetRef, Parameters, TextDelivery, TextRecord, TextState, floors, order_of, read,
};
use crate::rule::task::assignment::Event as Move;
use crate::rule::task::conflict::{Floor, Rival, floor, settle};
use crate::rule::task::{Action, FailureClass, State, Work};
use crate::server::plan::fits;
use crate::server::representation::fitting;
use crate::store::{
    ActionId, Assignment, Caller, Change, CheckIn, Document, Expect, Key, Order, Package, Record, Step, Store,
    StoreError, Terms, Versioned,
};
use std::collections::BTreeMap;
use tms_proto::code::{ErrorAction, ResultCode};
use tms_proto::digest::Digest;
use tms_proto::message::Inventory;

/// The weight of what is no part of a task.
const USUAL_WEIGHT: u8 = 100;

/// Makes the assignments of a task's members.
pub(super) struct Assigning<'a> {
    store: &'a dyn Store,
    task: &'a Task,
    now: u64,
    packages: BTreeMap<Digest, Option<Package>>,
    floors: BTreeMap<(String, String), Vec<Floor>>,
    parameters: &'a Parameters,
}

/// What becomes of one action on one terminal.
pub(super) enum Resolved {
    /// It is to be done.
    Order {
        /// What.
        order: Order,
        /// It is a release that must not be skipped, of this order: what the task is about comes after it.
        floor: Option<u64>,
    },
    /// There is nothing to do.
    State(State),
    /// It cannot be done: why.
    Failed(ResultCode, String),
}

impl<'a> Assigning<'a> {
    pub(super) fn new(store: &'a dyn Store, parameters: &'a Parameters, task: &'a Task, now: u64) -> Self {
        Self {
            store,
            task,
            now,
            packages: BTreeMap::new(),
            floors: BTreeMap::new(),
            parameters,
        }
    }

    /// Adds to `changes` what gives `member` its assignments.
    pub(super) async fn assign(
        &mut self,
        mut member: Member,
        ledger: &mut Ledger<'_>,
        changes: &mut Vec<Change>,
    ) -> Result<(), StoreError> {
        let Some(known) = self.store.check_in(&Caller::Id(member.terminal)).await? else {
            member.due = None;
            return ledger.put(member, State::TerminalRemoved).await;
        };
        if let Some(until) = self.kept_away(&member).await? {
            member.due = Some(until);
            return ledger.put(member, State::Pending).await;
        }
        let place = Place::of(self.store, member.terminal, &member.branch).await?;
        let inventory = self.inventory(&known).await?;
        let mut terminal = known.terminal.record.clone();
        let mut made: Vec<Assignment> = Vec::new();
        let mut steps: Vec<MemberStep> = Vec::new();
        let task = self.task;
        for (action, place_in_task) in task.definition.actions.iter().zip(0_u8..) {
            let before = |place: &u8| steps.get(usize::from(*place));
            let there = |step: &&MemberStep| step.action.is_some() || step.state == State::AlreadyCurrent;
            let named: Vec<&MemberStep> = action.after.iter().filter_map(before).collect();
            // Of several, as one package for each model, those that are not for the terminal are not waited for.
            let possible = named
                .iter()
                .all(|step| there(step) || step.state == State::NotApplicable);
            let open = named.is_empty() || (possible && named.iter().any(there));
            let resolved = if open {
                self.resolve(action, &known, inventory.as_ref(), None).await?
            } else {
                Resolved::State(State::NotApplicable)
            };
            let step = match resolved.order(&mut member) {
                Err(done) => done,
                Ok((order, floor)) => {
                    terminal.last_action = terminal.last_action.saturating_add(1);
                    let id = ActionId(terminal.last_action);
                    let depends_on = action.after.iter().filter_map(|place| before(place)?.action).collect();
                    let mut assignment = Assignment::new(member.terminal, id, order, self.now, &task.author);
                    if let Order::Text { text } = &assignment.order {
                        let delivery = TextDelivery::waiting(text.id, member.terminal, self.now);
                        changes.push(Change::Put(Expect::Absent, Document::of(&delivery)?.into()));
                    }
                    assignment.terms = self.terms(action, depends_on, &place);
                    assignment.step = Some(Step {
                        task: task.id,
                        place: place_in_task,
                        floor,
                    });
                    made.push(assignment);
                    MemberStep::given(id)
                }
            };
            steps.push(step);
        }
        self.settle(&known, &mut made, &mut steps, ledger, changes).await?;
        member.shares = self.shares(&place).await?;
        (member.steps, member.due) = (steps, None);
        let state = member.whole().unwrap_or(State::NotApplicable);
        ledger.put(member, state).await?;
        if made.iter().any(|made| matches!(made.order, Order::Parameters { .. })) {
            terminal.resend_parameters = false;
        }
        if !made.is_empty() {
            changes.push(Change::Put(Expect::Version(known.terminal.version), terminal.into()));
        }
        changes.extend(made.into_iter().map(|made| Change::Put(Expect::Absent, made.into())));
        Ok(())
    }

    /// Which of several assignments for one component the terminal gets.
    async fn settle(
        &self,
        known: &CheckIn,
        made: &mut [Assignment],
        steps: &mut [MemberStep],
        ledger: &mut Ledger<'_>,
        changes: &mut Vec<Change>,
    ) -> Result<(), StoreError> {
        // One of theirs may stand in the way of two of ours.
        let mut gone: Vec<ActionId> = Vec::new();
        for new in made.iter_mut() {
            let others: Vec<&Versioned<Assignment>> = known
                .assignments
                .iter()
                .filter(|other| other.record.order.collides(&new.order))
                .filter(|other| !gone.contains(&other.record.action))
                .collect();
            let rivals: Vec<Rival> = others
                .iter()
                .map(|other| self.weighed(rival(&other.record)))
                .chain([rival(new)])
                .collect();
            let settlement = settle(&rivals);
            for place in settlement.superseded {
                match others.get(place) {
                    Some(other) => {
                        let Ok(after) = other.record.after(Move::Supersede { by: self.task.id }, self.now) else {
                            continue;
                        };
                        gone.push(after.action);
                        ledger.moved(&after).await?;
                        changes.push(Change::Put(Expect::Version(other.version), after.into()));
                    }
                    None => {
                        let by = settlement.winner.and_then(|winner| rivals.get(winner));
                        let event = Move::Supersede {
                            by: by.map_or(0, |rival| rival.task),
                        };
                        if let Ok(after) = new.after(event, self.now) {
                            *new = after;
                        }
                    }
                }
            }
            let state = new.standing.state;
            if let Some(step) = new.step.and_then(|step| steps.get_mut(usize::from(step.place))) {
                step.state = state;
            }
        }
        Ok(())
    }

    /// What becomes of an action on a terminal that has this inventory, and has reached this release of its component.
    pub(super) async fn resolve(
        &mut self,
        action: &Action,
        known: &CheckIn,
        inventory: Option<&Inventory>,
        reached: Option<u64>,
    ) -> Result<Resolved, StoreError> {
        let terminal = &known.terminal.record;
        let component = |id: &str| inventory?.components.iter().find(|component| component.id == *id);
        Ok(match &action.work {
            Work::Install { manifest } | Work::Download { manifest } => {
                let Some(package) = self.package(manifest).await?.filter(|package| fits(package, terminal)) else {
                    return Ok(Resolved::State(State::NotApplicable));
                };
                let runs = component(&package.package.component).and_then(|component| component.digest);
                if runs == Some(package.package.content) {
                    return Ok(Resolved::State(State::AlreadyCurrent));
                }
                if let Work::Download { .. } = action.work {
                    let package = fitting(package.package, terminal);
                    return Ok(Order::Download { package }.into());
                }
                match self.floor(&package, inventory, reached).await? {
                    None => Order::Install {
                        package: fitting(package.package, terminal),
                    }
                    .into(),
                    Some(floor) => match self
                        .package(&floor.manifest)
                        .await?
                        .filter(|floor| fits(floor, terminal))
                    {
                        Some(package) => Resolved::Order {
                            order: Order::Install {
                                package: fitting(package.package, terminal),
                            },
                            floor: Some(floor.order),
                        },
                        None => {
                            let why = format!("release {} comes before it, and is not for this terminal", floor.order);
                            Resolved::Failed(ResultCode::ModelMismatch, why)
                        }
                    },
                }
            }
            Work::Remove { component: name } => match inventory {
                Some(_) if component(name).is_none() => Resolved::State(State::AlreadyCurrent),
                _ => Order::Remove {
                    component: name.clone(),
                }
                .into(),
            },
            Work::Restart => Order::Restart.into(),
            Work::Register => Order::Register.into(),
            Work::CollectLogs => Order::CollectLogs.into(),
            Work::Parameters { template, version } => {
                let prepared = self.parameters.prepare(terminal.id, template, Some(*version)).await;
                let set = match prepared {
                    Ok(set) => set,
                    Err(ParameterError::Store(error)) => return Err(error),
                    Err(error) if error.is_transient() => return Err(StoreError::Unavailable(error.to_string())),
                    // What is missing is missing for this terminal: it has failed, and says why.
                    Err(error) => {
                        return Ok(Resolved::Failed(ResultCode::InvalidContent, error.to_string()));
                    }
                };
                let has = |set: &ParameterSetRef| {
                    let sets = inventory.iter().flat_map(|inventory| &inventory.parameters);
                    sets.into_iter()
                        .any(|there| there.name == set.template && there.digest == set.digest)
                };
                // One that took the place of another gets them even where they seem to be there.
                if has(&set) && !terminal.resend_parameters {
                    Resolved::State(State::AlreadyCurrent)
                } else {
                    Order::Parameters { set: Box::new(set) }.into()
                }
            }
            Work::CheckInPolicy { policy } => Order::CheckInPolicy { policy: policy.clone() }.into(),
            Work::Text { text } => {
                let given = TextDelivery::id_of(*text, terminal.id);
                if read::<TextDelivery>(self.store, &given).await?.is_some() {
                    return Ok(Resolved::State(State::AlreadyCurrent));
                }
                match self.text(*text).await? {
                    Some(text) if fits_screen(&text, inventory) => Order::Text {
                        text: Box::new(text.waiting()),
                    }
                    .into(),
                    _ => Resolved::State(State::NotApplicable),
                }
            }
        })
    }

    fn terms(&self, action: &Action, depends_on: Vec<ActionId>, place: &Place) -> Terms {
        let definition = &self.task.definition;
        let last = definition.actions.last() == Some(action);
        Terms {
            depends_on,
            preconditions: Some(action.preconditions),
            min_battery: Some(action.min_battery).filter(|charge| *charge > 0),
            forced: action.forced,
            max_postponed: action.max_postponements.map(u16::from),
            prompt: Some(action.prompt.clone()).filter(|prompt| !prompt.is_empty()),
            on_error: Some(definition.on_failure.error_action()).filter(|action| *action != ErrorAction::Continue),
            priority: Some(definition.priority),
            weight: Some(definition.weight),
            restart: (definition.restart_once && last).then_some(true),
            windows: definition.windows.clone(),
            zone: place.zone.clone(),
            timeouts: Some(definition.timeouts),
            confirm_after: definition.confirm_after,
        }
    }

    /// What it takes the place of has no weight.
    fn weighed(&self, rival: Rival) -> Rival {
        if self.task.definition.replaces.contains(&rival.task) {
            return Rival { weight: 0, ..rival };
        }
        rival
    }

    async fn shares(&self, place: &Place) -> Result<Vec<Share>, StoreError> {
        let mut shares = Vec::new();
        for rule in &self.task.definition.rates.max_unavailable {
            if let Some(value) = place.shared(rule.key) {
                let members = members(self.store, rule.key, &value).await?;
                shares.push(Share {
                    key: rule.key,
                    value,
                    members,
                });
            }
        }
        Ok(shares)
    }

    /// Until when one of the task's releases is kept from the terminal.
    async fn kept_away(&self, member: &Member) -> Result<Option<u64>, StoreError> {
        let mut until = None;
        for manifest in self
            .task
            .definition
            .actions
            .iter()
            .filter_map(|action| action.work.manifest())
        {
            let failures = read::<Failures>(self.store, &Failures::key(member.terminal, &manifest)).await?;
            let breaker = failures.map(|found| found.record.breaker);
            until = until.max(
                breaker
                    .filter(|breaker| breaker.is_open(self.now))
                    .and_then(|breaker| breaker.open_until),
            );
        }
        Ok(until)
    }

    /// The release that comes before a package on a terminal, if there is one.
    async fn floor(
        &mut self,
        package: &Package,
        inventory: Option<&Inventory>,
        reached: Option<u64>,
    ) -> Result<Option<Floor>, StoreError> {
        let component = &package.package.component;
        let key = (package.vendor.clone(), component.clone());
        if !self.floors.contains_key(&key) {
            let floors = floors(self.store, &package.vendor, component).await?;
            self.floors.insert(key.clone(), floors);
        }
        let Some(floors) = self.floors.get(&key).filter(|floors| !floors.is_empty()) else {
            return Ok(None);
        };
        let installed = match inventory {
            Some(inventory) => order_of(self.store, inventory, component).await?,
            None => None,
        };
        // The inventory may be of before what was reached.
        Ok(floor(installed.max(reached), package.order, floors).cloned())
    }

    pub(super) async fn inventory(&self, known: &CheckIn) -> Result<Option<Inventory>, StoreError> {
        let found = self.store.get(&Key::Inventory(known.terminal.record.id)).await?;
        Ok(found.and_then(|found| match found.record {
            Record::Inventory(record) => Some(record.inventory),
            _ => None,
        }))
    }

    /// An approved text whose time is not over.
    async fn text(&self, id: u64) -> Result<Option<TextRecord>, StoreError> {
        let found = read::<TextRecord>(self.store, &TextRecord::key(id)).await?;
        let found = found.map(|found| found.record);
        Ok(found.filter(|text| matches!(text.state, TextState::Approved { .. }) && self.now < text.message.until))
    }

    async fn package(&mut self, manifest: &Digest) -> Result<Option<Package>, StoreError> {
        if let Some(known) = self.packages.get(manifest) {
            return Ok(known.clone());
        }
        let found = self.store.get(&Key::Package(*manifest)).await?;
        let package = found.and_then(|found| match found.record {
            Record::Package(package) => Some(*package),
            _ => None,
        });
        self.packages.insert(*manifest, package.clone());
        Ok(package)
    }
}

/// Of a terminal that never said what it can show, it is the terminal that refuses.
fn fits_screen(text: &TextRecord, inventory: Option<&Inventory>) -> bool {
    let profile = inventory.and_then(|inventory| inventory.capabilities.as_ref());
    profile.is_none_or(|profile| text.message.fits(&profile.into()).is_ok())
}

impl Resolved {
    /// What there is to do, and which floor it is, if it is one; or what the step stands at without it. What cannot be done
    /// has failed, and `member` says why.
    pub(super) fn order(self, member: &mut Member) -> Result<(Order, Option<u64>), MemberStep> {
        let state = match self {
            Self::Order { order, floor } => return Ok((order, floor)),
            Self::State(state) => state,
            Self::Failed(code, why) => {
                member.note = Some(why.chars().take(200).collect());
                let class = FailureClass::of(code);
                State::Failed { class, code }
            }
        };
        Err(MemberStep { action: None, state })
    }
}

impl From<Order> for Resolved {
    fn from(order: Order) -> Self {
        Self::Order { order, floor: None }
    }
}

fn rival(assignment: &Assignment) -> Rival {
    Rival {
        task: assignment.step.map_or(0, |step| step.task),
        weight: assignment.terms.weight.unwrap_or(USUAL_WEIGHT),
        order: assignment.action.0,
        state: assignment.standing.state,
    }
}
