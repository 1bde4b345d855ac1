//! Representations: what is encoded is decoded, whatever the pieces; what is damaged is an error and never more than the
//! manifest says; and the vectors (§14).

use crate::secure_vector::vectors;
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use tms_proto::representation::{Control, Decoder, RepresentationError, Step};

/// Decodes in pieces; the base is given at most so many bytes at a time.
pub(crate) fn decode(
    mut decoder: Decoder,
    object: &[u8],
    base: &[u8],
    pieces: &[usize],
) -> Result<Vec<u8>, RepresentationError> {
    let mut pieces = pieces.iter().copied().cycle();
    let (mut rest, mut content) = (object, Vec::new());
    let mut piece: &[u8] = &[];
    loop {
        match decoder.step()? {
            Step::More if piece.is_empty() && rest.is_empty() => return Err(RepresentationError::Short),
            Step::More if piece.is_empty() => {
                (piece, rest) = rest.split_at(pieces.next().unwrap_or(usize::MAX).clamp(1, rest.len()));
            }
            Step::More => piece = &piece[decoder.push(piece)..],
            Step::Base { offset, length } => {
                let there = base.get(offset as usize..).unwrap_or_default();
                let length = pieces.next().unwrap_or(usize::MAX).clamp(1, length);
                decoder.base(&there[..length.min(there.len())]);
            }
            Step::Content(bytes) => content.extend_from_slice(bytes),
            Step::Done if piece.is_empty() && rest.is_empty() => return Ok(content),
            Step::Done => {
                decoder.push(if piece.is_empty() { rest } else { piece });
            }
        }
    }
}

/// A frame of a representation, by the reference implementation.
fn frame(bytes: &[u8], window_log: u32) -> Vec<u8> {
    let mut compressor = zstd::bulk::Compressor::new(9).unwrap();
    compressor.include_contentsize(false).unwrap();
    compressor.include_checksum(false).unwrap();
    compressor.window_log(window_log).unwrap();
    compressor.compress(bytes).unwrap()
}

/// A frame whose blocks are the bytes as they are.
fn stored(bytes: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x28, 0xB5, 0x2F, 0xFD, 0, 0x20];
    let blocks: Vec<&[u8]> = bytes.chunks(10_000).collect();
    for (index, block) in blocks.iter().enumerate() {
        let last = u32::from(index + 1 == blocks.len());
        frame.extend_from_slice(&(((block.len() as u32) << 3) | last).to_le_bytes()[..3]);
        frame.extend_from_slice(block);
    }
    frame
}

/// Controls for what comes of a base, and the content that they give.
fn stream(base: &[u8], script: &[(u16, u16, Vec<u8>)], difference: u8) -> (Vec<u8>, Vec<u8>) {
    let (mut out, mut content, mut before) = (Vec::new(), Vec::new(), 0);
    for (at, diff, extra) in script {
        let at = usize::from(*at) % (base.len() + 1);
        let diff = usize::from(*diff).min(base.len() - at);
        if diff + extra.len() == 0 {
            continue;
        }
        let control = Control {
            at: at as u64,
            diff: diff as u64,
            extra: extra.len() as u64,
        };
        control.write(before, &mut out);
        before = control.end();
        for (index, byte) in base[at..at + diff].iter().enumerate() {
            let difference = if index % 5 == 0 { difference } else { 0 };
            out.push(difference);
            content.push(byte.wrapping_add(difference));
        }
        out.extend_from_slice(extra);
        content.extend_from_slice(extra);
    }
    (out, content)
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    // Runs, so that there is something to compress.
    proptest::collection::vec((any::<u8>(), 1..40usize), 0..400)
        .prop_map(|runs| runs.iter().flat_map(|(byte, run)| vec![*byte; *run]).collect())
}

fn script() -> impl Strategy<Value = Vec<(u16, u16, Vec<u8>)>> {
    let extra = proptest::collection::vec(any::<u8>(), 0..300);
    proptest::collection::vec((any::<u16>(), 0..6000u16, extra), 0..20)
}

fn pieces() -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(
        prop_oneof![Just(1usize), 1..70usize, Just(5_000), Just(usize::MAX)],
        1..8,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_was_compressed_comes_back_whatever_the_pieces(
        content in bytes(), window_log in 10..15u32, pieces in pieces(),
    ) {
        let decoder = Decoder::zstd(content.len() as u64);
        prop_assert_eq!(decode(decoder, &frame(&content, window_log), &[], &pieces), Ok(content));
    }

    #[test]
    fn a_delta_gives_the_content_whatever_the_pieces(
        base in bytes(), script in script(), difference in any::<u8>(), window_log in 10..15u32, pieces in pieces(),
    ) {
        let (stream, content) = stream(&base, &script, difference);
        let object = frame(&stream, window_log);
        let decoder = Decoder::delta(content.len() as u64);
        prop_assert_eq!(decode(decoder, &object, &base, &pieces), Ok(content));
    }

    #[test]
    fn a_damaged_one_is_an_error_or_no_longer_than_it_may_be(
        base in bytes(), script in script(), place in any::<prop::sample::Index>(), flip in 1..=255u8, plain in any::<bool>(),
        size in 0..5000u64,
    ) {
        let (stream, content) = stream(&base, &script, 3);
        let mut object = if plain { stored(&stream) } else { frame(&stream, 12) };
        let place = place.index(object.len());
        object[place] ^= flip;
        for size in [size, content.len() as u64] {
            for decoder in [Decoder::delta(size), Decoder::zstd(size)] {
                if let Ok(content) = decode(decoder, &object, &base, &[usize::MAX]) {
                    prop_assert_eq!(content.len() as u64, size);
                }
            }
        }
    }

    #[test]
    fn garbage_is_an_error(garbage in proptest::collection::vec(any::<u8>(), 0..3000), pieces in pieces()) {
        let framed = [&[0x28, 0xB5, 0x2F, 0xFD, 0, 0x20][..], &garbage].concat();
        for object in [&garbage[..], &framed, &stored(&garbage)] {
            // The size that it has is not known: what comes is bounded by it.
            let decoder = Decoder::delta(100);
            if let Ok(content) = decode(decoder, object, &[7; 50], &pieces) {
                prop_assert_eq!(content.len(), 100);
            }
        }
    }
}

#[test]
fn a_large_content_comes_back() {
    let content: Vec<u8> = (0..300_000u32)
        .flat_map(|number| (number / 7 * 31).to_le_bytes())
        .collect();
    for window_log in [10, 12, 14] {
        let object = frame(&content, window_log);
        assert!(object.len() < content.len());
        let decoder = Decoder::zstd(content.len() as u64);
        assert!(decode(decoder, &object, &[], &[1000]) == Ok(content.clone()));
        for size in [content.len() as u64 - 1, 4096, 0] {
            assert_eq!(
                decode(Decoder::zstd(size), &object, &[], &[1000]),
                Err(RepresentationError::Long)
            );
        }
        let decoder = Decoder::zstd(content.len() as u64 + 1);
        assert_eq!(decode(decoder, &object, &[], &[1000]), Err(RepresentationError::Short));
    }
}

#[test]
fn a_window_that_is_too_large_is_refused_before_the_first_block() {
    let mut decoder = Decoder::zstd(1 << 20);
    let object = frame(&vec![1; 1 << 20], 15);
    assert_eq!(decoder.push(&object), 6);
    assert_eq!(decoder.step(), Err(RepresentationError::Window));
    // An error is for ever.
    assert_eq!(decoder.step(), Err(RepresentationError::Window));
    // One step above 16 KiB: a window of 18 KiB.
    let frame = [&[0x28, 0xB5, 0x2F, 0xFD, 0, 0x21][..], &[9, 0, 0, 1]].concat();
    assert_eq!(
        decode(Decoder::zstd(1), &frame, &[], &[1]),
        Err(RepresentationError::Window)
    );
}

#[test]
fn bytes_of_the_base_that_were_not_asked_for_are_refused() {
    let (stream, content) = stream(b"0123456789", &[(2, 5, vec![1])], 1);
    let object = stored(&stream);
    let asked = || {
        let mut decoder = Decoder::delta(content.len() as u64);
        let mut rest = &object[..];
        while decoder.step() == Ok(Step::More) {
            rest = &rest[decoder.push(rest)..];
        }
        assert_eq!(decoder.step(), Ok(Step::Base { offset: 2, length: 5 }));
        decoder
    };
    for bytes in [&b""[..], b"234567"] {
        let mut decoder = asked();
        decoder.base(bytes);
        assert_eq!(decoder.step(), Err(RepresentationError::Base));
    }
    let mut decoder = asked();
    decoder.base(b"23");
    assert_eq!(decoder.step(), Ok(Step::Content(b"33")));
    assert_eq!(decoder.step(), Ok(Step::Base { offset: 4, length: 3 }));
    let mut decoder = Decoder::zstd(4);
    decoder.base(b"2");
    assert_eq!(decoder.step(), Err(RepresentationError::Base));
}

/// Name, base, object, size, and what comes of it.
type Case = (
    &'static str,
    Option<Vec<u8>>,
    Vec<u8>,
    u64,
    Result<Vec<u8>, &'static str>,
);

fn cases() -> Vec<Case> {
    let base = b"TMS 1.0: dial 95516, wait 30 s, then call again".to_vec();
    let script = [
        (0, 4, b"2".to_vec()),
        (5, 9, b"95588".to_vec()),
        (19, 28, b" tomorrow".to_vec()),
    ];
    let (stream, content) = stream(&base, &script, 0);
    let good = stored(&stream);
    let changed = |place: usize, byte: u8| {
        let mut object = good.clone();
        object[place] = byte;
        object
    };
    let delta = |name, object: Vec<u8>, result: Result<(), &'static str>| {
        let size = content.len() as u64;
        (name, Some(base.clone()), object, size, result.map(|()| content.clone()))
    };
    let long = b"0123456789".repeat(20);
    vec![
        ("zstd", None, frame(&long, 10), 200, Ok(long.clone())),
        ("zstd-stored", None, stored(&long), 200, Ok(long.clone())),
        (
            "zstd-too-long",
            None,
            frame(&long, 10),
            199,
            Err("content is longer than its manifest says"),
        ),
        (
            "zstd-too-short",
            None,
            frame(&long, 10),
            201,
            Err("content is shorter than its manifest says"),
        ),
        delta("delta", frame(&stream, 14), Ok(())),
        delta("delta-stored", good.clone(), Ok(())),
        delta(
            "delta-window",
            changed(5, 0x21),
            Err("window of the frame is too large"),
        ),
        delta(
            "delta-checksum",
            changed(4, 0x04),
            Err("not a frame of a representation"),
        ),
        delta(
            "delta-reserved-block",
            changed(6, good[6] | 6),
            Err("block of the frame is damaged"),
        ),
        delta(
            "delta-not-last",
            changed(6, good[6] & !1),
            Err("content is shorter than its manifest says"),
        ),
        delta(
            "delta-overlong-number",
            changed(9, 0x80),
            Err("control of the delta is malformed"),
        ),
        delta(
            "delta-outside",
            changed(9, 0x7E),
            Err("delta reads outside of its base"),
        ),
        delta("delta-before", changed(9, 0x01), Err("delta reads outside of its base")),
        delta(
            "delta-behind",
            [&good[..], &[0]].concat(),
            Err("bytes behind the end of the frame"),
        ),
    ]
}

#[test]
fn the_vectors_hold() {
    let cases = cases();
    let entry = |(name, base, object, size, result): &Case| {
        let mut entry = json!({ "name": name, "object": hex::encode(object), "size": size });
        if let Some(base) = base {
            entry["base"] = hex::encode(base).into();
        }
        match result {
            Ok(content) => entry["content"] = hex::encode(content).into(),
            Err(error) => entry["error"] = (*error).into(),
        }
        entry
    };
    let vectors = vectors("representations.json", || cases.iter().map(entry).collect());
    let vectors: &Vec<Json> = vectors.as_array().unwrap();
    let names: Vec<&str> = vectors.iter().map(|vector| vector["name"].as_str().unwrap()).collect();
    assert_eq!(names, cases.iter().map(|case| case.0).collect::<Vec<_>>());
    for vector in vectors {
        let bytes = |field: &str| {
            vector
                .get(field)
                .map(|value| hex::decode(value.as_str().unwrap()).unwrap())
        };
        let (base, size) = (bytes("base"), vector["size"].as_u64().unwrap());
        let object = bytes("object").unwrap();
        let expected = match bytes("content") {
            Some(content) => Ok(content),
            None => Err(vector["error"].as_str().unwrap().to_owned()),
        };
        for pieces in [1, 7, usize::MAX] {
            let decoder = match &base {
                Some(_) => Decoder::delta(size),
                None => Decoder::zstd(size),
            };
            let found = decode(decoder, &object, base.as_deref().unwrap_or_default(), &[pieces]);
            assert_eq!(found.map_err(|error| error.to_string()), expected, "{}", vector["name"]);
        }
    }
}
