//! What is known of a terminal for whom parameters are made: where it stands, and facts that values may name.

use super::{ParameterError, Parameters};
use crate::estate::{Binding, Branch, Merchant, Relation, Site};
use crate::rule::template::{Context, Scope, is_name};
use crate::store::{BranchPath, Entity, Key, Query, Record, RosterEntry, Terminal, TerminalId, Versioned};
use std::collections::BTreeMap;

/// How many logical terminals of a device are looked at; the first by its name gives the facts.
const MAX_LOGICAL: u32 = 64;

impl Parameters {
    /// Where a terminal stands now, and its facts:
    ///
    /// | fact | what |
    /// |---|---|
    /// | `terminal.id`, `terminal.vendor`, `terminal.model`, `terminal.serial` | the device |
    /// | `terminal.number` | the number of its logical terminal (ISO 8583 field 41): of the first by name |
    /// | `branch.path`, `branch.name` | its branch |
    /// | `branch.…` | variables of its branch; what that does not set, of those above |
    /// | `merchant.number`, `merchant.name`, `merchant.category` | its merchant |
    /// | `merchant.…` | variables of its merchant |
    /// | `site.id`, `site.address` | where it stands |
    ///
    /// # Errors
    /// [`ParameterError::UnknownTerminal`].
    pub async fn context(&self, terminal: TerminalId) -> Result<Context, ParameterError> {
        let Some(Versioned {
            record: Record::Terminal(device),
            ..
        }) = self.store.get(&Key::Terminal(terminal)).await?
        else {
            return Err(ParameterError::UnknownTerminal(terminal));
        };
        let entry = match self.store.get(&Key::Roster(terminal)).await? {
            Some(Versioned {
                record: Record::Roster(entry),
                ..
            }) => *entry,
            _ => RosterEntry::of(&device, BranchPath::head_office()),
        };
        let mut facts = BTreeMap::new();
        self.device_facts(&device, &mut facts);
        self.branch_facts(&entry.branch, &mut facts).await?;
        let logical = self.logical_terminal(terminal).await?;
        let mut merchant = entry.merchant;
        if let Some(logical) = &logical {
            let number = logical.rsplit_once(':').map_or(logical.as_str(), |(_, number)| number);
            facts.insert("terminal.number".to_owned(), number.to_owned());
            if merchant.is_none() {
                merchant = self.bound(Relation::Merchant, logical).await?;
            }
            if let Some(site) = self.bound(Relation::Site, logical).await?
                && let Some(site) = self.entity::<Site>(&site).await?
            {
                facts.insert("site.id".to_owned(), site.id);
                facts.insert("site.address".to_owned(), site.address);
            }
        }
        if let Some(number) = &merchant {
            self.merchant_facts(number, &mut facts).await?;
        }
        Ok(Context {
            branch: names(&entry.branch),
            vendor: entry.vendor,
            model: entry.model,
            merchant,
            terminal,
            facts,
        })
    }

    fn device_facts(&self, device: &Terminal, facts: &mut BTreeMap<String, String>) {
        let holder = &device.holder;
        for (name, value) in [
            ("terminal.id", device.id.to_string()),
            ("terminal.vendor", holder.vendor.clone()),
            ("terminal.model", holder.model.clone()),
            ("terminal.serial", holder.serial.clone()),
        ] {
            facts.insert(name.to_owned(), value);
        }
    }

    async fn branch_facts(
        &self,
        path: &BranchPath,
        facts: &mut BTreeMap<String, String>,
    ) -> Result<(), ParameterError> {
        for above in path.line() {
            let Some(branch) = self.entity::<Branch>(above.as_str()).await? else {
                continue;
            };
            add(facts, "branch", branch.variables);
            if above == *path {
                facts.insert("branch.name".to_owned(), branch.name);
            }
        }
        facts.insert("branch.path".to_owned(), path.to_string());
        Ok(())
    }

    async fn merchant_facts(&self, number: &str, facts: &mut BTreeMap<String, String>) -> Result<(), ParameterError> {
        if let Some(merchant) = self.entity::<Merchant>(number).await? {
            add(facts, "merchant", merchant.variables);
            facts.insert("merchant.name".to_owned(), merchant.name);
            if let Some(category) = merchant.category {
                facts.insert("merchant.category".to_owned(), category);
            }
        }
        facts.insert("merchant.number".to_owned(), number.to_owned());
        Ok(())
    }

    /// The logical terminal that runs on a device: of several the first by name.
    async fn logical_terminal(&self, device: TerminalId) -> Result<Option<String>, ParameterError> {
        let query = Query::Marked {
            kind: Binding::KIND,
            mark: Binding::HOLDS.to_owned(),
            prefix: Binding::object_mark(Relation::Device, &device.to_string()),
            after: None,
        };
        let bindings = self.documents::<Binding>(&query, MAX_LOGICAL).await?;
        Ok(bindings.into_iter().map(|binding| binding.subject).min())
    }

    /// What a subject is bound to now.
    async fn bound(&self, relation: Relation, subject: &str) -> Result<Option<String>, ParameterError> {
        let query = Query::Documents {
            kind: Binding::KIND,
            prefix: Binding::subject_mark(relation, subject),
            after: None,
        };
        let last = self.documents::<Binding>(&query, 1).await?.into_iter().next();
        Ok(last.filter(|last| last.until.is_none()).map(|last| last.object))
    }
}

/// The scopes that cover a terminal, from the widest.
pub(super) fn scopes(context: &Context) -> Vec<Scope> {
    let branches = (0..=context.branch.len()).filter_map(|depth| context.branch.get(..depth));
    let mut scopes: Vec<Scope> = branches.map(|path| Scope::Branch(path.to_vec())).collect();
    scopes.push(Scope::Vendor(context.vendor.clone()));
    scopes.push(Scope::Model {
        vendor: context.vendor.clone(),
        model: context.model.clone(),
    });
    scopes.extend(context.merchant.clone().map(Scope::Merchant));
    scopes.push(Scope::Terminal(context.terminal));
    scopes
}

/// The names of a branch path, from head office down.
pub(crate) fn names(path: &BranchPath) -> Vec<String> {
    let names = path.as_str().split('/').filter(|name| !name.is_empty());
    names.map(str::to_owned).collect()
}

fn add(facts: &mut BTreeMap<String, String>, of: &str, variables: BTreeMap<String, String>) {
    let named = variables
        .into_iter()
        .map(|(name, value)| (format!("{of}.{name}"), value));
    // What no value can name is no fact.
    facts.extend(named.filter(|(name, _)| is_name(name)));
}
