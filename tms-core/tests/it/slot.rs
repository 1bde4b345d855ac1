//! Check-in policies and slots, through the real server.

use crate::world::{DAY, NOW, Refused, Terminal, World, holder, operator};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tms_core::custody::MainKey;
use tms_core::entropy::OsEntropy;
use tms_core::estate::{Branch, ClassPolicy, Enrolment, EstateError};
use tms_core::rule::policy::{CheckInPolicy, Class, Hours};
use tms_core::rule::slot::{Access, Load, QUARTER};
use tms_core::server::Options;
use tms_core::store::{
    BranchPath, Caller, Change, CheckIn, Event, Group, Key, Kind, MemoryStore, Query, Record, Sequence, Store,
    StoreError, Tally, TerminalId, Versioned,
};
use tms_proto::code::ResultCode;
use tms_proto::message::NextContact;
use tms_proto::secret::Secret;
use tms_proto::session::{End, TerminalEvent};

/// Two lines on which a check-in takes 204 seconds: five of them go into the share of a quarter that may be given out.
fn narrow() -> Access {
    Access {
        overhead: 200,
        ..Access::modems(2)
    }
}

fn class(name: &str, class: Class, access: Option<&str>) -> ClassPolicy {
    ClassPolicy {
        name: name.to_owned(),
        class,
        policy: CheckInPolicy {
            tolerance: 7_200,
            ..CheckInPolicy::default()
        },
        access: access.map(str::to_owned),
    }
}

/// A world in which all terminals call one access.
async fn pool(store: Arc<dyn Store>, options: Options, access: Access) -> World {
    let world = World::of(store, options, Arc::new(OsEntropy)).await;
    let (estate, head_office) = (&world.estate, BranchPath::head_office());
    estate
        .put_access(&operator(), "main", &head_office, access)
        .await
        .unwrap();
    let policy = class("all", Class::default(), Some("main"));
    estate.put_policy(&operator(), policy).await.unwrap();
    world
}

/// A check-in, and the time that the terminal holds after it.
async fn check_in(world: &World, terminal: &mut Terminal) -> Result<NextContact, Refused> {
    let (mut call, plan) = terminal.open(world.line("modem 1")).await?;
    terminal.ticket.clone_from(&plan.ticket);
    let mut next = plan.next_contact;
    call.session.bye(call.pump.now(), ResultCode::Success).unwrap();
    loop {
        match call.next().await {
            Some(TerminalEvent::Recorded) => {}
            Some(TerminalEvent::ResultAck(ack)) => next = ack.next_contact.unwrap_or(next),
            Some(TerminalEvent::Ended(End::Bye(_))) => return Ok(next),
            other => panic!("unexpected {other:?}"),
        }
    }
}

/// What the ledger says was given out, by quarter.
async fn ledger(store: &dyn Store) -> BTreeMap<u64, Load> {
    let query = Query::Documents {
        kind: Kind::named("slot_load"),
        prefix: "main@".to_owned(),
        after: None,
    };
    let page = store.list(&query, 10_000).await.unwrap();
    let read = |found: Versioned<Record>| {
        let Record::Document(document) = found.record else {
            panic!("no document")
        };
        let body: serde_json::Value = serde_json::from_str(&document.body).unwrap();
        let load = serde_json::from_value(body["load"].clone()).unwrap();
        (body["quarter"].as_u64().unwrap(), load)
    };
    page.into_iter().map(read).collect()
}

/// What terminals hold, by quarter: the ledger must say that, and no quarter may have more than it carries.
async fn audit(worlds: &[&World], ids: &[TerminalId], access: Access) {
    let world = worlds[0];
    let mut held: BTreeMap<u64, (u32, u32)> = BTreeMap::new();
    for id in ids {
        let terminal = world.known(*id).await.terminal.record;
        let slot = terminal.slot.unwrap();
        assert_eq!(slot.access, "main");
        assert_eq!(slot.bookings[0].quarter, terminal.next_contact.unwrap().from / QUARTER);
        for booking in slot.bookings {
            let (seconds, calls) = held.entry(booking.quarter).or_default();
            *seconds += booking.load.seconds;
            *calls += booking.load.calls;
        }
    }
    let written = ledger(&*world.store).await;
    let written: BTreeMap<_, _> = written
        .into_iter()
        .map(|(quarter, load)| (quarter, (load.seconds, load.calls)))
        .filter(|(_, load)| *load != (0, 0))
        .collect();
    assert_eq!(written, held);
    let most = access.capacity(false).seconds;
    assert!(written.values().all(|(seconds, _)| *seconds <= most), "{written:?}");
}

#[tokio::test]
async fn an_access_is_promised_no_more_than_it_carries() {
    let world = pool(Arc::new(MemoryStore::default()), Options::default(), narrow()).await;
    let mut terminals = Vec::new();
    for number in 0..120 {
        terminals.push(Terminal::new(world.enrol(&number.to_string()).await));
    }
    let ids: Vec<_> = terminals.iter().map(|terminal| terminal.id).collect();
    let mut late = 0;
    for terminal in &mut terminals {
        let next = check_in(&world, terminal).await.unwrap();
        assert_eq!(world.known(terminal.id).await.terminal.record.next_contact, Some(next));
        assert!(next.from >= NOW + DAY - 7_200);
        late += u32::from(next.from >= NOW + DAY + 7_200);
    }
    // 17 quarters of five calls each, some of them cut, are less than 120: the others come after them.
    assert!((30..60).contains(&late), "{late}");
    audit(&[&world], &ids, narrow()).await;

    // Those that call again before their time give their slots back.
    for terminal in terminals.iter_mut().take(40) {
        check_in(&world, terminal).await.unwrap();
    }
    audit(&[&world], &ids, narrow()).await;

    // A slot that is used is not given back: its quarter is over for others, too.
    let first = terminals.iter_mut().next().unwrap();
    let slot = world.known(first.id).await.terminal.record.slot.unwrap();
    let before = ledger(&*world.store).await[&slot.bookings[0].quarter];
    world.clock.set(slot.bookings[0].quarter * QUARTER + 1);
    check_in(&world, first).await.unwrap();
    assert_eq!(ledger(&*world.store).await[&slot.bookings[0].quarter], before);

    // What is long past is removed.
    world.clock.advance(30 * DAY);
    check_in(&world, first).await.unwrap();
    let oldest = *ledger(&*world.store).await.first_key_value().unwrap().0;
    assert!(oldest >= (NOW + 30 * DAY) / QUARTER, "{oldest}");
}

/// Terminals call two servers at once. Both work on one store, and neither knows of the other.
#[tokio::test(flavor = "multi_thread")]
async fn two_servers_promise_no_more_together() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let one = Arc::new(pool(Arc::clone(&store), Options::default(), narrow()).await);
    let other = Arc::new(World::of(store, Options::default(), Arc::new(OsEntropy)).await);
    let mut ids = Vec::new();
    for number in 0..80 {
        let id = one.enrol(&number.to_string()).await;
        other.keys.insert(id, 1, MainKey::Aes128(Secret::new([0x11; 16])));
        ids.push(id);
    }
    let calls = ids.iter().enumerate().map(|(number, id)| {
        let (id, worlds) = (*id, [Arc::clone(&one), Arc::clone(&other)]);
        tokio::spawn(async move {
            let mut terminal = Terminal::new(id);
            let mut told = None;
            for call in 0..3 {
                let world = &worlds[(number + call) % 2];
                told = Some(check_in(world, &mut terminal).await.unwrap());
            }
            (id, told.unwrap())
        })
    });
    for call in calls.collect::<Vec<_>>() {
        let (id, told) = call.await.unwrap();
        // What the terminal was told last is what is recorded and booked.
        assert_eq!(one.known(id).await.terminal.record.next_contact, Some(told));
    }
    audit(&[&one], &ids, narrow()).await;
}

/// A server that was away for hours, or an access that was: those that come back and cannot be served are spread over as
/// long as the lines need for them.
#[tokio::test]
async fn after_an_outage_callers_are_spread() {
    let mut options = Options::default();
    options.admission.sessions = 1;
    let (retry, spread) = (options.admission.retry_after, options.admission.retry_spread);
    let world = pool(Arc::new(MemoryStore::default()), options, narrow()).await;
    let mut terminals = Vec::new();
    for number in 0..60 {
        let mut terminal = Terminal::new(world.enrol(&number.to_string()).await);
        check_in(&world, &mut terminal).await.unwrap();
        terminals.push(terminal);
    }
    let mut turned_away = async |world: &World| {
        let (first, others) = terminals.split_first_mut().unwrap();
        let (mut call, plan) = first.open(world.line("modem 1")).await.unwrap();
        first.ticket.clone_from(&plan.ticket);
        let mut waits = Vec::new();
        for other in others {
            let refused = other.open(world.line("modem 2")).await.err().unwrap();
            match refused.end {
                Some(End::Busy { retry_after, .. }) => waits.push(retry_after),
                end => panic!("{end:?}"),
            }
        }
        call.bye().await;
        waits.into_iter().max().unwrap()
    };
    // In good times it is some seconds.
    assert!(turned_away(&world).await <= retry + spread);
    // Then nobody is answered for half a day after they should have called.
    world.clock.advance(DAY + 43_200);
    let longest = turned_away(&world).await;
    // Sixty calls of 204 seconds on two lines are more than an hour and a half.
    assert!(longest > 3_600 && longest < 6 * 3_600, "{longest}");
    // And when they have come back, it is over.
    world.clock.advance(6 * 3_600);
    assert!(turned_away(&world).await <= retry + spread);
}

#[tokio::test]
async fn the_policy_that_says_most_counts() {
    let world = World::new().await;
    let (estate, actor) = (&world.estate, operator());
    let path = |text: &str| text.parse::<BranchPath>().unwrap();
    for (branch, zone) in [("/east", Some("Asia/Shanghai")), ("/east/harbour", None)] {
        let branch = Branch {
            path: path(branch),
            name: branch.to_owned(),
            zone: zone.map(str::to_owned),
            variables: BTreeMap::new(),
        };
        estate.put_branch(&actor, branch).await.unwrap();
    }
    // At night, by the clocks of the east.
    let mut nights = class(
        "nights",
        Class {
            branch: path("/east"),
            ..Class::default()
        },
        None,
    );
    nights.policy.tolerance = 3_600;
    nights.policy.hours = vec![Hours { from: 0, minutes: 240 }];
    (nights.policy.redial_delay, nights.policy.redial_max) = (300, 3);
    estate.put_policy(&actor, nights.clone()).await.unwrap();
    let mut ids = Vec::new();
    for (serial, branch) in [("1", "/east/harbour"), ("2", "/east/harbour"), ("3", "/")] {
        let enrolment = Enrolment {
            main_key_epoch: Some(1),
            branch: path(branch),
            ..Enrolment::of(holder(serial))
        };
        let id = estate.enrol(&actor, enrolment).await.unwrap();
        world.keys.insert(id, 1, MainKey::Aes128(Secret::new([0x11; 16])));
        ids.push(id);
    }
    let mut hourly = class(
        "one",
        Class {
            terminal: Some(ids[1]),
            ..Class::default()
        },
        None,
    );
    (hourly.policy.period, hourly.policy.tolerance, hourly.policy.window) = (3_600, 60, 60);
    estate.put_policy(&actor, hourly).await.unwrap();

    let night = check_in(&world, &mut Terminal::new(ids[0])).await.unwrap();
    let shanghai = (night.from + 8 * 3_600) % DAY;
    assert!(shanghai < 4 * 3_600, "{shanghai}");
    assert_eq!((night.redial_delay, night.redial_max), (Some(300), Some(3)));
    let hour = check_in(&world, &mut Terminal::new(ids[1])).await.unwrap();
    assert!((NOW + 3_540..NOW + 3_660).contains(&hour.from));
    // For whom there is none, the server's own holds.
    let mut third = Terminal::new(ids[2]);
    assert!(check_in(&world, &mut third).await.unwrap().from >= NOW + DAY);
    // What is removed counts no more, some seconds later.
    estate.remove_policy(&actor, "nights").await.unwrap();
    world.clock.advance(10);
    assert_eq!(
        check_in(&world, &mut Terminal::new(ids[0])).await.unwrap().redial_max,
        None
    );

    assert!(matches!(
        estate.remove_policy(&actor, "nights").await,
        Err(EstateError::Unknown("policy", _))
    ));
    nights.policy.redial_max = 0;
    assert!(matches!(
        estate.put_policy(&actor, nights.clone()).await,
        Err(EstateError::Policy(_))
    ));
    nights.policy.redial_max = 1;
    nights.access = Some("main".to_owned());
    assert!(matches!(
        estate.put_policy(&actor, nights).await,
        Err(EstateError::Unknown("access", _))
    ));
}

/// A store that counts what is asked of it.
struct Counting {
    inner: MemoryStore,
    reads: AtomicU64,
    commits: AtomicU64,
}

#[async_trait]
impl Store for Counting {
    async fn check_in(&self, caller: &Caller) -> Result<Option<CheckIn>, StoreError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.inner.check_in(caller).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Versioned<Record>>, StoreError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.inner.get(key).await
    }

    async fn list(&self, query: &Query, limit: u32) -> Result<Vec<Versioned<Record>>, StoreError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.inner.list(query, limit).await
    }

    async fn tally(&self, tally: &Tally, limit: u32) -> Result<Vec<Group>, StoreError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.inner.tally(tally, limit).await
    }

    async fn events(&self, after: Sequence, limit: u32) -> Result<Vec<(Sequence, Event)>, StoreError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.inner.events(after, limit).await
    }

    async fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.inner.commit(changes).await
    }
}

/// A check-in reads once and writes once; whether it gets a slot or not. What more there is, is read every few seconds.
#[tokio::test]
async fn a_slot_costs_no_read_and_no_commit() {
    let store = Arc::new(Counting {
        inner: MemoryStore::default(),
        reads: AtomicU64::new(0),
        commits: AtomicU64::new(0),
    });
    let counts = || {
        (
            store.reads.load(Ordering::Relaxed),
            store.commits.load(Ordering::Relaxed),
        )
    };
    let world = World::with(Arc::clone(&store) as _, Options::default()).await;
    let mut terminal = Terminal::new(world.enrol("1").await);
    check_in(&world, &mut terminal).await.unwrap();
    let before = counts();
    for _ in 0..20 {
        check_in(&world, &mut terminal).await.unwrap();
    }
    assert_eq!(counts(), (before.0 + 20, before.1 + 20));

    let (estate, head_office) = (&world.estate, BranchPath::head_office());
    estate
        .put_access(&operator(), "main", &head_office, Access::modems(64))
        .await
        .unwrap();
    let policy = class("all", Class::default(), Some("main"));
    estate.put_policy(&operator(), policy).await.unwrap();
    world.clock.advance(10);
    check_in(&world, &mut terminal).await.unwrap();
    assert!(world.known(terminal.id).await.terminal.record.slot.is_some());
    let before = counts();
    for _ in 0..20 {
        check_in(&world, &mut terminal).await.unwrap();
    }
    assert_eq!(counts(), (before.0 + 20, before.1 + 20));
}
