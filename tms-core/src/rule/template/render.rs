//! From a template and layers to the parameters of one terminal.

use super::expand::Variables;
use super::value::{Value, ValueError};
use super::{Context, Definition, Layer, Scope, Template};
use crate::rule::drift::Response;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use thiserror::Error;
use tms_proto::digest::Digest;
use tms_proto::tlv::{Tag, Writer};

/// The parameters of one terminal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rendering {
    /// The template's name.
    pub template: String,
    /// What it was made of.
    pub pins: Pins,
    /// The values, by parameter.
    pub values: BTreeMap<String, Rendered>,
    /// Values of layers that the template does not define: left over from an older version, or misspelt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unused: Vec<(String, Scope)>,
}

/// One value of a rendering, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rendered {
    /// Its kind's one-byte code.
    pub kind: u8,
    /// The value, in its one form.
    pub value: Value,
    /// The layer that it comes from.
    pub from: Origin,
    /// Wider layers that have another value, which does not count; from the widest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hides: Vec<Origin>,
    /// The variables that it took, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub used: Vec<String>,
    /// What is done when it was changed on site.
    #[serde(default)]
    pub on_site: Response,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The definition's default.
    Default,
    /// The layer of this scope.
    Layer(Scope),
}

/// The versions that a rendering was made of. The same pins and the same facts give the same rendering, always.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Pins {
    /// The template's version.
    pub template: u32,
    /// The layers that cover the terminal, from the widest, with their versions.
    pub layers: Vec<(Scope, u32)>,
}

/// Something that keeps a terminal from getting its parameters.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
#[error("{parameter}: {kind}")]
pub struct Fault {
    /// The parameter.
    pub parameter: String,
    /// Where the value comes from, where there is one.
    pub from: Option<Origin>,
    /// What is wrong.
    pub kind: FaultKind,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// A variable that nothing sets. The last of the path, which the others name one after the other.
    #[error("undefined variable: {}", path.join(" -> "))]
    Undefined {
        /// The path.
        path: Vec<String>,
    },
    /// A variable that names itself, through the others of the path.
    #[error("variables in a circle: {}", path.join(" -> "))]
    Cycle {
        /// The path; the last of it was there before.
        path: Vec<String>,
    },
    /// A `$` that begins nothing.
    #[error("a $ that is neither ${{name}} nor $$")]
    Syntax,
    /// Longer than 4,096 bytes, or too many variables.
    #[error("too large")]
    Large,
    /// No value of its kind.
    #[error("{0}")]
    Value(ValueError),
    /// Required, and nothing sets it.
    #[error("required, and not set")]
    Missing,
    /// The template does not define it. Only in [`Template::faults`].
    #[error("not defined")]
    NotDefined,
    /// A layer sets it that is narrower than may.
    #[error("set by a layer that may not set it")]
    TooNarrow,
    /// Two layers have this scope.
    #[error("two layers have one scope")]
    Twice,
}

/// Makes the parameters of one terminal. Layers that do not cover it are passed over; the order of `layers` does not
/// matter. It is pure: the same arguments give the same rendering.
///
/// # Errors
/// All faults, by parameter.
pub fn render(template: &Template, layers: &[Layer], terminal: &Context) -> Result<Rendering, Vec<Fault>> {
    let mut covering: Vec<&Layer> = layers.iter().filter(|layer| layer.scope.covers(terminal)).collect();
    covering.sort_by_key(|layer| layer.scope.width());
    let mut faults = Vec::new();
    for (wider, narrower) in covering.iter().zip(covering.iter().skip(1)) {
        if wider.scope == narrower.scope {
            faults.push(Fault {
                parameter: template.name.clone(),
                from: Some(Origin::Layer(wider.scope.clone())),
                kind: FaultKind::Twice,
            });
        }
    }
    let set = covering.iter().flat_map(|layer| &layer.variables);
    let variables = Variables {
        facts: &terminal.facts,
        // Later ones are narrower, and take the place of wider ones.
        set: set.map(|(name, text)| (name.as_str(), text.as_str())).collect(),
    };
    let mut values = BTreeMap::new();
    for definition in &template.definitions {
        match one(definition, &covering, &variables) {
            Ok(Some(rendered)) => {
                values.insert(definition.name.clone(), rendered);
            }
            Ok(None) => {}
            Err(fault) => faults.push(fault),
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let unused = covering.iter().flat_map(|layer| {
        let names = layer.values.keys().filter(|name| template.definition(name).is_none());
        names.map(|name| (name.clone(), layer.scope.clone()))
    });
    Ok(Rendering {
        template: template.name.clone(),
        pins: Pins {
            template: template.version,
            layers: covering
                .iter()
                .map(|layer| (layer.scope.clone(), layer.version))
                .collect(),
        },
        values,
        unused: unused.collect(),
    })
}

fn one(definition: &Definition, covering: &[&Layer], variables: &Variables<'_>) -> Result<Option<Rendered>, Fault> {
    let fault = |from: Option<&Origin>, kind| Fault {
        parameter: definition.name.clone(),
        from: from.cloned(),
        kind,
    };
    let default = definition
        .default
        .clone()
        .map(|text| (Origin::Default, Value::Plain(text)));
    let mut found: Vec<(Origin, Value)> = default.into_iter().collect();
    for layer in covering {
        let Some(value) = layer.values.get(&definition.name) else {
            continue;
        };
        let from = Origin::Layer(layer.scope.clone());
        if definition
            .narrowest
            .is_some_and(|narrowest| layer.scope.level() > narrowest)
        {
            return Err(fault(Some(&from), FaultKind::TooNarrow));
        }
        found.push((from, value.clone()));
    }
    let Some((from, value)) = found.pop() else {
        return match definition.required {
            true => Err(fault(None, FaultKind::Missing)),
            false => Ok(None),
        };
    };
    let (value, used) = match (value, definition.kind.is_secret()) {
        (Value::Sealed(sealed), true) => (Value::Sealed(sealed), Vec::new()),
        (Value::Sealed(_), false) => return Err(fault(Some(&from), FaultKind::Value(ValueError::NotSecret))),
        // Refused before it is expanded: a secret in the clear goes nowhere.
        (Value::Plain(_), true) => return Err(fault(Some(&from), FaultKind::Value(ValueError::Clear))),
        (Value::Plain(text), false) => {
            let expanded = variables.expand(&text).map_err(|kind| fault(Some(&from), kind))?;
            let form = definition.kind.read(&expanded.text);
            let form = form.map_err(|error| fault(Some(&from), FaultKind::Value(error)))?;
            (Value::Plain(form), expanded.used)
        }
    };
    Ok(Some(Rendered {
        kind: definition.kind.code(),
        value,
        from,
        hides: found.into_iter().map(|(from, _)| from).collect(),
        used,
        on_site: definition.on_site,
    }))
}

impl Template {
    /// What is wrong with a layer, as far as it can be seen without a terminal: for the moment when it is written. Values
    /// that name variables are not looked into.
    #[must_use]
    pub fn faults(&self, layer: &Layer) -> Vec<Fault> {
        let kind = |name: &str, value: &Value| {
            let Some(definition) = self.definition(name) else {
                return Some(FaultKind::NotDefined);
            };
            if definition
                .narrowest
                .is_some_and(|narrowest| layer.scope.level() > narrowest)
            {
                return Some(FaultKind::TooNarrow);
            }
            match (value, definition.kind.is_secret()) {
                (Value::Sealed(_), true) => None,
                (Value::Sealed(_), false) => Some(FaultKind::Value(ValueError::NotSecret)),
                (Value::Plain(text), false) if text.contains('$') => None,
                (Value::Plain(text), _) => definition.kind.read(text).err().map(FaultKind::Value),
            }
        };
        let values = layer.values.iter();
        let faults = values.filter_map(|(name, value)| {
            Some(Fault {
                parameter: name.clone(),
                from: Some(Origin::Layer(layer.scope.clone())),
                kind: kind(name, value)?,
            })
        });
        faults.collect()
    }
}

impl Rendering {
    /// The name of these values: equal for two renderings exactly where a terminal gets the same of both. Secrets count by
    /// their fingerprints, so that no key is needed. It is not the digest of what a terminal gets; see
    /// [`Document`](super::Document).
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut out = Writer::new();
        out.bytes(Tag(0x80), self.template.as_bytes());
        for (name, rendered) in &self.values {
            out.constructed(Tag(0xA1), |out| {
                out.bytes(Tag(0x80), name.as_bytes());
                out.uint(Tag(0x81), u64::from(rendered.kind));
                match &rendered.value {
                    Value::Plain(text) => out.bytes(Tag(0x82), text.as_bytes()),
                    Value::Sealed(sealed) => out.bytes(Tag(0x83), &sealed.fingerprint.0),
                }
            });
        }
        Digest::of(&out.into_vec())
    }

    /// What is done when these parameters, and nobody knows which, were changed on site: named ones, or all.
    #[must_use]
    pub fn on_site(&self, changed: Option<&[String]>) -> Response {
        let values = self.values.iter();
        let counted = values.filter(|(name, _)| changed.is_none_or(|changed| changed.contains(name)));
        counted.map(|(_, rendered)| rendered.on_site).max().unwrap_or_default()
    }
}
