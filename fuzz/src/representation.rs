//! Representations of content that a server names and nobody has signed.

use tms_proto::representation::{Decoder, RepresentationError, Step};

/// What a content may have at most.
const SIZE: u64 = 50_000;
/// What the delta is against.
const BASE: &[u8] = b"the version that the terminal has, of which a delta takes what has not changed";

/// A representation (§9.6, §9.7): bit 0 of the first byte says whether it is a delta, bit 1 that the rest stands in the frame
/// as it is, so that what is behind the compression is reached; the second byte is how it is cut.
pub fn representation(data: &[u8]) {
    let [style, size, object @ ..] = data else { return };
    let stored = stored(object);
    let object = if style & 2 == 0 { object } else { &stored };
    let decode = |piece: usize| {
        let decoder = if style & 1 == 0 {
            Decoder::zstd(SIZE)
        } else {
            Decoder::delta(SIZE)
        };
        decode(decoder, object, piece)
    };
    let (content, end) = decode(object.len());
    assert!(content.len() as u64 <= SIZE, "more than the manifest says");
    assert!(end.is_err() || content.len() as u64 == SIZE);
    assert_eq!(
        decode(usize::from(*size) + 1),
        (content, end),
        "how it is cut makes a difference"
    );
}

/// A frame whose one block is the bytes as they are.
fn stored(bytes: &[u8]) -> Vec<u8> {
    let bytes = &bytes[..bytes.len().min(16_384)];
    let header = (bytes.len() as u32) << 3 | 1;
    [
        &[0x28, 0xB5, 0x2F, 0xFD, 0, 0x20][..],
        &header.to_le_bytes()[..3],
        bytes,
    ]
    .concat()
}

/// The content that came, and how it ended.
fn decode(mut decoder: Decoder, object: &[u8], piece: usize) -> (Vec<u8>, Result<(), RepresentationError>) {
    let mut content = Vec::new();
    let mut pieces = object.chunks(piece.max(1));
    let mut rest: &[u8] = &[];
    loop {
        match decoder.step() {
            Ok(Step::More) if rest.is_empty() => match pieces.next() {
                Some(piece) => rest = piece,
                None => return (content, Err(RepresentationError::Short)),
            },
            Ok(Step::More) => {
                let taken = decoder.push(rest);
                assert!(taken > 0, "it wants more and takes nothing");
                rest = &rest[taken..];
            }
            Ok(Step::Base { offset, length }) => {
                assert!(length > 0);
                let there = usize::try_from(offset).ok().and_then(|offset| BASE.get(offset..));
                let there = there.unwrap_or_default();
                decoder.base(&there[..length.min(there.len()).min(piece)]);
            }
            Ok(Step::Content(bytes)) => {
                assert!(!bytes.is_empty());
                content.extend_from_slice(bytes);
            }
            Ok(Step::Done) if rest.is_empty() && pieces.next().is_none() => return (content, Ok(())),
            Ok(Step::Done) => return (content, Err(RepresentationError::Trailing)),
            Err(error) => {
                assert_eq!(decoder.step(), Err(error), "an error is for ever");
                return (content, Err(error));
            }
        }
    }
}
