//! One line of a pool: a task that answers, and nothing that the others would notice.

use super::{Kind, Line};
use crate::at::Phase;
use crate::direct::Cable;
use crate::modem::{Call, Counters, ModemLine, Status};
use crate::port::ModemPort;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tms_core::transport::{Incoming, PeerInfo, Slot, Slots};
use tms_proto::link::Role;
use tokio::io::AsyncReadExt;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// What a line needs of its pool.
pub(super) struct Context {
    pub(super) slots: Slots,
    pub(super) calls: mpsc::Sender<Incoming>,
    pub(super) drain: CancellationToken,
    pub(super) cut: CancellationToken,
    /// Calls on which no link came up.
    pub(super) silent: Arc<AtomicU64>,
    pub(super) status: watch::Sender<Status>,
}

impl Context {
    /// Runs the line until it is drained.
    pub(super) async fn run(self, line: Line) {
        match line.kind {
            Kind::Modem => self.modem(line).await,
            Kind::Cable => self.cable(line).await,
        }
    }

    async fn modem(self, line: Line) {
        let modem = ModemLine::start(line.name.as_str(), line.open, line.profile);
        let serving = async {
            loop {
                tokio::select! {
                    biased;
                    () = self.drain.cancelled() => break,
                    _ = modem.until(|status| status.incoming) => {}
                }
                let slot = tokio::select! {
                    slot = self.slots.take() => slot,
                    // All are in use, and the caller has had enough.
                    _ = modem.until(|status| !status.incoming) => continue,
                    () = self.drain.cancelled() => break,
                };
                if let Ok(call) = modem.answer().await {
                    let peer = PeerInfo {
                        caller: call.caller().cloned(),
                        called: call.called().cloned().or_else(|| line.called.clone()),
                        ..PeerInfo::on_line(line.name.as_str())
                    };
                    let connect = call.connect();
                    let rate = connect.line_rate(line.settings.rate);
                    let (linked, profile) =
                        line.link
                            .link::<Call>(call, Role::Answerer, line.settings.flow, rate, connect.error_corrected);
                    if let Err(error) = linked.up().await {
                        self.nobody(&line.name, &error);
                        continue;
                    }
                    self.give(slot, linked, peer, profile).await;
                }
            }
            // The call that is up runs to its end.
            modem
                .until(|status| matches!(status.phase, Phase::Idle | Phase::Ringing | Phase::Failed))
                .await;
        };
        let mut seen = modem.watch();
        let showing = async {
            loop {
                self.status.send_replace(seen.borrow_and_update().clone());
                if seen.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::select! {
            () = serving => {}
            () = showing => {}
            () = self.cut.cancelled() => modem.cut(),
        }
    }

    fn nobody(&self, name: &str, error: &io::Error) {
        debug!(line = name, %error, "no link came up");
        self.silent.fetch_add(1, Ordering::Relaxed);
    }

    async fn give(
        &self,
        slot: Slot,
        transport: impl tms_core::transport::Transport + 'static,
        peer: PeerInfo,
        profile: tms_core::transport::LinkProfile,
    ) {
        let incoming = Incoming {
            transport: Box::new(slot.hold(transport)),
            peer,
            profile,
        };
        // Where the pool is gone, so is the call.
        let _ = self.calls.send(incoming).await;
    }

    fn show(&self, phase: Phase, fault: Option<String>, count: impl FnOnce(&mut Counters)) {
        self.status.send_modify(|status| {
            (status.phase, status.fault) = (phase, fault);
            count(&mut status.counters);
        });
    }

    async fn cable(self, mut line: Line) {
        let timing = line.profile.timing;
        let mut failures = 0_u32;
        loop {
            let serving = self.one_call(&mut line);
            let served = tokio::select! {
                served = serving => served,
                () = self.drain.cancelled() => return,
            };
            match served {
                Ok(ended) => {
                    failures = 0;
                    // It runs to its end, even where the line is drained.
                    ended.cancelled().await;
                    // DTR stays low long enough for the other end to see it.
                    sleep(timing.dtr).await;
                }
                Err(error) => {
                    warn!(line = line.name, %error, "port is lost");
                    self.show(Phase::Failed, Some(format!("port: {error}")), |counters| {
                        counters.port_errors += 1;
                    });
                    let wait = timing
                        .retry
                        .saturating_mul(1 << failures.min(16))
                        .min(timing.longest_retry);
                    failures += 1;
                    tokio::select! {
                        () = sleep(wait) => {}
                        () = self.drain.cancelled() => return,
                    }
                }
            }
        }
    }

    /// Waits for somebody at the other end of the cable; gives what is cancelled when the call is over.
    async fn one_call(&self, line: &mut Line) -> io::Result<CancellationToken> {
        let mut port = line.open.open()?;
        let _ = port.set_dtr(true);
        self.show(Phase::Idle, None, |_| {});
        // Any byte: the link finds its way from there.
        let _ = port.read_u8().await?;
        let slot = self.slots.take().await;
        let over = CancellationToken::new();
        let rate = Some(line.settings.rate);
        let guard = over.clone().drop_guard();
        let cable = Cable::new(port, line.profile.timing.poll, Some((self.cut.clone(), guard)));
        let (linked, profile) = line.link.link(cable, Role::Answerer, line.settings.flow, rate, None);
        if let Err(error) = linked.up().await {
            self.nobody(&line.name, &error);
            drop(linked);
            return Ok(over);
        }
        self.show(Phase::Online, None, |counters| counters.answered += 1);
        self.give(slot, linked, PeerInfo::on_line(line.name.as_str()), profile)
            .await;
        Ok(over)
    }
}
