//! Stocktaking: an imported list of assets beside the estate.

use super::access::{Actor, Permission};
use super::audit::Deed;
use super::rollup::put;
use super::{AsOf, Estate, EstateError};
use crate::rule::asset::{Finding, Known, List, Outcome, Reconciliation, Totals};
use crate::store::{
    BranchPath, Caller, Change, Entity, Holder, Key, Kind, Query, Record, RosterEntry, RosterFilter, RosterPlace,
    StoreError, TerminalId, Versioned,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::io::Read;

/// The most findings that are kept of one list; those of terminals that are where they should be are only counted.
pub const MAX_FINDINGS: u64 = 100_000;

/// How many findings are kept in one commit, and how many terminals are read at a time.
const BATCH: usize = 500;

/// A list that was reconciled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stocktaking {
    /// Its id.
    pub id: String,
    /// What the operator calls the list.
    pub name: String,
    /// The branch that it is about, with those below it.
    pub branch: BranchPath,
    /// Who reconciled it.
    pub operator: String,
    /// When, in seconds since 1970 UTC.
    pub time: u64,
    /// As of when the roster was.
    pub as_of: AsOf,
    /// How many there are of each outcome.
    pub totals: Totals,
    /// How many findings are kept.
    pub kept: u64,
}

impl Entity for Stocktaking {
    const KIND: Kind = Kind::named("stocktaking");

    fn id(&self) -> String {
        self.id.clone()
    }

    fn marks(&self) -> Vec<(&'static str, String)> {
        vec![("branch", self.branch.to_string())]
    }
}

/// A finding that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeptFinding {
    stocktaking: String,
    number: u64,
    #[serde(flatten)]
    pub(super) finding: Finding,
}

impl Entity for KeptFinding {
    const KIND: Kind = Kind::named("asset_finding");

    fn id(&self) -> String {
        format!("{}/{:010}", self.stocktaking, self.number)
    }
}

/// Findings on their way into the store.
struct Keeper {
    id: String,
    kept: u64,
    waiting: Vec<Change>,
}

impl Estate {
    /// Reconciles a list of assets with the terminals of a branch and those below it. `name` is what the operator calls the list.
    /// Terminals that the actor may not see are as if they were not there. The result is a record; findings are kept with it, but
    /// for terminals that are where the list says. A list that cannot be read to its end leaves no record.
    ///
    /// # Errors
    /// [`EstateError::List`]; [`EstateError::Denied`]; [`EstateError::Unknown`] where the branch is not there;
    /// [`EstateError::Invalid`].
    pub async fn reconcile_assets<R: Read + Send>(
        &self,
        actor: &Actor,
        under: &BranchPath,
        name: &str,
        list: List<'_, R>,
    ) -> Result<Stocktaking, EstateError> {
        super::branch::text("name", name, 80)?;
        actor.demand(Permission::View, under)?;
        self.demand_branch(under).await?;
        let (as_of, time) = (self.as_of().await?, self.clock.now());
        let mut random = [0; 8];
        self.entropy.fill(&mut random);
        let mut keeper = Keeper {
            id: format!("{time:010}-{}", hex::encode(random)),
            kept: 0,
            waiting: Vec::new(),
        };
        let mut reconciliation = Reconciliation::default();
        for line in list {
            let finding = match line? {
                Ok(listed) => {
                    let known = self.asset(actor, &listed.holder).await?;
                    reconciliation.judge(&listed, known.as_ref())
                }
                Err(malformed) => reconciliation.malformed(&malformed),
            };
            self.keep(&mut keeper, finding).await?;
        }
        let mut after = None;
        loop {
            let query = Query::Roster {
                filter: RosterFilter::under(under.clone()),
                after,
            };
            let page = self
                .store
                .list(&query, u32::try_from(BATCH).unwrap_or(u32::MAX))
                .await?;
            let over = page.len() < BATCH;
            after = None;
            for found in page {
                if let Record::Roster(entry) = found.record {
                    after = Some(RosterPlace::of(&entry));
                    if let Some(finding) = reconciliation.missing(&known(*entry)) {
                        self.keep(&mut keeper, finding).await?;
                    }
                }
            }
            if over {
                break;
            }
        }
        let stocktaking = Stocktaking {
            id: keeper.id,
            name: name.to_owned(),
            branch: under.clone(),
            operator: actor.name().to_owned(),
            time,
            as_of,
            totals: reconciliation.totals,
            kept: keeper.kept,
        };
        let deed = Deed {
            act: "assets.reconcile",
            subject: stocktaking.id.clone(),
            branch: under.clone(),
            detail: json!({ "name": name, "totals": stocktaking.totals }),
        };
        let mut changes = keeper.waiting;
        changes.push(put(None, &stocktaking)?);
        self.commit(actor, &deed, changes).await?;
        Ok(stocktaking)
    }

    /// A reconciled list that the actor may see.
    ///
    /// # Errors
    /// [`EstateError::Unknown`] where there is none, or none that they may see.
    pub async fn stocktaking(&self, actor: &Actor, id: &str) -> Result<Stocktaking, EstateError> {
        match self.versioned::<Stocktaking>(id).await? {
            Some(found) if actor.may(Permission::View, &found.record.branch) => Ok(found.record),
            _ => Err(EstateError::Unknown("stocktaking", id.to_owned())),
        }
    }

    /// The lists that were reconciled, of a branch and those below it, that the actor may see, the oldest first.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn stocktakings(
        &self,
        actor: &Actor,
        under: &BranchPath,
        limit: u32,
    ) -> Result<Vec<Stocktaking>, EstateError> {
        let mut found = Vec::new();
        for scope in super::branch::within(actor, Permission::View, under) {
            let query = Query::Marked {
                kind: Stocktaking::KIND,
                mark: "branch".to_owned(),
                prefix: scope.to_string(),
                after: None,
            };
            let left = limit.saturating_sub(u32::try_from(found.len()).unwrap_or(u32::MAX));
            found.extend(self.documents::<Stocktaking>(&query, left).await?);
        }
        Ok(found)
    }

    pub(super) async fn findings(&self, stocktaking: &str) -> Result<Vec<KeptFinding>, StoreError> {
        let query = Query::Documents {
            kind: KeptFinding::KIND,
            prefix: format!("{stocktaking}/"),
            after: None,
        };
        self.documents(&query, u32::try_from(MAX_FINDINGS).unwrap_or(u32::MAX))
            .await
    }

    /// What the estate has under a holder, where the actor may see it.
    async fn asset(&self, actor: &Actor, holder: &Holder) -> Result<Option<Known>, StoreError> {
        let Some(found) = self.store.check_in(&Caller::Holder(holder.clone())).await? else {
            return Ok(None);
        };
        let terminal = found.terminal.record;
        let entry = match self.store.get(&Key::Roster(terminal.id)).await? {
            Some(Versioned {
                record: Record::Roster(entry),
                ..
            }) => *entry,
            _ => RosterEntry::of(&terminal, BranchPath::head_office()),
        };
        Ok(actor.may(Permission::View, &entry.branch).then(|| known(entry)))
    }

    async fn keep(&self, keeper: &mut Keeper, finding: Finding) -> Result<(), StoreError> {
        if finding.outcome == Outcome::Matched || keeper.kept >= MAX_FINDINGS {
            return Ok(());
        }
        let kept = KeptFinding {
            stocktaking: keeper.id.clone(),
            number: keeper.kept,
            finding,
        };
        keeper.kept = keeper.kept.saturating_add(1);
        keeper.waiting.push(put(None, &kept)?);
        if keeper.waiting.len() >= BATCH {
            self.store.commit(std::mem::take(&mut keeper.waiting)).await?;
        }
        Ok(())
    }
}

fn known(entry: RosterEntry) -> Known {
    let RosterEntry {
        terminal,
        branch,
        vendor,
        model,
        serial,
        merchant,
        ..
    } = entry;
    let levels = branch.as_str().split('/').filter(|level| !level.is_empty());
    Known {
        terminal,
        holder: Holder { vendor, model, serial },
        branch: levels.map(str::to_owned).collect(),
        merchant,
    }
}

/// The terminal of a finding, as lists name it.
pub(super) fn name_of(terminal: Option<TerminalId>) -> Option<String> {
    terminal.map(|id| id.to_string())
}
