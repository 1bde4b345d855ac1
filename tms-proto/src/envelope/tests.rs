use super::*;
use alloc::vec;

const FORMS: [LengthForm; 4] = [
    LengthForm::Big16,
    LengthForm::Little16,
    LengthForm::Bcd16,
    LengthForm::Ascii4,
];
const ROUTE: Tpdu = Tpdu {
    destination: [0x01, 0x34],
    source: [0x80, 0x05],
};

/// Every combination of form, inclusion, TPDU and marks.
fn profiles() -> impl Iterator<Item = Envelope> {
    FORMS.into_iter().flat_map(|length| {
        (0..8).map(move |bits| Envelope {
            length,
            inclusive: bits & 1 != 0,
            tpdu: (bits & 2 != 0).then_some(ROUTE),
            delimited: bits & 4 != 0,
            max: 4_000,
        })
    })
}

fn encoded(envelope: Envelope, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    envelope.encode(None, payload, &mut out).unwrap();
    out
}

fn only_error(envelope: Envelope, bytes: &[u8]) -> EnvelopeError {
    let mut decoder = Decoder::new(envelope);
    decoder.push(bytes);
    decoder.next().unwrap_err()
}

#[test]
fn every_profile_writes_what_the_table_says() {
    for envelope in profiles() {
        let payload = vec![0xA5; 1_234];
        let counted = 1_234
            + if envelope.tpdu.is_some() { 5 } else { 0 }
            + match (envelope.inclusive, envelope.length) {
                (false, _) => 0,
                (true, LengthForm::Ascii4) => 4,
                (true, _) => 2,
            };
        let mut expected = match envelope.length {
            LengthForm::Big16 => u16::to_be_bytes(counted).to_vec(),
            LengthForm::Little16 => u16::to_le_bytes(counted).to_vec(),
            LengthForm::Bcd16 => hex::decode(alloc::format!("{counted:04}")).unwrap(),
            LengthForm::Ascii4 => alloc::format!("{counted:04}").into_bytes(),
        };
        if envelope.tpdu.is_some() {
            expected.extend([0x60, 0x01, 0x34, 0x80, 0x05]);
        }
        expected.extend(&payload);
        if envelope.delimited {
            expected.push(0x03);
            expected.push(expected.iter().fold(0, |check, byte| check ^ byte));
            expected.insert(0, 0x02);
        }
        assert_eq!(encoded(envelope, &payload), expected, "{envelope:?}");
        assert_eq!(expected.len(), payload.len() + envelope.overhead(), "{envelope:?}");
    }
}

#[test]
fn every_profile_reads_what_it_writes() {
    for envelope in profiles() {
        let mut line = envelope.keep_alive();
        line.extend(encoded(envelope, b"one"));
        line.extend(encoded(envelope, &[0x03; 4_000]));
        line.extend(envelope.keep_alive());
        let mut decoder = Decoder::new(envelope);
        decoder.push(&line);
        let tpdu = envelope.tpdu;
        assert_eq!(
            decoder.next(),
            Ok(Some(Frame {
                tpdu,
                payload: Bytes::from_static(b"one")
            })),
            "{envelope:?}"
        );
        assert_eq!(
            decoder.next(),
            Ok(Some(Frame {
                tpdu,
                payload: vec![0x03; 4_000].into()
            })),
            "{envelope:?}"
        );
        assert_eq!(decoder.next(), Ok(None), "{envelope:?}");
        assert_eq!(decoder.keep_alives(), 2, "{envelope:?}");
    }
}

#[test]
fn headers_without_payload_and_zeros_are_keep_alives() {
    let inclusive = Envelope {
        inclusive: true,
        ..Envelope::NAC
    };
    for (envelope, bytes) in [
        (Envelope::TCP, "0000"),
        (Envelope::NAC, "0000"),
        (Envelope::NAC, "00056000000001"),
        (inclusive, "0000"),
        (inclusive, "0002"),
        (inclusive, "00076000000001"),
        (Envelope::STX_BCD, "0200000303"),
        (Envelope::STX_BCD, "020005600134000003 53"),
    ] {
        let mut decoder = Decoder::new(envelope);
        decoder.push(&hex::decode(bytes.replace(' ', "")).unwrap());
        assert_eq!(decoder.next(), Ok(None), "{bytes}");
        assert_eq!((decoder.keep_alives(), decoder.buffered()), (1, 0), "{bytes}");
    }
}

#[test]
fn errors_say_what_and_where() {
    use EnvelopeErrorKind as Kind;
    let inclusive = Envelope {
        inclusive: true,
        ..Envelope::TCP
    };
    let ascii = Envelope {
        length: LengthForm::Ascii4,
        ..Envelope::TCP
    };
    for (envelope, bytes, kind, offset) in [
        (Envelope::STX_BCD, "03", Kind::Stx, 0),
        (Envelope::STX_BCD, "02000A", Kind::Length, 1),
        (Envelope::STX_BCD, "020004", Kind::Length, 1),
        (Envelope::STX_BCD, "02000661", Kind::Tpdu, 3),
        (Envelope::STX_BCD, "0200066001340000AA04", Kind::Etx, 9),
        (Envelope::STX_BCD, "0200066001340000AA0300", Kind::Lrc, 10),
        (Envelope::NAC, "0004", Kind::Length, 0),
        (Envelope::NAC, "000168", Kind::Length, 0),
        (Envelope::TCP, "4041", Kind::TooLong, 0),
        (inclusive, "0001", Kind::Length, 0),
        (ascii, "30303A30", Kind::Length, 0),
        (ascii, "2F303030", Kind::Length, 0),
    ] {
        let bytes = hex::decode(bytes).unwrap();
        assert_eq!(
            only_error(envelope, &bytes),
            EnvelopeError { kind, offset },
            "{bytes:02x?}"
        );
        // What follows changes nothing, and the offset counts from the start of the stream.
        let mut stream = encoded(envelope, b"sound");
        let before = u64::try_from(stream.len()).unwrap();
        stream.extend(&bytes);
        stream.extend([0; 40]);
        let mut decoder = Decoder::new(envelope);
        decoder.push(&stream);
        assert_eq!(decoder.next().unwrap().unwrap().payload, b"sound"[..]);
        assert_eq!(
            decoder.next(),
            Err(EnvelopeError {
                kind,
                offset: before + offset
            }),
            "{bytes:02x?}"
        );
    }
}

#[test]
fn capacity_is_what_can_be_sent() {
    let limits = [
        (Envelope::TCP, 16_448),
        (Envelope::NAC, 16_448),
        (Envelope::STX_BCD, 9_994),
        (
            Envelope {
                max: usize::MAX,
                ..Envelope::TCP
            },
            65_535,
        ),
        (
            Envelope {
                max: usize::MAX,
                inclusive: true,
                length: LengthForm::Little16,
                ..Envelope::NAC
            },
            65_528,
        ),
        (
            Envelope {
                max: usize::MAX,
                length: LengthForm::Bcd16,
                ..Envelope::TCP
            },
            9_999,
        ),
        (
            Envelope {
                max: usize::MAX,
                inclusive: true,
                length: LengthForm::Ascii4,
                ..Envelope::TCP
            },
            9_995,
        ),
    ];
    for (envelope, capacity) in limits {
        assert_eq!(envelope.capacity(), capacity, "{envelope:?}");
        let line = encoded(envelope, &vec![7; capacity]);
        let mut decoder = Decoder::new(envelope);
        decoder.push(&line);
        assert_eq!(decoder.next().unwrap().unwrap().payload.len(), capacity, "{envelope:?}");
        let mut out = vec![1];
        let error = envelope.encode(None, &vec![7; capacity + 1], &mut out).unwrap_err();
        assert_eq!((error.kind, out), (EnvelopeErrorKind::TooLong, vec![1]), "{envelope:?}");
    }
}

#[test]
fn what_cannot_be_sent_is_refused() {
    let refusal =
        |envelope: Envelope, tpdu, payload: &[u8]| envelope.encode(tpdu, payload, &mut Vec::new()).unwrap_err().kind;
    assert_eq!(refusal(Envelope::TCP, None, &[]), EnvelopeErrorKind::Empty);
    assert_eq!(refusal(Envelope::TCP, Some(ROUTE), b"x"), EnvelopeErrorKind::Unused);
}

#[test]
fn a_reply_goes_back_to_where_the_frame_came_from() {
    let mut decoder = Decoder::new(Envelope::NAC);
    decoder.push(&[0, 6, 0x60, 0x01, 0x34, 0x80, 0x05, 0xAA]);
    let frame = decoder.next().unwrap().unwrap();
    assert_eq!(frame.tpdu, Some(ROUTE));
    let mut out = Vec::new();
    Envelope::NAC
        .encode(frame.tpdu.map(Tpdu::swapped), &[0xBB], &mut out)
        .unwrap();
    assert_eq!(out, [0, 6, 0x60, 0x80, 0x05, 0x01, 0x34, 0xBB]);
    assert_eq!(alloc::format!("{ROUTE}"), "6001348005");
}

#[test]
fn an_idle_decoder_holds_no_memory() {
    let mut line = vec![0; 20_000];
    line.extend(encoded(Envelope::TCP, &[1; 10_000]));
    let mut decoder = Decoder::new(Envelope::TCP);
    assert_eq!(decoder.buffer.capacity(), 0);
    decoder.push(&line);
    let frame = decoder.next().unwrap().unwrap();
    assert_eq!(decoder.buffer.capacity(), 0);
    drop(frame);
    decoder.push(&[0, 0]);
    assert_eq!(decoder.next(), Ok(None));
    assert_eq!(decoder.buffer.capacity(), 0);
}

#[test]
fn a_few_bytes_left_over_hold_little_memory() {
    let mut line = encoded(Envelope::TCP, &[1; 10_000]);
    line.extend([0, 0, 0]);
    let mut decoder = Decoder::new(Envelope::TCP);
    decoder.push(&line);
    let frame = decoder.next().unwrap().unwrap();
    assert_eq!(decoder.next(), Ok(None));
    assert_eq!((decoder.buffered(), frame.payload.len()), (1, 10_000));
    assert!(decoder.buffer.capacity() < 64, "{}", decoder.buffer.capacity());
}

#[test]
fn an_announced_length_takes_no_memory() {
    let mut decoder = Decoder::new(Envelope::TCP);
    decoder.push(&[0x40, 0x00]);
    assert_eq!(decoder.next(), Ok(None));
    assert!(decoder.buffer.capacity() < 64, "{}", decoder.buffer.capacity());
}

#[test]
fn whole_frames_are_copied_once() {
    let mut line = encoded(Envelope::TCP, &[1; 100]);
    line.extend(encoded(Envelope::TCP, &[2; 200]));
    let mut decoder = Decoder::new(Envelope::TCP);
    decoder.push(&line);
    let copy = decoder.buffer.as_ptr().addr();
    let payloads = [
        decoder.next().unwrap().unwrap().payload,
        decoder.next().unwrap().unwrap().payload,
    ];
    assert_eq!(payloads.map(|payload| payload.as_ptr().addr() - copy), [2, 104]);
}

#[test]
fn an_error_is_for_ever_and_holds_no_memory() {
    let mut decoder = Decoder::new(Envelope::STX_BCD);
    decoder.push(&[0x55; 1_000]);
    let error = decoder.next().unwrap_err();
    decoder.push(&encoded(Envelope::STX_BCD, b"sound"));
    assert_eq!(decoder.next(), Err(error));
    assert_eq!((decoder.buffer.capacity(), decoder.buffered()), (0, 0));
}
