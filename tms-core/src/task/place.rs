//! Where a terminal stands, as far as a task cares.

use crate::estate::read;
use crate::estate::{Binding, Branch, Relation, Site};
use crate::rule::task::rate::TopologyKey;
use crate::store::{BranchPath, Entity, Query, Record, RosterFilter, Store, StoreError, Tally, TerminalId, Versioned};

/// Where a terminal stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Place {
    /// Its merchant's number.
    pub(super) merchant: Option<String>,
    /// Its site's id.
    pub(super) site: Option<String>,
    /// Its time zone: its site's, else that of its branch or the nearest above that has one.
    pub(super) zone: Option<String>,
}

impl Place {
    pub(super) async fn of(store: &dyn Store, terminal: TerminalId, branch: &BranchPath) -> Result<Self, StoreError> {
        let mut place = Self::default();
        let holds = Query::Marked {
            kind: Binding::KIND,
            mark: "holds".to_owned(),
            prefix: format!("{}/{terminal}/", Relation::Device.name()),
            after: None,
        };
        let logical = bindings(store, &holds).await?.into_iter().next();
        if let Some(logical) = logical {
            place.merchant = bound(store, Relation::Merchant, &logical.subject).await?;
            place.site = bound(store, Relation::Site, &logical.subject).await?;
        }
        if let Some(site) = &place.site {
            place.zone = read::<Site>(store, site).await?.and_then(|site| site.record.zone);
        }
        let mut above = Some(branch.clone()).filter(|_| place.zone.is_none());
        while let Some(path) = above {
            let branch = read::<Branch>(store, path.as_str()).await?;
            place.zone = branch.and_then(|branch| branch.record.zone);
            above = path.parent().filter(|_| place.zone.is_none());
        }
        Ok(place)
    }

    /// What it shares with others by this key.
    pub(super) fn shared(&self, key: TopologyKey) -> Option<String> {
        match key {
            TopologyKey::Merchant => self.merchant.clone(),
            TopologyKey::Site => self.site.clone(),
        }
    }
}

/// How many terminals share it, at least one.
pub(super) async fn members(store: &dyn Store, key: TopologyKey, value: &str) -> Result<u64, StoreError> {
    let tally = match key {
        TopologyKey::Merchant => Tally::Roster {
            filter: RosterFilter {
                merchant: Some(value.to_owned()),
                ..RosterFilter::under(BranchPath::head_office())
            },
            by: Vec::new(),
        },
        TopologyKey::Site => Tally::Marked {
            kind: Binding::KIND,
            mark: "holds".to_owned(),
            prefix: format!("{}/{value}/", Relation::Site.name()),
        },
    };
    let groups = store.tally(&tally, u32::MAX).await?;
    Ok(groups
        .iter()
        .map(|group| group.count)
        .fold(0, u64::saturating_add)
        .max(1))
}

/// What a subject is bound to now.
async fn bound(store: &dyn Store, relation: Relation, subject: &str) -> Result<Option<String>, StoreError> {
    // The newest is the first.
    let query = Query::Documents {
        kind: Binding::KIND,
        prefix: format!("{}/{subject}/", relation.name()),
        after: None,
    };
    let newest = bindings(store, &query).await?.into_iter().next();
    Ok(newest
        .filter(|binding| binding.until.is_none())
        .map(|binding| binding.object))
}

async fn bindings(store: &dyn Store, query: &Query) -> Result<Vec<Binding>, StoreError> {
    let page = store.list(query, 1).await?;
    page.into_iter()
        .filter_map(|Versioned { record, .. }| match record {
            Record::Document(document) => Some(document.read()),
            _ => None,
        })
        .collect()
}
