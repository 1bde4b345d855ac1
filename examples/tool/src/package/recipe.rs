//! What a package shall be: the manifest as people write it, in TOML or in flags.

use crate::time::Moment;
use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use tms_proto::code::ComponentKind;

/// What a package shall be. Everything is optional here, for a file and flags may each say a part.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recipe {
    /// The component that it installs.
    pub component: Option<String>,
    /// What kind of component that is, by its name or its ISO 20022 code; `application` by default.
    pub kind: Option<String>,
    /// The version, as people read it.
    pub version: Option<String>,
    /// The version, as it is compared; taken from `version` where that is of numbers and full stops.
    pub order: Option<VersionOrder>,
    /// The security counter.
    pub counter: Option<u32>,
    /// The lowest version from which a terminal can go to this one.
    pub min_from: Option<VersionOrder>,
    /// The vendor of the terminals that it is for.
    pub vendor: Option<String>,
    /// Their models.
    pub models: Vec<String>,
    /// Their hardware versions; empty for all.
    pub hardware: Vec<String>,
    /// What else must be installed.
    #[serde(rename = "dependency")]
    pub dependencies: Vec<DependencyRecipe>,
    /// The content, in one file.
    pub content: Option<PathBuf>,
    /// Or the content, of several files one behind the other.
    #[serde(rename = "file")]
    pub files: Vec<FileRecipe>,
    /// Transactions must be settled before.
    pub settle_first: bool,
    /// The terminal must be started again after.
    pub restart: bool,
    /// It may not be installed before.
    pub not_before: Option<Moment>,
    /// It may not be installed from then on.
    pub expiry: Option<Moment>,
}

/// Another component that must be installed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DependencyRecipe {
    /// The component.
    pub component: String,
    /// Its lowest version.
    pub version: VersionOrder,
}

/// One file of the content.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRecipe {
    /// Its path on the terminal, relative to the component's directory.
    pub name: String,
    /// Where it lies here; relative to the recipe's own directory.
    pub source: PathBuf,
    /// What it is to the terminal.
    #[serde(default = "data")]
    pub role: String,
    /// Permissions in octal, such as `"755"`.
    pub mode: Option<String>,
}

/// How versions are compared: a number, or numbers and full stops (`3.2.1`), each part up to 9,999 and at most four.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct VersionOrder(pub u64);

impl FromStr for VersionOrder {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const WRONG: &str = "versions are compared as numbers: write 42, or 3.2.1 with at most four parts up to 9999";
        if !text.contains('.') {
            return text.parse().map(Self).map_err(|_| WRONG.to_owned());
        }
        let parts: Vec<&str> = text.split('.').collect();
        if parts.len() > 4 {
            return Err(WRONG.to_owned());
        }
        // Four digits a part: 3.2.1 is 3 0002 0001 0000, and 3.2.1.5 lies behind it.
        let mut order = 0u64;
        for index in 0..4 {
            let part = parts.get(index).copied().unwrap_or("0");
            let number = part
                .parse::<u16>()
                .ok()
                .filter(|number| *number <= 9_999 && !part.starts_with('+'));
            order = order * 10_000 + u64::from(number.ok_or(WRONG)?);
        }
        Ok(Self(order))
    }
}

impl<'de> Deserialize<'de> for VersionOrder {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Number(u64),
            Text(String),
        }
        match Form::deserialize(deserializer)? {
            Form::Number(order) => Ok(Self(order)),
            Form::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

impl Recipe {
    /// Reads a recipe. Paths in it are relative to the directory in which it lies.
    ///
    /// # Errors
    /// Where it cannot be read or says something that is not understood.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read the manifest {}", path.display()))?;
        let mut recipe: Self =
            toml::from_str(&text).with_context(|| format!("the manifest {} is not valid", path.display()))?;
        let base = path.parent().unwrap_or_else(|| Path::new(""));
        recipe.content = recipe.content.map(|content| base.join(content));
        for file in &mut recipe.files {
            file.source = base.join(&file.source);
        }
        Ok(recipe)
    }

    /// This recipe with what `flags` say in the place of what it says.
    #[must_use]
    pub fn overridden(self, flags: Self) -> Self {
        let list = |own: Vec<String>, flag: Vec<String>| if flag.is_empty() { own } else { flag };
        Self {
            component: flags.component.or(self.component),
            kind: flags.kind.or(self.kind),
            // An order that was written for another version says nothing of this one.
            order: flags
                .order
                .or_else(|| if flags.version.is_some() { None } else { self.order }),
            version: flags.version.or(self.version),
            counter: flags.counter.or(self.counter),
            min_from: flags.min_from.or(self.min_from),
            vendor: flags.vendor.or(self.vendor),
            models: list(self.models, flags.models),
            hardware: list(self.hardware, flags.hardware),
            dependencies: if flags.dependencies.is_empty() {
                self.dependencies
            } else {
                flags.dependencies
            },
            files: if flags.content.is_some() {
                Vec::new()
            } else {
                self.files
            },
            content: flags.content.or(self.content),
            settle_first: flags.settle_first || self.settle_first,
            restart: flags.restart || self.restart,
            not_before: flags.not_before.or(self.not_before),
            expiry: flags.expiry.or(self.expiry),
        }
    }

    /// How the version compares.
    pub(super) fn order(&self, version: &str) -> Result<VersionOrder> {
        match self.order {
            Some(order) => Ok(order),
            None => version.parse().map_err(|_| {
                anyhow!("the version {version} is not of numbers and full stops: say with --order how it compares")
            }),
        }
    }

    /// What kind of component it is.
    pub(super) fn kind(&self) -> Result<ComponentKind> {
        let Some(name) = &self.kind else {
            return Ok(ComponentKind::Application);
        };
        let found = KINDS
            .iter()
            .find(|(long, kind)| long == name || kind.name().eq_ignore_ascii_case(name));
        found.map(|(_, kind)| *kind).ok_or_else(|| {
            let names: Vec<&str> = KINDS.iter().map(|(long, _)| *long).collect();
            anyhow!("there is no kind of component {name}: take one of {}", names.join(", "))
        })
    }
}

impl DependencyRecipe {
    /// Reads `component@version`.
    ///
    /// # Errors
    /// Where it is not of this form.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (component, version) = text
            .split_once('@')
            .ok_or("a dependency is written component@version")?;
        Ok(Self {
            component: component.to_owned(),
            version: version.parse()?,
        })
    }
}

impl FileRecipe {
    /// Permissions.
    pub(super) fn mode(&self) -> Result<u16> {
        let Some(mode) = &self.mode else { return Ok(0o644) };
        match u16::from_str_radix(mode, 8) {
            Ok(mode) if mode <= 0o777 => Ok(mode),
            _ => bail!(
                "the mode {mode} of {} is not one: write it in octal, such as \"755\"",
                self.name
            ),
        }
    }
}

/// The name of a kind of component, as recipes have it.
#[must_use]
pub fn kind_name(kind: ComponentKind) -> String {
    let found = KINDS.iter().find(|(_, known)| *known == kind);
    found.map_or_else(|| kind.to_string(), |(name, _)| (*name).to_owned())
}

const KINDS: [(&str, ComponentKind); 12] = [
    ("operating-system", ComponentKind::OperatingSystem),
    ("middleware", ComponentKind::Middleware),
    ("driver", ComponentKind::Driver),
    ("main-control", ComponentKind::MainControl),
    ("application", ComponentKind::Application),
    ("emv-kernel", ComponentKind::EmvKernel),
    ("terminal-parameters", ComponentKind::TerminalParameters),
    ("acquirer-parameters", ComponentKind::AcquirerParameters),
    ("application-parameters", ComponentKind::ApplicationParameters),
    ("merchant-parameters", ComponentKind::MerchantParameters),
    ("certificate", ComponentKind::Certificate),
    ("secure-element", ComponentKind::SecureElement),
];

fn data() -> String {
    "data".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(text: &str) -> u64 {
        text.parse::<VersionOrder>().unwrap().0
    }

    #[test]
    fn versions_compare_as_people_read_them() {
        let versions = ["0.9", "1.0", "1.0.0.1", "1.2", "1.10", "3.2", "3.2.1", "10.0"];
        assert!(versions.windows(2).all(|pair| order(pair[0]) < order(pair[1])));
        assert_eq!(order("3.2"), order("3.2.0.0"));
        assert_eq!(order("42"), 42);
        for wrong in ["", ".", "1.", "1.2.3.4.5", "1.10000", "1.+2", "v1.2", "1.2-beta"] {
            assert!(wrong.parse::<VersionOrder>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn flags_win_over_the_file() {
        let file: Recipe = toml::from_str(
            r#"
            component = "cashier"
            version = "1.0"
            order = 7
            counter = 3
            models = ["P80"]
            expiry = "2027-01-31"
            [[dependency]]
            component = "kernel"
            version = "2.1"
            [[file]]
            name = "bin/app"
            source = "app"
            mode = "755"
            "#,
        )
        .unwrap();
        assert_eq!(file.files[0].mode().unwrap(), 0o755);
        assert_eq!(file.dependencies[0].version.0, order("2.1"));
        let flags = Recipe {
            version: Some("1.1".into()),
            content: Some("x".into()),
            ..Recipe::default()
        };
        let both = file.clone().overridden(flags);
        assert_eq!(
            (both.component.as_deref(), both.version.as_deref()),
            (Some("cashier"), Some("1.1"))
        );
        assert_eq!(both.order("1.1").unwrap().0, order("1.1"));
        assert!(both.files.is_empty() && both.models == ["P80"]);
        assert_eq!(file.order("1.0").unwrap(), VersionOrder(7));
    }

    #[test]
    fn kinds_have_two_names() {
        let kind = |name: &str| {
            Recipe {
                kind: Some(name.into()),
                ..Recipe::default()
            }
            .kind()
        };
        assert_eq!(kind("emv-kernel").unwrap(), ComponentKind::EmvKernel);
        assert_eq!(kind("EMVK").unwrap(), ComponentKind::EmvKernel);
        assert!(kind("toaster").unwrap_err().to_string().contains("main-control"));
        assert_eq!(KINDS.len(), ComponentKind::ALL.len());
    }
}
