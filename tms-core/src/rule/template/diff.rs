//! What an edit changes, and for whom.

use super::render::{Fault, Rendering, render};
use super::value::Value;
use super::{Context, Layer, Scope, Template};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use thiserror::Error;

/// One parameter that differs between two renderings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The parameter.
    pub parameter: String,
    /// What it was; `None` where it was not set.
    pub before: Option<Shown>,
    /// What it is.
    pub after: Option<Shown>,
}

/// A value as it may be shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shown {
    /// The value.
    Text(String),
    /// A secret: that there is one, and nothing of it.
    Secret,
}

impl From<&Value> for Shown {
    fn from(value: &Value) -> Self {
        match value {
            Value::Plain(text) => Self::Text(text.clone()),
            Value::Sealed(_) => Self::Secret,
        }
    }
}

/// What differs, by parameter. A secret that was sealed again and is the same does not.
#[must_use]
pub fn diff(before: &Rendering, after: &Rendering) -> Vec<Difference> {
    let names: BTreeSet<&String> = before.values.keys().chain(after.values.keys()).collect();
    let differences = names.into_iter().filter_map(|name| {
        let (old, new) = (before.values.get(name), after.values.get(name));
        let same = match (old, new) {
            (Some(old), Some(new)) => old.kind == new.kind && same(&old.value, &new.value),
            (old, new) => old.is_none() && new.is_none(),
        };
        (!same).then(|| Difference {
            parameter: name.clone(),
            before: old.map(|old| Shown::from(&old.value)),
            after: new.map(|new| Shown::from(&new.value)),
        })
    });
    differences.collect()
}

/// A change of one layer: written anew, put in the place of another version, or taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edit<'a> {
    /// The scope.
    pub scope: &'a Scope,
    /// The layer as it was.
    pub before: Option<&'a Layer>,
    /// The layer as it shall be.
    pub after: Option<&'a Layer>,
}

/// Why it cannot be said what an edit changes for a terminal.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Uncertain {
    /// It has no parameters now.
    #[error("before the edit: {} faults", .0.len())]
    Before(Vec<Fault>),
    /// It would have none: the edit must not be made so.
    #[error("after the edit: {} faults", .0.len())]
    After(Vec<Fault>),
}

impl Edit<'_> {
    /// Whether it may change something for this terminal: certainly nothing for all others. It needs nothing but where the
    /// terminal stands, so that a store can select by it: the terminals of [`scope`](Self::scope), if there is anything
    /// that the edit changes at all.
    #[must_use]
    pub fn may_change(&self, terminal: &Context) -> bool {
        self.scope.covers(terminal) && !self.is_empty()
    }

    /// Whether both versions of the layer say the same.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let empty = Layer {
            scope: self.scope.clone(),
            version: 0,
            values: std::collections::BTreeMap::new(),
            variables: std::collections::BTreeMap::new(),
        };
        let (before, after) = (self.before.unwrap_or(&empty), self.after.unwrap_or(&empty));
        let mut pairs = before.values.iter().zip(&after.values);
        before.values.len() == after.values.len()
            && pairs.all(|((a, old), (b, new))| a == b && same(old, new))
            && before.variables == after.variables
    }

    /// What it changes for this terminal, with the other layers as they are; a layer of the edit's own scope among them is
    /// passed over. Nothing where a narrower layer hides the change.
    ///
    /// # Errors
    /// [`Uncertain`] where the terminal has no parameters before or after.
    pub fn changes(
        &self,
        template: &Template,
        layers: &[Layer],
        terminal: &Context,
    ) -> Result<Vec<Difference>, Uncertain> {
        if !self.may_change(terminal) {
            return Ok(Vec::new());
        }
        let others: Vec<Layer> = layers
            .iter()
            .filter(|layer| layer.scope != *self.scope)
            .cloned()
            .collect();
        let with = |layer: Option<&Layer>| {
            let all: Vec<Layer> = others.iter().chain(layer).cloned().collect();
            render(template, &all, terminal)
        };
        let after = with(self.after).map_err(Uncertain::After)?;
        let before = with(self.before).map_err(Uncertain::Before)?;
        Ok(diff(&before, &after))
    }
}

fn same(old: &Value, new: &Value) -> bool {
    match (old, new) {
        (Value::Plain(old), Value::Plain(new)) => old == new,
        (Value::Sealed(old), Value::Sealed(new)) => old.fingerprint == new.fingerprint,
        _ => false,
    }
}
