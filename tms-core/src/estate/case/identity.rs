//! What must be one terminal's own: its serial number in its one form, and its key. Kept apart, so that two with the same are found
//! by an index.

use crate::estate::rollup::put;
use crate::estate::{Estate, list, read};
use crate::rule::name::Aliases;
use crate::rule::relocation::{CaseData, Evidence, Identity, Policy, duplicates};
use crate::store::{Change, Entity, Holder, Key, KeyId, Kind, Query, Record, StoreError, TerminalId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use tms_proto::digest::Digest;

/// How many others are looked at.
const MAX_OTHERS: u32 = 16;

/// The identity of a terminal, as it was when it was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    terminal: TerminalId,
    holder: Holder,
    key: Option<KeyId>,
}

impl Entity for Kept {
    const KIND: Kind = Kind::named("identity");

    fn id(&self) -> String {
        self.terminal.to_string()
    }

    fn marks(&self) -> Vec<(&'static str, String)> {
        // a name may be longer than a mark
        let holder = Digest::of(self.holder.to_string().as_bytes());
        let mut marks = vec![("holder", holder.to_string())];
        marks.extend(self.key.map(|key| ("key", key.0.to_string())));
        marks
    }
}

/// What a batch of events has looked at.
#[derive(Default)]
pub(super) struct Identities {
    seen: BTreeMap<TerminalId, Kept>,
    pub(super) changes: Vec<Change>,
}

impl Estate {
    /// Looks at a terminal's identity; gives the cases that it makes with others, each with the terminals that it is about.
    pub(super) async fn identified(
        &self,
        id: TerminalId,
        identities: &mut Identities,
        now: u64,
        policy: &Policy,
    ) -> Result<Vec<(CaseData, BTreeSet<TerminalId>)>, StoreError> {
        if identities.seen.contains_key(&id) {
            return Ok(Vec::new());
        }
        let Some(Record::Terminal(terminal)) = self.store.get(&Key::Terminal(id)).await?.map(|found| found.record)
        else {
            return Ok(Vec::new());
        };
        let Holder { vendor, model, serial } = &terminal.holder;
        let holder = Aliases::known().holder(vendor, model, serial);
        let kept = Kept {
            terminal: id,
            holder: holder.unwrap_or_else(|_| terminal.holder.clone()),
            key: terminal.key,
        };
        let known = read::<Kept>(&*self.store, &id.to_string()).await?;
        if known.as_ref().is_some_and(|known| known.record == kept) {
            return Ok(Vec::new());
        }
        identities.changes.push(put(known.map(|known| known.version), &kept)?);
        let mut others: BTreeMap<TerminalId, Kept> = BTreeMap::new();
        for (mark, prefix) in kept.marks() {
            let query = Query::Marked {
                kind: Kept::KIND,
                mark: mark.to_owned(),
                prefix,
                after: None,
            };
            for found in list::<Kept>(&*self.store, &query, MAX_OTHERS).await? {
                let other = found.record;
                // one that was removed has left its number to others
                if self.store.get(&Key::Terminal(other.terminal)).await?.is_some() {
                    others.insert(other.terminal, other);
                }
            }
        }
        // those of this batch are not written yet
        let same = |other: &&Kept| other.holder == kept.holder || (other.key.is_some() && other.key == kept.key);
        let seen = identities.seen.values().filter(same);
        others.extend(seen.map(|kept| (kept.terminal, kept.clone())));
        others.insert(id, kept.clone());
        identities.seen.insert(id, kept);
        let all = others.into_values().map(|kept| Identity {
            terminal: kept.terminal,
            holder: kept.holder,
            key: kept.key,
        });
        let cases = duplicates(all, now, policy).into_iter();
        let about = cases.map(|case| {
            let terminals = about(&case);
            (case, terminals)
        });
        Ok(about.filter(|(_, terminals)| terminals.contains(&id)).collect())
    }
}

/// The key under which a terminal's identity is kept.
pub(super) fn key_of(id: TerminalId) -> Key {
    Key::Document(Kept::KIND, id.to_string())
}

fn about(case: &CaseData) -> BTreeSet<TerminalId> {
    let mut all = BTreeSet::new();
    for weighed in &case.evidence {
        match &weighed.evidence {
            Evidence::SameSerial { terminals, .. } | Evidence::SameKey { terminals, .. } => all.extend(terminals),
            _ => {}
        }
    }
    all
}
