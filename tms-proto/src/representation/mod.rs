//! Representations of content (§9.1, §9.6, §9.7): compressed, or as the difference to what the terminal has.
//!
//! A representation is not signed. What comes out of it is content that is to be verified as any other: by the digest of its
//! manifest.
//!
//! The [`Decoder`] is a machine: bytes of the representation go in, bytes of the content come out, in their order, and where
//! it is a delta it asks for bytes of its base in between. It never gives more than the manifest says.
//!
//! ```
//! use tms_proto::representation::{Decoder, RepresentationError, Step};
//!
//! /// Decodes a delta that is here whole.
//! fn decode(object: &[u8], base: &[u8], size: u64) -> Result<Vec<u8>, RepresentationError> {
//!     let mut decoder = Decoder::delta(size);
//!     let (mut rest, mut content) = (object, Vec::new());
//!     loop {
//!         match decoder.step()? {
//!             Step::More if rest.is_empty() => return Err(RepresentationError::Short),
//!             Step::More => rest = &rest[decoder.push(rest)..],
//!             Step::Base { offset, length } => {
//!                 let there = base.get(offset as usize..).unwrap_or_default();
//!                 decoder.base(&there[..length.min(there.len())]);
//!             }
//!             Step::Content(bytes) => content.extend_from_slice(bytes),
//!             Step::Done if rest.is_empty() => return Ok(content),
//!             Step::Done => return Err(RepresentationError::Trailing),
//!         }
//!     }
//! }
//!
//! // Five bytes of the base, the third of them with one more, and then an exclamation mark.
//! let object = [0x28, 0xB5, 0x2F, 0xFD, 0, 0, 73, 0, 0, 0, 5, 1, 0, 0, 1, 0, 0, b'!'];
//! assert_eq!(decode(&object, b"hello", 6).unwrap(), b"hemlo!");
//! ```

mod delta;
mod error;
mod frame;

pub use delta::Control;
pub use error::RepresentationError;

use alloc::boxed::Box;
use alloc::vec;
use core::ops::Range;
use delta::ControlReader;
use frame::Frame;

/// The largest window of a frame, in bytes: it bounds the memory that a terminal needs to decode (§9.6).
pub const MAX_WINDOW: u64 = 1 << 14;
/// The largest block: that of the largest window.
const MAX_BLOCK: usize = 1 << 14;
/// How much is decoded at a time.
const CHUNK: usize = 4096;

/// Decodes one representation; see the [module](self).
pub struct Decoder {
    frame: Frame,
    chunk: Box<[u8]>,
    /// What of the chunk is decompressed and not yet used.
    plain: Range<usize>,
    /// How many bytes at its start were given as content, and are used when the next step is taken.
    given: usize,
    /// Bytes of content that are still to come.
    left: u64,
    form: Form,
    failed: Option<RepresentationError>,
}

/// What a [`Decoder`] wants next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// More bytes of the representation: [`Decoder::push`]. Where there are none it ends too early.
    More,
    /// Bytes of the base: [`Decoder::base`].
    Base {
        /// From this byte on.
        offset: u64,
        /// So many, at least one; fewer will do.
        length: usize,
    },
    /// The next bytes of the content.
    Content(&'a [u8]),
    /// All of the content was given.
    Done,
}

/// A step, before what it shows is looked up.
enum Next {
    More,
    Base(u64, usize),
    Content(usize),
    Done,
}

enum Form {
    Zstd,
    Delta(Delta),
}

struct Delta {
    reader: ControlReader,
    /// The part of the present control that is still to come.
    control: Control,
    /// Differences that were added to the base already.
    added: usize,
    /// How many bytes of the base were asked for.
    asked: usize,
}

impl Decoder {
    /// Decodes compressed content (§9.6) of `size` bytes.
    #[must_use]
    pub fn zstd(size: u64) -> Self {
        Self::new(size, Form::Zstd)
    }

    /// Decodes a delta (§9.7) of content of `size` bytes.
    #[must_use]
    pub fn delta(size: u64) -> Self {
        let control = Control {
            at: 0,
            diff: 0,
            extra: 0,
        };
        let delta = Delta {
            reader: ControlReader::default(),
            control,
            added: 0,
            asked: 0,
        };
        Self::new(size, Form::Delta(delta))
    }

    fn new(size: u64, form: Form) -> Self {
        Self {
            frame: Frame::new(),
            chunk: vec![0; CHUNK].into_boxed_slice(),
            plain: 0..0,
            given: 0,
            left: size,
            form,
            failed: None,
        }
    }

    /// Takes bytes of the representation when they are wanted, up to the end of the next block; gives how many.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        if self.frame.is_finished() && !bytes.is_empty() {
            self.failed.get_or_insert(RepresentationError::Trailing);
        }
        self.frame.push(bytes)
    }

    /// Takes the bytes of the base that were asked for: as many, or fewer. None at all, where the base has ended, is an error
    /// of the delta; and so are more than were asked for.
    pub fn base(&mut self, bytes: &[u8]) {
        let added = match &mut self.form {
            Form::Delta(delta) if !bytes.is_empty() && bytes.len() <= delta.asked => {
                (delta.asked, delta.added) = (0, bytes.len());
                let end = self.plain.start.saturating_add(bytes.len());
                self.chunk.get_mut(self.plain.start..end)
            }
            _ => None,
        };
        match added {
            Some(differences) => {
                for (difference, byte) in differences.iter_mut().zip(bytes) {
                    *difference = difference.wrapping_add(*byte);
                }
            }
            None => {
                self.failed.get_or_insert(RepresentationError::Base);
            }
        }
    }

    /// What comes next. Its answer changes with each call, but for [`Step::More`], [`Step::Base`] and [`Step::Done`], which
    /// stay until what they want is there.
    ///
    /// # Errors
    /// Where the representation is damaged or is not one. An error is for ever.
    pub fn step(&mut self) -> Result<Step<'_>, RepresentationError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        match self.next() {
            Ok(Next::More) => Ok(Step::More),
            Ok(Next::Base(offset, length)) => Ok(Step::Base { offset, length }),
            Ok(Next::Content(length)) => {
                self.given = length;
                let end = self.plain.start.saturating_add(length);
                Ok(Step::Content(self.chunk.get(self.plain.start..end).unwrap_or_default()))
            }
            Ok(Next::Done) => Ok(Step::Done),
            Err(error) => {
                self.failed = Some(error);
                Err(error)
            }
        }
    }

    fn next(&mut self) -> Result<Next, RepresentationError> {
        self.use_up();
        loop {
            if self.plain.is_empty() {
                let length = self.frame.read(&mut self.chunk)?;
                self.plain = 0..length;
                if length == 0 {
                    return self.end();
                }
            }
            if self.left == 0 {
                return Err(RepresentationError::Long);
            }
            let there = self.plain.len();
            let Form::Delta(delta) = &mut self.form else {
                let fits = u64::try_from(there).is_ok_and(|there| there <= self.left);
                return if fits {
                    Ok(Next::Content(there))
                } else {
                    Err(RepresentationError::Long)
                };
            };
            let most = |bytes: u64| usize::try_from(bytes).unwrap_or(there).min(there);
            if delta.added > 0 {
                return Ok(Next::Content(delta.added));
            }
            if delta.control.diff > 0 {
                delta.asked = most(delta.control.diff);
                return Ok(Next::Base(delta.control.at, delta.asked));
            }
            if delta.control.extra > 0 {
                return Ok(Next::Content(most(delta.control.extra)));
            }
            let byte = self.chunk.get(self.plain.start).copied().unwrap_or_default();
            self.plain.start += 1;
            let control = delta.reader.push(byte, delta.control.at, self.left)?;
            delta.control = control.unwrap_or(delta.control);
        }
    }

    /// What was given as content has been used.
    fn use_up(&mut self) {
        let given = core::mem::take(&mut self.given);
        if given == 0 {
            return;
        }
        self.plain.start += given;
        let given = u64::try_from(given).unwrap_or_default();
        self.left = self.left.saturating_sub(given);
        if let Form::Delta(delta) = &mut self.form {
            if core::mem::take(&mut delta.added) > 0 {
                delta.control.at = delta.control.at.saturating_add(given);
                delta.control.diff = delta.control.diff.saturating_sub(given);
            } else {
                delta.control.extra = delta.control.extra.saturating_sub(given);
            }
        }
    }

    /// There is nothing decompressed left: more is wanted, or this is the end.
    fn end(&self) -> Result<Next, RepresentationError> {
        if !self.frame.is_finished() {
            return Ok(Next::More);
        }
        let within = matches!(&self.form, Form::Delta(delta) if delta.reader.has_begun());
        if within {
            Err(RepresentationError::Control)
        } else if self.left > 0 {
            Err(RepresentationError::Short)
        } else {
            Ok(Next::Done)
        }
    }
}
