//! The record of an installation: what the business system said of it, message by message, and what that comes to.

use super::state::{Finding, InstallOperation, InstallState, NotAllowed};
use crate::rule::name::{Aliases, serial};
use crate::store::{BranchPath, Entity, Kind, TerminalId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The most messages of one installation.
pub(super) const MAX_MESSAGES: usize = 32;

/// The most contradictions that are kept of one installation.
const MAX_CONTRADICTIONS: usize = 32;

/// Something that the business system says of an installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstallationFact {
    /// The branch, by its path.
    Branch,
    /// Merchant number (ISO 8583 field 42): 1 to 15 characters.
    Merchant,
    /// The merchant's name.
    MerchantName,
    /// The site's id: 1 to 40 characters.
    Site,
    /// The site's address.
    Address,
    /// Terminal number (ISO 8583 field 41): 1 to 8 characters.
    Terminal,
    /// Vendor of the device.
    Vendor,
    /// Model of the device.
    Model,
    /// Serial number of the device, where a certain one is meant.
    Serial,
    /// Applications that are wanted, by the ids of their components, with commas between.
    Applications,
}

impl InstallationFact {
    /// What must be known before a device is put to an installation.
    pub const NEEDED: [Self; 6] = [
        Self::Branch,
        Self::Merchant,
        Self::Site,
        Self::Terminal,
        Self::Vendor,
        Self::Model,
    ];

    /// The name, as it is stored.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Branch => "branch",
            Self::Merchant => "merchant",
            Self::MerchantName => "merchant_name",
            Self::Site => "site",
            Self::Address => "address",
            Self::Terminal => "terminal",
            Self::Vendor => "vendor",
            Self::Model => "model",
            Self::Serial => "serial",
            Self::Applications => "applications",
        }
    }

    const fn longest(self) -> usize {
        match self {
            Self::Merchant => 15,
            Self::Terminal => 8,
            Self::Site | Self::Vendor | Self::Model | Self::Serial => 40,
            Self::MerchantName => 80,
            Self::Address | Self::Branch => 200,
            Self::Applications => 400,
        }
    }
}

/// A message of the business system about one installation. What it does not say, it does not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstallationMessage {
    /// The business system's own reference, 1 to 64 characters: messages with the same one are about the same installation.
    pub reference: String,
    /// When the business system wrote it, in seconds since 1970 UTC by its clock.
    pub issued: u64,
    /// What it says.
    pub facts: BTreeMap<InstallationFact, String>,
    /// The installation is called off.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub withdrawn: bool,
}

/// A message as it was received.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received {
    /// What it said, with names in the form that the estate uses.
    #[serde(flatten)]
    pub message: InstallationMessage,
    /// When, in seconds since 1970 UTC.
    pub received: u64,
    /// It was written before one that had come already.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub out_of_order: bool,
    /// It came when the installation was confirmed, done or called off.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub late: bool,
}

/// That two things were said of one. The first counts until an operator says which is right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contradiction {
    /// Of what.
    pub fact: InstallationFact,
    /// What was known.
    pub known: String,
    /// What was said then.
    pub said: String,
    /// When, in seconds since 1970 UTC.
    pub received: u64,
}

/// Who put a name to something, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    /// The operator.
    pub by: String,
    /// When, in seconds since 1970 UTC.
    pub at: u64,
}

/// An installation: that a terminal is to stand somewhere, and how far that has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installation {
    /// The business system's reference.
    pub reference: String,
    /// Where it stands.
    pub state: InstallState,
    /// What is known.
    pub facts: BTreeMap<InstallationFact, String>,
    /// What was said in two ways, and is not resolved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contradictions: Vec<Contradiction>,
    /// The messages, in the order in which they came: at most 32.
    pub messages: Vec<Received>,
    /// The device that is put to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<TerminalId>,
    /// Who put it there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initialised: Option<Signed>,
    /// Who confirmed it in the branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch_confirmed: Option<Signed>,
    /// Who confirmed it at head office.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_office_confirmed: Option<Signed>,
    /// When the terminal registered, in seconds since 1970 UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installed: Option<u64>,
}

impl Entity for Installation {
    const KIND: Kind = Kind::named("installation");

    fn id(&self) -> String {
        self.reference.clone()
    }

    fn marks(&self) -> Vec<(&'static str, String)> {
        let mut marks = vec![("state", format!("{}{}", self.state.name(), self.branch()))];
        if let (Some(device), false) = (self.device, self.state == InstallState::Withdrawn) {
            marks.push((Self::DEVICE, device.to_string()));
        }
        marks
    }
}

impl Installation {
    /// The mark of those that a device is put to.
    pub(crate) const DEVICE: &'static str = "device";

    pub(super) fn new(reference: &str) -> Self {
        Self {
            reference: reference.to_owned(),
            state: InstallState::Incomplete,
            facts: BTreeMap::new(),
            contradictions: Vec::new(),
            messages: Vec::new(),
            device: None,
            initialised: None,
            branch_confirmed: None,
            head_office_confirmed: None,
            installed: None,
        }
    }

    /// The branch that it belongs to: head office's, until another is known.
    #[must_use]
    pub fn branch(&self) -> BranchPath {
        let said = self.fact(InstallationFact::Branch).and_then(|path| path.parse().ok());
        said.unwrap_or_else(BranchPath::head_office)
    }

    /// What is known of one thing.
    #[must_use]
    pub fn fact(&self, fact: InstallationFact) -> Option<&str> {
        self.facts.get(&fact).map(String::as_str)
    }

    /// What must be known and is not.
    #[must_use]
    pub fn missing(&self) -> Vec<InstallationFact> {
        let needed = InstallationFact::NEEDED.into_iter();
        needed.filter(|fact| !self.facts.contains_key(fact)).collect()
    }

    /// Merchant and terminal number; none where they are not known yet.
    #[must_use]
    pub fn numbers(&self) -> Option<(&str, &str)> {
        let merchant = self.fact(InstallationFact::Merchant)?;
        Some((merchant, self.fact(InstallationFact::Terminal)?))
    }

    /// The logical terminal, in the form in which bindings name it; none where it is not known yet.
    #[must_use]
    pub fn logical(&self) -> Option<String> {
        let (merchant, terminal) = self.numbers()?;
        Some(format!("{merchant}:{terminal}"))
    }

    /// What the messages come to.
    #[must_use]
    pub fn finding(&self) -> Finding {
        if !self.contradictions.is_empty() {
            Finding::Contradictory
        } else if self.missing().is_empty() {
            Finding::Complete
        } else {
            Finding::Incomplete
        }
    }

    pub(super) fn advance(&mut self, operation: InstallOperation) -> Result<(), NotAllowed> {
        self.state = self.state.after(operation)?;
        if matches!(operation, InstallOperation::Receive(_)) && self.state == InstallState::Contradictory {
            (self.branch_confirmed, self.head_office_confirmed) = (None, None);
        }
        Ok(())
    }

    /// Takes a message in: what was not known is known then, and what was known otherwise is a contradiction. False where the
    /// same was said already.
    pub(super) fn receive(&mut self, message: InstallationMessage, now: u64) -> Result<bool, NotAllowed> {
        if self.messages.iter().any(|known| known.message == message) {
            return Ok(false);
        }
        let newest = self.messages.iter().map(|known| known.message.issued).max();
        let late = matches!(
            self.state,
            InstallState::Confirmed | InstallState::Installed | InstallState::Withdrawn
        );
        for (fact, said) in &message.facts {
            match self.facts.get(fact) {
                None => drop(self.facts.insert(*fact, said.clone())),
                Some(known) if known == said => {}
                Some(known) => {
                    let contradiction = Contradiction {
                        fact: *fact,
                        known: known.clone(),
                        said: said.clone(),
                        received: now,
                    };
                    let told = |known: &Contradiction| (known.fact, &known.said) == (*fact, said);
                    if !self.contradictions.iter().any(told) && self.contradictions.len() < MAX_CONTRADICTIONS {
                        self.contradictions.push(contradiction);
                    }
                }
            }
        }
        let withdrawn = message.withdrawn && self.state.allows(InstallOperation::Withdraw);
        self.messages.push(Received {
            out_of_order: newest.is_some_and(|newest| message.issued < newest),
            late,
            received: now,
            message,
        });
        self.advance(InstallOperation::Receive(self.finding()))?;
        if withdrawn {
            self.advance(InstallOperation::Withdraw)?;
        }
        Ok(true)
    }

    /// An operator says what is right.
    pub(super) fn resolve(&mut self, fact: InstallationFact, value: String) -> Result<(), NotAllowed> {
        self.facts.insert(fact, value);
        self.contradictions.retain(|contradiction| contradiction.fact != fact);
        self.advance(InstallOperation::Resolve(self.finding()))
    }
}

/// Brings a fact to the form that the estate uses; none where it is not one.
pub(super) fn form(fact: InstallationFact, value: &str, aliases: &Aliases, vendor: Option<&str>) -> Option<String> {
    use InstallationFact as Fact;
    let value = value.trim();
    let number = |value: &str| {
        value
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_. ".contains(&byte))
    };
    let sound = (1..=fact.longest()).contains(&value.chars().count()) && !value.chars().any(char::is_control);
    if !sound {
        return None;
    }
    let known = vendor.and_then(|vendor| aliases.vendor(vendor));
    match fact {
        Fact::Branch => Some(value.parse::<BranchPath>().ok()?.to_string()),
        Fact::Merchant | Fact::Terminal => number(value).then(|| value.to_owned()),
        Fact::Site => (!value.contains('/')).then(|| value.to_owned()),
        Fact::Vendor => Some(
            aliases
                .vendor(value)
                .map_or_else(|| value.to_owned(), |vendor| vendor.name.clone()),
        ),
        Fact::Model => {
            let model = known.and_then(|vendor| vendor.model(value));
            Some(model.map_or_else(|| value.to_owned(), |model| model.name.clone()))
        }
        Fact::Serial => match known {
            Some(vendor) => vendor.serial(value).ok(),
            None => serial(value).ok(),
        },
        Fact::Applications => {
            let mut names: Vec<_> = value
                .split(',')
                .map(str::trim)
                .filter(|name| !name.is_empty())
                .collect();
            names.sort_unstable();
            names.dedup();
            Some(names.join(",")).filter(|names| !names.is_empty())
        }
        Fact::MerchantName | Fact::Address => Some(value.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(issued: u64, facts: &[(InstallationFact, &str)]) -> InstallationMessage {
        InstallationMessage {
            reference: "r-1".to_owned(),
            issued,
            facts: facts.iter().map(|(fact, value)| (*fact, (*value).to_owned())).collect(),
            withdrawn: false,
        }
    }

    #[test]
    fn names_have_one_form() {
        use InstallationFact as Fact;
        let aliases = Aliases::known();
        for (fact, value, wanted) in [
            (Fact::Vendor, "百富", Some("PAX")),
            (Fact::Model, "pax p-80", Some("P80")),
            (Fact::Serial, "S/N: pax-0001", Some("0001")),
            (Fact::Branch, "/east", Some("/east/")),
            (Fact::Branch, "east", None),
            (Fact::Merchant, "1234567890123456", None),
            (Fact::Merchant, "12:3", None),
            (Fact::Site, "a/b", None),
            (Fact::Applications, "loyalty, bank,bank", Some("bank,loyalty")),
            (Fact::Address, "1 Quay\nHarbour", None),
        ] {
            assert_eq!(
                form(fact, value, &aliases, Some("PAX")).as_deref(),
                wanted,
                "{fact:?} {value}"
            );
        }
    }

    proptest! {
        /// Whatever comes, however often and in whatever order: the first that is said of a thing stands, every other is said to
        /// contradict it, and a message that is repeated changes nothing.
        #[test]
        fn nothing_is_merged_in_silence(messages in proptest::collection::vec((0u64..4, 0usize..6, 0u8..3), 0..20)) {
            let mut installation = Installation::new("r-1");
            for (now, (issued, fact, value)) in messages.into_iter().enumerate() {
                let fact = InstallationFact::NEEDED[fact];
                let value = format!("{value}");
                let before = installation.clone();
                let message = message(issued, &[(fact, &value)]);
                let new = installation.receive(message.clone(), now as u64).unwrap();
                prop_assert_eq!(new, before.messages.iter().all(|known| known.message != message));
                let first = before.fact(fact).unwrap_or(&value).to_owned();
                prop_assert_eq!(installation.fact(fact), Some(first.as_str()));
                let told = installation.contradictions.iter().any(|told| told.fact == fact && told.said == value);
                prop_assert_eq!(told, value != first);
                let known = installation.clone();
                prop_assert!(!installation.receive(message, 99).unwrap());
                prop_assert_eq!(&installation, &known);
                let state = InstallState::Incomplete.after(InstallOperation::Receive(installation.finding())).unwrap();
                prop_assert_eq!(installation.state, state);
            }
        }
    }
}
