//! Parameter templates: what parameters an application has, what head office, branches, models, merchants and single
//! terminals set them to, and what a terminal gets of it.
//!
//! A [`Template`] defines the parameters. [`Layer`]s give them values, the narrower over the wider: head office, each
//! branch on the way down, vendor, model, merchant, terminal. A value may name variables, `${merchant.name}`; a layer may set
//! variables too. [`render`] makes of them the [`Rendering`] of one terminal: typed values, each with the layer that it
//! comes from, and a digest. Secrets are sealed before they come here and stay so.
//!
//! Templates and layers of one version never change: a task names the [`Pins`] that it was made with.

mod diff;
mod document;
mod expand;
mod render;
mod value;

pub use diff::{Difference, Edit, Shown, Uncertain, diff};
pub use document::{Document, Parameter};
pub use expand::Expanded;
pub use render::{Fault, FaultKind, Origin, Pins, Rendered, Rendering, render};
pub use value::{Charset, Kind, Sealed, Value, ValueError};

use super::drift::Response;
use crate::store::TerminalId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use thiserror::Error;

/// The most parameters of a template: an encoded value has at most 1,024 elements (§6.5).
pub const MAX_PARAMETERS: usize = 1_000;

/// The most bytes of a value, as it is written or when its variables are filled in.
pub const MAX_VALUE: usize = 4_096;

/// The most bytes of a parameter's or a variable's name.
pub const MAX_NAME: usize = 64;

/// The most levels below head office.
pub const MAX_DEPTH: usize = 16;

/// One version of a template.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Template {
    /// Its name: the parameter set that terminals report.
    pub name: String,
    /// Its version, from 1. A change is a new version.
    pub version: u32,
    /// The parameters.
    pub definitions: Vec<Definition>,
}

/// What one parameter is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// Its name: letters `a` to `z` and `A` to `Z`, digits, `_`, `-` and `.`, 1 to 64 of them.
    pub name: String,
    /// What people call it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub label: String,
    /// What values it has.
    pub kind: Kind,
    /// Its value where no layer has one. It may name variables. A secret has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// A terminal without it cannot work: no value is a fault. Otherwise it is left out.
    #[serde(default)]
    pub required: bool,
    /// The narrowest level that may set it. `None`: any may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub narrowest: Option<Level>,
    /// What is done when it was changed on site.
    #[serde(default)]
    pub on_site: Response,
}

/// Which kind of layer, from the widest to the narrowest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Head office.
    HeadOffice,
    /// A branch.
    Branch,
    /// All models of a vendor.
    Vendor,
    /// A model.
    Model,
    /// A merchant.
    Merchant,
    /// One terminal.
    Terminal,
}

/// For which terminals a layer is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// A branch and all below it, by its path from head office; the empty path is head office, and all terminals.
    Branch(Vec<String>),
    /// All models of a vendor.
    Vendor(String),
    /// A vendor's model.
    Model {
        /// The vendor.
        vendor: String,
        /// The model.
        model: String,
    },
    /// A merchant, by its number.
    Merchant(String),
    /// One terminal.
    Terminal(TerminalId),
}

/// One version of what one scope sets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// For which terminals.
    pub scope: Scope,
    /// Its version, from 1. A change is a new version.
    pub version: u32,
    /// Values by parameter.
    #[serde(default)]
    pub values: BTreeMap<String, Value>,
    /// Variables that it sets, by name; they may name others. They are shown: a secret is never one.
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
}

/// The terminal that parameters are made for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    /// The path of its branch from head office.
    pub branch: Vec<String>,
    /// Its vendor.
    pub vendor: String,
    /// Its model.
    pub model: String,
    /// The number of its merchant, where it has one.
    #[serde(default)]
    pub merchant: Option<String>,
    /// The terminal.
    pub terminal: TerminalId,
    /// What is known of it, of its merchant and its site: `merchant.name`, `terminal.number` and so on. They are facts: no
    /// layer's variable overrides them, and a `$` in them is a `$`.
    #[serde(default)]
    pub facts: BTreeMap<String, String>,
}

/// What is wrong with a template or a layer itself.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TemplateError {
    /// More parameters or variables than 1,000, or a branch path of more than 16 levels.
    #[error("too large")]
    Large,
    /// A name that is none.
    #[error("not a name: {0:?}")]
    Name(String),
    /// A name that was used before.
    #[error("defined twice: {0}")]
    Twice(String),
    /// A value or a variable of more than 4,096 bytes.
    #[error("{0}: longer than {MAX_VALUE} bytes")]
    Long(String),
    /// A definition that no value can satisfy, or whose default does not.
    #[error("{name}: {error}")]
    Definition {
        /// The parameter.
        name: String,
        /// What is wrong.
        error: ValueError,
    },
}

impl Template {
    /// Checks the definitions. Defaults that name variables are checked when they are rendered.
    ///
    /// # Errors
    /// [`TemplateError`] with the first thing that is wrong.
    pub fn check(&self) -> Result<(), TemplateError> {
        if self.definitions.len() > MAX_PARAMETERS {
            return Err(TemplateError::Large);
        }
        let mut seen = std::collections::BTreeSet::new();
        for definition in &self.definitions {
            let name = &definition.name;
            named(name)?;
            if !seen.insert(name) {
                return Err(TemplateError::Twice(name.clone()));
            }
            let wrong = |error| TemplateError::Definition {
                name: name.clone(),
                error,
            };
            definition.kind.check().map_err(wrong)?;
            if let Some(default) = &definition.default {
                sized(name, default)?;
                if !default.contains('$') || definition.kind.is_secret() {
                    definition.kind.read(default).map_err(wrong)?;
                }
            }
        }
        Ok(())
    }

    /// The definition of a parameter.
    #[must_use]
    pub fn definition(&self, name: &str) -> Option<&Definition> {
        self.definitions.iter().find(|definition| definition.name == name)
    }

    /// What is done when the parameter set as a whole was changed on site, and it is not known which parameter: what the
    /// strictest asks for.
    #[must_use]
    pub fn on_site(&self) -> Response {
        let responses = self.definitions.iter().map(|definition| definition.on_site);
        responses.max().unwrap_or_default()
    }
}

impl Scope {
    /// Head office: every terminal.
    #[must_use]
    pub const fn head_office() -> Self {
        Self::Branch(Vec::new())
    }

    /// Its level.
    #[must_use]
    pub const fn level(&self) -> Level {
        match self {
            Self::Branch(path) if path.is_empty() => Level::HeadOffice,
            Self::Branch(_) => Level::Branch,
            Self::Vendor(_) => Level::Vendor,
            Self::Model { .. } => Level::Model,
            Self::Merchant(_) => Level::Merchant,
            Self::Terminal(_) => Level::Terminal,
        }
    }

    /// Whether the terminal is one of its terminals.
    #[must_use]
    pub fn covers(&self, terminal: &Context) -> bool {
        match self {
            Self::Branch(path) => terminal.branch.starts_with(path),
            Self::Vendor(vendor) => *vendor == terminal.vendor,
            Self::Model { vendor, model } => *vendor == terminal.vendor && *model == terminal.model,
            Self::Merchant(merchant) => terminal.merchant.as_ref() == Some(merchant),
            Self::Terminal(id) => *id == terminal.terminal,
        }
    }

    /// Sorts the scopes that cover one terminal from the widest to the narrowest.
    pub(crate) fn width(&self) -> (Level, usize) {
        let depth = match self {
            Self::Branch(path) => path.len(),
            _ => 0,
        };
        (self.level(), depth)
    }
}

impl Layer {
    /// Checks names and sizes. Whether the values fit their definitions is found by rendering.
    ///
    /// # Errors
    /// [`TemplateError`] with the first thing that is wrong.
    pub fn check(&self) -> Result<(), TemplateError> {
        let deep = matches!(&self.scope, Scope::Branch(path) if path.len() > MAX_DEPTH);
        if deep || self.values.len() > MAX_PARAMETERS || self.variables.len() > MAX_PARAMETERS {
            return Err(TemplateError::Large);
        }
        for (name, value) in &self.values {
            named(name)?;
            match value {
                Value::Plain(text) => sized(name, text)?,
                Value::Sealed(sealed) if sealed.is_sized() => {}
                Value::Sealed(_) => return Err(TemplateError::Long(name.clone())),
            }
        }
        for (name, value) in &self.variables {
            named(name)?;
            sized(name, value)?;
        }
        Ok(())
    }
}

fn named(name: &str) -> Result<(), TemplateError> {
    if is_name(name) {
        Ok(())
    } else {
        Err(TemplateError::Name(name.chars().take(MAX_NAME).collect()))
    }
}

pub(crate) fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(fits)
}

fn sized(name: &str, value: &str) -> Result<(), TemplateError> {
    if value.len() > MAX_VALUE {
        return Err(TemplateError::Long(name.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
