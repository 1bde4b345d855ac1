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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scopes() -> impl Strategy<Value = Scope> {
        prop_oneof![
            proptest::collection::vec("[a-z]{1,3}", 0..4).prop_map(Scope::Branch),
            "\\PC{1,40}".prop_map(Scope::Vendor),
            ("\\PC{1,40}", "\\PC{1,40}").prop_map(|(vendor, model)| Scope::Model { vendor, model }),
            "\\PC{1,15}".prop_map(Scope::Merchant),
        ]
    }

    proptest! {
        #[test]
        fn ids_are_short_and_the_newest_comes_first(name in "[a-zA-Z0-9_.-]{1,64}", scope in scopes(), one: u32, other: u32) {
            let ids = [one, other].map(|version| LayerVersion::id_of(&name, &scope, version));
            prop_assert!(ids.iter().all(|id| id.len() <= 256));
            prop_assert_eq!(ids[0].cmp(&ids[1]), other.cmp(&one));
            let ids = [one, other].map(|version| TemplateVersion::id_of(&name, version));
            prop_assert_eq!(ids[0].cmp(&ids[1]), other.cmp(&one));
        }

        #[test]
        fn no_two_scopes_share_layers(one in scopes(), other in scopes()) {
            let prefixes = [&one, &other].map(|scope| LayerVersion::prefix("pay", scope));
            prop_assert_eq!(prefixes[0] == prefixes[1], one == other);
        }
    }
}
