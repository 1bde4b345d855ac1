//! Two links and a line between them, in virtual time.

use super::line::Way;
use tms_proto::link::{Config, Down, Link, LinkEvent};
use tms_proto::machine::{Input, Instant, Machine, Output};

/// One end, and who uses it.
pub(crate) struct End {
    pub(crate) link: Link,
    /// What is to be written, in pieces that are written together.
    pub(crate) script: Vec<Vec<u8>>,
    /// How much of it was written.
    pub(crate) written: usize,
    /// The stream is closed when all of it is.
    pub(crate) closes: bool,
    /// The next pieces are written when so many bytes have come.
    pub(crate) waits: Vec<usize>,
    pub(crate) heard: Vec<u8>,
    /// Bytes that were heard and not yet used; they are used when there are so many.
    unused: usize,
    pub(crate) lazy: usize,
    pub(crate) up: bool,
    pub(crate) ended: bool,
    pub(crate) delivered: bool,
    pub(crate) down: Option<Down>,
    /// It was told that the line is closed.
    pub(crate) closed_line: bool,
    /// It has hung up.
    pub(crate) hung_up: bool,
}

impl End {
    pub(crate) fn new(config: &Config, nonce: u8) -> Self {
        Self {
            link: Link::new(config, [nonce; 4], Instant::from_millis(0)),
            script: Vec::new(),
            written: 0,
            closes: true,
            waits: Vec::new(),
            heard: Vec::new(),
            unused: 0,
            lazy: 0,
            up: false,
            ended: false,
            delivered: false,
            down: None,
            closed_line: false,
            hung_up: false,
        }
    }

    /// All that it writes.
    pub(crate) fn content(&self) -> Vec<u8> {
        self.script.concat()
    }

    fn use_stream(&mut self, now: Instant) {
        while self.link.room() > 0
            && let Some(piece) = self.script.get(self.written)
            && self
                .waits
                .get(self.written)
                .is_none_or(|wait| self.heard.len() >= *wait)
        {
            // What is left of one stays before the others.
            let taken = self.link.send(now, piece);
            if taken == 0 {
                break;
            }
            let rest = piece[taken..].to_vec();
            if rest.is_empty() {
                self.written += 1;
            } else {
                let whole = piece[..taken].to_vec();
                self.script[self.written] = whole;
                self.script.insert(self.written + 1, rest);
                if self.waits.len() > self.written {
                    let wait = self.waits[self.written];
                    self.waits.insert(self.written + 1, wait);
                }
                self.written += 1;
            }
        }
        if self.closes && self.written == self.script.len() {
            self.link.close(now);
        }
        if self.unused > self.lazy {
            self.link.consumed(now, self.unused);
            self.unused = 0;
        }
    }

    fn event(&mut self, event: LinkEvent) {
        assert!(self.down.is_none(), "an event after the last: {event:?}");
        match event {
            LinkEvent::Up => {
                assert!(!self.up, "up twice");
                self.up = true;
            }
            LinkEvent::Received(bytes) => {
                assert!(self.up && !self.ended && !bytes.is_empty());
                self.unused += bytes.len();
                self.heard.extend_from_slice(&bytes);
            }
            LinkEvent::Ended => {
                assert!(!self.ended, "ended twice");
                self.ended = true;
            }
            LinkEvent::Delivered => {
                assert!(!self.delivered, "delivered twice");
                self.delivered = true;
            }
            LinkEvent::Down(why) => self.down = Some(why),
        }
    }
}

/// Two ends, and the line between them.
pub(crate) struct World {
    /// Microseconds.
    pub(crate) now: u64,
    pub(crate) ends: [End; 2],
    /// From each end to the other.
    pub(crate) ways: [Way; 2],
    /// When the line is cut, in microseconds.
    pub(crate) cut: Option<u64>,
    pub(crate) trace: Option<Vec<String>>,
}

impl World {
    pub(crate) fn new(ends: [End; 2], ways: [Way; 2]) -> Self {
        Self {
            now: 0,
            ends,
            ways,
            cut: None,
            trace: None,
        }
    }

    /// Runs until both are down, or `until` says that it is enough, or so many seconds have passed.
    pub(crate) fn run(&mut self, seconds: u64, mut until: impl FnMut(&[End; 2]) -> bool) {
        while self.now <= seconds * 1_000_000 {
            let waits = [0, 1].map(|one| self.drain(one));
            if until(&self.ends) || self.ends.iter().all(|end| end.down.is_some()) {
                return;
            }
            let next = waits
                .iter()
                .flatten()
                .copied()
                .chain(self.ways.iter().filter_map(Way::due))
                .chain(self.cut.filter(|cut| *cut > self.now))
                .min();
            // Where only one has hung up the other is to hear of it.
            let next = next.unwrap_or(self.now + 1);
            self.now = next.max(self.now + 1);
            let now = Instant::from_millis(self.now / 1000);
            let cut = self.cut.is_some_and(|cut| self.now >= cut);
            for one in 0..2 {
                let bytes = self.ways[one].take(self.now);
                // One that hangs up is heard to the last byte that it sent.
                let cut = cut || self.ends[one].hung_up && bytes.is_empty() && self.ways[one].due().is_none();
                let end = &mut self.ends[1 - one];
                if end.down.is_some() {
                    continue;
                }
                if cut {
                    if !end.closed_line {
                        end.closed_line = true;
                        end.link.handle(now, Input::Closed);
                    }
                } else if !bytes.is_empty() {
                    end.link.handle(now, Input::Received(&bytes));
                } else {
                    end.link.handle(now, Input::Timeout);
                }
            }
        }
    }

    fn drain(&mut self, one: usize) -> Option<u64> {
        let now = Instant::from_millis(self.now / 1000);
        let mut steps = 0;
        loop {
            steps += 1;
            assert!(steps < 10_000, "a machine that never waits");
            self.ends[one].use_stream(now);
            match self.ends[one].link.poll() {
                Output::Transmit(bytes) => {
                    if let Some(trace) = &mut self.trace {
                        trace.push(format!("{} {one} {}", self.now / 1000, hex::encode(&bytes)));
                    }
                    self.ways[one].put(self.now, &bytes);
                }
                Output::Event(event) => self.ends[one].event(event),
                // A deadline that has passed comes with the next input, in a millisecond.
                Output::Wait(until) => return until.map(|until| (until.as_millis() * 1000).max(self.now + 1000)),
                Output::Close => {
                    self.ends[one].hung_up = true;
                    return None;
                }
            }
        }
    }
}
