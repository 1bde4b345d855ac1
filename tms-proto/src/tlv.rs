//! BER-TLV (ISO/IEC 8825-1 as EMV uses it), definite and minimal: the one encoding of messages, certificates and
//! manifests (protocol §6).
//!
//! A structure is declared once, with [`tlv!`](crate::tlv!), and gets its encoder and decoder from the declaration.

use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt;
use nom::bytes::complete::take;
use nom::error::{ErrorKind, ParseError};
use nom::number::complete::be_u8;
use nom::{IResult, Parser};

/// The most elements that one constructed value may hold: bounds the memory that a hostile message can take (§6.5).
pub const MAX_ELEMENTS: usize = 1024;

/// The tag under which a structure lists the tags that its reader must understand (§6.4).
pub const MUST_UNDERSTAND: Tag = Tag(0x9F1F);

/// The most tags in such a list: each is looked for among all elements that were not known (§6.5).
pub const MAX_MUST_UNDERSTAND: usize = 32;

/// A BER tag, written as EMV writes it: `0x80`, `0x9F1F`, `0x7F4E`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(pub u32);

impl Tag {
    /// Whether the value of this tag consists of elements.
    #[must_use]
    pub const fn is_constructed(self) -> bool {
        let [a, b, c, d] = self.0.to_be_bytes();
        let first = if a != 0 {
            a
        } else if b != 0 {
            b
        } else if c != 0 {
            c
        } else {
            d
        };
        first & 0x20 != 0
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02X}", self.0)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02X}", self.0)
    }
}

/// Why bytes are not what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{kind} at byte {offset}")]
pub struct DecodeError {
    /// What is wrong.
    pub kind: DecodeErrorKind,
    /// Where, in bytes from the start of what was decoded.
    pub offset: usize,
}

impl DecodeError {
    pub(crate) const fn new(kind: DecodeErrorKind, offset: usize) -> Self {
        Self { kind, offset }
    }
}

/// What can be wrong with encoded bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeErrorKind {
    /// The bytes end inside an element.
    #[error("truncated element")]
    Truncated,
    /// A tag of more than three bytes, or one with a superfluous byte.
    #[error("malformed tag")]
    Tag,
    /// An indefinite, over-long or non-minimal length.
    #[error("malformed length")]
    Length,
    /// Bytes follow the last element.
    #[error("trailing bytes")]
    Trailing,
    /// A message above [`MAX_MESSAGE`](crate::message::MAX_MESSAGE).
    #[error("message too long")]
    TooLong,
    /// A constructed value with more than [`MAX_ELEMENTS`] elements.
    #[error("too many elements")]
    TooMany,
    /// The structure's own tag is another one.
    #[error("unexpected tag {0}")]
    Unexpected(Tag),
    /// A field that must be there is not.
    #[error("missing field {0}")]
    Missing(Tag),
    /// A field that may be there once is there twice.
    #[error("duplicate field {0}")]
    Duplicate(Tag),
    /// The value does not have the form of its field.
    #[error("malformed value of field {0}")]
    Value(Tag),
    /// The structure lists a tag to be understood, and this version does not know it.
    #[error("field {0} must be understood and is not known")]
    NotUnderstood(Tag),
}

/// One element: a tag, its value, and where the value stands in what is being decoded.
#[derive(Debug, Clone, Copy)]
pub struct Element<'a> {
    /// The tag.
    pub tag: Tag,
    /// The value.
    pub value: &'a [u8],
    /// The value's first byte, counted from the start of what is being decoded.
    pub offset: usize,
}

impl Element<'_> {
    /// The error that says that this element's value is malformed.
    #[must_use]
    pub const fn malformed(&self) -> DecodeError {
        DecodeError::new(DecodeErrorKind::Value(self.tag), self.offset)
    }
}

/// What stopped the parser, and how many bytes before the end of its input.
struct Stop {
    kind: DecodeErrorKind,
    left: usize,
}

impl ParseError<&[u8]> for Stop {
    fn from_error_kind(rest: &[u8], _: ErrorKind) -> Self {
        // The parsers in use fail for themselves for want of bytes only.
        Self {
            kind: DecodeErrorKind::Truncated,
            left: rest.len(),
        }
    }

    fn append(_: &[u8], _: ErrorKind, other: Self) -> Self {
        other
    }
}

fn fail<T>(kind: DecodeErrorKind, rest: &[u8]) -> IResult<&[u8], T, Stop> {
    Err(nom::Err::Failure(Stop { kind, left: rest.len() }))
}

fn tag(input: &[u8]) -> IResult<&[u8], Tag, Stop> {
    let (mut rest, first) = be_u8.parse(input)?;
    let mut tag = u32::from(first);
    if first & 0x1F == 0x1F {
        loop {
            let (after, next) = be_u8.parse(rest)?;
            // A second byte of 80 is a superfluous zero; three bytes are the most that EMV allows.
            if tag > 0xFFFF || (tag <= 0xFF && next == 0x80) {
                return fail(DecodeErrorKind::Tag, input);
            }
            tag = tag << 8 | u32::from(next);
            rest = after;
            if next & 0x80 == 0 {
                break;
            }
        }
    }
    Ok((rest, Tag(tag)))
}

fn length(input: &[u8]) -> IResult<&[u8], usize, Stop> {
    let (rest, first) = be_u8.parse(input)?;
    if first < 0x80 {
        return Ok((rest, usize::from(first)));
    }
    let count = usize::from(first & 0x7F);
    if count == 0 || count > 4 {
        return fail(DecodeErrorKind::Length, input);
    }
    let (rest, digits) = take(count).parse(rest)?;
    let value = digits.iter().fold(0u32, |value, byte| value << 8 | u32::from(*byte));
    let minimal = digits.first().is_some_and(|byte| *byte != 0) && value >= 0x80;
    match usize::try_from(value) {
        Ok(value) if minimal => Ok((rest, value)),
        _ => fail(DecodeErrorKind::Length, input),
    }
}

fn element(input: &[u8]) -> IResult<&[u8], (Tag, &[u8]), Stop> {
    let (rest, tag) = tag(input)?;
    let (rest, length) = length(rest)?;
    let (rest, value) = take(length).parse(rest)?;
    Ok((rest, (tag, value)))
}

/// Reads the first element of `input`, which begins `offset` bytes into what is being decoded, and the bytes after it.
///
/// # Errors
/// Where `input` does not begin with a whole, minimally encoded element.
pub fn split(input: &[u8], offset: usize) -> Result<(Element<'_>, &[u8]), DecodeError> {
    match element(input) {
        Ok((rest, (tag, value))) => {
            let offset = offset + input.len() - rest.len() - value.len();
            Ok((Element { tag, value, offset }, rest))
        }
        Err(nom::Err::Error(stop) | nom::Err::Failure(stop)) => Err(DecodeError::new(
            stop.kind,
            offset + input.len().saturating_sub(stop.left),
        )),
        Err(nom::Err::Incomplete(_)) => Err(DecodeError::new(DecodeErrorKind::Truncated, offset + input.len())),
    }
}

/// The elements of a constructed value, taken out by tag.
///
/// Every [`take`](Self::take) looks at all elements, for a second one with its tag is an error. A reader takes as many
/// times as its structure has fields, a number that the bytes cannot change, so that the time to read a message grows with
/// its length only: at most [`MAX_ELEMENTS`] steps for each field of a structure, and as many for each of the
/// [`MAX_MUST_UNDERSTAND`] tags that it may list.
pub struct Fields<'a> {
    elements: Vec<Option<Element<'a>>>,
    end: usize,
    unknown: usize,
}

impl<'a> Fields<'a> {
    /// Splits `value`, which begins at `offset`, into its elements.
    ///
    /// # Errors
    /// Where an element is malformed or there are more than [`MAX_ELEMENTS`].
    pub fn parse(value: &'a [u8], offset: usize) -> Result<Self, DecodeError> {
        let end = offset + value.len();
        let mut elements = Vec::new();
        let mut rest = value;
        while !rest.is_empty() {
            let (element, after) = split(rest, end - rest.len())?;
            if elements.len() == MAX_ELEMENTS {
                return Err(DecodeError::new(DecodeErrorKind::TooMany, element.offset));
            }
            elements.push(Some(element));
            rest = after;
        }
        Ok(Self {
            elements,
            end,
            unknown: 0,
        })
    }

    /// Takes the element with this tag, if there is one.
    ///
    /// # Errors
    /// Where there is more than one.
    pub fn take(&mut self, tag: Tag) -> Result<Option<Element<'a>>, DecodeError> {
        let mut found = None;
        for slot in &mut self.elements {
            if slot.is_some_and(|element| element.tag == tag) {
                let element = slot.take();
                if found.is_some() {
                    let offset = element.map_or(self.end, |element| element.offset);
                    return Err(DecodeError::new(DecodeErrorKind::Duplicate(tag), offset));
                }
                found = element;
            }
        }
        Ok(found)
    }

    /// Takes all elements with this tag, in their order.
    pub fn take_all(&mut self, tag: Tag) -> Vec<Element<'a>> {
        self.elements
            .iter_mut()
            .filter_map(|slot| slot.take_if(|element| element.tag == tag))
            .collect()
    }

    /// Reads one field; see [`Field`].
    ///
    /// # Errors
    /// Where the field is missing or malformed.
    pub fn field<F: Field>(&mut self, tag: Tag) -> Result<F, DecodeError> {
        F::take(tag, self)
    }

    /// The error for a missing field.
    #[must_use]
    pub const fn missing(&self, tag: Tag) -> DecodeError {
        DecodeError::new(DecodeErrorKind::Missing(tag), self.end)
    }

    /// Ends the reading: counts what was not taken, here and in the structures inside, and refuses where the structure
    /// says that one of these must be understood (§6.4).
    ///
    /// # Errors
    /// [`DecodeErrorKind::NotUnderstood`], and [`DecodeErrorKind::Value`] where the list itself is malformed or longer than
    /// [`MAX_MUST_UNDERSTAND`].
    pub fn finish(mut self) -> Result<usize, DecodeError> {
        if let Some(list) = self.take(MUST_UNDERSTAND)? {
            let mut rest = list.value;
            let mut listed = 0;
            while !rest.is_empty() {
                let (after, must) = tag(rest).map_err(|_| list.malformed())?;
                if listed == MAX_MUST_UNDERSTAND {
                    return Err(list.malformed());
                }
                if let Some(left) = self.elements.iter().flatten().find(|left| left.tag == must) {
                    return Err(DecodeError::new(DecodeErrorKind::NotUnderstood(must), left.offset));
                }
                listed += 1;
                rest = after;
            }
        }
        Ok(self.unknown + self.elements.iter().flatten().count())
    }
}

/// An encoder. Lengths are filled in when a constructed element ends.
#[derive(Debug, Default)]
pub struct Writer {
    buffer: Vec<u8>,
}

impl Writer {
    /// An empty encoding.
    #[must_use]
    pub const fn new() -> Self {
        Self { buffer: Vec::new() }
    }

    fn tag(&mut self, tag: Tag) {
        let bytes = tag.0.to_be_bytes();
        let skip = (tag.0.leading_zeros() / 8).min(3);
        self.buffer
            .extend(bytes.iter().skip(usize::try_from(skip).unwrap_or(3)));
    }

    /// Writes a primitive element.
    pub fn bytes(&mut self, tag: Tag, value: &[u8]) {
        self.tag(tag);
        let (head, used) = encode_length(value.len());
        self.buffer.extend(head.iter().take(used));
        self.buffer.extend_from_slice(value);
    }

    /// Writes an unsigned integer in as few bytes as it needs, but at least one.
    pub fn uint(&mut self, tag: Tag, value: u64) {
        let bytes = value.to_be_bytes();
        let skip = usize::try_from(value.leading_zeros() / 8).unwrap_or(7).min(7);
        self.bytes(tag, bytes.get(skip..).unwrap_or(&bytes));
    }

    /// Writes a constructed element whose elements `body` writes.
    pub fn constructed(&mut self, tag: Tag, body: impl FnOnce(&mut Self)) {
        self.tag(tag);
        let start = self.buffer.len();
        body(self);
        let (head, used) = encode_length(self.buffer.len() - start);
        self.buffer.splice(start..start, head.iter().copied().take(used));
    }

    /// Appends bytes that are encoded already.
    pub fn raw(&mut self, encoded: &[u8]) {
        self.buffer.extend_from_slice(encoded);
    }

    /// Writes one field; see [`Field`].
    pub fn field<F: Field>(&mut self, tag: Tag, field: &F) {
        field.put(tag, self);
    }

    /// The encoding.
    #[must_use]
    pub fn into_vec(self) -> Vec<u8> {
        self.buffer
    }
}

fn encode_length(length: usize) -> ([u8; 5], usize) {
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    let [a, b, c, d] = length.to_be_bytes();
    match length {
        0..=0x7F => ([d, 0, 0, 0, 0], 1),
        0x80..=0xFF => ([0x81, d, 0, 0, 0], 2),
        0x100..=0xFFFF => ([0x82, c, d, 0, 0], 3),
        0x1_0000..=0xFF_FFFF => ([0x83, b, c, d, 0], 4),
        _ => ([0x84, a, b, c, d], 5),
    }
}

/// Something that is the value of one element.
pub trait Value: Sized {
    /// Writes the element.
    fn write(&self, tag: Tag, out: &mut Writer);

    /// Reads the element's value; adds what it did not know inside to `unknown`.
    ///
    /// # Errors
    /// Where the value does not have the form of this type.
    fn read(element: Element<'_>, unknown: &mut usize) -> Result<Self, DecodeError>;
}

/// Something that is a field of a structure: a [`Value`] must be there once, an `Option` of one may, a `Vec` of one may any
/// number of times.
pub trait Field: Sized {
    /// Writes the field's elements.
    fn put(&self, tag: Tag, out: &mut Writer);

    /// Takes the field's elements.
    ///
    /// # Errors
    /// Where the field is missing or malformed.
    fn take(tag: Tag, fields: &mut Fields<'_>) -> Result<Self, DecodeError>;
}

impl<T: Value> Field for T {
    fn put(&self, tag: Tag, out: &mut Writer) {
        self.write(tag, out);
    }

    fn take(tag: Tag, fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        let element = fields.take(tag)?.ok_or_else(|| fields.missing(tag))?;
        T::read(element, &mut fields.unknown)
    }
}

impl<T: Value> Field for Option<T> {
    fn put(&self, tag: Tag, out: &mut Writer) {
        if let Some(value) = self {
            value.write(tag, out);
        }
    }

    fn take(tag: Tag, fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        let element = fields.take(tag)?;
        element.map(|element| T::read(element, &mut fields.unknown)).transpose()
    }
}

impl<T: Value> Field for Vec<T> {
    fn put(&self, tag: Tag, out: &mut Writer) {
        for value in self {
            value.write(tag, out);
        }
    }

    fn take(tag: Tag, fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        let elements = fields.take_all(tag);
        elements
            .into_iter()
            .map(|element| T::read(element, &mut fields.unknown))
            .collect()
    }
}

macro_rules! unsigned {
    ($($type:ty),*) => {$(
        impl Value for $type {
            fn write(&self, tag: Tag, out: &mut Writer) {
                out.uint(tag, u64::from(*self));
            }

            fn read(element: Element<'_>, _: &mut usize) -> Result<Self, DecodeError> {
                let minimal = match element.value {
                    [_] => true,
                    [first, ..] => *first != 0 && element.value.len() <= 8,
                    [] => false,
                };
                let value = element.value.iter().take(8).fold(0u64, |value, byte| value << 8 | u64::from(*byte));
                match Self::try_from(value) {
                    Ok(value) if minimal => Ok(value),
                    _ => Err(element.malformed()),
                }
            }
        }
    )*};
}

unsigned!(u8, u16, u32, u64);

impl Value for i16 {
    fn write(&self, tag: Tag, out: &mut Writer) {
        out.bytes(tag, &self.to_be_bytes());
    }

    fn read(element: Element<'_>, _: &mut usize) -> Result<Self, DecodeError> {
        let bytes = element.value.try_into().map_err(|_| element.malformed())?;
        Ok(Self::from_be_bytes(bytes))
    }
}

impl Value for bool {
    fn write(&self, tag: Tag, out: &mut Writer) {
        out.bytes(tag, &[u8::from(*self)]);
    }

    fn read(element: Element<'_>, _: &mut usize) -> Result<Self, DecodeError> {
        match element.value {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(element.malformed()),
        }
    }
}

impl Value for String {
    fn write(&self, tag: Tag, out: &mut Writer) {
        out.bytes(tag, self.as_bytes());
    }

    fn read(element: Element<'_>, _: &mut usize) -> Result<Self, DecodeError> {
        core::str::from_utf8(element.value)
            .map(Self::from)
            .map_err(|_| element.malformed())
    }
}

impl Value for Bytes {
    fn write(&self, tag: Tag, out: &mut Writer) {
        out.bytes(tag, self);
    }

    fn read(element: Element<'_>, _: &mut usize) -> Result<Self, DecodeError> {
        Ok(Self::copy_from_slice(element.value))
    }
}

impl<const N: usize> Value for [u8; N] {
    fn write(&self, tag: Tag, out: &mut Writer) {
        out.bytes(tag, self);
    }

    fn read(element: Element<'_>, _: &mut usize) -> Result<Self, DecodeError> {
        element.value.try_into().map_err(|_| element.malformed())
    }
}

/// A structure that [`tlv!`](crate::tlv!) declares.
pub trait Structure: Sized {
    /// The names and tags of its fields, in the order in which they are written.
    const FIELDS: &'static [(&'static str, Tag)];

    /// Writes the fields.
    fn write_fields(&self, out: &mut Writer);

    /// Reads the fields from a value that begins at `offset`; adds what it did not know to `unknown`.
    ///
    /// # Errors
    /// Where a field is missing, doubled or malformed.
    fn read_fields(value: &[u8], offset: usize, unknown: &mut usize) -> Result<Self, DecodeError>;

    /// The fields' encoding, without a tag and length around them.
    fn to_vec(&self) -> Vec<u8> {
        let mut out = Writer::new();
        self.write_fields(&mut out);
        out.into_vec()
    }

    /// Reads what [`to_vec`](Self::to_vec) wrote, skipping unknown fields.
    ///
    /// # Errors
    /// As [`read_fields`](Self::read_fields).
    fn from_slice(value: &[u8]) -> Result<Self, DecodeError> {
        Self::read_fields(value, 0, &mut 0)
    }
}

impl<T: Structure> Value for T {
    fn write(&self, tag: Tag, out: &mut Writer) {
        out.constructed(tag, |out| self.write_fields(out));
    }

    fn read(element: Element<'_>, unknown: &mut usize) -> Result<Self, DecodeError> {
        T::read_fields(element.value, element.offset, unknown)
    }
}

/// Declares structures and their encoding: `pub name: Type = tag`. The tag's bit 0x20 says whether the value is constructed.
#[macro_export]
macro_rules! tlv {
    ($(
        $(#[$outer:meta])*
        $vis:vis struct $name:ident {
            $( $(#[$inner:meta])* $fvis:vis $field:ident : $type:ty = $tag:literal ),* $(,)?
        }
    )*) => {$(
        $(#[$outer])*
        $vis struct $name {
            $( $(#[$inner])* $fvis $field: $type ),*
        }

        impl $crate::tlv::Structure for $name {
            const FIELDS: &'static [(&'static str, $crate::tlv::Tag)] =
                &[$( (stringify!($field), $crate::tlv::Tag($tag)) ),*];

            #[allow(unused_variables)]
            fn write_fields(&self, out: &mut $crate::tlv::Writer) {
                $( out.field($crate::tlv::Tag($tag), &self.$field); )*
            }

            fn read_fields(
                value: &[u8],
                offset: usize,
                unknown: &mut usize,
            ) -> Result<Self, $crate::tlv::DecodeError> {
                #[allow(unused_mut)]
                let mut fields = $crate::tlv::Fields::parse(value, offset)?;
                let read = Self { $( $field: fields.field($crate::tlv::Tag($tag))? ),* };
                *unknown += fields.finish()?;
                Ok(read)
            }
        }
    )*};
}

/// Declares an open set of one-byte codes: values of a later version are kept as `Other`, not refused.
#[macro_export]
macro_rules! codes {
    ($(
        $(#[$outer:meta])*
        $vis:vis enum $name:ident {
            $( $(#[$inner:meta])* $variant:ident = $code:literal $text:literal ),* $(,)?
        }
    )*) => {$(
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        #[cfg_attr(feature = "serde", serde(from = "u8", into = "u8"))]
        $vis enum $name {
            $( $(#[$inner])* $variant, )*
            /// A code of a later version; codes of this version are never read as this.
            Other(u8),
        }

        impl $name {
            /// The codes that this version knows.
            pub const ALL: &'static [Self] = &[$( Self::$variant ),*];

            /// The short name, as documents and logs write it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $( Self::$variant => $text, )*
                    Self::Other(_) => "OTHER",
                }
            }
        }

        impl From<u8> for $name {
            fn from(code: u8) -> Self {
                match code {
                    $( $code => Self::$variant, )*
                    other => Self::Other(other),
                }
            }
        }

        impl From<$name> for u8 {
            fn from(code: $name) -> Self {
                match code {
                    $( $name::$variant => $code, )*
                    $name::Other(other) => other,
                }
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                match self {
                    Self::Other(code) => write!(f, "code {code}"),
                    known => f.write_str(known.name()),
                }
            }
        }

        impl $crate::tlv::Value for $name {
            fn write(&self, tag: $crate::tlv::Tag, out: &mut $crate::tlv::Writer) {
                out.bytes(tag, &[u8::from(*self)]);
            }

            fn read(
                element: $crate::tlv::Element<'_>,
                _: &mut usize,
            ) -> Result<Self, $crate::tlv::DecodeError> {
                match element.value {
                    [code] => Ok(Self::from(*code)),
                    _ => Err(element.malformed()),
                }
            }
        }
    )*};
}
