//! Processes that end in the middle: what a commit has acknowledged is there, and no commit is there by half.

use crate::{Place, put};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use tms_core::store::{Change, Event, EventKind, Expect, Key, Query, Record, Store, StoreError, TerminalId};
use tms_core::testing::sample;
use tms_store_sqlite::{Options, SqliteStore};

/// Names the database to [`child`].
const PATH: &str = "TMS_CRASH_TEST_STORE";
const TASKS: u64 = 16;

/// The process that ends in the middle: it commits for ever, and says what was acknowledged.
#[test]
#[ignore = "the other tests of this module run it as a process of its own"]
fn child() {
    let Some(path) = std::env::var_os(PATH) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        // a short log, so that a checkpoint is often under way
        let options = Options {
            checkpoint_pages: 50,
            ..Options::default()
        };
        let store = SqliteStore::open(path, options).unwrap();
        let tasks: Vec<_> = (0..TASKS).map(|task| tokio::spawn(work(store.clone(), task))).collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
}

/// Commits 1, 2, 3 and so on, each in three places, until the store is unavailable for the tenth time.
async fn work(store: SqliteStore, task: u64) {
    let mut failures = 0;
    let mut last = standing(&store, task).await;
    while failures < 10 {
        let next = last + 1;
        let mut terminal = sample::terminal(task);
        terminal.contact = next;
        let expect = if last == 0 {
            Expect::Absent
        } else {
            Expect::Version(last.into())
        };
        let changes = vec![
            Change::Append(sample::said(task, &next.to_string())),
            put(expect, terminal),
            put(Expect::Absent, sample::assignment(task, next.into())),
        ];
        match store.commit(changes).await {
            Ok(()) => {
                say(&format!("done {task} {next}\n"));
                last = next;
            }
            Err(StoreError::Unavailable(_)) => {
                failures += 1;
                say("failed\n");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(other) => panic!("{other}"),
        }
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes()).unwrap();
    out.flush().unwrap();
}

/// The number of a task's last commit.
async fn standing(store: &SqliteStore, task: u64) -> u32 {
    match store.get(&Key::Terminal(TerminalId(task))).await.unwrap() {
        Some(found) => match found.record {
            Record::Terminal(terminal) => terminal.contact,
            other => panic!("{:?}", other.key()),
        },
        None => 0,
    }
}

/// How [`child`] is started.
fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

fn arguments(command: &mut Command, path: &Path) {
    command
        .args([
            "crash::child",
            "--exact",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(PATH, path);
}

/// Every task's commits are there as far as they were acknowledged, at most one more is, and none is there by half.
async fn verify(store: &SqliteStore, acknowledged: &BTreeMap<u64, u32>) {
    let mut said = BTreeMap::<_, Vec<u32>>::new();
    let mut after = 0;
    loop {
        let page = store.events(after, 10_000).await.unwrap();
        let Some((last, _)) = page.last() else {
            break;
        };
        after = *last;
        for (_, Event { terminal, kind, .. }) in page {
            let EventKind::Terminal { what, .. } = kind else {
                panic!("{kind:?}");
            };
            said.entry(terminal.unwrap().0).or_default().push(what.parse().unwrap());
        }
    }
    for task in 0..TASKS {
        let (acknowledged, there) = (
            acknowledged.get(&task).copied().unwrap_or_default(),
            standing(store, task).await,
        );
        assert!(
            (acknowledged..=acknowledged + 1).contains(&there),
            "task {task}: {there} of {acknowledged}"
        );
        let all: Vec<_> = (1..=there).collect();
        assert_eq!(said.remove(&task).unwrap_or_default(), all, "task {task}");
        let assignments = store
            .list(&Query::Assignments(TerminalId(task), None), u32::MAX)
            .await
            .unwrap();
        let actions = assignments.iter().map(|found| found.record.key());
        let right = all
            .iter()
            .map(|action| sample::assignment(task, (*action).into()))
            .map(|right| Record::from(right).key());
        assert!(actions.eq(right), "task {task}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_loses_nothing_that_it_acknowledged() {
    let place = Place::new();
    let mut acknowledged = BTreeMap::new();
    for round in 0..5 {
        let mut command = command(std::env::current_exe().unwrap().to_str().unwrap());
        arguments(&mut command, &place.path());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut count = 0;
        for line in lines.by_ref() {
            if let Some(numbers) = line.unwrap().strip_prefix("done ") {
                let (task, number) = numbers.split_once(' ').unwrap();
                acknowledged.insert(task.parse().unwrap(), number.parse().unwrap());
                count += 1;
                if count == 300 + 170 * round {
                    // not waited for: it goes on writing until the signal comes, and all that it says is read
                    child.kill().unwrap();
                }
            }
        }
        assert!(!child.wait().unwrap().success());
        assert!(
            count >= 300 + 170 * round,
            "the process ended by itself after {count} commits"
        );
        verify(&place.open(), &acknowledged).await;
    }
}

/// The file system refuses what goes beyond a size: the log cannot grow, in the middle of a write.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_fails_loses_nothing_that_was_acknowledged() {
    let place = Place::new();
    // blocks of 512 or 1,024 bytes; the signal that comes with the refusal is not the subject
    let mut command = command("sh");
    command
        .args(["-c", "trap '' XFSZ; ulimit -f 600; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap());
    arguments(&mut command, &place.path());
    let mut child = command.spawn().unwrap();
    let (mut acknowledged, mut failed) = (BTreeMap::new(), 0);
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if let Some(numbers) = line.strip_prefix("done ") {
            let (task, number) = numbers.split_once(' ').unwrap();
            acknowledged.insert(task.parse().unwrap(), number.parse().unwrap());
        }
        failed += u32::from(line == "failed");
    }
    assert!(child.wait().unwrap().success());
    assert!(!acknowledged.is_empty() && failed >= 10, "{failed} commits failed");
    let store = place.open();
    verify(&store, &acknowledged).await;
    store.commit(vec![Change::Append(sample::said(99, "0"))]).await.unwrap();
}
