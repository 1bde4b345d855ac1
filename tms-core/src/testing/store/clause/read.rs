//! What a read sees: clauses 3, 8 and 11, and what comes back.

use super::super::Fixture;
use super::super::Violation;
use super::super::picture::events;
use super::{Outcome, assignment, joined, missing, one_of_each, put, read, write};
use crate::store::{ActionId, Caller, Change, EventKind, Expect, Key, Query, Record, Store, Terminal, TerminalId};
use crate::testing::sample;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use tms_proto::code::ResultCode;
use tms_proto::digest::Digest;
use tms_proto::identity::Holder;
use tokio::task::JoinSet;

/// Clause 3, first sentence.
pub(in crate::testing::store) async fn reads_see_every_commit_that_has_returned<F: Fixture>(fixture: &F) -> Outcome {
    let home = fixture.home().await;
    let handles = [fixture.open(&home).await, fixture.open(&home).await];
    let id = TerminalId(7);
    for round in 1..=30_u32 {
        let mut terminal = sample::terminal(id.0);
        terminal.contact = round;
        let mut assignment = sample::assignment(id.0, 1);
        assignment.standing.reported = round;
        let mut inventory = sample::inventory(id.0);
        inventory.reported = round.into();
        let changes = [
            put(Expect::Any, terminal.clone()),
            put(Expect::Any, assignment.clone()),
            put(Expect::Any, inventory.clone()),
            Change::Append(sample::said(id.0, &round.to_string())),
        ];
        // each writes in turn, and both must know at once
        write(&*handles[round as usize % 2], changes).await?;
        for (number, store) in handles.iter().enumerate() {
            let which = if number == round as usize % 2 {
                "the handle that wrote"
            } else {
                "another handle"
            };
            ensure!(
                read(&**store, Key::Terminal(id)).await? == Some((u64::from(round), terminal.clone().into()))
                    && read(&**store, Key::Inventory(id)).await? == Some((u64::from(round), inventory.clone().into())),
                "{which} gets an old record"
            );
            let check_in = store.check_in(&Caller::Holder(terminal.holder.clone())).await?;
            ensure!(
                check_in.is_some_and(|found| found.terminal.record == terminal
                    && found.assignments.iter().map(|found| &found.record).eq([&assignment])),
                "a check-in by {which} reads old records"
            );
            let page = store.list(&Query::Terminals(None), 10).await?;
            ensure!(
                page.len() == 1 && page[0].record == terminal.clone().into(),
                "{which} lists an old record"
            );
            let page = store.list(&Query::Assignments(id, None), 10).await?;
            ensure!(
                page.len() == 1 && page[0].record == assignment.clone().into(),
                "{which} lists an old assignment"
            );
            let events = events(&**store, 0, 100).await?;
            ensure!(
                events.len() == round as usize,
                "{which} sees {} events of {round}",
                events.len()
            );
        }
    }
    write(&*handles[0], [Change::Remove(Expect::Any, Key::Terminal(id))]).await?;
    for store in &handles {
        ensure!(
            read(&**store, Key::Terminal(id)).await?.is_none(),
            "a record is got that was removed"
        );
        ensure!(
            store.list(&Query::Terminals(None), 10).await?.is_empty(),
            "a record is listed that was removed"
        );
        ensure!(
            store.check_in(&Caller::Id(id)).await?.is_none(),
            "a terminal checks in that was removed"
        );
    }
    Ok(())
}

/// Clause 3, second sentence.
pub(in crate::testing::store) async fn a_read_is_of_one_moment<F: Fixture>(fixture: &F) -> Outcome {
    const ROUNDS: u32 = 150;
    const READS: u32 = 40;
    let home = fixture.home().await;
    let store = fixture.open(&home).await;
    let done = Arc::new(AtomicBool::new(false));
    let reads = Arc::new(AtomicU32::new(0));
    write(&*store, moment(0)).await?;
    let mut readers = JoinSet::new();
    for _ in 0..2 {
        let (store, done, reads) = (fixture.open(&home).await, Arc::clone(&done), Arc::clone(&reads));
        readers.spawn(async move {
            let outcome = read_moments(&*store, &done, &reads).await;
            // Who has found something reads no more, and nobody is to wait for it.
            reads.fetch_add(READS, Ordering::SeqCst);
            outcome
        });
    }
    // However slow the readers are, commits go by while they read.
    for round in 1.. {
        write(&*store, moment(round)).await?;
        tokio::task::yield_now().await;
        if round >= ROUNDS && reads.load(Ordering::SeqCst) >= READS {
            break;
        }
    }
    done.store(true, Ordering::SeqCst);
    joined(readers).await
}

/// Reads what [`moment`] writes, again and again.
async fn read_moments(store: &dyn Store, done: &AtomicBool, reads: &AtomicU32) -> Outcome {
    while !done.load(Ordering::SeqCst) {
        let found = store.check_in(&Caller::Id(TerminalId(1))).await?.ok_or_else(missing)?;
        let contact = found.terminal.record.contact;
        ensure!(
            found.assignments.len() == 2
                && found
                    .assignments
                    .iter()
                    .all(|open| open.record.standing.reported == contact),
            "a check-in reads a terminal of one commit and assignments of another"
        );
        let page = store.list(&Query::Assignments(TerminalId(1), None), 10).await?;
        let results: Vec<_> = page
            .iter()
            .map(|found| assignment(&found.record).standing.reported)
            .collect();
        ensure!(
            results.len() == 3 && results.iter().all(|result| *result == results[0]),
            "a page is torn"
        );
        reads.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// One commit of [`a_read_is_of_one_moment`]: everything has one number, and two of three assignments are open.
fn moment(round: u32) -> Vec<Change> {
    let mut terminal = sample::terminal(1);
    terminal.contact = round;
    let mut changes = vec![put(Expect::Any, terminal)];
    for action in 0..3 {
        let mut assignment = sample::assignment(1, action);
        assignment.standing.reported = round;
        assignment.closed = u64::from(round % 3) == action;
        changes.push(put(Expect::Any, assignment));
    }
    changes
}

/// Clause 8.
pub(in crate::testing::store) async fn pages_are_in_order<F: Fixture>(fixture: &F) -> Outcome {
    // ascending as unsigned numbers, and so by their bytes; written in another order
    const IDS: [u64; 10] = [
        0,
        1,
        255,
        256,
        1 << 32,
        (1 << 63) - 1,
        1 << 63,
        (1 << 63) + 1,
        u64::MAX - 1,
        u64::MAX,
    ];
    let home = fixture.home().await;
    let store = fixture.open(&home).await;
    let digests: Vec<_> = (0..=5)
        .flat_map(|number| [0x00, 0x7F, 0x80, 0xFF].map(|last| (number, last)))
        .map(|(number, last)| {
            let mut digest = [[0x00; 32], [0x00; 32], [0x7F; 32], [0x80; 32], [0xFF; 32], [0xFF; 32]][number];
            digest[31] = last;
            digest[15] = [0x01, 0x02, 0x00, 0x00, 0x00, 0xFF][number];
            Digest(digest)
        })
        .collect();
    let mut changes = Vec::new();
    for at in (0..IDS.len()).map(|at| at * 7 % IDS.len()) {
        changes.push(put(Expect::Absent, sample::terminal(IDS[at])));
        for owner in [0, 255, 256, u64::MAX] {
            let mut assignment = sample::assignment(owner, IDS[at]);
            assignment.closed = at % 2 == 0;
            changes.push(put(Expect::Absent, assignment));
        }
    }
    for at in (0..digests.len()).map(|at| at * 7 % digests.len()) {
        let mut package = sample::package(1);
        package.package.manifest = digests[at];
        changes.push(put(Expect::Absent, package));
    }
    write(&*store, changes).await?;

    for limit in [0, 1, 2, 3, 9, 10, 11, 24, 1000, u32::MAX] {
        // after each, after what lies between, and from the beginning
        let mut starts: Vec<_> = IDS
            .iter()
            .flat_map(|id| [*id, id.saturating_sub(1), id.saturating_add(1)])
            .collect();
        starts.dedup();
        for after in starts.iter().copied().map(Some).chain([None]) {
            let right: Vec<_> = IDS
                .iter()
                .filter(|id| after.is_none_or(|after| after < **id))
                .take(limit as usize)
                .collect();
            let terminals = store.list(&Query::Terminals(after.map(TerminalId)), limit).await?;
            ensure!(
                terminals
                    .iter()
                    .map(|found| found.record.key())
                    .eq(right.iter().map(|id| Key::Terminal(TerminalId(**id)))),
                "{limit} terminals after {after:?} must be {right:?}, and are {:?}",
                terminals.iter().map(|found| found.record.key()).collect::<Vec<_>>()
            );
            for owner in [0, 255, 256, u64::MAX].map(TerminalId) {
                let assignments = store
                    .list(&Query::Assignments(owner, after.map(ActionId)), limit)
                    .await?;
                let right = right.iter().map(|id| Key::Assignment(owner, ActionId(**id)));
                ensure!(
                    assignments.iter().map(|found| found.record.key()).eq(right),
                    "{limit} assignments of {owner} after {after:?} are {:?}",
                    assignments.iter().map(|found| found.record.key()).collect::<Vec<_>>()
                );
            }
        }
        for after in digests
            .iter()
            .copied()
            .map(Some)
            .chain([None, Some(Digest([0; 32])), Some(Digest([0xFF; 32]))])
        {
            let packages = store.list(&Query::Packages(after), limit).await?;
            let right = digests
                .iter()
                .filter(|digest| after.is_none_or(|after| after < **digest))
                .take(limit as usize);
            ensure!(
                packages
                    .iter()
                    .map(|found| found.record.key())
                    .eq(right.map(|digest| Key::Package(*digest))),
                "{limit} packages after {after:?} are {:?}",
                packages.iter().map(|found| found.record.key()).collect::<Vec<_>>()
            );
        }
    }
    Ok(())
}

/// Clause 11.
pub(in crate::testing::store) async fn errors_hold_no_content<F: Fixture>(fixture: &F) -> Outcome {
    const SECRET: &str = "canary";
    let home = fixture.home().await;
    let store = fixture.open(&home).await;
    let mut terminal = sample::terminal(1);
    terminal.holder.serial = SECRET.to_owned();
    terminal.tickets[0].sealed = SECRET.to_owned();
    terminal.renewed_certificate = Some(SECRET.to_owned());
    let mut twin = terminal.clone();
    twin.id = TerminalId(2);
    let mut assignment = sample::assignment(1, 1);
    assignment.text = Some(SECRET.to_owned());
    let mut event = sample::said(1, SECRET);
    event.actor = SECRET.to_owned();
    let all = |expect| {
        vec![
            Change::Append(event.clone()),
            put(Expect::Any, assignment.clone()),
            Change::Put(expect, terminal.clone().into()),
        ]
    };
    write(&*store, all(Expect::Absent)).await?;
    let mut twice = all(Expect::Any);
    twice.push(put(Expect::Any, terminal.clone()));
    let wrong = [
        all(Expect::Absent),
        all(Expect::Version(9)),
        twice,
        vec![put(Expect::Any, twin.clone())],
        vec![
            put(Expect::Any, twin.clone()),
            Change::Append(event.clone()),
            put(Expect::Absent, assignment.clone()),
        ],
    ];
    for changes in wrong {
        let Err(error) = store.commit(changes).await else {
            return Err(Violation("a commit succeeds that must not".to_owned()));
        };
        let text = format!("{error} {error:?}");
        ensure!(!text.contains(SECRET), "an error tells what is in a record");
    }
    Ok(())
}

/// What [`Store::check_in`] says of itself.
pub(in crate::testing::store) async fn a_check_in_finds_its_terminal_and_what_is_open<F: Fixture>(
    fixture: &F,
) -> Outcome {
    let home = fixture.home().await;
    let store = fixture.open(&home).await;
    let (mine, credential) = (sample::terminal(1 << 63), sample::credential(1));
    let callers = |terminal: &Terminal| {
        let mut callers = vec![Caller::Id(terminal.id), Caller::Holder(terminal.holder.clone())];
        callers.extend(
            terminal
                .credential
                .iter()
                .map(|credential| Caller::Credential(credential.id)),
        );
        callers
    };
    for caller in callers(&mine) {
        ensure!(
            store.check_in(&caller).await?.is_none(),
            "a terminal is found in an empty store"
        );
    }
    let mut other = sample::terminal(1);
    other.credential = None;
    let mut changes = vec![put(Expect::Absent, other.clone()), put(Expect::Absent, mine.clone())];
    // in another order than theirs; every other one is closed; neighbours have some too
    for action in [5, u64::MAX, 2, 1 << 63, 9, 1, 0, (1 << 63) - 1] {
        for owner in [mine.id.0, mine.id.0 - 1, mine.id.0 + 1, 1] {
            let mut assignment = sample::assignment(owner, action);
            assignment.closed = action % 2 == 0;
            changes.push(put(Expect::Absent, assignment));
        }
    }
    write(&*store, changes).await?;
    for caller in callers(&mine) {
        let found = store.check_in(&caller).await?.ok_or_else(missing)?;
        ensure!(
            found.terminal.record == mine && found.terminal.version == 1,
            "{caller:?} is another terminal"
        );
        let open: Vec<_> = found
            .assignments
            .iter()
            .map(|open| (open.record.terminal, open.record.action.0))
            .collect();
        let right = [1, 5, 9, (1 << 63) - 1, u64::MAX].map(|action| (mine.id, action));
        ensure!(
            open == right,
            "a check-in reads assignments {open:?}, and must read {right:?}"
        );
        for open in found.assignments {
            let whole = sample::assignment(mine.id.0, open.record.action.0);
            ensure!(
                open.record == whole && open.version == 1,
                "a check-in reads half an assignment"
            );
        }
    }

    // a terminal is found by the credential that it has now, by no earlier one, and by none that it has not
    let mut renewed = mine.clone();
    renewed.credential = Some(credential.clone());
    write(&*store, [put(Expect::Version(1), renewed.clone())]).await?;
    for caller in callers(&renewed) {
        let found = store.check_in(&caller).await?;
        ensure!(
            found.is_some_and(|found| found.terminal.record == renewed),
            "{caller:?} is not found"
        );
    }
    let gone = sample::credential(mine.id.0).id;
    ensure!(
        store.check_in(&Caller::Credential(gone)).await?.is_none(),
        "an earlier credential finds a terminal"
    );
    other.credential = Some(credential.clone());
    write(&*store, [put(Expect::Any, other.clone())]).await?;
    let found = store
        .check_in(&Caller::Credential(credential.id))
        .await?
        .map(|found| found.terminal.record.id);
    ensure!(
        found == Some(other.id),
        "of two terminals with one credential, the lower is not found first"
    );
    write(&*store, [Change::Remove(Expect::Any, Key::Terminal(other.id))]).await?;
    let found = store
        .check_in(&Caller::Credential(credential.id))
        .await?
        .map(|found| found.terminal.record.id);
    ensure!(
        found == Some(mine.id),
        "of two terminals with one credential, one was removed, and the other is not found"
    );
    renewed.credential = None;
    write(&*store, [put(Expect::Any, renewed.clone())]).await?;
    let found = store.check_in(&Caller::Credential(credential.id)).await?;
    ensure!(
        found.is_none(),
        "a terminal is found by a credential that was taken away"
    );
    let found = store.check_in(&Caller::Id(mine.id)).await?;
    ensure!(
        found.is_some_and(|found| found.terminal.record == renewed),
        "a terminal without a credential is lost"
    );
    Ok(())
}

/// Nothing of a record is lost or changed.
pub(in crate::testing::store) async fn records_come_back_whole<F: Fixture>(fixture: &F) -> Outcome {
    const HARD: &str =
        "終端 \u{1F4A3} \"quoted\" 'single' \\ \r\n\t\0 \u{7f} %s $1 ?1 --; DROP TABLE terminals \u{202E}";
    let home = fixture.home().await;
    let store = fixture.open(&home).await;
    let mut terminal = sample::terminal(u64::MAX);
    terminal.holder = Holder {
        vendor: "終端 'x' \"y\" \\".to_owned(),
        model: String::new(),
        serial: "é\u{1F4A3}".to_owned(),
    };
    terminal.renewed_certificate = Some("ab".repeat(3000));
    terminal.contact = u32::MAX;
    terminal.last_check_in = Some(u64::MAX);
    terminal.last_action = u64::MAX;
    terminal.plan.sequence = u64::MAX;
    if let Some(next) = &mut terminal.next_contact {
        next.from = u64::MAX;
    }
    let mut bare = sample::terminal(0);
    (bare.key, bare.credential, bare.main_key_epoch, bare.inventory) = (None, None, None, None);
    (bare.last_check_in, bare.next_contact) = (None, None);
    (bare.tickets, bare.logical) = (Vec::new(), Vec::new());
    let mut inventory = sample::inventory(u64::MAX);
    inventory.inventory.hardware = Some(HARD.to_owned());
    let one = inventory.inventory.components[0].clone();
    inventory.inventory.components = vec![one; 200];
    let mut package = sample::package(3);
    package.package.size = u64::MAX;
    package.package.block_map = None;
    package.actor = HARD.to_owned();
    package.models = Vec::new();
    let mut assignment = sample::assignment(u64::MAX, u64::MAX);
    assignment.text = Some(HARD.repeat(1000));
    assignment.actor = HARD.to_owned();
    assignment.code = ResultCode::from(200);
    (assignment.created, assignment.updated, assignment.standing.reported) = (0, u64::MAX, u32::MAX);
    assignment.attempt = u16::MAX;
    let mut records = vec![
        terminal.into(),
        bare.into(),
        inventory.into(),
        package.into(),
        assignment.into(),
        sample::assignment(u64::MAX, 0).into(),
    ];
    let mut entry = sample::roster(u64::MAX);
    (entry.vendor, entry.model, entry.serial) = (HARD.to_owned(), String::new(), HARD.to_owned());
    (entry.merchant, entry.version, entry.seen) = (Some(HARD.to_owned()), Some(String::new()), Some(u32::MAX));
    let mut empty = sample::roster(0);
    (empty.merchant, empty.version, empty.seen) = (None, None, None);
    let mut document = sample::document(u64::MAX);
    document.id = HARD.to_owned();
    document.body = format!("{:?}", HARD.repeat(1000));
    document.marks = [(HARD.to_owned(), HARD.to_owned()), (String::new(), String::new())].into();
    records.extend([Record::from(entry), empty.into(), document.into()]);
    records.extend(one_of_each(1));
    write(
        &*store,
        records
            .iter()
            .cloned()
            .map(|record| Change::Put(Expect::Absent, record))
            .collect::<Vec<_>>(),
    )
    .await?;

    let mut right = sample::events(u64::MAX);
    for event in &mut right {
        event.actor = HARD.to_owned();
        event.time = u64::MAX;
        match &mut event.kind {
            EventKind::CheckedIn(summary) => {
                (summary.skew, summary.claimed) = (i64::MIN, None);
            }
            EventKind::Terminal { text, .. } => *text = Some(HARD.repeat(100)),
            _ => {}
        }
    }
    write(&*store, right.iter().cloned().map(Change::Append).collect::<Vec<_>>()).await?;

    for record in records {
        let found = read(&*store, record.key()).await?;
        ensure!(
            found == Some((1, record.clone())),
            "a record was put as {record:?} and came back as {found:?}"
        );
        if let Record::Terminal(terminal) = record {
            let found = store.check_in(&Caller::Holder(terminal.holder.clone())).await?;
            ensure!(
                found.is_some_and(|found| found.terminal.record == *terminal),
                "a check-in reads another terminal"
            );
        }
    }
    let found = events(&*store, 0, 100).await?;
    ensure!(
        found.iter().map(|(_, event)| event).eq(&right),
        "events were appended as {right:?} and came back as {found:?}"
    );
    Ok(())
}
