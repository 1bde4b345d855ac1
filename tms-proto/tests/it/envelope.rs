//! Properties of the envelope (§2).

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use tms_proto::envelope::{Decoder, Envelope, EnvelopeError, EnvelopeErrorKind, Frame, LengthForm, Tpdu};

fn tpdu() -> impl Strategy<Value = Tpdu> {
    any::<([u8; 2], [u8; 2])>().prop_map(|(destination, source)| Tpdu { destination, source })
}

fn profile() -> impl Strategy<Value = Envelope> {
    let forms = vec![
        LengthForm::Big16,
        LengthForm::Little16,
        LengthForm::Bcd16,
        LengthForm::Ascii4,
    ];
    (
        select(forms),
        any::<bool>(),
        option::of(tpdu()),
        any::<bool>(),
        1..70_000usize,
    )
        .prop_map(|(length, inclusive, tpdu, delimited, max)| Envelope {
            length,
            inclusive,
            tpdu,
            delimited,
            max,
        })
}

/// What stands on a line, in order: keep-alives and payloads.
fn stream() -> impl Strategy<Value = Vec<Option<Vec<u8>>>> {
    let payload = prop_oneof![8 => vec(any::<u8>(), 1..200), 1 => vec(any::<u8>(), 1..3_000)];
    vec(option::weighted(0.8, payload), 0..8)
}

/// A profile that takes every payload of [`stream`], and the stream in it.
fn line() -> impl Strategy<Value = (Envelope, Vec<Option<Vec<u8>>>, Vec<u8>)> {
    (profile(), stream()).prop_map(|(profile, stream)| {
        let envelope = Envelope {
            max: profile.max.max(3_000),
            ..profile
        };
        let mut line = Vec::new();
        for item in &stream {
            match item {
                Some(payload) => envelope.encode(None, payload, &mut line).unwrap(),
                None => line.extend(envelope.keep_alive()),
            }
        }
        (envelope, stream, line)
    })
}

/// Everything that comes out of `line` cut at `cuts`.
fn decode(envelope: Envelope, line: &[u8], cuts: &[Index]) -> (Vec<Frame>, Result<(), EnvelopeError>, Decoder) {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(line.len() + 1)).collect();
    cuts.extend([0, line.len()]);
    cuts.sort_unstable();
    let mut decoder = Decoder::new(envelope);
    let mut frames = Vec::new();
    for piece in cuts.windows(2) {
        decoder.push(&line[piece[0]..piece[1]]);
        loop {
            match decoder.next() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Err(error), decoder),
            }
        }
        assert!(
            decoder.buffered() < envelope.max + envelope.overhead(),
            "more is held than an unfinished frame"
        );
    }
    (frames, Ok(()), decoder)
}

proptest! {
    #[test]
    fn what_was_sent_arrives_however_it_is_cut((envelope, stream, line) in line(), cuts in vec(any::<Index>(), 0..20)) {
        let (frames, end, decoder) = decode(envelope, &line, &cuts);
        prop_assert_eq!(end, Ok(()));
        let sent: Vec<_> = stream.iter().flatten().collect();
        prop_assert_eq!(frames.iter().map(|frame| &frame.payload[..]).collect::<Vec<_>>(), sent);
        prop_assert!(frames.iter().all(|frame| frame.tpdu == envelope.tpdu));
        prop_assert_eq!(decoder.keep_alives(), stream.iter().filter(|item| item.is_none()).count() as u64);
        prop_assert_eq!(decoder.buffered(), 0);
    }

    #[test]
    fn single_bytes_give_the_same_frames((envelope, _, line) in line()) {
        let whole = decode(envelope, &line, &[]);
        let mut decoder = Decoder::new(envelope);
        let mut frames = Vec::new();
        for byte in &line {
            decoder.push(&[*byte]);
            frames.extend(decoder.next().unwrap());
        }
        prop_assert_eq!(frames, whole.0);
    }

    #[test]
    fn a_cut_stream_never_gives_a_frame_too_many((envelope, _, line) in line(), cut in any::<Index>()) {
        let whole = decode(envelope, &line, &[]).0;
        let (frames, end, _) = decode(envelope, &line[..cut.index(line.len() + 1)], &[]);
        prop_assert_eq!(end, Ok(()));
        prop_assert!(whole.starts_with(&frames));
    }

    #[test]
    fn garbage_is_the_same_garbage_however_it_is_cut(
        envelope in profile(),
        // Small numbers are marks, and lengths that fit.
        line in vec(prop_oneof![any::<u8>(), 0..8u8, Just(0x60), b'0'..=b'9'], 0..300),
        cuts in vec(any::<Index>(), 0..20),
    ) {
        let whole = decode(envelope, &line, &[]);
        let pieces = decode(envelope, &line, &cuts);
        prop_assert_eq!((&whole.0, whole.1), (&pieces.0, pieces.1));
        prop_assert_eq!(whole.2.keep_alives(), pieces.2.keep_alives());
        for frame in whole.0 {
            prop_assert!(!frame.payload.is_empty() && frame.payload.len() <= envelope.max);
        }
    }

    #[test]
    fn a_damaged_frame_is_found(
        profile in profile(),
        payload in vec(any::<u8>(), 1..200),
        place in any::<Index>(),
        damage in 1..=u8::MAX,
    ) {
        let envelope = Envelope { delimited: true, max: 200, ..profile };
        let mut line = Vec::new();
        envelope.encode(None, &payload, &mut line).unwrap();
        let place = place.index(line.len());
        line[place] ^= damage;
        let mut decoder = Decoder::new(envelope);
        decoder.push(&line);
        let field = 1..1 + if envelope.length == LengthForm::Ascii4 { 4 } else { 2 };
        let found = decoder.next();
        if field.contains(&place) {
            // Another length: more is waited for, or the marks are not where they should be. Two bytes of the payload may
            // happen to look like them, but then it is not the payload.
            prop_assert!(!matches!(found, Ok(Some(frame)) if frame.payload == payload));
        } else {
            let error = found.unwrap_err();
            let (kind, offset) = match place {
                0 => (EnvelopeErrorKind::Stx, 0),
                id if envelope.tpdu.is_some() && id == field.end => (EnvelopeErrorKind::Tpdu, id),
                mark if mark == line.len() - 2 => (EnvelopeErrorKind::Etx, mark),
                _ => (EnvelopeErrorKind::Lrc, line.len() - 1),
            };
            prop_assert_eq!(error, EnvelopeError { kind, offset: offset as u64 });
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_on_both_sides(profile in profile(), beyond in 1..20usize) {
        let capacity = profile.capacity();
        let payload = vec![0; capacity + beyond];
        let mut out = Vec::new();
        prop_assert_eq!(profile.encode(None, &payload, &mut out).unwrap_err().kind, EnvelopeErrorKind::TooLong);
        prop_assert!(out.is_empty());
        // The same frame from a peer that knows no such limit, as far as its length field reaches.
        let peer = Envelope { max: usize::MAX, ..profile };
        if peer.encode(None, &payload, &mut out).is_ok() {
            let mut decoder = Decoder::new(profile);
            decoder.push(&out[..usize::from(profile.delimited) + 4]);
            prop_assert_eq!(decoder.next().unwrap_err().kind, EnvelopeErrorKind::TooLong);
        }
    }

    #[test]
    fn replies_go_back(profile in profile(), there in tpdu(), payload in vec(any::<u8>(), 1..50)) {
        let envelope = Envelope { tpdu: Some(Tpdu::default()), max: 50, ..profile };
        let mut line = Vec::new();
        envelope.encode(Some(there), &payload, &mut line).unwrap();
        let frame = decode(envelope, &line, &[]).0.pop().unwrap();
        let back = frame.tpdu.unwrap().swapped();
        prop_assert_eq!((back.destination, back.source), (there.source, there.destination));
        prop_assert_eq!(back.swapped(), there);
        prop_assert_eq!(Tpdu::from_bytes(there.to_bytes()), Some(there));
    }
}
