//! What is kept for drift: what each terminal shall have, and what is found.

use crate::rule::drift::{Class, Desired, Finding, Item, Policy, Response, Target, is_managed};
use crate::rule::task::State;
use crate::store::{ActionId, Assignment, BranchPath, Entity, Kind, Order, TerminalId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tms_proto::code::{ResultCode, Stage};
use tms_proto::digest::Digest;
use tms_proto::message::Inventory;

/// How many digests of earlier contents are known of one thing.
const MAX_EARLIER: usize = 16;

/// How often the estate brings the same content again by itself. After that a person has to see why.
const MAX_RESTORES: u8 = 3;

/// What is done about drift, in the whole estate.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DriftPolicy {
    /// By class.
    pub policy: Policy,
    /// About what a terminal has that reports for the first time: to accept is to take it for what it came with.
    pub first: First,
    /// Components that may be there and are not managed: what vendors put in.
    pub tolerated: Vec<String>,
}

/// What is done about a terminal's first inventory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum First {
    /// It is what the terminal came with.
    #[default]
    Accept,
    /// It is judged as any other: what the estate has not brought is foreign.
    Judge,
}

impl DriftPolicy {
    pub(super) const ID: &'static str = "estate";
}

impl Entity for DriftPolicy {
    const KIND: Kind = Kind::named("drift_policy");

    fn id(&self) -> String {
        Self::ID.to_owned()
    }
}

/// What a terminal has that it should not have, or has not that it should.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drift {
    /// The terminal.
    pub terminal: TerminalId,
    /// The branch that it belongs to.
    pub branch: BranchPath,
    /// When it reported what it has, in seconds since 1970 UTC.
    pub reported: u64,
    /// What differs, without what is expected or on its way.
    pub items: Vec<DriftItem>,
}

/// One thing that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriftItem {
    /// What, and how.
    pub finding: Finding,
    /// When it was found first, in seconds since 1970 UTC.
    pub since: u64,
    /// An operator has had it put right.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub wanted: bool,
}

impl DriftItem {
    /// Whether the policy has the terminal get what it shall have.
    pub(super) fn is_restored(&self) -> bool {
        self.finding.response == Some(Response::Restore)
    }
}

impl Drift {
    /// The mark of all of them: the branch.
    pub(in crate::estate) const ALL: &'static str = "branch";

    /// The mark of those in which something is to be put right: the branch.
    pub(super) const RESTORE: &'static str = "restore";
}

impl Entity for Drift {
    const KIND: Kind = Kind::named("drift");

    fn id(&self) -> String {
        self.terminal.to_string()
    }

    fn marks(&self) -> Vec<(&'static str, String)> {
        let mut names: Vec<&'static str> = self.items.iter().map(|item| item.finding.class.name()).collect();
        names.push(Self::ALL);
        if self.items.iter().any(DriftItem::is_restored) {
            names.push(Self::RESTORE);
        }
        names.sort_unstable();
        names.dedup();
        names.into_iter().map(|name| (name, self.branch.to_string())).collect()
    }
}

/// What a terminal shall have: what the estate last brought there or is bringing, and what was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Wanted {
    pub(super) terminal: TerminalId,
    /// Its first inventory was taken in.
    #[serde(default)]
    pub(super) begun: bool,
    pub(super) wants: Vec<Want>,
    #[serde(default)]
    pub(super) tolerated: Vec<String>,
}

/// What one component or parameter set shall be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Want {
    pub(super) item: Item,
    pub(super) target: Target,
    /// What it was last known to be by the estate's doing or by acceptance.
    #[serde(default)]
    pub(super) confirmed: Option<Digest>,
    /// The last action that was to bring it somewhere.
    #[serde(default)]
    pub(super) action: ActionId,
    /// Actions up to this one say nothing any more: something else was accepted after them.
    #[serde(default)]
    pub(super) through: ActionId,
    /// The package that the target is the content of.
    #[serde(default)]
    pub(super) manifest: Option<Digest>,
    /// How often the same content was brought again.
    #[serde(default)]
    pub(super) restores: u8,
}

impl Entity for Wanted {
    const KIND: Kind = Kind::named("wanted");

    fn id(&self) -> String {
        self.terminal.to_string()
    }
}

/// What an assignment brings, if it brings something: what, its content, and the package, where it is one.
fn brings(order: &Order) -> Option<(Item, Digest, Option<Digest>)> {
    match order {
        Order::Install { package } => Some((
            Item::Component(package.component.clone()),
            package.content,
            Some(package.manifest),
        )),
        Order::Parameters { set } => Some((Item::Parameters(set.template.clone()), set.digest, None)),
        _ => None,
    }
}

impl Wanted {
    pub(super) const fn new(terminal: TerminalId) -> Self {
        Self {
            terminal,
            begun: false,
            wants: Vec::new(),
            tolerated: Vec::new(),
        }
    }

    pub(super) fn find(&self, item: &Item) -> Option<&Want> {
        self.wants.iter().find(|want| want.item == *item)
    }

    /// Takes in how an assignment stands. Said again, or late, it means the same.
    pub(super) fn learn(&mut self, assignment: &Assignment) {
        if let Order::Remove { component } = &assignment.order {
            let mut want = self.taken(Item::Component(component.clone()));
            want.learn(assignment, None, None);
            if !is_confirmed(assignment) || want.action > assignment.action {
                self.wants.push(want);
            }
            return;
        }
        let Some((item, digest, manifest)) = brings(&assignment.order) else {
            return;
        };
        let mut want = self.taken(item);
        want.learn(assignment, Some(digest), manifest);
        if want.target.digest.is_some() {
            self.wants.push(want);
        }
    }

    /// What is wanted of something, to be changed and put back.
    fn taken(&mut self, item: Item) -> Want {
        match self.wants.iter().position(|want| want.item == item) {
            Some(place) => self.wants.remove(place),
            None => Want::of(item, None),
        }
    }

    pub(super) fn is_under_way(&self, item: &Item) -> bool {
        self.find(item).is_some_and(|want| want.target.under_way)
    }

    /// It cannot be put right: whoever sees it reported has to say what to do.
    pub(super) fn give_up(&mut self, item: &Item) {
        let mut want = self.taken(item.clone());
        want.restores = MAX_RESTORES;
        self.wants.push(want);
    }

    /// Takes what a terminal reports first for what it came with.
    pub(super) fn begin(&mut self, inventory: &Inventory) {
        let components = inventory
            .components
            .iter()
            .filter(|component| is_managed(component.kind));
        let components = components.map(|component| (Item::Component(component.id.clone()), component.digest));
        let sets = inventory.parameters.iter();
        let sets = sets.map(|set| (Item::Parameters(set.name.clone()), Some(set.digest)));
        for (item, digest) in components.chain(sets) {
            match (self.wants.iter_mut().find(|want| want.item == item), digest) {
                (Some(want), Some(digest)) => {
                    want.confirmed = want.confirmed.or(Some(digest));
                    want.remember(digest);
                }
                (None, Some(digest)) => self.wants.push(Want::of(item, Some(digest))),
                (None, None) => self.tolerate(&item),
                (Some(_), None) => {}
            }
        }
        self.begun = true;
    }

    /// What the terminal has is right from now on.
    pub(super) fn accept(&mut self, finding: &Finding, last: ActionId) {
        let place = self.wants.iter().position(|want| want.item == finding.item);
        let before = place.map(|place| self.wants.remove(place));
        match finding.reported {
            Some(reported) => {
                let mut want = Want::of(finding.item.clone(), Some(reported));
                if let Some(before) = before {
                    want.target.earlier = before.target.earlier;
                    want.target.on_site = before.target.on_site;
                    for digest in before.target.digest.into_iter().chain(before.confirmed) {
                        want.remember(digest);
                    }
                }
                (want.action, want.through) = (last, last);
                self.wants.push(want);
            }
            // It is there, and nothing more is known of it.
            None if finding.class == Class::Unproven => self.tolerate(&finding.item),
            None => {}
        }
    }

    fn tolerate(&mut self, item: &Item) {
        if let Item::Component(id) = item
            && !self.tolerated.contains(id)
        {
            self.tolerated.push(id.clone());
        }
    }

    /// What the terminal shall have, as the rules want it. `on_site` says what each parameter set's template asks for.
    pub(super) fn desired(&self, policy: &DriftPolicy, on_site: &BTreeMap<String, Option<Response>>) -> Desired {
        let mut desired = Desired {
            tolerated: self.tolerated.iter().chain(&policy.tolerated).cloned().collect(),
            ..Desired::default()
        };
        for want in &self.wants {
            match &want.item {
                Item::Component(id) => desired.components.insert(id.clone(), want.target.clone()),
                Item::Parameters(name) => {
                    let mut target = want.target.clone();
                    target.on_site = on_site.get(name).copied().flatten();
                    desired.parameters.insert(name.clone(), target)
                }
            };
        }
        desired
    }

    /// Whether the estate may bring this again by itself: not while it does, and not for ever. What is as it shall be begins
    /// anew.
    pub(super) fn judge(&mut self, finding: &mut Finding) {
        let Some(want) = self.wants.iter_mut().find(|want| want.item == finding.item) else {
            return;
        };
        match finding.class {
            Class::Expected => want.restores = 0,
            _ if finding.response != Some(Response::Restore) => {}
            _ if want.target.under_way || want.restores >= MAX_RESTORES => {
                finding.response = Some(Response::Report);
            }
            _ => {}
        }
    }
}

impl Want {
    fn of(item: Item, digest: Option<Digest>) -> Self {
        Self {
            item,
            target: Target {
                digest,
                earlier: Vec::new(),
                under_way: false,
                failed: false,
                on_site: None,
            },
            confirmed: digest,
            action: ActionId::default(),
            through: ActionId::default(),
            manifest: None,
            restores: 0,
        }
    }

    /// `digest` is what it comes to; none where it is removed.
    fn learn(&mut self, assignment: &Assignment, digest: Option<Digest>, manifest: Option<Digest>) {
        let action = assignment.action;
        if action <= self.through || action < self.action && !is_confirmed(assignment) {
            return;
        }
        if action < self.action {
            // A late truth: it was there, and the newer action goes on.
            self.confirmed = digest;
            digest.into_iter().for_each(|digest| self.remember(digest));
            return;
        }
        if action > self.action {
            let again = self.target.digest == digest;
            self.restores = if again { self.restores.saturating_add(1) } else { 0 };
            if let Some(before) = self.target.digest.filter(|_| !again) {
                self.remember(before);
            }
            (self.action, self.target.digest, self.manifest) = (action, digest, manifest);
        }
        self.target.under_way = !assignment.closed;
        self.target.failed = false;
        if is_confirmed(assignment) {
            (self.confirmed, self.target.digest) = (digest, digest);
        } else if matches!(
            assignment.standing.state,
            State::Cancelled { .. } | State::Superseded { .. }
        ) {
            // Nobody wants it any more: what was there before shall be there.
            digest.into_iter().for_each(|digest| self.remember(digest));
            if self.target.digest != self.confirmed {
                (self.target.digest, self.manifest) = (self.confirmed, None);
            }
        } else if assignment.closed {
            self.target.failed = true;
        }
    }

    fn remember(&mut self, digest: Digest) {
        self.target.earlier.retain(|other| *other != digest);
        self.target.earlier.push(digest);
        let excess = self.target.earlier.len().saturating_sub(MAX_EARLIER);
        self.target.earlier.drain(..excess);
    }
}

fn is_confirmed(assignment: &Assignment) -> bool {
    assignment.stage == Stage::RunningConfirmed && assignment.code == ResultCode::Success
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::sample;

    fn assignment(action: u64, content: u8, stage: Stage, closed: bool) -> Assignment {
        let mut assignment = sample::assignment(1, action);
        assignment.order.package_mut().unwrap().component = "pay".to_owned();
        assignment.order.package_mut().unwrap().content = Digest::of(&[content]);
        (assignment.stage, assignment.closed) = (stage, closed);
        if stage == Stage::Cancelled {
            assignment.standing.state = State::Cancelled { forced: true };
        }
        assignment.code = match stage {
            Stage::Rejected => ResultCode::SignatureError,
            _ => ResultCode::Success,
        };
        assignment
    }

    fn target(wanted: &Wanted) -> (Option<u8>, bool, bool) {
        let Some(want) = wanted.wants.first() else {
            return (None, false, false);
        };
        let content = (0..9).find(|n| want.target.digest == Some(Digest::of(&[*n])));
        (content, want.target.under_way, want.target.failed)
    }

    #[test]
    fn what_a_terminal_shall_have_follows_its_assignments() {
        use Stage::{Accepted, Cancelled, Rejected, RunningConfirmed};
        let mut wanted = Wanted::new(TerminalId(1));
        for (action, content, stage, closed, expected) in [
            (1, 1, Accepted, false, (Some(1), true, false)),
            (1, 1, RunningConfirmed, true, (Some(1), false, false)),
            (2, 2, Accepted, false, (Some(2), true, false)),
            (2, 2, Rejected, true, (Some(2), false, true)),
            // Said again.
            (1, 1, RunningConfirmed, true, (Some(2), false, true)),
            (3, 3, Accepted, false, (Some(3), true, false)),
            (3, 3, Cancelled, true, (Some(1), false, false)),
            // It had been installed after all.
            (3, 3, RunningConfirmed, true, (Some(3), false, false)),
        ] {
            wanted.learn(&assignment(action, content, stage, closed));
            assert_eq!(target(&wanted), expected, "action {action} {stage}");
        }
        // A first package that is withdrawn leaves nothing that would be wanted.
        let mut wanted = Wanted::new(TerminalId(1));
        wanted.learn(&assignment(1, 1, Cancelled, true));
        assert_eq!(wanted.wants, []);
    }

    #[test]
    fn a_removal_is_under_way_until_it_is_done() {
        let removal = |action, stage, closed| Assignment {
            order: Order::Remove {
                component: "pay".to_owned(),
            },
            ..assignment(action, 1, stage, closed)
        };
        // Of what nobody asked for nothing is left when it is gone.
        let mut wanted = Wanted::new(TerminalId(1));
        wanted.learn(&removal(1, Stage::Accepted, false));
        assert_eq!(target(&wanted), (None, true, false));
        wanted.learn(&removal(1, Stage::RunningConfirmed, true));
        assert_eq!(wanted.wants, []);
        // One that fails is known to have failed, and is not begun for ever.
        for action in 2..=5 {
            wanted.learn(&removal(action, Stage::Rejected, true));
            assert_eq!(target(&wanted), (None, false, true), "{action}");
        }
        assert_eq!(wanted.wants[0].restores, MAX_RESTORES + 1);
        // One that is withdrawn leaves what was there.
        let mut wanted = Wanted::new(TerminalId(1));
        wanted.learn(&assignment(1, 1, Stage::RunningConfirmed, true));
        wanted.learn(&removal(2, Stage::Accepted, false));
        wanted.learn(&removal(2, Stage::Cancelled, true));
        assert_eq!(target(&wanted), (Some(1), false, false));
    }

    #[test]
    fn the_same_is_brought_again_by_itself_but_a_few_times() {
        let mut wanted = Wanted::new(TerminalId(1));
        let finding = |class| Finding {
            item: Item::Component("pay".to_owned()),
            class,
            response: Some(Response::Restore),
            desired: None,
            reported: None,
            version: None,
            changed_at: None,
        };
        for action in 1..=4 {
            let mut missing = finding(Class::Missing);
            wanted.judge(&mut missing);
            assert_eq!(missing.response, Some(Response::Restore), "{action}");
            wanted.learn(&assignment(action, 1, Stage::RunningConfirmed, true));
        }
        let mut missing = finding(Class::Missing);
        wanted.judge(&mut missing);
        assert_eq!(missing.response, Some(Response::Report));
        wanted.judge(&mut finding(Class::Expected));
        let mut missing = finding(Class::Missing);
        wanted.judge(&mut missing);
        assert_eq!(missing.response, Some(Response::Restore));
    }
}
