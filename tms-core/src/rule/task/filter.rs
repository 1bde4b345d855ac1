//! Which terminals: a filter that operators write, and the facts that it is held against.

use crate::store::{BranchPath, TerminalId};
use serde::{Deserialize, Serialize};

/// Which terminals. Each list that is not empty must be met by one of its entries; the empty filter is met by all.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Filter {
    /// Branches, as `/east/harbour/`: those below each are in it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub branches: Vec<BranchPath>,
    /// Vendors, as the estate names them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vendors: Vec<String>,
    /// Models, as the estate names them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// Merchants, by number.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub merchants: Vec<String>,
    /// What is installed. All of these must hold, other than in the other lists.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub installed: Vec<Installed>,
    /// Single terminals.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub terminals: Vec<TerminalId>,
}

/// A condition on one component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// The component.
    pub component: String,
    /// It must be there in one of these versions; if there are none, in any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<String>,
    /// The opposite: it must not be there in one of these versions, or not at all.
    #[serde(default)]
    pub absent: bool,
}

/// What is known of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject<'a> {
    /// Its id.
    pub terminal: TerminalId,
    /// Its branch.
    pub branch: &'a BranchPath,
    /// Its vendor.
    pub vendor: &'a str,
    /// Its model.
    pub model: &'a str,
    /// The numbers of its merchants.
    pub merchants: &'a [String],
    /// What it has installed: components with their versions.
    pub components: &'a [(String, String)],
}

impl Filter {
    /// Whether the terminal meets it.
    #[must_use]
    pub fn matches(&self, subject: &Subject<'_>) -> bool {
        one_of(&self.branches, |branch| branch.covers(subject.branch))
            && one_of(&self.vendors, |vendor| vendor == subject.vendor)
            && one_of(&self.models, |model| model == subject.model)
            && one_of(&self.merchants, |merchant| subject.merchants.contains(merchant))
            && one_of(&self.terminals, |terminal| *terminal == subject.terminal)
            && self.installed.iter().all(|condition| condition.holds(subject))
    }

    /// Whether all terminals meet it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Installed {
    fn holds(&self, subject: &Subject<'_>) -> bool {
        let is_there = subject.components.iter().any(|(component, version)| {
            *component == self.component && one_of(&self.versions, |wanted| wanted == version)
        });
        is_there != self.absent
    }
}

fn one_of<T>(list: &[T], met: impl FnMut(&T) -> bool) -> bool {
    list.is_empty() || list.iter().any(met)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(ToString::to_string).collect()
    }

    fn meets(filter: &Filter) -> bool {
        filter.matches(&Subject {
            terminal: TerminalId(7),
            branch: &"/north/river/".parse().unwrap(),
            vendor: "PAX",
            model: "P80",
            merchants: &names(&["M1", "M2"]),
            components: &[("pay".to_owned(), "2.0".to_owned())],
        })
    }

    #[test]
    fn the_empty_filter_is_met_by_all() {
        assert!(meets(&Filter::default()));
    }

    #[test]
    fn a_branch_has_what_is_below_it_and_nothing_beside_it() {
        for (branch, expected) in [
            ("/", true),
            ("/north", true),
            ("/north/river", true),
            ("/nor", false),
            ("/north/river/bank", false),
            ("/river", false),
        ] {
            let filter = Filter {
                branches: vec![branch.parse().unwrap()],
                ..Filter::default()
            };
            assert_eq!(meets(&filter), expected, "{branch}");
        }
    }

    #[test]
    fn lists_are_or_within_and_and_between() {
        let filter = Filter {
            vendors: names(&["PAX", "Verifone"]),
            merchants: names(&["M9", "M2"]),
            terminals: vec![TerminalId(7)],
            ..Filter::default()
        };
        assert!(meets(&filter));
        assert!(!meets(&Filter {
            models: names(&["Vx510"]),
            ..filter
        }));
    }

    #[test]
    fn components_are_asked_for_by_version_or_by_absence() {
        for (component, versions, absent, expected) in [
            ("pay", &[][..], false, true),
            ("pay", &["1.0", "2.0"], false, true),
            ("pay", &["1.0"], false, false),
            ("pay", &["1.0"], true, true),
            ("pay", &[], true, false),
            ("loyalty", &[], true, true),
            ("loyalty", &[], false, false),
        ] {
            let installed = vec![Installed {
                component: component.to_owned(),
                versions: names(versions),
                absent,
            }];
            let filter = Filter {
                installed,
                ..Filter::default()
            };
            assert_eq!(meets(&filter), expected, "{component} {versions:?} {absent}");
        }
    }
}
