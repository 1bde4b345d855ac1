//! How frames stand on the line (§3.2, §3.3): flags between them, and what may not stand inside them written otherwise.

use alloc::vec::Vec;
use core::mem;

/// Stands between frames.
pub(super) const FLAG: u8 = 0x7E;

const ESCAPE: u8 = 0x7D;
const FLIP: u8 = 0x20;

/// The first of the 64 characters of the seven-bit coding: `0` to `o`.
const ALPHABET: u8 = 0x30;

/// Octets that may not stand on the line, besides the two that the framing needs.
///
/// Both ends say theirs in the greeting; each sends nothing that is in either map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct EscapeMap {
    /// Bit *n* for control octet *n*, 0 to 31 (as the ACCM of RFC 1662).
    pub controls: u32,
    /// The same octets with their highest bit set, 0x80 to 0x9F, too.
    pub high: bool,
    /// 0x7F and 0xFF.
    pub deletes: bool,
}

impl EscapeMap {
    /// Nothing more: a line that takes every octet.
    pub const NONE: Self = Self {
        controls: 0,
        high: false,
        deletes: false,
    };

    /// XON and XOFF, with either parity: software flow control.
    pub const XON_XOFF: Self = Self {
        controls: 1 << 0x11 | 1 << 0x13,
        high: true,
        deletes: false,
    };

    /// The octets of either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self {
            controls: self.controls | other.controls,
            high: self.high | other.high,
            deletes: self.deletes | other.deletes,
        }
    }

    /// Whether the octet may not stand on the line.
    #[must_use]
    pub const fn contains(self, octet: u8) -> bool {
        match octet {
            0x00..=0x1F => self.controls >> octet & 1 != 0,
            0x80..=0x9F => self.high && self.controls >> (octet & 0x1F) & 1 != 0,
            0x7F | 0xFF => self.deletes,
            _ => false,
        }
    }
}

/// How the bytes of a frame are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    /// All eight bits; flag, escape and the octets of the map are escaped, and the third `+` of a run.
    Eight(EscapeMap),
    /// Six bits to a character, with even parity.
    Seven,
}

impl Coding {
    /// Appends a frame's body, without flags.
    pub(super) fn write(self, body: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Eight(map) => {
                let mut pluses = 0_u8;
                for &octet in body {
                    let breaks = octet == b'+' && pluses == 2;
                    if octet == FLAG || octet == ESCAPE || breaks || map.contains(octet) {
                        out.extend([ESCAPE, octet ^ FLIP]);
                        pluses = 0;
                    } else {
                        out.push(octet);
                        pluses = if octet == b'+' { pluses + 1 } else { 0 };
                    }
                }
            }
            Self::Seven => {
                for group in body.chunks(3) {
                    let mut octets = group.iter().copied();
                    let [a, b, c] = [(); 3].map(|()| octets.next().unwrap_or_default());
                    let characters = [a >> 2, (a & 3) << 4 | b >> 4, (b & 15) << 2 | c >> 6, c & 63];
                    out.extend(
                        characters
                            .into_iter()
                            .take(group.len() + 1)
                            .map(|six| even(six + ALPHABET)),
                    );
                }
            }
        }
    }

    /// Bytes that a body of this length takes, when nothing is escaped.
    pub(super) const fn width(self, body: usize) -> usize {
        match self {
            Self::Eight(_) => body,
            Self::Seven => (body * 4).div_ceil(3),
        }
    }
}

/// The body that seven-bit characters say, whatever their highest bits are.
pub(super) fn read_seven(characters: &[u8]) -> Option<Vec<u8>> {
    if characters.len() % 4 == 1 {
        return None;
    }
    let mut body = Vec::with_capacity(characters.len() / 4 * 3 + 2);
    for group in characters.chunks(4) {
        let mut bits = 0_u32;
        for index in 0..4 {
            let six = match group.get(index) {
                Some(character) => (character & 0x7F).checked_sub(ALPHABET).filter(|six| *six < 64)?,
                None => 0,
            };
            bits = bits << 6 | u32::from(six);
        }
        let [_, octets @ ..] = bits.to_be_bytes();
        body.extend(octets.into_iter().take(group.len() - 1));
    }
    Some(body)
}

/// The character with its highest bit set so that the number of ones is even.
pub(super) const fn even(character: u8) -> u8 {
    if character.count_ones().is_multiple_of(2) {
        character
    } else {
        character | 0x80
    }
}

/// Finds frames in what comes, whatever is between them. Holds no more than one frame.
#[derive(Debug)]
pub(super) struct Deframer {
    body: Vec<u8>,
    limit: usize,
    ignored: EscapeMap,
    escaped: bool,
    /// What comes up to the next flag is no frame.
    spoilt: bool,
}

impl Deframer {
    pub(super) const fn new(limit: usize) -> Self {
        Self {
            body: Vec::new(),
            limit,
            ignored: EscapeMap::NONE,
            escaped: false,
            spoilt: false,
        }
    }

    /// Octets that somebody on the way has put in: they are passed over.
    pub(super) const fn ignore(&mut self, map: EscapeMap) {
        self.ignored = map;
    }

    /// Takes one octet; gives the body of the frame that it ends.
    pub(super) fn push(&mut self, octet: u8) -> Option<Vec<u8>> {
        match octet {
            FLAG => {
                let spoilt = mem::take(&mut self.spoilt) || mem::take(&mut self.escaped);
                let body = mem::take(&mut self.body);
                return (!spoilt && !body.is_empty()).then_some(body);
            }
            _ if self.spoilt || self.ignored.contains(octet) => return None,
            ESCAPE if !self.escaped => {
                self.escaped = true;
                return None;
            }
            _ => {}
        }
        if self.body.len() == self.limit {
            self.spoilt = true;
            self.escaped = false;
            self.body = Vec::new();
            return None;
        }
        self.body.push(if mem::take(&mut self.escaped) {
            octet ^ FLIP
        } else {
            octet
        });
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    fn written(coding: Coding, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        coding.write(body, &mut out);
        out
    }

    fn frames(limit: usize, ignored: EscapeMap, line: &[u8]) -> Vec<Vec<u8>> {
        let mut deframer = Deframer::new(limit);
        deframer.ignore(ignored);
        line.iter().filter_map(|octet| deframer.push(*octet)).collect()
    }

    #[test]
    fn runs_of_plus_are_broken() {
        let line = written(Coding::Eight(EscapeMap::NONE), b"+++ATH+++++++");
        assert!(!line.windows(3).any(|run| run == b"+++"), "{line:02x?}");
        assert_eq!(line, b"++\x7D\x0BATH++\x7D\x0B++\x7D\x0B+");
    }

    #[test]
    fn the_map_is_kept() {
        let all: Vec<u8> = (0..=255).collect();
        let map = EscapeMap {
            deletes: true,
            ..EscapeMap::XON_XOFF
        };
        let line = written(Coding::Eight(map), &all);
        for octet in [0x11, 0x13, 0x91, 0x93, 0x7F, 0xFF, FLAG] {
            assert!(map.contains(octet) || octet == FLAG);
            assert!(!line.contains(&octet), "{octet:02x}");
        }
        assert_eq!(line.len(), 256 + 8);
        // Octets that the line puts in do no harm.
        let mut line: Vec<u8> = line.into_iter().flat_map(|octet| [0x13, octet, 0x91]).collect();
        line.push(FLAG);
        assert_eq!(frames(300, map, &line), [all]);
    }

    #[test]
    fn seven_bits_are_enough() {
        let body: Vec<u8> = (0..=255).collect();
        let line = written(Coding::Seven, &body);
        assert_eq!(line.len(), Coding::Seven.width(256));
        assert!(line.iter().all(|character| character.count_ones() % 2 == 0));
        let stripped: Vec<u8> = line.iter().map(|character| character & 0x7F).collect();
        assert!(stripped.iter().all(|character| (0x30..0x70).contains(character)));
        assert_eq!(read_seven(&stripped).unwrap(), body);
        assert_eq!(read_seven(b"0"), None);
        assert_eq!(read_seven(b"00p0"), None);
    }

    #[test]
    fn what_is_too_long_is_no_frame() {
        let line = [
            &[1; 11][..],
            &[FLAG, 2, 3, FLAG, FLAG, 4, ESCAPE, FLAG],
            &[5; 10],
            &[FLAG],
        ]
        .concat();
        assert_eq!(frames(10, EscapeMap::NONE, &line), [vec![2, 3], vec![5; 10]]);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(body: Vec<u8>, controls: u32, high: bool, deletes: bool) {
            prop_assume!(!body.is_empty());
            let map = EscapeMap { controls, high, deletes };
            let mut line = written(Coding::Eight(map), &body);
            prop_assert!(!line.iter().any(|octet| map.contains(*octet)));
            line.push(FLAG);
            prop_assert_eq!(frames(body.len(), map, &line), [&body[..]]);
            prop_assert_eq!(read_seven(&written(Coding::Seven, &body)), Some(body));
        }
    }
}
