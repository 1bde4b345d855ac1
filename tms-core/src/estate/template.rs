//! Templates and layers: written in versions that never change, and read.

use super::access::{Actor, Permission};
use super::audit::Deed;
use super::branch::Merchant;
use super::parameters::{LayerVersion, ParameterError, Parameters, TemplateVersion};
use super::{Estate, EstateError, decided};
use crate::custody::{MAX_SECRET, SecretPlace};
use crate::rule::template::{Definition, Layer, Scope, Shown, Template, Value, is_name};
use crate::store::{BranchPath, Caller, Change, Document, Expect, Query};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use zeroize::Zeroizing;

/// What a scope shall set, as an operator writes it. Secrets are in the clear: it is shown to nobody and kept nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct LayerDraft {
    /// For which terminals.
    pub scope: Scope,
    /// The version that it shall be; zero for whatever comes next.
    pub version: u32,
    /// Values by parameter, whole: what is not there is not set. `None` keeps what the version before has, which for a secret
    /// nobody can write again.
    pub values: BTreeMap<String, Option<Zeroizing<String>>>,
    /// Variables, by name.
    pub variables: BTreeMap<String, String>,
}

impl fmt::Debug for LayerDraft {
    /// Without the values: there may be secrets among them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayerDraft")
            .field("scope", &self.scope)
            .field("version", &self.version)
            .field("values", &self.values.keys())
            .finish_non_exhaustive()
    }
}

/// A version of a layer, as it may be shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerView {
    /// The template.
    pub template: String,
    /// For which terminals.
    pub scope: Scope,
    /// Its version.
    pub version: u32,
    /// Values by parameter; of a secret, that there is one.
    pub values: BTreeMap<String, Shown>,
    /// Variables, by name.
    pub variables: BTreeMap<String, String>,
    /// When it was written, in seconds since 1970 UTC.
    pub created: u64,
    /// By whom.
    pub actor: String,
}

impl Estate {
    /// What makes terminals' parameters of this estate's templates and layers.
    #[must_use]
    pub fn parameters(&self) -> Parameters {
        Parameters::new(std::sync::Arc::clone(&self.store), self.secrets.clone())
    }

    /// Writes the next version of a template, at head office, and gives its number. `version` is the one that it shall be, or
    /// zero for whatever comes next. Where nothing would change there is no new one.
    ///
    /// # Errors
    /// [`EstateError::Denied`]; [`EstateError::Template`]; [`EstateError::There`] where somebody else wrote that version.
    pub async fn put_template(&self, actor: &Actor, template: Template) -> Result<u32, EstateError> {
        let branch = BranchPath::head_office();
        actor.demand(Permission::ManageParameters, &branch)?;
        template.check()?;
        let name = template.name.clone();
        if !is_name(&name) {
            return Err(EstateError::Invalid(
                "name",
                "must be 1 to 64 letters, digits, `_`, `-` or `.`",
            ));
        }
        decided(|| async {
            let before = match self.parameters().template(&name, None).await {
                Ok(before) => Some(before),
                Err(ParameterError::UnknownTemplate(_)) => None,
                Err(error) => return Err(error.into()),
            };
            let last = before.as_ref().map_or(0, |before| before.version);
            if let Some(before) = before.filter(|before| before.definitions == template.definitions)
                && [0, before.version].contains(&template.version)
            {
                return Ok(before.version);
            }
            let next = next(last, template.version).ok_or_else(|| there("template", &name, template.version))?;
            let version = TemplateVersion {
                template: Template {
                    version: next,
                    ..template.clone()
                },
                created: self.clock.now(),
                actor: actor.name().to_owned(),
            };
            let deed = Deed {
                act: "template.put",
                subject: format!("{name}/{next}"),
                branch: branch.clone(),
                detail: json!({ "parameters": template.definitions.len() }),
            };
            let changes = vec![Change::Put(Expect::Absent, Document::of(&version)?.into())];
            self.commit(actor, &deed, changes).await?;
            Ok(next)
        })
        .await
    }

    /// A version of a template, or the newest. Everybody who may see something may see it.
    ///
    /// # Errors
    /// [`EstateError::Parameters`] where it is not there.
    pub async fn template(&self, actor: &Actor, name: &str, version: Option<u32>) -> Result<Template, EstateError> {
        if actor.branches(Permission::View).is_empty() {
            return Err(ParameterError::UnknownTemplate(name.to_owned()).into());
        }
        Ok(self.parameters().template(name, version).await?)
    }

    /// The newest versions of the templates after `after`, at most `limit`, by name.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn templates(
        &self,
        actor: &Actor,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Template>, EstateError> {
        let mut found: Vec<Template> = Vec::new();
        if actor.branches(Permission::View).is_empty() {
            return Ok(found);
        }
        let mut last = after.map(str::to_owned);
        while u32::try_from(found.len()).is_ok_and(|there| there < limit) {
            let query = Query::Documents {
                kind: <TemplateVersion as crate::store::Entity>::KIND,
                prefix: String::new(),
                // A name has no character behind the slash that begins so high.
                after: last.as_ref().map(|name| format!("{name}/\u{7F}")),
            };
            let Some(version) = self.documents::<TemplateVersion>(&query, 1).await?.pop() else {
                break;
            };
            last = Some(version.template.name.clone());
            found.push(version.template);
        }
        Ok(found)
    }

    /// Writes the next version of what a scope sets for a template, and gives its number. It is checked against the newest
    /// version of the template, and its secrets are sealed. Where nothing would change there is no new one. A scope that shall
    /// set nothing any more has a version without values.
    ///
    /// # Errors
    /// [`EstateError::Denied`]: what branches set their managers write, merchants and terminals those of their branches, and
    /// vendors and models head office. [`EstateError::Parameters`] with all that is wrong; [`EstateError::Template`];
    /// [`EstateError::There`] where somebody else wrote that version; [`EstateError::Unknown`] where the scope is not there.
    pub async fn put_layer(&self, actor: &Actor, template: &str, draft: &LayerDraft) -> Result<u32, EstateError> {
        let branch = self.place_of(&draft.scope).await?;
        actor.demand(Permission::ManageParameters, &branch)?;
        decided(|| async {
            let definitions = self.parameters().template(template, None).await?;
            let before = self.parameters().layer(template, &draft.scope, None).await?;
            let before = before.map(|before| before.layer);
            let mut layer = self.drafted(&definitions, before.as_ref(), draft).await?;
            let last = before.as_ref().map_or(0, |before| before.version);
            let same = |before: &Layer| before.values == layer.values && before.variables == layer.variables;
            if before.as_ref().is_some_and(same) && [0, last].contains(&draft.version) {
                return Ok(last);
            }
            let (key, mut changes) = self.key_for(&layer).await?;
            self.seal_anew(template, &mut layer, key).await?;
            layer.version = next(last, draft.version).ok_or_else(|| there("layer", template, draft.version))?;
            let deed = Deed {
                act: "layer.put",
                subject: template.to_owned(),
                branch: branch.clone(),
                // Names alone: a value may be a secret.
                detail: json!({
                    "scope": draft.scope,
                    "version": layer.version,
                    "changed": changed(before.as_ref(), &layer),
                }),
            };
            let (version, created) = (layer.version, self.clock.now());
            let layer = LayerVersion {
                template: template.to_owned(),
                layer,
                branch: branch.clone(),
                created,
                actor: actor.name().to_owned(),
            };
            changes.push(Change::Put(Expect::Absent, Document::of(&layer)?.into()));
            self.commit(actor, &deed, changes).await?;
            Ok(version)
        })
        .await
    }

    /// A version of what a scope sets, or the newest.
    ///
    /// # Errors
    /// [`EstateError::Unknown`] where there is none, or none that the actor may see: the difference is not told.
    pub async fn layer(
        &self,
        actor: &Actor,
        template: &str,
        scope: &Scope,
        version: Option<u32>,
    ) -> Result<LayerView, EstateError> {
        let unknown = || EstateError::Unknown("layer of", template.to_owned());
        let found = self.parameters().layer(template, scope, version).await?;
        let found = found.ok_or_else(unknown)?;
        // A merchant or a terminal may have moved since.
        let branch = self.place_of(scope).await.unwrap_or_else(|_| found.branch.clone());
        if !actor.may(Permission::View, &branch) {
            return Err(unknown());
        }
        let LayerVersion {
            template,
            layer,
            created,
            actor,
            ..
        } = found;
        let values = layer
            .values
            .iter()
            .map(|(name, value)| (name.clone(), Shown::from(value)));
        Ok(LayerView {
            template,
            values: values.collect(),
            scope: layer.scope,
            version: layer.version,
            variables: layer.variables,
            created,
            actor,
        })
    }

    /// The branch that a scope concerns.
    pub(super) async fn place_of(&self, scope: &Scope) -> Result<BranchPath, EstateError> {
        match scope {
            Scope::Branch(path) => {
                let path = path_of(path)?;
                self.demand_branch(&path).await?;
                Ok(path)
            }
            Scope::Vendor(_) | Scope::Model { .. } => Ok(BranchPath::head_office()),
            Scope::Merchant(number) => match self.versioned::<Merchant>(number).await? {
                Some(found) => Ok(found.record.branch),
                None => Err(EstateError::Unknown("merchant", number.clone())),
            },
            Scope::Terminal(id) => {
                self.known(&Caller::Id(*id)).await?;
                Ok(self.branch_of(*id).await?)
            }
        }
    }

    /// The layer that a draft comes to, its secrets sealed.
    pub(super) async fn drafted(
        &self,
        template: &Template,
        before: Option<&Layer>,
        draft: &LayerDraft,
    ) -> Result<Layer, EstateError> {
        let mut values = BTreeMap::new();
        for (name, text) in &draft.values {
            let kept = before.and_then(|before| before.values.get(name));
            let value = match (text, template.definition(name)) {
                (None, _) => kept
                    .cloned()
                    .ok_or(EstateError::Invalid("value", "nothing is there to be kept"))?,
                (Some(text), Some(definition)) if definition.kind.is_secret() => {
                    self.sealed(&template.name, definition, draft, text, kept).await?
                }
                (Some(text), _) => Value::Plain(text.to_string()),
            };
            values.insert(name.clone(), value);
        }
        let layer = Layer {
            scope: draft.scope.clone(),
            version: draft.version,
            values,
            variables: draft.variables.clone(),
        };
        layer.check()?;
        let faults = template.faults(&layer);
        if !faults.is_empty() {
            return Err(ParameterError::Faults(faults).into());
        }
        Ok(layer)
    }

    /// The same secret keeps its seal, so that a layer that says the same is the same.
    async fn sealed(
        &self,
        template: &str,
        definition: &Definition,
        draft: &LayerDraft,
        text: &str,
        kept: Option<&Value>,
    ) -> Result<Value, EstateError> {
        if text.is_empty() || text.len() > MAX_SECRET || text.chars().any(char::is_control) {
            return Err(EstateError::Invalid(
                "secret",
                "must be printable, not empty, and not too long",
            ));
        }
        let place = SecretPlace {
            template,
            parameter: &definition.name,
            scope: &draft.scope,
        };
        let keeper = self.secrets.as_ref().ok_or(ParameterError::NoKey)?;
        let version = self.sealing_version().await?;
        let sealed = keeper.seal(version, place, text).await.map_err(ParameterError::from)?;
        // One of another version has another fingerprint, and may be the same all the same.
        let same = match kept {
            Some(Value::Sealed(kept)) if kept.key == version => kept.fingerprint == sealed.fingerprint,
            Some(Value::Sealed(kept)) => {
                let opened = keeper.open(place, kept).await.map_err(ParameterError::from)?;
                opened.as_str() == text
            }
            _ => false,
        };
        Ok(match kept {
            Some(kept) if same => kept.clone(),
            _ => Value::Sealed(sealed),
        })
    }
}

/// The branch at this path.
pub(super) fn path_of(names: &[String]) -> Result<BranchPath, EstateError> {
    let unknown = || EstateError::Unknown("branch", names.join("/"));
    // A name with a slash in it would be two.
    if names.iter().any(|name| name.contains('/')) {
        return Err(unknown());
    }
    format!("/{}", names.join("/")).parse().map_err(|_| unknown())
}

/// The version behind `last`, if that is what was asked for.
fn next(last: u32, wanted: u32) -> Option<u32> {
    let next = last.checked_add(1)?;
    [0, next].contains(&wanted).then_some(next)
}

fn there(what: &'static str, name: &str, version: u32) -> EstateError {
    EstateError::There(what, format!("{name}/{version}"))
}

/// The names of what two versions of a layer say differently.
fn changed<'a>(before: Option<&'a Layer>, after: &'a Layer) -> BTreeSet<&'a String> {
    let values = |layer: Option<&'a Layer>| layer.into_iter().flat_map(|layer| layer.values.keys());
    let variables = |layer: Option<&'a Layer>| layer.into_iter().flat_map(|layer| layer.variables.keys());
    let all = values(before).chain(values(Some(after)));
    let all = all.chain(variables(before)).chain(variables(Some(after)));
    let differs = |name: &&String| {
        before.and_then(|before| before.values.get(*name)) != after.values.get(*name)
            || before.and_then(|before| before.variables.get(*name)) != after.variables.get(*name)
    };
    all.filter(differs).collect()
}
