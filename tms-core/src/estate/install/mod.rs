//! New installations: announced by the business system, initialised, confirmed by two operators, and registered by the terminal.

mod record;
mod state;

pub use record::{Contradiction, Installation, InstallationFact, InstallationMessage, Received, Signed};
pub use state::{Finding, InstallOperation, InstallState, NotAllowed};

use super::access::{Actor, Permission};
use super::audit::Deed;
use super::binding::{self, Binding, Rebound, Relation, rebind};
use super::branch::{Merchant, Site, text, within};
use super::key_load::KeyLoad;
use super::rollup::put;
use super::{Estate, EstateError, decided, list, read};
use crate::rule::name::Aliases;
use crate::store::{
    BranchPath, Caller, Change, Entity, Expect, Key, Query, Record, Store, StoreError, Terminal, TerminalId, Versioned,
};
use record::MAX_MESSAGES;
use serde_json::json;
use std::collections::BTreeMap;

/// The most installations that one device has.
const MAX_OF_DEVICE: u32 = 16;

impl Estate {
    /// Takes a message of the business system in. The same message again changes nothing; one that comes late, out of order or
    /// with less is kept, and what contradicts what is known is said and never taken over: [`Self::resolve_installation`] does that.
    ///
    /// # Errors
    /// [`EstateError::Denied`]; [`EstateError::Invalid`] where a fact is none; [`EstateError::Unknown`] where the branch is not
    /// there; [`EstateError::InUse`] after 32 messages about one installation.
    pub async fn announce(&self, actor: &Actor, message: InstallationMessage) -> Result<Installation, EstateError> {
        text("reference", &message.reference, 64)?;
        decided(|| async {
            let found = self.versioned::<Installation>(&message.reference).await?;
            let version = found.as_ref().map(|found| found.version);
            let mut installation = match found {
                Some(found) => found.record,
                None => Installation::new(&message.reference),
            };
            if version.is_some() {
                actor.demand(Permission::Install, &installation.branch())?;
            }
            let message = normal(message.clone(), installation.fact(InstallationFact::Vendor))?;
            if let Some(said) = message.facts.get(&InstallationFact::Branch) {
                self.demand_branch(&path(said)).await?;
            }
            if !installation.receive(message.clone(), self.clock.now())? {
                return Ok(installation);
            }
            actor.demand(Permission::Install, &installation.branch())?;
            if installation.messages.len() > MAX_MESSAGES {
                return Err(EstateError::InUse(message.reference, "32 messages"));
            }
            let deed = self.deed("install.announce", &installation, json!({ "message": message }));
            self.commit(actor, &deed, vec![put(version, &installation)?]).await?;
            Ok(installation)
        })
        .await
    }

    /// Says what is right of something that was said in two ways, or supplies what is missing.
    ///
    /// # Errors
    /// [`EstateError::Denied`]; [`EstateError::Unknown`]; [`EstateError::Install`]; [`EstateError::Invalid`].
    pub async fn resolve_installation(
        &self,
        actor: &Actor,
        reference: &str,
        fact: InstallationFact,
        value: &str,
    ) -> Result<Installation, EstateError> {
        decided(|| async {
            let found = self.installation_of(actor, Permission::Install, reference).await?;
            let mut installation = found.record;
            let vendor = installation.fact(InstallationFact::Vendor);
            let Some(value) = record::form(fact, value, &Aliases::known(), vendor) else {
                return Err(EstateError::Invalid(fact.name(), "is not one"));
            };
            if fact == InstallationFact::Branch {
                let to = path(&value);
                self.demand_branch(&to).await?;
                actor.demand(Permission::Install, &to)?;
            }
            installation.resolve(fact, value.clone())?;
            let deed = self.deed(
                "install.resolve",
                &installation,
                json!({ "fact": fact, "value": value }),
            );
            self.commit(actor, &deed, vec![put(Some(found.version), &installation)?])
                .await?;
            Ok(installation)
        })
        .await
    }

    /// Puts an enrolled device to an installation, and records which keys were loaded into it.
    ///
    /// # Errors
    /// [`EstateError::Denied`]; [`EstateError::Unknown`]; [`EstateError::UnknownTerminal`]; [`EstateError::Install`];
    /// [`EstateError::Invalid`] where the device is another model or serial number than the installation wants, or the key load is
    /// none of it.
    pub async fn initialise(
        &self,
        actor: &Actor,
        reference: &str,
        device: &Caller,
        keys: KeyLoad,
    ) -> Result<Installation, EstateError> {
        decided(|| async {
            let found = self.installation_of(actor, Permission::Enrol, reference).await?;
            let mut installation = found.record;
            let terminal = self.known(device).await?.terminal.record;
            actor.demand(Permission::Enrol, &self.branch_of(terminal.id).await?)?;
            installation.advance(InstallOperation::Initialise)?;
            meant(&mut installation, &terminal)?;
            installation.device = Some(terminal.id);
            installation.initialised = Some(self.signed(actor));
            let load = self
                .key_load(actor, &terminal, installation.branch(), keys.clone())
                .await?;
            let detail = json!({ "terminal": terminal.id, "keys": load });
            let deed = self.deed("install.initialise", &installation, detail);
            let changes = vec![put(Some(found.version), &installation)?, put(None, &load)?];
            self.commit(actor, &deed, changes).await?;
            Ok(installation)
        })
        .await
    }

    /// Confirms an installation as its branch.
    ///
    /// # Errors
    /// [`EstateError::Denied`]; [`EstateError::Unknown`]; [`EstateError::Install`].
    pub async fn confirm_by_branch(&self, actor: &Actor, reference: &str) -> Result<Installation, EstateError> {
        decided(|| async {
            let found = self
                .installation_of(actor, Permission::ConfirmBranch, reference)
                .await?;
            let mut installation = found.record;
            installation.advance(InstallOperation::ConfirmByBranch)?;
            installation.branch_confirmed = Some(self.signed(actor));
            let deed = self.deed(
                "install.confirm_branch",
                &installation,
                json!({ "facts": installation.facts }),
            );
            self.commit(actor, &deed, vec![put(Some(found.version), &installation)?])
                .await?;
            Ok(installation)
        })
        .await
    }

    /// Confirms an installation as head office: from now on the logical terminal runs on the device, belongs to the merchant and
    /// stands at the site. A merchant or a site that is not there is made.
    ///
    /// # Errors
    /// [`EstateError::SecondOperator`] where the actor confirmed it for the branch; [`EstateError::InUse`] where the logical
    /// terminal runs on another device: that one is to be replaced; [`EstateError::Invalid`] where merchant or site are
    /// there in another branch; [`EstateError::Denied`]; [`EstateError::Unknown`]; [`EstateError::Install`].
    pub async fn confirm_by_head_office(&self, actor: &Actor, reference: &str) -> Result<Installation, EstateError> {
        decided(|| async {
            let found = self
                .installation_of(actor, Permission::ConfirmHeadOffice, reference)
                .await?;
            actor.demand(Permission::ConfirmHeadOffice, &BranchPath::head_office())?;
            let mut installation = found.record;
            installation.advance(InstallOperation::ConfirmByHeadOffice)?;
            let by_branch = installation.branch_confirmed.as_ref();
            if by_branch.is_some_and(|signed| signed.by == actor.name()) {
                return Err(EstateError::SecondOperator);
            }
            installation.head_office_confirmed = Some(self.signed(actor));
            let mut changes = self.placed(&installation).await?;
            changes.extend(self.bound(actor, &installation).await?);
            changes.push(put(Some(found.version), &installation)?);
            let deed = self.deed(
                "install.confirm_head_office",
                &installation,
                json!({ "facts": installation.facts }),
            );
            self.commit(actor, &deed, changes).await?;
            Ok(installation)
        })
        .await
    }

    /// Calls an installation off.
    ///
    /// # Errors
    /// [`EstateError::Denied`]; [`EstateError::Unknown`]; [`EstateError::Install`] where the terminal has registered.
    pub async fn withdraw_installation(
        &self,
        actor: &Actor,
        reference: &str,
        reason: &str,
    ) -> Result<Installation, EstateError> {
        text("reason", reason, 200)?;
        decided(|| async {
            let found = self.installation_of(actor, Permission::Install, reference).await?;
            let mut installation = found.record;
            installation.advance(InstallOperation::Withdraw)?;
            let deed = self.deed("install.withdraw", &installation, json!({ "reason": reason }));
            self.commit(actor, &deed, vec![put(Some(found.version), &installation)?])
                .await?;
            Ok(installation)
        })
        .await
    }

    /// An installation that the actor may see.
    ///
    /// # Errors
    /// [`EstateError::Unknown`] where there is none, or none that they may see.
    pub async fn installation(&self, actor: &Actor, reference: &str) -> Result<Installation, EstateError> {
        match self.versioned::<Installation>(reference).await? {
            Some(found) if actor.may(Permission::View, &found.record.branch()) => Ok(found.record),
            _ => Err(EstateError::Unknown("installation", reference.to_owned())),
        }
    }

    /// The installations in this state that the actor may see, under `under`, by branch and reference.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn installations(
        &self,
        actor: &Actor,
        under: &BranchPath,
        state: InstallState,
        limit: u32,
    ) -> Result<Vec<Installation>, EstateError> {
        let mut found = Vec::new();
        for scope in within(actor, Permission::View, under) {
            let query = Query::Marked {
                kind: Installation::KIND,
                mark: "state".to_owned(),
                prefix: format!("{}{scope}", state.name()),
                after: None,
            };
            let left = limit.saturating_sub(u32::try_from(found.len()).unwrap_or(u32::MAX));
            found.extend(self.documents::<Installation>(&query, left).await?);
        }
        Ok(found)
    }

    async fn installation_of(
        &self,
        actor: &Actor,
        permission: Permission,
        reference: &str,
    ) -> Result<Versioned<Installation>, EstateError> {
        let unknown = || EstateError::Unknown("installation", reference.to_owned());
        let found = self.versioned::<Installation>(reference).await?.ok_or_else(unknown)?;
        let branch = found.record.branch();
        if !actor.may(Permission::View, &branch) && !actor.may(permission, &branch) {
            return Err(unknown());
        }
        actor.demand(permission, &branch)?;
        Ok(found)
    }

    fn deed(&self, act: &'static str, installation: &Installation, detail: serde_json::Value) -> Deed {
        Deed {
            act,
            subject: installation.reference.clone(),
            branch: installation.branch(),
            detail: json!({ "state": installation.state, "detail": detail }),
        }
    }

    fn signed(&self, actor: &Actor) -> Signed {
        Signed {
            by: actor.name().to_owned(),
            at: self.clock.now(),
        }
    }

    /// What makes merchant and site be there, and the device's line in the roster say where it belongs.
    async fn placed(&self, installation: &Installation) -> Result<Vec<Change>, EstateError> {
        use InstallationFact as Fact;
        let branch = installation.branch();
        let fact = |fact| installation.fact(fact).unwrap_or_default().to_owned();
        let (number, site) = (fact(Fact::Merchant), fact(Fact::Site));
        let mut changes = Vec::new();
        match self.versioned::<Merchant>(&number).await? {
            Some(known) if known.record.branch != branch => {
                return Err(EstateError::Invalid("merchant", "is there in another branch"));
            }
            Some(_) => {}
            None => changes.push(put(
                None,
                &Merchant {
                    name: installation.fact(Fact::MerchantName).unwrap_or(&number).to_owned(),
                    number: number.clone(),
                    branch: branch.clone(),
                    category: None,
                    variables: BTreeMap::new(),
                },
            )?),
        }
        match self.versioned::<Site>(&site).await? {
            Some(known) if known.record.merchant != number => {
                return Err(EstateError::Invalid("site", "is there of another merchant"));
            }
            Some(_) => {}
            None => changes.push(put(
                None,
                &Site {
                    address: installation.fact(Fact::Address).unwrap_or(&site).to_owned(),
                    id: site,
                    merchant: number.clone(),
                    branch: branch.clone(),
                    zone: None,
                },
            )?),
        }
        if let Some(device) = installation.device {
            changes.extend(relisted(&*self.store, device, &branch, Some(number)).await?);
        }
        Ok(changes)
    }

    async fn bound(&self, actor: &Actor, installation: &Installation) -> Result<Vec<Change>, EstateError> {
        let (Some(logical), Some(device)) = (installation.logical(), installation.device) else {
            return Err(EstateError::Invalid("installation", "has no device"));
        };
        let running = binding::last(&*self.store, Relation::Device, &logical).await?;
        let running = running.filter(|last| last.record.until.is_none());
        if running.is_some_and(|last| last.record.object != device.to_string()) {
            return Err(EstateError::InUse(logical, "another device"));
        }
        let fact = |fact| installation.fact(fact).unwrap_or_default().to_owned();
        let mut changes = Vec::new();
        for (relation, object) in [
            (Relation::Device, device.to_string()),
            (Relation::Merchant, fact(InstallationFact::Merchant)),
            (Relation::Site, fact(InstallationFact::Site)),
        ] {
            let binding = Binding {
                relation,
                subject: logical.clone(),
                object,
                branch: installation.branch(),
                from: self.clock.now(),
                until: None,
                operator: actor.name().to_owned(),
                reason: format!("installation {}", installation.reference),
                number: 0,
            };
            let Rebound { changes: more, .. } = rebind(&*self.store, binding).await?;
            changes.extend(more);
        }
        Ok(changes)
    }
}

/// The installations that a device is put to.
pub(crate) async fn of_device(store: &dyn Store, id: TerminalId) -> Result<Vec<Versioned<Installation>>, StoreError> {
    let query = Query::Marked {
        kind: Installation::KIND,
        mark: Installation::DEVICE.to_owned(),
        prefix: id.to_string(),
        after: None,
    };
    list(store, &query, MAX_OF_DEVICE).await
}

/// What makes the roster say where a terminal belongs and stands.
pub(crate) async fn relisted(
    store: &dyn Store,
    id: TerminalId,
    branch: &BranchPath,
    merchant: Option<String>,
) -> Result<Option<Change>, StoreError> {
    Ok(match store.get(&Key::Roster(id)).await? {
        Some(Versioned {
            version,
            record: Record::Roster(mut entry),
        }) if entry.branch != *branch || entry.merchant != merchant => {
            entry.branch = branch.clone();
            entry.merchant = merchant;
            Some(Change::Put(Expect::Version(version), (*entry).into()))
        }
        _ => None,
    })
}

impl Installation {
    /// The terminal has registered.
    pub(crate) fn register(&mut self, now: u64) -> Result<(), NotAllowed> {
        self.advance(InstallOperation::Register)?;
        self.installed = self.installed.or(Some(now));
        Ok(())
    }
}

/// A message with the names that the estate uses; models and serial numbers are those of the vendor, if need be of the one that is
/// known already.
fn normal(mut message: InstallationMessage, known: Option<&str>) -> Result<InstallationMessage, EstateError> {
    let aliases = Aliases::known();
    let vendor = message.facts.get(&InstallationFact::Vendor).map(String::as_str);
    let vendor = vendor.or(known).map(str::to_owned);
    for (fact, value) in &mut message.facts {
        let formed = record::form(*fact, value, &aliases, vendor.as_deref());
        *value = formed.ok_or_else(|| EstateError::Invalid(fact.name(), "is not one"))?;
    }
    Ok(message)
}

/// Demands that a device is the one that an installation wants, and takes over what that leaves open.
fn meant(installation: &mut Installation, terminal: &Terminal) -> Result<(), EstateError> {
    let aliases = Aliases::known();
    let holder = &terminal.holder;
    for (fact, value) in [
        (InstallationFact::Vendor, &holder.vendor),
        (InstallationFact::Model, &holder.model),
        (InstallationFact::Serial, &holder.serial),
    ] {
        let value = record::form(fact, value, &aliases, Some(&holder.vendor)).unwrap_or_else(|| value.clone());
        let wanted = installation.facts.entry(fact).or_insert_with(|| value.clone());
        // it may have been said before the vendor was known
        let formed = record::form(fact, wanted, &aliases, Some(&holder.vendor));
        if formed.as_ref() != Some(&value) {
            return Err(EstateError::Invalid(fact.name(), "is not that of the installation"));
        }
    }
    Ok(())
}

fn path(text: &str) -> BranchPath {
    text.parse().unwrap_or_else(|_| BranchPath::head_office())
}

/// An entity that may be missing: what is not there is as if it were new.
pub(crate) async fn read_or_new<E: Entity>(
    store: &dyn Store,
    id: &str,
    new: impl FnOnce() -> E + Send,
) -> Result<(Option<u64>, E), StoreError> {
    Ok(match read::<E>(store, id).await? {
        Some(found) => (Some(found.version), found.record),
        None => (None, new()),
    })
}
