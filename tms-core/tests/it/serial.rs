//! Whole sessions over a serial line with a link on it, in virtual time: what a check-in takes, and what a cut costs.

use crate::agent::terminal::{Kit, Terminal};
use crate::world::World;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tms_core::agent::{Call, CallEnd, CallReport, Progress};
use tms_core::transport::LinkProfile;
use tms_core::transport::linked::Linked;
use tms_proto::code::TriggerKind;
use tms_proto::handshake::Mode;
use tms_proto::link::{Config, Role};
use tms_proto::message::Trigger;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::time::{Instant, sleep_until};

/// Bytes that pass at once.
const PORTION: usize = 8;

/// A line of some rate and latency; it is cut when so many bytes have come to the caller.
#[derive(Clone, Copy)]
struct Line {
    bits_per_second: u32,
    latency: Duration,
    cut: u64,
}

impl Line {
    /// The two ends, and how many bytes have come to the caller.
    fn open(self) -> (DuplexStream, DuplexStream, Arc<AtomicU64>) {
        let (caller, near) = duplex(1024);
        let (answerer, far) = duplex(1024);
        let (near_in, near_out) = split(near);
        let (far_in, far_out) = split(far);
        let carried = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&carried);
        tokio::spawn(async move {
            // When one way is over the line is: both ends are dropped.
            tokio::select! {
                () = self.carry(near_in, far_out, u64::MAX, Arc::default()) => {}
                () = self.carry(far_in, near_out, self.cut, counted) => {}
            }
        });
        (caller, answerer, carried)
    }

    async fn carry(
        self,
        mut from: ReadHalf<DuplexStream>,
        mut to: WriteHalf<DuplexStream>,
        cut: u64,
        carried: Arc<AtomicU64>,
    ) {
        let mut free = Instant::now();
        let mut way: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
        let mut closed = false;
        let mut buffer = [0; PORTION];
        while !closed || !way.is_empty() {
            let due = way.front().map(|(due, _)| *due);
            tokio::select! {
                biased;
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    let (_, bytes) = way.pop_front().unwrap();
                    let before = carried.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                    let room = usize::try_from(cut - before).unwrap_or(usize::MAX).min(bytes.len());
                    if to.write_all(&bytes[..room]).await.is_err() || room < bytes.len() {
                        return;
                    }
                }
                // What is on the line is bounded by what a modem holds, and the latency.
                count = from.read(&mut buffer), if !closed && way.len() < 4096 => match count {
                    Ok(count) if count > 0 => {
                        let each = Duration::from_secs(10) / self.bits_per_second;
                        free = free.max(Instant::now()) + each * count as u32;
                        way.push_back((free + self.latency, buffer[..count].to_vec()));
                        // The next is read when the line is free for it.
                        sleep_until(free - each).await;
                    }
                    _ => closed = true,
                },
            }
        }
    }
}

/// How far a download was when so many octets had come to the terminal.
type Track = Vec<(u64, u64)>;

/// One call over the line; gives its track, and the time from the first octet to the hang-up.
async fn call(world: &World, terminal: &mut Terminal, line: Line) -> (CallReport, Track, Duration) {
    let (caller, answerer, carried) = line.open();
    let profile = LinkProfile::serial(line.bits_per_second);
    let config = |role| Config {
        bits_per_second: Some(line.bits_per_second),
        ..Config::new(role)
    };
    let start = Instant::now();
    world.answer(
        Linked::with_nonce(answerer, config(Role::Answerer), [2; 4]),
        "line 1",
        profile,
    );
    let transport = Linked::with_nonce(caller, config(Role::Caller), [1; 4]);
    let mut track = Track::new();
    let mut progress = |progress: Progress<'_>| track.push((progress.held, carried.load(Ordering::Relaxed)));
    let mut call = Call::new(Trigger::of(TriggerKind::Schedule));
    call.profile = profile;
    call.progress = Some(&mut progress);
    let report = terminal.agent.call(transport, call).await;
    (report, track, start.elapsed())
}

async fn setting() -> (World, Terminal) {
    let world = World::new().await;
    let mut kit = Kit::new().await;
    kit.identity.terminal = world.enrol("0001").await;
    kit.clock = Arc::clone(&world.clock);
    let keys = tms_core::custody::MemoryKeys::new();
    let key = tms_core::custody::MainKey::Aes128(tms_proto::secret::Secret::new([0x11; 16]));
    keys.insert(kit.identity.terminal, 1, key);
    kit.identity.main_key.as_mut().unwrap().keys = Arc::new(keys);
    let terminal = kit.start().await;
    (world, terminal)
}

/// §13.3 and the line: a terminal that has nothing to do is gone in five seconds.
#[tokio::test(start_paused = true)]
async fn a_resumed_check_in_is_short_on_the_slowest_line() {
    let (world, mut terminal) = setting().await;
    let line = Line {
        bits_per_second: 1_200,
        latency: Duration::from_millis(100),
        cut: u64::MAX,
    };
    let (first, ..) = call(&world, &mut terminal, line).await;
    assert_eq!(first.end, CallEnd::Done, "{first}");
    let (report, _, elapsed) = call(&world, &mut terminal, line).await;
    assert_eq!(
        (report.end.clone(), report.mode),
        (CallEnd::Done, Some(Mode::Ticket)),
        "{report}"
    );
    assert!(report.unchanged && report.recorded, "{report}");
    println!("{elapsed:?} from the first octet to the hang-up");
    assert!(elapsed <= Duration::from_secs(5), "{elapsed:?}");
}

/// What was lost with a call that was cut is less than a record.
#[tokio::test(start_paused = true)]
async fn a_call_that_was_cut_goes_on_where_it_was() {
    const SIZE: usize = 100_000;
    let line = Line {
        bits_per_second: 9_600,
        latency: Duration::from_millis(100),
        cut: u64::MAX,
    };
    let mut seed = tms_core::testing::seed::Seed::new(1);
    let content: Vec<u8> = (0..SIZE).map(|_| seed.next() as u8).collect();
    for cut in [50_000, 50_300, 50_700, 51_100, 51_500] {
        let (world, mut terminal) = setting().await;
        call(&world, &mut terminal, line).await;
        let manifest = world.publish(&content, 2).await;
        world.queue(terminal.kit.identity.terminal, &manifest).await;
        let (broken, track, _) = call(&world, &mut terminal, Line { cut, ..line }).await;
        assert!(matches!(broken.end, CallEnd::Broken(_)), "{broken}");
        world.clock.advance(100_000);
        let (report, ..) = call(&world, &mut terminal, line).await;
        assert_eq!(report.end, CallEnd::Done, "{report}");
        assert_eq!(report.downloads[0].until, SIZE as u64, "{report}");
        // All that it had taken up is kept.
        let (held, octets) = *track.last().unwrap();
        assert_eq!(report.downloads[0].from, held, "{report}");
        // What had come besides is sent again: less than one record of 1,024 bytes, with its envelope and its frame, written so
        // that it may stand on the line.
        let again = cut.saturating_sub(octets);
        println!("cut at {cut}: {held} bytes are held, {again} octets are sent again");
        assert!(
            again <= 1_024 + 27 + 8 + 20,
            "cut at {cut}: {again} octets are sent again"
        );
    }
}
