use super::*;
use crate::testing::seed::Seed;
use proptest::prelude::*;
use std::future::Future;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::timeout;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Received(Vec<u8>),
    Timeout(u64),
    Closed,
    Sent(u64),
}

/// Does what it is told, and reports what it sees.
#[derive(Default)]
struct Toy {
    todo: VecDeque<Output<Seen>>,
    wait: Option<Instant>,
    closes: bool,
    polled: usize,
}

impl Toy {
    fn new(todo: impl IntoIterator<Item = Output<Seen>>) -> Self {
        Self {
            todo: todo.into_iter().collect(),
            ..Self::default()
        }
    }

    fn push(&mut self, output: Output<Seen>) {
        self.todo.push_back(output);
    }
}

impl Machine for Toy {
    type Event = Seen;

    fn handle(&mut self, now: Instant, input: Input<'_>) {
        self.push(Output::Event(match input {
            Input::Received(bytes) => Seen::Received(bytes.to_vec()),
            Input::Timeout => Seen::Timeout(now.as_millis()),
            Input::Closed => Seen::Closed,
        }));
        match input {
            Input::Timeout => self.wait = None,
            Input::Closed if self.closes => self.push(Output::Close),
            _ => {}
        }
    }

    fn poll(&mut self) -> Output<Seen> {
        match self.todo.front() {
            Some(Output::Close) => return Output::Close,
            None => return Output::Wait(self.wait),
            Some(_) => {}
        }
        let next = self.todo.pop_front().unwrap();
        if let Output::Transmit(bytes) = &next {
            self.polled += bytes.len();
        }
        next
    }
}

fn send(bytes: impl Into<Bytes>) -> Output<Seen> {
    Output::Transmit(bytes.into())
}

fn event(number: u64) -> Output<Seen> {
    Output::Event(Seen::Sent(number))
}

async fn all<T: Transport>(pump: &mut Pump<T, Seen>, toy: &mut Toy) -> Vec<Seen> {
    let mut seen = Vec::new();
    while let Some(event) = pump.next(toy).await.unwrap() {
        seen.push(event);
    }
    seen
}

#[tokio::test(start_paused = true)]
async fn bytes_go_both_ways_and_are_counted() {
    let (near, mut far) = duplex(1000);
    let mut toy = Toy::new([send("hello "), send("world")]);
    toy.closes = true;
    let mut pump = Pump::new(near);
    far.write_all(b"good day").await.unwrap();
    assert_eq!(
        pump.next(&mut toy).await.unwrap(),
        Some(Seen::Received(b"good day".to_vec()))
    );
    let mut heard = [0; 11];
    far.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"hello world");
    assert_eq!((pump.bytes_in(), pump.bytes_out()), (8, 11));
    drop(far);
    assert_eq!(all(&mut pump, &mut toy).await, [Seen::Closed]);
    assert_eq!(pump.next(&mut toy).await.unwrap(), None);
    assert!(pump.fault().is_none());
}

#[tokio::test(start_paused = true)]
async fn an_event_waits_for_the_bytes_before_it() {
    let (near, mut far) = duplex(4);
    let mut toy = Toy::new([send("12345678"), event(1), send("9"), event(2)]);
    let mut pump = Pump::new(near);
    let second = Duration::from_secs(1);
    assert!(timeout(second, pump.next(&mut toy)).await.is_err());
    let mut heard = [0; 3];
    far.read_exact(&mut heard).await.unwrap();
    assert!(timeout(second, pump.next(&mut toy)).await.is_err());
    far.read_exact(&mut heard).await.unwrap();
    assert_eq!(pump.next(&mut toy).await.unwrap(), Some(Seen::Sent(1)));
    assert_eq!(toy.polled, 8, "what comes after an event is polled after it");
    assert_eq!(pump.next(&mut toy).await.unwrap(), Some(Seen::Sent(2)));
    far.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"789");
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_sends_without_end_does_not_outrun_the_line() {
    let (near, _far) = duplex(100);
    let mut toy = Toy::new((0..1000).map(|_| send(vec![0; 1000])));
    let mut pump = Pump::new(near);
    assert!(timeout(Duration::from_secs(1), pump.next(&mut toy)).await.is_err());
    assert!((BATCH..BATCH + 1000).contains(&toy.polled), "{}", toy.polled);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_reads_is_given_up() {
    let (near, mut far) = duplex(8);
    let mut toy = Toy::new([send("1234567890"), event(1)]);
    toy.closes = true;
    let mut pump = Pump::new(near);
    let begun = pump.now();
    let failure = pump.next(&mut toy).await.unwrap_err();
    assert_eq!(failure.kind(), ErrorKind::TimedOut);
    assert_eq!(pump.now().saturating_since(begun), Duration::from_secs(30));
    assert_eq!(pump.fault().unwrap().kind(), ErrorKind::TimedOut);
    far.write_all(b"late").await.unwrap();
    toy.push(send("never"));
    assert_eq!(
        all(&mut pump, &mut toy).await,
        [Seen::Sent(1), Seen::Received(b"late".to_vec()), Seen::Closed],
        "the machine still gives its last events"
    );
    assert_eq!(pump.bytes_out(), 8);
}

#[tokio::test(start_paused = true)]
async fn patience_begins_anew_with_each_write_and_outlives_cancelling() {
    let (near, mut far) = duplex(8);
    let mut toy = Toy::new([send("12345678")]);
    let mut pump = Pump::new(near).with_write_patience(Duration::from_secs(10));
    let mut heard = [0; 8];
    for number in 0..5 {
        toy.push(send("12345678"));
        toy.push(event(number));
        assert!(timeout(Duration::from_secs(9), pump.next(&mut toy)).await.is_err());
        far.read_exact(&mut heard).await.unwrap();
        assert_eq!(pump.next(&mut toy).await.unwrap(), Some(Seen::Sent(number)));
    }
    toy.push(send("12345678"));
    for _ in 0..4 {
        assert!(timeout(Duration::from_secs(2), pump.next(&mut toy)).await.is_err());
    }
    let failure = timeout(Duration::from_millis(2001), pump.next(&mut toy))
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(failure.kind(), ErrorKind::TimedOut);
}

#[tokio::test(start_paused = true)]
async fn closing_sends_all_and_shuts_down() {
    let (near, mut far) = duplex(4);
    let mut toy = Toy::new([send("goodbye"), event(1), send("!"), Output::Close]);
    let mut pump = Pump::new(near);
    let peer = tokio::spawn(async move {
        let mut heard = String::new();
        far.read_to_string(&mut heard).await.unwrap();
        heard
    });
    assert_eq!(all(&mut pump, &mut toy).await, [Seen::Sent(1)]);
    assert_eq!(peer.await.unwrap(), "goodbye!");
    assert_eq!(pump.next(&mut toy).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn closing_waits_for_the_peers_end_but_not_for_ever() {
    for silent in [false, true] {
        let (near, mut far) = duplex(100);
        let mut toy = Toy::new([send("busy"), Output::Close]);
        let mut pump = Pump::new(near);
        let begun = pump.now();
        let peer = tokio::spawn(async move {
            far.write_all(&[0; 90]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(500)).await;
            let mut heard = Vec::new();
            far.read_to_end(&mut heard).await.unwrap();
            if silent {
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
            heard
        });
        assert_eq!(all(&mut pump, &mut toy).await, []);
        let waited = pump.now().saturating_since(begun);
        assert_eq!(waited, if silent { LINGER } else { Duration::from_millis(500) });
        assert_eq!(pump.bytes_in(), 90);
        drop(pump);
        assert_eq!(peer.await.unwrap(), b"busy");
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_has_ended_still_gets_its_answer() {
    let (near, mut far) = duplex(100);
    let mut toy = Toy::default();
    let mut pump = Pump::new(near);
    far.write_all(b"question").await.unwrap();
    far.shutdown().await.unwrap();
    assert_eq!(
        pump.next(&mut toy).await.unwrap(),
        Some(Seen::Received(b"question".to_vec()))
    );
    toy.push(send("answer"));
    toy.closes = true;
    assert_eq!(all(&mut pump, &mut toy).await, [Seen::Closed]);
    drop(pump);
    let mut heard = String::new();
    far.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "answer");
}

#[tokio::test(start_paused = true)]
async fn what_a_peer_said_before_it_hung_up_is_heard() {
    let (near, mut far) = duplex(8);
    let mut toy = Toy::new([send("a long handshake"), event(1)]);
    toy.closes = true;
    let mut pump = Pump::new(near);
    far.write_all(b"busy").await.unwrap();
    drop(far);
    assert_eq!(
        all(&mut pump, &mut toy).await,
        [Seen::Sent(1), Seen::Received(b"busy".to_vec()), Seen::Closed]
    );
    assert_eq!(pump.fault().unwrap().kind(), ErrorKind::BrokenPipe);
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_waits_on_a_closed_line_has_ended() {
    let (near, far) = duplex(8);
    drop(far);
    let mut toy = Toy {
        wait: Some(Instant::from_millis(50)),
        ..Toy::default()
    };
    let mut pump = Pump::new(near);
    assert_eq!(all(&mut pump, &mut toy).await, [Seen::Closed, Seen::Timeout(50)]);
}

#[tokio::test(start_paused = true)]
async fn timers_are_kept_to_the_millisecond() {
    let (near, mut far) = duplex(8);
    let mut toy = Toy::default();
    let epoch = tokio::time::Instant::now();
    tokio::time::advance(Duration::from_millis(250)).await;
    let mut pump = Pump::since(near, epoch);
    assert_eq!(pump.now(), Instant::from_millis(250));
    for until in [300, 301, 4_000_000] {
        toy.wait = Some(Instant::from_millis(until));
        assert_eq!(pump.next(&mut toy).await.unwrap(), Some(Seen::Timeout(until)));
    }
    toy.wait = Some(Instant::from_millis(u64::MAX));
    assert!(timeout(Duration::from_secs(86_400), pump.next(&mut toy)).await.is_err());
    toy.wait = Some(pump.now() + Duration::from_secs(5));
    far.write_all(b"early").await.unwrap();
    assert_eq!(
        pump.next(&mut toy).await.unwrap(),
        Some(Seen::Received(b"early".to_vec()))
    );
    let due = toy.wait.unwrap();
    assert_eq!(pump.next(&mut toy).await.unwrap(), Some(Seen::Timeout(due.as_millis())));
    toy.wait = Some(Instant::from_millis(0));
    assert!(
        matches!(pump.next(&mut toy).await.unwrap(), Some(Seen::Timeout(_))),
        "one that is past is due at once"
    );
}

#[tokio::test(start_paused = true)]
async fn two_ends_that_both_send_much_do_not_lock_up() {
    let (near, far) = duplex(1000);
    let much = 40;
    let run = |line: DuplexStream| async move {
        let mut toy = Toy::new((0..much).flat_map(|number| [send(vec![7; 1500]), event(number)]));
        let mut pump = Pump::new(line);
        let (mut sent, mut heard) = (0, 0);
        while sent < much || heard < 1500 * 40 {
            match pump.next(&mut toy).await.unwrap().unwrap() {
                Seen::Sent(_) => sent += 1,
                Seen::Received(bytes) => heard += bytes.len(),
                other => panic!("{other:?}"),
            }
        }
        (sent, heard)
    };
    let both = async { tokio::join!(run(near), run(far)) };
    let both = timeout(Duration::from_secs(20), both).await.unwrap();
    assert_eq!(both, ((40, 60_000), (40, 60_000)));
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_read_no_further_than_it_may() {
    let (near, mut far) = duplex(16);
    let mut toy = Toy::new([send(vec![1; 1000])]);
    let mut pump = Pump::new(near);
    let flood = tokio::spawn(async move { far.write_all(&[0; 1 << 20]).await });
    assert!(timeout(Duration::from_secs(5), pump.next(&mut toy)).await.is_err());
    assert_eq!(pump.ahead.len(), AHEAD);
    assert!(!flood.is_finished());
    flood.abort();
}

/// Counts calls; takes pieces one by one unless told otherwise.
struct Counted {
    vectored: bool,
    log: Arc<Mutex<Log>>,
}

#[derive(Default)]
struct Log {
    writes: usize,
    flushes: usize,
    bytes: Vec<u8>,
}

impl AsyncRead for Counted {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Counted {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut log = self.log.lock().unwrap();
        log.writes += 1;
        log.bytes.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.log.lock().unwrap().flushes += 1;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let joined: Vec<u8> = if self.vectored {
            slices.iter().flat_map(|slice| slice.to_vec()).collect()
        } else {
            slices[0].to_vec()
        };
        self.poll_write(cx, &joined)
    }

    fn is_write_vectored(&self) -> bool {
        self.vectored
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_together_is_written_together() {
    for vectored in [false, true] {
        let log: Arc<Mutex<Log>> = Arc::default();
        let mut toy = Toy::new(
            (0..10)
                .map(|number| send(vec![number; 3]))
                .chain([event(1), send("x"), event(2)]),
        );
        let mut pump = Pump::new(Counted {
            vectored,
            log: Arc::clone(&log),
        });
        pump.next(&mut toy).await.unwrap();
        assert_eq!(log.lock().unwrap().writes, 1);
        pump.next(&mut toy).await.unwrap();
        let log = log.lock().unwrap();
        assert_eq!((log.writes, log.flushes), (2, 2));
        let right: Vec<u8> = (0..10).flat_map(|number| [number; 3]).chain(*b"x").collect();
        assert_eq!(log.bytes, right);
        assert_eq!(pump.bytes_out(), 31);
    }
}

/// Polls a future a few times, and then drops it, whatever became of it.
async fn a_while<F: Future>(polls: u64, future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    for _ in 0..polls {
        if let Poll::Ready(done) = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await {
            return Some(done);
        }
        tokio::task::yield_now().await;
    }
    None
}

proptest! {
    #[test]
    fn nothing_is_lost_however_it_is_cut_and_cancelled(seed: u64, buffer in 1..200_usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (near, far) = duplex(buffer);
            let mut chance = Seed::new(seed);
            let mut toy = Toy::default();
            let mut right = Vec::new();
            for number in 0..20_u8 {
                for _ in 0..chance.below(4) {
                    let bytes = vec![number; chance.below(60) as usize];
                    right.extend_from_slice(&bytes);
                    toy.push(send(bytes));
                }
                toy.push(event(number.into()));
            }
            let (mut reader, mut writer) = tokio::io::split(far);
            let mut pace = Seed::new(!seed);
            let talk = tokio::spawn(async move {
                for number in 0..100 {
                    writer.write_all(&[number; 7]).await.unwrap();
                    for _ in 0..pace.below(5) {
                        tokio::task::yield_now().await;
                    }
                }
            });
            let expected = right.len();
            let listen = tokio::spawn(async move {
                let mut heard = vec![0; expected];
                reader.read_exact(&mut heard).await.unwrap();
                heard
            });
            let mut pump = Pump::new(near);
            let (mut sent, mut heard) = (Vec::new(), Vec::new());
            while sent.len() < 20 || heard.len() < 700 {
                match a_while(1 + chance.below(4), pump.next(&mut toy)).await.map(Result::unwrap) {
                    Some(Some(Seen::Sent(number))) => sent.push(number),
                    Some(Some(Seen::Received(bytes))) => heard.extend(bytes),
                    Some(other) => panic!("{other:?}"),
                    None => {}
                }
            }
            talk.await.unwrap();
            assert_eq!(listen.await.unwrap(), right);
            assert_eq!(sent, (0..20).collect::<Vec<_>>());
            assert_eq!(heard, (0..100).flat_map(|number| [number; 7]).collect::<Vec<_>>());
            assert_eq!((pump.bytes_in(), pump.bytes_out()), (700, expected as u64));
        });
    }
}

#[test]
fn an_idle_pump_is_small() {
    assert!(size_of::<Pump<Box<dyn Transport>, [u8; 4096]>>() <= 320);
}
