//! An operator at work: an opened estate, and who acts.

use anyhow::{Context, Result, bail};
use std::path::Path;
use std::sync::Arc;
use tms_core::estate::{Actor, Estate};
use tms_core::store::{
    Assignment, Caller, Holder, InventoryRecord, Key, Package, Query, Record, RosterFilter, Store, Terminal,
    TerminalId, Versioned,
};
use tms_server::directory::Directory;

/// How many records are read at a time.
const PAGE: u32 = 256;

/// An opened estate, and who acts.
pub struct Office {
    /// Where it lies.
    pub directory: Directory,
    /// What operators do.
    pub estate: Estate,
    /// What is recorded.
    pub store: Arc<dyn Store>,
    /// Who acts: it stands in every event.
    pub actor: Actor,
}

impl Office {
    /// Opens the estate in `path` for `actor`.
    ///
    /// # Errors
    /// Where there is no estate, or it cannot be opened.
    pub async fn open(path: &Path, actor: String) -> Result<Self> {
        Self::in_directory(Directory::open(path, None)?, actor).await
    }

    /// Opens the estate in this directory for `actor`.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub async fn in_directory(directory: Directory, actor: String) -> Result<Self> {
        let store = directory.store().await?;
        let estate = directory.estate_on(Arc::clone(&store))?;
        Ok(Self {
            directory,
            estate,
            store,
            actor: Actor::trusted(actor),
        })
    }

    /// Finds a terminal by serial number, by `vendor/model/serial`, or by its id of 16 hexadecimal digits.
    ///
    /// # Errors
    /// Where there is none, or more than one has this serial number.
    pub async fn find(&self, text: &str) -> Result<Terminal> {
        if let [vendor, model, serial] = text.split('/').collect::<Vec<_>>()[..] {
            let holder = Holder {
                vendor: vendor.into(),
                model: model.into(),
                serial: serial.into(),
            };
            let known = self.store.check_in(&Caller::Holder(holder)).await?;
            return known.map(|known| known.terminal.record).ok_or_else(|| unknown(text));
        }
        if let Some(id) = parse_id(text)
            && let Some(known) = self.store.check_in(&Caller::Id(id)).await?
        {
            return Ok(known.terminal.record);
        }
        let mut found: Vec<Terminal> = Vec::new();
        let mut pages = self.terminals();
        while let Some(page) = pages.next().await? {
            found.extend(page.into_iter().filter(|terminal| terminal.holder.serial == text));
        }
        match found.as_slice() {
            [] => Err(unknown(text)),
            [_] => found.pop().context("one was found"),
            several => {
                let names: Vec<String> = several.iter().map(|terminal| terminal.holder.to_string()).collect();
                bail!(
                    "several terminals have the serial number {text}: say which, {}",
                    names.join(" or ")
                )
            }
        }
    }

    /// All terminals, in pages.
    #[must_use]
    pub fn terminals(&self) -> Terminals<'_> {
        Terminals {
            store: &*self.store,
            after: None,
            over: false,
        }
    }

    /// Enters into the roster what happened, opens cases and judges drift, so that lists and reports are as of now.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn catch_up(&self) -> Result<()> {
        while self.estate.roll_up(u32::MAX).await?.events > 0 {}
        while self.estate.advance_cases(u32::MAX).await?.events > 0 {}
        while self.estate.judge_drift(u32::MAX).await?.events > 0 {}
        Ok(())
    }

    /// A page of the terminals that the roster has of this filter; `next` is where it begins, and then where the next one does.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn listed(&self, filter: &RosterFilter, next: &mut Option<String>) -> Result<Vec<Terminal>> {
        let reports = self.estate.reports(&self.actor);
        let page = reports.terminals(filter, next.as_deref(), PAGE).await?;
        *next = page.next;
        let mut terminals = Vec::with_capacity(page.rows.len());
        for row in page.rows {
            if let Some(id) = parse_id(&row.terminal) {
                terminals.extend(self.terminal(id).await?);
            }
        }
        Ok(terminals)
    }

    /// Publishes the package in this file.
    ///
    /// # Errors
    /// Where it cannot be read, or is refused.
    pub async fn publish(&self, path: &Path) -> Result<Package> {
        let mut file = tokio::fs::File::open(path)
            .await
            .with_context(|| format!("cannot read {}", path.display()))?;
        let published = self.estate.publish(&self.actor, &mut file).await?;
        self.find_package(&published.manifest.to_string()).await
    }

    /// All packages.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn packages(&self) -> Result<Vec<Package>> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = self.store.list(&Query::Packages(after), PAGE).await?;
            let full = page.len() == usize::try_from(PAGE)?;
            for Versioned { record, .. } in page {
                if let Record::Package(package) = record {
                    after = Some(package.package.manifest);
                    all.push(*package);
                }
            }
            if !full {
                return Ok(all);
            }
        }
    }

    /// Finds a package by `component@version` or by the beginning of its manifest's digest.
    ///
    /// # Errors
    /// Where there is none or more than one.
    pub async fn find_package(&self, text: &str) -> Result<Package> {
        let matches = |package: &Package| match text.split_once('@') {
            Some((component, version)) => package.package.component == component && package.package.version == version,
            None => package.package.manifest.to_string().starts_with(&text.to_lowercase()),
        };
        let mut found = self.packages().await?;
        found.retain(matches);
        match found.as_slice() {
            [] => bail!("no package {text} is published: `tms packages` lists them, `tms publish FILE` adds one"),
            [_] => found.pop().context("one was found"),
            several => {
                let names: Vec<String> = several
                    .iter()
                    .map(|package| package.package.manifest.short().to_string())
                    .collect();
                bail!(
                    "several packages are {text}: say which by its digest, {}",
                    names.join(" or ")
                )
            }
        }
    }

    /// The assignments of a terminal, open and closed, by ascending action.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn assignments(&self, terminal: TerminalId) -> Result<Vec<Assignment>> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = self.store.list(&Query::Assignments(terminal, after), PAGE).await?;
            let full = page.len() == usize::try_from(PAGE)?;
            for Versioned { record, .. } in page {
                if let Record::Assignment(assignment) = record {
                    after = Some(assignment.action);
                    all.push(*assignment);
                }
            }
            if !full {
                return Ok(all);
            }
        }
    }

    /// The inventory that a terminal reported last.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn inventory(&self, terminal: TerminalId) -> Result<Option<InventoryRecord>> {
        let found = self.store.get(&Key::Inventory(terminal)).await?;
        Ok(found.and_then(|found| match found.record {
            Record::Inventory(inventory) => Some(*inventory),
            _ => None,
        }))
    }

    /// The terminal with this id.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn terminal(&self, id: TerminalId) -> Result<Option<Terminal>> {
        let found = self.store.get(&Key::Terminal(id)).await?;
        Ok(found.and_then(|found| match found.record {
            Record::Terminal(terminal) => Some(*terminal),
            _ => None,
        }))
    }
}

/// Terminals, page by page.
pub struct Terminals<'a> {
    store: &'a dyn Store,
    after: Option<TerminalId>,
    over: bool,
}

impl Terminals<'_> {
    /// The next page; none at the end.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn next(&mut self) -> Result<Option<Vec<Terminal>>> {
        if self.over {
            return Ok(None);
        }
        let page = self.store.list(&Query::Terminals(self.after), PAGE).await?;
        self.over = page.len() < usize::try_from(PAGE)?;
        let terminals: Vec<Terminal> = page
            .into_iter()
            .filter_map(|found| match found.record {
                Record::Terminal(terminal) => Some(*terminal),
                _ => None,
            })
            .collect();
        self.after = terminals.last().map(|terminal| terminal.id).or(self.after);
        Ok(Some(terminals))
    }
}

fn parse_id(text: &str) -> Option<TerminalId> {
    let digits = text.len() == 16 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    digits
        .then(|| u64::from_str_radix(text, 16).ok().map(TerminalId))
        .flatten()
}

fn unknown(text: &str) -> anyhow::Error {
    crate::refused(format!(
        "no terminal {text} is enrolled: `tms terminals` lists them, `tms enrol` adds one"
    ))
}
