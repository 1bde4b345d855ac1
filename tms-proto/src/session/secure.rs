//! The secured side of a session: messages and object parts in records (§5).

use super::Fault;
use super::line::Line;
use crate::message::{MAX_MESSAGE, Message};
use crate::record::{Content, OVERHEAD, Records};
use alloc::vec::Vec;
use bytes::Bytes;
use core::mem;
use zeroize::Zeroizing;

/// Bytes of an object part's body before the object's own bytes: the offset (§5.3).
const PART_HEAD: usize = 8;

/// Parts that are sent at once where they are large.
const BURST: usize = 4;

/// From this size on, in bytes, a part is large.
const LARGE_PART: usize = 8 * 1024;

pub(super) struct Secure {
    records: Records,
    partial: Vec<u8>,
    unknown: usize,
}

pub(super) enum Inbound {
    Message(Message),
    Part { offset: u64, bytes: Bytes },
    Nothing,
}

impl Secure {
    pub(super) fn new(mut records: Records, max_record: usize) -> Self {
        records.limit(max_record);
        Self {
            records,
            partial: Vec::new(),
            unknown: 0,
        }
    }

    /// The most object bytes in one record.
    pub(super) fn max_part(&self) -> usize {
        self.records.max_body() - PART_HEAD
    }

    /// The most object bytes that are sent at once. Small records are for slow lines, where what is sent ahead holds up what
    /// comes after it; a link with large ones carries several at the cost of one.
    pub(super) fn max_burst(&self) -> usize {
        let part = self.max_part();
        if part < LARGE_PART { part } else { BURST * part }
    }

    /// How many elements of the peer's messages were skipped.
    pub(super) const fn unknown(&self) -> usize {
        self.unknown
    }

    pub(super) fn send(&mut self, message: &Message, line: &mut Line) -> Result<(), Fault> {
        // A plan carries a ticket's key.
        let encoded = Zeroizing::new(message.to_vec());
        if encoded.len() > MAX_MESSAGE {
            return Err(Fault::TooLarge);
        }
        let mut rest = encoded.as_slice();
        while let Some((head, tail)) = rest.split_at_checked(self.records.max_body()) {
            if tail.is_empty() {
                break;
            }
            self.seal(Content::Fragment, &[head], line)?;
            rest = tail;
        }
        self.seal(Content::Message, &[rest], line)
    }

    pub(super) fn send_part(&mut self, offset: u64, bytes: &[u8], line: &mut Line) -> Result<(), Fault> {
        self.seal(Content::Object, &[&offset.to_be_bytes(), bytes], line)
    }

    pub(super) fn send_keep_alive(&mut self, line: &mut Line) -> Result<(), Fault> {
        self.seal(Content::KeepAlive, &[], line)
    }

    fn seal(&mut self, content: Content, body: &[&[u8]], line: &mut Line) -> Result<(), Fault> {
        let length = OVERHEAD + body.iter().map(|part| part.len()).sum::<usize>();
        line.send_with(length, |out| Ok(self.records.seal_parts(content, body, out)?))
    }

    pub(super) fn open(&mut self, payload: &[u8]) -> Result<Inbound, Fault> {
        let (content, body) = self.records.open(payload)?;
        match content {
            Content::Message if self.partial.is_empty() => self.decode(&body),
            Content::Message => {
                self.collect(&body)?;
                let whole = mem::take(&mut self.partial);
                self.decode(&whole)
            }
            Content::Fragment => {
                self.collect(&body)?;
                Ok(Inbound::Nothing)
            }
            // Parts may pass between messages but never inside one (§5.4).
            Content::Object if self.partial.is_empty() => {
                let (offset, _) = body.split_first_chunk::<8>().ok_or(Fault::Part(0))?;
                let offset = u64::from_be_bytes(*offset);
                Ok(Inbound::Part {
                    offset,
                    bytes: body.slice(8..),
                })
            }
            Content::Object => Err(Fault::Part(0)),
            Content::KeepAlive => Ok(Inbound::Nothing),
        }
    }

    fn collect(&mut self, body: &[u8]) -> Result<(), Fault> {
        if self.partial.len() + body.len() > MAX_MESSAGE || body.is_empty() {
            return Err(Fault::TooLarge);
        }
        self.partial.extend_from_slice(body);
        Ok(())
    }

    fn decode(&mut self, bytes: &[u8]) -> Result<Inbound, Fault> {
        let decoded = Message::from_slice(bytes)?;
        self.unknown += decoded.unknown;
        Ok(Inbound::Message(decoded.message))
    }
}
