//! Records (protocol §5): everything after the handshake, sealed.

use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt;
use snow::TransportState;
use zeroize::Zeroize;

/// The largest plaintext of a record, in bytes, its content code included (§5.1).
pub const MAX_PLAINTEXT: usize = 16 * 1024;

/// The smallest limit that a peer may set.
pub const MIN_PLAINTEXT: usize = 128;

/// What a record adds to its body, in bytes: the content code and the tag.
pub const OVERHEAD: usize = 1 + TAG;

/// How many records of one direction go under one key (§5.5).
pub const REKEY_AFTER: u64 = 65_536;

const TAG: usize = 16;

/// What a record carries (§5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Content {
    /// A message, or the last fragment of one.
    Message = 1,
    /// A fragment of a message, with more to follow.
    Fragment = 2,
    /// Nothing: the peer is alive.
    KeepAlive = 3,
    /// A part of an object: its offset in 8 bytes, then the bytes.
    Object = 4,
}

impl Content {
    /// The code on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Message => 1,
            Self::Fragment => 2,
            Self::KeepAlive => 3,
            Self::Object => 4,
        }
    }

    /// The content with this code.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Message,
            2 => Self::Fragment,
            3 => Self::KeepAlive,
            4 => Self::Object,
            _ => return None,
        })
    }
}

/// Why a record is not sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The body is longer than the peer takes.
    #[error("record body is too long")]
    TooLong,
    /// The record is not the next one that this peer sealed.
    #[error("record is not authentic")]
    Refused,
    /// The record is authentic, but its content code is missing or unknown.
    #[error("record content is not known")]
    Content,
    /// A record was refused before: nothing more is opened.
    #[error("records are closed after a refusal")]
    Closed,
}

/// Both directions of a session.
pub struct Records {
    transport: TransportState,
    limit: u16,
    refused: bool,
}

impl Records {
    pub(crate) const fn new(transport: TransportState) -> Self {
        Self {
            transport,
            limit: 16 * 1024,
            refused: false,
        }
    }

    /// Sets the largest plaintext that the peer takes, in bytes with the content code; at least [`MIN_PLAINTEXT`] and at
    /// most [`MAX_PLAINTEXT`].
    pub fn limit(&mut self, plaintext: usize) {
        self.limit = u16::try_from(plaintext.clamp(MIN_PLAINTEXT, MAX_PLAINTEXT)).unwrap_or(16 * 1024);
    }

    /// The most bytes of body that one record to the peer takes.
    #[must_use]
    pub fn max_body(&self) -> usize {
        usize::from(self.limit) - 1
    }

    /// Seals `body` and appends the record to `out`, behind what is there already: an envelope's header, say.
    ///
    /// # Errors
    /// [`RecordError::TooLong`]; `out` is as it was.
    pub fn seal(&mut self, content: Content, body: &[u8], out: &mut Vec<u8>) -> Result<(), RecordError> {
        self.seal_parts(content, &[body], out)
    }

    /// As [`seal`](Self::seal), with a body in several parts: the cipher wants its plaintext in one piece, and this is
    /// the one copy that gathers it.
    ///
    /// # Errors
    /// [`RecordError::TooLong`]; `out` is as it was.
    pub fn seal_parts(&mut self, content: Content, parts: &[&[u8]], out: &mut Vec<u8>) -> Result<(), RecordError> {
        let length = parts.iter().try_fold(1usize, |sum, part| sum.checked_add(part.len()));
        let length = length
            .filter(|length| *length <= usize::from(self.limit))
            .ok_or(RecordError::TooLong)?;
        // The plaintext is gathered behind the place of the record, in the same buffer, and cut off afterwards.
        let start = out.len();
        out.reserve(2 * length + TAG);
        out.resize(start + length + TAG, 0);
        out.push(content.code());
        parts.iter().for_each(|part| out.extend_from_slice(part));
        let (head, plaintext) = out.split_at_mut(start + length + TAG);
        let record = head.get_mut(start..).unwrap_or_default();
        let sealed = self.transport.write_message(plaintext, record);
        // An object is no secret; a message may carry a ticket.
        if content != Content::Object {
            plaintext.zeroize();
        }
        match sealed {
            Ok(_) => {
                out.truncate(start + length + TAG);
                if self.transport.sending_nonce().is_multiple_of(REKEY_AFTER) {
                    self.transport.rekey_outgoing();
                }
                Ok(())
            }
            Err(_) => {
                // The lengths are right, and 2^64 records are not sent in a lifetime.
                out.truncate(start);
                Err(RecordError::Closed)
            }
        }
    }

    /// Opens a record. After an error every later record is refused: the session must be closed.
    ///
    /// # Errors
    /// [`RecordError::Refused`], [`RecordError::Content`], [`RecordError::Closed`].
    pub fn open(&mut self, record: &[u8]) -> Result<(Content, Bytes), RecordError> {
        if self.refused {
            return Err(RecordError::Closed);
        }
        let opened = self.try_open(record);
        self.refused = opened.is_err();
        opened
    }

    fn try_open(&mut self, record: &[u8]) -> Result<(Content, Bytes), RecordError> {
        if record.len() < TAG || record.len() > MAX_PLAINTEXT + TAG {
            return Err(RecordError::Refused);
        }
        let mut plaintext = vec![0; record.len()];
        let length = self
            .transport
            .read_message(record, &mut plaintext)
            .map_err(|_| RecordError::Refused)?;
        if self.transport.receiving_nonce().is_multiple_of(REKEY_AFTER) {
            self.transport.rekey_incoming();
        }
        plaintext.truncate(length);
        let content = plaintext
            .first()
            .and_then(|code| Content::from_code(*code))
            .ok_or(RecordError::Content)?;
        let body = Bytes::from(plaintext).slice(1..);
        Ok((content, body))
    }
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake::{Initiator, Mode, Responder, Suite};
    use crate::secret::Psk;
    use std::println;

    fn pair(suite: Suite) -> (Records, Records) {
        let psk = Psk::new([1; 32]);
        let mut terminal = Initiator::new(b"h", Mode::Ticket, suite, None, Some(&psk), [2; 32]).unwrap();
        let mut server = Responder::new(b"h", Mode::Ticket, suite, None, Some(&psk), [3; 32]).unwrap();
        server.first(&terminal.first(b"").unwrap()).unwrap();
        terminal.second(&server.second(b"").unwrap()).unwrap();
        (terminal.finish().unwrap(), server.finish().unwrap())
    }

    fn seal(records: &mut Records, content: Content, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        records.seal(content, body, &mut out).unwrap();
        out
    }

    #[test]
    fn records_go_both_ways_behind_whatever_stands_before_them() {
        for suite in Suite::ALL {
            let (mut terminal, mut server) = pair(suite);
            let mut out = vec![0xAA, 0xBB];
            terminal.seal(Content::Message, b"report", &mut out).unwrap();
            assert_eq!(out[..2], [0xAA, 0xBB]);
            assert_eq!(out.len(), 2 + 6 + OVERHEAD);
            assert_eq!(
                server.open(&out[2..]),
                Ok((Content::Message, Bytes::from_static(b"report")))
            );

            let mut out = Vec::new();
            server
                .seal_parts(Content::Object, &[&[0; 8], b"part"], &mut out)
                .unwrap();
            let body = [&[0; 8][..], b"part"].concat();
            assert_eq!(terminal.open(&out), Ok((Content::Object, Bytes::from(body))));
            let alive = seal(&mut server, Content::KeepAlive, b"");
            assert_eq!(alive.len(), OVERHEAD);
            assert_eq!(terminal.open(&alive), Ok((Content::KeepAlive, Bytes::new())));
        }
    }

    #[test]
    fn a_body_is_bounded_by_what_the_peer_takes() {
        let (mut terminal, mut server) = pair(Suite::ChaChaPoly);
        assert_eq!(terminal.max_body(), MAX_PLAINTEXT - 1);
        let largest = vec![7; MAX_PLAINTEXT - 1];
        let record = seal(&mut terminal, Content::Object, &largest);
        assert_eq!(record.len(), MAX_PLAINTEXT + 16);
        assert_eq!(server.open(&record), Ok((Content::Object, Bytes::from(largest))));

        let mut out = vec![1];
        assert_eq!(
            terminal.seal(Content::Object, &[7; MAX_PLAINTEXT], &mut out),
            Err(RecordError::TooLong)
        );
        assert_eq!(out, [1]);
        terminal.limit(1000);
        assert_eq!(terminal.max_body(), 999);
        assert_eq!(
            terminal.seal(Content::Object, &[7; 1000], &mut out),
            Err(RecordError::TooLong)
        );
        assert_eq!(out, [1]);
        // What was refused took no number.
        let record = seal(&mut terminal, Content::Object, &[7; 999]);
        assert!(server.open(&record).is_ok());
        terminal.limit(0);
        assert_eq!(terminal.max_body(), MIN_PLAINTEXT - 1);
        terminal.limit(usize::MAX);
        assert_eq!(terminal.max_body(), MAX_PLAINTEXT - 1);
    }

    #[test]
    fn after_a_record_that_is_not_authentic_nothing_is_opened() {
        let record = seal(&mut pair(Suite::ChaChaPoly).0, Content::Message, b"report");
        for index in 0..record.len() {
            let (_, mut server) = pair(Suite::ChaChaPoly);
            let mut changed = record.clone();
            changed[index] ^= 0x10;
            assert_eq!(server.open(&changed), Err(RecordError::Refused));
            assert_eq!(server.open(&record), Err(RecordError::Closed));
        }
        for length in 0..record.len() {
            let (_, mut server) = pair(Suite::ChaChaPoly);
            assert_eq!(server.open(&record[..length]), Err(RecordError::Refused));
        }
        let (_, mut server) = pair(Suite::ChaChaPoly);
        assert_eq!(server.open(&vec![0; MAX_PLAINTEXT + 17]), Err(RecordError::Refused));
    }

    #[test]
    fn replayed_reordered_lost_and_reflected_records_are_refused() {
        let (mut terminal, mut server) = pair(Suite::ChaChaPoly);
        let (first, second) = (
            seal(&mut terminal, Content::Message, b"1"),
            seal(&mut terminal, Content::Message, b"2"),
        );
        assert!(server.open(&first).is_ok());
        assert_eq!(server.open(&first), Err(RecordError::Refused));
        assert_eq!(server.open(&second), Err(RecordError::Closed));
        let (_, mut server) = pair(Suite::ChaChaPoly);
        assert_eq!(server.open(&second), Err(RecordError::Refused));
        assert_eq!(terminal.open(&first), Err(RecordError::Refused));
    }

    #[test]
    fn an_unknown_or_missing_content_code_is_an_error_of_its_own() {
        for plaintext in [&[9u8, 1, 2][..], &[]] {
            let (mut terminal, mut server) = pair(Suite::ChaChaPoly);
            let mut record = vec![0; plaintext.len() + TAG];
            terminal.transport.write_message(plaintext, &mut record).unwrap();
            assert_eq!(server.open(&record), Err(RecordError::Content));
            assert_eq!(server.open(&record), Err(RecordError::Closed));
        }
    }

    #[test]
    fn each_direction_takes_a_new_key_after_65536_records_of_its_own() {
        let (mut terminal, mut server) = pair(Suite::ChaChaPoly);
        let (_, mut stale) = pair(Suite::ChaChaPoly);
        for _ in 0..REKEY_AFTER {
            let record = seal(&mut terminal, Content::KeepAlive, b"");
            assert!(server.open(&record).is_ok());
        }
        let record = seal(&mut terminal, Content::Message, b"new key");
        assert!(server.open(&record).is_ok());
        // A receiver with the right number but the old key cannot open it, and with the new key can.
        let mut out = [0; 64];
        stale.transport.set_receiving_nonce(REKEY_AFTER);
        assert!(stale.transport.read_message(&record, &mut out).is_err());
        stale.transport.rekey_incoming();
        assert!(stale.transport.read_message(&record, &mut out).is_ok());
        // The other direction still has its first key.
        let record = seal(&mut server, Content::Message, b"old key");
        assert!(terminal.open(&record).is_ok());
        for _ in 0..REKEY_AFTER {
            let record = seal(&mut server, Content::KeepAlive, b"");
            assert!(terminal.open(&record).is_ok());
        }
    }

    #[test]
    fn the_state_of_a_session_is_small() {
        let size = size_of::<Records>();
        println!("records: {size} bytes, and a key for each direction");
        assert!(size <= 192, "{size}");
    }
}
