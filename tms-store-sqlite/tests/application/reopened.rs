//! Processes that end in the middle of a task, and others that go on with what is in the database.

use crate::fleet::Fleet;
use crate::world::{Lasting, World, operator};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;
use tms_core::entropy::OsEntropy;
use tms_core::estate::TaskCommand;
use tms_core::rule::task::{Action, Definition, Slot, TaskState, Work};
use tms_core::server::Options;
use tms_core::store::{
    BranchPath, Caller, Change, CheckIn, Entity, Event, EventKind, Group, Key, Query, Record, Sequence, Store,
    StoreError, Tally, TerminalId, Versioned,
};
use tms_core::task::{Member, Runner};
use tms_core::testing::fault::{Fault, FaultyStore, Schedule};
use tms_proto::code::Stage;

/// A database, and terminals that call whichever process has it open.
struct Bench {
    directory: TempDir,
    fleet: Option<Fleet>,
}

impl Bench {
    async fn new(terminals: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let fleet = Fleet::on(crate::open(&directory.path().join("store")), terminals).await;
        Self {
            directory,
            fleet: Some(fleet),
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    fn fleet(&mut self) -> &mut Fleet {
        self.fleet.as_mut().unwrap()
    }

    /// Server, runner and operators end, the database is closed, and others open it.
    async fn reopen(&mut self) {
        let Fleet {
            world,
            runner,
            terminals,
        } = self.fleet.take().unwrap();
        let lasting = world.lasting();
        let open = Arc::downgrade(&world.store);
        drop((world, runner));
        assert_eq!(open.strong_count(), 0, "nobody has it open");
        let (world, runner) = processes(crate::open(&self.path()), lasting).await;
        self.fleet = Some(Fleet {
            world,
            runner,
            terminals,
        });
    }

    /// Writes a task and builds it.
    async fn task(&mut self) -> u64 {
        let world = &self.fleet().world;
        let manifest = world.publish(b"the new application, second edition", 2).await;
        let action = Action {
            preconditions: 0,
            ..Action::new(Work::Install { manifest })
        };
        let definition = Definition::new("night", vec![action]).first_alone();
        let estate = &world.estate;
        let task = estate
            .create_task(&operator(), &BranchPath::head_office(), definition)
            .await
            .unwrap();
        estate
            .command_task(&operator(), task.id, TaskCommand::Build)
            .await
            .unwrap();
        task.id
    }
}

async fn processes(store: Arc<dyn Store>, lasting: Lasting) -> (World, Runner) {
    let world = World::over(store, lasting, Options::default(), Arc::new(OsEntropy)).await;
    let runner = Runner::new(world.store.clone(), world.clock.clone(), Arc::new(OsEntropy));
    (world, runner)
}

/// How often the terminals have said that a new version runs.
async fn confirmations(world: &World) -> Vec<TerminalId> {
    let confirmed = |event: &Event| match &event.kind {
        EventKind::Result { stage, .. } if *stage == Stage::RunningConfirmed => event.terminal,
        _ => None,
    };
    let mut terminals: Vec<_> = world.events().await.iter().filter_map(confirmed).collect();
    terminals.sort_unstable();
    terminals
}

#[tokio::test]
async fn a_task_goes_on_where_every_call_and_every_step_meets_another_process() {
    let mut bench = Bench::new(3).await;
    let task = bench.task().await;
    bench.reopen().await;
    bench.fleet().run().await;
    bench.reopen().await;
    let start = bench
        .fleet()
        .world
        .estate
        .command_task(&operator(), task, TaskCommand::Start)
        .await;
    start.unwrap();
    // A call at a time, and what the runner does after it: each by processes of its own.
    let mut downloads = [0; 3];
    for _ in 0..6 {
        for (number, downloads) in downloads.iter_mut().enumerate() {
            bench.reopen().await;
            bench.fleet().run().await;
            bench.reopen().await;
            let report = bench.fleet().call(number).await;
            *downloads += report.downloads.len();
            bench.fleet().terminals[number].work().await;
            let said = bench.fleet().count(task, Slot::Succeeded).await;
            let confirmed = confirmations(&bench.fleet().world).await.len();
            assert_eq!(said, confirmed as u64, "no more and no less than what terminals said");
        }
    }
    bench.reopen().await;
    let fleet = bench.fleet();
    fleet.run().await;
    assert_eq!(fleet.task(task).await.state, TaskState::Completed);
    assert_eq!(fleet.count(task, Slot::Succeeded).await, 3);
    assert_eq!(downloads, [1; 3], "each has it once");
    let mut each: Vec<_> = (0..3).map(|number| fleet.id(number)).collect();
    each.sort_unstable();
    assert_eq!(confirmations(&fleet.world).await, each);
    for number in 0..3 {
        assert_eq!(fleet.terminals[number].version().await, "2.0");
        let given = assignments(&*fleet.world.store, fleet.id(number)).await;
        assert_eq!(given, [(1, true)], "one attempt, and it is closed");
    }
    fleet.world.estate.verify_audit(None).await.unwrap();
}

/// The attempts of a terminal, and whether each is over.
async fn assignments(store: &dyn Store, terminal: TerminalId) -> Vec<(u16, bool)> {
    let page = store.list(&Query::Assignments(terminal, None), 100).await.unwrap();
    let read = |record| match record {
        Record::Assignment(assignment) => (assignment.standing.attempt, assignment.closed),
        other => panic!("unexpected {other:?}"),
    };
    page.into_iter().map(|found| read(found.record)).collect()
}

/// All that a task has come to, but for what is drawn by chance.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    state: TaskState,
    stage: u16,
    members: Vec<(TerminalId, u16, Slot, usize)>,
    assignments: Vec<Vec<(u16, bool)>>,
    moves: Vec<(TaskState, u16)>,
}

async fn outcome(world: &World, task: u64) -> Outcome {
    let progress = world.estate.task_progress(&operator(), task).await.unwrap();
    let query = Query::Documents {
        kind: Member::KIND,
        prefix: Member::mark(task, None, None),
        after: None,
    };
    let page = world.store.list(&query, 100).await.unwrap();
    let members: Vec<Member> = page
        .into_iter()
        .map(|found| match found.record {
            Record::Document(document) => document.read().unwrap(),
            other => panic!("unexpected {other:?}"),
        })
        .collect();
    for (stage, number) in progress.stages.iter().zip(0..) {
        let here = members.iter().filter(|member| member.stage == number);
        assert_eq!(
            stage.counts.all(),
            here.count() as u64,
            "no one is lost or counted twice"
        );
    }
    let mut given = Vec::new();
    for member in &members {
        given.push(assignments(&*world.store, member.terminal).await);
    }
    let moved = |event: Event| match event.kind {
        EventKind::TaskMoved { task: moved, to, stage } if moved == task => Some((to, stage)),
        _ => None,
    };
    Outcome {
        state: progress.task.state,
        stage: progress.task.stage,
        members: members
            .iter()
            .map(|member| {
                (
                    member.terminal,
                    member.stage,
                    Slot::of(member.state),
                    member.steps.len(),
                )
            })
            .collect(),
        assignments: given,
        moves: world.events().await.into_iter().filter_map(moved).collect(),
    }
}

/// A runner does all there is to do, if its store lets it.
async fn run(runner: &Runner) -> Result<(), StoreError> {
    while runner.advance().await? {}
    Ok(())
}

/// A store whose commits go wrong as the other says: what is read in between changes nothing.
struct Commits {
    reads: Arc<dyn Store>,
    commits: FaultyStore,
}

#[async_trait::async_trait]
impl Store for Commits {
    async fn check_in(&self, caller: &Caller) -> Result<Option<CheckIn>, StoreError> {
        self.reads.check_in(caller).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Versioned<Record>>, StoreError> {
        self.reads.get(key).await
    }

    async fn list(&self, query: &Query, limit: u32) -> Result<Vec<Versioned<Record>>, StoreError> {
        self.reads.list(query, limit).await
    }

    async fn tally(&self, tally: &Tally, limit: u32) -> Result<Vec<Group>, StoreError> {
        self.reads.tally(tally, limit).await
    }

    async fn events(&self, after: Sequence, limit: u32) -> Result<Vec<(Sequence, Event)>, StoreError> {
        self.reads.events(after, limit).await
    }

    async fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        self.commits.commit(changes).await
    }
}

/// Ends the runner at each of its commits, in a copy of the database each time: before it is written, or after, as `fault` says.
/// Lets another go on, and gives how many commits there were.
async fn killed_at_every_commit(database: &Path, lasting: &Lasting, task: u64, fault: Fault) -> u64 {
    let place = tempfile::tempdir().unwrap();
    let copy = |name: String| {
        let path = place.path().join(name);
        fs::copy(database, &path).unwrap();
        path
    };
    let (world, runner) = processes(crate::open(&copy("whole".to_owned())), lasting.clone()).await;
    run(&runner).await.unwrap();
    let whole = outcome(&world, task).await;
    for call in 1.. {
        let path = copy(format!("{call}"));
        let reads = crate::open(&path);
        let commits = FaultyStore::new(Arc::clone(&reads), Schedule::From { call, fault });
        let store = Arc::new(Commits { reads, commits });
        let died = run(&Runner::new(store, world.clock.clone(), Arc::new(OsEntropy))).await;
        let (other, runner) = processes(crate::open(&path), lasting.clone()).await;
        run(&runner).await.unwrap();
        assert_eq!(outcome(&other, task).await, whole, "{fault:?} from commit {call}");
        if died.is_ok() {
            return call - 1;
        }
    }
    unreachable!("no runner commits for ever")
}

#[tokio::test]
async fn a_runner_that_is_killed_anywhere_is_gone_on_with_by_another() {
    let mut bench = Bench::new(3).await;
    let task = bench.task().await;
    let lasting = bench.fleet().world.lasting();
    // While it builds,
    bench.reopen().await;
    for fault in [Fault::Fail, Fault::Lose] {
        let commits = killed_at_every_commit(&closed(&mut bench).await, &lasting, task, fault).await;
        assert!(commits >= 2, "{commits}");
    }
    // while it begins the first stage,
    bench.fleet().run().await;
    let start = TaskCommand::Start;
    let estate = &bench.fleet().world.estate;
    estate.command_task(&operator(), task, start).await.unwrap();
    for fault in [Fault::Fail, Fault::Lose] {
        let commits = killed_at_every_commit(&closed(&mut bench).await, &lasting, task, fault).await;
        assert!(commits >= 2, "{commits}");
    }
    // and while it goes from the first stage to the second.
    bench.fleet().run().await;
    for number in 0..3 {
        bench.fleet().update(number).await;
    }
    assert_eq!(bench.fleet().count(task, Slot::Succeeded).await, 1);
    for fault in [Fault::Fail, Fault::Lose] {
        let commits = killed_at_every_commit(&closed(&mut bench).await, &lasting, task, fault).await;
        assert!(commits >= 2, "{commits}");
    }
}

#[tokio::test]
async fn a_server_that_is_killed_at_any_commit_of_a_task_s_calls_loses_nothing() {
    let mut bench = Bench::new(1).await;
    let task = bench.task().await;
    bench.fleet().run().await;
    let start = TaskCommand::Start;
    let estate = &bench.fleet().world.estate;
    estate.command_task(&operator(), task, start).await.unwrap();
    bench.fleet().run().await;
    let database = closed(&mut bench).await;
    let lasting = bench.fleet().world.lasting();
    let kit = bench.fleet().terminals[0].kit.clone();
    let terminal = kit.identity.terminal;
    let place = tempfile::tempdir().unwrap();
    for fault in [Fault::Fail, Fault::Lose] {
        let mut last = 0;
        for commit in 1.. {
            let path = place.path().join(format!("{fault:?} {commit}"));
            fs::copy(&database, &path).unwrap();
            let reads = crate::open(&path);
            let commits = FaultyStore::new(Arc::clone(&reads), Schedule::From { call: commit, fault });
            let store = Arc::new(Commits {
                reads,
                commits: commits.clone(),
            });
            let (world, runner) = processes(store, lasting.clone()).await;
            let terminals = vec![kit.after_power_loss(commit).start().await];
            let mut fleet = Fleet {
                world,
                runner,
                terminals,
            };
            fleet.update(0).await;
            let Fleet { terminals, .. } = fleet;
            let died = commits.faults() > 0;
            drop(commits);
            let (world, runner) = processes(crate::open(&path), lasting.clone()).await;
            let mut fleet = Fleet {
                world,
                runner,
                terminals,
            };
            fleet.update(0).await;
            fleet.update(0).await;
            fleet.run().await;
            let state = fleet.task(task).await.state;
            assert_eq!(state, TaskState::Completed, "{fault:?} from commit {commit}");
            assert_eq!(fleet.count(task, Slot::Succeeded).await, 1);
            assert_eq!(fleet.terminals[0].version().await, "2.0");
            let confirmed = confirmations(&fleet.world).await;
            assert_eq!(confirmed, [terminal], "{fault:?} from commit {commit}: said once");
            assert_eq!(assignments(&*fleet.world.store, terminal).await, [(1, true)]);
            if !died {
                last = commit;
                break;
            }
        }
        assert!(last > 3, "{last}");
    }
}

/// A copy of the database as it is now, closed.
async fn closed(bench: &mut Bench) -> PathBuf {
    bench.reopen().await;
    let path = bench.directory.path().join("copy");
    // Nothing is written while it is open and nobody calls, and closing it has brought the log into the file.
    fs::copy(bench.path(), &path).unwrap();
    path
}
