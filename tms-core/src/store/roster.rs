//! The roster: of every terminal the few facts that operators list and count by.
//!
//! It is kept beside the terminals themselves, so that a check-in need not write it: what check-ins say is entered in
//! batches, and a report says as of when.

use super::{Terminal, TerminalId, TerminalState};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// Where a branch stands in the organisation: the names from head office down, each after a slash, and a slash at the end.
/// Head office is `/`; `/east/harbour/` is a branch of `/east/`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BranchPath(String);

/// Why a text is no branch path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a branch path is / or /name/name/: up to 8 names of 1 to 24 letters, digits, dots, dashes or underscores")]
pub struct BadBranchPath;

impl BranchPath {
    /// The most names in a path.
    pub const MAX_DEPTH: usize = 8;

    /// The longest name, in bytes.
    pub const MAX_NAME: usize = 24;

    /// Head office.
    #[must_use]
    pub fn head_office() -> Self {
        Self("/".to_owned())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `other` is this branch or one below it.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        other.0.starts_with(&self.0)
    }

    /// The branch above; none above head office.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let (above, _) = self.0.strip_suffix('/')?.rsplit_once('/')?;
        Some(Self(format!("{above}/")))
    }

    /// This branch and all above it, head office first.
    #[must_use]
    pub fn line(&self) -> Vec<Self> {
        let ends = self.0.match_indices('/');
        ends.filter_map(|(at, slash)| self.0.get(..at.saturating_add(slash.len())))
            .map(|path| Self(path.to_owned()))
            .collect()
    }
}

impl FromStr for BranchPath {
    type Err = BadBranchPath;

    fn from_str(text: &str) -> Result<Self, BadBranchPath> {
        if text == "/" {
            return Ok(Self::head_office());
        }
        let names = text.strip_prefix('/').ok_or(BadBranchPath)?;
        let names = names.strip_suffix('/').unwrap_or(names);
        let sound = |name: &str| {
            (1..=Self::MAX_NAME).contains(&name.len())
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
        };
        let names: Vec<_> = names.split('/').collect();
        if names.len() > Self::MAX_DEPTH || !names.iter().all(|name| sound(name)) {
            return Err(BadBranchPath);
        }
        Ok(Self(format!("/{}/", names.join("/"))))
    }
}

impl TryFrom<String> for BranchPath {
    type Error = BadBranchPath;

    fn try_from(text: String) -> Result<Self, BadBranchPath> {
        text.parse()
    }
}

impl From<BranchPath> for String {
    fn from(path: BranchPath) -> Self {
        path.0
    }
}

impl fmt::Display for BranchPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A day: whole days since 1970-01-01 UTC.
pub type Day = u32;

/// A terminal's line in the roster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RosterEntry {
    /// Whose.
    pub terminal: TerminalId,
    /// The branch that it belongs to.
    pub branch: BranchPath,
    /// Vendor.
    pub vendor: String,
    /// Model.
    pub model: String,
    /// Serial number.
    pub serial: String,
    /// The merchant where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merchant: Option<String>,
    /// The version of its first application.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Its state.
    pub state: TerminalState,
    /// The day of its last check-in; none where it never called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<Day>,
}

impl RosterEntry {
    /// The line of a terminal that never called, in this branch.
    #[must_use]
    pub fn of(terminal: &Terminal, branch: BranchPath) -> Self {
        Self {
            terminal: terminal.id,
            branch,
            vendor: terminal.holder.vendor.clone(),
            model: terminal.holder.model.clone(),
            serial: terminal.holder.serial.clone(),
            merchant: None,
            version: None,
            state: terminal.state,
            seen: None,
        }
    }
}

/// When terminals were last seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seen {
    /// On this day or later.
    Since(Day),
    /// Before this day, but at some time.
    Before(Day),
    /// Never.
    Never,
}

impl Seen {
    /// Whether it holds of a terminal that was last seen on `day`.
    #[must_use]
    pub fn holds(self, day: Option<Day>) -> bool {
        match self {
            Self::Since(since) => day.is_some_and(|day| day >= since),
            Self::Before(before) => day.is_some_and(|day| day < before),
            Self::Never => day.is_none(),
        }
    }
}

/// Which terminals: all that agree in everything that is said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RosterFilter {
    /// Of this branch and those below it.
    pub under: BranchPath,
    /// Of this vendor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vendor: Option<String>,
    /// Of this model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Whose serial number begins so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// At this merchant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merchant: Option<String>,
    /// With this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// In this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<TerminalState>,
    /// Last seen then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<Seen>,
}

impl RosterFilter {
    /// All terminals of a branch and those below it.
    #[must_use]
    pub const fn under(branch: BranchPath) -> Self {
        Self {
            under: branch,
            vendor: None,
            model: None,
            serial: None,
            merchant: None,
            version: None,
            state: None,
            seen: None,
        }
    }

    /// Whether it holds of a terminal.
    #[must_use]
    pub fn holds(&self, entry: &RosterEntry) -> bool {
        let is = |wanted: &Option<String>, there: &str| wanted.as_deref().is_none_or(|wanted| wanted == there);
        let has = |wanted: &Option<String>, there: &Option<String>| wanted.is_none() || wanted == there;
        self.under.covers(&entry.branch)
            && is(&self.vendor, &entry.vendor)
            && is(&self.model, &entry.model)
            && self
                .serial
                .as_deref()
                .is_none_or(|begin| entry.serial.starts_with(begin))
            && has(&self.merchant, &entry.merchant)
            && has(&self.version, &entry.version)
            && self.state.is_none_or(|state| state == entry.state)
            && self.seen.is_none_or(|seen| seen.holds(entry.seen))
    }
}

/// What terminals are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dimension {
    /// Branch.
    Branch,
    /// Vendor.
    Vendor,
    /// Model.
    Model,
    /// Merchant; empty for none.
    Merchant,
    /// Version; empty for none.
    Version,
    /// State, by its name.
    State,
    /// The day when it was last seen, as a decimal number of ten digits; empty for never.
    Seen,
    /// Whether it was seen on this day or later (`alive`), only before it (`silent`), or not at all (`never`).
    Alive(Day),
}

impl Dimension {
    /// What a terminal counts under.
    #[must_use]
    pub fn of(self, entry: &RosterEntry) -> String {
        match self {
            Self::Branch => entry.branch.to_string(),
            Self::Vendor => entry.vendor.clone(),
            Self::Model => entry.model.clone(),
            Self::Merchant => entry.merchant.clone().unwrap_or_default(),
            Self::Version => entry.version.clone().unwrap_or_default(),
            Self::State => entry.state.name().to_owned(),
            Self::Seen => entry.seen.map_or_else(String::new, |day| format!("{day:010}")),
            Self::Alive(since) => match entry.seen {
                None => "never",
                Some(day) if day < since => "silent",
                Some(_) => "alive",
            }
            .to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> BranchPath {
        text.parse().unwrap()
    }

    #[test]
    fn paths_have_one_form() {
        for (text, form) in [
            ("/", "/"),
            ("/east", "/east/"),
            ("/east/", "/east/"),
            ("/a/b-2/c_3", "/a/b-2/c_3/"),
        ] {
            assert_eq!(path(text).as_str(), form);
        }
        for text in [
            "",
            "east",
            "//",
            "/a//b",
            "/a b",
            "/a/../\u{0}",
            "/1/2/3/4/5/6/7/8/9",
            &format!("/{}", "x".repeat(25)),
        ] {
            assert_eq!(text.parse::<BranchPath>(), Err(BadBranchPath), "{text}");
        }
    }

    #[test]
    fn a_branch_covers_what_is_below_it() {
        assert!(path("/").covers(&path("/east/harbour")));
        assert!(path("/east").covers(&path("/east")));
        assert!(path("/east").covers(&path("/east/harbour")));
        assert!(!path("/east").covers(&path("/east2")));
        assert!(!path("/east/harbour").covers(&path("/east")));
        assert_eq!(path("/east/harbour").parent(), Some(path("/east")));
        assert_eq!(path("/east").parent(), Some(path("/")));
        assert_eq!(path("/").parent(), None);
        assert_eq!(path("/a/b").line(), [path("/"), path("/a"), path("/a/b")]);
    }
}
