//! Packages that were withdrawn: what is queued of them is not offered any more.

use crate::estate::Withdrawn;
use crate::store::{Assignment, Entity, Query, Record, Store, StoreError};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use tms_proto::code::Stage;
use tms_proto::digest::Digest;

/// Seconds after which they are read again.
const REFRESH: u64 = 5;

/// The most that are kept in mind.
const MOST: u32 = 10_000;

/// The packages that are withdrawn, as of some seconds ago.
#[derive(Default)]
pub(super) struct WithdrawnPackages {
    known: Mutex<Known>,
    reading: tokio::sync::Mutex<()>,
}

#[derive(Default, Clone)]
struct Known {
    read: Option<u64>,
    manifests: Arc<BTreeSet<Digest>>,
}

impl WithdrawnPackages {
    /// Those that are withdrawn. Where they cannot be read, those that were.
    pub(super) async fn at(&self, store: &dyn Store, now: u64) -> Arc<BTreeSet<Digest>> {
        let fresh = |known: &Known| known.read.is_some_and(|read| read <= now && now - read < REFRESH);
        let known = self.known();
        if fresh(&known) {
            return known.manifests;
        }
        let _one = if known.read.is_none() {
            self.reading.lock().await
        } else {
            match self.reading.try_lock() {
                Ok(one) => one,
                Err(_) => return known.manifests,
            }
        };
        let known = self.known();
        if fresh(&known) {
            return known.manifests;
        }
        match read(store).await {
            Ok(manifests) => {
                let manifests = Arc::new(manifests);
                let known = Known {
                    read: Some(now),
                    manifests: Arc::clone(&manifests),
                };
                *self.known.lock().unwrap_or_else(PoisonError::into_inner) = known;
                manifests
            }
            Err(error) => {
                tracing::warn!(%error, "withdrawn packages cannot be read");
                known.manifests
            }
        }
    }

    fn known(&self) -> Known {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Whether it is held back. What a terminal has downloaded it may install: nobody knows whether it has begun to.
pub(super) fn is_held_back(assignment: &Assignment, withdrawn: &BTreeSet<Digest>) -> bool {
    let early = matches!(assignment.stage, Stage::Accepted | Stage::Downloading);
    let package = assignment.order.package();
    early && package.is_some_and(|package| withdrawn.contains(&package.manifest))
}

async fn read(store: &dyn Store) -> Result<BTreeSet<Digest>, StoreError> {
    let query = Query::Documents {
        kind: Withdrawn::KIND,
        prefix: String::new(),
        after: None,
    };
    let mut manifests = BTreeSet::new();
    for found in store.list(&query, MOST).await? {
        if let Record::Document(document) = found.record {
            manifests.insert(document.read::<Withdrawn>()?.manifest);
        }
    }
    Ok(manifests)
}
