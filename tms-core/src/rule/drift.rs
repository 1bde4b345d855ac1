//! Drift: what a terminal has, against what it shall have. Digests decide; versions are words.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tms_proto::code::ComponentKind;
use tms_proto::digest::Digest;
use tms_proto::message::{Component, Inventory, ParameterSet};

/// The most findings of one report that are about nothing the estate manages: bounds what a terminal can make a store hold.
pub const MAX_FOREIGN: usize = 256;

/// What is done about a difference, in ascending order of strictness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// What the terminal has is right from now on.
    Accept,
    /// It is shown to operators, and stays.
    #[default]
    Report,
    /// It is shown, and the terminal gets what it shall have.
    Restore,
}

/// What a terminal shall have.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Desired {
    /// The components that the estate manages, by id.
    pub components: BTreeMap<String, Target>,
    /// The parameter sets that the estate manages, by name.
    pub parameters: BTreeMap<String, Target>,
    /// Components that may be there and are not managed: what vendors put in.
    pub tolerated: Vec<String>,
}

/// What one component or parameter set shall be, and what is known of its way there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Digest of the content; `None` where it shall not be there.
    pub digest: Option<Digest>,
    /// Digests that it had before by the estate's own doing.
    #[serde(default)]
    pub earlier: Vec<Digest>,
    /// A task that is to bring it to this is not over.
    #[serde(default)]
    pub under_way: bool,
    /// The last task that was to bring it to this has failed.
    #[serde(default)]
    pub failed: bool,
    /// What is done when it was changed on site; `None`: what the policy says. For parameter sets, what their template
    /// says.
    #[serde(default)]
    pub on_site: Option<Response>,
}

impl Target {
    /// This content, with nothing known beside it.
    #[must_use]
    pub const fn of(digest: Digest) -> Self {
        Self {
            digest: Some(digest),
            earlier: Vec::new(),
            under_way: false,
            failed: false,
            on_site: None,
        }
    }
}

/// How what a terminal has stands to what it shall have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// It is what it shall be.
    Expected,
    /// It is not yet, and a task is bringing it there.
    UnderWay,
    /// It is something that the estate put there before.
    Old,
    /// A task was to bring it there and failed.
    FailedTask,
    /// Somebody changed it at the terminal: the terminal says so, or it is something that the estate never put there.
    OnSiteEdit,
    /// It is there, and nobody asked for it.
    Foreign,
    /// It shall be there and is not.
    Missing,
    /// The terminal does not tell its digest: nothing is known of it.
    Unproven,
}

impl Class {
    /// All in which something differs.
    pub const DIFFERENT: [Self; 6] = [
        Self::Old,
        Self::FailedTask,
        Self::OnSiteEdit,
        Self::Foreign,
        Self::Missing,
        Self::Unproven,
    ];

    /// The name, as it is stored.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Expected => "expected",
            Self::UnderWay => "under_way",
            Self::Old => "old",
            Self::FailedTask => "failed_task",
            Self::OnSiteEdit => "on_site_edit",
            Self::Foreign => "foreign",
            Self::Missing => "missing",
            Self::Unproven => "unproven",
        }
    }
}

/// What is done about each class of difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Policy {
    /// About what is old.
    pub old: Response,
    /// About what a task failed to bring. A task has its own retries; restoring begins another.
    pub failed_task: Response,
    /// About changes on site, where neither parameter nor component says otherwise.
    pub on_site: Response,
    /// About foreign applications; to restore is to remove them.
    pub foreign: Response,
    /// About what is missing.
    pub missing: Response,
    /// About what tells no digest.
    pub unproven: Response,
}

impl Default for Policy {
    /// What is old or missing is brought, everything else is reported: nothing is removed or overwritten before a person
    /// has seen it.
    fn default() -> Self {
        Self {
            old: Response::Restore,
            failed_task: Response::Report,
            on_site: Response::Report,
            foreign: Response::Report,
            missing: Response::Restore,
            unproven: Response::Report,
        }
    }
}

/// One component or parameter set of a terminal, judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What.
    pub item: Item,
    /// How it stands.
    pub class: Class,
    /// What is done about it; `None` where there is nothing to be done.
    pub response: Option<Response>,
    /// What it shall be.
    pub desired: Option<Digest>,
    /// What it is, as far as the terminal tells.
    pub reported: Option<Digest>,
    /// Its version, in the terminal's words.
    pub version: Option<String>,
    /// When it was changed on site, in seconds since 1970 UTC by the terminal's clock.
    pub changed_at: Option<u64>,
}

/// What a finding is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Item {
    /// A component, by id.
    Component(String),
    /// A parameter set, by name.
    Parameters(String),
}

/// Judges what a terminal reported, in the order of components and then parameter sets, each by name. What is expected is
/// among the findings. Where an inventory names something twice, the worse counts.
#[must_use]
pub fn findings(desired: &Desired, reported: &Inventory, policy: &Policy) -> Vec<Finding> {
    let mut found = BTreeMap::new();
    let mut keep = |finding: Finding| {
        let entry = found.entry(finding.item.clone()).or_insert_with(|| finding.clone());
        if entry.class < finding.class {
            *entry = finding;
        }
    };
    for component in &reported.components {
        if let Some(finding) = component_finding(desired, component, policy) {
            keep(finding);
        }
    }
    for set in &reported.parameters {
        keep(set_finding(desired, set, policy));
    }
    let has_component = |id: &str| reported.components.iter().any(|component| component.id == id);
    let has_set = |name: &str| reported.parameters.iter().any(|set| set.name == name);
    let components = desired.components.iter().filter(|(id, _)| !has_component(id));
    let sets = desired.parameters.iter().filter(|(name, _)| !has_set(name));
    let components = components.map(|(id, target)| (Item::Component(id.clone()), target));
    for (item, target) in components.chain(sets.map(|(name, target)| (Item::Parameters(name.clone()), target))) {
        let class = match target.digest {
            None => continue,
            Some(_) if target.under_way => Class::UnderWay,
            Some(_) if target.failed => Class::FailedTask,
            Some(_) => Class::Missing,
        };
        keep(Finding {
            item,
            class,
            response: policy.response(class, None),
            desired: target.digest,
            reported: None,
            version: None,
            changed_at: None,
        });
    }
    // What the estate manages is bounded by the estate; what a terminal makes up is not.
    let mut foreign = 0;
    found.retain(|_, finding| {
        foreign += usize::from(finding.desired.is_none());
        finding.desired.is_some() || foreign <= MAX_FOREIGN
    });
    found.into_values().collect()
}

impl Policy {
    /// What is done about a class; `on_site` says otherwise for changes on site.
    #[must_use]
    pub fn response(&self, class: Class, on_site: Option<Response>) -> Option<Response> {
        match class {
            Class::Expected | Class::UnderWay => None,
            Class::Old => Some(self.old),
            Class::FailedTask => Some(self.failed_task),
            Class::OnSiteEdit => Some(on_site.unwrap_or(self.on_site)),
            Class::Foreign => Some(self.foreign),
            Class::Missing => Some(self.missing),
            Class::Unproven => Some(self.unproven),
        }
    }
}

/// `None` for a component that nobody manages and nobody minds.
fn component_finding(desired: &Desired, component: &Component, policy: &Policy) -> Option<Finding> {
    let target = desired.components.get(&component.id);
    let class = match target {
        Some(target) => classify(target, component.digest, false),
        None if desired.tolerated.contains(&component.id) || !is_managed(component.kind) => return None,
        None => Class::Foreign,
    };
    Some(Finding {
        item: Item::Component(component.id.clone()),
        class,
        response: policy.response(class, target.and_then(|target| target.on_site)),
        desired: target.and_then(|target| target.digest),
        reported: component.digest,
        version: Some(component.version.clone()),
        changed_at: None,
    })
}

fn set_finding(desired: &Desired, set: &ParameterSet, policy: &Policy) -> Finding {
    let target = desired.parameters.get(&set.name);
    let class = target.map_or(Class::Foreign, |target| {
        classify(target, Some(set.digest), set.changed_on_site == Some(true))
    });
    Finding {
        item: Item::Parameters(set.name.clone()),
        class,
        response: policy.response(class, target.and_then(|target| target.on_site)),
        desired: target.and_then(|target| target.digest),
        reported: Some(set.digest),
        version: Some(set.version.clone()),
        changed_at: set.changed_at,
    }
}

/// The digest first: a set that was changed on site and changed back is what it shall be. Then what the terminal itself
/// says; then what the estate knows that it did.
fn classify(target: &Target, reported: Option<Digest>, changed: bool) -> Class {
    let Some(reported) = reported else {
        return match target.digest {
            _ if target.under_way => Class::UnderWay,
            Some(_) => Class::Unproven,
            None => Class::Foreign,
        };
    };
    let ours = target.earlier.contains(&reported);
    match target.digest {
        Some(wanted) if wanted == reported => Class::Expected,
        _ if changed => Class::OnSiteEdit,
        _ if target.under_way && ours => Class::UnderWay,
        _ if target.failed => Class::FailedTask,
        None if target.under_way => Class::UnderWay,
        None => Class::Foreign,
        Some(_) if ours => Class::Old,
        Some(_) => Class::OnSiteEdit,
    }
}

/// Whether components of this kind are what somebody can put on a terminal; the rest belongs to the device.
#[must_use]
pub const fn is_managed(kind: ComponentKind) -> bool {
    matches!(
        kind,
        ComponentKind::MainControl | ComponentKind::Application | ComponentKind::Other(_)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tms_proto::code::ComponentStatus;

    fn digest(n: u8) -> Digest {
        Digest::of(&[n])
    }

    fn component(id: &str, kind: ComponentKind, content: Option<u8>) -> Component {
        Component {
            id: id.to_owned(),
            kind,
            version: "1.0".to_owned(),
            counter: None,
            status: ComponentStatus::InOperation,
            digest: content.map(digest),
            serial: None,
            expiry: None,
            provider: None,
        }
    }

    fn set(name: &str, content: u8, changed_on_site: Option<bool>) -> ParameterSet {
        ParameterSet {
            name: name.to_owned(),
            kind: ComponentKind::ApplicationParameters,
            version: "7".to_owned(),
            digest: digest(content),
            changed_on_site,
            changed_at: changed_on_site.map(|_| 1_000),
        }
    }

    fn only(target: Target, reported: ParameterSet) -> (Class, Option<Response>) {
        let desired = Desired {
            parameters: [("pay".to_owned(), target)].into(),
            ..Desired::default()
        };
        let inventory = Inventory {
            parameters: vec![reported],
            ..Inventory::default()
        };
        let found = findings(&desired, &inventory, &Policy::default());
        assert_eq!(found.len(), 1);
        (found[0].class, found[0].response)
    }

    fn target() -> Target {
        Target {
            earlier: vec![digest(8), digest(9)],
            ..Target::of(digest(1))
        }
    }

    #[test]
    fn digests_decide() {
        let failed = Target {
            failed: true,
            ..target()
        };
        let under_way = Target {
            under_way: true,
            ..target()
        };
        let locked = Target {
            on_site: Some(Response::Restore),
            ..target()
        };
        let report = Some(Response::Report);
        let restore = Some(Response::Restore);
        for (target, reported, class) in [
            (target(), set("pay", 1, None), (Class::Expected, None)),
            // Changed on site and changed back.
            (target(), set("pay", 1, Some(true)), (Class::Expected, None)),
            (target(), set("pay", 2, Some(true)), (Class::OnSiteEdit, report)),
            // The terminal keeps it to itself, and yet it is nothing that anybody sent.
            (target(), set("pay", 2, None), (Class::OnSiteEdit, report)),
            (locked, set("pay", 2, None), (Class::OnSiteEdit, restore)),
            (target(), set("pay", 9, None), (Class::Old, restore)),
            // Somebody put the old values back by hand.
            (target(), set("pay", 9, Some(true)), (Class::OnSiteEdit, report)),
            (failed.clone(), set("pay", 9, None), (Class::FailedTask, report)),
            (failed.clone(), set("pay", 2, None), (Class::FailedTask, report)),
            (failed, set("pay", 1, None), (Class::Expected, None)),
            (under_way.clone(), set("pay", 9, None), (Class::UnderWay, None)),
            (under_way, set("pay", 2, None), (Class::OnSiteEdit, report)),
        ] {
            assert_eq!(only(target.clone(), reported.clone()), class, "{target:?} {reported:?}");
        }
    }

    #[test]
    fn applications_that_nobody_asked_for_are_foreign() {
        use ComponentKind::{Application, OperatingSystem};
        let desired = Desired {
            components: [
                ("pay".to_owned(), Target::of(digest(1))),
                ("gone".to_owned(), Target::of(digest(2))),
                (
                    "banned".to_owned(),
                    Target {
                        digest: None,
                        ..Target::of(digest(0))
                    },
                ),
                ("silent".to_owned(), Target::of(digest(3))),
            ]
            .into(),
            parameters: [("set".to_owned(), Target::of(digest(4)))].into(),
            tolerated: vec!["demo".to_owned()],
        };
        let inventory = Inventory {
            components: vec![
                component("pay", Application, Some(1)),
                component("silent", Application, None),
                component("game", Application, Some(66)),
                component("demo", Application, Some(67)),
                component("banned", Application, Some(68)),
                component("os", OperatingSystem, Some(69)),
            ],
            ..Inventory::default()
        };
        let found = findings(&desired, &inventory, &Policy::default());
        let found: Vec<(Item, Class)> = found.into_iter().map(|finding| (finding.item, finding.class)).collect();
        let item = |id: &str| Item::Component(id.to_owned());
        assert_eq!(
            found,
            [
                (item("banned"), Class::Foreign),
                (item("game"), Class::Foreign),
                (item("gone"), Class::Missing),
                (item("pay"), Class::Expected),
                (item("silent"), Class::Unproven),
                (Item::Parameters("set".to_owned()), Class::Missing),
            ]
        );
    }

    #[test]
    fn one_report_is_bounded() {
        let components = (0..1_000).map(|n| component(&n.to_string(), ComponentKind::Application, Some(1)));
        let inventory = Inventory {
            components: components.collect(),
            ..Inventory::default()
        };
        let desired = Desired {
            components: [("~".to_owned(), Target::of(digest(1)))].into(),
            ..Desired::default()
        };
        let found = findings(&desired, &inventory, &Policy::default());
        assert_eq!(found.len(), MAX_FOREIGN + 1);
        assert_eq!(found.last().map(|finding| finding.class), Some(Class::Missing));
    }

    proptest! {
        #[test]
        fn nothing_is_expected_but_by_its_digest(
            wanted in proptest::option::of(0..4u8), earlier in proptest::collection::vec(0..4u8, 0..3), reported in 0..4u8,
            under_way: bool, failed: bool, changed: bool,
        ) {
            let target = Target {
                digest: wanted.map(digest), earlier: earlier.into_iter().map(digest).collect(), under_way, failed, on_site: None,
            };
            let class = classify(&target, Some(digest(reported)), changed);
            prop_assert_eq!(class == Class::Expected, wanted == Some(reported));
            let quiet = Policy::default().response(class, None).is_none();
            prop_assert_eq!(quiet, class == Class::Expected || class == Class::UnderWay);
            // What the terminal admits is never hidden by a task that runs or failed.
            prop_assert!(!changed || matches!(class, Class::Expected | Class::OnSiteEdit));
        }

        #[test]
        fn each_thing_is_found_once(
            wanted in proptest::collection::btree_map("[a-d]", 0..3u8, 0..4), has in proptest::collection::vec(("[a-d]", 0..3u8), 0..6),
        ) {
            let desired = Desired {
                parameters: wanted.iter().map(|(name, content)| (name.clone(), Target::of(digest(*content)))).collect(),
                ..Desired::default()
            };
            let inventory = Inventory {
                parameters: has.iter().map(|(name, content)| set(name, *content, None)).collect(),
                ..Inventory::default()
            };
            let found = findings(&desired, &inventory, &Policy::default());
            let mut names: Vec<_> = wanted.keys().chain(has.iter().map(|(name, _)| name)).cloned().collect();
            names.sort();
            names.dedup();
            prop_assert_eq!(found.iter().map(|finding| finding.item.clone()).collect::<Vec<_>>(),
                names.into_iter().map(Item::Parameters).collect::<Vec<_>>());
            for finding in found {
                let Item::Parameters(name) = finding.item else { unreachable!() };
                let all: Vec<u8> = has.iter().filter(|(other, _)| *other == name).map(|(_, content)| *content).collect();
                let right = !all.is_empty() && all.iter().all(|content| wanted.get(&name) == Some(content));
                prop_assert_eq!(finding.class == Class::Expected, right);
            }
        }
    }
}
