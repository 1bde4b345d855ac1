//! What a command would have a layer say.

use crate::office::Office;
use anyhow::{Context, Result, bail};
use clap::Args;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::str::FromStr;
use tms_core::estate::{EstateError, LayerDraft, LayerView};
use tms_core::rule::template::Scope;
use tms_core::store::BranchPath;
use zeroize::Zeroizing;

/// For which terminals a layer is: one of these.
#[derive(Args)]
pub(super) struct Place {
    /// A branch and those below it; head office, and so all terminals, is /.
    #[arg(long, value_name = "PATH", group = "place")]
    branch: Option<BranchPath>,
    /// All models of a vendor.
    #[arg(long, value_name = "NAME", group = "place")]
    vendor: Option<String>,
    /// A model: VENDOR/MODEL.
    #[arg(long, value_name = "VENDOR/MODEL", group = "place")]
    model: Option<String>,
    /// A merchant, by its number.
    #[arg(long, value_name = "NUMBER", group = "place")]
    merchant: Option<String>,
    /// One terminal: serial number, vendor/model/serial, or id.
    #[arg(long, value_name = "TERMINAL", group = "place")]
    terminal: Option<String>,
}

/// What a layer shall say; what is not named stays as it is.
#[derive(Args)]
pub(super) struct Edit {
    #[command(flatten)]
    pub(super) place: Place,
    /// Set a parameter.
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<Pair>,
    /// Set a secret parameter to what is in this file, without its last line feed.
    #[arg(long, value_name = "NAME=FILE")]
    secret: Vec<Pair>,
    /// Set a parameter no more: a wider layer's value counts.
    #[arg(long, value_name = "NAME")]
    unset: Vec<String>,
    /// Set a variable.
    #[arg(long, value_name = "NAME=VALUE")]
    var: Vec<Pair>,
    /// Set a variable no more.
    #[arg(long, value_name = "NAME")]
    unset_var: Vec<String>,
}

/// A name and what it shall be.
#[derive(Debug, Clone)]
pub(super) struct Pair(String, String);

impl FromStr for Pair {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, value) = text.split_once('=').context("it is NAME=VALUE")?;
        Ok(Self(name.to_owned(), value.to_owned()))
    }
}

impl Place {
    pub(super) async fn scope(&self, office: &Office) -> Result<Scope> {
        if let Some(path) = &self.branch {
            let names = path.as_str().split('/').filter(|name| !name.is_empty());
            return Ok(Scope::Branch(names.map(str::to_owned).collect()));
        }
        if let Some(vendor) = &self.vendor {
            return Ok(Scope::Vendor(vendor.clone()));
        }
        if let Some(model) = &self.model {
            let (vendor, model) = model.split_once('/').context("a model is VENDOR/MODEL")?;
            return Ok(Scope::Model {
                vendor: vendor.to_owned(),
                model: model.to_owned(),
            });
        }
        if let Some(merchant) = &self.merchant {
            return Ok(Scope::Merchant(merchant.clone()));
        }
        match &self.terminal {
            Some(terminal) => Ok(Scope::Terminal(office.find(terminal).await?.id)),
            None => bail!("say for which terminals: --branch, --vendor, --model, --merchant or --terminal"),
        }
    }
}

impl Edit {
    /// The draft that it comes to.
    pub(super) async fn draft(&self, office: &Office, template: &str) -> Result<LayerDraft> {
        let scope = self.place.scope(office).await?;
        let before = match office.estate.layer(&office.actor, template, &scope, None).await {
            Ok(before) => Some(before),
            Err(EstateError::Unknown(..)) => None,
            Err(error) => return Err(error.into()),
        };
        let mut draft = kept(scope, before);
        for Pair(name, value) in &self.set {
            draft.values.insert(name.clone(), Some(Zeroizing::new(value.clone())));
        }
        for Pair(name, file) in &self.secret {
            let text = fs::read_to_string(Path::new(file)).with_context(|| format!("cannot read {file}"))?;
            let text = Zeroizing::new(text);
            let secret = Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned());
            draft.values.insert(name.clone(), Some(secret));
        }
        for name in &self.unset {
            draft.values.remove(name);
        }
        for Pair(name, value) in &self.var {
            draft.variables.insert(name.clone(), value.clone());
        }
        for name in &self.unset_var {
            draft.variables.remove(name);
        }
        Ok(draft)
    }
}

/// A draft that says what is there; where somebody else writes meanwhile, it is refused.
fn kept(scope: Scope, before: Option<LayerView>) -> LayerDraft {
    let version = before.as_ref().map_or(0, |before| before.version).saturating_add(1);
    let (values, variables) = before.map_or_else(Default::default, |before| {
        let values: BTreeMap<_, _> = before.values.into_keys().map(|name| (name, None)).collect();
        (values, before.variables)
    });
    LayerDraft {
        scope,
        version,
        values,
        variables,
    }
}
