//! Templates and layers, as they are kept: versions that never change.

use crate::rule::template::{Layer, Scope, Template};
use crate::store::{BranchPath, Entity, Kind};
use serde::{Deserialize, Serialize};
use tms_proto::digest::Digest;

/// One version of a template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateVersion {
    /// The template.
    pub template: Template,
    /// When it was written, in seconds since 1970 UTC.
    pub created: u64,
    /// By whom.
    pub actor: String,
}

/// One version of what a scope sets for a template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerVersion {
    /// The template's name.
    pub template: String,
    /// The layer, its secrets sealed.
    pub layer: Layer,
    /// The branch that it concerned when it was written.
    pub branch: BranchPath,
    /// When it was written, in seconds since 1970 UTC.
    pub created: u64,
    /// By whom.
    pub actor: String,
}

impl TemplateVersion {
    /// Begins the ids of all versions.
    pub(super) fn prefix(name: &str) -> String {
        format!("{name}/")
    }

    pub(super) fn id_of(name: &str, version: u32) -> String {
        format!("{}{}", Self::prefix(name), place(version))
    }
}

impl LayerVersion {
    /// Begins the ids of all versions. Vendors and models are long and have any characters: a digest stands for the scope.
    pub(super) fn prefix(template: &str, scope: &Scope) -> String {
        // A scope is always written in the same way, and no two in the same.
        let scope = Digest::of(serde_json::to_string(scope).unwrap_or_default().as_bytes());
        format!("{template}/{scope}/")
    }

    pub(super) fn id_of(template: &str, scope: &Scope, version: u32) -> String {
        format!("{}{}", Self::prefix(template, scope), place(version))
    }
}

/// The newest first, so that one read finds it.
fn place(version: u32) -> String {
    format!("{:010}", u32::MAX.saturating_sub(version))
}

impl Entity for TemplateVersion {
    const KIND: Kind = Kind::named("template");

    fn id(&self) -> String {
        Self::id_of(&self.template.name, self.template.version)
    }
}

impl Entity for LayerVersion {
    const KIND: Kind = Kind::named("layer");

    fn id(&self) -> String {
        Self::id_of(&self.template, &self.layer.scope, self.layer.version)
    }
}
