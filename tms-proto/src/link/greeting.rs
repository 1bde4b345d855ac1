//! The greeting (§3.6): who speaks, which call it is, and what each end can take.

use super::check::{Check, SIZE};
use super::coding::{Coding, EscapeMap, FLAG, read_seven};
use super::{MAX_PAYLOAD, Role};
use alloc::vec::Vec;

/// The version of the link that this is.
const VERSION: u8 = 1;

/// Characters with wrong parity: they tell a path of eight bits from one of seven.
const PROBE: [u8; 3] = [0xC1, 0xC2, 0xC4];

/// The same as a path of seven bits shows them.
const PROBE_SEVEN: [u8; 3] = [0x41, 0x42, 0x44];

const GREETING: u8 = 0x60;
const VERSIONS: u8 = 0x1F;
const SEVEN: u8 = 0x01;
const HALF: u8 = 0x02;
const ECHO: u8 = 0x04;
const MAP: u8 = 0x08;
const HIGH: u8 = 0x01;
const DELETES: u8 = 0x02;

/// Payloads are counted in so many bytes.
const PAYLOAD_UNIT: u16 = 16;

/// The most characters that a greeting has, with what later versions may add.
const MAX_CHARACTERS: usize = 96;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Greeting {
    pub(super) role: Role,
    pub(super) version: u8,
    /// A number that is another one in each call.
    pub(super) nonce: [u8; 4],
    /// The peer's number, where it is known.
    pub(super) echo: Option<[u8; 4]>,
    /// Frames are to be written with seven bits.
    pub(super) seven: bool,
    /// Only one end may speak at a time.
    pub(super) half: bool,
    pub(super) escape: EscapeMap,
    /// The largest payload of a frame that this end takes, in bytes.
    pub(super) payload: u16,
}

/// What the path did to a greeting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Path {
    Eight,
    Seven,
}

impl Greeting {
    pub(super) const fn new(role: Role, nonce: [u8; 4]) -> Self {
        Self {
            role,
            version: VERSION,
            nonce,
            echo: None,
            seven: false,
            half: false,
            escape: EscapeMap::NONE,
            payload: MAX_PAYLOAD,
        }
    }

    fn body(&self) -> Vec<u8> {
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let mapped = self.escape != EscapeMap::NONE;
        let flags =
            flag(self.seven, SEVEN) | flag(self.half, HALF) | flag(self.echo.is_some(), ECHO) | flag(mapped, MAP);
        let [_, payload] = (self.payload / PAYLOAD_UNIT).min(255).to_be_bytes();
        let mut body = Vec::from([self.role.mark() | GREETING | self.version & VERSIONS, flags]);
        body.extend(self.nonce);
        body.push(payload);
        body.extend(self.echo.iter().flatten());
        if mapped {
            body.extend(self.escape.controls.to_be_bytes());
            body.push(flag(self.escape.high, HIGH) | flag(self.escape.deletes, DELETES));
        }
        let check = Check::PLAIN.of(&body);
        body.extend(check.to_be_bytes());
        body
    }

    /// The whole greeting as it stands on the line, flags included.
    pub(super) fn write(&self) -> Vec<u8> {
        let mut out = Vec::from([FLAG; 3]);
        out.extend(PROBE);
        Coding::Seven.write(&self.body(), &mut out);
        out.push(FLAG);
        out
    }

    /// Reads what stands between two flags, and what the path did to it.
    pub(super) fn read(characters: &[u8]) -> Option<(Self, Path)> {
        if characters.len() > MAX_CHARACTERS + PROBE.len() {
            return None;
        }
        if let Some(rest) = characters.strip_prefix(&PROBE) {
            return Some((Self::read_body(rest)?, Path::Eight));
        }
        // One that checks parity drops the probe, or the whole of it comes without its highest bits.
        let stripped: Vec<u8> = characters.iter().map(|character| character & 0x7F).collect();
        let rest = stripped.strip_prefix(&PROBE_SEVEN).unwrap_or(&stripped);
        let seven_bits = characters
            .iter()
            .zip(PROBE_SEVEN)
            .all(|(character, probe)| *character == probe);
        if rest.len() < stripped.len() && !seven_bits {
            // It was hit: the next one says what the path is like.
            return None;
        }
        Some((Self::read_body(rest)?, Path::Seven))
    }

    fn read_body(characters: &[u8]) -> Option<Self> {
        let mut body = read_seven(characters)?;
        Check::PLAIN.open(&mut body)?;
        let (body, _) = body.split_last_chunk::<SIZE>()?;
        let ([kind, flags], rest) = body.split_first_chunk()?;
        let (nonce, rest) = rest.split_first_chunk()?;
        let ([payload], mut rest) = rest.split_first_chunk()?;
        let version = kind & VERSIONS;
        if kind & 0x7F & !VERSIONS != GREETING || version == 0 {
            return None;
        }
        let mut echo = None;
        if flags & ECHO != 0 {
            let (known, after) = rest.split_first_chunk()?;
            echo = Some(*known);
            rest = after;
        }
        let mut escape = EscapeMap::NONE;
        if flags & MAP != 0 {
            let ([a, b, c, d, more], _) = rest.split_first_chunk()?;
            escape = EscapeMap {
                controls: u32::from_be_bytes([*a, *b, *c, *d]),
                high: more & HIGH != 0,
                deletes: more & DELETES != 0,
            };
        }
        Some(Self {
            role: Role::of_mark(*kind),
            version,
            nonce: *nonce,
            echo,
            seven: flags & SEVEN != 0,
            half: flags & HALF != 0,
            escape,
            payload: u16::from(*payload) * PAYLOAD_UNIT,
        })
    }

    /// The check of the frames of the call that these two begin, whichever of them is ours.
    pub(super) fn call(&self, peer: &Self) -> Check {
        let (caller, answerer) = match self.role {
            Role::Caller => (self, peer),
            Role::Answerer => (peer, self),
        };
        let [a, b, c, d] = caller.nonce;
        let [e, f, g, h] = answerer.nonce;
        let mode = u8::from(self.seven || peer.seven) | u8::from(self.half || peer.half) << 1;
        Check::after(&[a, b, c, d, e, f, g, h, mode])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn greeting() -> Greeting {
        Greeting {
            echo: Some([5, 6, 7, 8]),
            half: true,
            escape: EscapeMap::XON_XOFF,
            payload: 512,
            ..Greeting::new(Role::Answerer, [1, 2, 3, 4])
        }
    }

    fn inner(line: &[u8]) -> &[u8] {
        &line[3..line.len() - 1]
    }

    #[test]
    fn a_short_greeting_is_short() {
        let line = Greeting::new(Role::Caller, [0xAB; 4]).write();
        assert_eq!(line.len(), 22);
        assert_eq!(line[..3], [FLAG; 3]);
    }

    #[test]
    fn a_path_shows_what_it_is() {
        for greeting in [greeting(), Greeting::new(Role::Caller, [0; 4])] {
            let line = greeting.write();
            let whole = inner(&line);
            assert_eq!(Greeting::read(whole), Some((greeting, Path::Eight)));
            let stripped: Vec<u8> = whole.iter().map(|character| character & 0x7F).collect();
            assert_eq!(Greeting::read(&stripped), Some((greeting, Path::Seven)));
            let parity: Vec<u8> = stripped
                .iter()
                .map(|character| super::super::coding::even(*character))
                .collect();
            assert_eq!(Greeting::read(&parity), Some((greeting, Path::Seven)));
            assert_eq!(Greeting::read(&whole[3..]), Some((greeting, Path::Seven)), "dropped");
        }
    }

    #[test]
    fn a_probe_that_was_hit_says_nothing() {
        let line = greeting().write();
        for bit in 0..24 {
            let mut hit = inner(&line).to_vec();
            hit[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Greeting::read(&hit), None, "bit {bit}");
        }
    }

    #[test]
    fn what_later_versions_add_is_passed_over() {
        let mut body = Greeting {
            version: 2,
            ..Greeting::new(Role::Caller, [9; 4])
        }
        .body();
        body.truncate(body.len() - SIZE);
        body.extend([1, 2, 3]);
        body.extend(Check::PLAIN.of(&body).to_be_bytes());
        let mut characters = PROBE.to_vec();
        Coding::Seven.write(&body, &mut characters);
        let (read, _) = Greeting::read(&characters).unwrap();
        assert_eq!((read.version, read.nonce), (2, [9; 4]));
    }

    proptest! {
        #[test]
        fn anything_can_be_read(bytes: Vec<u8>) {
            let _ = Greeting::read(&bytes);
        }
    }
}
