//! Stores that each break their contract in one way, and the proof that the suite catches every one.

use super::store::{Fixture, Violation, clauses};
use crate::store::{
    BranchPath, Caller, Change, CheckIn, CredentialId, Event, Expect, Group, Key, MemoryStore, Query, Record,
    RosterFilter, Seen, Sequence, Store, StoreError, Tally, TerminalId, Versioned, distinct,
};
use async_trait::async_trait;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

/// What is wrong with a store. Most of these are mistakes that a real backend would make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Defect {
    /// Nothing: the harness itself is right.
    None,
    /// Writes change by change, and stops where one fails.
    NotAtomic,
    /// Appends the events of a commit that fails.
    LogsFailures,
    /// Says that a commit is durable before its last one is.
    LosesLastCommit,
    /// Keeps events in memory only.
    LosesEvents,
    /// Caches records without hearing of commits through other handles.
    StaleRecords,
    /// The same for check-ins.
    StaleCheckIns,
    /// Shows an event only when the next has come.
    LateEvents,
    /// Reads a terminal, and then its assignments.
    TornCheckIn,
    /// Reads a page in two halves.
    TornPage,
    /// Counts versions from zero.
    VersionsFromZero,
    /// Counts on where a record was removed.
    VersionsSurviveRemoval,
    /// Writes whatever is expected.
    ForgetsExpectations,
    /// Takes a removal of what is not there for a conflict.
    RemovalNeedsRecord,
    /// Says "try again" where it must say "read again".
    ConflictIsTransient,
    /// Checks, and then writes.
    TwoWinners,
    /// Does not know holders.
    ManyWithOneHolder,
    /// Compares holders as a careless collation does.
    HolderIgnoresCase,
    /// Checks holders change by change, as an index does, and not what the commit would leave.
    HoldersInOrder,
    /// Compares ids as signed numbers.
    SignedOrder,
    /// Begins a page with the key that it is after.
    PageIncludesStart,
    /// Gives fewer records than there are room for.
    ShortPages,
    /// Orders the events of one commit as it likes.
    EventsReversed,
    /// Begins with the event that the page is after.
    EventsIncludeStart,
    /// Gives numbers out before it commits.
    EventsAppearBehind,
    /// Stops half way when it is dropped.
    HalfWhenDropped,
    /// Tells what it could not do, in full.
    TalksInErrors,
    /// Takes the last of two changes of a record.
    TakesTheLast,
    /// Gives closed assignments to a check-in.
    ClosedAssignments,
    /// Gives the newest assignment first.
    AssignmentsDescend,
    /// Finds terminals by credentials that they had once.
    OldCredentials,
    /// Has columns that are too short.
    CutsText,
    /// Removes what belongs to a terminal with it.
    Cascades,
    /// Finds documents by marks that they had once.
    OldMarks,
    /// Takes a prefix for a pattern.
    PrefixIsPattern,
    /// Takes branches whose name only begins so for branches below.
    BranchByName,
    /// Takes a terminal that never called for one that called long ago.
    NeverIsLongAgo,
    /// Counts fewer than there are.
    TallyIsCut,
    /// Does not know how to forget events.
    ForgetsNothing,
    /// Forgets one event more than it is told.
    ForgetsTooMuch,
}

use Defect::*;

/// Every defect, and the clause that must catch it.
const DEFECTS: &[(Defect, &str)] = &[
    (NotAtomic, "a_commit_is_atomic"),
    (LogsFailures, "a_commit_is_atomic"),
    (LosesLastCommit, "commits_are_durable"),
    (LosesEvents, "commits_are_durable"),
    (StaleRecords, "reads_see_every_commit_that_has_returned"),
    (StaleCheckIns, "reads_see_every_commit_that_has_returned"),
    (LateEvents, "reads_see_every_commit_that_has_returned"),
    (TornCheckIn, "a_read_is_of_one_moment"),
    (TornPage, "a_read_is_of_one_moment"),
    (VersionsFromZero, "versions_count_puts"),
    (VersionsSurviveRemoval, "versions_count_puts"),
    (ForgetsExpectations, "expectations_are_checked"),
    (RemovalNeedsRecord, "expectations_are_checked"),
    (ConflictIsTransient, "expectations_are_checked"),
    (TwoWinners, "one_of_racing_commits_wins"),
    (ManyWithOneHolder, "no_two_terminals_have_one_holder"),
    (HolderIgnoresCase, "no_two_terminals_have_one_holder"),
    (HoldersInOrder, "no_two_terminals_have_one_holder"),
    (SignedOrder, "pages_are_in_order"),
    (PageIncludesStart, "pages_are_in_order"),
    (ShortPages, "pages_are_in_order"),
    (EventsReversed, "events_are_in_order"),
    (EventsIncludeStart, "events_are_in_order"),
    (EventsAppearBehind, "events_never_appear_behind_a_reader"),
    (HalfWhenDropped, "a_dropped_commit_leaves_all_or_nothing"),
    (TalksInErrors, "errors_hold_no_content"),
    (TakesTheLast, "a_record_named_twice_is_refused"),
    (ClosedAssignments, "a_check_in_finds_its_terminal_and_what_is_open"),
    (AssignmentsDescend, "a_check_in_finds_its_terminal_and_what_is_open"),
    (OldCredentials, "a_check_in_finds_its_terminal_and_what_is_open"),
    (CutsText, "records_come_back_whole"),
    (Cascades, "any_run_of_commits_is_as_in_memory"),
    (OldMarks, "documents_are_found_by_their_marks"),
    (PrefixIsPattern, "documents_are_found_by_their_marks"),
    (BranchByName, "the_roster_is_listed_and_counted"),
    (NeverIsLongAgo, "the_roster_is_listed_and_counted"),
    (TallyIsCut, "the_roster_is_listed_and_counted"),
    (ForgetsNothing, "forgotten_events_are_gone_and_the_newest_stays"),
    (ForgetsTooMuch, "forgotten_events_are_gone_and_the_newest_stays"),
];

#[test]
fn the_suite_catches_every_broken_store() {
    let mut missed = Vec::new();
    for (defect, clause) in DEFECTS {
        match prove(*defect, clause) {
            Ok(()) => missed.push(format!("{defect:?} passes {clause}")),
            Err(violation) => println!("{defect:?}: {violation:.200}"),
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}

#[test]
fn every_clause_catches_a_broken_store() {
    for clause in clauses::<BrokenFixture>() {
        assert!(
            DEFECTS.iter().any(|(_, by)| *by == clause.name()),
            "{} catches nothing",
            clause.name()
        );
    }
}

#[test]
fn the_harness_itself_is_right() {
    for clause in clauses::<BrokenFixture>() {
        if let Err(violation) = prove(None, clause.name()) {
            panic!("{}: {violation}", clause.name());
        }
    }
}

fn prove(defect: Defect, name: &str) -> Result<(), Violation> {
    let clause = clauses().into_iter().find(|clause| clause.name() == name).expect(name);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(clause.prove(&BrokenFixture(defect)))
}

struct BrokenFixture(Defect);

/// The memory store behind all handles, and what the defects remember.
struct Home {
    defect: Defect,
    disk: Mutex<Disk>,
    all: Arc<Shared>,
}

#[derive(Default)]
struct Disk {
    memory: MemoryStore,
    /// Lives as long as one handle does.
    open: Weak<()>,
}

#[derive(Default)]
struct Shared {
    /// Every commit that succeeded.
    log: Mutex<Vec<Vec<Change>>>,
    /// Versions that removed records had, added up.
    lives: Mutex<HashMap<Key, u64>>,
    /// Terminals by every credential that they ever had.
    credentials: Mutex<HashMap<CredentialId, TerminalId>>,
    /// A mark that a document has lost, and the document.
    moved: Mutex<Option<(String, String)>>,
    /// Events with numbers of their own, and the next number.
    events: Mutex<(BTreeMap<Sequence, Event>, Sequence)>,
}

struct BrokenStore {
    defect: Defect,
    inner: MemoryStore,
    all: Arc<Shared>,
    records: Mutex<HashMap<Key, Option<Versioned<Record>>>>,
    check_ins: Mutex<HashMap<String, Option<CheckIn>>>,
    _open: Arc<()>,
}

#[async_trait]
impl Fixture for BrokenFixture {
    type Home = Home;

    async fn home(&self) -> Home {
        Home {
            defect: self.0,
            disk: Mutex::default(),
            all: Arc::default(),
        }
    }

    async fn open(&self, home: &Home) -> Arc<dyn Store> {
        let lost = matches!(home.defect, LosesLastCommit | LosesEvents);
        let closed = home.disk.lock().unwrap().open.upgrade().is_none();
        if lost && closed {
            let mut kept = home.all.log.lock().unwrap().clone();
            if home.defect == LosesLastCommit {
                kept.pop();
            } else {
                kept.iter_mut()
                    .for_each(|changes| changes.retain(|change| change.key().is_some()));
            }
            let memory = replay(kept).await;
            home.disk.lock().unwrap().memory = memory;
        }
        let mut disk = home.disk.lock().unwrap();
        let open = disk.open.upgrade().unwrap_or_default();
        disk.open = Arc::downgrade(&open);
        Arc::new(BrokenStore {
            defect: home.defect,
            inner: disk.memory.clone(),
            all: Arc::clone(&home.all),
            records: Mutex::default(),
            check_ins: Mutex::default(),
            _open: open,
        })
    }
}

#[async_trait]
impl Store for BrokenStore {
    async fn check_in(&self, caller: &Caller) -> Result<Option<CheckIn>, StoreError> {
        let name = format!("{caller:?}");
        if self.defect == StaleCheckIns
            && let Some(known) = self.check_ins.lock().unwrap().get(&name)
        {
            return Ok(known.clone());
        }
        let mut found = match caller {
            Caller::Holder(holder) if self.defect == ManyWithOneHolder => {
                let terminals = self.list(&Query::Terminals(Option::None), u32::MAX).await?;
                let id = terminals.into_iter().find_map(|found| match found.record {
                    Record::Terminal(terminal) if terminal.holder == *holder => Some(terminal.id),
                    _ => Option::None,
                });
                match id {
                    Some(id) => self.inner.check_in(&Caller::Id(id)).await?,
                    Option::None => Option::None,
                }
            }
            _ => self.inner.check_in(caller).await?,
        };
        if let (OldCredentials, Caller::Credential(credential), Option::None) = (self.defect, caller, &found) {
            let id = self.all.credentials.lock().unwrap().get(credential).copied();
            if let Some(id) = id {
                found = self.inner.check_in(&Caller::Id(id)).await?;
            }
        }
        if let Some(found) = &mut found {
            let id = found.terminal.record.id;
            self.spoil_version(&Key::Terminal(id), &mut found.terminal.version);
            unmask(&mut found.terminal.record.holder.serial);
            if matches!(self.defect, TornCheckIn | ClosedAssignments) {
                tokio::time::sleep(Duration::from_micros(100)).await;
                found.assignments.clear();
                for other in self.inner.list(&Query::Assignments(id, Option::None), u32::MAX).await? {
                    if let Record::Assignment(assignment) = other.record
                        && (self.defect == ClosedAssignments || !assignment.closed)
                    {
                        found.assignments.push(Versioned {
                            version: other.version,
                            record: *assignment,
                        });
                    }
                }
            }
            if self.defect == AssignmentsDescend {
                found.assignments.reverse();
            }
            for open in &mut found.assignments {
                self.spoil_version(&Key::Assignment(id, open.record.action), &mut open.version);
            }
        }
        self.check_ins.lock().unwrap().insert(name, found.clone());
        Ok(found)
    }

    async fn get(&self, key: &Key) -> Result<Option<Versioned<Record>>, StoreError> {
        if self.defect == StaleRecords
            && let Some(known) = self.records.lock().unwrap().get(key)
        {
            return Ok(known.clone());
        }
        let found = self.inner.get(key).await?.map(|found| self.spoil(found));
        self.records.lock().unwrap().insert(key.clone(), found.clone());
        Ok(found)
    }

    async fn list(&self, query: &Query, limit: u32) -> Result<Vec<Versioned<Record>>, StoreError> {
        let limit = if self.defect == ShortPages { limit.min(7) } else { limit };
        let mut page = self.inner.list(query, limit).await?;
        match (self.defect, query) {
            (SignedOrder, Query::Terminals(after)) => {
                let number = |record: &Record| match record {
                    Record::Terminal(terminal) => terminal.id.0 as i64,
                    _ => 0,
                };
                page = self.inner.list(&Query::Terminals(Option::None), u32::MAX).await?;
                page.retain(|found| after.is_none_or(|after| (after.0 as i64) < number(&found.record)));
                page.sort_by_key(|found| number(&found.record));
                page.truncate(limit as usize);
            }
            (PageIncludesStart, Query::Terminals(Some(after))) => {
                page.splice(0..0, self.inner.get(&Key::Terminal(*after)).await?);
                page.truncate(limit as usize);
            }
            (TornPage, Query::Assignments(..)) => {
                tokio::time::sleep(Duration::from_micros(100)).await;
                let again = self.inner.list(query, limit).await?;
                page.truncate(1);
                page.extend(again.into_iter().skip(1));
            }
            (
                PrefixIsPattern,
                Query::Marked {
                    kind,
                    mark,
                    prefix,
                    after,
                },
            ) if prefix.contains('%') => {
                let query = Query::Marked {
                    kind: kind.clone(),
                    mark: mark.clone(),
                    prefix: prefix.replace('%', ""),
                    after: after.clone(),
                };
                page = self.inner.list(&query, limit).await?;
            }
            (OldMarks, Query::Marked { kind, mark, after, .. }) if page.is_empty() && after.is_none() => {
                let moved = self.all.moved.lock().unwrap().clone();
                if let Some((found, id)) = moved
                    && found == *mark
                {
                    page.extend(self.inner.get(&Key::Document(kind.clone(), id)).await?);
                }
            }
            (BranchByName, Query::Roster { filter, after }) => {
                let all = RosterFilter {
                    under: BranchPath::head_office(),
                    ..filter.clone()
                };
                let query = Query::Roster {
                    filter: all,
                    after: after.clone(),
                };
                page = self.inner.list(&query, u32::MAX).await?;
                let begin = filter.under.as_str().trim_end_matches('/');
                page.retain(
                    |found| matches!(&found.record, Record::Roster(entry) if entry.branch.as_str().starts_with(begin)),
                );
                page.truncate(limit as usize);
            }
            (NeverIsLongAgo, Query::Roster { filter, after })
                if matches!(filter.seen, Some(Seen::Before(_))) && after.is_none() =>
            {
                let never = RosterFilter {
                    seen: Some(Seen::Never),
                    ..filter.clone()
                };
                let query = Query::Roster {
                    filter: never,
                    after: Option::None,
                };
                page.splice(0..0, self.inner.list(&query, limit).await?);
                page.truncate(limit as usize);
            }
            _ => {}
        }
        Ok(page.into_iter().map(|found| self.spoil(found)).collect())
    }

    async fn tally(&self, tally: &Tally, limit: u32) -> Result<Vec<Group>, StoreError> {
        let mut groups = self.inner.tally(tally, limit).await?;
        if self.defect == TallyIsCut {
            groups.iter_mut().for_each(|group| group.count = group.count.min(15));
        }
        Ok(groups)
    }

    async fn events(&self, after: Sequence, limit: u32) -> Result<Vec<(Sequence, Event)>, StoreError> {
        match self.defect {
            EventsIncludeStart => self.inner.events(after.saturating_sub(1), limit).await,
            EventsAppearBehind => {
                let events = self.all.events.lock().unwrap();
                let page = events
                    .0
                    .iter()
                    .filter(|(sequence, _)| after < **sequence)
                    .take(limit as usize);
                Ok(page.map(|(sequence, event)| (*sequence, event.clone())).collect())
            }
            LateEvents => {
                let all = self.inner.events(0, u32::MAX).await?;
                let shown = all.len().saturating_sub(1);
                let page = all.into_iter().take(shown).filter(|(sequence, _)| after < *sequence);
                Ok(page.take(limit as usize).collect())
            }
            _ => self.inner.events(after, limit).await,
        }
    }

    async fn commit(&self, mut changes: Vec<Change>) -> Result<(), StoreError> {
        self.records.lock().unwrap().clear();
        self.check_ins.lock().unwrap().clear();
        if self.defect == TakesTheLast {
            let mut last = Vec::new();
            for change in changes.drain(..).rev() {
                if change.key().is_none() || last.iter().all(|other: &Change| other.key() != change.key()) {
                    last.insert(0, change);
                }
            }
            changes = last;
        }
        if self.defect == TalksInErrors && distinct(&changes).is_err() {
            return Err(StoreError::Backend(format!("cannot write {changes:?}")));
        }
        distinct(&changes)?;
        self.prepare(&mut changes).await?;
        let outcome = self.write(changes.clone()).await;
        match outcome {
            Ok(()) => self.remember(&changes),
            Err(StoreError::Conflict) if self.defect == ConflictIsTransient => {
                return Err(StoreError::Unavailable("busy".to_owned()));
            }
            Err(StoreError::Conflict) if self.defect == LogsFailures => {
                changes.retain(|change| change.key().is_none());
                self.inner.commit(changes).await?;
            }
            Err(_) => {}
        }
        outcome
    }
}

impl BrokenStore {
    /// What a defect does to the changes before they are written.
    async fn prepare(&self, changes: &mut Vec<Change>) -> Result<(), StoreError> {
        let mut more = Vec::new();
        for change in &mut *changes {
            match (self.defect, change) {
                (ForgetsExpectations, Change::Put(expect, _) | Change::Remove(expect, _)) => *expect = Expect::Any,
                (
                    VersionsFromZero,
                    Change::Put(Expect::Version(version), _) | Change::Remove(Expect::Version(version), _),
                ) => {
                    *version = version.saturating_add(1);
                }
                (VersionsSurviveRemoval, Change::Put(Expect::Version(version), record)) => {
                    *version = version.saturating_sub(self.earlier(&record.key()));
                }
                (VersionsSurviveRemoval, Change::Remove(Expect::Version(version), key)) => {
                    *version = version.saturating_sub(self.earlier(key));
                }
                (RemovalNeedsRecord, Change::Remove(Expect::Any, key)) if self.inner.get(key).await?.is_none() => {
                    return Err(StoreError::Conflict);
                }
                (ManyWithOneHolder, Change::Put(_, Record::Terminal(terminal))) => {
                    terminal.holder.serial = format!("{}{MASK}{}", terminal.holder.serial, terminal.id);
                }
                (HolderIgnoresCase, Change::Put(_, Record::Terminal(terminal))) => {
                    let folded = terminal.holder.to_string().to_lowercase();
                    for other in self.inner.list(&Query::Terminals(Option::None), u32::MAX).await? {
                        if let Record::Terminal(other) = other.record
                            && other.id != terminal.id
                            && other.holder.to_string().to_lowercase() == folded
                        {
                            return Err(StoreError::Conflict);
                        }
                    }
                }
                (CutsText, Change::Put(_, Record::Assignment(assignment))) => {
                    if let Some(text) = &mut assignment.text {
                        *text = text.chars().take(255).collect();
                    }
                }
                (OldMarks, Change::Put(_, Record::Document(document))) => {
                    let key = Key::Document(document.kind.clone(), document.id.clone());
                    let before = self.inner.get(&key).await?.map(|found| found.record);
                    if let Some(Record::Document(before)) = before {
                        let lost = before.marks.into_keys().find(|name| !document.marks.contains_key(name));
                        if let Some(lost) = lost {
                            *self.all.moved.lock().unwrap() = Some((lost, document.id.clone()));
                        }
                    }
                }
                (Cascades, Change::Remove(_, Key::Terminal(id))) => {
                    more.push(Change::Remove(Expect::Any, Key::Inventory(*id)));
                    for owned in self
                        .inner
                        .list(&Query::Assignments(*id, Option::None), u32::MAX)
                        .await?
                    {
                        more.push(Change::Remove(Expect::Any, owned.record.key()));
                    }
                }
                _ => {}
            }
        }
        more.retain(|more| changes.iter().all(|change| change.key() != more.key()));
        changes.extend(more);
        if self.defect == EventsReversed {
            changes.reverse();
        }
        Ok(())
    }

    async fn write(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        match self.defect {
            NotAtomic => {
                for change in changes {
                    self.inner.commit(vec![change]).await?;
                }
                Ok(())
            }
            TwoWinners => {
                let mut blind = Vec::new();
                for change in changes {
                    let expect = match &change {
                        Change::Put(expect, _) | Change::Remove(expect, _) => *expect,
                        Change::Append(_) | Change::Forget(_) => Expect::Any,
                    };
                    if let Some(key) = change.key() {
                        let there = self.inner.get(&key).await?;
                        if !expect.holds(there.map(|there| there.version)) {
                            return Err(StoreError::Conflict);
                        }
                    }
                    blind.push(match change {
                        Change::Put(_, record) => Change::Put(Expect::Any, record),
                        Change::Remove(_, key) => Change::Remove(Expect::Any, key),
                        append => append,
                    });
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
                self.inner.commit(blind).await
            }
            ForgetsNothing | ForgetsTooMuch => {
                let more = |change| match change {
                    Change::Forget(through) => Change::Forget(through.saturating_add(1)),
                    other => other,
                };
                let (forgets, mut others): (Vec<_>, Vec<_>) = changes
                    .into_iter()
                    .partition(|change| matches!(change, Change::Forget(_)));
                if self.defect == ForgetsTooMuch {
                    others.extend(forgets.into_iter().map(more));
                }
                self.inner.commit(others).await
            }
            HoldersInOrder => {
                let rehearsal = replay(self.log()).await;
                for change in &changes {
                    rehearsal.commit(vec![change.clone()]).await?;
                }
                self.inner.commit(changes).await
            }
            HalfWhenDropped => {
                let rehearsal = replay(self.log()).await;
                rehearsal.commit(changes.clone()).await?;
                for change in changes {
                    self.inner.commit(vec![change]).await?;
                    tokio::task::yield_now().await;
                }
                Ok(())
            }
            EventsAppearBehind => {
                let appended: Vec<_> = changes
                    .iter()
                    .filter_map(|change| {
                        if let Change::Append(event) = change {
                            Some(event.clone())
                        } else {
                            Option::None
                        }
                    })
                    .collect();
                self.inner.commit(changes).await?;
                let first = {
                    let mut events = self.all.events.lock().unwrap();
                    let first = events.1 + 1;
                    events.1 += appended.len() as u64;
                    first
                };
                tokio::time::sleep(Duration::from_micros(first % 7 * 150)).await;
                self.all.events.lock().unwrap().0.extend((first..).zip(appended));
                Ok(())
            }
            _ => self.inner.commit(changes).await,
        }
    }

    /// What a defect needs to know of a commit that succeeded.
    fn remember(&self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Put(_, Record::Terminal(terminal)) => {
                    let credential = terminal
                        .credential
                        .iter()
                        .map(|credential| (credential.id, terminal.id));
                    self.all.credentials.lock().unwrap().extend(credential);
                }
                Change::Remove(_, key) if self.defect == VersionsSurviveRemoval => {
                    *self.all.lives.lock().unwrap().entry(key.clone()).or_default() += 1;
                }
                _ => {}
            }
        }
        self.all.log.lock().unwrap().push(changes.to_vec());
    }

    fn log(&self) -> Vec<Vec<Change>> {
        self.all.log.lock().unwrap().clone()
    }

    fn spoil(&self, mut found: Versioned<Record>) -> Versioned<Record> {
        self.spoil_version(&found.record.key(), &mut found.version);
        if let Record::Terminal(terminal) = &mut found.record {
            unmask(&mut terminal.holder.serial);
        }
        found
    }

    fn spoil_version(&self, key: &Key, version: &mut u64) {
        match self.defect {
            VersionsFromZero => *version -= 1,
            VersionsSurviveRemoval => *version += self.earlier(key),
            _ => {}
        }
    }

    fn earlier(&self, key: &Key) -> u64 {
        self.all.lives.lock().unwrap().get(key).copied().unwrap_or_default()
    }
}

/// What hides two equal holders from the memory store.
const MASK: char = '\u{E000}';

fn unmask(serial: &mut String) {
    if let Some(at) = serial.find(MASK) {
        serial.truncate(at);
    }
}

async fn replay(log: Vec<Vec<Change>>) -> MemoryStore {
    let store = MemoryStore::new();
    for changes in log {
        store.commit(changes).await.unwrap();
    }
    store
}
