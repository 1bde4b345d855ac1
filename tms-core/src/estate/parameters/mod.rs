//! Parameters of terminals, made of the templates and layers in the store: for operators who look at them beforehand, and for
//! the server that gives them to a terminal.
//!
//! [`Parameters::prepare`] says what a terminal would get now and pins it: a [`ParameterSetRef`] is small, has no secret in it,
//! and is what an assignment keeps. [`Parameters::document`] makes the same bytes of it again, in the call in which the
//! terminal downloads them. Secrets are opened there and nowhere else, and no opened one is kept.

mod context;
mod record;

pub use record::{LayerVersion, TemplateVersion};

use crate::custody::{CustodyError, SecretKeeper, SecretPlace};
use crate::rule::template::{
    Context, Document, Fault, Layer, Origin, Pins, Rendering, Scope, Sealed, Template, Value, render,
};
use crate::store::{Entity, Key, Query, Record, Store, StoreError, TerminalId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use thiserror::Error;
use tms_proto::digest::Digest;
use tms_proto::message::MAX_PARAMETER_SET;
use zeroize::Zeroizing;

/// A parameter set as it was rendered for one terminal: all that a plan says of it, and all that it takes to make it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParameterSetRef {
    /// The template, and so the set's name.
    pub template: String,
    /// The versions that it is made of.
    pub pins: Pins,
    /// The terminal as it was known, with the facts that values name and no others.
    pub context: Context,
    /// Digest of the document: the name of the object.
    pub digest: Digest,
    /// The document's size, in bytes.
    pub size: u64,
}

/// Makes terminals' parameters. Cheap to clone.
#[derive(Clone)]
pub struct Parameters {
    store: Arc<dyn Store>,
    secrets: Option<Arc<dyn SecretKeeper>>,
}

/// Why there are no parameters for a terminal.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ParameterError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A secret cannot be sealed or opened.
    #[error(transparent)]
    Custody(#[from] CustodyError),
    /// There are secrets, and nothing that opens them.
    #[error("there is no key for secret parameters")]
    NoKey,
    /// There is no such terminal.
    #[error("no terminal {0}")]
    UnknownTerminal(TerminalId),
    /// There is no such template, or no such version of it.
    #[error("no template {0}")]
    UnknownTemplate(String),
    /// A layer that is pinned is not there.
    #[error("template {0} has no layer that is pinned")]
    UnknownLayer(String),
    /// What keeps the terminal from getting its parameters.
    #[error("{}", listed(.0))]
    Faults(Vec<Fault>),
    /// The document would have more than 65,536 bytes.
    #[error("the parameter set has more than {MAX_PARAMETER_SET} bytes")]
    Large,
    /// What is made again is not what was pinned: somebody has changed the store.
    #[error("parameter set {0} does not come out as it was pinned")]
    Changed(Digest),
}

impl ParameterError {
    /// Whether the same call may succeed later, with nothing else changed.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Store(error) => error.is_transient(),
            Self::Custody(error) => error.is_transient(),
            _ => false,
        }
    }
}

impl Parameters {
    /// Of the templates and layers in this store. Without a keeper of secrets, sets with secrets in them are
    /// [`ParameterError::NoKey`].
    #[must_use]
    pub fn new(store: Arc<dyn Store>, secrets: Option<Arc<dyn SecretKeeper>>) -> Self {
        Self { store, secrets }
    }

    /// What a terminal would get now: of this version of the template, or of the newest, and of the newest layers.
    ///
    /// # Errors
    /// [`ParameterError`]; [`ParameterError::Faults`] with all that keeps it from getting any.
    pub async fn prepare(
        &self,
        terminal: TerminalId,
        template: &str,
        version: Option<u32>,
    ) -> Result<ParameterSetRef, ParameterError> {
        let context = self.context(terminal).await?;
        let template = self.template(template, version).await?;
        let layers = self.layers_now(&template.name, &context).await?;
        self.pin(context, &template, &layers).await
    }

    /// What a terminal would get of exactly these versions, with what is known of it now.
    ///
    /// # Errors
    /// As [`prepare`](Self::prepare), and [`ParameterError::UnknownLayer`].
    pub async fn prepare_pinned(
        &self,
        terminal: TerminalId,
        template: &str,
        pins: &Pins,
    ) -> Result<ParameterSetRef, ParameterError> {
        let context = self.context(terminal).await?;
        let (template, layers) = self.pinned(template, pins).await?;
        self.pin(context, &template, &layers).await
    }

    /// The document that a terminal downloads, the same bytes each time. There may be secrets in it: it is sent, and not kept.
    ///
    /// # Errors
    /// [`ParameterError::Changed`] where it does not come out as it was pinned; [`ParameterError::NoKey`], and those of the
    /// keeper of secrets.
    pub async fn document(&self, set: &ParameterSetRef) -> Result<Zeroizing<Vec<u8>>, ParameterError> {
        let (template, layers) = self.pinned(&set.template, &set.pins).await?;
        let rendering = render(&template, &layers, &set.context).map_err(ParameterError::Faults)?;
        let (document, digest) = self.encode(&rendering).await?;
        if digest != set.digest {
            return Err(ParameterError::Changed(set.digest));
        }
        Ok(document)
    }

    /// A version of a template, or the newest.
    ///
    /// # Errors
    /// [`ParameterError::UnknownTemplate`].
    pub async fn template(&self, name: &str, version: Option<u32>) -> Result<Template, ParameterError> {
        let found = match version {
            Some(version) => {
                self.entity::<TemplateVersion>(&TemplateVersion::id_of(name, version))
                    .await?
            }
            None => self.newest::<TemplateVersion>(TemplateVersion::prefix(name)).await?,
        };
        let found = found.ok_or_else(|| ParameterError::UnknownTemplate(name.to_owned()))?;
        Ok(found.template)
    }

    /// A version of a scope's layer, or the newest; none where the scope sets nothing.
    ///
    /// # Errors
    /// [`ParameterError::Store`].
    pub(super) async fn layer(
        &self,
        template: &str,
        scope: &Scope,
        version: Option<u32>,
    ) -> Result<Option<LayerVersion>, StoreError> {
        match version {
            Some(version) => self.entity(&LayerVersion::id_of(template, scope, version)).await,
            None => self.newest(LayerVersion::prefix(template, scope)).await,
        }
    }

    /// The newest layers that cover a terminal.
    pub(super) async fn layers_now(&self, template: &str, context: &Context) -> Result<Vec<Layer>, StoreError> {
        self.layers_cached(template, context, &mut BTreeMap::new()).await
    }

    /// The same, for many terminals after each other: each layer is read once.
    pub(super) async fn layers_cached(
        &self,
        template: &str,
        context: &Context,
        known: &mut BTreeMap<Scope, Option<Layer>>,
    ) -> Result<Vec<Layer>, StoreError> {
        let mut layers = Vec::new();
        for scope in context::scopes(context) {
            if let Some(known) = known.get(&scope) {
                layers.extend(known.clone());
                continue;
            }
            let layer = self.layer(template, &scope, None).await?.map(|found| found.layer);
            // One that sets nothing is as good as none, and pins less.
            let layer = layer.filter(|layer| !layer.values.is_empty() || !layer.variables.is_empty());
            layers.extend(layer.clone());
            if !matches!(scope, Scope::Terminal(_)) {
                known.insert(scope, layer);
            }
        }
        Ok(layers)
    }

    /// The versions that are pinned.
    pub(super) async fn pinned(&self, template: &str, pins: &Pins) -> Result<(Template, Vec<Layer>), ParameterError> {
        let template = self.template(template, Some(pins.template)).await?;
        let mut layers = Vec::with_capacity(pins.layers.len());
        for (scope, version) in &pins.layers {
            let layer = self.layer(&template.name, scope, Some(*version)).await?;
            let layer = layer.ok_or_else(|| ParameterError::UnknownLayer(template.name.clone()))?;
            layers.push(layer.layer);
        }
        Ok((template, layers))
    }

    async fn pin(
        &self,
        mut context: Context,
        template: &Template,
        layers: &[Layer],
    ) -> Result<ParameterSetRef, ParameterError> {
        let rendering = render(template, layers, &context).map_err(ParameterError::Faults)?;
        let (document, digest) = self.encode(&rendering).await?;
        let used: BTreeSet<&String> = rendering.values.values().flat_map(|value| &value.used).collect();
        context.facts.retain(|name, _| used.contains(name));
        Ok(ParameterSetRef {
            template: rendering.template,
            pins: rendering.pins,
            context,
            digest,
            size: u64::try_from(document.len()).unwrap_or(u64::MAX),
        })
    }

    /// Opens what is sealed, and encodes.
    async fn encode(&self, rendering: &Rendering) -> Result<(Zeroizing<Vec<u8>>, Digest), ParameterError> {
        let mut opened = BTreeMap::new();
        for (name, rendered) in &rendering.values {
            if let (Value::Sealed(sealed), Origin::Layer(scope)) = (&rendered.value, &rendered.from) {
                let place = SecretPlace {
                    template: &rendering.template,
                    parameter: name,
                    scope,
                };
                let keeper = self.secrets.as_ref().ok_or(ParameterError::NoKey)?;
                opened.insert(name.as_str(), keeper.open(place, sealed).await?);
            }
        }
        // A default is never sealed: each sealed value was opened above.
        let open = |name: &str, _: &Sealed| opened.get(name).cloned().ok_or(ParameterError::NoKey);
        let (document, digest) = Document::encode(rendering, open)?;
        let size = u64::try_from(document.len()).unwrap_or(u64::MAX);
        if size > MAX_PARAMETER_SET {
            return Err(ParameterError::Large);
        }
        Ok((document, digest))
    }

    async fn newest<E: Entity>(&self, prefix: String) -> Result<Option<E>, StoreError> {
        let query = Query::Documents {
            kind: E::KIND,
            prefix,
            after: None,
        };
        Ok(self.documents(&query, 1).await?.into_iter().next())
    }

    async fn entity<E: Entity>(&self, id: &str) -> Result<Option<E>, StoreError> {
        let found = self.store.get(&Key::Document(E::KIND, id.to_owned())).await?;
        found
            .and_then(|found| match found.record {
                Record::Document(document) => Some(document.read()),
                _ => None,
            })
            .transpose()
    }

    async fn documents<E: Entity>(&self, query: &Query, limit: u32) -> Result<Vec<E>, StoreError> {
        let page = self.store.list(query, limit).await?;
        let documents = page.into_iter().filter_map(|found| match found.record {
            Record::Document(document) => Some(document.read()),
            _ => None,
        });
        documents.collect()
    }
}

fn listed(faults: &[Fault]) -> String {
    let lines: Vec<String> = faults.iter().take(20).map(Fault::to_string).collect();
    lines.join("; ")
}
