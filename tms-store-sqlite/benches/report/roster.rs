//! The roster that is measured, and what the roll-up would have made of its check-ins.

use crate::TODAY;
use anyhow::Result;
use tms_core::estate::{Daily, Expiring, Expiry};
use tms_core::store::{
    BranchPath, Change, Day, Document, Expect, RosterEntry, Store, StoreError, TerminalId, TerminalState,
};
use tms_core::testing::sample;
use tms_core::testing::seed::Seed;
use tms_store_sqlite::SqliteStore;

/// Terminals that have records of their own, not only a line in the roster: those that check in, and those in a list of assets.
const WHOLE: u64 = 100_000;

/// How many changes are in a commit while the database is filled.
const PORTION: usize = 5_000;

/// The terminals that check in.
pub(crate) fn terminals(count: u64) -> Vec<TerminalId> {
    whole(count).iter().map(|entry| entry.terminal).collect()
}

/// The lines of those that have records of their own, by the seed that made them.
pub(crate) fn whole(count: u64) -> Vec<RosterEntry> {
    let mut seed = Seed::new(1);
    (0..count.min(WHOLE)).map(|_| entry(&mut seed)).collect()
}

/// All lines, by id.
pub(crate) fn all(count: u64) -> Vec<RosterEntry> {
    let mut seed = Seed::new(1);
    let mut entries: Vec<_> = (0..count).map(|_| entry(&mut seed)).collect();
    entries.sort_by_key(|entry| entry.terminal);
    entries
}

/// Commits changes, some at a time.
pub(crate) async fn fill(store: &SqliteStore, changes: impl IntoIterator<Item = Change>) -> Result<(), StoreError> {
    let mut portion = Vec::with_capacity(PORTION);
    for change in changes {
        portion.push(change);
        if portion.len() == PORTION {
            store.commit(std::mem::take(&mut portion)).await?;
        }
    }
    store.commit(portion).await
}

/// Fills the roster: all terminals, what of each ends first, the records of some, and a year of days for head office, a region and
/// a branch.
pub(crate) async fn load(store: &SqliteStore, entries: &[RosterEntry]) -> Result<()> {
    let lines = entries.iter().cloned();
    fill(store, lines.map(|entry| Change::Put(Expect::Absent, entry.into()))).await?;
    let ends = entries.iter().map(|entry| Expiry {
        terminal: entry.terminal,
        branch: entry.branch.clone(),
        last: TODAY + entry.terminal.0 as Day % 3_650,
        what: Expiring::Certificate,
    });
    let ends = ends
        .map(|expiry| Document::of(&expiry))
        .collect::<Result<Vec<_>, _>>()?;
    fill(
        store,
        ends.into_iter().map(|end| Change::Put(Expect::Absent, end.into())),
    )
    .await?;
    let records = whole(entries.len() as u64).into_iter().map(|entry| {
        let mut terminal = sample::terminal(entry.terminal.0);
        (terminal.holder.vendor, terminal.holder.model) = (entry.vendor, entry.model);
        terminal.holder.serial = entry.serial;
        Change::Put(Expect::Absent, terminal.into())
    });
    fill(store, records).await?;
    let mut days = Vec::new();
    for branch in ["/", "/r3", "/r3/b03"] {
        for day in TODAY - 399..=TODAY {
            let mut daily = Daily::of(branch.parse()?, day);
            daily.check_ins = 1_000;
            for stage in 0..8 {
                let codes = (0..20).map(|code| (format!("CODE_{code}"), 3)).collect();
                daily.results.insert(format!("stage-{stage}"), codes);
            }
            days.push(Change::Put(Expect::Absent, Document::of(&daily)?.into()));
        }
    }
    Ok(fill(store, days).await?)
}

/// Ten regions, of eleven branches each, of nine below each: 1,100 with those between, and head office.
fn branch(seed: &mut Seed) -> BranchPath {
    let (region, branch, below) = (seed.below(10), seed.below(11), seed.below(9));
    let path = match seed.below(100) {
        0 => "/".to_owned(),
        1 => format!("/r{region}"),
        2..5 => format!("/r{region}/b{branch:02}"),
        _ => format!("/r{region}/b{branch:02}/o{below}"),
    };
    path.parse().unwrap_or_else(|_| BranchPath::head_office())
}

/// A number below `bound`, the low ones far oftener.
fn skewed(seed: &mut Seed, bound: u64) -> u64 {
    let wide = seed.below(bound) + 1;
    seed.below(wide)
}

fn entry(seed: &mut Seed) -> RosterEntry {
    let id = seed.next();
    let model = skewed(seed, 12);
    let state = match seed.below(100) {
        0..3 => TerminalState::Enrolled,
        3..5 => TerminalState::Deactivated,
        5 => TerminalState::Blacklisted,
        _ => TerminalState::Active,
    };
    let seen = match (state, seed.below(100)) {
        (TerminalState::Enrolled, _) => None,
        (_, 0..70) => Some(TODAY),
        (_, 70..90) => Some(TODAY - skewed(seed, 30) as Day),
        _ => Some(TODAY - skewed(seed, 700) as Day),
    };
    RosterEntry {
        terminal: TerminalId(id),
        branch: branch(seed),
        vendor: ["PAX", "Verifone", "Nexgo", "Ingenico"][model as usize % 4].to_owned(),
        model: format!("M{model:02}"),
        serial: format!("{:010}", id % 10_000_000_000),
        merchant: Some(format!("{:015}", 100_000_000_000_000 + skewed(seed, 5_000))),
        version: (state != TerminalState::Enrolled).then(|| format!("3.{}", skewed(seed, 30))),
        state,
        seen,
    }
}
