//! The task of a line, and its handle.

use super::Time;
use super::call::{Call, Lent};
use super::status::{Counters, Status};
use crate::at::{Connect, DialString, Engine, Event, Failure, Phase, Profile};
use crate::port::{ModemPort, Open, supported};
use bytes::Bytes;
use std::future::pending;
use std::io;
use std::time::Duration;
use thiserror::Error;
use tms_proto::machine::{Input, Machine, Output};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// Why a call could not be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DialError {
    /// The call came to nothing.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// The line is in use.
    #[error("the line is in use")]
    InUse,
    /// The modem or its port is of no use now.
    #[error("{0}")]
    Fault(String),
}

/// There is no call any more that could be answered, or it came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the caller has gone")]
pub struct NoCall;

type Answer<T, E> = oneshot::Sender<Result<T, E>>;

enum Order {
    Dial(DialString, Answer<Call, DialError>),
    Answer(Answer<Call, NoCall>),
}

/// A telephone line with a modem on it. When this is dropped, a call that is up runs to its end, and the port is closed then.
#[derive(Debug)]
pub struct ModemLine {
    cut: CancellationToken,
    orders: mpsc::Sender<Order>,
    status: watch::Receiver<Status>,
}

impl ModemLine {
    /// Starts a line, which begins by bringing its modem into a known state. The name is for logs. Needs a tokio runtime
    /// with time.
    #[must_use]
    pub fn start(name: impl Into<String>, open: Box<dyn Open>, profile: Profile) -> Self {
        let (orders, taken) = mpsc::channel(4);
        let (status, seen) = watch::channel(Status {
            phase: Phase::Preparing,
            incoming: false,
            fault: None,
            counters: Counters::default(),
        });
        let cut = CancellationToken::new();
        let owner = Owner {
            cut: cut.clone(),
            name: name.into(),
            open,
            profile,
            orders: taken,
            status,
            to_dial: None,
            dialling: None,
            answering: None,
        };
        tokio::spawn(owner.run());
        Self {
            cut,
            orders,
            status: seen,
        }
    }

    /// How the line is now.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Ends the call that is up, hangs up and closes the port, for good.
    pub fn cut(&self) {
        self.cut.cancel();
    }

    /// How the line is, as it changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Waits until the line is so; for ever where it never is.
    pub async fn until(&self, mut so: impl FnMut(&Status) -> bool) -> Status {
        let mut status = self.status.clone();
        let found = status
            .wait_for(|status| so(status))
            .await
            .ok()
            .map(|status| status.clone());
        match found {
            Some(status) => status,
            // The task lives as long as this.
            None => pending().await,
        }
    }

    /// Calls a number, once the modem is ready. Dropping the future breaks the call off.
    ///
    /// # Errors
    /// Where there is no connection, the line is in use, or the modem is of no use.
    pub async fn dial(&self, number: DialString) -> Result<Call, DialError> {
        let (answer, answered) = oneshot::channel();
        let gone = || DialError::Fault("the line is closed".to_owned());
        self.orders
            .send(Order::Dial(number, answer))
            .await
            .map_err(|_| gone())?;
        answered.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Answers the call that is [coming in](Status::incoming). Dropping the future breaks the call off.
    ///
    /// # Errors
    /// Where there is none any more, or the modems do not come to terms.
    pub async fn answer(&self) -> Result<Call, NoCall> {
        let (answer, answered) = oneshot::channel();
        self.orders.send(Order::Answer(answer)).await.map_err(|_| NoCall)?;
        answered.await.unwrap_or(Err(NoCall))
    }
}

/// Why a port is not used any more.
enum Over {
    /// It failed.
    Lost(io::Error),
    /// The line was dropped.
    Closed,
}

struct Owner {
    /// The line ends.
    cut: CancellationToken,
    name: String,
    open: Box<dyn Open>,
    profile: Profile,
    orders: mpsc::Receiver<Order>,
    status: watch::Sender<Status>,
    /// To be called when the modem is ready.
    to_dial: Option<(DialString, Answer<Call, DialError>)>,
    dialling: Option<Answer<Call, DialError>>,
    answering: Option<Answer<Call, NoCall>>,
}

/// Ready when whoever asked for this has gone.
async fn forsaken<T, E>(answer: &mut Option<Answer<T, E>>) {
    match answer {
        Some(answer) => answer.closed().await,
        None => pending().await,
    }
}

impl Owner {
    async fn run(mut self) {
        let mut failures = 0_u32;
        loop {
            let error = match self.open.open() {
                Ok(port) => {
                    failures = 0;
                    match self.drive(port).await {
                        Over::Lost(error) => error,
                        Over::Closed => return,
                    }
                }
                Err(error) => error,
            };
            warn!(line = self.name, %error, "port is lost");
            self.count(|counters| counters.port_errors += 1);
            self.fault(format!("port: {error}"));
            let timing = self.profile.timing;
            let wait = timing
                .retry
                .saturating_mul(1 << failures.min(16))
                .min(timing.longest_retry);
            failures += 1;
            tokio::select! {
                () = sleep(wait) => {}
                () = self.cut.cancelled() => return,
                order = self.orders.recv() => match order {
                    // At once, then.
                    Some(Order::Dial(number, answer)) => self.to_dial = Some((number, answer)),
                    Some(Order::Answer(answer)) => drop(answer.send(Err(NoCall))),
                    None => return,
                },
            }
        }
    }

    fn count(&self, count: impl FnOnce(&mut Counters)) {
        self.status.send_modify(|status| count(&mut status.counters));
    }

    /// The modem is of no use: whoever waits for it hears so.
    fn fault(&mut self, fault: String) {
        for answer in [self.to_dial.take().map(|(_, answer)| answer), self.dialling.take()]
            .into_iter()
            .flatten()
        {
            let _ = answer.send(Err(DialError::Fault(fault.clone())));
        }
        if let Some(answer) = self.answering.take() {
            let _ = answer.send(Err(NoCall));
        }
        self.status.send_modify(|status| {
            status.phase = Phase::Failed;
            status.incoming = false;
            status.fault = Some(fault);
        });
    }

    fn show(&self, engine: &Engine) {
        let phase = engine.phase();
        self.status.send_if_modified(|status| {
            let incoming = status.incoming && phase == Phase::Ringing;
            let changed = status.phase != phase || status.incoming != incoming;
            (status.phase, status.incoming) = (phase, incoming);
            changed
        });
    }

    /// Runs an engine on a port for as long as it can be used.
    async fn drive(&mut self, port: Box<dyn ModemPort>) -> Over {
        let time = Time::begin();
        let mut lent = Lent {
            engine: Engine::new(self.profile.clone(), time.now()),
            port,
            time,
        };
        let mut buffer = [0; 512];
        loop {
            let until = loop {
                self.show(&lent.engine);
                match lent.engine.poll() {
                    Output::Transmit(bytes) => {
                        // A modem that is off may hold us for ever; the engine notices that no answer comes.
                        let writing = timeout(self.profile.timing.reply, lent.port.write_all(&bytes));
                        if let Ok(Err(error)) = writing.await {
                            return Over::Lost(error);
                        }
                    }
                    Output::Event(Event::Connected(connect)) => match self.connected(lent, connect).await {
                        Ok(back) => lent = back,
                        Err(over) => return over,
                    },
                    Output::Event(event) => {
                        if let Err(error) = self.event(&mut lent, event) {
                            return Over::Lost(error);
                        }
                    }
                    Output::Wait(until) => break until.and_then(|until| lent.time.at(until)),
                    Output::Close => return Over::Lost(io::ErrorKind::BrokenPipe.into()),
                }
            };
            let watches = !matches!(lent.engine.phase(), Phase::Idle | Phase::Ringing | Phase::Failed);
            tokio::select! {
                read = lent.port.read(&mut buffer) => match read {
                    Ok(0) => return Over::Lost(io::ErrorKind::UnexpectedEof.into()),
                    Ok(length) => {
                        let bytes = buffer.get(..length).unwrap_or_default();
                        lent.engine.handle(lent.time.now(), Input::Received(bytes));
                    }
                    Err(error) => return Over::Lost(error),
                },
                () = async { match until { Some(until) => sleep_until(until).await, None => pending().await } } => {
                    lent.engine.handle(lent.time.now(), Input::Timeout);
                }
                () = sleep(self.profile.timing.poll), if watches => match supported(lent.port.signals()) {
                    Ok(Some(signals)) => lent.engine.carrier(lent.time.now(), signals.carrier),
                    Ok(None) => {}
                    Err(error) => return Over::Lost(error),
                },
                () = self.cut.cancelled() => {
                    leave(lent).await;
                    return Over::Closed;
                }
                order = self.orders.recv() => match order {
                    Some(order) => self.order(&mut lent, order),
                    None => {
                        leave(lent).await;
                        return Over::Closed;
                    }
                },
                () = forsaken(&mut self.dialling) => {
                    self.dialling = None;
                    lent.engine.hang_up(lent.time.now());
                }
                () = forsaken(&mut self.answering) => {
                    self.answering = None;
                    lent.engine.hang_up(lent.time.now());
                }
            }
        }
    }

    fn order(&mut self, lent: &mut Lent, order: Order) {
        let now = lent.time.now();
        match (order, lent.engine.phase()) {
            (Order::Dial(number, answer), Phase::Idle) => self.dial(lent, &number, answer),
            (Order::Dial(number, answer), Phase::Preparing | Phase::HangingUp | Phase::Failed)
                if self.to_dial.as_ref().is_none_or(|(_, other)| other.is_closed()) =>
            {
                self.to_dial = Some((number, answer));
                if lent.engine.phase() == Phase::Failed {
                    lent.engine.hang_up(now);
                }
            }
            // The call before was given up a moment ago, and is being broken off.
            (Order::Dial(number, answer), Phase::Dialling)
                if self.to_dial.is_none() && self.dialling.as_ref().is_some_and(oneshot::Sender::is_closed) =>
            {
                self.to_dial = Some((number, answer));
            }
            (Order::Dial(_, answer), _) => drop(answer.send(Err(DialError::InUse))),
            (Order::Answer(answer), _) => match lent.engine.answer(now) {
                Ok(()) => self.answering = Some(answer),
                Err(_) => drop(answer.send(Err(NoCall))),
            },
        }
    }

    fn dial(&mut self, lent: &mut Lent, number: &DialString, answer: Answer<Call, DialError>) {
        if answer.is_closed() {
            return;
        }
        match lent.engine.dial(lent.time.now(), number) {
            Ok(()) => self.dialling = Some(answer),
            Err(_) => drop(answer.send(Err(DialError::InUse))),
        }
    }

    fn event(&mut self, lent: &mut Lent, event: Event) -> io::Result<()> {
        match event {
            Event::Dtr(on) => {
                if supported(lent.port.set_dtr(on))?.is_none() {
                    lent.engine.without_dtr();
                }
            }
            Event::Discard => drop(supported(lent.port.discard())?),
            Event::Ready => {
                debug!(line = self.name, "modem is ready");
                self.status.send_modify(|status| status.fault = None);
                if let Some((number, answer)) = self.to_dial.take() {
                    self.dial(lent, &number, answer);
                }
            }
            Event::Fault(fault) => {
                warn!(line = self.name, %fault, "modem is of no use");
                self.count(|counters| counters.faults += 1);
                self.fault(fault.to_string());
            }
            Event::Incoming => self.status.send_modify(|status| {
                status.phase = Phase::Ringing;
                status.incoming = true;
            }),
            Event::RingEnded => self.count(|counters| counters.missed += 1),
            Event::NotConnected(failure) => {
                debug!(line = self.name, %failure, "no connection");
                if let Some(answer) = self.dialling.take() {
                    self.count(|counters| counters.failed_out += 1);
                    let _ = answer.send(Err(failure.into()));
                } else if let Some(answer) = self.answering.take() {
                    self.count(|counters| counters.failed_in += 1);
                    let _ = answer.send(Err(NoCall));
                }
            }
            Event::Ended => lent.engine.hang_up(lent.time.now()),
            Event::Connected(_) | Event::Data(_) => {}
        }
        Ok(())
    }

    /// A call is up: lends the port to it until it is over, and then hangs up.
    async fn connected(&mut self, mut lent: Lent, connect: Connect) -> Result<Lent, Over> {
        let mut rest = Vec::new();
        while let Output::Event(Event::Data(bytes)) = lent.engine.poll() {
            rest.extend_from_slice(&bytes);
        }
        let poll = self.profile.timing.poll;
        let (call, mut comes_home) = Call::new(lent, connect, Bytes::from(rest), poll, self.cut.clone());
        info!(line = self.name, ?call, "connected");
        self.status.send_modify(|status| {
            (status.phase, status.incoming) = (Phase::Online, false);
            if self.dialling.is_some() {
                status.counters.dialled += 1;
            } else {
                status.counters.answered += 1;
            }
        });
        // Whoever does not want it any more drops it. One that the modem took by itself has nobody who wants it.
        if let Some(answer) = self.dialling.take() {
            let _ = answer.send(Ok(call));
        } else if let Some(answer) = self.answering.take() {
            let _ = answer.send(Ok(call));
        }
        let mut closed = false;
        let patience = self.profile.timing.reply;
        let mut lent = loop {
            let waiting = self.to_dial.is_some();
            tokio::select! {
                back = &mut comes_home => match back {
                    Ok(lent) => break lent,
                    Err(_) => return Err(Over::Lost(io::ErrorKind::BrokenPipe.into())),
                },
                order = self.orders.recv(), if !closed => match order {
                    // Whoever had the call may be about to end it.
                    Some(Order::Dial(number, answer)) if !waiting => self.to_dial = Some((number, answer)),
                    Some(Order::Dial(_, answer)) => drop(answer.send(Err(DialError::InUse))),
                    Some(Order::Answer(answer)) => drop(answer.send(Err(NoCall))),
                    // The line was dropped: the call is its last.
                    None => closed = true,
                },
                () = sleep(patience), if waiting => if let Some((_, answer)) = self.to_dial.take() {
                    let _ = answer.send(Err(DialError::InUse));
                },
            }
        };
        linger(&mut lent, self.profile.timing.linger).await;
        lent.engine.hang_up(lent.time.now());
        if closed || self.cut.is_cancelled() {
            leave(lent).await;
            return Err(Over::Closed);
        }
        Ok(lent)
    }
}

/// The longest time that a line takes to hang up before its port is closed.
const LEAVE: Duration = Duration::from_secs(15);

/// Lets the modem send what it has, unless the other side has hung up already.
async fn linger(lent: &mut Lent, time: Duration) {
    if lent.engine.phase() != Phase::Online {
        return;
    }
    let mut buffer = [0; 512];
    let port = &mut lent.port;
    let passing_over = async { while matches!(port.read(&mut buffer).await, Ok(1..)) {} };
    let _ = timeout(time, passing_over).await;
}

/// The line is closed for good: leaves the modem on hook, where its port can do that at once.
async fn leave(mut lent: Lent) {
    let _ = lent.port.set_dtr(false);
    let idle = matches!(lent.engine.phase(), Phase::Idle | Phase::Failed);
    if !idle {
        lent.engine.hang_up(lent.time.now());
        let hanging_up = finish(&mut lent);
        let _ = timeout(LEAVE, hanging_up).await;
    }
}

/// Runs the engine until the modem has hung up.
async fn finish(lent: &mut Lent) {
    let mut buffer = [0; 512];
    while matches!(
        lent.engine.phase(),
        Phase::HangingUp | Phase::Online | Phase::Dialling | Phase::Answering
    ) {
        match lent.engine.poll() {
            Output::Transmit(bytes) => {
                if lent.port.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Output::Event(Event::Dtr(on)) => {
                if supported(lent.port.set_dtr(on)).ok().flatten().is_none() {
                    lent.engine.without_dtr();
                }
            }
            Output::Event(_) => {}
            Output::Close => return,
            Output::Wait(until) => tokio::select! {
                read = lent.port.read(&mut buffer) => match read {
                    Ok(length @ 1..) => {
                        let bytes = buffer.get(..length).unwrap_or_default();
                        lent.engine.handle(lent.time.now(), Input::Received(bytes));
                    }
                    _ => return,
                },
                () = async { match until.and_then(|until| lent.time.at(until)) {
                    Some(until) => sleep_until(until).await,
                    None => pending().await,
                } } => lent.engine.handle(lent.time.now(), Input::Timeout),
            },
        }
    }
}
