//! The port of a simulated modem, and a cable without one.

use super::line::{Arrivals, Line, Way};
use crate::port::{ModemPort, Open, Signals};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep_until;

/// Bytes that the queue of a serial port has, each way.
const QUEUE: usize = 4096;

/// The lines beside the data.
#[derive(Debug)]
pub(super) struct Wires {
    pub(super) dtr: watch::Sender<bool>,
    pub(super) signals: Mutex<Signals>,
    /// There are none in the cable.
    pub(super) missing: bool,
    /// A port is open.
    pub(super) taken: AtomicBool,
}

impl Wires {
    pub(super) fn new(missing: bool) -> Arc<Self> {
        Arc::new(Self {
            dtr: watch::Sender::new(false),
            signals: Mutex::default(),
            missing,
            taken: AtomicBool::new(false),
        })
    }

    pub(super) fn set(&self, change: impl FnOnce(&mut Signals)) {
        change(&mut self.signals.lock().unwrap());
    }
}

/// The port of a [`SimModem`](super::SimModem), or an end of a [`cable`]. Closing it drops DTR.
#[derive(Debug)]
pub struct SimPort {
    stream: DuplexStream,
    wires: Arc<Wires>,
}

impl SimPort {
    /// A port on these wires, and what the equipment reads and writes.
    pub(super) fn open(wires: &Arc<Wires>) -> io::Result<(Self, DuplexStream)> {
        if wires.taken.swap(true, Ordering::SeqCst) {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        let (stream, equipment) = tokio::io::duplex(QUEUE);
        wires.dtr.send_replace(true);
        let port = Self {
            stream,
            wires: Arc::clone(wires),
        };
        Ok((port, equipment))
    }

    fn lines<T>(&self, value: T) -> io::Result<T> {
        if self.wires.missing {
            Err(io::ErrorKind::Unsupported.into())
        } else {
            Ok(value)
        }
    }
}

impl Drop for SimPort {
    fn drop(&mut self) {
        self.wires.dtr.send_replace(false);
        self.wires.taken.store(false, Ordering::SeqCst);
    }
}

impl ModemPort for SimPort {
    fn set_dtr(&mut self, on: bool) -> io::Result<()> {
        self.lines(())?;
        self.wires.dtr.send_replace(on);
        Ok(())
    }

    fn set_rts(&mut self, _: bool) -> io::Result<()> {
        self.lines(())
    }

    fn set_break(&mut self, _: bool) -> io::Result<()> {
        self.lines(())
    }

    fn signals(&mut self) -> io::Result<Signals> {
        self.lines(*self.wires.signals.lock().unwrap())
    }

    fn discard(&mut self) -> io::Result<()> {
        let mut buffer = [0; QUEUE];
        let mut buffer = ReadBuf::new(&mut buffer);
        let waker = std::task::Waker::noop();
        let _ = Pin::new(&mut self.stream).poll_read(&mut Context::from_waker(waker), &mut buffer);
        Ok(())
    }
}

impl AsyncRead for SimPort {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for SimPort {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
}

/// One end of a [`cable`], whose port can be opened again and again.
#[derive(Debug)]
pub struct CableEnd {
    wires: Arc<Wires>,
    ports: mpsc::UnboundedSender<DuplexStream>,
}

impl CableEnd {
    /// Opens its port, one at a time.
    #[must_use]
    pub fn opener(&self) -> Box<dyn Open> {
        let (wires, ports) = (Arc::clone(&self.wires), self.ports.clone());
        Box::new(move || {
            let (port, equipment) = SimPort::open(&wires)?;
            ports.send(equipment).map_err(|_| io::ErrorKind::NotFound)?;
            Ok(port)
        })
    }
}

/// A null-modem cable, on which bytes fare as on this line: the DTR of one end is the DCD and the DSR of the other. It lasts
/// as long as one of its ends. Needs a tokio runtime.
#[must_use]
pub fn cable(line: Line) -> (CableEnd, CableEnd) {
    let wires = [Wires::new(false), Wires::new(false)];
    let (there, arrives_there) = Way::new(line, 0);
    let (back, arrives_back) = Way::new(line, 1);
    let end = |near: usize, way, arrivals| {
        let (ports, opened) = mpsc::unbounded_channel();
        tokio::spawn(plug(
            Arc::clone(&wires[near]),
            Arc::clone(&wires[1 - near]),
            opened,
            way,
            arrivals,
        ));
        CableEnd {
            wires: Arc::clone(&wires[near]),
            ports,
        }
    };
    (end(0, there, arrives_back), end(1, back, arrives_there))
}

/// Runs one end of a cable.
async fn plug(
    near: Arc<Wires>,
    far: Arc<Wires>,
    mut opened: mpsc::UnboundedReceiver<DuplexStream>,
    mut way: Way,
    mut arrivals: Arrivals,
) {
    let mut dtr = near.dtr.subscribe();
    let wires = async {
        loop {
            let on = *dtr.borrow_and_update();
            far.set(|signals| (signals.carrier, signals.ready) = (on, on));
            if dtr.changed().await.is_err() {
                return;
            }
        }
    };
    let bytes = async {
        while let Some(equipment) = opened.recv().await {
            carry(equipment, &mut way, &mut arrivals).await;
        }
    };
    tokio::join!(wires, bytes);
}

/// Carries bytes for as long as the port is open.
async fn carry(equipment: DuplexStream, way: &mut Way, arrivals: &mut Arrivals) {
    let (mut read, mut write) = tokio::io::split(equipment);
    let sending = async {
        let mut buffer = [0; QUEUE];
        loop {
            let room = way.room().min(QUEUE);
            if room == 0 {
                sleep_until(way.ready_at()).await;
                continue;
            }
            match read.read(&mut buffer[..room]).await {
                Ok(length @ 1..) => way.send(&buffer[..length]),
                _ => return,
            }
        }
    };
    let receiving = async {
        while let Some((at, bytes)) = arrivals.recv().await {
            sleep_until(at).await;
            if write.write_all(&bytes).await.is_err() {
                return;
            }
        }
        // The other end is gone. This one is not told.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = sending => {}
        () = receiving => {}
    }
}
