//! One call, from its line to the head office and back.

use crate::config::Limits;
use futures_util::{SinkExt, StreamExt};
use metrics::counter;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tms_core::pump::Pump;
use tms_core::transport::proxied::header;
use tms_core::transport::tcp::TcpDial;
use tms_core::transport::{Dial, Incoming, Outgoing};
use tms_proto::code::ResultCode;
use tms_proto::codec::CodecError;
use tms_proto::envelope::{Envelope, Frame, Tpdu};
use tms_proto::session::{ServerConfig, ServerEvent, ServerSession};
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::codec::{FramedRead, FramedWrite};
use tracing::{info, warn};

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The terminal hung up, or said all that it had to say.
    Terminal,
    /// The head office did.
    Office,
    /// Nobody said anything for too long.
    Silence,
    /// The call took longer than a call may.
    TooLong,
}

impl End {
    const fn name(self) -> &'static str {
        match self {
            Self::Terminal => "terminal",
            Self::Office => "office",
            Self::Silence => "silence",
            Self::TooLong => "too long",
        }
    }
}

/// Bytes of payload that went through.
#[derive(Default)]
struct Carried {
    up: AtomicU64,
    down: AtomicU64,
}

/// What both directions of a call know.
struct Common {
    /// Where the office's frames go, behind an access server: back to where the terminal's last one came from (§2.2).
    answer_to: Option<Tpdu>,
    /// When a frame came last.
    heard: Instant,
}

/// How long the end of a call may take.
const LINGER: Duration = Duration::from_secs(10);

/// Forwards one call.
pub(crate) async fn call(incoming: Incoming, upstream: &Mutex<TcpDial>, limits: &Limits) {
    let mut dial = upstream.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let answer = dial.dial().await;
    // The server that answered is called first from now on.
    *upstream.lock().unwrap_or_else(PoisonError::into_inner) = dial;
    let office = match answer {
        Ok(office) => office,
        Err(error) => {
            counter!("tms_gateway_unreachable_total").increment(1);
            warn!(%error, "the head office does not answer, the terminal is asked to call again");
            turn_away(incoming, limits).await;
            return;
        }
    };
    let carried = Carried::default();
    let outcome = forward(incoming, office, limits, &carried).await;
    let (up, down) = (carried.up.load(Ordering::Relaxed), carried.down.load(Ordering::Relaxed));
    counter!("tms_gateway_payload_bytes_total", "way" => "up").increment(up);
    counter!("tms_gateway_payload_bytes_total", "way" => "down").increment(down);
    match outcome {
        Ok(end) => {
            counter!("tms_gateway_calls_total", "end" => end.name()).increment(1);
            info!(by = end.name(), up, down, "call ended");
        }
        Err(error) => {
            counter!("tms_gateway_calls_total", "end" => "error").increment(1);
            info!(%error, up, down, "call broke off");
        }
    }
}

/// Passes frames on, each whole, until one end has no more. In each direction a frame is read only when the one before it was
/// taken: who sends faster than the other receives is made to wait.
async fn forward(
    incoming: Incoming,
    mut office: Outgoing,
    limits: &Limits,
    carried: &Carried,
) -> Result<End, CodecError> {
    // What the caller reached the gateway at is of no use to the head office; but a header has two addresses of one family.
    let header = header(&incoming.peer, incoming.peer.address, incoming.profile.bits_per_second)?;
    office.transport.write_all(&header).await?;
    let envelope = incoming.profile.envelope;
    let (reader, writer) = tokio::io::split(incoming.transport);
    let mut terminal = (FramedRead::new(reader, envelope), FramedWrite::new(writer, envelope));
    let (reader, writer) = tokio::io::split(office.transport);
    let mut office = (
        FramedRead::new(reader, Envelope::TCP),
        FramedWrite::new(writer, Envelope::TCP),
    );
    let common = Mutex::new(Common {
        answer_to: None,
        heard: Instant::now(),
    });
    let common = || common.lock().unwrap_or_else(PoisonError::into_inner);
    let up = async {
        while let Some(Frame { tpdu, payload }) = terminal.0.next().await.transpose()? {
            *common() = Common {
                answer_to: tpdu.map(Tpdu::swapped),
                heard: Instant::now(),
            };
            add(&carried.up, payload.len());
            office.1.send(Frame { tpdu: None, payload }).await?;
        }
        Ok::<_, CodecError>(End::Terminal)
    };
    let down = async {
        while let Some(Frame { payload, .. }) = office.0.next().await.transpose()? {
            add(&carried.down, payload.len());
            let tpdu = {
                let mut common = common();
                common.heard = Instant::now();
                common.answer_to
            };
            terminal.1.send(Frame { tpdu, payload }).await?;
        }
        Ok::<_, CodecError>(End::Office)
    };
    let idle = Duration::from_secs(limits.idle_seconds);
    let silence = async {
        loop {
            let until = common().heard + idle;
            if until <= Instant::now() {
                return;
            }
            sleep_until(until).await;
        }
    };
    let end = tokio::select! {
        end = up => end?,
        end = down => end?,
        () = silence => End::Silence,
        () = sleep(Duration::from_secs(limits.call_seconds)) => End::TooLong,
    };
    // What is on the way to either end arrives before the end does.
    let close = async {
        let _ = office.1.close().await;
        let _ = terminal.1.close().await;
    };
    let _ = timeout(LINGER, close).await;
    Ok(end)
}

fn add(total: &AtomicU64, bytes: usize) {
    total.fetch_add(u64::try_from(bytes).unwrap_or_default(), Ordering::Relaxed);
}

/// Answers a terminal in the head office's place: it is busy, call again. That is not secured, and no terminal believes more of it
/// than that it may wait (§4.7).
async fn turn_away(incoming: Incoming, limits: &Limits) {
    let mut pump = Pump::new(incoming.transport);
    let config = ServerConfig {
        envelope: incoming.profile.envelope,
        ..ServerConfig::default()
    };
    let mut session = ServerSession::new(&config, pump.now());
    loop {
        match pump.next(&mut session).await {
            Ok(Some(ServerEvent::Hello(_))) => {
                let _ = session.busy(pump.now(), limits.retry_seconds, Some(ResultCode::Busy));
            }
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return,
        }
    }
}
